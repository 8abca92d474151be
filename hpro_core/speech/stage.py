"""The stages `hpro tokenizer` and `hpro tokenize`. Letters as in `tokenizer` and `crops`."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from hpro_core.constants import N_SPEECH_TOKENS, SAMPLE_RATE_HZ
from hpro_core.errors import HproError
from hpro_core.io import fingerprint
from hpro_core.params import Compute, Speech
from hpro_core.progress import track
from hpro_core.shards import folder_of
from hpro_core.speech import crops
from hpro_core.speech.crops import Crops, CropSampler, Utterance
from hpro_core.speech.features import FRAMES_PER_TOKEN, n_tokens
from hpro_core.speech.losses import MelFeatureExtractor, TokenHeads, affect_loss, phone_loss
from hpro_core.speech.tokenizer import SpeechTokenizer, TokenizerConfig
from hpro_core.tables import (
    SPEECH_TOKENS,
    TRAINING_SPLITS,
    UTTERANCES,
    empty,
    read_table,
    write_table,
)
from hpro_core.train.batching import length_mask
from hpro_core.train.checkpoint import load_model, model_config, save_model
from hpro_core.train.loop import (
    Loop,
    autocast,
    clear,
    device_of,
    fit,
    set_threads,
)
from hpro_core.train.prefetch import Prefetch
from hpro_core.train.run import Run

_DEV_BATCHES = 4
_EXTRACTOR_AFFECT = 0.3  # ours: makes the affect loss about as large as the phone loss, in nats


INPUTS = (
    "corpus/utterances.parquet",
    "align/words.parquet",
    "label/word_vad.parquet",
    "label/emotion_posteriors.parquet",
)
"""Tables that the tokenizer training reads."""


def train(run: Run, settings: Speech) -> None:
    """Train the tokenizer on the train split of all corpora and write speech/tokenizer/.

    Args:
        run: reads utterances, words, labels and audio of its results; `work` has the temporary
            spectra too.
        settings: section `speech`.

    Raises:
        HproError: the train or dev split is empty, an audio file is missing or invalid, or what
            `fit` raises.
    """
    root, compute = run.root, run.compute
    identity = fingerprint(run.params, *(root / name for name in INPUTS))
    set_threads(compute.threads)
    table = read_table(root / "corpus/utterances.parquet", UTTERANCES)
    words = crops.labelled_words(root)
    rows = {split: _split(table, split, root) for split in ("train", "dev")}
    train_set, dev_set = (
        crops.load(root, rows[split], f"mel spectra, {split}", words, run.work) for split in rows
    )
    torch.manual_seed(settings.seed)
    device = device_of(compute.device)
    tokenizer = SpeechTokenizer(TokenizerConfig(settings.width, settings.speaker_dim))
    model = TokenizerTraining(tokenizer).to(device)
    sampler = CropSampler(
        train_set, settings.batch_size, settings.segment_s, settings.seed,
        settings.tempo_spread, settings.voice_spread, settings.channel_spread,
    )  # fmt: skip
    batch_at: Callable[[int], Crops] = sampler.batch_at
    if device.type != "cpu":  # a GPU step is faster than one core prepares the crops
        batch_at = Prefetch(batch_at, settings.steps, max(1, compute.threads - 1))
    dev_batches = _dev_batches(dev_set, settings)

    def loss_terms(batch: Crops) -> dict[str, Tensor]:
        with autocast(device, compute.bf16):
            return training_terms(model, batch.to(device), settings)

    def dev_terms() -> dict[str, float]:
        return _dev_terms(model, dev_batches, settings)

    loop = Loop(
        label="speech tokenizer", steps=settings.steps, seed=settings.seed,
        out=root / "speech/tokenizer", work=run.work, warmup_steps=50, decay_fraction=0.4,
        ema=settings.ema, identity=identity, profile=run.profile, tracker=run.tracker,
        params=run.params,
    )  # fmt: skip
    optimiser = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=0.01)
    fit(model, optimiser, loss_terms, batch_at, dev_terms, loop)
    save_model(loop.out, tokenizer, {"model": asdict(tokenizer.config)})
    clear(loop.work)


class TokenizerTraining(nn.Module):
    """The trained modules: the tokenizer and two auxiliary networks that are not saved.

    Attributes:
        tokenizer: the speech tokenizer.
        code_heads: predicts phones and affect from the codes.
        mel_extractor: predicts phones and affect from recorded spectra, for feature matching.
    """

    def __init__(self, tokenizer: SpeechTokenizer):
        super().__init__()
        self.tokenizer = tokenizer
        self.code_heads = TokenHeads()
        self.mel_extractor = MelFeatureExtractor()


def training_terms(model: TokenizerTraining, batch: Crops, settings: Speech) -> dict[str, Tensor]:
    """Compute the tokenizer loss: mel + extractor + the weighted sum of the other terms.

    - mel: L1 distance of log-mel frames, mean over valid frames and mel bands.
    - delta: L1 distance of their differences in time, the same mean.
    - phones, affect: losses of the predictions from codes (`losses.phone_loss`, `affect_loss`).
    - features: feature-matching loss (`MelFeatureExtractor.distance`).
    - extractor: phone and affect loss of `model.mel_extractor` on the recordings; its gradient
      reaches the extractor only.

    The last four are ours.

    Args:
        model: tokenizer and auxiliary networks.
        batch: crops on the device of the model.
        settings: section `speech`, for the weights.

    Returns:
        The terms by name and their sum "loss", scalars with gradients.
    """
    lengths_B = batch.lengths_B
    speaker_BE = model.tokenizer.speaker(batch.reference_BFM, batch.reference_lengths_B)
    codes = model.tokenizer.codes(batch.mel_BFM, lengths_B)
    rebuilt_BFM = model.tokenizer.mel(codes, lengths_B, speaker_BE)
    error_BFM = rebuilt_BFM - batch.mel_BFM
    mask_BF = length_mask(FRAMES_PER_TOKEN * lengths_B, error_BFM.shape[1]).float()
    mel = (error_BFM.abs().mean(-1) * mask_BF).sum() / mask_BF.sum()
    change_BF = error_BFM.diff(dim=1).abs().mean(-1)
    delta = (change_BF * mask_BF[:, 1:]).sum() / mask_BF[:, 1:].sum()
    phones = batch.phones_BJ, batch.phone_lengths_B
    code_phones_BLS, code_affect_BLA = model.code_heads(codes, lengths_B)
    (mel_phones_BLS, mel_affect_BLA), layers = model.mel_extractor(batch.mel_BFM, lengths_B)
    weighted = {
        "delta": (settings.delta_weight, delta),
        "phones": (settings.phone_weight, phone_loss(code_phones_BLS, lengths_B, *phones)),
        "affect": (settings.affect_weight, affect_loss(code_affect_BLA, batch.affect_BLA)),
        "features": (
            settings.feature_matching_weight,
            model.mel_extractor.distance(layers, rebuilt_BFM, lengths_B),
        ),
    }
    extractor = phone_loss(mel_phones_BLS, lengths_B, *phones)
    extractor = extractor + _EXTRACTOR_AFFECT * affect_loss(mel_affect_BLA, batch.affect_BLA)
    loss = mel + extractor + sum(weight * term for weight, term in weighted.values())
    terms = {name: term for name, (_, term) in weighted.items()}
    return {"loss": loss, "mel": mel, "extractor": extractor} | terms


def encode(root: Path, settings: Speech, compute: Compute, shard: int | None = None) -> None:
    """Write speech/speech_tokens.parquet: tokens and speaker embedding of every utterance.

    Utterances of train, dev and test are encoded; the judges' split and utterances without a split
    are not. Tokens do not depend on the alignment: utterances that the aligner rejects are dropped
    when the dataset is joined. Prints the code statistics (`code_usage`).

    Args:
        root: results folder of the run, with a trained tokenizer.
        settings: section `speech`; only its batch size is used.
        compute: threads and device.
        shard: shard to encode (hpro_core.shards); None: all.

    Raises:
        HproError: the tokenizer is missing, or an audio file is missing or invalid.
    """
    set_threads(compute.threads)
    device = device_of(compute.device)
    model = load_tokenizer(root / "speech/tokenizer").to(device)
    wanted = utterances_to_encode(root, shard)
    rows = _encoded(model, root, wanted, settings.batch_size, device)
    tokens = write_tokens(root, shard, wanted, rows)
    print(json.dumps(code_usage(list(tokens["tokens"]))), flush=True)


def utterances_to_encode(root: Path, shard: int | None) -> pd.DataFrame:
    """Read the UTTERANCES rows that get tokens, of one shard or of all (None)."""
    path = folder_of(root, "corpus", shard) / "utterances.parquet"
    return read_table(path, UTTERANCES, only={"split": TRAINING_SPLITS})


def write_tokens(
    root: Path, shard: int | None, wanted: pd.DataFrame, rows: Iterable[dict[str, object]]
) -> pd.DataFrame:
    """Write speech/speech_tokens.parquet of one shard or of all.

    Args:
        root: results folder of the run.
        shard: shard as in `utterances_to_encode`.
        wanted: result of `utterances_to_encode`; gives the order of the table.
        rows: rows of SPEECH_TOKENS, one per utterance, in any order.

    Returns:
        The written table.
    """
    by_id = {row["utt_id"]: row for row in rows}
    tokens = pd.DataFrame([by_id[utt_id] for utt_id in wanted["utt_id"]])
    tokens = empty(SPEECH_TOKENS) if tokens.empty else tokens
    write_table(tokens, folder_of(root, "speech", shard) / "speech_tokens.parquet", SPEECH_TOKENS)
    return tokens


def load_tokenizer(folder: Path) -> SpeechTokenizer:
    """Load a trained tokenizer in eval mode.

    Raises:
        HproError: a file is missing or does not fit.
    """
    config = model_config(folder, "a speech tokenizer", "model")
    return load_model(folder, config["model"], TokenizerConfig, SpeechTokenizer)


def code_usage(tokens: Sequence[np.ndarray]) -> dict[str, float]:
    """Compute the number of tokens, the number of used codes and the perplexity of the codes."""
    counts = np.zeros(N_SPEECH_TOKENS, dtype=np.int64)
    for row in tokens:
        np.add.at(counts, row, 1)
    share = counts[counts > 0] / counts.sum()
    return {
        "tokens": float(counts.sum()),
        "codes_used": float(len(share)),
        "perplexity": float(np.exp(-(share * np.log(share)).sum())),
    }


@torch.no_grad()
def _encoded(
    model: SpeechTokenizer,
    root: Path,
    wanted: pd.DataFrame,
    batch_size: int,
    device: torch.device,
) -> Iterator[dict[str, object]]:
    """Yield rows of SPEECH_TOKENS in order of length, computed in float32.

    The spectra of only one batch are in memory at a time.
    """
    n_samples = (wanted["duration_s"].to_numpy() * SAMPLE_RATE_HZ).round().astype(np.int64)
    ordered = wanted.iloc[np.argsort(n_tokens(n_samples), kind="stable")]
    mels = crops.spectra(root, ordered["audio"])
    starts = range(0, len(ordered), batch_size)
    for start in track(starts, len(starts), "speech tokens, batches"):
        chunk = ordered[start : start + batch_size]
        padded = crops.pad_mels(list(islice(mels, len(chunk))))
        mel_BFM, lengths_B = (x.to(device) for x in padded)
        tokens_BL = model.tokens(mel_BFM, lengths_B).cpu().numpy().astype(np.int16)
        speakers_BE = model.speaker(mel_BFM, lengths_B).cpu().numpy()
        for utt_id, row, length, speaker in zip(
            chunk["utt_id"], tokens_BL, lengths_B.tolist(), speakers_BE, strict=True
        ):
            yield {"utt_id": utt_id, "tokens": row[:length].copy(), "speaker_embedding": speaker}


def _split(table: pd.DataFrame, name: str, root: Path) -> pd.DataFrame:
    rows = table[table["split"] == name]
    if rows.empty:
        raise HproError(
            f"{root}/corpus/utterances.parquet has no utterance in split {name!r}: "
            "add scenes to the corpus or change corpus.splits.dev_fraction in params.yaml"
        )
    return rows


def _dev_batches(dev_set: Sequence[Utterance], settings: Speech) -> dict[str, list[Crops]]:
    """Draw a few fixed dev batches per corpus, independent of the seed of the training."""
    batches: dict[str, list[Crops]] = {}
    for corpus, members in sorted(crops.by_corpus(dev_set).items(), key=lambda item: item[0]):
        sampler = CropSampler(members, settings.batch_size, settings.segment_s, seed=0)
        batches[corpus] = [sampler.batch_at(i) for i in range(_DEV_BATCHES)]
    return batches


def _dev_terms(
    model: TokenizerTraining, batches: dict[str, list[Crops]], settings: Speech
) -> dict[str, float]:
    """Compute mean terms over all dev batches, the mel term of each corpus and the used codes."""
    device = next(model.parameters()).device
    terms: dict[str, list[float]] = {}
    used: set[int] = set()
    for corpus, members in batches.items():
        for batch in (b.to(device) for b in members):
            values = training_terms(model, batch, settings)
            for name, value in [*values.items(), (f"mel_{corpus}", values["mel"])]:
                terms.setdefault(name, []).append(float(value))
            used.update(model.tokenizer.tokens(batch.mel_BFM, batch.lengths_B).flatten().tolist())
    return {n: float(np.mean(v)) for n, v in terms.items()} | {"codes_used": float(len(used))}
