"""Training of HD-Emo: stage A the content branch with L_ASR only, stage B all other modules.

Paper section III-A. The weights of stage B are the released code's: 4 L_rec + 0.2 L_SER + L_wVAD.
Letters as in `model`; S phone symbol.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from hpro_core.codec.compatibility import CORRECTED, Compatibility
from hpro_core.codec.losses import (
    covered_words,
    soft_cross_entropy,
    text_cross_entropy,
    token_cross_entropy,
    word_vad_loss,
)
from hpro_core.codec.model import PRESETS, CodecConfig, HdEmo
from hpro_core.codec.noise import NO_NOISE, Noise, training_noise
from hpro_core.codec.whisper import load_whisper_decoder
from hpro_core.dataset import train_dev
from hpro_core.errors import HproError
from hpro_core.io import fingerprint
from hpro_core.params import Codec, CodecStage, Compute, require_section
from hpro_core.speech import fsq
from hpro_core.speech.token_noise import corrupt_tokens
from hpro_core.text.phones import N_TRANSCRIPT_SYMBOLS, WHISPER_SPECIAL_TOKENS
from hpro_core.train.batching import (
    Batch,
    Example,
    Sampler,
    length_mask,
    sequential_batches,
)
from hpro_core.train.checkpoint import load_model, load_weights, model_config, save_model
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
from hpro_core.train.terms import Mean, Terms, mean_of

STYLE_WEIGHTS = {"rec": 4.0, "ser": 0.2, "wvad": 1.0}
"""Weights of the terms in the loss of stage B (released code)."""


WHISPER_VOCABULARY = 51865
"""Text tokens of Whisper small and medium.

