"""Input and output types of the aligner backends."""

from dataclasses import dataclass
from pathlib import Path

from hpro_core.align.spans import WordSpan


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
