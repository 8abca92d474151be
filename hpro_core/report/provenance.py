"""Where a run comes from: revision, versions, date of its results."""

import platform
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

PACKAGES = (
    *("torch", "torchaudio", "transformers", "numpy", "pandas", "snakemake", "dvc"),
    *("pocketsphinx", "hibari-tts", "openai-whisper", "ctranslate2", "speechmos", "soundfile"),
)
"""Packages whose version can change a result."""


def git_revision() -> str:
    """The commit that the working directory is at, and whether tracked files were changed."""
    revision = _git("rev-parse", "HEAD")
    if revision is None:
        return "not a git repository"
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return f"{revision} (with uncommitted changes)" if changed else revision


def versions() -> dict[str, str]:
    """Python and the packages that matter."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def date_of(paths: Iterable[Path]) -> str:
    """When the youngest of some files was written, in UTC; the same files give the same date."""
    youngest = max(path.stat().st_mtime for path in paths)
    return datetime.fromtimestamp(youngest, tz=UTC).strftime("%Y-%m-%d %H:%M UTC")


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
