"""What an aligner backend is given and gives back."""

from dataclasses import dataclass
from pathlib import Path

from hpro_core.align.spans import WordSpan


@dataclass(frozen=True)
class Job:
    """One utterance to align: 16 kHz mono audio and its words."""

    utt_id: str
    speaker: str
    audio: Path
    words: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """One span per word, or the reason why there are none.

    Attributes:
        unknown_words: words without an entry in the aligner's dictionary.
        pronounced: those of them that MFA's G2P model read, with their phones.
    """

    utt_id: str
    spans: tuple[WordSpan, ...] = ()
    reason: str = ""
    unknown_words: tuple[str, ...] = ()
    pronounced: tuple[tuple[str, str], ...] = ()
