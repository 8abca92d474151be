"""Accuracy of the affect judges on `test` recordings with exact labels.

Letters: N utterances, W words, 9 emotions, 3 valence, arousal and dominance.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

from hpro_core.constants import EMOTIONS, VAD
from hpro_core.judges.affect_training import Labels
from hpro_core.judges.metrics import ccc, cosine

SHUFFLES = 20
"""Number of random pairings of different recordings, for the floors."""

Judgements = dict[str, tuple[np.ndarray, np.ndarray]]
"""By utt_id: emotion posterior (9,) and word affect (W, 3)."""

T = TypeVar("T")


def affect_accuracy(
    clips: Sequence[tuple[str, str]], judged: Judgements, labels: Labels, seed: int
) -> dict:
    """Measure the accuracy of the affect judges.

    Args:
        clips: utt_id and corpus of each recording.
        judged: outputs of the judges on these recordings.
        labels: exact labels.
        seed: seed of the pairing.

    Returns:
        `emotion`: accuracy, accuracy of the majority class, unweighted average recall, recall by
        class, mean cosine to the exact posterior. `word_vad`: CCC with the exact labels, per
        utterance and averaged, also by dimension. `floor`: by test set, mean EMO-SIM and wVAD-CCC
        between recordings of different sentences. Each with the number `n` of utterances, and
        nothing else if there are none (for `floor`, fewer than two).
    """
    names = [utt_id for utt_id, _ in clips]
    corpora = sorted({corpus for _, corpus in clips})
    return {
        "emotion": _emotion(names, judged, labels),
        "word_vad": _word_vad(names, judged, labels),
        "floor": {corpus: _floor(clips, judged, corpus, seed) for corpus in corpora},
    }


def ceilings(judged: Judgements, rerendered: Judgements) -> dict[str, dict[str, float]]:
    """Compute the upper bounds of EMO-SIM and wVAD-CCC from second renderings of the sentences.

    Args:
        judged: outputs of the judges on the recordings.
        rerendered: outputs on other renderings, named <utt_id>.<kind>
            (`corpus.controlled.ceilings`).

    Returns:
        By kind: n, and the means emo_sim and wvad_ccc.
    """
    pairs: dict[str, list[tuple[float, float]]] = {}
    for name, (posterior_9, vad_W3) in rerendered.items():
        utt_id, kind = name.rsplit(".", 1)
        recorded_9, recorded_W3 = judged[utt_id]
        agreement = float(ccc(vad_W3, recorded_W3).mean())
        pairs.setdefault(kind, []).append((cosine(posterior_9, recorded_9), agreement))
    means = {kind: np.mean(rows, axis=0) for kind, rows in pairs.items()}
    return {
        kind: {"n": len(pairs[kind]), "emo_sim": float(mean_2[0]), "wvad_ccc": float(mean_2[1])}
        for kind, mean_2 in means.items()
    }


def quality_accuracy(
    clean: Mapping[str, Sequence[float]], noisy: Mapping[str, Sequence[float]]
) -> dict[str, dict[str, float]]:
    """Summarise the scores of recordings, and of the same recordings with noise.

    Args:
        clean: scores of recordings, by column of SCORES.
        noisy: scores of the same recordings with noise, in the same order.

    Returns:
        By column: mean `recordings`, mean `noisy`, and the fraction `noisy_is_lower` of recordings
        that score lower with noise.
    """
    return {
        name: {
            "recordings": float(np.mean(scores)),
            "noisy": float(np.mean(noisy[name])),
            "noisy_is_lower": float(np.mean(np.array(noisy[name]) < np.array(scores))),
        }
        for name, scores in clean.items()
    }


def _emotion(names: Sequence[str], judged: Judgements, labels: Labels) -> dict:
    clips = [u for u in names if u in labels.posteriors]
    if not clips:
        return {"n": 0}
    judged_N9 = np.stack([judged[u][0] for u in clips])
    exact_N9 = np.stack([labels.posteriors[u] for u in clips])
    exact_N = exact_N9.argmax(axis=1)
    right_N = judged_N9.argmax(axis=1) == exact_N
    by_class = {EMOTIONS[c]: float(right_N[exact_N == c].mean()) for c in np.unique(exact_N)}
    cosines = [cosine(*pair) for pair in zip(judged_N9, exact_N9, strict=True)]
    return {
        "n": len(clips),
        "accuracy": float(right_N.mean()),
        "commonest_class": float(np.bincount(exact_N).max() / len(clips)),
        "recall": float(np.mean(list(by_class.values()))),
        "by_class": by_class,
        "cosine": float(np.mean(cosines)),
    }


def _word_vad(names: Sequence[str], judged: Judgements, labels: Labels) -> dict[str, float]:
    clips = [u for u in names if u in labels.vad]
    if not clips:
        return {"n": 0}
    agreement_N3 = np.stack([ccc(judged[u][1], labels.vad[u]) for u in clips])
    by_dimension = dict(zip(VAD, map(float, agreement_N3.mean(axis=0)), strict=True))
    return {"n": len(clips), "ccc": float(agreement_N3.mean()), **by_dimension}


def _floor(
    clips: Sequence[tuple[str, str]], judged: Judgements, corpus: str, seed: int
) -> dict[str, float]:
    names = [u for u, other in clips if other == corpus]
    if len(names) < 2:
        return {"n": len(names)}
    similarities = [cosine(*pair) for pair in _mismatched([judged[u][0] for u in names], seed)]
    agreements = [_overlap_ccc(*pair) for pair in _mismatched([judged[u][1] for u in names], seed)]
    return {
        "n": len(names),
        "emo_sim": float(np.mean(similarities)),
        "wvad_ccc": float(np.mean(agreements)),
    }


def _mismatched(items: Sequence[T], seed: int) -> Iterator[tuple[T, T]]:
    """Yield pairs of different items: each item and the next one of a random cyclic order."""
    generator = np.random.default_rng(seed)
    for _ in range(SHUFFLES):
        order = generator.permutation(len(items))
        yield from ((items[a], items[b]) for a, b in zip(order, np.roll(order, 1), strict=True))


def _overlap_ccc(first_W3: np.ndarray, second_W3: np.ndarray) -> float:
    n_words = min(len(first_W3), len(second_W3))
    return float(ccc(first_W3[:n_words], second_W3[:n_words]).mean())
