"""The settings of `tracking` reach the commands of trainings, and a change of them runs no job."""

import re
from pathlib import Path

import pytest

from tests.workflow.project import Project

SHOWN = "tracking={audio_every: 5, profile: true}"
AUDIO = """--dev-audio '{"every": 5, "sentences": 3, "synthesis": {"""
TRAININGS = ("tokenizer", "vocoder", "codec-content", "codec-style", "sft", "reward frame")


@pytest.mark.full
def test_a_change_of_tracking_runs_no_job_and_reaches_those_that_run(
    finished: Project, tmp_path: Path
) -> None:
    project = finished.twin(tmp_path / "twin")
    look = ("snakemake", "--cores", "1", "--dry-run", "--printshellcmds", "--config", SHOWN)
    assert "Nothing to be done" in project.run(*look).stdout
    said = project.run(*look, "--forceall").stdout
    for training in TRAININGS:
        (command,) = set(re.findall(rf"hpro {training} .*?(?= 2>&1)", said, flags=re.DOTALL))
        assert "--profile" in command
        assert (AUDIO in command) == training.startswith(("sft", "reward"))
    plain = project.run("snakemake", "--cores", "1", "--dry-run", "-p", "--forceall").stdout
    assert "--dev-audio" not in plain
    assert "--profile" not in plain
    for key in (project.folder / "results/embedded/params").iterdir():
        assert "audio_every" not in key.read_text(encoding="utf-8")
