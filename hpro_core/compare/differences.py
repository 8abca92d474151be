"""Paired differences between runs: each system, test set and metric that both have."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hpro_core.analysis.scores import BROUGHT_METRICS
from hpro_core.analysis.statistics import COVERAGE, interval, paired_difference
from hpro_core.analysis.tables import Scores, judged_metrics, paired_ratios, select_test_set
from hpro_core.judges.provenance import JudgeProvenance
from hpro_core.report.comparison import Difference, verdict

FEW = 20
"""Fewer sentences than these have intervals that are too narrow (as docs/external.md says)."""

JUDGE_OF = {
    "wer": "asr",
    "wer_check": "asr_check",
    "wvad_ccc": "vad",
    "emo_sim": "emotion",
    "dnsmos": "dnsmos",
    "distillmos": "distillmos",
    "speaker_sim": "speaker",
    **{metric: metric for metric in BROUGHT_METRICS},
}
"""Metric -> name of its judge in metrics.json; the other metrics have no model."""


@dataclass(frozen=True)
class Resampling:
    """How intervals are computed: `evaluate.bootstrap_samples` and `evaluate.seed`."""

    draws: int
    seed: int


@dataclass(frozen=True)
class SystemDifferences:
    """A system of two runs on one test set."""

    system: str
    test_set: str
    seeds: int  # pairs of trainings
    n: int  # sentences that both runs have
    rows: list[Difference]

    def of(self, metric: str) -> Difference | None:
        """Return the difference in a metric; None if it cannot be compared."""
        return next((row for row in self.rows if row.metric == metric), None)


@dataclass(frozen=True)
class Pair:
    """One run compared with the first one."""

    run: str
    first: str
    headline: str
    sentences: list[str]  # the headline's system by test set; others that have no training
    found: list[SystemDifferences]
    n_intervals: int  # without those of values that are the same in both

    @property
    def by_chance(self) -> float:
        """Number of intervals that exclude zero on average if nothing differs."""
        return self.n_intervals * (1 - COVERAGE)

    def of(self, system: str) -> list[SystemDifferences]:
        """Return the differences of one system, by test set."""
        return [each for each in self.found if each.system == system]

    def without_difference(self) -> list[str]:
        """Return the systems that have the same value in every metric on every test set."""
        systems = dict.fromkeys(each.system for each in self.found)
        return [
            system
            for system in systems
            if all(not any(row.difference) for each in self.of(system) for row in each.rows)
        ]


@dataclass(frozen=True)
class Compared:
    """A comparison of runs."""

    runs: list[str]
    system: str  # of the headline
    test_sets: list[str]
    pairs: list[Pair]
    notes: list[str]
    different: pd.DataFrame  # settings

    def metrics(self, order: Iterable[str]) -> list[str]:
        """Return the metrics that any difference is in, in the given order."""
        found = {row.metric for pair in self.pairs for each in pair.found for row in each.rows}
        return [metric for metric in order if metric in found]


def withheld(one: JudgeProvenance, other: JudgeProvenance) -> dict[str, str]:
    """Return the metrics that different models judged, and the name of the judge of each."""
    return {
        metric: judge
        for metric, judge in JUDGE_OF.items()
        if one.judges.get(judge) != other.judges.get(judge)
    }


def seed_pairs(first: Sequence[int], other: Sequence[int]) -> list[tuple[int, int]]:
    """Pair the training seeds of two runs: the same ones, or without any, in their order."""
    same = [(seed, seed) for seed in first if seed in other]
    n = min(len(first), len(other))
    return same or list(zip(first[:n], other[:n], strict=True))


def run_differences(
    first: Scores,
    other: Scores,
    pairs: Sequence[tuple[int, int]],
    seeds: tuple[Sequence[int], Sequence[int]],
    test_sets: Mapping[str, str],
    without: Mapping[str, str],
    resampling: Resampling,
) -> list[SystemDifferences]:
    """Compute the differences of all systems and test sets: the other run minus the first one.

    Seeds and sentences are combined as in the tables of a run (`statistics.py`). A system with one
    seed in one run is paired with every seed of the other run.

    Args:
        first: scores of the first run by system; seed k of `seeds` is table k.
        other: the same systems in the other run.
        pairs: from `seed_pairs`.
        seeds: seeds of both runs.
        test_sets: utt_id -> test set, of the sentences to use.
        without: metrics to leave out.
        resampling: number and seed of the bootstrap draws.
    """
    found = []
    for system in first:
        own, base = (
            _chosen(scores[system], [pair[place] for pair in pairs], seeds[place], test_sets)
            for place, scores in ((1, other), (0, first))
        )
        judged = judged_metrics({system: [*own, *base]})
        for test_set in dict.fromkeys(test_sets.values()):
            both = select_test_set(own, test_set), select_test_set(base, test_set)
            rows = [
                _difference(*both, metric, resampling) for metric in judged if metric not in without
            ]
            found.append(
                SystemDifferences(
                    system=system,
                    test_set=test_set,
                    seeds=max(len(own), len(base)),
                    n=len(set(both[0][0]["utt_id"]) & set(both[1][0]["utt_id"])),
                    rows=[row for row in rows if not np.isnan(row.difference.value)],
                )
            )
    return found


def as_table(of_runs: Mapping[str, Sequence[SystemDifferences]], first: str) -> pd.DataFrame:
    """Tabulate the differences of several runs from the first one.

    Returns:
        Columns run, system, test_set, metric, n, seeds, the means `first` and `value` of both runs
        on these sentences, and the difference `above_<first>` with the ends of its interval.
    """
    rows = [
        [
            *(run, each.system, each.test_set, row.metric, row.n, each.seeds),
            *(row.baseline.value, row.system.value, *row.difference),
        ]
        for run, found in of_runs.items()
        for each in found
        for row in each.rows
    ]
    columns = ["run", "system", "test_set", "metric", "n", "seeds", "first", "value"]
    return pd.DataFrame(rows, columns=[*columns, f"above_{first}", "lo", "hi"])


def _chosen(
    tables: Sequence[pd.DataFrame],
    wanted: Sequence[int],
    seeds: Sequence[int],
    test_sets: Mapping[str, str],
) -> list[pd.DataFrame]:
    """The shared sentences in the tables of the wanted seeds; the only table without seeds."""
    chosen = [tables[list(seeds).index(seed)] for seed in wanted] if len(tables) > 1 else tables
    return [table[table["utt_id"].isin(list(test_sets))] for table in chosen]


def _difference(
    own: Sequence[pd.DataFrame],
    base: Sequence[pd.DataFrame],
    metric: str,
    resampling: Resampling,
) -> Difference:
    draws, seed = resampling.draws, resampling.seed
    pair = paired_ratios(own, base, metric)
    gap = paired_difference(*pair, draws, seed)
    values = [interval(ratio, draws, seed) for ratio in pair]
    return Difference(
        metric=metric,
        n=pair[0].numerator_SN.shape[1],
        system=values[0],
        baseline=values[1],
        difference=gap,
        floor=float("nan"),
        ceiling=float("nan"),
        recordings=float("nan"),
        verdict=verdict(metric, gap),
    )
