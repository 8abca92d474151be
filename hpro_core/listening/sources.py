"""Audio and sentences of a listening test: of a run, or of folders with a list."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpro_core.constants import EMOTIONS, SAMPLE_RATE_HZ
from hpro_core.corpus.audio import MAX_DURATION_S, decode_file
from hpro_core.corpus.containers import Unusable
from hpro_core.corpus.walk import entries_of, is_folder
from hpro_core.errors import HproError, did_you_mean
from hpro_core.io import RERUN_HINT, read_wav
from hpro_core.judges.audio_lists import ListedSentence, read_list
from hpro_core.synthesis.external import files_by_sentence
from hpro_core.synthesis.imported import by_reason
from hpro_core.tables import SYNTHESIS, UTTERANCES, read_table

RECORDINGS = "recordings"
"""Name of the hidden reference."""

ANCHOR = "anchor"
"""Name of the low anchor."""

TRAINING = ("good", "bad", "tones")
"""Clips of the training."""

DEFAULT_SYSTEMS = ("sft", "hpro")
"""Systems of a run that are compared unless others are named."""

_NOT_ASKED = ("other", "unknown")


@dataclass(frozen=True)
class Spoken:
    """A sentence and its audio by each system.

    Attributes:
        utt_id: id of the sentence.
        text: the sentence.
        test_set: test set of the run or list.
        emotion: intended emotion; empty if there is none, or it is "other" or "unknown".
        audio: system -> file.
    """

    utt_id: str
    text: str
    test_set: str
    emotion: str
    audio: Mapping[str, Path]


@dataclass(frozen=True)
class Material:
    """What a test can be built from.

    Attributes:
        systems: systems to compare, in the given order, without reference and anchor.
        has_recordings: whether every sentence has a recording.
        sentences: those that all systems have.
        left_out: notes on the others.
        of_run: whether the audio is of a run: WAV files of this project.
    """

    systems: tuple[str, ...]
    has_recordings: bool
    sentences: tuple[Spoken, ...]
    left_out: tuple[str, ...]
    of_run: bool


def of_run(root: Path, systems: Sequence[str]) -> Material:
    """Collect the test sentences of a finished run, with the first seed of each system.

    Args:
        root: results folder.
        systems: systems to compare; empty: those of `DEFAULT_SYSTEMS` that the run has.

    Raises:
        HproError: the folder is no finished run, or lacks a system.
    """
    there = {name: path for name in _folders(root / "eval") if (path := _synthesis(root, name))}
    if RECORDINGS not in there:
        raise HproError(
            f"{root} has no eval/{RECORDINGS}/seed*/synthesis.parquet: name the results folder of "
            "a finished run"
        )
    named = list(systems) or [name for name in DEFAULT_SYSTEMS if name in there]
    _check_names(named)
    for name in named:
        if name not in there:
            known = [each for each in there if each != RECORDINGS]
            raise HproError(
                f"{root} has no synthesised system {name!r} (it has {', '.join(known)})"
                f"{did_you_mean(name, known)}"
            )
    if not named:
        raise HproError(f"{root} has neither of {', '.join(DEFAULT_SYSTEMS)}: name systems")
    tables = {name: read_table(there[name], SYNTHESIS) for name in (RECORDINGS, *named)}
    audio = {
        name: {row["utt_id"]: root / row["audio"] for row in table.to_dict("records")}
        for name, table in tables.items()
    }
    utterances = read_table(root / "corpus" / "utterances.parquet", UTTERANCES)
    emotions = dict(zip(utterances["utt_id"], utterances["emotion"], strict=True))
    listed = [
        (row["utt_id"], row["text"], row["corpus"], emotions.get(row["utt_id"]))
        for row in tables[RECORDINGS].to_dict("records")
    ]
    return _material(named, listed, audio, of_run=True)


def of_folders(folders: Mapping[str, Path], list_path: Path) -> Material:
    """Collect the sentences of a list, spoken into folders of audio.

    Args:
        folders: system -> folder of its audio files, named by the ids of the list.
        list_path: list of sentences, as for `hpro judge --audio`.

    Raises:
        HproError: the list or a folder is not usable.
    """
    _check_names(list(folders))
    sentences = read_list(list_path)
    ids = [sentence.utt_id for sentence in sentences]
    audio: dict[str, dict[str, Path]] = {}
    if recorded := {s.utt_id: s.recording for s in sentences if s.recording is not None}:
        audio[RECORDINGS] = recorded
    for name, folder in folders.items():
        files, _ = files_by_sentence(folder, ids)
        for utt_id, found in files.items():
            if len(found) > 1:
                raise HproError(
                    f"{folder}: several audio files of {utt_id} "
                    f"({', '.join(path.name for path in found)}): keep one"
                )
        audio[name] = {utt_id: found[0] for utt_id, found in files.items()}
    listed = [(s.utt_id, s.text, s.test_set, _emotion(s)) for s in sentences]
    return _material(list(folders), listed, audio, of_run=False)


def _emotion(sentence: ListedSentence) -> str:
    if sentence.emotion and sentence.emotion not in EMOTIONS:
        raise HproError(
            f"{sentence.where}: the emotion {sentence.emotion[:80]!r} is unknown: use "
            f"{', '.join(EMOTIONS)}"
        )
    return sentence.emotion


def _material(
    systems: Sequence[str],
    listed: Sequence[tuple[str, str, str, object]],
    audio: Mapping[str, Mapping[str, Path]],
    of_run: bool,
) -> Material:
    lost = {
        utt_id: f"without audio of {name}"
        for name in reversed(list(audio))
        for utt_id, *_ in listed
        if utt_id not in audio[name]
    }
    kept = tuple(
        Spoken(
            utt_id,
            text,
            test_set,
            emotion if isinstance(emotion, str) and emotion not in _NOT_ASKED else "",
            {name: files[utt_id] for name, files in audio.items()},
        )
        for utt_id, text, test_set, emotion in listed
        if utt_id not in lost
    )
    if not kept:
        raise HproError(
            f"{', '.join(audio)} have no sentence in common ({'; '.join(by_reason(lost))})"
        )
    return Material(tuple(systems), RECORDINGS in audio, kept, tuple(by_reason(lost)), of_run)


def read_clip(material: Material, path: Path) -> np.ndarray:
    """Read a clip as float (T,), mono, at 16 kHz. Silence of a system of a run is kept.

    Raises:
        HproError: the file is not usable; the message gives the reason.
    """
    if material.of_run:
        return read_wav(path, SAMPLE_RATE_HZ, RERUN_HINT)
    try:
        return decode_file(path, MAX_DURATION_S)
    except Unusable as error:
        raise HproError(f"{path}: {error}: correct it, or remove it to leave it out") from error


def _check_names(systems: Sequence[str]) -> None:
    for name in systems:
        if name in (RECORDINGS, ANCHOR):
            raise HproError(
                f"{name!r} is not a system to compare: recordings and anchor are in every test"
            )
        if systems.count(name) > 1:
            raise HproError(f"the system {name!r} is given twice")


def _folders(folder: Path) -> list[str]:
    if not os.path.isdir(folder):
        raise HproError(f"{folder} is not a folder: name the results folder of a finished run")
    return sorted(entry.name for entry in entries_of(folder) if is_folder(entry))


def _synthesis(root: Path, system: str) -> Path | None:
    """The table of the first seed of a system."""
    found = sorted(
        root.glob(f"eval/{system}/seed*/synthesis.parquet"),
        key=lambda path: (len(path.parent.name), path.parent.name),
    )
    return found[0] if found else None
