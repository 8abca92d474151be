"""What every aligner returns: the words of one utterance with their times, or a reason why not."""

from dataclasses import dataclass


@dataclass(frozen=True)
class WordSpan:
    """One word in time.

    Attributes:
        word: as in the column `words` of the utterances.
        start_s, end_s: seconds from the start of the audio; end_s > start_s.
        score: the aligner's own, higher is better; None where it gives none. Pocketsphinx scores
            words, MFA an utterance: then all its words have the same.
    """

    word: str
    start_s: float
    end_s: float
    score: float | None = None


class AlignmentRefused(Exception):
    """The words cannot be placed in the audio; the message says why. The utterance is rejected."""

    @property
    def reason(self) -> str:
        return str(self)
