"""Claims: tests of every variant against SFT over several seeds, and the paper's orderings.

Holm's method corrects one family per test set: all variants times the metrics MAIN_METRICS. The
other metrics are tested without correction and support no claim. The orderings come from the paper,
so they are fixed before any run. Each is decided by the 95 % intervals of its own paired
differences.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from hpro_core.analysis import reward_vs_judges
from hpro_core.analysis.scores import COUNTS, METRICS, counts, ratio
from hpro_core.analysis.significance import Comparison, compare, holm
from hpro_core.analysis.tables import (
    BASELINE,
    COUNTS_NOTE,
    METRIC_NAMES,
    Scores,
    cautions_of,
    judged_metrics,
    markdown,
    markdown_table,
    metric_columns,
    metric_values,
    read_scores,
    select_test_set,
    systems_of,
    test_sets,
)
from hpro_core.errors import HproError
from hpro_core.io import write_csv_table, write_text
from hpro_core.params import SEEDLESS, Claims, Tables

MAIN_METRICS = ("wer", "wvad_ccc", "emo_sim")
"""The metrics that the paper draws its conclusions from; only these support a claim."""
ALL_SEEDS = "all"
"""Value of the column `seed` in rows over all seeds."""

COLUMNS = ("system", "test_set", *COUNTS, "seed", *metric_columns(METRICS))
"""Columns of claims.csv; those of BROUGHT_METRICS follow if they were judged."""
TEST_COLUMNS = (
    *("system", "test_set", "metric", "n", f"above_{BASELINE}", "lo", "hi", "p"),
    *("p_holm", "seeds_agree", "seeds"),
)

HOLDS, FAILS, UNDECIDED = "holds before correction", "does not hold", "undecided"
UNJUDGED = "not judged"


class Ordering(NamedTuple):
    """Order of systems in the paper by one metric."""

    claim: str
    metric: str
    pairs: Sequence[tuple[str, str]]  # the first is better than the second
    margin: float = 0.0  # the first may be worse by at most this


def write_claims(
    root: Path,
    tables: Tables,
    seeds: Sequence[int],
    settings: Claims,
    starts: Mapping[str, str],
    left_out: Collection[str],
    out: Path,
) -> None:
    """Write claims.csv, claims_tests.csv, claims_rewards.csv and claims.md.

    claims.csv has one row per system, test set and seed, with intervals over utterances, and one
    row with the seed `all`, with intervals over seeds and utterances. Systems that do not depend on
    the seed have only the row `all`. claims_tests.csv compares each variant with `sft`: difference
    with interval, p, p after Holm's correction (MAIN_METRICS only), and the number of seeds that
    agree in sign. claims_rewards.csv has the term values of every reward training
    (`reward_vs_judges`).

    Args:
        root: results folder of the run.
        tables: tables of the run; their rows are the systems.
        seeds: policy seeds.
        settings: minimum number of seeds, number of resamples, WER margin.
        starts: variant -> policy that it starts from.
        left_out: corpora that the rewards were not trained on.
        out: output folder.

    Raises:
        HproError: there are too few seeds, `sft` is in no table, a system was not judged, systems
            were judged on different utterances or by different models, or the term values of a
            training are missing.
    """
    if len(set(seeds)) < settings.min_seeds:
        raise HproError(
            f"seeds in params.yaml has {len(set(seeds))} seeds, but claims.min_seeds is "
            f"{settings.min_seeds}: run with `--configfile config/claims.yaml`, or list more seeds"
        )
    systems = systems_of(tables)
    if BASELINE not in systems:
        raise HproError(
            f"tables in params.yaml has no row {BASELINE!r}: claims need it as the baseline"
        )
    scores = read_scores(root, systems, seeds)
    cautions = cautions_of(root, systems, seeds)
    figures, tested = values_by_seed(scores, seeds, settings), test_variants(scores)
    terms = reward_vs_judges.read_terms(
        root, {name: starts[name] for name in systems if name in starts}, seeds
    )
    text = _markdown(scores, figures, tested, terms, left_out, settings.wer_margin, cautions)
    for name, table in {"": figures, "_tests": tested, "_rewards": terms}.items():
        write_csv_table(table, out / f"claims{name}.csv", "%.6g")
    write_text(out / "claims.md", text)


def values_by_seed(scores: Scores, seeds: Sequence[int], settings: Claims) -> pd.DataFrame:
    """Return the table of claims.csv: by system and test set, each seed and then ALL."""
    metrics = judged_metrics(scores)
    rows = []
    for system, judged in scores.items():
        for test_set in test_sets(scores):
            chosen = select_test_set(judged, test_set)
            parts = [] if system in SEEDLESS else list(zip(map(str, seeds), chosen, strict=True))
            for name, part in [*((seed, [table]) for seed, table in parts), (ALL_SEEDS, chosen)]:
                found = metric_values(part, metrics, settings.bootstrap_samples, settings.seed)
                rows.append([system, test_set, *counts(part).values(), name, *found])
    first = ["system", "test_set", *COUNTS, "seed"]
    return pd.DataFrame(rows, columns=[*first, *metric_columns(metrics)])


def test_variants(scores: Scores) -> pd.DataFrame:
    """Test each variant against BASELINE (TEST_COLUMNS), by test set, system and metric.

    `p_holm` is NaN for metrics outside MAIN_METRICS.
    """
    families = [_family(scores, test_set) for test_set in test_sets(scores)]
    return pd.concat(families, ignore_index=True)


def metrics_on(scores: Scores, test_set: str) -> list[str]:
    """Return the metrics with a value on a test set: without affect if it is not judged there."""
    chosen = select_test_set(next(iter(scores.values())), test_set)
    return [m for m in judged_metrics(scores) if not math.isnan(ratio(chosen, m).value)]


def difference(scores: Scores, test_set: str, metric: str, pair: tuple[str, str]) -> Comparison:
    """Paired difference of a metric on a test set: first policy minus second."""
    system, other = (ratio(select_test_set(scores[name], test_set), metric) for name in pair)
    return compare(system, other)


def orderings(policies: Sequence[str], wer_margin: float) -> list[Ordering]:
    """List the paper's orderings of systems (Tables II and III).

    In the paper HPRO also has a lower WER than SFT; here its WER must only stay within a margin
    (ours).

    Args:
        policies: the judged policies; `no_content` is compared with all others.
        wer_margin: the most by which HPRO's WER may exceed that of SFT.
    """
    rest = [policy for policy in policies if policy != "no_content"]
    keeps = f"hpro is at most {wer_margin:g} worse than sft"
    word, hpro = ("sft", "frame", "word"), ("sft", "frame", "word", "hpro")
    return [
        Ordering("hpro is better than sft", "wvad_ccc", [("hpro", "sft")]),
        Ordering("hpro is better than sft", "emo_sim", [("hpro", "sft")]),
        Ordering(keeps, "wer", [("hpro", "sft")], wer_margin),
        Ordering("no_content is the worst", "wer", [(policy, "no_content") for policy in rest]),
        Ordering("no_emotion is worse than hpro", "wvad_ccc", [("hpro", "no_emotion")]),
        Ordering("no_emotion is worse than hpro", "emo_sim", [("hpro", "no_emotion")]),
        Ordering("diffro is worse than hpro", "wvad_ccc", [("hpro", "diffro")]),
        Ordering("sft, frame, word: each better than the one before", "wer", _steps(word)),
        Ordering("sft, frame, word: each better than the one before", "wvad_ccc", _steps(word)),
        Ordering(
            "sft, frame, word, hpro: each better than the one before", "emo_sim", _steps(hpro)
        ),
    ]


def verdict(ordering: Ordering, gaps: Sequence[Comparison]) -> str:
    """Decide an ordering from the intervals of its differences.

    Args:
        ordering: its metric sets the better direction; its margin replaces zero as the boundary.
        gaps: differences of its pairs, first minus second.

    Returns:
        HOLDS if every interval is on the paper's side of the boundary, FAILS if one is on the other
        side, else UNDECIDED.
    """
    ends = [(-gap.hi, -gap.lo) if ordering.metric == "wer" else (gap.lo, gap.hi) for gap in gaps]
    if any(hi < -ordering.margin for _, hi in ends):
        return FAILS
    return HOLDS if all(lo > -ordering.margin for lo, _ in ends) else UNDECIDED


def _family(scores: Scores, test_set: str) -> pd.DataFrame:
    """Tests of one test set, with one Holm correction."""
    rows = []
    for system in scores:
        if system not in (*SEEDLESS, BASELINE):
            for metric in metrics_on(scores, test_set):
                gap = difference(scores, test_set, metric, (system, BASELINE))
                n = ratio(select_test_set(scores[system], test_set), metric).numerator_SN.shape[1]
                found = [system, test_set, metric, n, gap.difference, gap.lo, gap.hi, gap.p]
                rows.append([*found, float("nan"), gap.seeds_agree, len(scores[system])])
    family = pd.DataFrame(rows, columns=list(TEST_COLUMNS))
    main = family["metric"].isin(MAIN_METRICS)
    family.loc[main, "p_holm"] = holm(family.loc[main, "p"].tolist())
    return family


def _steps(worst_first: Sequence[str]) -> list[tuple[str, str]]:
    return [(better, worse) for worse, better in pairwise(worst_first)]


def _markdown(
    scores: Scores,
    figures: pd.DataFrame,
    tested: pd.DataFrame,
    terms: pd.DataFrame,
    left_out: Collection[str],
    wer_margin: float,
    cautions: Sequence[str],
) -> str:
    """Text of claims.md."""
    seeds, metrics = len(scores[BASELINE]), ", ".join(METRIC_NAMES[m] for m in MAIN_METRICS)
    parts = [_INTRODUCTION.format(seeds=seeds, metrics=metrics, counted=COUNTS_NOTE)]
    parts += [f"{caution}\n" for caution in cautions]
    parts += [
        "## Gradient share of each term\n",
        "Share of the gradient before the first step, mean over seeds. A share of 0 means that the "
        "term is dropped, has no weight in that stage, or is the KL of a policy equal to `sft`.\n",
        reward_vs_judges.shares(terms),
    ]
    overall = figures[figures["seed"] == ALL_SEEDS]
    overall = overall.assign(seeds=[len(scores[system]) for system in overall["system"]])
    for test_set in test_sets(scores):
        parts += [
            f"## {test_set}\n",
            markdown(overall[overall["test_set"] == test_set]),
            f"Against {BASELINE}:\n",
            _tests_table(tested[tested["test_set"] == test_set]),
            "The paper's orderings:\n",
            _orderings_list(scores, test_set, wer_margin),
            "Rewards and judges:\n",
            "The rewards were not trained on this corpus (reward.leave_out).\n"
            if test_set in left_out
            else _rewards_table(scores, test_set, terms),
        ]
    return "\n".join(parts)


_INTRODUCTION = """\
# Claims: {seeds} seeds of every variant

