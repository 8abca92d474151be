"""Trackers: each gets the same curves, settings and audio, and no result depends on one."""

import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.errors import HproError
from hpro_core.process import _name_of
from hpro_core.train import trackers
from hpro_core.train.loop import Loop, fit
from hpro_core.train.trackers import TRACKERS, check_tracker, flat_settings, open_trackers

REPO = Path(__file__).parents[1]
TONE_T = (0.5 * np.sin(np.arange(1600) / 8)).astype(np.float32)
CURVES = {"train/loss": [10, 20], "dev/loss": [0, 20], "train/grad_norm": [10, 20]}
SETTINGS = {"sft.steps": 20, "sft.leave_out": "[]"}


class Recorded:
    """Stands in for DVCLive's Live and for a run of wandb: the calls, and the settings' names."""

    def __init__(self, *arguments: Any, **options: Any):
        self.made_with = (arguments, options)
        self.step = 0
        self.rows: list[tuple[str, int]] = []
        self.config: dict[str, Any] = {}
        self.ended = False

    def log_params(self, values: dict[str, Any]) -> None:
        self.config |= values

    def log_metric(self, name: str, value: float) -> None:
        self.rows.append((name, self.step))

    def log(self, row: dict[str, Any]) -> None:
        (name,) = row.keys() - {"step"}
        self.rows.append((name, row["step"]))

    def define_metric(self, name: str, step_metric: str) -> None:
        assert (name, step_metric) == ("*", "step")

    def end(self) -> None:
        self.ended = True

    finish = end


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> dict[str, Recorded]:
    """Modules in place of the packages; what was opened, by the name of the tracker."""
    opened: dict[str, Recorded] = {}

    def opener(name: str) -> Any:
        def opens(*arguments: Any, **options: Any) -> Recorded:
            opened[name] = Recorded(*arguments, **options)
            return opened[name]

        return opens

    modules = {"dvclive": {"Live": opener("dvclive")}, "wandb": {"init": opener("wandb")}}
    modules["wandb"] |= {"Error": RuntimeError, "Audio": lambda *_, **options: options}
    for name, content in modules.items():
        module = ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(trackers, "find_spec", lambda name: object())
    return opened


def train(folder: Path, tracker: str) -> dict[str, Any]:
    """A training of twenty steps; its files."""
    params = folder / "sft.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"sft": {"steps": 20, "leave_out": []}, "depends_on": {"code": "x"}}
    params.write_text(yaml.safe_dump(settings))
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    loop = Loop("sft, seed 0", 20, 0, folder / "out", folder / "work", log_every=10,
                tracker=tracker, params=params)  # fmt: skip
    fit(model, torch.optim.Adam(model.parameters()), lambda x: {"loss": model(x).square().mean()},
        lambda step: torch.randn(4, 2), lambda: {"loss": 1.0}, loop)  # fmt: skip
    return {
        "weights": model.weight.tolist(),
        "curves": (folder / "out" / "training.csv").read_text(),
        "out": sorted(path.name for path in (folder / "out").iterdir()),
    }


@pytest.mark.parametrize("name", ["dvclive", "wandb"])
def test_another_tracker_gets_the_curves_and_changes_nothing(
    name: str, stand_in: dict[str, Recorded], tmp_path: Path
) -> None:
    alone, both = train(tmp_path / "alone", "tensorboard"), train(tmp_path / "both", name)
    assert both == alone
    opened = stand_in.pop(name)
    assert not stand_in
    for curve, steps in CURVES.items():
        assert [step for row, step in opened.rows if row == curve] == steps
    assert opened.config == SETTINGS
    assert opened.ended
    for options in ({"project": "hpro", "name": "sft, seed 0"}, {"save_dvc_exp": False}):
        if options.keys() <= opened.made_with[1].keys():
            assert options.items() <= opened.made_with[1].items()
            return
    raise AssertionError(opened.made_with)


