"""How far the affect judge can be trusted: its figures on `test` recordings with exact labels.

Letters: N utterances, W words, 9 emotions, 3 valence, arousal and dominance.
"""

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np

from hpro_core.constants import VAD
from hpro_core.evaluate.affect import AffectJudge
from hpro_core.evaluate.metrics import ccc, cosine
from hpro_core.evaluate.training import Features, Labels

SHUFFLES = 20
"""Rounds of pairing each recording with another one, for the floors."""

T = TypeVar("T")


def grades(judge: AffectJudge, features: Features, known: Labels, seed: int) -> dict:
    """Grade the judge.

    Args:
        judge: the trained judge.
        features: of the recordings.
        known: exact labels.
        seed: of the pairing.

    Returns:
        `trained_on`: recordings of the `judge` split per test set. `emotion`: accuracy beside that
        of the commonest class, mean cosine to the exact posterior. `word_vad`: mean CCC per
        utterance with the exact labels. `floor`: per test set, what EMO-SIM and wVAD-CCC come to
        between recordings of different sentences; their ceiling is 1, by construction.
    """
    counts: dict[str, int] = {}
    for _, corpus in features.of("judge"):
        counts[corpus] = counts.get(corpus, 0) + 1
    return {
        "trained_on": counts,
        "emotion": _emotion(judge, features, known),
        "word_vad": _word_vad(judge, features, known),
        "floor": {corpus: _floor(judge, features, corpus, seed) for corpus in sorted(counts)},
    }


def _emotion(judge: AffectJudge, features: Features, known: Labels) -> dict[str, float]:
    clips = features.of("test", known.posteriors)
    if not clips:
        return {"n": 0}
    judged_N9 = np.stack([judge.posterior(corpus, features.utterance[u]) for u, corpus in clips])
    exact_N9 = np.stack([known.posteriors[u] for u, _ in clips])
    right = judged_N9.argmax(axis=1) == exact_N9.argmax(axis=1)
    commonest = np.bincount(exact_N9.argmax(axis=1)).max()
    cosines = [cosine(*pair) for pair in zip(judged_N9, exact_N9, strict=True)]
    return {
        "n": len(clips),
        "accuracy": float(right.mean()),
        "commonest_class": float(commonest / len(clips)),
        "cosine": float(np.mean(cosines)),
    }


def _word_vad(judge: AffectJudge, features: Features, known: Labels) -> dict[str, float]:
    clips = features.of("test", known.vad)
    if not clips:
        return {"n": 0}
    agreement_N3 = np.stack(
        [ccc(judge.word_vad(corpus, features.words[u]), known.vad[u]) for u, corpus in clips]
    )
    by_dimension = dict(zip(VAD, map(float, agreement_N3.mean(axis=0)), strict=True))
    return {"n": len(clips), "ccc": float(agreement_N3.mean()), **by_dimension}


def _floor(judge: AffectJudge, features: Features, corpus: str, seed: int) -> dict[str, float]:
    clips = [u for u, other in features.of("test") if other == corpus]
    if len(clips) < 2:
        return {"n": len(clips)}
    posteriors = [judge.posterior(corpus, features.utterance[u]) for u in clips]
    vad = [judge.word_vad(corpus, features.words[u]) for u in clips]
    similarities = [cosine(*pair) for pair in _mismatched(posteriors, seed)]
    agreements = [_overlap_ccc(*pair) for pair in _mismatched(vad, seed)]
    return {
        "n": len(clips),
        "emo_sim": float(np.mean(similarities)),
        "wvad_ccc": float(np.mean(agreements)),
    }


def _mismatched(items: Sequence[T], seed: int) -> Iterator[tuple[T, T]]:
    """Pairs of different items: neighbours on a shuffled ring."""
    generator = np.random.default_rng(seed)
    for _ in range(SHUFFLES):
        ring = generator.permutation(len(items))
        yield from ((items[a], items[b]) for a, b in zip(ring, np.roll(ring, 1), strict=True))


def _overlap_ccc(first_W3: np.ndarray, second_W3: np.ndarray) -> float:
    n_words = min(len(first_W3), len(second_W3))
    return float(ccc(first_W3[:n_words], second_W3[:n_words]).mean())
