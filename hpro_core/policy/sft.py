"""Supervised fine-tuning: cross-entropy of recorded speech tokens given text and reference.

Letters as in `interface`.
"""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from hpro_core.dataset import train_dev
from hpro_core.errors import HproError
from hpro_core.io import fingerprint, write_json
from hpro_core.params import Policy, Sft
from hpro_core.policy.cosyvoice2 import CosyVoice2Config, CosyVoice2LM
from hpro_core.policy.interface import SpeechPolicy, speech_targets
from hpro_core.policy.llm_file import QWEN_FOLDER, read_llm
from hpro_core.policy.model import PRESETS, PolicyConfig, SpeechLM
from hpro_core.speech.token_noise import with_noisy_history
from hpro_core.text.phones import N_SYMBOLS
from hpro_core.train.batching import (
    Batch,
    Example,
    Sampler,
    sequential_batches,
    warn_single_utterance_speakers,
)
from hpro_core.train.checkpoint import load_model, model_config, save_model
from hpro_core.train.distributed import is_main_process
from hpro_core.train.example_file import split_files
from hpro_core.train.facts import facts_of
from hpro_core.train.loop import (
    Loop,
    autocast,
    clear,
    device_of,
    fit,
    mean_terms,
    set_threads,
)
from hpro_core.train.run import Run
from hpro_core.train.terms import Mean, Terms, cross_entropy, mean_of
from hpro_core.train.trackers import Speaker

AnyPolicy = SpeechLM | CosyVoice2LM

GUIDE_WIDTH_WORDS = 1.5
"""Distance from the expected symbol within which attention counts for the guide, symbols (ours)."""


def make_policy(
    settings: Policy,
    examples: Sequence[Example],
    checkpointing: bool = False,
    start: Path | None = None,
) -> AnyPolicy:
    """Create or load the policy that fine-tuning starts from.

    Args:
        settings: section `policy`.
        examples: training utterances.
        checkpointing: see `CosyVoice2LM`; ignored by the small policy.
        start: folder of a policy to load instead of the one in `settings`.

    Raises:
        HproError: the text symbols of the examples are not those of the policy, CosyVoice2's files
            do not fit, or a dropout is set for Qwen2, which has none.
    """
    policy: AnyPolicy
    if start is not None:
        policy = load_policy(start, checkpointing)
    elif settings.preset == "cosyvoice2":
        policy = read_llm(Path(settings.path), checkpointing)
    else:
        policy = _fresh_policy(settings, examples)
    if isinstance(policy, SpeechLM):
        _check_phones(examples)
        policy.set_dropout(settings.dropout)
        return policy
    _check_text_tokens(policy, examples, start or Path(settings.path))
    if settings.dropout:
        raise HproError(f"policy.dropout is {settings.dropout}, but cosyvoice2 has none: set 0.0")
    return policy


def _check_phones(examples: Sequence[Example]) -> None:
    if facts_of(examples).highest_symbol.value >= N_SYMBOLS:
        raise HproError(
            "a small policy takes phones, but the dataset has other text tokens: set "
            "dataset.policy_text to phones"
        )


def _check_text_tokens(policy: CosyVoice2LM, examples: Sequence[Example], folder: Path) -> None:
    facts = facts_of(examples)
    if facts.phones is not None:
        raise HproError(
            f"{folder} takes its own text tokens, but the dataset has phones: set "
            f"dataset.policy_text to the folder {QWEN_FOLDER} of CosyVoice2-0.5B"
        )
    largest = facts.highest_symbol.value
    if largest >= policy.config.vocabulary:
        raise HproError(
            f"the dataset has text token {largest}, but the vocabulary of {folder} has "
            f"{policy.config.vocabulary}: build the dataset with the tokenizer of this model"
        )


def _fresh_policy(settings: Policy, examples: Sequence[Example]) -> SpeechLM:
    """Create a small policy whose `tokens_per_symbol` is the mean rate of the examples."""
    facts = facts_of(examples)
    return SpeechLM(
        PolicyConfig(
            **PRESETS[settings.preset],
            n_symbols=N_SYMBOLS,
            reference_width=len(examples[0].speaker_embedding),
            dropout=settings.dropout,
            tokens_per_symbol=round(facts.tokens / facts.symbols, 3),
        )
    )


