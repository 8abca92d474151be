"""Aggregate utterance scores into the metrics of a system on a test set."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from hpro_core.analysis.statistics import Ratio, interval
from hpro_core.params import Evaluate

METRICS = ("wer", "wer_check", "wvad_ccc", "emo_sim", "dnsmos", "speaker_sim")
"""Metrics in the column order of the tables; higher is better for all but the two WERs."""

COUNTS = ("n", "n_wvad", "n_checked")
"""Columns with numbers of utterances; see `counts`."""

_ERRORS = {"wer": "n_errors", "wer_check": "n_errors_check"}
_SCORED = {
    "wer_check": "n_errors_check",
    "dnsmos": "dnsmos",
    "wvad_ccc": "emo_sim",
    "emo_sim": "emo_sim",
    "speaker_sim": "speaker_sim",
}
"""Metric -> column that is null for utterances that its judge did not score."""


def ids_to_check(utterances: pd.DataFrame, settings: Evaluate) -> set[str]:
    """Choose the utterances for DNSMOS and the second recogniser; returns their utt_ids.

    One in `check_every` utterances of each test set is drawn. The draw depends on the seed only, so
    it is the same for every system. These two judges support no claim and take half of the judging
    time.

    Args:
        utterances: table with the columns utt_id and corpus.
        settings: check_every and the seed of the draw.
    """
    chosen: set[str] = set()
    for _, utt_ids in utterances.sort_values("utt_id").groupby("corpus")["utt_id"]:
        order = np.random.default_rng(settings.seed).permutation(len(utt_ids))
        chosen.update(utt_ids.to_numpy()[order % settings.check_every == 0])
    return chosen


def ratio(scores: Sequence[pd.DataFrame], metric: str) -> Ratio:
    """Return numerator and denominator of a metric for each seed and utterance.

    If the aligner does not find the words of an utterance, its wVAD-CCC counts as 0. Excluding such
    utterances would score a system on its intelligible utterances only. Utterances that a judge
    did not score are left out; none is left if the affect of the test set is not judged.

    Args:
        scores: one SCORES table per seed, for one test set, with the same utterances in the same
            order.
        metric: one of METRICS.
    """
    if metric in _SCORED:
        scores = [s[s[_SCORED[metric]].notna()] for s in scores]
    if metric in _ERRORS:
        errors, words = (
            np.stack([s[column].to_numpy(dtype=float) for s in scores])
            for column in (_ERRORS[metric], "n_words")
        )
        return Ratio(errors, words)
    columns = [s[metric].astype(float) for s in scores]
    return Ratio.mean_of(np.stack([c.fillna(0.0) if metric == "wvad_ccc" else c for c in columns]))


def counts(scores: Sequence[pd.DataFrame]) -> dict[str, float]:
    """Count the utterances behind the metrics of a system on a test set.

    Args:
        scores: one SCORES table per seed, as for `ratio`.

    Returns:
        COUNTS: `n`, all utterances; `n_wvad`, those whose words the aligner found in the
        synthesis, mean over seeds (the others count as 0 in wVAD-CCC); `n_checked`, those that
        DNSMOS and the second recogniser scored.
    """
    found = [int(table["wvad_ccc"].notna().sum()) for table in scores]
    return {
        "n": len(scores[0]),
        "n_wvad": sum(found) / len(found),
        "n_checked": int(scores[0]["dnsmos"].notna().sum()),
    }


def metric_summary(scores: pd.DataFrame, settings: Evaluate) -> dict[str, dict]:
    """Compute the entry `test_sets` of a system's metrics.json from its SCORES table.

    Returns:
        By test set: COUNTS, and each judged metric with value, lo and hi (95 % interval).
    """
    return {
        str(corpus): {**counts([rows]), **_intervals(rows, settings)}
        for corpus, rows in scores.groupby("corpus")
    }


def _intervals(rows: pd.DataFrame, settings: Evaluate) -> dict[str, dict[str, float]]:
    found = {
        metric: interval(ratio([rows], metric), settings.bootstrap_samples, settings.seed)
        for metric in METRICS
    }
    return {metric: each._asdict() for metric, each in found.items() if not math.isnan(each.value)}
