"""Input and output types of the aligners."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class WordSpan:
    """One word in time.

    pocketsphinx scores each word; MFA scores the utterance, and all its words have this value.
    """

    word: str  # as in the column `words` of the utterances
    start_s: float  # seconds from the start of the audio; end_s > start_s
    end_s: float  # seconds from the start of the audio; end_s > start_s
    score: float | None = None  # the aligner's own, higher is better; None if it has none


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
    """Result of one job: one span per word, or the reason of the rejection."""

    utt_id: str  # id of the utterance
    spans: tuple[WordSpan, ...] = ()  # word spans in order; empty if the utterance is rejected
    reason: str = ""  # reason of the rejection; empty if the utterance is aligned
    unknown_words: tuple[str, ...] = ()  # words without an entry in the aligner's dictionary
    pronounced: tuple[tuple[str, str], ...] = ()  # unknown words with the phones of MFA's G2P model
