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
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from hpro_core.errors import HproError, one_line
from hpro_core.io import read_json, write_json
from hpro_core.params import Params

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


def jobs_of(settings: Params) -> list[Job]:
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
        return [Job(**job) for job in read_json(found)["jobs"]]


def write_jobs(path: Path, jobs: Sequence[Job]) -> None:
    """Write jobs for `jobs_of`, in another process."""
    write_json(path, {"jobs": [asdict(job) for job in jobs]})


def jobs_of_workflow(workflow: Any) -> list[Job]:
    """Count the jobs of a run from an empty results folder, in the order of the rules.

    Args:
        workflow: Snakemake's workflow, at the end of the Snakefile.
    """

    @cache
    def maker_of(file: str) -> Any:
        """The rule that makes a file; None for a file of the user."""
        makers = (r for r in workflow.rules if any(out.match(file) for out in r.output))
        return next(makers, None)

    counts: Counter[str] = Counter()
    seen, waiting = set(), [(workflow.get_rule(TARGET), dict[str, str]())]
    while waiting:
        rule, wildcards = waiting.pop()
        counts[rule.name] += 1
        for file in map(str, rule.expand_input(wildcards)[0]):
            if (maker := maker_of(file)) is None:
                continue
            needed = maker.get_wildcards(file)
            if (job := (maker.name, *sorted(needed.items()))) not in seen:
                seen.add(job)
                waiting.append((maker, needed))
    rules = [rule for rule in workflow.rules if counts[rule.name] and not rule.norun]
    return [Job(Path(str(r.snakefile)).stem, r.name, counts[r.name]) for r in rules]
