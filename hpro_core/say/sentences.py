"""Sentences to speak: their conditions, the checks of text and audio, and sentences.csv.

This module imports no torch, so that a wrong text or recording is reported at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpro_core.constants import EMOTIONS, SAMPLE_RATE_HZ
from hpro_core.corpus.audio import decode_file
from hpro_core.corpus.containers import Unusable
from hpro_core.corpus.sentence_csv import sentence_rows
from hpro_core.errors import HproError
from hpro_core.say.policy_folder import COSYVOICE2, EMBEDDED
from hpro_core.text.normalise import (
    COSYVOICE2_TAGS,
    normalised_words,
    transcript_problem,
    unknown_tags,
)

MIN_REFERENCE_S = 0.8
"""Shortest reference, in seconds: `corpus.min_duration_s` of the shipped settings."""

MAX_REFERENCE_S = 30.0
"""Longest reference, in seconds: the limit of S3 tokenizer v2."""

MAX_WORDS = 60
"""Most words of a sentence (ours): twice those of the longest utterance that is trained on."""

NAMED_EMOTIONS = tuple(name for name in EMOTIONS if name not in ("other", "unknown"))
"""Emotions that can be asked for."""

REQUIRED = ("text", "reference")
OPTIONAL = ("out", "reference_text", "like", "like_text", "emotion", "instruct")
"""Columns of sentences.csv."""


@dataclass(frozen=True)
class Sentence:
    """A sentence to speak.

    Attributes:
        text: the sentence.
        reference: recording of the voice.
        out: WAV file to write.
        reference_text: transcript of the reference; empty: unknown.
        like: recording whose way of speaking is to be continued; None: none.
        like_text: its transcript.
        emotion: one of NAMED_EMOTIONS, or empty.
        instruct: instruction in words, such as "Speak very fast.", or empty.
        where: its place, for messages.
    """

    text: str
    reference: Path
    out: Path
    reference_text: str = ""
    like: Path | None = None
    like_text: str = ""
    emotion: str = ""
    instruct: str = ""
    where: str = "the sentence"


def read_sentences(path: Path) -> list[Sentence]:
    """Read a CSV file with a sentence per row; its paths are relative to its folder.

    Columns are `REQUIRED` and any of `OPTIONAL`. Without `out` the audio of row n is
    `<name of the file>_<n>.wav` beside the file.

    Raises:
        HproError: the file is not readable or has no rows, a column is missing or unknown, or a
            cell of a required column is empty.
    """
    hint = "give a CSV file with the columns text and reference"
    rows = sentence_rows(path, REQUIRED, OPTIONAL, hint)
    return [
        _sentence(path, number, where, row) for number, (where, row) in enumerate(rows, start=1)
    ]


def _sentence(path: Path, number: int, where: str, row: dict[str, str]) -> Sentence:
    if empty := [name for name in REQUIRED if not row[name]]:
        raise HproError(f"{where}: {empty[0]} is empty: fill it in")
    if "\0" in "".join(row.values()):
        raise HproError(f"{where}: a cell has a null character: remove it")
    return Sentence(
        text=row["text"],
        reference=path.parent / row["reference"],
        out=path.parent / (row.get("out") or f"{path.stem}_{number}.wav"),
        reference_text=row.get("reference_text", ""),
        like=path.parent / row["like"] if row.get("like") else None,
        like_text=row.get("like_text", ""),
        emotion=row.get("emotion", ""),
        instruct=row.get("instruct", ""),
        where=where,
    )


def check(sentences: Sequence[Sentence], kind: str) -> None:
    """Check texts, conditions and output files before any model is loaded.

    Args:
        sentences: sentences to speak.
        kind: kind of the policy, see `policy_folder`.

    Raises:
        HproError: a text cannot be spoken, the policy has not been trained on a condition, or an
            output is not a WAV file of its own; the message names the sentence.
    """
    outs: dict[Path, str] = {}
    for sentence in sentences:
        _check_text(sentence, kind)
        if problem := _condition_problem(sentence, kind):
            raise HproError(f"{sentence.where}: {problem}")
        _check_out(sentence, outs)


def notes(sentences: Sequence[Sentence]) -> list[str]:
    """List bracketed text that is read as words, such as "[happy]"."""
    return [
        f"{sentence.where}: {mark} is read as words"
        for sentence in sentences
        for mark in unknown_tags(sentence.text)
    ]


def read_recordings(sentences: Sequence[Sentence]) -> dict[Path, np.ndarray]:
    """Read each recording that sentences name once; raises as `read_recording`."""
    found: dict[Path, np.ndarray] = {}
    for sentence in sentences:
        for path in (sentence.reference, sentence.like):
            if path is not None and path not in found:
                found[path] = read_recording(path, sentence.where)
    return found


def read_recording(path: Path, where: str) -> np.ndarray:
    """Read a recording of any format that soundfile reads, float32 (T,), 16 kHz mono.

    Raises:
        HproError: the file is missing, unreadable or silent, or shorter or longer than the limits.
    """
    if not path.is_file():
        raise HproError(f"{where}: {path} does not exist: name a recording of the voice")
    try:
        audio_T = decode_file(path, MAX_REFERENCE_S)
    except Unusable as error:
        raise HproError(
            f"{where}: {path}: {error}: use a recording of one speaker of {MIN_REFERENCE_S:g} to "
            f"{MAX_REFERENCE_S:g} s"
        ) from error
    seconds = len(audio_T) / SAMPLE_RATE_HZ
    if seconds < MIN_REFERENCE_S:
        raise HproError(
            f"{where}: {path} is too short ({seconds:.2f} s): use a recording of "
            f"{MIN_REFERENCE_S:g} to {MAX_REFERENCE_S:g} s"
        )
    return audio_T


def _check_text(sentence: Sentence, kind: str) -> None:
    if problem := transcript_problem(sentence.text):
        raise HproError(
            f"{sentence.where}: {sentence.text[:40]!r} is a {problem}: write English words in "
            "Latin letters"
        )
    count = len(normalised_words(sentence.text).split())
    if count > MAX_WORDS:
        raise HproError(
            f"{sentence.where}: {count} words are more than {MAX_WORDS}: split the text into "
            "sentences, one per row of a file for --csv"
        )
    if problem := _mark_problem(sentence.text, kind):
        raise HproError(f"{sentence.where}: {problem}")


def _mark_problem(text: str, kind: str) -> str:
    """Why a mark of CosyVoice2 in a text cannot be used; empty if there is none or it can."""
    for mark in COSYVOICE2_TAGS:
        if mark in text and kind == EMBEDDED:
            return f"{mark} is a mark of CosyVoice2, unknown to the embedded policy: remove it"
        if mark in text and mark.startswith("<|"):
            return f"{mark} is a control token: remove it; --instruct gives an instruction"
    return ""


def _condition_problem(sentence: Sentence, kind: str) -> str:
    """Why a policy cannot take the conditions of a sentence; empty if it can."""
    if kind == EMBEDDED:
        return _embedded_problem(sentence)
    asked = [
        name
        for name, value in (
            ("emotion", sentence.emotion),
            ("instruct", sentence.instruct),
            ("like", sentence.like),
            ("reference_text", sentence.reference_text),
        )
        if value
    ]
    if len(asked) > 1:
        return (
            f"{' and '.join(asked)} exclude each other: the text and speech before the sentence "
            "come from one of them; give one"
        )
    if sentence.emotion and sentence.emotion not in NAMED_EMOTIONS:
        return f"emotion {sentence.emotion!r} is unknown: use one of {', '.join(NAMED_EMOTIONS)}"
    if bool(sentence.like) != bool(sentence.like_text):
        return (
            "like and like_text are needed together: CosyVoice2 continues a recording whose text "
            "it knows"
        )
    return _prompt_problem(sentence)


def _prompt_problem(sentence: Sentence) -> str:
    for text in (sentence.reference_text, sentence.like_text, sentence.instruct):
        if text and (problem := transcript_problem(text)):
            return f"{text[:40]!r} is a {problem}"
        if problem := _mark_problem(text, COSYVOICE2):
            return problem
    return ""


def _embedded_problem(sentence: Sentence) -> str:
    if sentence.emotion or sentence.instruct:
        return (
            "the embedded policy has no input for an emotion or instruction: it was trained on "
            "phones and the speaker embedding of a reference; leave emotion and instruct out, or "
            "use a CosyVoice2 policy"
        )
    if sentence.like or sentence.like_text:
        return (
            "the embedded policy cannot speak like another recording: it was trained with "
            "references of the speaker in any emotion, so that a reference gives the voice only; "
            "leave like out, or use a CosyVoice2 policy"
        )
    if sentence.reference_text:
        return "the embedded policy takes the audio of the reference only: leave reference_text out"
    return ""


def _check_out(sentence: Sentence, outs: dict[Path, str]) -> None:
    out = sentence.out
    if out.suffix.lower() != ".wav" or out.is_dir():
        raise HproError(f"{sentence.where}: {out} is not the name of a .wav file: name one")
    place = out.resolve()
    if place in outs:
        raise HproError(
            f"{sentence.where}: {out} is the output of {outs[place]} too: name another file"
        )
    if place in [path.resolve() for path in (sentence.reference, sentence.like) if path]:
        raise HproError(f"{sentence.where}: {out} is its own reference: name another file")
    outs[place] = sentence.where
