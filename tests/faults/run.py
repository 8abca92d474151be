"""Disturb a miniature run at points drawn by seed, restart it, compare it with an undisturbed one.

    python -m tests.faults.run --trials 200 --seed 1       # goes on behind the last trial
    python -m tests.faults.run --seed 1 --only 17 --keep   # that trial again, its copy stays
    python -m tests.faults.run --seed 1 --write-docs       # the tables of docs/reliability.md

Each trial is a line of work/faults/<seed>.csv. A trial that failed is made again once the tree has
changed. Exits with 1 if a trial failed or lost an utterance. Linux only.
"""

import argparse
import csv
import fcntl
import signal
import statistics
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.injections import KINDS
from tests.faults.trial import Outcome, discard, drawn, log_of, perform
from tests.faults.undisturbed import FOLDER, Job, jobs_of, tree_hash, undisturbed
from tests.workflow.project import REPO

COLUMNS = ("k", "tree", "stage", "job", "kind", "moment", "whole", "ended", "spent_s", "restart_s",
           "again_s", "resumed_at", "lost", "notes", "outcome")  # fmt: skip
IDENTICAL = "identical"
DOCS = REPO / "docs/reliability.md"
BEGIN, END = "<!-- kills: begin -->", "<!-- kills: end -->"

Line = dict[str, str]


def sitting(trials: int, seed: int, record: Path) -> list[Line]:
    """Make the trials that are not recorded yet.

    Args:
        trials: how many there are to be.
        seed: what they are drawn by.
        record: gets a line for each.

    Returns:
        The newest line of each trial.
    """
    with _alone():
        tree = tree_hash()
        base = undisturbed(tree)
        jobs = jobs_of(base)
        done = {int(line["k"]): line for line in read(record)}
        for k in range(1, trials + 1):
            if k in done and (is_right(done[k]) or done[k]["tree"] == tree):
                continue
            outcome = _trial(seed, k, jobs, base.folder, keep=False)
            done[k] = line_of(outcome, tree)
            _add(record, done[k])
            print(f"faults: {k} of {trials}: {_described(done[k])}", flush=True)
    return [done[k] for k in range(1, trials + 1)]


def once_more(seed: int, k: int, keep: bool) -> Line:
    """Make one trial again, and record nothing."""
    with _alone():
        tree = tree_hash()
        base = undisturbed(tree)
        return line_of(_trial(seed, k, jobs_of(base), base.folder, keep), tree)


def _trial(seed: int, k: int, jobs: list[Job], base: Path, keep: bool) -> Outcome:
    """A trial in a copy, of which the logs stay if it fails."""
    copy = FOLDER / f"trial_{seed}_{k}"
    outcome = perform(drawn(seed, k, jobs), base, copy)
    if not keep:
        discard(copy)
    if not keep and not outcome.problems:
        for which in ("first", "second", "restart"):
            log_of(copy, which).unlink(missing_ok=True)
    return outcome


@contextmanager
def _alone() -> Iterator[None]:
    """Wait until no other process uses work/faults: a trial is to have the machine for itself."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def line_of(outcome: Outcome, tree: str) -> Line:
    plan = outcome.plan
    values = (
        plan.k, tree, plan.job.stage, plan.job.name, plan.kind, plan.moment, plan.whole or "",
        outcome.ended, f"{outcome.spent_s:.1f}", f"{outcome.restart_s:.1f}",
        f"{outcome.again_s:.1f}", outcome.resumed_at, outcome.lost, ", ".join(outcome.notes),
        "; ".join(outcome.problems)[:1000] or IDENTICAL,
    )  # fmt: skip
    return dict(zip(COLUMNS, map(str, values), strict=True))


def is_right(line: Line) -> bool:
    return line["outcome"] == IDENTICAL and line["lost"] == "0"


def read(record: Path) -> list[Line]:
    """Lines of a record, the oldest first."""
    if not record.is_file():
        return []
    with record.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _add(record: Path, line: Line) -> None:
    new = not record.is_file()
    with record.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if new:
            writer.writeheader()
        writer.writerow(line)


def _described(line: Line) -> str:
    asked = "of a whole run" if line["whole"] else "alone"
    what = f"{line['kind']} at {line['moment']} of {line['job']} {asked}"
    return f"{what}: {line['outcome']} ({line['again_s']} s done twice)"


def conclusion(lines: list[Line], seed: int) -> str:
    """The failed trials with what repeats them, and a last line."""
    failed = [line for line in lines if not is_right(line)]
    texts = [
        f"faults: trial {line['k']} failed, {_described(line)}; again: "
        f"python -m tests.faults.run --seed {seed} --only {line['k']} --keep"
        for line in failed
    ]
    right, lost = len(lines) - len(failed), sum(int(line["lost"]) for line in lines)
    last = f"faults: {right} of {len(lines)} restarts identical, {lost} utterances lost"
    return "\n".join([*texts, last])


def tables(lines: list[Line]) -> str:
    """Trials by kind of fault, and what they cost by stage, as Markdown."""
    alone = [line for line in lines if not line["whole"]]
    by_kind = [
        f"| {kind} | {len(of)} | {sum(map(is_right, of))} |"
        for kind, of in _grouped(lines, "kind", KINDS)
    ]
    stages = dict.fromkeys(line["stage"] for line in alone)
    by_stage = [
        f"| {stage} | {len(of)} | {statistics.median(again):.0f} | {max(again):.0f} |"
        for stage, of in _grouped(alone, "stage", stages)
        if (again := [float(line["again_s"]) for line in of])
    ]
    right, trees = sum(map(is_right, lines)), len({line["tree"] for line in lines})
    return "\n".join([
        f"{len(lines)} trials, {right} of them identical, on {trees} states of the tree.",
        "",
        "| fault | trials | identical |", "|---|--:|--:|", *by_kind,
        "",
        "| stage | trials | done twice, median s | worst, s |", "|---|--:|--:|--:|", *by_stage,
    ])  # fmt: skip


def _grouped(lines: list[Line], column: str, values: Iterable[str]) -> list[tuple[str, list[Line]]]:
    return [(value, [line for line in lines if line[column] == value]) for value in values]


def write_docs(path: Path, text: str) -> None:
    """Put a text between two marks of a document."""
    whole = path.read_text(encoding="utf-8")
    before, rest = whole.split(BEGIN, 1)
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END, 1)[1]}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=200, help="how many there are to be")
    parser.add_argument("--seed", type=int, default=1, help="what they are drawn by")
    parser.add_argument("--only", type=int, help="make this trial alone, and record nothing")
    parser.add_argument("--keep", action="store_true", help="its copy of the project stays")
    parser.add_argument("--write-docs", action="store_true", help=f"write tables into {DOCS.name}")
    given = parser.parse_args()
    # A shell has background processes ignore Ctrl-C, and they and all below them never see it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    record = FOLDER / f"{given.seed}.csv"
    if given.write_docs:
        newest = {line["k"]: line for line in read(record)}
        write_docs(DOCS, tables(list(newest.values())))
        return
    if given.only is not None:
        lines = [once_more(given.seed, given.only, given.keep)]
    else:
        lines = sitting(given.trials, given.seed, record)
    print(conclusion(lines, given.seed))
    raise SystemExit(not all(map(is_right, lines)))


if __name__ == "__main__":
    main()
