"""Output types of the aligners: words with times, or the reason of a refusal."""

from dataclasses import dataclass


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

    @property
    def reason(self) -> str:
        return str(self)
