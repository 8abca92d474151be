"""Two finished runs of the same sentences, with other settings, scores and audio."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import yaml

from hpro_core.io import sha256_of
from hpro_core.tables import SCORES, read_table, write_table
from tests import test_report as made
from tests.recorded import record

CHANGED = ("hpro", "word")
"""Systems that the runs do not have in common."""


def make_runs(folder: Path) -> tuple[Path, Path]:
    """Write results/before and results/after; the second has other policies hpro and word."""
    before = made.make_run(folder / "results" / "before")
    generator = np.random.default_rng(7)
    for system in made.ALL_SYSTEMS:
        n = generator.integers(0, 4, 6)
        change(before, system, lambda scores, n=n: scores.assign(n_errors=n))
    after = Path(shutil.copytree(before, folder / "results" / "after"))
    write_settings(before, {})
    write_settings(after, {"sft.steps": 70, "report.samples": 9})
    for system in CHANGED:
        change(after, system, better)
        for number, path in enumerate(sorted((after / "eval" / system).rglob("*.wav"))):
            tone = 0.1 * np.sin(2 * np.pi * (300 + 9 * number) * np.arange(32000) / 16000)
            soundfile.write(path, tone, 16000)
    for root in (before, after):
        for system in made.ALL_SYSTEMS:
            write_sums(root / "eval" / system / "seed0")
    return before, after


def better(scores: pd.DataFrame) -> pd.DataFrame:
    """One word error less where there is one, and other affect."""
    affect = scores["wvad_ccc"] + np.linspace(0.1, 0.3, len(scores))
    return scores.assign(n_errors=(scores["n_errors"] - 1).clip(lower=0), wvad_ccc=affect)


def change(
    root: Path, system: str, changed: Callable[[pd.DataFrame], pd.DataFrame], seed: int = 0
) -> None:
    """Replace the scores of a system, with their record."""
    path = root / "eval" / system / f"seed{seed}" / "scores.parquet"
    write_table(changed(read_table(path, SCORES)), path, SCORES)
    record(root, path, system, seed)


def write_sums(folder: Path) -> None:
    """Write the list of hashes beside the audio of a system."""
    names = sorted((folder / "audio").glob("*.wav"))
    lines = [f"{sha256_of(path)}  ./{path.name}\n" for path in names]
    (folder / "audio.sha256").write_text("".join(lines))


def write_settings(root: Path, changes: dict[str, object]) -> None:
    """Write the key file with all settings: those of the project, with changes by dotted name."""
    settings = yaml.safe_load(made.SHIPPED.read_text()) | {"run": root.name, "base": ""}
    settings["evaluate"]["bootstrap_samples"] = 100
    for name, value in changes.items():
        section = settings
        *parts, last = name.split(".")
        for part in parts:
            section = section[part]
        section[last] = value
    settings["depends_on"] = {"code": "ab" * 32, "shell": ["hpro report"]}
    (root / "params").mkdir(exist_ok=True)
    (root / "params/report.yaml").write_text(yaml.safe_dump(settings))


def add_seed(root: Path, system: str, seed: int) -> None:
    """Copy a system's first seed under another one."""
    folder = root / "eval" / system
    shutil.copytree(folder / "seed0", folder / f"seed{seed}")
    record(root, folder / f"seed{seed}" / "scores.parquet", system, seed)
