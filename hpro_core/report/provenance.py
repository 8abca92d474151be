"""Provenance of a run: git revision, package versions, date of its results."""

import platform
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from hpro_core.io import check_type, read_json
from hpro_core.records import PREFIX

PACKAGES = (
    *("torch", "torchaudio", "transformers", "numpy", "pandas", "snakemake", "dvc"),
    *("pocketsphinx", "hibari-tts", "openai-whisper", "ctranslate2", "speechmos", "soundfile"),
)
"""Packages whose version can affect results."""

MODEL_FOLDERS = ("codec/*", "judge", "policy/*", "policy/*/seed*", "speech/*")
"""Folders of a run with trained models and the records that name their hashes."""

SOURCES = (":/", ":(top,exclude)dvc.lock", ":(top,exclude)results")
"""Git's pathspec of the tracked files that no run writes."""


def git_revision() -> str:
    """Return the commit of the working directory, and whether tracked files are modified.

    dvc.lock and results/ do not count: every run changes them.
    """
    revision = _git("rev-parse", "HEAD")
    if revision is None:
        return "not a git repository"
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", *SOURCES)
    return f"{revision} (with uncommitted changes)" if changed else revision


def versions() -> dict[str, str]:
    """Return the versions of Python and of PACKAGES."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def model_hashes(root: Path) -> list[tuple[str, str]]:
    """Return the models of a run and their SHA-256, as the records beside them name them.

    Raises:
        HproError: a record is invalid.
    """
    found: dict[str, str] = {}
    for folder in MODEL_FOLDERS:
        for path in sorted(root.glob(f"{folder}/{PREFIX}*.json")):
            made = check_type(read_json(path).get("made"), dict[str, str], f"{path}, made")
            found |= {name: made[name] for name in made if name.endswith("model.safetensors")}
    return sorted(found.items())


def date_of(paths: Iterable[Path]) -> str:
    """Return the modification time of the newest file, in UTC."""
    newest = max(path.stat().st_mtime for path in paths)
    return datetime.fromtimestamp(newest, tz=UTC).strftime("%Y-%m-%d %H:%M UTC")


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
