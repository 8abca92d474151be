"""Model selection during a training: evaluate the model at intervals and keep the best weights.

The caller defines what is evaluated, which step is best and when to stop.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from hpro_core.errors import HproError
from hpro_core.io import read_pt, write_pt
from hpro_core.train.checkpoints import checked_kept, kept_weights

MetricsByStep = Mapping[int, Mapping[str, float]]
"""Metrics of each evaluation by step; step 0 is the initial model."""


def _never(history: MetricsByStep) -> str | None:
    return None


@dataclass
class ModelSelection:
    """An evaluation of the model at a fixed interval of steps.

    Attributes:
        every: steps between two evaluations, a multiple of the logging interval.
        evaluate: evaluates the current model in eval mode and returns its metrics; with several
            processes it runs in process 0 only.
        choose: selects the step to keep from all evaluations so far. It never returns to a step
            that it rejected before, so the weights of one step are enough.
        alarm: returns a warning about the evaluations so far, or None.
        stop: whether the training ends at the first alarm.
        history: metrics by step, filled by the training.
        alarms: warnings by step, filled by the training.
    """

    every: int
    evaluate: Callable[[], Mapping[str, float]]
    choose: Callable[[MetricsByStep], int]
    alarm: Callable[[MetricsByStep], str | None] = _never
    stop: bool = False
    history: dict[int, dict[str, float]] = field(default_factory=dict)
    alarms: dict[int, str] = field(default_factory=dict)

    def check(self, log_every: int) -> None:
        """Check that evaluations fall on logged steps, since each one saves a checkpoint.

        Args:
            log_every: logging interval in steps.

        Raises:
            HproError: `every` is not a positive multiple of `log_every`.
        """
        if self.every < 1 or self.every % log_every:
            raise HproError(
                f"probe_every is {self.every}: set a positive multiple of {log_every}, the steps "
                "between two points of a curve"
            )

    def is_due(self, step: int) -> bool:
        """Return whether the model is evaluated after this step."""
        return step % self.every == 0

    def record(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add the metrics of an evaluation, new or restored from a checkpoint."""
        self.history[step] = dict(metrics)
        reason = self.alarm(self.history)
        if reason is not None:
            self.alarms[step] = reason

    @property
    def stopped(self) -> bool:
        """Whether the training must end now."""
        return self.stop and bool(self.alarms)

    @property
    def kept_step(self) -> int:
        """The step whose weights are kept."""
        return self.choose(self.history)

    def save_if_best(self, step: int, model: nn.Module, work: Path) -> None:
        """Write the model's weights if this step is now the best."""
        if self.kept_step == step:
            write_pt(kept_weights(work, step), model.state_dict())

    def restore_best(self, model: nn.Module, work: Path) -> None:
        """Load the kept weights into the model.

        Raises:
            HproError: the file is missing or was changed, or does not fit the model.
        """
        path = checked_kept(work, self.kept_step)
        weights = read_pt(path, f"remove {work} and train this stage again")
        if not isinstance(weights, dict):
            raise HproError(f"{path} holds no weights: remove {work} and train this stage again")
        try:
            model.load_state_dict(weights, strict=True)
        except (RuntimeError, TypeError, AttributeError) as error:
            raise HproError(
                f"{path} does not fit the model ({str(error)[:200]}): remove {work} and train this "
                "stage again"
            ) from error
