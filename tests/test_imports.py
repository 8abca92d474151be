"""What a command imports is a part of its time: 40 jobs of a run start a process each."""

import subprocess
import sys

import pytest

EMBEDDED = (
    "hpro_core.dataset",
    "hpro_core.train.examples",
    "hpro_core.policy.sft",
    "hpro_core.synthesis.stage",
    "hpro_core.reward.train",
    "hpro_core.speech.stage",
    "hpro_core.judges.stage",
)
"""Modules of jobs that an embedded run starts."""


@pytest.mark.full
def test_embedded_jobs_start_without_transformers():
    code = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)\n"
    code += "print(*[n for n in ('transformers', 'librosa', 'numba') if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code, *EMBEDDED], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


def test_the_command_line_starts_without_the_modules_of_the_commands():
    code = "import sys, hpro_core.cli\n"
    code += "print(*[n for n in ('torch', 'pandas', 'pyarrow') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
