"""Finds and runs the program `mfa` of its conda environment."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TextIO

from hpro_core.errors import HproError

ENVIRONMENT = "workflow/envs/mfa.yaml"
LINES_IN_ERROR = 5


def program(command: str) -> list[str]:
    """Return a command as a list, `mfa` or for example `conda run --no-capture-output -n mfa mfa`.

    Raises:
        HproError: the program is not on PATH, or a quote is not closed.
    """
    try:
        parts = shlex.split(command)
    except ValueError as error:
        raise HproError(f"align.mfa_command: {command!r}: {error}: close the quote") from error
    if not parts or shutil.which(parts[0]) is None:
        raise HproError(
            f"align.mfa_command: {command!r} is not on PATH: create the environment with "
            f"`conda env create -f {ENVIRONMENT}` and set `conda run --no-capture-output -n mfa "
            "mfa`, or run Snakemake with --use-conda, or set align.backend: pocketsphinx"
        )
    return parts


def execute(command: list[str], log: TextIO, root: Path | None = None) -> None:
    """Run MFA; its output is written to the open file `log` and to stderr.

    `root` is MFA_ROOT_DIR of this run; None for the user's.

    Raises:
        HproError: MFA failed; the message has the last lines of its output.
    """
    own = {} if root is None else {"MFA_ROOT_DIR": str(root)}
    print(shlex.join(command), file=log, flush=True)
    tail: list[str] = []
    with subprocess.Popen(
        command,
        env={**os.environ, **own},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            log.write(line)
            sys.stderr.write(line)
            tail = [*tail, line.strip()][-LINES_IN_ERROR:] if line.strip() else tail
    if process.returncode != 0:
        raise HproError(
            f"mfa ended with status {process.returncode}; its output is in {log.name}: "
            + " | ".join(tail)
        )
