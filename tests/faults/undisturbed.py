"""The undisturbed run: trials start from copies of it, and are compared with it."""

import csv
import hashlib
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import yaml

from hpro_core.plan.durations import benchmark_s
from tests.workflow.miniature import miniature
from tests.workflow.project import REPO, Project

RUN = "faults"
FOLDER = REPO / "work/faults"
SETTINGS = Path(__file__).with_name("settings.yaml")
ONE_JOB_AT_A_TIME = ("--default-resources", "alone=1", "--resources", "alone=1")
"""Durations are then those of a trial, in which a job runs alone."""
REMOVED_BY = {"align/align": "align/check"}
"""A job that begins by removing what another one makes of its outputs."""


@dataclass(frozen=True)
class Job:
    """A job of the run.

    Attributes:
        name: of its log, such as "reward/frame_seed0".
        arguments: of its `hpro`, the command first.
        inputs: files, relative to the project.
        outputs: files and folders, relative to the project.
        removed: outputs of another job that this one removes.
        duration_s: wall time of the undisturbed job.
    """

    name: str
    arguments: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    duration_s: float
    removed: tuple[str, ...] = ()

    @property
    def stage(self) -> str:
        return self.name.split("/")[0]

    @property
    def log(self) -> str:
        return f"logs/{RUN}/{self.name}.log"

    @property
    def benchmark(self) -> str:
        return f"benchmarks/{RUN}/{self.name}.tsv"


def tree_hash() -> str:
    """Hash of the files that a run depends on: all but documents and tests."""
    digest = hashlib.sha256(SETTINGS.read_bytes())
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=REPO, capture_output=True, text=True, check=True).stdout
    for name in sorted(filter(None, names.split("\0"))):
        counts = not name.startswith(("docs/", "tests/")) and not name.endswith(".md")
        if counts and (REPO / name).is_file():
            digest.update(f"{name}\0".encode() + (REPO / name).read_bytes())
    return digest.hexdigest()[:12]


def undisturbed(tree: str) -> Project:
    """The run of this tree, made if it is not there yet; minutes."""
    made, stamp = FOLDER / "base", FOLDER / "base.tree"
    if stamp.is_file() and stamp.read_text() == tree:
        return at(made)
    stamp.unlink(missing_ok=True)
    shutil.rmtree(made, ignore_errors=True)
    print("faults: making the undisturbed run, some minutes", flush=True)
    miniature(made, SETTINGS)
    at(made).run("snakemake", "--cores", "2", *ONE_JOB_AT_A_TIME)
    missing = lost_utterances(made, _asked_for(made))
    assert not missing, f"the undisturbed run itself lost {sorted(missing)}"
    stamp.write_text(tree)
    return at(made)


def at(folder: Path) -> Project:
    """A project that uses its own hpro_core, wherever another is installed from."""
    return Project(folder, {"PYTHONPATH": str(folder), "GIT_CEILING_DIRECTORIES": str(FOLDER)})


def jobs_of(project: Project) -> list[Job]:
    """All jobs of a finished run, sorted by name."""
    summary = project.run("snakemake", "--cores", "2", "--detailed-summary").stdout
    rows = [line.split("\t") for line in summary.splitlines() if line.startswith("results/")]
    outputs: dict[tuple[str, str, str], list[str]] = {}
    for output, _, _, log, inputs, command, _, plan in rows:
        assert plan == "no update", f"{output}: {plan}"
        outputs.setdefault((log, inputs, command), []).append(output)
    jobs = []
    for (log, inputs, command), names in outputs.items():
        name = log.removeprefix(f"logs/{RUN}/").removesuffix(".log")
        duration_s = benchmark_s(project.folder / f"benchmarks/{RUN}/{name}.tsv")
        assert duration_s is not None, f"{name} left no benchmark"
        read = tuple(inputs.split(","))
        jobs.append(Job(name, _arguments(command), read, tuple(names), duration_s))
    by_name = {job.name: job for job in sorted(jobs, key=lambda job: job.name)}
    for name, other in REMOVED_BY.items():
        by_name[name] = replace(by_name[name], removed=by_name[other].outputs)
    return list(by_name.values())


def that_follow(job: Job, jobs: Iterable[Job]) -> list[Job]:
    """Jobs that read what a job made, directly or not."""
    made, found = set(job.outputs), []
    while more := [each for each in jobs if each not in found and made & set(each.inputs)]:
        found += more
        made |= {name for each in more for name in each.outputs}
    return found


def _arguments(command: str) -> tuple[str, ...]:
    """What follows `hpro` in a shell line."""
    found = re.search(r"\bhpro ([a-z].*?)(?: 2>&1| &&|$)", command)
    assert found, command
    return tuple(shlex.split(found[1]))


def utterances_of(folder: Path) -> set[str]:
    """Utterances that the corpora of a run gave it, rejected ones too."""
    tables = (folder / f"results/{RUN}/corpus").glob("*/*.parquet")
    names = ("utterances.parquet", "rejected.parquet")
    return {each for path in tables if path.name in names for each in _ids(path)}


def lost_utterances(folder: Path, expected: set[str]) -> set[str]:
    """Those that are neither in the dataset, nor rejected, nor set aside for the judges."""
    root = folder / f"results/{RUN}"
    found = {each for path in root.rglob("rejected.parquet") for each in _ids(path)}
    for split in ("train", "dev", "test"):
        found |= _ids(root / f"dataset/{split}.parquet")
    return expected - found - _ids(root / "corpus/utterances.parquet", [("split", "==", "judge")])


def _ids(path: Path, only: list[tuple[str, str, str]] | None = None) -> set[str]:
    """The utterances of a table; none where there is no table."""
    if not path.is_file():
        return set()
    return set(pd.read_parquet(path, columns=["utt_id"], filters=only).utt_id)


def _asked_for(folder: Path) -> set[str]:
    """Utterances that the excerpt's own list and the settings name."""
    with (folder / "data/raw/amazon_queen/metadata.csv").open(encoding="utf-8") as file:
        acted = {f"acted_{row['utt_id']}" for row in csv.DictReader(file)}
    sizes = yaml.safe_load(SETTINGS.read_text(encoding="utf-8"))["controlled"]
    return acted | {f"controlled_{split}_{i:05d}" for split, n in sizes.items() for i in range(n)}
