"""Percentile bootstrap over utterances and seeds. Letters: S seeds, N utterances, B draws.

Every metric is a ratio of sums over utterances: word errors over words, or scores over their count.
Seeds and utterances are both resampled. One draw of utterances applies to all seeds, because every
seed has the same sentences (crossed design). With one seed this is the ordinary bootstrap.
"""

from typing import NamedTuple

import numpy as np

COVERAGE = 0.95


class Interval(NamedTuple):
    """A metric value with the ends of its 95 % interval."""

    value: float
    lo: float
    hi: float


class Ratio(NamedTuple):
    """Numerators and denominators of a metric, per seed and utterance, both float (S, N)."""

    numerator_SN: np.ndarray
    denominator_SN: np.ndarray

    @classmethod
    def mean_of(cls, scores_SN: np.ndarray) -> "Ratio":
        """Return the ratio that equals the mean of scores, float (S, N)."""
        return cls(scores_SN.astype(float), np.ones(scores_SN.shape))

    @property
    def value(self) -> float:
        """The metric over all seeds and utterances; NaN if the denominators sum to 0."""
        below = self.denominator_SN.sum()
        return float(self.numerator_SN.sum() / below) if below else float("nan")


def interval(ratio: Ratio, draws: int, seed: int) -> Interval:
    """Compute a metric and its 95 % interval, from `draws` resamples of seeds and utterances.

    All three are NaN if the denominators sum to 0.
    """
    return _interval(ratio.value, _resampled(ratio, draws, seed))


def paired_difference(system: Ratio, baseline: Ratio, draws: int, seed: int) -> Interval:
    """Compute the difference, system minus baseline, on the same utterances and seeds.

    Raises:
        ValueError: the numbers of seeds or utterances differ.
    """
    if system.numerator_SN.shape != baseline.numerator_SN.shape:
        raise ValueError(
            f"shapes differ: {system.numerator_SN.shape}, {baseline.numerator_SN.shape}"
        )
    both = (_resampled(ratio, draws, seed) for ratio in (system, baseline))
    return _interval(system.value - baseline.value, np.subtract(*both))


def _resampled(ratio: Ratio, draws: int, seed: int) -> np.ndarray:
    """The metric in each draw, float (B,). Draws depend only on the shape and the seed.

    NaN in a draw whose denominators sum to 0.
    """
    n_seeds, n_utterances = ratio.numerator_SN.shape
    if not n_utterances:
        return np.full(draws, np.nan)
    generator = np.random.default_rng(seed)
    drawn_BN = generator.integers(n_utterances, size=(draws, n_utterances))
    drawn_BS = generator.integers(n_seeds, size=(draws, n_seeds))
    times_BN = np.stack([np.bincount(drawn, minlength=n_utterances) for drawn in drawn_BN])
    times_BS = np.stack([np.bincount(drawn, minlength=n_seeds) for drawn in drawn_BS])
    above_B = np.einsum("bs,sn,bn->b", times_BS, ratio.numerator_SN, times_BN, optimize=True)
    below_B = np.einsum("bs,sn,bn->b", times_BS, ratio.denominator_SN, times_BN, optimize=True)
    return np.divide(above_B, below_B, out=np.full(draws, np.nan), where=below_B > 0)


def _interval(value: float, resampled_B: np.ndarray) -> Interval:
    tail = (1 - COVERAGE) / 2
    defined_B = resampled_B[~np.isnan(resampled_B)]
    if not len(defined_B):
        return Interval(value, float("nan"), float("nan"))
    lo, hi = np.quantile(defined_B, (tail, 1 - tail))
    return Interval(value, float(lo), float(hi))
