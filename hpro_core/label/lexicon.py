"""Affective word norms: valence, arousal and dominance ratings of words.

The norms are those of Warriner, Kuperman and Brysbaert (2013): 13,915 English lemmas, rated from 1
to 9. They come as data from a package (hpro_core/pretrained/weights.csv) and are not part of this
project.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hpro_core.errors import HproError
from hpro_core.io import read_text
from hpro_core.pretrained.weights import find_weights

NORMS_FILE = Path("warriner") / "BRM-emot-submit.csv"
"""Path of the norms in the weights folder."""

_COLUMNS = ("V.Mean.Sum", "A.Mean.Sum", "D.Mean.Sum")
_SUFFIXES = (
    ("'s", ""),
    ("'", ""),
    ("ies", "y"),
    ("es", ""),
    ("s", ""),
    ("ied", "y"),
    ("ed", ""),
    ("ed", "e"),
    ("ing", ""),
    ("ing", "e"),
    ("in'", ""),
    ("ly", ""),
    ("er", ""),
    ("est", ""),
)


class Lexicon:
    """Standardised affective norms of words."""

    def __init__(self, norms: dict[str, np.ndarray]):
        """
        Args:
            norms: valence, arousal, dominance by lower-case word, float (3,), on any scale.
        """
        ratings = np.stack(list(norms.values()))
        self._mean_3 = ratings.mean(axis=0)
        self._sd_3 = ratings.std(axis=0)
        self._norms = norms

    @classmethod
    def read(cls, weights: Path) -> "Lexicon":
        """Read the norms from the weights folder.

        Raises:
            HproError: the file is missing, or its columns or values are not those of the norms.
        """
        path = find_weights(NORMS_FILE.parts[0], weights) / NORMS_FILE.name
        rows = list(csv.DictReader(read_text(path, "run `hpro weights fetch`").splitlines()))
        try:
            return cls({r["Word"].lower(): np.array([float(r[c]) for c in _COLUMNS]) for r in rows})
        except (KeyError, ValueError, TypeError) as error:
            raise HproError(
                f"{path} does not hold the norms ({error}): delete it and run `hpro weights fetch`"
            ) from error

    def deviations(self, words: tuple[str, ...]) -> np.ndarray:
        """Compute the z-scores of the norms of words.

        Args:
            words: lower-case words; inflected forms are looked up by their stem, by rule (ours).

        Returns:
            float64 (W, 3), deviations from the mean word in standard deviations; zero (neutral) for
            words without norms, such as most function words.
        """
        return np.stack([self._deviation(word) for word in words])

    def _deviation(self, word: str) -> np.ndarray:
        for form in _forms(word):
            if form in self._norms:
                return (self._norms[form] - self._mean_3) / self._sd_3
        return np.zeros(3)


def _forms(word: str) -> Iterator[str]:
    """Yield the word, then its stems after removing a suffix and undoubling the last consonant."""
    yield word
    for suffix, replacement in _SUFFIXES:
        stem = word.removesuffix(suffix)
        if stem != word and len(stem) >= 3:
            yield stem + replacement
            if stem[-1] == stem[-2]:
                yield stem[:-1]