`make claims` writes this file. `claims.csv` has all rows, including those of each seed;
`claims_tests.csv` has the tests of all metrics.

- Values have a 95 % interval over seeds and utterances (percentile bootstrap, somewhat narrow for
  few seeds). The tests decide whether two systems differ; overlap of these intervals does not.
- Tests are paired by seed and utterance and treat both as random samples (min F').
  "p, Holm" is corrected for all comparisons of a test set: every variant in {metrics}.
- An ordering holds before correction if the 95 % intervals of all its differences are on the
  paper's side, does not hold if one is on the other side, and is undecided if one includes zero (or
  the margin). Each interval is that of a single difference, without correction.
- {counted}
- Seeds change fine-tuning, reward training and sampling. All seeds share one base, one tokenizer,
  one codec (which is the reward) and one affect judge. The intervals do not include the variance
  over these.
- "Rewards and judges" compares two changes of each training, from its start policy to its end: the
  change of the reward terms (computed by the codec, lower is better; mean over seeds ± standard
  deviation) and the change of the judges' metrics. The terms are those of the dev curves: about 48
  sentences and one sample of each, the same for every seed, so the standard deviation over seeds
  does not include the variance over sentences. In brackets: terms that the training does not use.
  KL is the KL to `sft` at the end, in nats per utterance, or per token if reward.kl_reduction is
  mean. `claims_rewards.csv` has every term.
