"""Times and memory of the jobs of a run, from the benchmark files that Snakemake writes."""

import math
from dataclasses import dataclass
from pathlib import Path

from hpro_core.errors import HproError
from hpro_core.io import csv_lines, read_text

HINT = "delete it and run its job again"


@dataclass(frozen=True)
class Job:
    """Cost of one job."""

    name: str  # its benchmark file below the run's folder, without ending
    seconds: float
    peak_mb: float  # NaN for a job that was too short to be measured
    cpu_s: float

    @property
    def time(self) -> str:
        """The time as h:mm:ss."""
        return clock(self.seconds)


def read_jobs(folder: Path) -> list[Job]:
    """Read benchmarks/<run>/**/*.tsv, longest first; empty if the folder does not exist.

    The job of the report itself is left out: its file is that of an earlier report.

    Raises:
        HproError: a file cannot be read.
    """
    paths = sorted(path for path in folder.rglob("*.tsv") if path.stem != "report")
    jobs = [_read(path, folder) for path in paths]
    return sorted(jobs, key=lambda job: -job.seconds)


def clock(seconds: float) -> str:
    """Format a time as h:mm:ss."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _read(path: Path, folder: Path) -> Job:
    """The first repetition of a job."""
    lines = list(csv_lines(read_text(path, HINT).replace("\t", ","), str(path)))
    if len(lines) < 2 or not {"s", "max_rss", "cpu_time"} <= set(lines[0][1]):
        raise HproError(f"{path} is no benchmark file of Snakemake: {HINT}")
    row = dict(zip(lines[0][1], lines[1][1], strict=True))
    name = path.relative_to(folder).with_suffix("").as_posix()
    seconds, peak_mb, cpu_s = (_number(row[key], path) for key in ("s", "max_rss", "cpu_time"))
    return Job(name, seconds, peak_mb, cpu_s)


def _number(text: str, path: Path) -> float:
    """A measurement; Snakemake writes "-" or NA for what it did not measure."""
    if text in ("-", "NA", ""):
        return math.nan
    try:
        return float(text)
    except ValueError as error:
        raise HproError(f"{path} has {text!r} instead of a number: {HINT}") from error
