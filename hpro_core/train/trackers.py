"""Trackers: they show the curves, settings and audio of a training while it runs.

TensorBoard's files are always written, since they are part of the results. Another tracker gets the
same beside them. No result depends on a tracker (`workflow/scripts/code_hash.py`).
Letters: T audio sample.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.errors import HproError, did_you_mean
from hpro_core.params import flattened

TENSORBOARD = "tensorboard"
TRACKERS = (TENSORBOARD, "dvclive", "wandb")
"""Values of tracking.tracker; each is also the name of a package."""

FLUSH_S = 10
"""Seconds after which TensorBoard's file has a new value, for `hpro status`."""


@dataclass(frozen=True)
class Spoken:
    """A sentence that a policy in training has spoken.

    Attributes:
        name: of the sentence.
        samples_T: float32 (T,) in [-1, 1], 16 kHz.
        caption: Markdown: text, emotion and scores.
        scores: by name; empty if nothing scores it.
    """

    name: str
    samples_T: np.ndarray
    caption: str
    scores: Mapping[str, float]


class Speaker(Protocol):
    """Speaks with a policy in training."""

    every: int
    """Steps between two calls."""

    def __call__(self, policy: Any, /) -> Iterable[Spoken]:
        """Return what a policy in eval mode speaks."""


class Tracker(Protocol):
    """Where a training reports to. Steps are those of the training, from 0 on."""

    def settings(self, values: Mapping[str, str | int | float | bool]) -> None:
        """Report the settings, once, before anything else."""

    def scalar(self, name: str, value: float, step: int) -> None:
        """Report a value; names have the form "split/term"."""

    def audio(self, name: str, samples_T: np.ndarray, step: int, caption: str) -> None:
        """Report audio at 16 kHz, float32 (T,) in [-1, 1], with a text in Markdown."""

    def close(self) -> None:
        """Write what is open."""


def check_tracker(name: str) -> str:
    """Return the name of a tracker whose package is installed; imports nothing.

    Raises:
        HproError: there is no such tracker, or its package is not installed.
    """
    if name not in TRACKERS:
        hint = did_you_mean(name, TRACKERS)
        raise HproError(f"tracking.tracker: no tracker {name!r} ({', '.join(TRACKERS)}){hint}")
    if find_spec(name) is None:
        raise HproError(
            f"tracking.tracker is {name}, but its package is not installed: pip install {name}, or "
            f"set it to {TENSORBOARD}"
        )
    return name


def open_trackers(name: str, out: Path, work: Path, label: str) -> list[Tracker]:
    """Open TensorBoard in `out`, which is created, and the tracker of that name beside it.

    Args:
        name: one of `TRACKERS`.
        out: results folder of the training.
        work: folder of its checkpoints; files of other trackers go there, since no result and no
            hash of a results folder may depend on them.
        label: name of the training, for people.

    Raises:
        HproError: as `check_tracker`, or the tracker cannot start.
    """
    out.mkdir(parents=True, exist_ok=True)
    found: list[Tracker] = [TensorBoard(out / TENSORBOARD)]
    match check_tracker(name):
        case "dvclive":
            found.append(Dvclive(work / "dvclive"))
        case "wandb":
            found.append(Wandb(work, label))
    return found


def report_spoken(trackers: Sequence[Tracker], spoken: Iterable[Spoken], step: int) -> None:
    """Report sentences as audio, and the mean of each of their scores as spoken/<score>."""
    scores: dict[str, list[float]] = {}
    for sentence in spoken:
        for name, value in sentence.scores.items():
            scores.setdefault(name, []).append(value)
        for tracker in trackers:
            tracker.audio(f"spoken/{sentence.name}", sentence.samples_T, step, sentence.caption)
    for name, values in scores.items():
        for tracker in trackers:
            tracker.scalar(f"spoken/{name}", sum(values) / len(values), step)


class TensorBoard:
    """Event files of TensorBoard, with the settings as hparams."""

    def __init__(self, folder: Path):
        from torch.utils.tensorboard.writer import SummaryWriter

        self._writer = SummaryWriter(str(folder), flush_secs=FLUSH_S)

    def settings(self, values: Mapping[str, str | int | float | bool]) -> None:
        """Write the settings; the tab HPARAMS shows them beside the last loss on dev."""
        from torch.utils.tensorboard.summary import hparams

        for summary in hparams(dict(values), {"dev/loss": 0.0}):  # a name, not a value
            self._writer._get_file_writer().add_summary(summary)

    def scalar(self, name: str, value: float, step: int) -> None:
        """Write a scalar."""
        self._writer.add_scalar(name, value, step)

    def audio(self, name: str, samples_T: np.ndarray, step: int, caption: str) -> None:
        """Write audio, and its text under the same name."""
        self._writer.add_audio(name, samples_T[None], step, SAMPLE_RATE_HZ)
        self._writer.add_text(name, caption, step)

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


class Dvclive:
    """DVCLive: metrics, parameters and audio files in a folder, which a training writes anew."""

    def __init__(self, folder: Path):
        from dvclive import Live

        self._live = Live(str(folder), save_dvc_exp=False, dvcyaml=None, report=None)
        self._folder = folder

    def settings(self, values: Mapping[str, str | int | float | bool]) -> None:
        """Write params.yaml."""
        self._live.log_params(dict(values))

    def scalar(self, name: str, value: float, step: int) -> None:
        """Add a row to the metric's table."""
        self._live.step = step
        self._live.log_metric(name, value)

    def audio(self, name: str, samples_T: np.ndarray, step: int, caption: str) -> None:
        """Write audio/<name>_<step>.wav, and its text beside it: DVCLive has no audio."""
        import soundfile

        path = self._folder / "audio" / f"{name.replace('/', '_')}_{step:06d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, samples_T, SAMPLE_RATE_HZ, subtype="PCM_16")
        path.with_suffix(".md").write_text(caption, encoding="utf-8")

    def close(self) -> None:
        """Write the summary."""
        self._live.end()


class Wandb:
    """Weights & Biases: one run per training, in the project `hpro` or that of WANDB_PROJECT."""

    def __init__(self, folder: Path, label: str):
        import os

        import wandb

        folder.mkdir(parents=True, exist_ok=True)
        project = os.environ.get("WANDB_PROJECT", "hpro")
        try:
            self._run: Any = wandb.init(project=project, name=label, dir=str(folder))
        except (wandb.Error, OSError) as error:
            raise HproError(
                f"wandb cannot start ({error}): run wandb login, or set WANDB_MODE=offline, or set "
                f"tracking.tracker to {TENSORBOARD}"
            ) from error
        self._run.define_metric("*", step_metric="step")  # own steps may repeat, wandb's may not

    def settings(self, values: Mapping[str, str | int | float | bool]) -> None:
        """Set the run's config."""
        self._run.config.update(dict(values))

    def scalar(self, name: str, value: float, step: int) -> None:
        """Log a value at a step."""
        self._run.log({name: value, "step": step})

    def audio(self, name: str, samples_T: np.ndarray, step: int, caption: str) -> None:
        """Log audio with its text."""
        import wandb

        audio = wandb.Audio(samples_T, sample_rate=SAMPLE_RATE_HZ, caption=caption)
        self._run.log({name: audio, "step": step})

    def close(self) -> None:
        """End the run."""
        self._run.finish()


def flat_settings(values: Mapping[str, Any]) -> dict[str, str | int | float | bool]:
    """Return nested settings as one level: "reward.word.temperature" -> 1.0; lists become text."""
    return {
        name: value if isinstance(value, str | int | float | bool) else str(value)
        for name, value in flattened(values)
    }
