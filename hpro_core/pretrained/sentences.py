"""Hashes of the sentences that a base was trained on; see `pretrained.base`."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from hpro_core.io import read_npy

SENTENCES = "sentences.npy"
"""File of the sorted hashes, uint64 (N,)."""


def known_sentences(base: Path, words: pd.Series) -> np.ndarray:
    """Return which of N normalised sentences are in a base's training data, bool (N,)."""
    hint = "name a base in params.yaml, or set base to ''"
    return np.isin(sentence_hashes(words), read_npy(base / SENTENCES, np.uint64, 1, hint))


def sentence_hashes(words: Iterable[str]) -> np.ndarray:
    """Return the first 64 bits of the SHA-256 of each sentence, uint64 (N,)."""
    digests = [hashlib.sha256(sentence.encode()).digest()[:8] for sentence in words]
    return np.array([int.from_bytes(digest, "big") for digest in digests], dtype=np.uint64)
