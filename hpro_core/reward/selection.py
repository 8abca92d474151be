"""Checkpoint selection by the quality of generated dev speech instead of by the loss.

The rule (ours; the paper gives none):

    Among the checkpoints whose WER is at most the initial policy's plus a margin, choose the one
    with the best mean of wVAD-CCC and EMO-SIM; of equal ones the earliest.

The initial policy is one of the checkpoints. The margin is the WER increase that a gain in
expressiveness may cost; if every checkpoint is worse, the initial policy is kept.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hpro_core.errors import HproError

MEASURES = ("wer", "wvad_ccc", "emo_sim")


@dataclass(frozen=True)
class Candidate:
    """The judges' scores of one checkpoint on dev sentences that it synthesised.

    Attributes:
        step: training step; the lowest is that of the initial policy.
        wer: word errors divided by words; 0.05 is 5 %.
        wvad_ccc: in [-1, 1].
        emo_sim: in [0, 1].
    """

    step: int
    wer: float
    wvad_ccc: float
    emo_sim: float


def choose(candidates: Sequence[Candidate], wer_margin: float) -> int:
    """Return the step of the checkpoint to keep.

    Args:
        candidates: scored checkpoints; the one with the lowest step is the initial policy.
        wer_margin: largest WER increase over the initial policy, in word errors per word.

    Raises:
        HproError: there are no candidates, or a score is not finite.
    """
    if not candidates:
        raise HproError("no checkpoint was judged, so none can be selected")
    for candidate in candidates:
        for name in MEASURES:
            if not math.isfinite(getattr(candidate, name)):
                raise HproError(
                    f"step {candidate.step}: {name} of the probe is {getattr(candidate, name)}: "
                    "check the sentences that were synthesised at this step"
                )
    ordered = sorted(candidates, key=lambda candidate: candidate.step)
    most = ordered[0].wer + wer_margin
    intelligible = [candidate for candidate in ordered if candidate.wer <= most]
    return max(intelligible, key=lambda c: (c.wvad_ccc + c.emo_sim) / 2).step  # the first of equals


def chosen_step(history: Mapping[int, Mapping[str, float]], wer_margin: float) -> int:
    """Apply `choose` to the metrics measured at each step."""
    candidates = [Candidate(step, *(m[name] for name in MEASURES)) for step, m in history.items()]
    return choose(candidates, wer_margin)
