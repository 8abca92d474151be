"""`hpro listen analyse`: from the answers of raters to tables, a figure and a page."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from hpro_core.analysis.significance import holm
from hpro_core.errors import HproError
from hpro_core.io import write_csv_table, write_text
from hpro_core.listening.agreement import alpha
from hpro_core.listening.answers import Session, read_sessions
from hpro_core.listening.design import Design
from hpro_core.listening.estimates import AdditiveModel, Estimate, mean
from hpro_core.listening.figure import means_figure
from hpro_core.listening.page import render

RATED = ("naturalness", "emotion")
"""Parts with ratings from 1 to 5."""

NAMES = {"naturalness": "MOS-N (naturalness)", "emotion": "MOS-E (emotion)"}

PREFERENCE_SCORES = {"a": 0.0, "none": 0.5, "b": 1.0}
"""Preference for the second clip of a trial; no preference counts half for each."""


@dataclass(frozen=True)
class Tables:
    """Results, see docs/listening.md for the columns.

    Attributes:
        raters: every rater, with the reason if excluded.
        ratings: one row per rating of the other raters.
        choices: one row per comparison of the other raters.
        means: each system in each rated part.
        by_emotion: the same for each intended emotion.
        differences: all pairs of systems in each rated part.
        preference: compared pairs.
        agreement: Krippendorff's alpha of each part.
    """

    raters: pd.DataFrame
    ratings: pd.DataFrame
    choices: pd.DataFrame
    means: pd.DataFrame
    by_emotion: pd.DataFrame
    differences: pd.DataFrame
    preference: pd.DataFrame
    agreement: pd.DataFrame


def analyse(design: Design, answers: Sequence[Path], max_failed: int, out: Path) -> Tables:
    """Read the answers of raters and write the results.

    Args:
        design: the test.
        answers: files of answers, or folders of them.
        max_failed: most attention checks that a rater may fail.
        out: new folder, see `hpro_core.new_folder`.

    Raises:
        HproError: a file is not usable, or no rater is left.
    """
    sessions, notes = read_sessions(answers, design)
    tables = results(design, sessions, max_failed)
    for name in Tables.__dataclass_fields__:
        table = getattr(tables, name)
        if len(table):
            write_csv_table(table, out / f"{name}.csv")
    shown = tables.means.assign(part=tables.means["part"].map(NAMES))
    figure = means_figure(shown) if len(shown) else ""
    if figure:
        write_text(out / "means.svg", figure)
    write_text(out / "index.html", _page(design, tables, figure, notes, max_failed))
    for note in [*notes, *_exclusions(tables.raters)]:
        print(note, flush=True)
    return tables


def results(design: Design, sessions: Sequence[Session], max_failed: int) -> Tables:
    """Compute all tables; see `analyse`."""
    raters = _raters(design, sessions, max_failed)
    used = set(raters.loc[raters["excluded"] == "", "rater"])
    if not used:
        raise HproError(f"no rater is left: {'; '.join(_exclusions(raters))}")
    kept = [session for session in sessions if session.rater in used]
    ratings, choices = _ratings(design, kept), _choices(design, kept)
    systems = [system.name for system in design.systems]
    return Tables(
        raters,
        ratings,
        choices,
        _means(ratings, systems, []),
        _means(ratings[ratings["emotion"] != ""], systems, ["emotion"]),
        _differences(ratings, systems),
        _preference(choices, design.pairs),
        _agreement(ratings, choices),
    )


def _raters(design: Design, sessions: Sequence[Session], max_failed: int) -> pd.DataFrame:
    rows = []
    for session in sessions:
        trials = design.trials_of(session.rater)
        checks = [
            (expected, answer.answer)
            for (part, clips), answer in zip(
                trials[: len(session.answers)], session.answers, strict=True
            )
            if (expected := design.expected(part, clips)) is not None
        ]
        n_failed = sum(expected != given for expected, given in checks)
        reason = ""
        if n_failed > max_failed:
            reason = f"failed {n_failed} of {len(checks)} attention checks"
        elif len(session.answers) < len(trials):
            reason = f"incomplete: {len(session.answers)} of {len(trials)} trials"
        rows.append({
            "rater": session.rater, "file": session.path.name, "session": session.session,
            "trials": len(trials), "answers": len(session.answers), "checks": len(checks),
            "failed": n_failed, "minutes": round(sum(a.seconds for a in session.answers) / 60, 1),
            "excluded": reason,
        })  # fmt: skip
    return pd.DataFrame(rows)


def _exclusions(raters: pd.DataFrame) -> list[str]:
    excluded = raters[raters["excluded"] != ""]
    return [
        f"rater {row['rater']} ({row['file']}) is excluded: {row['excluded']}"
        for row in excluded.to_dict("records")
    ]


def _ratings(design: Design, sessions: Sequence[Session]) -> pd.DataFrame:
    about = {sentence.utt_id: sentence for sentence in design.sentences}
    rows = []
    for session in sessions:
        trials = design.trials_of(session.rater)
        for (part, clips), answer in zip(trials, session.answers, strict=True):
            if part == "preference" or design.expected(part, clips) is not None:
                continue
            clip = design.clips[clips[0]]
            sentence = about[clip.utt_id]
            rows.append({
                "rater": session.rater, "part": part, "utt_id": clip.utt_id,
                "test_set": sentence.test_set, "emotion": sentence.emotion, "system": clip.system,
                "score": int(answer.answer), "plays": answer.plays, "seconds": answer.seconds,
            })  # fmt: skip
    columns = ["rater", "part", "utt_id", "test_set", "emotion", "system", "score", "plays",
               "seconds"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def _choices(design: Design, sessions: Sequence[Session]) -> pd.DataFrame:
    rows = []
    for session in sessions:
        trials = design.trials_of(session.rater)
        for (part, clips), answer in zip(trials, session.answers, strict=True):
            if part != "preference" or design.expected(part, clips) is not None:
                continue
            first, second = (design.clips[clip] for clip in clips)
            rows.append({
                "rater": session.rater, "utt_id": first.utt_id, "a": first.system,
                "b": second.system, "answer": answer.answer, "plays": answer.plays,
                "seconds": answer.seconds,
            })  # fmt: skip
    columns = ["rater", "utt_id", "a", "b", "answer", "plays", "seconds"]
    return pd.DataFrame(rows, columns=columns)


def _means(ratings: pd.DataFrame, systems: Sequence[str], by: list[str]) -> pd.DataFrame:
    """Mean of each system in each part, or in each part and group."""
    rows = []
    for keys, group in ratings.groupby(["part", *by], sort=False):
        named = dict(zip(["part", *by], keys, strict=True))
        for system in systems:
            of = group[group["system"] == system]
            found = mean(_scores(of), of["rater"].to_numpy(), of["utt_id"].to_numpy(), np.nan)
            rows.append({
                **named, "system": system, "n": len(of), "raters": of["rater"].nunique(),
                "sentences": of["utt_id"].nunique(), "mean": found.value, "lo": found.lo,
                "hi": found.hi,
            })  # fmt: skip
    columns = ["part", *by, "system", "n", "raters", "sentences", "mean", "lo", "hi"]
    return _ordered(pd.DataFrame(rows, columns=columns), by)


def _ordered(table: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Sort by part, then group; systems keep their order."""
    place = table["part"].map({part: n for n, part in enumerate(RATED)})
    sorted_table = table.assign(_place=place).sort_values(["_place", *by], kind="stable")
    return sorted_table.drop(columns="_place").reset_index(drop=True)


