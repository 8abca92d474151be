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


class AdditiveModel:
    """Least squares of score = system + rater + item, for given raters and items."""

    def __init__(
        self, systems_N: np.ndarray, raters_N: np.ndarray, items_N: np.ndarray, n_systems: int
    ) -> None:
        """Prepare the model.

        Args:
            systems_N: system of each score, int, from 0.
            raters_N: rater of each score, any sortable values.
            items_N: item of each score.
            n_systems: K.
        """
        _, self._raters_N = np.unique(raters_N, return_inverse=True)
        _, self._items_N = np.unique(items_N, return_inverse=True)
        n, n_raters = len(systems_N), int(self._raters_N.max(initial=-1)) + 1
        n_parameters = n_systems + n_raters + int(self._items_N.max(initial=-1)) + 1
        self._design_NP = np.zeros((n, n_parameters))
        self._design_NP[np.arange(n), systems_N] = 1
        self._design_NP[np.arange(n), n_systems + self._raters_N] = 1
        self._design_NP[np.arange(n), n_systems + n_raters + self._items_N] = 1
        self._gram_PP = self._design_NP.T @ self._design_NP
        self._inverse_PP, rank = _pseudo_inverse(self._gram_PP)
        self._freedom = n - rank

    def difference(self, scores_N: np.ndarray, system: int, baseline: int) -> Estimate:
        """Estimate the difference of scores, system minus baseline.

        NaN if no raters and items connect the two.
        """
        contrast_P = np.zeros(len(self._gram_PP))
        contrast_P[system] += 1
        contrast_P[baseline] -= 1
        solved_P = self._inverse_PP @ contrast_P
        if not np.allclose(self._gram_PP @ solved_P, contrast_P, atol=1e-6):
            return Estimate(NAN, NAN, NAN, NAN)
        weights_N = self._design_NP @ solved_P
        value = float(weights_N @ scores_N)
        if self._freedom <= 0:
            return Estimate(value, NAN, NAN, NAN)
        fitted_N = self._design_NP @ (self._inverse_PP @ (self._design_NP.T @ scores_N))
        influence_N = weights_N * (scores_N - fitted_N) * np.sqrt(len(scores_N) / self._freedom)
        return _estimate(value, influence_N, self._raters_N, self._items_N, 0.0)


def _pseudo_inverse(gram_PP: np.ndarray) -> tuple[np.ndarray, int]:
    """Moore-Penrose inverse of a symmetric matrix without negative eigenvalues, and its rank."""
    values_P, vectors_PP = np.linalg.eigh(gram_PP)
    kept_P = values_P > 1e-10 * values_P.max(initial=0.0)
    vectors_PP = vectors_PP[:, kept_P]
    return (vectors_PP / values_P[kept_P]) @ vectors_PP.T, int(kept_P.sum())


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