Whisper models of other vocabularies share the words and differ in the special tokens.
"""


def make_codec(preset: str, whisper: Path | None = None) -> HdEmo:
    """Create a codec of the preset with random initial weights.

    Args:
        preset: one of PRESETS. The text decoder of `embedded` and `miniature` predicts our phone
            symbols, that of the others Whisper's tokens.
        whisper: folder of a Whisper model that initialises the text decoder.

    Raises:
        HproError: the folder lacks a file, or its decoder has other sizes than the preset.
    """
    codec = HdEmo(CodecConfig(**PRESETS[preset]))
    if whisper is not None:
        load_whisper_decoder(whisper, codec.text_decoder)
    return codec


def load_codec(folder: Path, compatibility: Compatibility = CORRECTED) -> HdEmo:
    """Load a trained codec, frozen and in eval mode, for use as a reward.

    Args:
        folder: written by training or by `hpro codec import`.
        compatibility: corrections of the released codec.

    Raises:
        HproError: a file is missing, or is not of a codec.
    """
    config = model_config(folder, "a codec", "model")
    codec = load_model(
        folder, config["model"], CodecConfig, lambda sizes: HdEmo(sizes, compatibility)
    )
    codec.freeze(list(codec.children()))
    return codec


def text_of(
    batch: Batch, compatibility: Compatibility = CORRECTED
) -> tuple[Tensor, Tensor, Tensor]:
    """Input, target and mask of the text decoder.

    The target is the input shifted by one token and ends with the end symbol. In the released form
    (`text_padding_ignored` off) the input ends with the end symbol too, padding is the end symbol,
    and the mask is true everywhere.

    Args:
        batch: utterances with transcripts.
        compatibility: corrections of the released codec.

    Returns:
        Input and target, int64, and mask, bool, true up to and including the end symbol; all
        of one shape (B, J).
    """
    text, lengths = batch.transcript_BJ, batch.transcript_lengths_B
    if compatibility.text_padding_ignored:
        return text[:, :-1], text[:, 1:], length_mask(lengths - 1, text.shape[1] - 1)
    end = text.gather(1, lengths[:, None] - 1)
    text = torch.where(length_mask(lengths, text.shape[1]), text, end)
    return text, torch.cat([text[:, 1:], end], 1), torch.ones_like(text, dtype=torch.bool)


def check_text(
    examples: Sequence[Example], config: CodecConfig, guided_attention_weight: float
) -> None:
    """Check that the transcripts are in the text tokens of the codec's text decoder.

    Args:
        examples: utterances of the dataset.
        config: the codec's configuration.
        guided_attention_weight: weight of the guided-attention loss; 0: off.

    Raises:
        HproError: transcripts are phones but the decoder predicts Whisper's tokens or vice versa,
            a transcript is longer than its positions or lacks Whisper's special tokens, or guided
            attention is on without phones.
    """
    phones = config.text_vocabulary == N_TRANSCRIPT_SYMBOLS
    if guided_attention_weight and not phones:
        raise HproError(
            f"codec.guided_attention_weight is {guided_attention_weight}, but only phones have "
            "word spans: set it to 0"
        )
    facts = facts_of(examples)
    for id_ in (facts.highest_transcript, facts.lowest_transcript):
        if id_.value >= config.text_vocabulary or (id_.value < N_TRANSCRIPT_SYMBOLS) != phones:
            raise HproError(
                f"{id_.utt_id}: its transcript is not in the codec's text tokens (one is "
                f"{id_.value}, there are {config.text_vocabulary}): set dataset.codec_text to "
                "phones for the embedded preset, to Whisper's folder for the others"
            )
    positions = facts.longest_transcript.value - 1
    if positions > config.text_positions:
        raise HproError(
            f"{facts.longest_transcript.utt_id}: {positions} text tokens are more than the "
            f"{config.text_positions} positions of the codec's text decoder: remove the utterance "
            "from the corpus"
        )
    if config.text_vocabulary == WHISPER_VOCABULARY and facts.unmarked is not None:
        raise HproError(
            f"{facts.unmarked}: its transcript lacks the special tokens "
            f"{sorted(WHISPER_SPECIAL_TOKENS)} of "
            f"a Whisper model of {WHISPER_VOCABULARY} tokens: set dataset.codec_text to the folder "
            "of the model that the codec was made with (small, medium; not .en, not large-v3)"
        )


def check_words(examples: Sequence[Example], config: CodecConfig) -> None:
    """Check that L_wVAD is defined for every utterance, in any batch.

    Args:
        examples: utterances of the dataset.
        config: the codec's configuration, for the rule of word edges.

    Raises:
        HproError: no word of an utterance covers a frame, which only truncated edges cause.
    """
    uncovered = facts_of(examples).uncovered[config.word_edges]
    if uncovered is not None:
        raise HproError(
            f"{uncovered.utt_id}: none of its {uncovered.value} words covers a frame of 40 ms with "
            f"word_edges {config.word_edges!r}: remove the utterance from the corpus"
        )


def content_terms(codec: HdEmo, batch: Batch, guided_attention_weight: float) -> Terms:
    """Terms of stage A: L_ASR, and guided attention for a text decoder with random initial weights.

    The paper starts from a trained Whisper. Our small decoder starts from random weights, so a
    guided-attention loss trains one head to attend to the frames of each symbol's word (ours). It
    needs phone transcripts; weight 0 turns it off.

    Args:
        codec: in training or eval mode.
        batch: utterances with transcripts and, for guided attention, word spans.
        guided_attention_weight: weight of the guided-attention loss.

    Returns:
        "asr", "symbol_accuracy" (fraction of real targets that the decoder predicts), and with
        guided attention "attention_guide".
    """
    text, target, mask = text_of(batch, codec.compatibility)
    content = codec.content_features(batch.tokens_BL, batch.token_lengths_B)
    guided = bool(guided_attention_weight)
    logits, attention = codec.text_logits(content, batch.token_lengths_B, text, guided)
    means = {"asr": text_cross_entropy(logits, target, mask)}
    if attention is not None:
        means["attention_guide"] = attention_guide(attention, batch)
    correct = (logits.argmax(-1) == target)[mask].float()
    means["symbol_accuracy"] = mean_of(correct, "targets")
    return Terms(means, {"asr": 1.0, "attention_guide": guided_attention_weight})


def attention_guide(attention_BJL: Tensor, batch: Batch) -> Mean:
    """Guided-attention loss: minus log of the attention to the frames of the symbol's word (ours).

    Args:
        attention_BJL: attention of one head; position j predicts symbol j.
        batch: utterances with `symbol_word_BS` and word spans.

    Returns:
        Mean over symbols; gradients reach `attention_BJL`.
    """
    symbols = batch.symbol_word_BS.shape[1]
    spans_BS2 = batch.spans_BW2.gather(1, batch.symbol_word_BS[..., None].expand(-1, -1, 2))
    frame_L = torch.arange(attention_BJL.shape[2], device=attention_BJL.device)
    # One frame of tolerance on each side: the boundaries are accurate to about 40 ms.
    inside = (frame_L >= spans_BS2[..., :1] - 1) & (frame_L < spans_BS2[..., 1:] + 1)
    hit_BS = (attention_BJL[:, :symbols].float() * inside).sum(-1)
    return mean_of(-hit_BS.clamp(min=1e-6).log()[batch.symbol_mask_BS], "symbols")


def style_terms(codec: HdEmo, batch: Batch, noise: Noise | None = None) -> Terms:
    """Terms of stage B: 4 L_rec + 0.2 L_SER + L_wVAD (released code).

    The content features are detached (released code).

    Args:
        codec: in training or eval mode.
        batch: recordings, as tokens, with labels.
        noise: noise on the codes and on the heads' features. By default new noise in training mode
            and none in eval mode (the released code has it in both).

    Returns:
        "rec", "ser", "wvad", and for monitoring "token_accuracy", "emotion_similarity" (cosine) and
        the fraction of frames whose code the noise does not change, "content_code_kept" and
        "style_code_kept".
    """
    config = codec.config
    if noise is None:
        without_noise = not codec.training
        noise = (
            NO_NOISE
            if without_noise
            else training_noise(config.content_levels, config.style_levels)
        )
    lengths, mask = batch.token_lengths_B, batch.token_mask_BL
    with torch.no_grad():
        content = codec.content_features(batch.tokens_BL, lengths)
    style = codec.style_features(batch.tokens_BL, lengths)
    codes = codec.content_code(content, lengths), codec.style_code(style)
    disturbed = noise.content(codes[0]), noise.style(codes[1])
    logits = codec.reconstruct(*disturbed, lengths)
    emotion = codec.emotion_features(style, lengths, noise.emotion)
    emotion_logits = codec.emotion_head(emotion, mask)
    vad = codec.word_vad_head(emotion, batch.spans_BW2)
    correct = (logits.argmax(-1) == batch.tokens_BL)[mask].float()
    similarity = torch.cosine_similarity(emotion_logits.float().softmax(-1), batch.emotion_B9)
    means = {
        "rec": token_cross_entropy(logits, batch.tokens_BL, mask),
        "ser": soft_cross_entropy(emotion_logits, batch.emotion_B9),
        "wvad": word_vad_loss(batch.vad_BW3, vad, covered_words(batch.spans_BW2)),
        "token_accuracy": mean_of(correct, "frames"),
        "emotion_similarity": mean_of(similarity, "utterances"),
        "content_code_kept": _fraction_unchanged(
            codes[0], disturbed[0], config.content_levels, mask
        ),
        "style_code_kept": _fraction_unchanged(codes[1], disturbed[1], config.style_levels, mask),
    }
    return Terms(means, STYLE_WEIGHTS)


@torch.no_grad()
def _fraction_unchanged(
    code_BLD: Tensor, disturbed_BLD: Tensor, levels: int, mask_BL: Tensor
) -> Mean:
    """Fraction of real frames whose code the noise does not change."""
    before = fsq.to_indices(fsq.quantise(code_BLD, levels), levels)
    after = fsq.to_indices(fsq.quantise(disturbed_BLD, levels), levels)
    return mean_of((before == after)[mask_BL].float(), "frames")


def code_usage(codec: HdEmo, batches: list[Batch]) -> dict[str, float]:
    """Number of distinct content and style codes in the batches."""
    content, style = set(), set()
    for batch in batches:
        codes = codec.preference_codes(batch.tokens_BL, batch.token_lengths_B)
        mask = batch.token_mask_BL
        content.update(fsq.to_indices(codes[0], codec.config.content_levels)[mask].tolist())
        style.update(fsq.to_indices(codes[1], codec.config.style_levels)[mask].tolist())
    return {"content_codes_used": float(len(content)), "style_codes_used": float(len(style))}


def train_content(run: Run, settings: Codec) -> None:
    """Stage A: train the content branch with L_ASR and write codec/content/.

    Args:
        run: reads the dataset of its results.
        settings: section `codec` of the settings.

    Raises:
        HproError: the transcripts are not in the text tokens of the preset's text decoder, or the
            training fails (see `fit`).
    """
    whisper = Path(settings.whisper) if settings.whisper else None
    start = [whisper / "model.safetensors"] if whisper else []
    identity = fingerprint(run.params, *start, *split_files(run.root))
    stage = require_section(settings, "content", CodecStage)
    data = train_dev(run.root, stage.leave_out, "codec.content")
    torch.manual_seed(settings.seed)
    codec = make_codec(settings.preset, whisper)
    for examples in data:
        check_text(examples, codec.config, settings.guided_attention_weight)
    trained = [p for part in codec.content_parts() for p in part.parameters()]

    def terms(batch: Batch) -> Terms:
        return content_terms(codec, batch, settings.guided_attention_weight)

    loop = _loop(run, settings, "content", stage.steps, identity)
    _train(codec, trained, terms, data, settings, run.compute, loop)
    if is_main_process():
        _write(codec, {}, loop)


def train_style(run: Run, settings: Codec) -> None:
    """Stage B: freeze the content branch of stage A's codec and train the other modules.

    Writes codec/style/.

    Args:
        run: reads the dataset and codec/content/ of its results.
        settings: section `codec` of the settings.

    Raises:
        HproError: a file is missing or does not fit, an utterance has no word that covers a frame,
            or the training fails (see `fit`).
    """
    content = run.root / "codec" / "content"
    stage = require_section(settings, "style", CodecStage)
    data = train_dev(run.root, stage.leave_out, "codec.style")
    identity = fingerprint(run.params, content / "model.safetensors", *split_files(run.root))
    torch.manual_seed(settings.seed)
    codec = make_codec(settings.preset)
    for examples in data:
        check_words(examples, codec.config)
    load_weights(content, codec)
    codec.freeze(codec.frozen_parts())
    trained = [p for p in codec.parameters() if p.requires_grad]

    def terms(batch: Batch) -> Terms:
        return style_terms(codec, batch)

    loop = _loop(run, settings, "style", stage.steps, identity)
    dev_batches = _train(codec, trained, terms, data, settings, run.compute, loop)
    if is_main_process():
        _write(codec, code_usage(codec, dev_batches), loop)


def _loop(run: Run, settings: Codec, stage: str, steps: int, identity: str) -> Loop:
    return Loop(
        label=f"codec, {stage}", steps=steps, seed=settings.seed, out=run.root / "codec" / stage,
        work=run.work, warmup_steps=min(100, steps // 10 + 1),
        decay_fraction=settings.decay_fraction, ema=settings.ema, identity=identity,
        profile=run.profile, tracker=run.tracker, params=run.params,
    )  # fmt: skip


def _train(
    codec: HdEmo, trained: list[nn.Parameter],
    terms: Callable[[Batch], Terms], data: tuple[Sequence[Example], Sequence[Example]],
    settings: Codec, compute: Compute, loop: Loop,
) -> list[Batch]:  # fmt: skip
    """Train the codec in place; return the batches of the dev split."""
    set_threads(compute.threads)
    device = device_of(compute.device)
    codec.to(device)
    train, dev = data
    edges = codec.config.word_edges
    sampler = Sampler(train, settings.batch_size, settings.seed, edges)
    dev_batches = [b.to(device) for b in sequential_batches(dev, settings.batch_size, edges)]

    def loss_terms(batch: Batch) -> Terms:
        if codec.training:
            tokens_BL = corrupt_tokens(batch.tokens_BL, settings.token_noise)
            batch = replace(batch, tokens_BL=tokens_BL)
        with autocast(device, compute.bf16):
            return terms(batch)

    optimiser = torch.optim.Adam(trained, lr=settings.learning_rate)
    fit(
        codec, optimiser, loss_terms, lambda step: sampler.batch_at(step).to(device),
        lambda: mean_terms(loss_terms, dev_batches), loop,
    )  # fmt: skip
    return dev_batches


def _write(codec: HdEmo, dev_metrics: dict[str, float], loop: Loop) -> None:
    save_model(loop.out, codec, {"model": asdict(codec.config), "dev": dev_metrics})
    clear(loop.work)
    print(json.dumps(dev_metrics), flush=True)
