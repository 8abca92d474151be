"""Concordance correlation and cosine similarity. Letters: W words, K dimensions."""

import numpy as np

_TINY = 1e-12


def ccc(first_WK: np.ndarray, second_WK: np.ndarray) -> np.ndarray:
    """Concordance correlation coefficient (Lin 1989) of each column, with population moments.

    Args:
        first_WK: float (W, K), at least one word.
        second_WK: float (W, K).

    Returns:
        float64 (K,) in [-1, 1]. Two equal series give 1, even if they are constant; a constant and
        a different series give 0.
    """
    first, second = np.float64(first_WK), np.float64(second_WK)
    gap = first.mean(axis=0) - second.mean(axis=0)
    covariance = np.mean((first - first.mean(axis=0)) * (second - second.mean(axis=0)), axis=0)
    total = first.var(axis=0) + second.var(axis=0) + gap**2
    return np.clip((2 * covariance + _TINY) / (total + _TINY), -1.0, 1.0)  # rounding


def cosine(first: np.ndarray, second: np.ndarray) -> float:
    """Cosine similarity of two vectors, in [-1, 1]; 0 if either is zero."""
    lengths = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / max(lengths, _TINY)
