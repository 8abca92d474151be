"""Paired tests of two systems over seeds and utterances, and Holm's correction.

A difference is to hold for other trainings and for other sentences: seeds and utterances are both
samples. The test is min F' (Clark 1973, "The language-as-fixed-effect fallacy") in the form of
Student's t: the squared error of the difference is the one over seeds plus the one over utterances,
the degrees of freedom are Satterthwaite's. It errs towards caution: chance that belongs to one seed
on one utterance counts in both errors.

Not the bootstrap of `statistics.py`, which describes a system and is a poor judge of few seeds:
drawn from five, their spread comes out too small and has no tail. Where seeds differ more than
utterances (simulated, 5 by 100) it calls 15 % of null differences real at 5 %, and 4 to 7 % at
5 % / 27, the first threshold of Holm's method for 27 tests; min F' 5 % and 0.3 %.

Letters: S seeds, N utterances.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student

from hpro_core.errors import HproError
from hpro_core.evaluate.statistics import COVERAGE, Ratio


class Comparison(NamedTuple):
    """How much a system's figure is above a baseline's."""

    above: float
    lo: float  # of the 95 % interval
    hi: float
    p: float  # two-sided, for no difference
    seeds_agree: int  # seeds whose own difference has the sign of `above`


def compare(system: Ratio, baseline: Ratio) -> Comparison:
    """Test a system against a baseline on the same seeds and utterances.

    The interval excludes zero exactly when p is below 5 %. Without any spread (a policy that is its
    own baseline in every seed) the interval is a point, and p is 1 for no difference.

    Args:
        system: at least two seeds and two utterances.
        baseline: the same ones; seed k of both is one pair.

    Raises:
        HproError: there are fewer seeds or utterances.
        ValueError: the two have other utterances or seeds.
    """
    if system.above_SN.shape != baseline.above_SN.shape:
        raise ValueError(f"shapes differ: {system.above_SN.shape}, {baseline.above_SN.shape}")
    gap_SN = _scores(system) - _scores(baseline)
    if min(gap_SN.shape) < 2:
        seeds, utterances = gap_SN.shape
        raise HproError(f"a test needs 2 seeds and 2 utterances, not {seeds} and {utterances}")
    by_seed_S = gap_SN.mean(axis=1)
    above = float(gap_SN.mean())
    agreeing = int((np.sign(by_seed_S) == np.sign(above)).sum()) if above else 0
    error, freedom = _error(by_seed_S, gap_SN.mean(axis=0))
    if error == 0:
        return Comparison(above, above, above, float(above == 0), agreeing)
    half = float(student.ppf((1 + COVERAGE) / 2, freedom)) * error
    p = 2 * float(student.sf(abs(above) / error, freedom))
    return Comparison(above, above - half, above + half, p, agreeing)


def holm(p_values: Sequence[float]) -> list[float]:
    """P values corrected for their number (Holm 1979), in the order given.

    Where no difference is real, the chance that any falls below 5 % is at most 5 %, however the
    tests depend on each other.
    """
    raw = np.asarray(p_values, dtype=float)
    ascending = np.argsort(raw, kind="stable")
    scaled = raw[ascending] * np.arange(len(raw), 0, -1)
    corrected = np.empty_like(raw)
    corrected[ascending] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return corrected.tolist()


def _scores(ratio: Ratio) -> np.ndarray:
    """Float (S, N): scores whose mean is the ratio and whose spread is its own, to first order."""
    value = ratio.above_SN.sum() / ratio.below_SN.sum()
    return value + (ratio.above_SN - value * ratio.below_SN) / ratio.below_SN.mean()


def _error(by_seed_S: np.ndarray, by_utterance_N: np.ndarray) -> tuple[float, float]:
    """Standard error of the mean over both, and its degrees of freedom."""
    squared = [values.var(ddof=1) / len(values) for values in (by_seed_S, by_utterance_N)]
    total = sum(squared)
    if total == 0:
        return 0.0, 1.0
    freedoms = (len(by_seed_S) - 1, len(by_utterance_N) - 1)
    spent = sum(part**2 / freedom for part, freedom in zip(squared, freedoms, strict=True))
    return float(np.sqrt(total)), float(total**2 / spent)
