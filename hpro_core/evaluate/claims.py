"""Claims: every variant with several seeds, tested against SFT, and the paper's orderings.

The family that Holm's method corrects together is that of a test set: all variants times the
metrics MAIN. The other metrics are tested without correction and support no claim. The orderings
are the paper's, so stated before any run; each is read off the 95 % intervals of its own paired
differences.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from hpro_core.errors import HproError
from hpro_core.evaluate import reward_vs_judges
from hpro_core.evaluate.scores import COUNTS, METRICS, counts, ratio
from hpro_core.evaluate.significance import Comparison, compare, holm
from hpro_core.evaluate.tables import (
    BASELINE,
    COUNTED,
    FIGURES,
    METRIC_NAMES,
    Scores,
    cautions_of,
    figures_of,
    markdown,
    of_set,
    read_scores,
    systems_of,
    test_sets,
)
from hpro_core.io import write_csv_table, write_text
from hpro_core.params import SEEDLESS, Claims, Tables

MAIN = ("wer", "wvad_ccc", "emo_sim")
"""The metrics that the paper argues with."""
ALL = "all"
"""In the column `seed`: over all seeds."""

COLUMNS = ("system", "test_set", *COUNTS, "seed", *FIGURES)
TEST_COLUMNS = (
    *("system", "test_set", "metric", "n", f"above_{BASELINE}", "lo", "hi", "p"),
    *("p_holm", "seeds_agree", "seeds"),
)

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "undecided"
UNJUDGED = "not judged"


class Ordering(NamedTuple):
    """An order of systems in the paper, in one metric."""

    claim: str
    metric: str
    pairs: Sequence[tuple[str, str]]  # the first is better than the second
    margin: float = 0.0  # or worse by at most so much


def make(
    root: Path,
    tables: Tables,
    seeds: Sequence[int],
    settings: Claims,
    starts: Mapping[str, str],
    left_out: Collection[str],
    out: Path,
) -> None:
    """Write claims.csv, claims_tests.csv, claims_rewards.csv and claims.md.

    claims.csv has a row per system, test set and seed, with intervals over utterances, and one with
    the seed `all`, over seeds and utterances; systems that no seed changes have that row alone.
    claims_tests.csv has each variant against `sft`: the difference with its interval, p, p after
    Holm's correction (MAIN only), and how many seeds agree in its sign. claims_rewards.csv has what
    every reward training wrote of its terms (`reward_vs_judges`).

    Args:
        root: results folder of the run.
        tables: their rows are the systems.
        seeds: policy seeds.
        settings: seeds that a claim needs, resamples, the margin in WER.
        starts: every variant with the policy that it starts from.
        left_out: corpora that the rewards did not learn from.
        out: folder to write to.

    Raises:
        HproError: there are too few seeds, `sft` is in no table, a system was not judged, systems
            were judged on different utterances or by different models, or a training left no
            figures of its terms.
    """
    if len(set(seeds)) < settings.min_seeds:
        raise HproError(
            f"seeds in params.yaml has {len(set(seeds))} seeds, but claims.min_seeds is "
            f"{settings.min_seeds}: say `--configfile config/claims.yaml`, or name more seeds"
        )
    systems = systems_of(tables)
    if BASELINE not in systems:
        raise HproError(f"tables in params.yaml has no row {BASELINE!r}, which claims compare with")
    scores = read_scores(root, systems, seeds)
    cautions = cautions_of(root, systems, seeds)
    figures, tested = by_seed(scores, seeds, settings), tests(scores)
    told = reward_vs_judges.read(
        root, {name: starts[name] for name in systems if name in starts}, seeds
    )
    text = _markdown(scores, figures, tested, told, left_out, settings.wer_margin, cautions)
    for name, table in {"": figures, "_tests": tested, "_rewards": told}.items():
        write_csv_table(table, out / f"claims{name}.csv", "%.6g")
    write_text(out / "claims.md", text)


def by_seed(scores: Scores, seeds: Sequence[int], settings: Claims) -> pd.DataFrame:
    """COLUMNS: by system, then test set, each seed and then ALL."""
    rows = []
    for system, judged in scores.items():
        for test_set in test_sets(scores):
            chosen = of_set(judged, test_set)
            parts = [] if system in SEEDLESS else list(zip(map(str, seeds), chosen, strict=True))
            for name, part in [*((seed, [table]) for seed, table in parts), (ALL, chosen)]:
                found = figures_of(part, settings.bootstrap_samples, settings.seed)
                rows.append([system, test_set, *counts(part).values(), name, *found])
    return pd.DataFrame(rows, columns=list(COLUMNS))


def tests(scores: Scores) -> pd.DataFrame:
    """TEST_COLUMNS: each variant against BASELINE, by test set, then system, then metric.

    `p_holm` is empty for metrics beside MAIN.
    """
    families = [_family(scores, test_set) for test_set in test_sets(scores)]
    return pd.concat(families, ignore_index=True)


def difference(scores: Scores, test_set: str, metric: str, pair: tuple[str, str]) -> Comparison:
    """How much the first of two policies is above the second."""
    system, other = (ratio(of_set(scores[name], test_set), metric) for name in pair)
    return compare(system, other)


def orderings(policies: Sequence[str], wer_margin: float) -> list[Ordering]:
    """What the paper says of the order of systems (Tables II and III).

    Its HPRO also lowers the WER of SFT; to keep it within a margin is enough here (ours).

    Args:
        policies: those that were judged; `no_content` is compared with all of them.
        wer_margin: by which HPRO's WER may be above that of SFT.
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
    """HOLDS if every interval is on the paper's side, FAILS if one is on the other, else UNDECIDED.

    Args:
        ordering: its metric says which direction is better, its margin where the sides meet.
        gaps: of its pairs, the first above the second.
    """
    ends = [(-gap.hi, -gap.lo) if ordering.metric == "wer" else (gap.lo, gap.hi) for gap in gaps]
    if any(hi < -ordering.margin for _, hi in ends):
        return FAILS
    return HOLDS if all(lo > -ordering.margin for lo, _ in ends) else UNDECIDED


