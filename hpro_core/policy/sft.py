"""Supervised fine-tuning: cross-entropy of the recording's speech tokens given text and reference.

Letters as in `model`.
"""

from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from hpro_core.engine.batching import Batch, Example, Sampler, sequential_batches
from hpro_core.engine.checkpoint import load_weights, read_json, save_model, write_json
from hpro_core.engine.training import Loop, autocast, device_of, fit, mean_terms, set_threads
from hpro_core.params import Compute, Policy, Sft
from hpro_core.policy.model import PRESETS, PolicyConfig, SpeechLM, speech_targets
from hpro_core.text import N_SYMBOLS

GUIDE_REACH = 1.5
"""Symbols either side of the expected one that the attention guide lets count (ours)."""


def make_policy(settings: Policy, examples: list[Example]) -> SpeechLM:
    """A fresh policy, its text positions in step with the speech of the examples."""
    tokens = sum(len(e.tokens) for e in examples)
    symbols = sum(len(e.symbols) for e in examples)
    return SpeechLM(
        PolicyConfig(
            **PRESETS[settings.preset],
            n_symbols=N_SYMBOLS,
            reference_width=len(examples[0].speaker_embedding),
            dropout=settings.dropout,
            tokens_per_symbol=round(tokens / symbols, 3),
        )
    )


def load_policy(folder: Path) -> SpeechLM:
    """A trained policy in eval mode."""
    config = read_json(folder / "config.json")
    policy = SpeechLM(PolicyConfig(**config["model"]))
    load_weights(folder, policy)
    return policy.eval()


def save_policy(folder: Path, policy: SpeechLM, **record: object) -> None:
    """Write a policy and what made it."""
    save_model(folder, policy, {"model": asdict(policy.config), **record})


def sft_terms(
    policy: SpeechLM, batch: Batch, guide_weight: float, noise: float
) -> dict[str, Tensor]:
    """Cross-entropy over all output classes, the end symbol included.

    A fresh small policy also gets a guide for one attention head, and in training reads a history
    in which a share of the tokens has one digit changed, as its own samples will have (both ours).
    """
    history = flip_digits(batch.tokens_BL, noise) if policy.training else None
    output = policy(batch, history)
    targets, mask = speech_targets(batch)
    logits = output.logits_BLV[mask]
    ce = functional.cross_entropy(logits.float(), targets[mask])
    guide = alignment_guide(output.text_attention_BLS, batch)
    return {
        "loss": ce + guide_weight * guide,
        "ce": ce,
        "attention_guide": guide,
        "token_accuracy": (logits.argmax(-1) == targets[mask]).float().mean(),
    }


def alignment_guide(attention_BLS: Tensor, batch: Batch) -> Tensor:
    """Minus log of the attention that falls on the symbols being spoken, mean over tokens in words.

    Where in its word a symbol is spoken is not known; as if all symbols of a word took equally
    long, those within GUIDE_REACH of the expected one count.

    Args:
        attention_BLS: one head's attention to the text; row t predicts token t.
        batch: says which tokens and which symbols belong to a word; tokens in pauses do not count.
    """
    device = attention_BLS.device
    frame_L1 = torch.arange(attention_BLS.shape[1], device=device)[:, None]
    symbol_S = torch.arange(attention_BLS.shape[2], device=device)
    start_B1W, end_B1W = batch.spans_BW2[:, None].unbind(-1)
    inside_BLW = (frame_L1 >= start_B1W) & (frame_L1 < end_B1W)
    belongs_BSW = functional.one_hot(batch.symbol_word_BS, start_B1W.shape[-1]).bool()
    belongs_BSW &= batch.symbol_mask_BS[..., None]
    count_B1W = belongs_BSW.sum(1, keepdim=True)
    first_B1W = torch.where(belongs_BSW, symbol_S[:, None], len(symbol_S)).amin(1, keepdim=True)
    share_BLW = (frame_L1 - start_B1W + 0.5) / (end_B1W - start_B1W).clamp(min=1)
    expected_BLW = first_B1W + share_BLW * count_B1W - 0.5
    expected_BL = (expected_BLW * inside_BLW).sum(-1)
    near_BLS = (symbol_S - expected_BL[..., None]).abs() <= GUIDE_REACH
    in_word_BLS = inside_BLW.float() @ belongs_BSW.float().transpose(1, 2) > 0
    hit_BL = (attention_BLS.float() * (near_BLS & in_word_BLS)).sum(-1)
    return -hit_BL.clamp(min=1e-6).log()[inside_BLW.any(-1)].mean()


def flip_digits(tokens_BL: Tensor, share: float) -> Tensor:
    """Change one ternary digit in a share of the tokens: neighbours in the quantiser's space."""
    place = 3 ** torch.randint(0, 8, tokens_BL.shape, device=tokens_BL.device)
    digit = tokens_BL // place % 3
    other = (digit + torch.randint(1, 3, tokens_BL.shape, device=tokens_BL.device)) % 3
    flipped = torch.rand(tokens_BL.shape, device=tokens_BL.device) < share
    return torch.where(flipped, tokens_BL + (other - digit) * place, tokens_BL)


def train_sft(
    train: list[Example],
    dev: list[Example],
    policy_settings: Policy,
    settings: Sft,
    compute: Compute,
    seed: int,
    out: Path,
    work: Path,
    identity: str,
    profile: bool = False,
) -> None:
    """Train a fresh policy on the recordings and write it to `out`."""
    set_threads(compute.threads)
    device = device_of(compute.device)
    torch.manual_seed(seed)
    policy = make_policy(policy_settings, train).to(device)
    sampler = Sampler(train, settings.batch_size, seed)
    dev_batches = [b.to(device) for b in sequential_batches(dev, settings.batch_size)]

    def terms(batch: Batch) -> dict[str, Tensor]:
        with autocast(device, compute.bf16):
            return sft_terms(policy, batch, settings.guide_weight, settings.history_noise)

    loop = Loop(
        label=f"sft, seed {seed}",
        steps=settings.steps,
        seed=seed,
        clip_norm=settings.clip_norm,
        warmup_steps=min(100, settings.steps // 10 + 1),
        decay_share=settings.decay_share,
        ema=settings.ema,
        identity=identity,
    )
    optimiser = torch.optim.AdamW(policy.parameters(), lr=settings.learning_rate, weight_decay=0.01)
    dev_end = fit(
        policy,
        optimiser,
        terms,
        lambda step: sampler.batch_at(step).to(device),
        lambda: mean_terms(terms, dev_batches),
        loop,
        out,
        work,
        profile,
    )
    write_json(out / "metrics.json", {"dev": dev_end})
    save_policy(out, policy, variant="sft", seed=seed)
