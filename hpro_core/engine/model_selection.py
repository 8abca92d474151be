"""Model selection during a training: evaluate the model at intervals and keep the best weights.

The caller defines what is evaluated, which step is best and when to stop.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from hpro_core.engine.checkpoints import checked_kept, kept_weights
from hpro_core.errors import HproError
from hpro_core.io import read_pt, write_pt

History = Mapping[int, Mapping[str, float]]
"""What each look measured, by step; step 0 is the start."""


def _never(history: History) -> str | None:
    return None


@dataclass
class ModelSelection:
    """An evaluation of the model at a fixed interval of steps.

    Attributes:
        every: steps between two looks, a multiple of the steps between two logged ones.
        look: measures the model as it is, in eval mode; in a run of several processes the first
            alone looks.
        choose: the step to keep, out of all looks so far; it never goes back to a step that it
            passed over, so the weights of one step are enough.
        alarm: a reason for concern about all looks so far, if there is one.
        stop: end the training at the first alarm.
        history: filled by the training.
        alarms: filled by the training, by step.
    """

    every: int
    look: Callable[[], Mapping[str, float]]
    choose: Callable[[History], int]
    alarm: Callable[[History], str | None] = _never
    stop: bool = False
    history: dict[int, dict[str, float]] = field(default_factory=dict)
    alarms: dict[int, str] = field(default_factory=dict)

    def check(self, log_every: int) -> None:
        """A look saves a checkpoint, and those lie on logged steps.

        Raises:
            HproError: a look would fall between two logged steps.
        """
        if self.every < 1 or self.every % log_every:
            raise HproError(
                f"probe_every is {self.every}: give a multiple of {log_every}, the steps between "
                "two points of a curve"
            )

    def due(self, step: int) -> bool:
        """Whether the model is looked at after this step."""
        return step % self.every == 0

    def record(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take in what a look measured, or, when a run goes on, what it had measured."""
        self.history[step] = dict(metrics)
        reason = self.alarm(self.history)
        if reason is not None:
            self.alarms[step] = reason

    @property
    def stopped(self) -> bool:
        """Whether the training is to end here."""
        return self.stop and bool(self.alarms)

    @property
    def kept_step(self) -> int:
        """The step whose weights are kept."""
        return self.choose(self.history)

    def keep(self, step: int, model: nn.Module, work: Path) -> None:
        """Write the model's weights if this step is now the best."""
        if self.kept_step == step:
            write_pt(kept_weights(work, step), model.state_dict())

    def give(self, model: nn.Module, work: Path) -> None:
        """Give the model the kept weights.

        Raises:
            HproError: their file is gone or was changed; another run goes on before it.
        """
        path = checked_kept(work, self.kept_step)
        weights = read_pt(path, f"remove {work} and train this stage anew")
        if not isinstance(weights, dict):
            raise HproError(f"{path} holds no weights: remove {work} and train this stage anew")
        try:
            model.load_state_dict(weights, strict=True)
        except (RuntimeError, TypeError, AttributeError) as error:
            raise HproError(
                f"{path} does not fit the model ({str(error)[:200]}): remove {work} and train this "
                "stage anew"
            ) from error