def _family(scores: Scores, test_set: str) -> pd.DataFrame:
    """The tests of one test set, corrected together."""
    rows = []
    for system in scores:
        if system not in (*SEEDLESS, BASELINE):
            for metric in METRICS:
                gap = difference(scores, test_set, metric, (system, BASELINE))
                n = ratio(of_set(scores[system], test_set), metric).above_SN.shape[1]
                found = [system, test_set, metric, n, gap.above, gap.lo, gap.hi, gap.p]
                rows.append([*found, float("nan"), gap.seeds_agree, len(scores[system])])
    family = pd.DataFrame(rows, columns=list(TEST_COLUMNS))
    main = family["metric"].isin(MAIN)
    family.loc[main, "p_holm"] = holm(family.loc[main, "p"].tolist())
    return family


def _steps(worst_first: Sequence[str]) -> list[tuple[str, str]]:
    return [(better, worse) for worse, better in pairwise(worst_first)]


def _markdown(
    scores: Scores,
    figures: pd.DataFrame,
    tested: pd.DataFrame,
    told: pd.DataFrame,
    left_out: Collection[str],
    wer_margin: float,
    cautions: Sequence[str],
) -> str:
    """All of it for people."""
    seeds, metrics = len(scores[BASELINE]), ", ".join(METRIC_NAMES[m] for m in MAIN)
    parts = [_INTRODUCTION.format(seeds=seeds, metrics=metrics, counted=COUNTED)]
    parts += [f"{caution}\n" for caution in cautions]
    parts += [
        "## How strongly each term pulls\n",
        "Share of the gradient before the first step, mean over seeds. A term without any is "
        "dropped, has no weight in that stage, or is the KL of a policy that still is `sft`.\n",
        reward_vs_judges.shares(told),
    ]
    overall = figures[figures["seed"] == ALL]
    overall = overall.assign(seeds=[len(scores[system]) for system in overall["system"]])
    for test_set in test_sets(scores):
        parts += [
            f"## {test_set}\n",
            markdown(overall[overall["test_set"] == test_set]),
            f"Against {BASELINE}:\n",
            _tests_for_people(tested[tested["test_set"] == test_set]),
            "The paper's orderings:\n",
            _orderings_for_people(scores, test_set, wer_margin),
            "Rewards and judges:\n",
            "The rewards did not learn from this corpus (reward.leave_out).\n"
            if test_set in left_out
            else _parting_for_people(scores, test_set, told),
        ]
    return "\n".join(parts)


