"""Detection of reward hacking: the reward rises while an independent judge falls.

The rule (ours):

    At a probe, a judge disagrees with the reward if its score is worse than its best one by more
    than a tolerance while the reward has risen. The policy hacks the reward if the same judge
    disagrees at each of the last `patience` probes.

Reward and judges score the same fixed dev sentences. The judges score generated audio and are no
part of the reward. The tolerance allows for the small number of sentences.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpro_core.engine.batching import Example
from hpro_core.engine.model_selection import ModelSelection
from hpro_core.policy.interface import SpeechPolicy
from hpro_core.reward.selection import chosen_step

METRIC_DIRECTION = {"wer": -1.0, "wvad_ccc": 1.0, "emo_sim": 1.0}
"""The judges' metrics, and whether a larger value is better."""

History = Mapping[int, Mapping[str, float]]


@dataclass(frozen=True)
class HackingWatch:
    """How a reward training is watched, and its checkpoint chosen.

    Attributes:
        sentences: dev utterances on which reward and judges are compared.
        probe: lets a policy speak them, and measures what `selection` and METRIC_DIRECTION name.
        every: steps between two probes.
        wer_margin: see `selection.choose`.
        patience: see `hacking`.
        tolerance: see `hacking`.
        stop: end the training when the reward is being hacked.
    """

    sentences: list[Example]
    probe: Callable[[SpeechPolicy], Mapping[str, float]]
    every: int
    wer_margin: float
    patience: int
    tolerance: float
    stop: bool


def model_selection_of(
    watching: HackingWatch, policy: SpeechPolicy, reward: Callable[[], float]
) -> ModelSelection:
    """The looks of a training loop: the judges' measures, and the reward on the same sentences.

    Args:
        watching: the settings and the probe.
        policy: being trained.
        reward: of the policy on the sentences, more is better.
    """
    return ModelSelection(
        every=watching.every,
        look=lambda: {**watching.probe(policy), "reward": reward()},
        choose=lambda history: chosen_step(history, watching.wer_margin),
        alarm=lambda history: hacking(history, watching.patience, watching.tolerance),
        stop=watching.stop,
    )


def record_of(model_selection: ModelSelection) -> dict[str, Any]:
    """What the probes found, for metrics.json."""
    last = max(model_selection.history)
    return {
        "kept_step": model_selection.kept_step,
        "probes": {str(step): metrics for step, metrics in model_selection.history.items()},
        "alarms": {str(step): reason for step, reason in model_selection.alarms.items()},
        "stopped_at": last if model_selection.stopped else None,
    }


def hacking(history: History, patience: int, tolerance: float) -> str | None:
    """Say how the reward is being hacked, if it is.

    Args:
        history: by step, "reward" and each judge of METRIC_DIRECTION.
        patience: probes in a row at which a judge has to be let down.
        tolerance: how much a judge may fall without being let down.

    Returns:
        One line with the judges and their numbers, or None.
    """
    steps = sorted(history)
    recent = range(len(steps) - patience, len(steps))
    if not patience or recent.start < 1:
        return None
    found = []
    for judge in METRIC_DIRECTION:
        if all(_let_down(judge, history, steps[: i + 1], tolerance) is not None for i in recent):
            best = _let_down(judge, history, steps, tolerance)
            assert best is not None
            found.append(_line(judge, history[best], history[steps[-1]], best))
    if not found:
        return None
    return f"the reward rises while judges fall ({'; '.join(found)})"


def _let_down(judge: str, history: History, steps: Sequence[int], tolerance: float) -> int | None:
    """The step at which the judge was best, if it is let down at the last of these steps."""
    now = history[steps[-1]]
    best = max(steps, key=lambda step: (METRIC_DIRECTION[judge] * history[step][judge], step))
    fall = METRIC_DIRECTION[judge] * (history[best][judge] - now[judge])
    return best if fall > tolerance and now["reward"] > history[best]["reward"] else None


def _line(judge: str, best: Mapping[str, float], now: Mapping[str, float], step: int) -> str:
    return (
        f"{judge} from {best[judge]:.3f} at step {step} to {now[judge]:.3f}, "
        f"reward from {best['reward']:.3f} to {now['reward']:.3f}"
    )