def load_policy(folder: Path, checkpointing: bool = False) -> AnyPolicy:
    """Load a trained policy of either class, in eval mode.

    Args:
        folder: policy folder with model.safetensors and config.json.
        checkpointing: see `CosyVoice2LM`; ignored by the small policy.

    Raises:
        HproError: a file is missing or does not belong to a policy, or the weights do not fit the
            sizes.
    """
    config = model_config(folder, "a policy", "policy", "model")
    match config["policy"]:
        case SpeechLM.kind:
            return load_model(folder, config["model"], PolicyConfig, SpeechLM)
        case CosyVoice2LM.kind:

            def build(sizes: CosyVoice2Config) -> CosyVoice2LM:
                return CosyVoice2LM(sizes, checkpointing)

            return load_model(folder, config["model"], CosyVoice2Config, build)
        case other:
            raise HproError(
                f"{folder}/config.json: policy is {other!r}, not {SpeechLM.kind!r} or "
                f"{CosyVoice2LM.kind!r}: run the stage that trains it, or `hpro policy import`"
            )


def save_policy(folder: Path, policy: AnyPolicy, **record: object) -> None:
    """Write a policy.

    Args:
        folder: output folder.
        policy: policy to save.
        **record: further entries of config.json, such as variant and seed.
    """
    config = {"policy": policy.kind, "model": asdict(policy.config), **record}
    save_model(folder, policy, config)


def rewarded_steps(folder: Path) -> int:
    """Read the number of reward steps that a policy was trained for; 0 after fine-tuning.

    Steps after the one that model selection kept are counted too: their batches were used, and the
    next stage continues after them.

    Raises:
        HproError: the number is not a non-negative integer, or config.json cannot be read.
    """
    steps = model_config(folder, "a policy").get("rewarded_steps", 0)
    if not isinstance(steps, int) or steps < 0:
        raise HproError(f"{folder}/config.json: rewarded_steps is {steps!r}, not a number of steps")
    return steps


def sft_terms(
    policy: SpeechPolicy, batch: Batch, guided_attention_weight: float, emotion_weight: float
) -> Terms:
    """Compute the fine-tuning loss: cross-entropy over all output classes with the end symbol.

    A small policy has no pretrained language model. It gets two auxiliary losses instead (ours):
    guided attention for one head (`alignment_guide`), and cross-entropy of an emotion prediction
    from the text at the position before the first speech token.

    Args:
        policy: policy in training or eval mode.
        batch: recordings as tokens, with labels.
        guided_attention_weight: weight of the guided attention loss.
        emotion_weight: weight of the emotion loss.

    Returns:
        "ce", "token_accuracy" and, for a small policy, "attention_guide" and "text_emotion".
        Gradients reach the policy's weights.

    Raises:
        HproError: an auxiliary weight is set, and the policy has no auxiliary outputs.
    """
    output = policy(batch, guides=True)
    targets, mask = speech_targets(batch)
    logits = output.logits_BLV[mask]
    ce = cross_entropy(logits, targets[mask], "positions")
    accuracy = mean_of((logits.argmax(-1) == targets[mask]).float(), "positions")
    if output.text_attention_BLS is None or output.emotion_B9 is None:
        if guided_attention_weight or emotion_weight:
            raise HproError(
                f"sft.guided_attention_weight is {guided_attention_weight} and emotion_weight is "
                f"{emotion_weight}, but cosyvoice2 has no auxiliary outputs: set both to 0.0"
            )
        return Terms({"ce": ce, "token_accuracy": accuracy}, {"ce": 1.0})
    means = {
        "ce": ce,
        "attention_guide": alignment_guide(output.text_attention_BLS, batch),
        "text_emotion": cross_entropy(output.emotion_B9, batch.emotion_B9, "utterances"),
        "token_accuracy": accuracy,
    }
    weights = {"attention_guide": guided_attention_weight, "text_emotion": emotion_weight}
    return Terms(means, {"ce": 1.0, **weights})


def history_noise(done: float, settings: Sft) -> float:
    """Compute the history noise level at a point of the training (`corrupt_tokens`; ours).

    History noise covers the difference between a policy's samples and recordings, and keeps the
    policy from relying on the history more than on the text. An untrained policy needs a clean
    history (docs/log/index.md), so the noise grows with the square of the completed fraction of the
    training.

    Args:
        done: completed fraction of the steps, in (0, 1].
        settings: section `sft`.

    Returns:
        Largest probability that a digit of the history changes (`most` of `corrupt_tokens`).
    """
    ramp = min(1.0, done / settings.noise_warmup) if settings.noise_warmup else 1.0
    return settings.history_noise * ramp**2


