"""Checks of Snakemake's targets and of the base, on rules that stand in for Snakemake's."""

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hpro_core.params import Params
from hpro_core.plan.request import guard_request, problems
from hpro_core.plan.settings import read_settings
from hpro_core.pretrained.base import FILES, SUMS

SHIPPED = Path(__file__).parents[1] / "params.yaml"
OUTPUTS = {
    "reward": "results/embedded/policy/{system}/seed{seed}/model.safetensors",
    "report": "results/embedded/report/index.html",
    "all": "",
}


class Refused(Exception):
    """Stands in for Snakemake's WorkflowError."""


def rule(name: str, output: str) -> Any:
    pattern = re.escape(output).replace(r"\{system\}", "(frame|hpro)").replace(r"\{seed\}", r"\d+")
    return SimpleNamespace(
        name=name,
        output=[output],
        is_producer=lambda path: bool(output) and bool(re.fullmatch(pattern, path)),
    )


def workflow(*targets: str, execute: Callable[[], str] = lambda: "done") -> Any:
    return SimpleNamespace(
        rules=[rule(name, output) for name, output in OUTPUTS.items()],
        dag_settings=SimpleNamespace(targets=set(targets)),
        deployment_settings=SimpleNamespace(deployment_method=set()),
        execute=execute,
    )


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """The shipped settings; the working directory has their base and a file `there`."""
    monkeypatch.chdir(tmp_path)
    for name in (*FILES, SUMS):
        file = tmp_path / "data/base" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (tmp_path / "there").touch()
    return read_settings(SHIPPED, [])


@pytest.mark.parametrize(
    ("target", "hint"),
    [
        ("reprt", "; did you mean report?"),
        ("xyzzy", ""),
        (
            "results/embedded/policy/hrpo/seed0/model.safetensors",
            "; did you mean results/embedded/policy/hpro/seed0/model.safetensors?",
        ),
        (
            "results/embeded/report/index.html",
            "; did you mean results/embedded/report/index.html?",
        ),
    ],
)
def test_a_target_that_no_rule_makes(settings: Params, target: str, hint: str) -> None:
    assert list(problems(workflow(target), settings)) == [
        f"no rule makes {target!r}{hint} (all rules: snakemake --list)"
    ]


def test_rules_their_outputs_and_existing_files_are_targets(settings: Params) -> None:
    targets = ("all", "report", "there", "results/embedded/policy/hpro/seed3/model.safetensors")
    assert list(problems(workflow(*targets), settings)) == []
    assert list(problems(workflow(), settings)) == []


def test_a_missing_base(settings: Params, tmp_path: Path) -> None:
    other = settings.model_copy(update={"base": "data/bsae"})
    (problem,) = problems(workflow(), other)
    assert problem.startswith("base: 'data/bsae' is no folder: name the folder of a base")
    (tmp_path / "data/base/policy/config.json").unlink()
    (problem,) = problems(workflow(), settings)
    assert problem.startswith("base: 'data/base' lacks data/base/policy/config.json: name the")
    assert list(problems(workflow(), settings.model_copy(update={"base": ""}))) == []


def test_a_tracker_whose_package_is_not_installed(
    settings: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpro_core.train.trackers.find_spec", lambda name: None)
    tracking = settings.tracking.model_copy(update={"tracker": "wandb"})
    chosen = settings.model_copy(update={"tracking": tracking})
    (problem,) = problems(workflow(), chosen)
    assert problem.startswith("tracking.tracker is wandb, but its package is not installed")
    conda = workflow()
    conda.deployment_settings.deployment_method = {"conda"}  # jobs have other packages
    assert list(problems(conda, chosen)) == []


def test_the_check_is_made_when_snakemake_executes(settings: Params) -> None:
    wrong = workflow("reprt")
    guard_request(wrong, settings, Refused)
    with pytest.raises(Refused, match=r"no rule makes 'reprt'; did you mean report\?"):
        wrong.execute()
    right = workflow("report")
    guard_request(right, settings, Refused)
    assert right.execute() == "done"
