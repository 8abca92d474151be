"""What a restarted run is to have in common with the undisturbed one: everything."""

import filecmp
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.faults.undisturbed import RUN
from tests.workflow.project import REPO

DATED = ("tensorboard", "report")
"""Folders whose files hold the time at which they were written: only they are not compared."""
NO_LEFT_OVERS = ("locks", "settings")
"""Folders in work/<run> whose files stay."""
SYSTEM_SAYS = re.compile(r"No space left|Read-only file system|Too many open files|too large")


def differences(base: Path, made: Path, environment: Mapping[str, str]) -> list[str]:
    """Files of the results that are missing, left over or not the same, byte for byte.

    Args:
        base: folder of the undisturbed project.
        made: folder of the restarted one.
        environment: of its `hpro`.
    """
    expected, found = _results(base), _results(made)
    same = [name for name in expected & found if not set(Path(name).parts) & set(DATED)]
    changed = [n for n in same if not filecmp.cmp(base / n, made / n, shallow=False)]
    left = _work(made) - _work(base)
    problems = [
        *(f"missing: {name}" for name in sorted(expected - found)),
        *(f"left over: {name}" for name in sorted((found - expected) | left)),
        *(f"differs: {name}" for name in sorted(changed)),
    ]
    return problems + _verified(made, environment)


def message_problems(log: Path) -> list[str]:
    """What is not right about the log of a job that failed: a line of it is to say why.

    One of the shell or of a program beside `hpro` counts where the system's reason is in it.
    """
    text = log.read_text(errors="replace") if log.is_file() else ""
    text = text.replace(f"{REPO}/", "")  # the notes of a trial are published
    if "Traceback (most recent call last)" in text or "This is a bug" in text:
        return [f"{log.name} has a traceback or a bug: {text.strip().splitlines()[-1][:160]}"]
    if not re.search(r"^hpro: ", text, re.MULTILINE) and not SYSTEM_SAYS.search(text):
        return [f"{log.name} does not say why the job failed: {text[-200:]!r}"]
    return []


def _results(project: Path) -> set[str]:
    """Files of the results but for TensorBoard's, whose names hold the time."""
    found = _files(project, f"results/{RUN}")
    return {n for n in found if "tensorboard" not in n and not n.endswith(".snakemake_timestamp")}


def _work(project: Path) -> set[str]:
    found = _files(project, f"work/{RUN}")
    return {name for name in found if Path(name).parts[2] not in NO_LEFT_OVERS}


def _files(project: Path, folder: str) -> set[str]:
    paths = (project / folder).rglob("*")
    return {path.relative_to(project).as_posix() for path in paths if path.is_file()}


def _verified(made: Path, environment: Mapping[str, str]) -> list[str]:
    """What `hpro verify` finds."""
    command = [sys.executable, "-m", "hpro_core.cli", "verify", f"results/{RUN}"]
    done = subprocess.run(
        command, cwd=made, env={**os.environ, **environment}, capture_output=True, text=True
    )
    return [] if done.returncode == 0 else [f"hpro verify: {done.stderr.strip() or done.stdout}"]