def _scores(table: pd.DataFrame) -> np.ndarray:
    return table["score"].to_numpy(dtype=float)


def _differences(ratings: pd.DataFrame, systems: Sequence[str]) -> pd.DataFrame:
    """All pairs of systems, the later minus the earlier; Holm's family is one part."""
    places = {name: place for place, name in enumerate(systems)}
    rows: list[dict[str, object]] = []
    for part in RATED:
        of = ratings[ratings["part"] == part]
        if of.empty:
            continue
        model = AdditiveModel(
            of["system"].map(places).to_numpy(),
            of["rater"].to_numpy(),
            of["utt_id"].to_numpy(),
            len(systems),
        )
        pairs = list(combinations(systems, 2))
        found = [
            model.difference(_scores(of), places[system], places[base]) for base, system in pairs
        ]
        rows += [
            {"part": part, "system": system, "baseline": base, "difference": estimate.value,
             "lo": estimate.lo, "hi": estimate.hi, "p": estimate.p, "p_holm": corrected}
            for (base, system), estimate, corrected in zip(
                pairs, found, _corrected(found), strict=True
            )
        ]  # fmt: skip
    columns = ["part", "system", "baseline", "difference", "lo", "hi", "p", "p_holm"]
    return pd.DataFrame(rows, columns=columns)


