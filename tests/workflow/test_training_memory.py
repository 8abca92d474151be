"""Trainings ask for the memory of every process on a node, utterances included."""

import re
from pathlib import Path

import pytest

from hpro_core.plan.settings import read_settings
from tests.test_plan import PAPER, SHIPPED, placeholders
from tests.workflow.project import Project
from workflow.scripts.training_memory import DATASET_TIMES

DATASET_MB = {"train.parquet": 150, "dev.parquet": 50, "train.arrow": 250, "dev.arrow": 50}
GPUS = ("codec_content:gpu=8", "reward:gpu=4", "sft:gpu=16", "sft:nodes=2")
COPIED, POLICY = "{resources.gpu} {resources.nodes}", "results/paper/policy/frame/seed0"


@pytest.mark.full
@pytest.mark.workflow
def test_memory_follows_the_processes_of_a_node_and_the_dataset(tmp_path: Path) -> None:
    project = Project.copied(tmp_path / "project", data=False)
    placeholders(project.folder, read_settings(SHIPPED, [PAPER]))
    for name, size in DATASET_MB.items():
        path = project.folder / f"results/paper/dataset/{name}"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as table:
            table.truncate(size * 10**6)
    for phase in ("codec", "policy", "reward"):
        rules = project.folder / f"workflow/rules/{phase}.smk"
        rules.write_text(rules.read_text().replace(COPIED, f"{COPIED} {{resources.mem_mb}}"))
    dry = ("snakemake", "--dry-run", "--printshellcmds", "--configfile", "config/paper.yaml")
    said = project.run(*dry, "--set-resources", *GPUS, "--", f"{POLICY}/model.safetensors").stdout
    asked = dict(re.findall(r"launch (\d+ \d+ \d+) +hpro (\S+)", said))
    held = round(DATASET_TIMES * sum(DATASET_MB.values()))
    assert held > 0
    assert {command: mb_of for mb_of, command in asked.items()} == {
        "codec-content": f"8 1 {8 * (12000 + held)}",
        "codec-style": f"1 1 {12000 + held}",
        "sft": f"16 2 {8 * (24000 + held)}",
        "reward": f"4 1 {4 * (24000 + held)}",
    }
