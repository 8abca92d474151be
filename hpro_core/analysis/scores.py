"""Aggregate utterance scores into the metrics of a system on a test set."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from hpro_core.analysis.statistics import Ratio, interval
from hpro_core.judges.word_prosody import CORRELATIONS, MIN_WORDS, PAUSES
from hpro_core.params import Evaluate

SPEECH_METRICS = (
    *("wer", "wer_check", "wvad_ccc", "emo_sim", "dnsmos", "distillmos", "speaker_sim"),
)
"""Metrics of the main tables; higher is better for all but the two WERs."""

PROSODY_METRICS = (*CORRELATIONS, "pause_f1")
"""Agreement with the prosody of the recording, in tables of their own; higher is better."""

METRICS = (*SPEECH_METRICS, *PROSODY_METRICS)
"""Metrics of every run in the column order of the tables."""

BROUGHT_METRICS = ("utmos", "nisqa", "scoreq")
"""Quality judges whose weights the user brings (higher is better); columns only with them."""

QUALITY_METRICS = ("dnsmos", "distillmos", *BROUGHT_METRICS)
"""Predicted mean opinion scores, of the utterances that `check_every` chooses."""

COUNTS = ("n", "n_wvad", "n_checked")
"""Columns with numbers of utterances; see `counts`."""

_ERRORS = {"wer": "n_errors", "wer_check": "n_errors_check"}
_SCORED_BY = {
    "wer_check": "n_errors_check",
    **{metric: metric for metric in QUALITY_METRICS},
    **dict.fromkeys(PROSODY_METRICS, "n_pauses_recording"),
    "wvad_ccc": "emo_sim",
    "emo_sim": "emo_sim",
    "speaker_sim": "speaker_sim",
}
"""Metric -> column that is null for utterances that its judge did not score."""


def ids_to_check(utterances: pd.DataFrame, settings: Evaluate) -> set[str]:
    """Choose the utterances for the quality judges and the second recogniser.

    One in `check_every` utterances of each test set is drawn. The draw depends on the seed only, so
    it is the same for every system. These judges support no claim and take half of the judging
    time. Returns the chosen utt_ids.

    Args:
        utterances: table with the columns utt_id and corpus.
        settings: check_every and the seed of the draw.
    """
    chosen: set[str] = set()
    for _, utt_ids in utterances.sort_values("utt_id").groupby("corpus")["utt_id"]:
        order = np.random.default_rng(settings.seed).permutation(len(utt_ids))
        chosen.update(utt_ids.to_numpy()[order % settings.check_every == 0])
    return chosen


def scored(scores: Sequence[pd.DataFrame], metric: str) -> Sequence[pd.DataFrame]:
    """Keep the utterances that the judge of a metric scored, in each SCORES table."""
    if metric not in _SCORED_BY:
        return scores
    return [table[table[_SCORED_BY[metric]].notna()] for table in scores]


def ratio(scores: Sequence[pd.DataFrame], metric: str) -> Ratio:
    """Return numerator and denominator of a metric for each seed and utterance.

    If the aligner does not find the words of an utterance, its wVAD-CCC counts as 0, and so do its
    correlations of prosody (of at least MIN_WORDS words) and pauses. Excluding such utterances
    would score a system on its intelligible utterances only. Utterances that a judge did not score
    are left out; none is left if the affect of the test set is not judged.

    Args:
        scores: one SCORES table per seed, for one test set, with the same utterances in the same
            order.
        metric: one of METRICS or BROUGHT_METRICS.
    """
    scores = scored(scores, metric)
    if metric in _ERRORS:
        errors, words = (
            np.stack([s[column].to_numpy(dtype=float) for s in scores])
            for column in (_ERRORS[metric], "n_words")
        )
        return Ratio(errors, words)
    if metric == "pause_f1":
        both, synthesis, recording = (_stacked(scores, column) for column in PAUSES)
        return Ratio(2 * both, synthesis + recording)
    if metric in CORRELATIONS:
        found = np.stack([s[[metric, PAUSES[1]]].notna().to_numpy() for s in scores])
        long = np.stack([(s["n_words"] >= MIN_WORDS).to_numpy() for s in scores])
        counted_SN = found[:, :, 0] | (~found[:, :, 1] & long)
        return Ratio(_stacked(scores, metric), counted_SN.astype(float))
    columns = [s[metric].astype(float) for s in scores]
    return Ratio.mean_of(np.stack([c.fillna(0.0) if metric == "wvad_ccc" else c for c in columns]))


def counts(scores: Sequence[pd.DataFrame]) -> dict[str, float]:
    """Count the utterances behind the metrics of a system on a test set.

    Args:
        scores: one SCORES table per seed, as for `ratio`.

    Returns:
        COUNTS: `n`, all utterances; `n_wvad`, those whose words the aligner found in the
        synthesis, mean over seeds (the others count as 0 in wVAD-CCC); `n_checked`, those that
        the quality judges and the second recogniser scored.
    """
    # Where the affect is not judged, prosody has been measured on the words found.
    column = "wvad_ccc" if scores[0]["emo_sim"].notna().any() else "n_pauses_synthesis"
    found = [int(table[column].notna().sum()) for table in scores]
    return {
        "n": len(scores[0]),
        "n_wvad": sum(found) / len(found),
        "n_checked": int(scores[0]["dnsmos"].notna().sum()),
    }


def metrics_of(scores: Sequence[pd.DataFrame]) -> list[str]:
    """Return METRICS, and those of BROUGHT_METRICS that any of these SCORES tables has."""
    brought = [m for m in BROUGHT_METRICS if any(table[m].notna().any() for table in scores)]
    return [*METRICS, *brought]


def metric_summary(scores: pd.DataFrame, settings: Evaluate) -> dict[str, dict]:
    """Compute the entry `test_sets` of a system's metrics.json from its SCORES table.

    Returns:
        By test set: COUNTS, and each judged metric with value, lo and hi (95 % interval).
    """
    return {
        str(corpus): {**counts([rows]), **_intervals(rows, settings)}
        for corpus, rows in scores.groupby("corpus")
    }


def _stacked(scores: Sequence[pd.DataFrame], column: str) -> np.ndarray:
    """A column of each seed, float (S, N); 0 where it is null."""
    return np.stack([s[column].astype(float).fillna(0.0).to_numpy() for s in scores])


def _intervals(rows: pd.DataFrame, settings: Evaluate) -> dict[str, dict[str, float]]:
    found = {
        metric: interval(ratio([rows], metric), settings.bootstrap_samples, settings.seed)
        for metric in metrics_of([rows])
    }
    return {metric: each._asdict() for metric, each in found.items() if not math.isnan(each.value)}
