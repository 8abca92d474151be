"""Sizes of the presets: parameters of every part by a formula of their own, no weights made."""

import pytest
import torch

from hpro_core.codec.model import PRESETS, CodecConfig, HdEmo

WIDTH, TOKENS = 512, 6561


def linear(inputs: int, outputs: int, bias: bool = True) -> int:
    return inputs * outputs + bias * outputs


def encoder(blocks: int, hidden: int, width: int = WIDTH) -> int:
    norm = 2 * width
    attention = 4 * linear(width, width) + linear(width, width, bias=False) + 2 * width
    feed_forward = linear(width, hidden) + linear(hidden, width)
    return linear(width, width) + norm + blocks * (attention + feed_forward + 2 * norm) + norm


def whisper_decoder(width: int, blocks: int, vocabulary: int = 51865, positions: int = 448) -> int:
    norm = 2 * width
    attention = 4 * linear(width, width) - width  # the key has no bias
    feed_forward = linear(width, 4 * width) + linear(4 * width, width)
    block = 2 * attention + feed_forward + 3 * norm
    return (vocabulary + positions) * width + blocks * block + norm


def parts(text_width: int, text_blocks: int) -> dict[str, int]:
    return {
        "embedding": TOKENS * WIDTH,
        "content_extractor": encoder(5, 1024),
        "content_adapter": encoder(3, 1024),
        "text_decoder": linear(WIDTH, text_width) + whisper_decoder(text_width, text_blocks),
        "style_extractor": encoder(5, 1024),
        "emotion_adapter": encoder(3, 1024),
        "emotion_head": 9 * WIDTH + 4 * linear(WIDTH, WIDTH) + linear(512, 256) + linear(256, 128),
        "word_vad_head": linear(512, 512) + linear(512, 256) + linear(256, 3),
        "modulation_adapter": encoder(3, 1024),
        "to_content_code": linear(WIDTH, 4),
        "to_style_code": linear(WIDTH, 3),
        "from_content_code": linear(4, WIDTH),
        "from_style_code": linear(3, WIDTH),
        "modulation": linear(WIDTH, 2 * WIDTH),
        "combiner": encoder(8, 2048),
        "to_tokens": linear(WIDTH, TOKENS),
    }


FULL_SIZE = {"released": (768, 12), "paper": (1024, 24)}  # width and blocks of the text decoder


@pytest.mark.parametrize("preset", FULL_SIZE)
def test_every_part_of_a_full_size_codec_has_its_size(preset):
    with torch.device("meta"):
        codec = HdEmo(CodecConfig(**PRESETS[preset]))
    counts = {
        name: sum(weight.numel() for weight in part.parameters())
        for name, part in codec.named_children()
    }
    assert counts == parts(*FULL_SIZE[preset])


def test_codebooks_are_the_papers():
    released, paper = (CodecConfig(**PRESETS[name]) for name in ("released", "paper"))
    for config, style in [(released, 125), (paper, 64)]:
        assert config.content_levels**config.content_dimensions == 1296
        assert config.style_levels**config.style_dimensions == style


def test_whisper_decoders_are_the_published_sizes():
    # Whisper small has 241.7 M weights and medium 763.9 M, the encoders 88.2 M and 307.2 M of them.
    assert whisper_decoder(768, 12) / 1e6 == pytest.approx(241.7 - 88.2, abs=0.1)
    assert whisper_decoder(1024, 24) / 1e6 == pytest.approx(763.9 - 307.2, abs=0.1)


@pytest.mark.parametrize(("form", "start"), [("released", 1.0), ("paper", 0.0)])
def test_modulation_starts_from_the_content_or_from_nothing(form, start):
    torch.manual_seed(0)
    codec = HdEmo(CodecConfig(**{**PRESETS["embedded"], "modulation": form})).eval()
    torch.nn.init.zeros_(codec.modulation[1].weight)
    torch.nn.init.zeros_(codec.modulation[1].bias)
    seen = []
    codec.combiner.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    content, style = torch.rand(1, 5, 4), torch.rand(1, 5, 3)
    codec.reconstruct(content, style, torch.tensor([5]))
    unscaled = codec.from_content_code(torch.round(content * 5) / 5)
    torch.testing.assert_close(seen[0][:, 1:], start * unscaled)
    assert seen[0][:, 0].abs().max() == 0
