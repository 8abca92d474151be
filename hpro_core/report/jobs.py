"""Times and memory of the jobs of a run, from the benchmark files that Snakemake writes."""

import math
from dataclasses import dataclass
from pathlib import Path

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

    Raises:
        HproError: a file cannot be read.
    """
    jobs = [_read(path, folder) for path in sorted(folder.rglob("*.tsv"))]
    return sorted(jobs, key=lambda job: -job.seconds)


def clock(seconds: float) -> str:
    """Format a time as h:mm:ss."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _read(path: Path, folder: Path) -> Job:
    """The first repetition of a job; Snakemake writes "-" or NA for what it did not measure."""
    lines = list(csv_lines(read_text(path, HINT).replace("\t", ","), str(path)))
    (_, header), (_, cells) = lines[0], lines[1]
    row = dict(zip(header, cells, strict=True))
    name = path.relative_to(folder).with_suffix("").as_posix()
    return Job(name, _number(row["s"]), _number(row["max_rss"]), _number(row["cpu_time"]))


def _number(text: str) -> float:
    return math.nan if text in ("-", "NA", "") else float(text)
