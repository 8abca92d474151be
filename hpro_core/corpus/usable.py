"""What can be used of a corpus: the one decision that a run and `hpro corpus check` share."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.corpus.audio import TooLong, decoded
from hpro_core.corpus.containers import Unusable
from hpro_core.corpus.recording import Fault, Recording, counted
from hpro_core.errors import HproError
from hpro_core.params import Corpus
from hpro_core.text.normalise import normalised_words, transcript_problem

ALONE = "speaker with one utterance"

MOST_WORDS_PER_S, SPARE_WORDS = 15, 10
"""No speech has more (ours; fast speech has eight a second): an aligner would take minutes to find
that a chapter is not in a clip."""


@dataclass(frozen=True)
class Clip:
    """A recording that can be used.

    Attributes:
        recording: as the reader gives it.
        words: normalised.
        samples_T: float32 (T,), 16 kHz mono; empty where nobody needs it any more.
        duration_s: in seconds.
    """

    recording: Recording
    words: str
    samples_T: np.ndarray
    duration_s: float


def examined(recording: Recording, corpus: Corpus) -> Clip | Fault:
    """Read the transcript of a recording and decode its audio.

    Args:
        recording: of a corpus whose ids are in order (`recording.refused`).
        corpus: limits of duration.

    Returns:
        The clip, or why it cannot be used; outside the limits it is left out, which is no fault.
    """
    name, place = recording.utterance, recording.place
    if problem := transcript_problem(recording.text):
        return Fault(name, problem, f"{place}: {recording.text}")
    try:
        samples_T = decoded(recording.audio, corpus.max_duration_s)
    except Unusable as found:
        return Fault(name, str(found), place, left_out=isinstance(found, TooLong))
    duration_s = len(samples_T) / SAMPLE_RATE_HZ
    if duration_s < corpus.min_duration_s:
        return Fault(name, f"shorter than {corpus.min_duration_s:g} s", place, left_out=True)
    words = normalised_words(recording.text)
    n_words = words.count(" ") + 1
    if n_words > MOST_WORDS_PER_S * duration_s + SPARE_WORDS:
        reason = f"more words than can be spoken: {n_words} in {duration_s:.1f} s"
        return Fault(name, reason, place)
    return Clip(recording, words, samples_T, duration_s)


def without_reference(clips: Sequence[Clip], left_out: Iterable[Recording]) -> list[Fault]:
    """The only clips of their speakers: zero-shot synthesis needs a reference.

    Args:
        clips: that can be used.
        left_out: recordings outside the limits of duration. Whose other ones these are is left out
            with them.
    """
    kept = Counter(clip.recording.speaker for clip in clips)
    outside = {recording.speaker for recording in left_out}
    return [
        Fault(
            clip.recording.utterance,
            ALONE,
            f"{clip.recording.place}: speaker {clip.recording.speaker!r}",
            left_out=clip.recording.speaker in outside,
        )
        for clip in clips
        if kept[clip.recording.speaker] == 1
    ]


def check_faults(faults: Iterable[Fault], n_entered: int, max_share: float, name: str) -> None:
    """Print what is left out and rejected; stop if nothing is left or too much is rejected.

    Args:
        faults: all of a corpus.
        n_entered: utterances that entered.
        max_share: the most that may be rejected, of those within the limits of duration.
        name: of the corpus.

    Raises:
        HproError: nothing is left, or the share is above `max_share`.
    """
    faults = list(faults)
    outside = [fault.reason for fault in faults if fault.left_out]
    rejected = [fault.reason for fault in faults if not fault.left_out]
    if outside:
        print(f"{name}: left out {len(outside)} of {n_entered}: {counted(outside)}")
    if rejected:
        print(f"{name}: rejected {len(rejected)} of {n_entered}: {counted(rejected)}")
    if problem := share_problem(faults, n_entered, max_share):
        raise HproError(f"corpus {name!r}: {problem}")


def share_problem(faults: Iterable[Fault], n_entered: int, max_share: float) -> str:
    """Why a run stops at the number of its faults; empty if it goes on."""
    faults = list(faults)
    rejected = [fault.reason for fault in faults if not fault.left_out]
    within = n_entered - (len(faults) - len(rejected))
    if len(faults) == n_entered:
        return f"no utterance is left ({counted([fault.reason for fault in faults])})"
    if len(rejected) > max_share * within:
        return (
            f"{len(rejected)} of {within} utterances rejected, more than "
            f"corpus.max_rejected_fraction {max_share} ({counted(rejected)}); correct the corpus "
            "or raise that setting"
        )
    return ""


def by_id(faults: Iterable[Fault], taken: Iterable[str]) -> dict[str, str]:
    """Faults as id -> reason; one whose id is taken gets another, since no fault may be lost.

    Args:
        faults: all of a corpus.
        taken: ids of its utterances that can be used.
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