"""


def _tests_table(tested: pd.DataFrame) -> str:
    rows = []
    for row in tested[tested["metric"].isin(MAIN_METRICS)].to_dict("records"):
        gap = _gap(row[f"above_{BASELINE}"], row["lo"], row["hi"])
        agreeing = f"{row['seeds_agree']} of {row['seeds']}"
        p_cells = f"{row['p']:.2g}", f"{row['p_holm']:.2g}"
        rows.append((row["system"], METRIC_NAMES[row["metric"]], gap, *p_cells, agreeing))
    header = ("system", "metric", "difference", "p", "p, Holm", "seeds that agree")
    return markdown_table(header, rows)


def _rewards_table(scores: Scores, test_set: str, terms: pd.DataFrame) -> str:
    mean_change, spread = reward_vs_judges.changes(terms)
    final = terms.groupby(["system", "term"], sort=False)["after"].mean()
    weights = terms.groupby(["system", "term"], sort=False)["weight"].max()
    header, rows = ["training", "from", "KL"], []
    for term, metric in reward_vs_judges.JUDGED_BY.items():
        header += [reward_vs_judges.TERM_NAMES[term], METRIC_NAMES[metric]]
    for system, start in reward_vs_judges.trainings(terms):
        cells = [system, start, f"{final[system, 'kl']:.2f}"]
        for term, metric in reward_vs_judges.JUDGED_BY.items():
            change = f"{mean_change[system, term]:+.2f} ± {spread[system, term]:.2f}"
            cells.append(change if weights[system, term] else f"({change})")
            if metric not in metrics_on(scores, test_set):
                cells.append(UNJUDGED)
            elif start in scores:
                gap = difference(scores, test_set, metric, (system, start))
                cells.append(_gap(gap.difference, gap.lo, gap.hi))
            else:
                cells.append(f"{UNJUDGED} ({start} in no table)")
        rows.append(cells)
    return markdown_table(header, rows)


def _orderings_list(scores: Scores, test_set: str, wer_margin: float) -> str:
    policies = [system for system in scores if system not in SEEDLESS]
    found = orderings(policies, wer_margin)
    return "\n".join(_line(scores, test_set, ordering) for ordering in found) + "\n"


def _line(scores: Scores, test_set: str, ordering: Ordering) -> str:
    start = f"- {METRIC_NAMES[ordering.metric]}, {ordering.claim}: "
    missing = {name for pair in ordering.pairs for name in pair} - scores.keys()
    if missing:
        return f"{start}**{UNJUDGED}** ({', '.join(sorted(missing))} in no table)"
    if ordering.metric not in metrics_on(scores, test_set):
        return f"{start}**{UNJUDGED}**"
    gaps = [difference(scores, test_set, ordering.metric, pair) for pair in ordering.pairs]
    numbers = [
        f"{better} - {worse} = {_gap(gap.difference, gap.lo, gap.hi)}"
        for (better, worse), gap in zip(ordering.pairs, gaps, strict=True)
    ]
    return f"{start}**{verdict(ordering, gaps)}** ({'; '.join(numbers)})"


def _gap(value: float, lo: float, hi: float) -> str:
    return f"{value:+.3f} [{lo:+.3f}, {hi:+.3f}]"
