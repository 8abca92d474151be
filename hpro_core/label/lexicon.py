"""Affective word norms: how pleasant, exciting and in control a word reads.

Norms of Warriner, Kuperman and Brysbaert (2013), 13,915 English lemmas rated from 1 to 9. They are
taken as data from a package (hpro_core/weights.csv) and are not part of this project.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hpro_core.errors import HproError
from hpro_core.io import read_text
from hpro_core.weights import located

NORMS_FILE = Path("warriner") / "BRM-emot-submit.csv"
"""Where the norms lie in the weights folder."""

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
    """Standardised norms of words."""

    def __init__(self, norms: dict[str, np.ndarray]):
        """
        Args:
            norms: lower-case word to valence, arousal, dominance on any one scale, float (3,).
        """
        ratings = np.stack(list(norms.values()))
        self._mean_3 = ratings.mean(axis=0)
        self._sd_3 = ratings.std(axis=0)
        self._norms = norms

    @classmethod
    def read(cls, weights: Path) -> "Lexicon":
        """Read the norms from the weights folder.

        Raises:
            HproError: the file is missing or is not the norms.
        """
        path = located(NORMS_FILE.parts[0], weights) / NORMS_FILE.name
        rows = list(csv.DictReader(read_text(path, "run `hpro weights fetch`").splitlines()))
        try:
            return cls({r["Word"].lower(): np.array([float(r[c]) for c in _COLUMNS]) for r in rows})
        except (KeyError, ValueError, TypeError) as error:
            raise HproError(f"{path} does not hold the norms: {error}; fetch it again") from error

    def deviations(self, words: tuple[str, ...]) -> np.ndarray:
        """How far each word lies from the average word.

        Args:
            words: lower-case words; inflected forms are looked up by their stem (ours, by rule).

        Returns:
            float64 (W, 3), standard deviations of the norms; zero, the neutral value, for words
            that the norms lack, which most function words are.
        """
        return np.stack([self._deviation(word) for word in words])

    def _deviation(self, word: str) -> np.ndarray:
        for form in _forms(word):
            if form in self._norms:
                return (self._norms[form] - self._mean_3) / self._sd_3
        return np.zeros(3)


def _forms(word: str) -> Iterator[str]:
    """The word, then what remains without an ending, doubled consonants made single."""
    yield word
    for suffix, replacement in _SUFFIXES:
        stem = word.removesuffix(suffix)
        if stem != word and len(stem) >= 3:
            yield stem + replacement
            if stem[-1] == stem[-2]:
                yield stem[:-1]