def alignment_guide(attention_BLS: Tensor, batch: Batch) -> Mean:
    """Compute the guided attention loss: minus log of the attention to the spoken symbols (ours).

    The time of a symbol within its word is unknown. All symbols of a word are assumed to be equally
    long, and symbols of the word within GUIDE_WIDTH_WORDS of the expected one count as spoken.

    Args:
        attention_BLS: attention of one head to the text, float; row t predicts token t.
        batch: gives the word spans in tokens and the word of each symbol.

    Returns:
        Mean over the tokens that are in words, float32; tokens in pauses do not count.
        Gradients reach `attention_BLS`.
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
    # mean over the words of a token, since a token can be in two: the end of one, the start of next
    expected_BL = (expected_BLW * inside_BLW).sum(-1) / inside_BLW.sum(-1).clamp(min=1)
    near_BLS = (symbol_S - expected_BL[..., None]).abs() <= GUIDE_WIDTH_WORDS
    in_word_BLS = inside_BLW.float() @ belongs_BSW.float().transpose(1, 2) > 0
    hit_BL = (attention_BLS.float() * (near_BLS & in_word_BLS)).sum(-1)
    return mean_of(-hit_BL.clamp(min=1e-6).log()[inside_BLW.any(-1)], "frames_in_words")


def train_sft(
    run: Run,
    policy_settings: Policy,
    settings: Sft,
    seed: int,
    start: Path | None = None,
    speak: Speaker | None = None,
) -> None:
    """Fine-tune a policy on recordings; writes policy, curves and metrics.json to policy/sft/.

    Args:
        run: reads the dataset of its results.
        policy_settings: section `policy`, the initial policy.
        settings: section `sft`. With `accumulate`, the result is the same without dropout.
        seed: seed of new weights and of the batches.
        start: see `make_policy`.
        speak: lets the policy speak for the trackers; the result does not depend on it.

    Raises:
        HproError: what `train_dev`, `make_policy` and `fit` raise.
    """
    initial = [start / "model.safetensors"] if start else []
    if policy_settings.preset == "cosyvoice2":
        initial = [Path(policy_settings.path) / "llm.pt", *initial]
    identity = f"sft {seed} " + fingerprint(run.params, *initial, *split_files(run.root))
    train, dev = train_dev(run.root, settings.leave_out, "sft")
    set_threads(run.compute.threads)
    device = device_of(run.compute.device)
    torch.manual_seed(seed)
    policy = make_policy(policy_settings, train, settings.checkpointing, start).to(device)
    sampler = Sampler(train, settings.batch_size, seed)
    warn_single_utterance_speakers(sampler, f"sft, seed {seed}")
    dev_batches = [b.to(device) for b in sequential_batches(dev, settings.batch_size)]

    def terms(batch: Batch) -> Terms:
        with autocast(device, run.compute.bf16):
            return sft_terms(
                policy, batch, settings.guided_attention_weight, settings.emotion_weight
            )

    def batch_at(step: int) -> Batch:
        noise = history_noise(step / settings.steps, settings)
        return with_noisy_history(sampler.batch_at(step), noise).to(device)

    small = isinstance(policy, SpeechLM)
    loop = Loop(
        label=f"sft, seed {seed}",
        steps=settings.steps,
        seed=seed,
        out=run.root / "policy" / "sft" / f"seed{seed}",
        work=run.work,
        clip_norm=settings.clip_norm,
        warmup_steps=min(100, settings.steps // 10 + 1),
        decay_fraction=settings.decay_fraction,
        ema=settings.ema,
        accumulate=settings.accumulate,
        identity=identity,
        profile=run.profile,
        tracker=run.tracker,
        params=run.params,
        audio_every=speak.every if speak else 0,
    )
    decay = 0.01 if small else 0.0  # CosyVoice2 is trained with Adam without weight decay
    dev_end = fit(
        policy,
        torch.optim.AdamW(policy.parameters(), lr=settings.learning_rate, weight_decay=decay),
        terms,
        batch_at,
        lambda: mean_terms(terms, dev_batches),
        loop,
        speak=partial(speak, policy) if speak else None,
    )
    if is_main_process():
        write_json(loop.out / "metrics.json", {"dev": dev_end})
        save_policy(loop.out, policy, variant="sft", seed=seed)
        clear(loop.work)
