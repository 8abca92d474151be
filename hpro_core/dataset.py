"""The dataset stage: writes one Parquet per split with all training data. Training needs no audio.

An Arrow file with the same content is beside each; trainings map it into memory
(`hpro_core.train.example_file`).
"""

from collections import Counter
from collections.abc import Collection, Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hpro_core.constants import EMOTIONS, N_SPEECH_TOKENS, TOKEN_RATE_HZ, VAD
from hpro_core.errors import HproError
from hpro_core.params import Dataset
from hpro_core.shards import folder_of
from hpro_core.tables import (
    DATASET,
    EMOTION_POSTERIORS,
    REJECTED,
    SPEECH_TOKENS,
    TRAINING_SPLITS,
    UTTERANCES,
    WORD_VAD,
    WORDS,
    check_columns,
    check_rejected,
    check_split,
    empty,
    read_table,
    rejected,
    without_reference,
    write_table,
)
from hpro_core.text.tokenizers import Frontend, load_frontend
from hpro_core.train.example_file import open_examples, split_files, write_examples
from hpro_core.train.examples import MappedExamples

_DURATION_TOLERANCE_S = 0.25  # ours: tokenizers pad or cut an utterance by a few frames


class Unusable(Exception):
    """The utterance cannot be in the dataset; the message is the reason."""


def build(root: Path, settings: Dataset, shard: int | None = None) -> None:
    """Join utterances, words, labels and tokens: dataset/{train,dev,test,rejected}.parquet.

    Without `shard` it also writes dataset/{train,dev,test}.arrow; with shards,
    `hpro gather-dataset` writes them.

    Utterances of the split `judge` are not part of the dataset and not counted as rejected. Every
    other utterance is in a split's table or in dataset/rejected.parquet.

    Args:
        root: results folder of the run.
        settings: section `dataset`.
        shard: join only this shard (hpro_core.shards); its splits may be empty.

    Raises:
        HproError: a table is missing or invalid; without `shard` also, a split has no utterances,
            or the rejected fraction exceeds `max_rejected_fraction`.
    """
    utterances = read_table(folder_of(root, "corpus", shard) / "utterances.parquet", UTTERANCES)
    entering = utterances[utterances["split"].isin(TRAINING_SPLITS)]
    parts = _parts(root, shard)
    frontend = load_frontend(settings.policy_text, settings.codec_text)
    rows: dict[str, list[dict]] = {split: [] for split in TRAINING_SPLITS}
    lost: dict[str, str] = {}
    for utterance in entering.to_dict("records"):
        try:
            rows[utterance["split"]].append(_row(utterance, parts, frontend))
        except Unusable as reason:
            lost[utterance["utt_id"]] = str(reason)
    # The split stage ensures references, but a later stage may have rejected the reference.
    lost |= without_reference(entering[~entering["utt_id"].isin(lost)])
    rows["test"] = [row for row in rows["test"] if row["utt_id"] not in lost]
    reasons = ", ".join(f"{n} {reason}" for reason, n in Counter(lost.values()).most_common(5))
    used = len(entering) - len(lost)
    print(f"dataset: {used} of {len(entering)} utterances; rejected: {reasons or 0}")
    folder = folder_of(root, "dataset", shard)
    if shard is None:
        check_rejected(lost.items(), "dataset", len(entering), settings.max_rejected_fraction)
    for split, kept in rows.items():
        path = folder / f"{split}.parquet"
        if shard is None:
            check_split(path, len(kept))
        write_table(pd.DataFrame(kept) if kept else empty(DATASET), path, DATASET)
        if shard is None:
            write_examples(path)
    write_table(rejected(lost.items(), "dataset"), folder / "rejected.parquet", REJECTED)


def load(path: Path, leave_out: Collection[str] = ()) -> MappedExamples:
    """Map one split of the dataset into memory; utterances are read on access.

    Args:
        path: `dataset/<split>.parquet` of a run.
        leave_out: corpora to exclude.

    Raises:
        HproError: the table or its Arrow file is missing or broken, or they do not match.
    """
    check_columns(path, DATASET)
    examples = open_examples(path)
    return examples.without(leave_out) if leave_out else examples


def train_dev(
    root: Path, leave_out: Collection[str], section: str
) -> tuple[MappedExamples, MappedExamples]:
    """Map the utterances that a training uses into memory.

    Args:
        root: results folder of the run.
        leave_out: corpora to exclude.
        section: section of the settings that excludes them, for the error message.

    Returns:
        Utterances of train and of dev.

    Raises:
        HproError: no utterance is left in one of them, or what `load` raises.
    """
    train, dev = (load(path, leave_out) for path in split_files(root)[:2])
    if not train or not dev:
        raise HproError(
            f"{section}.leave_out in params.yaml is {leave_out}, and nothing is left to "
            f"learn from in {root / 'dataset'}: remove a corpus from the list"
        )
    return train, dev