_INTRODUCTION = """\
# Claims: {seeds} seeds of every variant

Written by `make claims`, not by hand. `claims.csv` has the rows, each seed's too, and
`claims_tests.csv` the tests of all metrics.

- Figures have a 95 % interval over seeds and utterances (percentile bootstrap, somewhat narrow for
  few seeds). Whether two systems differ is in the tests, not in whether such intervals overlap.
- Tests are paired, seed by seed and utterance by utterance, and both are samples (min F').
  "p, Holm" is corrected for all comparisons of a test set: every variant in {metrics}.
- An ordering holds if the 95 % intervals of all its differences are on the paper's side, does not
  hold if one is on the other side, and is undecided if one includes zero (or the margin). Each
  interval is that of a single difference, without correction.
- {counted}
- Seeds differ in fine-tuning, rewards and draws. All of them share one base, one tokenizer, one
  codec (which is the reward) and one judge of affect: what another one of these would change is in
  no interval.
- "Rewards and judges" sets what a training did to its terms (mean over seeds ± their standard
  deviation; the codec's opinion, lower is better) beside what the judges hear of the same training,
  from the policy that it started from to its end. The terms are those of the dev curves: some 48
  sentences and one sample of each, the same for every seed, so that the deviation over seeds lacks
  what other sentences would change. In brackets: terms that it was not trained on. KL is that to
  `sft` at the end, in nats an utterance, or a token where reward.kl_reduction is mean.
  `claims_rewards.csv` has every term.
"""


def _tests_for_people(tested: pd.DataFrame) -> str:
    lines = [
        "| system | metric | difference | p | p, Holm | seeds that agree |",
        "|---|---|---|---|---|---|",
    ]
    for row in tested[tested["metric"].isin(MAIN)].to_dict("records"):
        gap = _gap(row[f"above_{BASELINE}"], row["lo"], row["hi"])
        chances = f"{row['p']:.2g} | {row['p_holm']:.2g}"
        agreeing = f"{row['seeds_agree']} of {row['seeds']}"
        name = METRIC_NAMES[row["metric"]]
        lines.append(f"| {row['system']} | {name} | {gap} | {chances} | {agreeing} |")
    return "\n".join(lines) + "\n"


def _parting_for_people(scores: Scores, test_set: str, told: pd.DataFrame) -> str:
    above, spread = reward_vs_judges.changes(told)
    at_the_end = told.groupby(["system", "term"], sort=False)["after"].mean()
    weights = told.groupby(["system", "term"], sort=False)["weight"].max()
    titles = [
        f"{reward_vs_judges.TERM_NAMES[term]} | {METRIC_NAMES[metric]}"
        for term, metric in reward_vs_judges.JUDGED_BY.items()
    ]
    lines = [
        "| training | from | KL | " + " | ".join(titles) + " |",
        "|---|---|---|" + "---|---|" * len(titles),
    ]
    for system, start in reward_vs_judges.trainings(told):
        cells = [system, start, f"{at_the_end[system, 'kl']:.2f}"]
        for term, metric in reward_vs_judges.JUDGED_BY.items():
            change = f"{above[system, term]:+.2f} ± {spread[system, term]:.2f}"
            cells.append(change if weights[system, term] else f"({change})")
            if start in scores:
                gap = difference(scores, test_set, metric, (system, start))
                cells.append(_gap(gap.above, gap.lo, gap.hi))
            else:
                cells.append(f"{UNJUDGED} ({start} in no table)")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _orderings_for_people(scores: Scores, test_set: str, wer_margin: float) -> str:
    policies = [system for system in scores if system not in SEEDLESS]
    found = orderings(policies, wer_margin)
    return "\n".join(_line(scores, test_set, ordering) for ordering in found) + "\n"


def _line(scores: Scores, test_set: str, ordering: Ordering) -> str:
    start = f"- {METRIC_NAMES[ordering.metric]}, {ordering.claim}: "
    missing = {name for pair in ordering.pairs for name in pair} - scores.keys()
    if missing:
        return f"{start}**{UNJUDGED}** ({', '.join(sorted(missing))} in no table)"
    gaps = [difference(scores, test_set, ordering.metric, pair) for pair in ordering.pairs]
    numbers = [
        f"{better} - {worse} = {_gap(gap.above, gap.lo, gap.hi)}"
        for (better, worse), gap in zip(ordering.pairs, gaps, strict=True)
    ]
    return f"{start}**{verdict(ordering, gaps)}** ({'; '.join(numbers)})"


def _gap(above: float, lo: float, hi: float) -> str:
    return f"{above:+.3f} [{lo:+.3f}, {hi:+.3f}]"
