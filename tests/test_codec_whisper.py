"""A Whisper folder as published, as the start of the codec's text decoder."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import WhisperConfig, WhisperForConditionalGeneration

from hpro_core.codec.model import PRESETS, CodecConfig
from hpro_core.codec.text_decoder import TextDecoder
from hpro_core.codec.training import make_codec
from hpro_core.codec.whisper import load_whisper_decoder
from hpro_core.errors import HproError

SIZES = {"text_vocabulary": 70, "text_width": 64, "text_blocks": 2, "text_heads": 4}
SIZES |= {"text_hidden": 96, "text_positions": 40}


def save_whisper(folder: Path, width: int = 64) -> WhisperForConditionalGeneration:
    """A tiny Whisper with random weights, saved as transformers saves it."""
    torch.manual_seed(5)
    config = WhisperConfig(
        vocab_size=70, d_model=width, encoder_layers=1, decoder_layers=2,
        encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=96,
        decoder_ffn_dim=96, num_mel_bins=8, max_source_positions=32, max_target_positions=40,
        pad_token_id=2, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    whisper = WhisperForConditionalGeneration(config).eval()
    whisper.save_pretrained(folder)
    return whisper


def text_decoder(**sizes) -> TextDecoder:
    config = CodecConfig(width=32, **{**SIZES, **sizes})
    return TextDecoder(config.width, config.text_sizes, config.memory_positions).eval()


def refusal(folder: Path, decoder: TextDecoder) -> str:
    with pytest.raises(HproError) as caught:
        load_whisper_decoder(folder, decoder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_decoder_then_computes_what_whisper_computes(tmp_path):
    whisper, ours = save_whisper(tmp_path), text_decoder()
    load_whisper_decoder(tmp_path, ours)
    features, text = torch.randn(2, 9, 32), torch.randint(3, 70, (2, 7))
    with torch.no_grad():
        logits, attention = ours(features, torch.ones(2, 9, dtype=torch.bool), text, guided=True)
        hidden = whisper.model.decoder(text, encoder_hidden_states=ours.affine(features))
        want = whisper.proj_out(hidden.last_hidden_state)
    torch.testing.assert_close(logits, want, atol=1e-5, rtol=0)
    torch.testing.assert_close(attention.sum(-1), torch.ones(2, 7))


def test_the_codec_of_a_preset_starts_from_it(tmp_path, monkeypatch):
    whisper = save_whisper(tmp_path)
    monkeypatch.setitem(PRESETS, "released", {**PRESETS["embedded"], **SIZES})
    codec = make_codec("released", tmp_path)
    own = codec.text_decoder.decoder.embed_tokens.weight
    assert torch.equal(own, whisper.model.decoder.embed_tokens.weight)


def test_a_missing_file_is_named(tmp_path):
    assert "config.json does not exist" in refusal(tmp_path / "nowhere", text_decoder())
    save_whisper(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    assert "model.safetensors does not exist" in refusal(tmp_path, text_decoder())


def test_a_broken_file_is_named(tmp_path):
    save_whisper(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"x" * 100)
    assert "model.safetensors is not a safetensors file" in refusal(tmp_path, text_decoder())


@pytest.mark.parametrize(("sizes", "message"), [
    ({"text_heads": 8}, "4 decoder heads, the codec 8"),
    ({"text_blocks": 1}, "layers.1."),
    ({"text_blocks": 3}, "lacks layers.2."),
    ({"text_width": 128}, "is [40, 64], the codec's [40, 128]"),
])  # fmt: skip
def test_another_whisper_than_the_presets_is_refused(tmp_path, sizes, message):
    save_whisper(tmp_path)
    found = refusal(tmp_path, text_decoder(**sizes))
    assert message in found
    assert "whisper-small" in found


def test_no_weight_is_filled_in(tmp_path):
    save_whisper(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["model.decoder.layers.1.fc1.bias"]
    save_file(weights, tmp_path / "model.safetensors")
    assert "lacks layers.1.fc1.bias" in refusal(tmp_path, text_decoder())


def test_an_index_that_is_no_json_is_named(tmp_path):
    save_whisper(tmp_path)
    (tmp_path / "config.json").write_text("{")
    assert "is not JSON" in refusal(tmp_path, text_decoder())
    (tmp_path / "config.json").write_text(json.dumps({}))
    assert "None decoder heads" in refusal(tmp_path, text_decoder())


def test_a_text_longer_than_the_decoder_is_an_error():
    decoder = text_decoder()
    text = torch.zeros(1, 41, dtype=torch.int64)
    with pytest.raises(HproError, match="transcript has 41 tokens"):
        decoder(torch.randn(1, 3, 32), None, text)
