"""What limits a comparison: other judges, sentences, seeds, systems or code."""

from collections.abc import Mapping, Sequence

import pandas as pd

from hpro_core.analysis.tables import METRIC_NAMES, Scores
from hpro_core.compare.differences import seed_pairs
from hpro_core.compare.runs import RECORDINGS, Run, Shared
from hpro_core.compare.settings import of_judges
from hpro_core.judges.provenance import JudgeProvenance, independence_warnings


def on_judges(
    runs: Sequence[Run], judges: Sequence[JudgeProvenance], without: Sequence[Mapping[str, str]]
) -> list[str]:
    """What is not compared, and why; judges that are not independent or not trusted."""
    notes = []
    for run, of_run, lacking in zip(runs[1:], judges[1:], without[1:], strict=True):
        models: dict[tuple[str, str], list[str]] = {}
        for metric, judge in lacking.items():
            pair = (_short(of_run.judges.get(judge)), _short(judges[0].judges.get(judge)))
            models.setdefault(pair, []).append(METRIC_NAMES[metric])
        notes += [
            f"{' and '.join(names)} cannot be compared: another model judged {run.name} ({here}) "
            f"than {runs[0].name} ({there})."
            for (here, there), names in models.items()
        ]
    said: dict[str, list[str]] = {}
    for run, of_run in zip(runs, judges, strict=True):
        own = [*independence_warnings(of_run, METRIC_NAMES), *of_run.affect_notes.values()]
        for note in own:
            said.setdefault(note, []).append(run.name)
    return [*notes, *(f"{', '.join(names)}: {note}" for note, names in said.items())]


def _short(judge: str | None) -> str:
    """A judge with the first digits of its hash."""
    if judge is None:
        return "none"
    name, mark, digest = judge.partition(", sha256 ")
    return f"{name}{mark}{digest[:8]}"


def on_data(runs: Sequence[Run], shared: Shared, systems: Sequence[str]) -> list[str]:
    """Sentences, seeds and systems that not all runs have."""
    notes = []
    n = len(shared.test_sets)
    if any(own != n for own in shared.n_own.values()):
        sizes = ", ".join(f"{name} {own}" for name, own in shared.n_own.items())
        changed = (
            f"; {shared.n_other} have the same id, but another text or recording"
            if shared.n_other
            else ""
        )
        notes.append(
            f"The runs have other test sentences ({sizes}{changed}): only the {n} that all "
            "have are compared. A run may have trained on sentences that another one tests."
        )
    if len({tuple(run.seeds) for run in runs}) > 1:
        of_runs = ", ".join(f"{run.name} {_listed(run.seeds)}" for run in runs)
        paired = "; ".join(
            f"{run.name}: {_paired(seed_pairs(runs[0].seeds, run.seeds))}" for run in runs[1:]
        )
        notes.append(f"The runs have other training seeds ({of_runs}). Paired: {paired}.")
    for run in runs:
        if only := [name for name in run.systems if name not in systems]:
            notes.append(f"Not compared, since not every run has it: {', '.join(only)} "
                         f"({run.name}).")  # fmt: skip
    return notes


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def _paired(pairs: Sequence[tuple[int, int]]) -> str:
    if all(one == other for one, other in pairs):
        return f"seed {_listed([one for one, _ in pairs])}"
    return "seeds " + ", ".join(f"{one} with {other}" for one, other in pairs)


def on_scores(runs: Sequence[Run], scores: Sequence[Scores], different: pd.DataFrame) -> list[str]:
    """Differences of the evaluation itself, and test sets that are too small."""
    notes = []
    if names := of_judges(different):
        notes.append(f"The settings of the judges differ: {', '.join(names)}.")
    for run in runs[1:]:
        if run.code.get("judge") != runs[0].code.get("judge"):
            notes.append(
                f"{run.name} was judged by another version of the code of `hpro judge` than "
                f"{runs[0].name}: differences may be due to the code."
            )
        recorded = [of_run.get(RECORDINGS) for of_run in (scores[0], scores[runs.index(run)])]
        errors = [
            None if tables is None else tables[0].set_index("utt_id")["n_errors"]
            for tables in recorded
        ]
        if errors[0] is not None and errors[1] is not None:
            both = errors[0].index.intersection(errors[1].index)
            if not errors[0].loc[both].equals(errors[1].loc[both]):
                notes.append(
                    f"The ASR made other errors on the recordings of {run.name} than on those of "
                    f"{runs[0].name}: recordings or judges are not the same."
                )
    return notes
