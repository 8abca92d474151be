"""Jobs of a whole run, counted from Snakemake's rules.

Snakemake's dry run stops at a missing file of the user and leaves out finished jobs. Therefore this
follows the rules from the target to its inputs, and assumes that a file which no rule makes exists.
A test compares the result with the dry run.
"""

import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from hpro_core.errors import HproError, one_line
from hpro_core.io import read_json, write_json
from hpro_core.params import Params
from hpro_core.plan import durations

TARGET = "phase_report"
"""The target `all` without the records that earlier runs have lost."""

JOBS_FILE = "HPRO_JOBS_FILE"
"""Environment variable: the Snakefile writes the jobs to this file and does nothing else."""

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Job:
    """A rule of `workflow/rules/<phase>.smk`, and its number of jobs for the target `all`."""

    phase: str
    rule: str
    count: int


@dataclass(frozen=True)
class Listing:
    """The jobs of a whole run: their numbers per rule, and each of them with its files."""

    counts: list[Job]
    graph: dict[int, durations.Job]


def jobs_of(settings: Params) -> list[Job]:
    """Return the number of jobs per rule, see `listing_of`."""
    return listing_of(settings).counts


def listing_of(settings: Params) -> Listing:
    """Return the jobs of a run from an empty results folder, in the order of the rules.

    Starts Snakemake, which reads the rules and runs nothing.

    Raises:
        HproError: the package has no Snakefile beside it, or Snakemake fails.
    """
    snakefile = ROOT / "Snakefile"
    if not snakefile.is_file():
        raise HproError(f"{snakefile} does not exist: install hpro from a checkout (make setup)")
    with tempfile.TemporaryDirectory() as folder:
        chosen, found = Path(folder, "settings.yaml"), Path(folder, "jobs.json")
        chosen.write_text(yaml.safe_dump(settings.model_dump(mode="json")), encoding="utf-8")
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile)]
        command += ["--workflow-profile", "none", "--replace-workflow-config", "--list-rules"]
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        done = subprocess.run(
            [*command, "--configfile", str(chosen)],
            env={**os.environ, "PYTHONPATH": path, JOBS_FILE: str(found)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode or not found.is_file():
            raise HproError(f"Snakemake cannot read {snakefile}: {one_line(done.stderr[-500:])}")
        listing = read_json(found)
    counts = [Job(**job) for job in listing["jobs"]]
    return Listing(counts, durations.jobs_from_json(listing["graph"]))


def write_listing(path: Path, listing: Listing) -> None:
    """Write jobs for `listing_of`, in another process."""
    graph = durations.jobs_to_json(listing.graph.values())
    write_json(path, {"jobs": [asdict(job) for job in listing.counts], "graph": graph})


def jobs_of_workflow(workflow: Any) -> list[Job]:
    """Return the number of jobs per rule, see `listing_of_workflow`."""
    return listing_of_workflow(workflow).counts


def listing_of_workflow(workflow: Any) -> Listing:
    """List the jobs of a run from an empty results folder, in the order of the rules.

    Args:
        workflow: Snakemake's workflow, at the end of the Snakefile.
    """

    @cache
    def maker_of(file: str) -> Any:
        """The rule that makes a file; None for a file of the user."""
        makers = (r for r in workflow.rules if any(out.match(file) for out in r.output))
        return next(makers, None)

    target = workflow.get_rule(TARGET)
    needs: dict[_Key, set[_Key]] = {(target.name,): set()}
    waiting = [((target.name,), target, dict[str, str]())]
    wildcards_of = {(target.name,): dict[str, str]()}
    while waiting:
        key, rule, wildcards = waiting.pop()
        for file in map(str, rule.expand_input(wildcards)[0]):
            if (maker := maker_of(file)) is None:
                continue
            needed = maker.get_wildcards(file)
            made_by: _Key = (maker.name, *sorted(needed.items()))
            needs[key].add(made_by)
            if made_by not in needs:
                needs[made_by] = set()
                wildcards_of[made_by] = needed
                waiting.append((made_by, maker, needed))
    rules = {rule.name: rule for rule in workflow.rules}
    counts = Counter(key[0] for key in needs)
    run = [name for name, rule in rules.items() if counts[name] and not rule.norun]
    keys = sorted((key for key in needs if key[0] in run), key=lambda key: run.index(key[0]))
    return Listing(
        [Job(Path(str(rules[name].snakefile)).stem, name, counts[name]) for name in run],
        _graph(keys, rules, wildcards_of, needs),
    )


_Key = tuple[Any, ...]
"""Name of a rule, and its wildcards with their values."""


def _graph(
    keys: Sequence[_Key],
    rules: Mapping[str, Any],
    wildcards_of: Mapping[_Key, Mapping[str, str]],
    needs: Mapping[_Key, Iterable[_Key]],
) -> dict[int, durations.Job]:
    numbers = {key: number for number, key in enumerate(keys)}
    names = durations.display_names([(key[0], wildcards_of[key]) for key in keys])
    found = {}
    for name, (key, number) in zip(names, numbers.items(), strict=True):
        rule, wildcards = rules[key[0]], wildcards_of[key]
        logs = rule.expand_log(wildcards)
        benchmark = str(rule.expand_benchmark(wildcards) or "")
        threads, priority = rule.resources["_cores"], rule.priority
        found[number] = durations.Job(
            number=number,
            rule=rule.name,
            name=name,
            phase=Path(str(rule.snakefile)).stem,
            log=str(logs[0]) if logs else "",
            last_s=durations.benchmark_s(Path(benchmark)) if benchmark else None,
            needs=frozenset(numbers[need] for need in needs[key] if need in numbers),
            asks={"_cores": 1 if threads.is_evaluable() else int(threads.value)},
            priority=priority if isinstance(priority, int) else 0,
            benchmark=benchmark,
            outputs=tuple(map(str, rule.expand_output(wildcards)[0])),
        )
    return found
