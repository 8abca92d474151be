"""Training of HD-Emo: stage A the content branch by text alone, stage B everything else.

Paper section III-A, released code for the weights of stage B: 4 L_rec + 0.2 L_SER + L_wVAD.
Letters as in `model`.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hpro_core.codec.losses import (
    soft_cross_entropy,
    text_cross_entropy,
    token_cross_entropy,
    word_vad_loss,
)
from hpro_core.codec.model import PRESETS, CodecConfig, HdEmo
from hpro_core.engine import fsq
from hpro_core.engine.batching import Batch, Example, Sampler, length_mask, sequential_batches
from hpro_core.engine.checkpoint import load_weights, read_json, save_model
from hpro_core.engine.training import Loop, autocast, device_of, fit, mean_terms, set_threads
from hpro_core.params import Codec, CodecStage, Compute, required
from hpro_core.text import N_SYMBOLS

BEGIN_TEXT = N_SYMBOLS
END_TEXT = N_SYMBOLS + 1
EMOTION_NOISE = 0.1  # released: added to the features of the heads, in training only


def make_codec(preset: str) -> HdEmo:
    """A codec of the preset with fresh weights; the embedded one reads our phone symbols."""
    sizes: dict[str, Any] = dict(PRESETS[preset])
    if preset == "embedded":
        sizes["text_vocabulary"] = N_SYMBOLS + 2
    return HdEmo(CodecConfig(**sizes))


def load_codec(folder: Path) -> HdEmo:
    """A trained codec, frozen and in eval mode: the reward."""
    config = read_json(folder / "config.json")
    codec = HdEmo(CodecConfig(**config["model"]))
    load_weights(folder, codec)
    codec.freeze(list(codec.children()))
    return codec.eval()


def text_of(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Input, target and mask of the text decoder, each (B, J), J one more than the symbols.

    The input begins with BEGIN_TEXT; the target ends with END_TEXT.
    """
    symbols, lengths = batch.symbols_BS, batch.symbol_lengths_B
    begin = torch.full_like(symbols[:, :1], BEGIN_TEXT)
    target = torch.cat([symbols, torch.zeros_like(begin)], dim=1)
    target = target.scatter(1, lengths[:, None], END_TEXT)
    return torch.cat([begin, symbols], 1), target, length_mask(lengths + 1, target.shape[1])


def content_terms(codec: HdEmo, batch: Batch, guide_weight: float) -> dict[str, Tensor]:
    """Stage A: L_ASR, and a guide for the attention of a decoder that starts from nothing.

    The paper starts from a trained Whisper, which knows how to attend; ours is small and fresh, so
    one head is told which frames a symbol's word covers (ours; off when guide_weight is 0).
    """
    text, target, mask = text_of(batch)
    content = codec.content_features(batch.tokens_BL, batch.token_lengths_B)
    logits, attention = codec.read_text(content, batch.token_lengths_B, text)
    asr = text_cross_entropy(logits, target, mask)
    correct = (logits.argmax(-1) == target)[mask].float().mean()
    guide = attention_guide(attention, batch)
    return {
        "loss": asr + guide_weight * guide,
        "asr": asr,
        "attention_guide": guide,
        "symbol_accuracy": correct,
    }


def attention_guide(attention_BJL: Tensor, batch: Batch) -> Tensor:
    """Minus log of the attention that falls on the frames of the symbol's word, mean over symbols.

    Args:
        attention_BJL: one head's attention; position j predicts symbol j.
        batch: says which word a symbol belongs to and where the words are.
    """
    symbols = batch.symbol_word_BS.shape[1]
    spans_BS2 = batch.spans_BW2.gather(1, batch.symbol_word_BS[..., None].expand(-1, -1, 2))
    frame_L = torch.arange(attention_BJL.shape[2], device=attention_BJL.device)
    # One frame either side: boundaries are known to about 40 ms.
    inside = (frame_L >= spans_BS2[..., :1] - 1) & (frame_L < spans_BS2[..., 1:] + 1)
    hit_BS = (attention_BJL[:, :symbols].float() * inside).sum(-1)
    return -hit_BS.clamp(min=1e-6).log()[batch.symbol_mask_BS].mean()


