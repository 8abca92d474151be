"""Krippendorff's alpha: how far raters agree about clips.

Source: K. Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", University of
Pennsylvania. Letters: N scores, U units (clips), C categories (the distinct scores).
"""

import numpy as np


def alpha(scores_N: np.ndarray, units_N: np.ndarray, level: str) -> float:
    """Compute alpha: 1 is perfect agreement, 0 that of chance.

    Units with one score do not count.

    Args:
        scores_N: scores; no rater scores a unit twice.
        units_N: unit of each score.
        level: "nominal", "ordinal" or "interval".

    Returns:
        alpha; NaN if no unit has two scores, or if all of these scores are equal.

    Raises:
        ValueError: an unknown level.
    """
    _, unit_N = np.unique(units_N, return_inverse=True)
    values_C, category_N = np.unique(scores_N, return_inverse=True)
    counts_UC = np.zeros((unit_N.max(initial=-1) + 1, len(values_C)))
    np.add.at(counts_UC, (unit_N, category_N), 1)
    counts_UC = counts_UC[counts_UC.sum(axis=1) > 1]
    per_unit_U1 = counts_UC.sum(axis=1, keepdims=True)
    coincidences_CC = counts_UC.T @ (counts_UC / np.maximum(per_unit_U1 - 1, 1))
    coincidences_CC -= np.diag((counts_UC / np.maximum(per_unit_U1 - 1, 1)).sum(axis=0))
    totals_C = coincidences_CC.sum(axis=1)
    n = totals_C.sum()
    distance_CC = _distances(values_C.astype(float), totals_C, level)
    expected = totals_C @ distance_CC @ totals_C
    if not expected:
        return float("nan")
    return float(1 - (n - 1) * (coincidences_CC * distance_CC).sum() / expected)


def _distances(values_C: np.ndarray, totals_C: np.ndarray, level: str) -> np.ndarray:
    """Squared differences of the categories, (C, C)."""
    if level == "nominal":
        return 1 - np.eye(len(values_C))
    if level == "ordinal":
        below_C = np.cumsum(totals_C) - totals_C / 2  # up to the middle of each category
        return np.subtract.outer(below_C, below_C) ** 2
    if level == "interval":
        return np.subtract.outer(values_C, values_C) ** 2
    raise ValueError(f"level {level!r}: use nominal, ordinal or interval")
