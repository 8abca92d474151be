"""Tables by intended emotion and by speaker, and the confusion of intended and judged emotion."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from hpro_core import records
from hpro_core.analysis.tables import (
    Scores,
    judged_metrics,
    metric_columns,
    metric_values,
    select_test_set,
    test_sets,
)
from hpro_core.constants import EMOTIONS
from hpro_core.io import write_csv_table
from hpro_core.params import Evaluate
from hpro_core.tables import EMOTION_POSTERIORS, UTTERANCES, read_table

CONFUSION_COLUMNS = ("system", "test_set", "emotion", "n", *EMOTIONS)


def write_breakdowns(
    root: Path, scores: Scores, seeds: Sequence[int], settings: Evaluate, out: Path | None = None
) -> None:
    """Write by_emotion.csv, by_speaker.csv and confusion.csv.

    The first two have one row per system, test set and emotion of the corpus, or speaker: `n`
    utterances, `seeds`, and the metrics with intervals as in the other tables. confusion.csv has
    one row per system, test set and emotion of the corpus: the number `n` of judged syntheses of
    all seeds, and to how many of them the emotion judge gives each emotion the highest probability.
    Utterances without an emotion of the corpus are in by_speaker.csv only; test sets whose affect
    is not judged are not in confusion.csv.

    Args:
        root: results folder of the run.
        scores: scores of the systems of the tables, as `write_tables` returns them.
        seeds: policy seeds.
        settings: number of resamples and seed of the intervals.
        out: output folder; `root`/tables by default.

    Raises:
        HproError: a table is missing or invalid.
    """
    folder = root / "tables" if out is None else out
    judged = sorted({u for of_seeds in scores.values() for u in of_seeds[0]["utt_id"]})
    path = root / "corpus" / "utterances.parquet"
    utterances = read_table(path, UTTERANCES, only={"utt_id": judged}).set_index("utt_id")
    emotion, speaker = utterances["emotion"].dropna(), utterances["speaker"]
    by_emotion = _by(scores, "emotion", emotion, EMOTIONS.index, settings)
    write_csv_table(by_emotion, folder / "by_emotion.csv")
    write_csv_table(_by(scores, "speaker", speaker, str, settings), folder / "by_speaker.csv")
    write_csv_table(_confusion(root, scores, seeds, emotion), folder / "confusion.csv")


def _by(
    scores: Scores,
    what: str,
    group: pd.Series,
    order: Callable[[str], int | str],
    settings: Evaluate,
) -> pd.DataFrame:
    """Metrics of each group of utterances; `group` maps utt_id to its name."""
    metrics, rows = judged_metrics(scores), []
    for system, tables in scores.items():
        for test_set in test_sets(scores):
            chosen = select_test_set(tables, test_set)
            groups = chosen[0]["utt_id"].map(group)
            for name in sorted(groups.dropna().unique(), key=order):
                part = [table[(groups == name).to_numpy()] for table in chosen]
                values = metric_values(part, metrics, settings.bootstrap_samples, settings.seed)
                rows.append([system, test_set, name, len(part[0]), len(part), *values])
    columns = ["system", "test_set", what, "n", "seeds", *metric_columns(metrics)]
    return pd.DataFrame(rows, columns=columns)


def _confusion(
    root: Path, scores: Scores, seeds: Sequence[int], emotion: pd.Series
) -> pd.DataFrame:
    rows = []
    for system, tables in scores.items():
        own_seeds = seeds[: len(tables)]  # the first one of a system that is no policy
        assigned = pd.concat([_assigned(root, system, seed) for seed in own_seeds])
        intended = assigned.index.to_series().map(emotion)
        for test_set in test_sets(scores):
            own = assigned.index.isin(select_test_set(tables[:1], test_set)[0]["utt_id"])
            for name in sorted(intended[own].dropna().unique(), key=EMOTIONS.index):
                chosen = assigned[own & (intended == name)]
                counted = [int((chosen == other).sum()) for other in EMOTIONS]
                rows.append([system, test_set, name, len(chosen), *counted])
    return pd.DataFrame(rows, columns=list(CONFUSION_COLUMNS))


def _assigned(root: Path, system: str, seed: int) -> pd.Series:
    """By utt_id: emotion that the judge gives the highest probability."""
    path = root / "eval" / system / f"seed{seed}" / "emotion_posteriors.parquet"
    records.check(root, path, system, seed)
    posteriors = read_table(path, EMOTION_POSTERIORS).set_index("utt_id")
    names = np.array(EMOTIONS)[posteriors[list(EMOTIONS)].to_numpy(float).argmax(axis=1)]
    return pd.Series(names, index=posteriors.index)