def style_terms(codec: HdEmo, batch: Batch) -> dict[str, Tensor]:
    """Stage B: 4 L_rec + 0.2 L_SER + L_wVAD; the content features are detached (released code)."""
    lengths, mask = batch.token_lengths_B, batch.token_mask_BL
    with torch.no_grad():
        content = codec.content_features(batch.tokens_BL, lengths)
    style = codec.style_features(batch.tokens_BL, lengths)
    content_code = codec.content_code(content, lengths)
    style_code = codec.style_code(style)
    if codec.training:
        content_code = _noisy(content_code, codec.config.content_levels, most=0.6)
        style_code = _noisy(style_code, codec.config.style_levels, most=0.4)
    logits = codec.rebuild(content_code, style_code, lengths)
    noise = EMOTION_NOISE if codec.training else 0.0
    emotion = codec.emotion_features(style, lengths, noise)
    emotion_logits = codec.emotion_head(emotion, mask)
    vad = codec.word_vad_head(emotion, batch.spans_BW2)
    words = length_mask(batch.word_lengths_B, vad.shape[1])
    rec = token_cross_entropy(logits, batch.tokens_BL, mask)
    ser = soft_cross_entropy(emotion_logits, batch.emotion_B9)
    wvad = word_vad_loss(batch.vad_BW3, vad, words)
    similarity = torch.cosine_similarity(emotion_logits.float().softmax(-1), batch.emotion_B9)
    return {
        "loss": 4 * rec + 0.2 * ser + wvad,
        "rec": rec,
        "ser": ser,
        "wvad": wvad,
        "token_accuracy": (logits.argmax(-1) == batch.tokens_BL)[mask].float().mean(),
        "emotion_similarity": similarity.mean(),
    }


def _noisy(code_BLD: Tensor, levels: int, most: float) -> Tensor:
    """Codes with weak noise, and on a random share of the frames, up to `most`, strong noise."""
    share = torch.rand((), device=code_BLD.device) * most
    strong = torch.rand(code_BLD.shape[:2], device=code_BLD.device)[..., None] < share
    step = 1 / (levels - 1)
    deviation = torch.where(strong, step / 6, step / 8)
    return code_BLD + deviation * torch.randn_like(code_BLD)


def used_codes(codec: HdEmo, batches: list[Batch]) -> dict[str, float]:
    """How many content and style codes occur in the batches."""
    content, style = set(), set()
    for batch in batches:
        codes = codec.preference_codes(batch.tokens_BL, batch.token_lengths_B)
        mask = batch.token_mask_BL
        content.update(fsq.to_indices(codes[0], codec.config.content_levels)[mask].tolist())
        style.update(fsq.to_indices(codes[1], codec.config.style_levels)[mask].tolist())
    return {"content_codes_used": float(len(content)), "style_codes_used": float(len(style))}


def train_content(
    train: list[Example],
    dev: list[Example],
    settings: Codec,
    compute: Compute,
    out: Path,
    work: Path,
    identity: str,
    profile: bool = False,
) -> None:
    """Stage A: train the content branch by text cross-entropy and write the codec to `out`."""
    codec = make_codec(settings.preset)
    trained = [p for part in codec.content_parts() for p in part.parameters()]

    def terms(batch: Batch) -> dict[str, Tensor]:
        return content_terms(codec, batch, settings.guide_weight)

    steps = required(settings, "content", CodecStage).steps
    _train(codec, trained, terms, steps, "codec, content", train, dev, settings, compute, out,
           work, identity, profile)  # fmt: skip


def train_style(
    content: Path,
    train: list[Example],
    dev: list[Example],
    settings: Codec,
    compute: Compute,
    out: Path,
    work: Path,
    identity: str,
    profile: bool = False,
) -> None:
    """Stage B: from the codec of stage A, frozen where it reads text, train the rest."""
    codec = make_codec(settings.preset)
    load_weights(content, codec)
    codec.freeze(codec.content_parts())
    trained = [p for p in codec.parameters() if p.requires_grad]

    def terms(batch: Batch) -> dict[str, Tensor]:
        return style_terms(codec, batch)

    steps = required(settings, "style", CodecStage).steps
    _train(codec, trained, terms, steps, "codec, style", train, dev, settings, compute, out, work,
           identity, profile)  # fmt: skip


def _train(
    codec: HdEmo, trained: list[nn.Parameter],
    terms: Callable[[Batch], dict[str, Tensor]], steps: int, label: str, train: list[Example],
    dev: list[Example], settings: Codec, compute: Compute, out: Path, work: Path, identity: str,
    profile: bool,
) -> None:  # fmt: skip
    set_threads(compute.threads)
    device = device_of(compute.device)
    codec.to(device)
    sampler = Sampler(train, settings.batch_size, settings.seed)
    dev_batches = [b.to(device) for b in sequential_batches(dev, settings.batch_size)]

    def loss_terms(batch: Batch) -> dict[str, Tensor]:
        with autocast(device, compute.bf16):
            return terms(batch)

    loop = Loop(
        label=label, steps=steps, seed=settings.seed, warmup_steps=min(100, steps // 10 + 1),
        decay_share=0.3, ema=settings.ema, identity=identity,
    )  # fmt: skip
    optimiser = torch.optim.Adam(trained, lr=settings.learning_rate)
    fit(
        codec, optimiser, loss_terms, lambda step: sampler.batch_at(step).to(device),
        lambda: mean_terms(loss_terms, dev_batches), loop, out, work, profile,
    )  # fmt: skip
    codes = used_codes(codec, dev_batches)
    save_model(out, codec, {"model": asdict(codec.config), "dev": codes})
    print(json.dumps(codes), flush=True)
