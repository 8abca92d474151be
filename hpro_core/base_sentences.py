"""The sentences that a base was trained on: their hashes are part of it (`hpro_core.base`)."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from hpro_core.io import read_npy

SENTENCES = "sentences.npy"
"""Their hashes, sorted, uint64 (N,)."""


def known_sentences(base: Path, words: pd.Series) -> np.ndarray:
    """Which of the normalised sentences a base was trained on, bool (N,).

    Raises:
        HproError: the base has no list of its sentences.
    """
    cure = "name a base in params.yaml, or set base to ''"
    return np.isin(sentence_hashes(words), read_npy(base / SENTENCES, np.uint64, 1, cure))


def sentence_hashes(words: Iterable[str]) -> np.ndarray:
    """64 bits of the SHA-256 of each sentence, uint64."""
    digests = [hashlib.sha256(sentence.encode()).digest()[:8] for sentence in words]
    return np.array([int.from_bytes(digest, "big") for digest in digests], dtype=np.uint64)