def _corrected(found: Sequence[Estimate]) -> list[float]:
    """Holm's p-values of the comparisons that have one; NaN for the others."""
    known = [place for place, estimate in enumerate(found) if not np.isnan(estimate.p)]
    corrected = [float("nan")] * len(found)
    for place, p in zip(known, holm([found[place].p for place in known]), strict=True):
        corrected[place] = p
    return corrected


def _preference(choices: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """For each pair, how often the second system is preferred to the first."""
    rows: list[dict[str, object]] = []
    found = []
    for base, system in pairs:
        of = choices[choices["a"].isin([base, system]) & choices["b"].isin([base, system])]
        later = of["answer"].map(PREFERENCE_SCORES)
        scores = later.where(of["b"] == system, 1 - later).to_numpy(dtype=float)
        estimate = mean(scores, of["rater"].to_numpy(), of["utt_id"].to_numpy(), 0.5)
        found.append(estimate)
        rows.append({
            "system": system, "baseline": base, "n": len(of), "raters": of["rater"].nunique(),
            "sentences": of["utt_id"].nunique(), "for_system": int((scores == 1).sum()),
            "no_preference": int((scores == 0.5).sum()),
            "for_baseline": int((scores == 0).sum()), "preference": estimate.value,
            "lo": max(estimate.lo, 0.0), "hi": min(estimate.hi, 1.0), "p": estimate.p,
        })  # fmt: skip
    table = pd.DataFrame(rows)
    return table.assign(p_holm=_corrected(found)) if rows else table


def _agreement(ratings: pd.DataFrame, choices: pd.DataFrame) -> pd.DataFrame:
    """Alpha of each part: ordinal and interval of ratings, nominal of choices."""
    rows = []
    for part in RATED:
        of = ratings[ratings["part"] == part]
        if len(of):
            units = (of["utt_id"] + "\0" + of["system"]).to_numpy(dtype=str)
            rows += [_agreed(part, _scores(of), units, level) for level in ("ordinal", "interval")]
    if len(choices):
        flipped = choices["a"] > choices["b"]  # both orders of a pair are one unit
        score = choices["answer"].map(PREFERENCE_SCORES)
        first = choices["a"].where(~flipped, choices["b"])
        second = choices["b"].where(~flipped, choices["a"])
        units = (choices["utt_id"] + "\0" + first + "\0" + second).to_numpy(dtype=str)
        scores = score.where(~flipped, 1 - score).to_numpy(dtype=float)
        rows.append(_agreed("preference", scores, units, "nominal"))
    return pd.DataFrame(rows)


def _agreed(part: str, scores_N: np.ndarray, units_N: np.ndarray, level: str) -> dict[str, object]:
    _, counts = np.unique(units_N, return_counts=True)
    return {
        "part": part, "level": level, "alpha": alpha(scores_N, units_N, level),
        "clips": int((counts > 1).sum()), "answers": int(counts[counts > 1].sum()),
    }  # fmt: skip


# --- page ----------------------------------------------------------------------------------------


def _page(
    design: Design, tables: Tables, figure: str, notes: Sequence[str], max_failed: int
) -> str:
    emotions = tables.by_emotion[tables.by_emotion["part"] == "emotion"]
    return render(
        "results.html",
        title=design.title,
        test=design.test,
        source=design.source,
        n_raters=int((tables.raters["excluded"] == "").sum()),
        max_failed=max_failed,
        exclusions=_exclusions(tables.raters),
        lead=_lead(design, tables),
        notes=[*notes, *_cautions(design, tables)],
        figure=figure,
        parts=[
            {
                "name": NAMES[part],
                "means": _records(tables.means, part),
                "differences": [
                    {**row, "verdict": verdict(row["difference"], row["p_holm"])}
                    for row in _records(tables.differences, part)
                ],
            }
            for part in dict.fromkeys(tables.means["part"])
        ],
        emotions=emotions.to_dict("records"),
        preference=[
            {**row, "verdict": verdict(row["preference"] - 0.5, row["p_holm"], "preferred")}
            for row in tables.preference.to_dict("records")
        ],
        agreement=tables.agreement.to_dict("records"),
        files=[name for name in Tables.__dataclass_fields__ if len(getattr(tables, name))],
        intended=design.emotion_intended,
        number=number,
        p_value=p_value,
    )


def _lead(design: Design, tables: Tables) -> list[str]:
    """The comparisons of the compared systems, one sentence each."""
    compared = [system.name for system in design.systems if system.role == "system"]
    gaps = tables.differences
    gaps = gaps[gaps["system"].isin(compared) & gaps["baseline"].isin(compared)]
    lines = [
        f"{NAMES[row['part']]}, {row['system']} minus {row['baseline']}: "
        f"{number(row['difference'])} ({number(row['lo'])} to {number(row['hi'])}), "
        f"{verdict(row['difference'], row['p_holm'])}."
        for row in gaps.to_dict("records")
    ]
    for row in tables.preference.to_dict("records"):
        shown = verdict(row["preference"] - 0.5, row["p_holm"], "preferred")
        lines.append(
            f"Preference, {row['system']} to {row['baseline']}: {number(row['preference'])} "
            f"({number(row['lo'])} to {number(row['hi'])}), {shown}."
        )
    return lines


def _records(table: pd.DataFrame, part: str) -> list[dict]:
    return table[table["part"] == part].to_dict("records")


def verdict(gap: float, p_holm: float, higher: str = "higher") -> str:
    """Say what a corrected p-value shows at the level 5 %."""
    if np.isnan(p_holm):
        return "not tested"
    if p_holm >= 0.05:
        return "no difference shown"
    return higher if gap > 0 else ("lower" if higher == "higher" else f"less {higher}")


def number(value: float, digits: int = 2) -> str:
    """Format a number; a dash for NaN."""
    return "–" if np.isnan(value) else f"{value:.{digits}f}"


def p_value(value: float) -> str:
    """Format a p-value."""
    if np.isnan(value):
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _cautions(design: Design, tables: Tables) -> list[str]:
    """What a reader should know before the numbers: an incomplete cycle, an unexpected order."""
    cautions = []
    n = int((tables.raters["excluded"] == "").sum())
    if n < 2:
        cautions.append("One rater: no intervals and no tests.")
    elif n < len(design.sessions):
        cautions.append(
            f"{n} raters, but a cycle is {len(design.sessions)}: not all clips have equally many "
            "ratings. Differences are adjusted for it, means are not."
        )
    reference = [system.name for system in design.systems if system.role == "reference"]
    anchor = [system.name for system in design.systems if system.role == "anchor"]
    for part in dict.fromkeys(tables.means["part"]):
        of = tables.means[tables.means["part"] == part].set_index("system")["mean"].dropna()
        if reference and len(of) and of.idxmax() not in reference:
            cautions.append(
                f"{NAMES[part]}: {of.idxmax()} is above the hidden reference, the recordings."
            )
        if anchor and len(of) and of.idxmin() not in anchor:
            cautions.append(f"{NAMES[part]}: {of.idxmin()} is below the low anchor.")
    if len(tables.choices):
        decided = tables.choices[tables.choices["answer"] != "none"]
        if len(decided):
            share = float((decided["answer"] == "a").mean())
            cautions.append(
                f"In the preference, A was chosen in {share:.0%} of the decided comparisons; the "
                "sides of the systems are balanced."
            )
    return cautions
