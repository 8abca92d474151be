"""Which checkpoint to keep: by what its speech sounds like, not by its loss.

The rule (ours; the paper gives none, and users of CosyVoice ask for one):

    Among the checkpoints whose WER is at most the start's plus a margin, the one with the best mean
    of wVAD-CCC and EMO-SIM; of equal ones the earliest.

The start is one of them. So the margin is what expressiveness may cost in words, and a training
that only does harm gives back what it started from.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hpro_core.errors import HproError

MEASURES = ("wer", "wvad_ccc", "emo_sim")


@dataclass(frozen=True)
class Candidate:
    """A checkpoint, and what the judges heard in the dev sentences that it spoke."""

    step: int
    wer: float  # word errors over words, 0.05 is 5 %
    wvad_ccc: float  # in [-1, 1]
    emo_sim: float  # in [0, 1]


def choose(candidates: Sequence[Candidate], wer_margin: float) -> int:
    """The step of the checkpoint to keep.

    Args:
        candidates: the one with the lowest step is the start.
        wer_margin: how much WER, as a share of words, may rise over the start's.

    Raises:
        HproError: there are no candidates, or one has a measure that is not a number.
    """
    if not candidates:
        raise HproError("no checkpoint was judged: there is none to choose")
    for candidate in candidates:
        for name in MEASURES:
            if not math.isfinite(getattr(candidate, name)):
                raise HproError(
                    f"step {candidate.step}: {name} of the probe is {getattr(candidate, name)}: "
                    "look at the sentences that it spoke"
                )
    ordered = sorted(candidates, key=lambda candidate: candidate.step)
    most = ordered[0].wer + wer_margin
    intelligible = [candidate for candidate in ordered if candidate.wer <= most]
    return max(intelligible, key=lambda c: (c.wvad_ccc + c.emo_sim) / 2).step  # the first of equals


def chosen_step(history: Mapping[int, Mapping[str, float]], wer_margin: float) -> int:
    """`choose` out of what was measured at each step."""
    candidates = [Candidate(step, *(m[name] for name in MEASURES)) for step, m in history.items()]
    return choose(candidates, wer_margin)