def test_tensorboard_shows_scalars_settings_and_audio(tmp_path: Path) -> None:
    train(tmp_path, "tensorboard")
    board = EventAccumulator(str(tmp_path / "out/tensorboard")).Reload()
    for curve, steps in CURVES.items():
        assert [event.step for event in board.Scalars(curve)] == steps
    hparams = board.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"sft.steps" in hparams
    assert b"depends_on" not in hparams
    (tracker,) = open_trackers("tensorboard", tmp_path / "own", tmp_path / "work", "x")
    tracker.audio("probe/a", TONE_T, 7, "*happy*: well done")
    tracker.close()
    board = EventAccumulator(str(tmp_path / "own/tensorboard")).Reload()
    (audio,) = board.Audio("probe/a")
    assert (audio.step, audio.sample_rate) == (7, SAMPLE_RATE_HZ)
    path = tmp_path / "heard.wav"
    path.write_bytes(audio.encoded_audio_string)
    assert np.abs(soundfile.read(path)[0] - TONE_T).max() < 1e-4
    (text,) = board.Tensors("probe/a/text_summary")
    assert text.tensor_proto.string_val == [b"*happy*: well done"]


def test_dvclive_has_audio_as_files(stand_in: dict[str, Recorded], tmp_path: Path) -> None:
    _, tracker = open_trackers("dvclive", tmp_path / "out", tmp_path / "work", "x")
    tracker.audio("probe/a", TONE_T, 7, "well done")
    path = tmp_path / "work/dvclive/audio/probe_a_000007.wav"
    assert soundfile.info(path).samplerate == SAMPLE_RATE_HZ
    assert path.with_suffix(".md").read_text() == "well done"


def test_wandb_that_cannot_start_says_what_to_do(
    stand_in: dict[str, Recorded], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(**options: Any) -> None:
        raise RuntimeError("api_key not configured")

    monkeypatch.setattr(sys.modules["wandb"], "init", refuses)
    with pytest.raises(HproError, match=r"api_key not configured.*WANDB_MODE=offline"):
        open_trackers("wandb", tmp_path / "out", tmp_path / "work", "x")


def test_a_tracker_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(
        HproError, match=r"tracking.tracker is wandb, but .*: pip install wandb, or"
    ):
        check_tracker("wandb")
    with pytest.raises(HproError, match=r"no tracker 'wnadb' \(.*\); did you mean wandb\?"):
        check_tracker("wnadb")
    assert set(TRACKERS) == {"tensorboard", "dvclive", "wandb"}


def test_a_missing_tracker_is_refused_before_the_imports(tmp_path: Path) -> None:
    code = (
        "import sys; from hpro_core.train import trackers; trackers.find_spec = lambda name: None\n"
        "from hpro_core.cli import app\n"
        "try: app(['sft', '--tracker', 'wandb', '--root', 'r', '--params', 'p', '--work', 'w'])\n"
        "finally: print([m for m in ('torch', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True,
                          text=True, env={"PYTHONPATH": str(REPO), "PATH": ""})  # fmt: skip
    assert "HproError: tracking.tracker is wandb, but its package is not installed" in done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_settings_become_one_level() -> None:
    nested = {"a": {"b": 1, "c": {"d": True}}, "e": [1, 2], "f": None, "g": "x"}
    assert flat_settings(nested) == {"a.b": 1, "a.c.d": True, "e": "[1, 2]", "f": "None", "g": "x"}


def test_commands_that_differ_in_how_they_are_shown_are_the_same() -> None:
    """A command waits for another one with the same results."""
    plain = ["sft", "--root", "results/x", "--seed", "0"]
    shown = [*plain[:3], "--profile", "--tracker", "wandb", *plain[3:], "--threads", "2"]
    assert _name_of(shown) == _name_of(plain)
    assert _name_of([*plain[:-1], "1"]) != _name_of(plain)


# --- the packages themselves, where they are installed --------------------------------------------


@pytest.mark.skipif(find_spec("dvclive") is None, reason="without the package dvclive")
def test_the_real_dvclive(tmp_path: Path) -> None:
    train(tmp_path, "dvclive")
    folder = tmp_path / "work/dvclive"
    lines = (folder / "plots/metrics/dev/loss.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == ["step", "0", "20"]
    assert yaml.safe_load((folder / "params.yaml").read_text())["sft.steps"] == 20
    assert not (tmp_path / "dvc.yaml").exists()


@pytest.mark.skipif(find_spec("wandb") is None, reason="without the package wandb")
def test_the_real_wandb_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its server is not reached: offline it writes a file for `wandb sync`."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    train(tmp_path, "wandb")
    (written,) = (tmp_path / "work/wandb").glob("offline-run-*/run-*.wandb")
    texts, deadline = (b"dev/loss", b"train/grad_norm", b"sft.steps"), time.monotonic() + 20.0
    while any(text not in written.read_bytes() for text in texts):  # its own process writes
        assert time.monotonic() < deadline
        time.sleep(0.1)
