"""Decides which utterances of a corpus are usable, for a run and for `hpro corpus check`."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.corpus.audio import TooLong, decode_file
from hpro_core.corpus.containers import Unusable
from hpro_core.corpus.recording import Fault, Recording, format_counts
from hpro_core.errors import HproError
from hpro_core.params import Corpus
from hpro_core.progress import track
from hpro_core.text.normalise import normalised_words, transcript_problem

SINGLE_UTTERANCE = "speaker with one utterance"

MAX_WORDS_PER_S, SPARE_WORDS = 15, 10
"""Limit of words per clip (ours; fast speech has eight words a second). Without it an aligner takes
minutes to reject a clip with the text of a whole chapter."""


@dataclass(frozen=True)
class Clip:
    """A usable recording."""

    recording: Recording  # output of the reader
    words: str  # normalised words
    samples_T: np.ndarray  # float32 (T,), 16 kHz mono; empty once they are no longer needed
    duration_s: float  # duration in seconds


def check_recording(recording: Recording, corpus: Corpus) -> Clip | Fault:
    """Check the transcript of a recording and decode its audio.

    Args:
        recording: a recording of a corpus whose ids were checked (`recording.metadata_faults`).
        corpus: limits of duration.

    Returns:
        The clip, or the fault that makes it unusable. A clip outside the limits of duration has
        `left_out` set.
    """
    name, place = recording.utterance, recording.place
    if problem := transcript_problem(recording.text):
        return Fault(name, problem, f"{place}: {recording.text}")
    try:
        samples_T = decode_file(recording.audio, corpus.max_duration_s)
    except Unusable as found:
        return Fault(name, str(found), place, left_out=isinstance(found, TooLong))
    duration_s = len(samples_T) / SAMPLE_RATE_HZ
    if duration_s < corpus.min_duration_s:
        return Fault(name, f"shorter than {corpus.min_duration_s:g} s", place, left_out=True)
    words = normalised_words(recording.text)
    n_words = words.count(" ") + 1
    if n_words > MAX_WORDS_PER_S * duration_s + SPARE_WORDS:
        reason = f"more words than can be spoken: {n_words} in {duration_s:.1f} s"
        return Fault(name, reason, place)
    return Clip(recording, words, samples_T, duration_s)


def sifted(
    entries: Sequence[Recording | Fault],
    corpus: Corpus,
    label: str,
    keep: Callable[[Clip], object] = lambda clip: None,
) -> tuple[list[Clip], list[Fault]]:
    """Examine the utterances of a corpus; return the usable clips, and a fault for each other.

    Args:
        entries: output of a reader, without the faults of metadata and without duplicate ids.
        corpus: limits of duration.
        label: label of the progress line.
        keep: called with each usable clip, whose samples are dropped afterwards. Such a clip is in
            the faults if it is its speaker's only one.
    """
    clips: list[Clip] = []
    faults: list[Fault] = []
    outside: list[Recording] = []
    for entry in track(entries, len(entries), label):
        outcome = entry if isinstance(entry, Fault) else check_recording(entry, corpus)
        if isinstance(outcome, Clip):
            keep(outcome)
            clips.append(replace(outcome, samples_T=outcome.samples_T[:0]))
            continue
        faults.append(outcome)
        if isinstance(entry, Recording) and outcome.left_out:
            outside.append(entry)
    alone = without_reference(clips, outside)
    ids = {fault.utterance for fault in alone}
    return [clip for clip in clips if clip.recording.utterance not in ids], [*faults, *alone]


def without_reference(clips: Sequence[Clip], left_out: Iterable[Recording]) -> list[Fault]:
    """Return a fault for each clip that is its speaker's only one.

    Zero-shot synthesis needs a second clip as reference.

    Args:
        clips: usable clips.
        left_out: recordings outside the limits of duration. A speaker's only clip is also left out
            if the speaker has one of these.
    """
    kept = Counter(clip.recording.speaker for clip in clips)
    outside = {recording.speaker for recording in left_out}
    return [
        Fault(
            clip.recording.utterance,
            SINGLE_UTTERANCE,
            f"{clip.recording.place}: speaker {clip.recording.speaker!r}",
            left_out=clip.recording.speaker in outside,
        )
        for clip in clips
        if kept[clip.recording.speaker] == 1
    ]


def check_faults(faults: Iterable[Fault], n_entered: int, max_fraction: float, name: str) -> None:
    """Print the numbers of utterances left out and rejected, and check the rejected fraction.

    `max_fraction` is the largest rejected fraction of the utterances within the limits of duration.

    Raises:
        HproError: no utterance is left, or the rejected fraction exceeds `max_fraction`.
    """
    faults = list(faults)
    outside = [fault.reason for fault in faults if fault.left_out]
    rejected = [fault.reason for fault in faults if not fault.left_out]
    if outside:
        print(f"{name}: left out {len(outside)} of {n_entered}: {format_counts(outside)}")
    if rejected:
        print(f"{name}: rejected {len(rejected)} of {n_entered}: {format_counts(rejected)}")
    if problem := rejection_problem(faults, n_entered, max_fraction):
        raise HproError(f"corpus {name!r}: {problem}")


def rejection_problem(faults: Iterable[Fault], n_entered: int, max_fraction: float) -> str:
    """Return why a run stops because of the number of faults; empty if it continues."""
    faults = list(faults)
    rejected = [fault.reason for fault in faults if not fault.left_out]
    within = n_entered - (len(faults) - len(rejected))
    if len(faults) == n_entered:
        return f"no utterance is left ({format_counts([fault.reason for fault in faults])})"
    if len(rejected) > max_fraction * within:
        return (
            f"{len(rejected)} of {within} utterances rejected, more than "
            f"corpus.max_rejected_fraction {max_fraction} ({format_counts(rejected)}); correct the "
            "corpus or raise this setting"
        )
    return ""


def reasons_by_id(faults: Iterable[Fault], taken: Iterable[str]) -> dict[str, str]:
    """Return id -> reason of faults; a fault whose id is taken gets a numbered id.

    `taken` are the ids of usable utterances; the ids of earlier faults are taken too.
    """
    used = set(taken)
    reasons: dict[str, str] = {}
    for fault in faults:
        name, number = fault.utterance, 2
        while name in used:
            name = f"{fault.utterance}~{number}"
            number += 1
        used.add(name)
        reasons[name] = fault.reason
    return reasons
