"""Means and differences of systems over crossed raters and items.

Each rater rates many items (sentences), and each item is rated by many raters. Both are random
samples: a result is to hold for other raters and other sentences. Scores of one rater are
correlated, and so are scores of one item.

Differences are contrasts of the additive least-squares model score = system + rater + item. In a
complete cycle of raters they equal the differences of the means. Variances are cluster-robust in
two ways (Cameron, Gelbach and Miller 2011, "Robust inference with multiway clustering", J. Business
& Economic Statistics 29): the variance over raters plus that over items minus that over single
scores, which are in both. They are valid also if the effect of a system differs between raters and
between items. Residuals are scaled for the fitted parameters, each of the first two terms by
G / (G - 1) for G clusters, and intervals are of Student's t with the smaller number of clusters
less one degrees of freedom, as these authors recommend. If the sum is not positive, the larger of
the first two terms is the variance.

`tests/test_listening_estimates.py` has the coverage on simulated raters. The pigeonhole bootstrap
(Owen 2007) was not taken, since it counts the variance of single scores three times, which is most
of the variance when a rater hears an item in one system only.

Letters: N scores, K systems, R raters, I items, P parameters.
"""

from typing import NamedTuple

import numpy as np
from scipy.stats import t as student

from hpro_core.analysis.statistics import COVERAGE

NAN = float("nan")


class Estimate(NamedTuple):
    """A value with its 95 % interval, and the two-sided p-value against `null`.

    NaN where nothing can be estimated; with fewer than two raters or items only the value is known.
    """

    value: float
    lo: float
    hi: float
    p: float


def mean(scores_N: np.ndarray, raters_N: np.ndarray, items_N: np.ndarray, null: float) -> Estimate:
    """Estimate the mean of scores.

    Args:
        scores_N: scores.
        raters_N: rater of each score, any hashable values.
        items_N: item of each score.
        null: value of the null hypothesis.
    """
    if not len(scores_N):
        return Estimate(NAN, NAN, NAN, NAN)
    value = float(scores_N.mean())
    influence_N = (scores_N - value) / len(scores_N)
    return _estimate(value, influence_N, raters_N, items_N, null)


class Comparisons:
    """The additive model of scores of several systems."""

    def __init__(
        self,
        scores_N: np.ndarray,
        systems_N: np.ndarray,
        raters_N: np.ndarray,
        items_N: np.ndarray,
        n_systems: int,
    ) -> None:
        """Fit the model.

        Args:
            scores_N: scores.
            systems_N: system of each score, int, from 0.
            raters_N: rater of each score.
            items_N: item of each score.
            n_systems: K.
        """
        _, rater_N = np.unique(raters_N, return_inverse=True)
        _, item_N = np.unique(items_N, return_inverse=True)
        self._scores_N, self._raters_N, self._items_N = scores_N, rater_N, item_N
        n, n_raters = len(scores_N), int(rater_N.max(initial=-1)) + 1
        n_parameters = n_systems + n_raters + int(item_N.max(initial=-1)) + 1
        design_NP = np.zeros((n, n_parameters))
        rows = np.arange(n)
        design_NP[rows, systems_N] = 1
        design_NP[rows, n_systems + rater_N] = 1
        design_NP[rows, n_systems + n_raters + item_N] = 1
        self._gram_PP = design_NP.T @ design_NP
        self._inverse_PP = np.linalg.pinv(self._gram_PP, hermitian=True)
        self._design_NP = design_NP
        rank = int(np.linalg.matrix_rank(self._gram_PP, hermitian=True))
        residuals_N = scores_N - design_NP @ (self._inverse_PP @ (design_NP.T @ scores_N))
        free = n - rank
        self._residuals_N = residuals_N * np.sqrt(n / free) if free > 0 else None

    def difference(self, system: int, baseline: int) -> Estimate:
        """Estimate the difference, system minus baseline; NaN if the scores do not connect them."""
        contrast_P = np.zeros(len(self._gram_PP))
        contrast_P[system] += 1
        contrast_P[baseline] -= 1
        solved_P = self._inverse_PP @ contrast_P
        if not np.allclose(self._gram_PP @ solved_P, contrast_P, atol=1e-6):
            return Estimate(NAN, NAN, NAN, NAN)
        weights_N = self._design_NP @ solved_P
        value = float(weights_N @ self._scores_N)
        if self._residuals_N is None:
            return Estimate(value, NAN, NAN, NAN)
        influence_N = weights_N * self._residuals_N
        return _estimate(value, influence_N, self._raters_N, self._items_N, 0.0)


def _estimate(
    value: float,
    influence_N: np.ndarray,
    raters_N: np.ndarray,
    items_N: np.ndarray,
    null: float,
) -> Estimate:
    """Interval and p-value from the influence of each score on a value."""
    (over_raters, n_raters), (over_items, n_items) = (
        _variance(influence_N, clusters_N) for clusters_N in (raters_N, items_N)
    )
    if min(n_raters, n_items) < 2:
        return Estimate(value, NAN, NAN, NAN)
    squared = over_raters + over_items - float(influence_N @ influence_N)
    if squared <= 0:
        squared = max(over_raters, over_items)
    if squared <= np.finfo(float).eps * max(1.0, value**2):  # all scores fit exactly
        return Estimate(value, value, value, float(bool(np.isclose(value, null))))
    error = float(np.sqrt(squared))
    freedom = min(n_raters, n_items) - 1
    half = float(student.ppf((1 + COVERAGE) / 2, freedom)) * error
    p = 2 * float(student.sf(abs(value - null) / error, freedom))
    return Estimate(value, value - half, value + half, p)


def _variance(influence_N: np.ndarray, clusters_N: np.ndarray) -> tuple[float, int]:
    """Sum of squared influences of clusters, times G / (G - 1), and G."""
    _, cluster_N = np.unique(clusters_N, return_inverse=True)
    sums = np.bincount(cluster_N, influence_N)
    n = len(sums)
    return float(sums @ sums) * n / max(n - 1, 1), n
