"""Input and output types of the aligners."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class WordSpan:
    """One word in time.

    Attributes:
        word: as in the column `words` of the utterances.
        start_s, end_s: seconds from the start of the audio; end_s > start_s.
        score: the aligner's own, higher is better; None if it has none. pocketsphinx scores each
            word; MFA scores the utterance, and all its words have this value.
    """

    word: str
    start_s: float
    end_s: float
    score: float | None = None


class AlignmentRefused(Exception):
    """The words cannot be aligned with the audio; the message is the reason of the rejection."""


@dataclass(frozen=True)
class Job:
    """One utterance to align: 16 kHz mono audio and its normalised words."""

    utt_id: str
    speaker: str
    audio: Path
    words: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """Result of one job: one span per word, or the reason of the rejection.

    Attributes:
        utt_id: id of the utterance.
        spans: word spans in order; empty if the utterance is rejected.
        reason: reason of the rejection; empty if the utterance is aligned.
        unknown_words: words without an entry in the aligner's dictionary.
        pronounced: the unknown words that MFA's G2P model pronounced, with their phones.
    """

    utt_id: str
    spans: tuple[WordSpan, ...] = ()
    reason: str = ""
    unknown_words: tuple[str, ...] = ()
    pronounced: tuple[tuple[str, str], ...] = ()