def _parts(root: Path, shard: int | None) -> dict[str, dict]:
    """Outputs of other stages: name of the part -> utt_id -> value."""
    aligned, labelled, speech_tokens = (
        folder_of(root, stage, shard) for stage in ("align", "label", "speech")
    )
    words = read_table(aligned / "words.parquet", WORDS)
    vad = read_table(labelled / "word_vad.parquet", WORD_VAD)
    emotion = read_table(labelled / "emotion_posteriors.parquet", EMOTION_POSTERIORS)
    tokens = read_table(speech_tokens / "speech_tokens.parquet", SPEECH_TOKENS)
    return {
        "word times": _values_by_utterance(words, ["word_index", "start_s", "end_s"]),
        "word labels": _values_by_utterance(vad, list(VAD)),
        "emotion label": dict(zip(emotion["utt_id"], emotion[list(EMOTIONS)].values, strict=True)),
        "speech tokens": {row["utt_id"]: row for row in tokens.to_dict("records")},
    }


def _values_by_utterance(of_words: pd.DataFrame, columns: list[str]) -> dict[str, np.ndarray]:
    """utt_id -> columns of a table of words, float64 (words, columns), in word order."""
    ordered = of_words.sort_values(["utt_id", "word_index"])
    utt_ids, starts = np.unique(ordered["utt_id"].to_numpy(dtype=str), return_index=True)
    values = ordered[columns].to_numpy(dtype=np.float64)
    return dict(zip(utt_ids.tolist(), np.split(values, starts)[1:], strict=True))


def _row(utterance: Mapping[Hashable, Any], parts: dict[str, dict], frontend: Frontend) -> dict:
    for part, known in parts.items():
        if utterance["utt_id"] not in known:
            raise Unusable(f"no {part}")
    of_parts = {part: known[utterance["utt_id"]] for part, known in parts.items()}
    n_words = len(utterance["words"].split())
    spans_s = _spans(of_parts["word times"], n_words, utterance["duration_s"])
    if len(of_parts["word labels"]) != n_words:
        raise Unusable(f"{len(of_parts['word labels'])} word labels for {n_words} words")
    symbols, symbol_word, transcript = _encoded(utterance["text"], utterance["words"], frontend)
    return {
        **{name: utterance[name] for name in ("utt_id", "corpus", "speaker", "text", "words")},
        "n_words": n_words,
        "symbols": symbols,
        "symbol_word": symbol_word,
        "transcript": transcript,
        "tokens": _tokens(of_parts["speech tokens"]["tokens"], utterance["duration_s"]),
        "speaker_embedding": _embedding(of_parts["speech tokens"]["speaker_embedding"]),
        "emotion": np.asarray(of_parts["emotion label"], dtype=np.float32),
        "word_start_s": spans_s[:, 0],
        "word_end_s": spans_s[:, 1],
        "word_vad": of_parts["word labels"].astype(np.float32).ravel(),
    }


def _spans(words: np.ndarray, n_words: int, duration_s: float) -> np.ndarray:
    """Start and end of each word within the utterance, (n_words, 2), from (index, start, end)."""
    if words[:, 0].tolist() != list(range(n_words)):
        raise Unusable(f"{len(words)} word times for {n_words} words")
    spans_s = np.clip(words[:, 1:], 0.0, duration_s)
    if (spans_s[:, 1] <= spans_s[:, 0]).any():
        raise Unusable("a word lies beyond the end of the audio")
    return spans_s


def _encoded(
    text: str, words: str, frontend: Frontend
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    try:
        symbols, symbol_word = frontend.policy(text, words)
        transcript = frontend.codec(text, words)
    except HproError as error:
        raise Unusable(str(error)) from error
    return (
        np.asarray(symbols, dtype=np.int32),
        np.asarray(symbol_word, dtype=np.int16),
        np.asarray(transcript, dtype=np.int32),
    )


def _tokens(tokens: np.ndarray, duration_s: float) -> np.ndarray:
    """Speech tokens as int16, after checks of their range and number."""
    tokens = np.asarray(tokens)
    if not len(tokens) or tokens.min() < 0 or tokens.max() >= N_SPEECH_TOKENS:
        raise Unusable(f"speech tokens are empty or outside 0..{N_SPEECH_TOKENS - 1}")
    if abs(len(tokens) / TOKEN_RATE_HZ - duration_s) > _DURATION_TOLERANCE_S:
        raise Unusable(f"{len(tokens)} speech tokens do not fit {duration_s:.2f} s of audio")
    return tokens.astype(np.int16)


def _embedding(embedding: np.ndarray) -> np.ndarray:
    embedding = np.asarray(embedding, dtype=np.float32)
    if not len(embedding) or not np.isfinite(embedding).all():
        raise Unusable("the speaker embedding is empty or not finite")
    return embedding
