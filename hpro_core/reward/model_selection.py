"""Checkpoint selection by generated dev speech, and detection of reward hacking (both ours).

The selection rule; the paper gives none:

    Among the checkpoints whose WER is at most the initial policy's plus a margin, choose the one
    with the best mean of wVAD-CCC and EMO-SIM; of equal ones the earliest.

The initial policy is one of the checkpoints. The margin is the WER increase that a gain in
expressiveness may cost; if every checkpoint is worse, the initial policy is kept.

The detection rule:

    At a probe, a judge disagrees with the reward if its metric is worse than its best value by more
    than a tolerance while the reward is higher than at that best value. The policy hacks the reward
    if the same judge disagrees at each of the last `patience` probes.

Reward and judges score the same fixed dev sentences. The judges score generated audio and are not
part of the reward. The tolerance allows for the small number of sentences.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpro_core.errors import HproError
from hpro_core.policy.interface import SpeechPolicy
from hpro_core.train.batching import Example
from hpro_core.train.model_selection import ModelSelection

PROBE_METRICS = ("wer", "wvad_ccc", "emo_sim")

METRIC_DIRECTION = {"wer": -1.0, "wvad_ccc": 1.0, "emo_sim": 1.0}
"""The judges' metrics: 1 if larger values are better, -1 if smaller values are."""

MetricsByStep = Mapping[int, Mapping[str, float]]


@dataclass(frozen=True)
class ProbeSettings:
    """Settings for probes during a reward training and for the choice of its checkpoint.

    Attributes:
        sentences: dev utterances that reward and judges score.
        probe: synthesises them with a policy and returns the metrics of
            METRIC_DIRECTION.
        every: steps between two probes.
        wer_margin: see `choose_checkpoint`.
        patience: see `detect_hacking`.
        tolerance: see `detect_hacking`.
        stop: end the training when reward hacking is detected.
        files: model files of the probe, part of the training's identity.
    """

    sentences: list[Example]
    probe: Callable[[SpeechPolicy], Mapping[str, float]]
    every: int
    wer_margin: float
    patience: int
    tolerance: float
    stop: bool
    files: tuple[Path, ...] = ()


def model_selection_of(
    probes: ProbeSettings, policy: SpeechPolicy, reward: Callable[[], float]
) -> ModelSelection:
    """Model selection of a training loop: the judges' metrics and the reward on the same sentences.

    Args:
        probes: the settings and the probe.
        policy: the policy in training.
        reward: function that returns the policy's reward on the sentences; larger is better.
    """
    return ModelSelection(
        every=probes.every,
        evaluate=lambda: {**probes.probe(policy), "reward": reward()},
        choose=lambda history: best_step(history, probes.wer_margin),
        alarm=lambda history: detect_hacking(history, probes.patience, probes.tolerance),
        stop=probes.stop,
    )


def probe_record(model_selection: ModelSelection) -> dict[str, Any]:
    """Results of the probes for metrics.json: metrics and alarms by step, kept step, early stop."""
    last = max(model_selection.history)
    return {
        "kept_step": model_selection.kept_step,
        "probes": {str(step): metrics for step, metrics in model_selection.history.items()},
        "alarms": {str(step): reason for step, reason in model_selection.alarms.items()},
        "stopped_at": last if model_selection.stopped else None,
    }


def detect_hacking(history: MetricsByStep, patience: int, tolerance: float) -> str | None:
    """Describe the reward hacking that the last probes show, if any.

    Args:
        history: by step, "reward" and each metric of METRIC_DIRECTION.
        patience: number of consecutive probes at which a judge has to disagree; 0 turns the
            detection off.
        tolerance: how much worse a metric may get, in its own unit, before a judge disagrees.

    Returns:
        One line with the metrics and their values, or None.
    """
    steps = sorted(history)
    recent = range(len(steps) - patience, len(steps))
    if not patience or recent.start < 1:
        return None
    found = []
    for judge in METRIC_DIRECTION:
        if all(
            _best_step_if_worse(judge, history, steps[: i + 1], tolerance) is not None
            for i in recent
        ):
            best = _best_step_if_worse(judge, history, steps, tolerance)
            assert best is not None
            found.append(_line(judge, history[best], history[steps[-1]], best))
    if not found:
        return None
    return f"the reward rises while judge metrics get worse ({'; '.join(found)})"


def _best_step_if_worse(
    judge: str, history: MetricsByStep, steps: Sequence[int], tolerance: float
) -> int | None:
    """Step of the judge's best metric if it disagrees at the last of these steps, else None."""
    now = history[steps[-1]]
    best = max(steps, key=lambda step: (METRIC_DIRECTION[judge] * history[step][judge], step))
    decline = METRIC_DIRECTION[judge] * (history[best][judge] - now[judge])
    return best if decline > tolerance and now["reward"] > history[best]["reward"] else None


def _line(judge: str, best: Mapping[str, float], now: Mapping[str, float], step: int) -> str:
    return (
        f"{judge} from {best[judge]:.3f} at step {step} to {now[judge]:.3f}, "
        f"reward from {best['reward']:.3f} to {now['reward']:.3f}"
    )


@dataclass(frozen=True)
class ScoredCheckpoint:
    """The judges' scores of one checkpoint on dev sentences that it synthesised.

    Attributes:
        step: training step; the lowest is that of the initial policy.
        wer: word errors divided by words; 0.05 is 5 %.
        wvad_ccc: in [-1, 1].
        emo_sim: in [0, 1].
    """

    step: int
    wer: float
    wvad_ccc: float
    emo_sim: float


def choose_checkpoint(candidates: Sequence[ScoredCheckpoint], wer_margin: float) -> int:
    """Return the step of the checkpoint to keep.

    Args:
        candidates: scored checkpoints; the one with the lowest step is the initial policy.
        wer_margin: largest WER increase over the initial policy, in word errors per word.

    Raises:
        HproError: there are no candidates, or a score is not finite.
    """
    if not candidates:
        raise HproError("no checkpoint was judged, so none can be selected")
    for candidate in candidates:
        for name in PROBE_METRICS:
            if not math.isfinite(getattr(candidate, name)):
                raise HproError(
                    f"step {candidate.step}: {name} of the probe is {getattr(candidate, name)}: "
                    "check the sentences that were synthesised at this step"
                )
    ordered = sorted(candidates, key=lambda candidate: candidate.step)
    most = ordered[0].wer + wer_margin
    intelligible = [candidate for candidate in ordered if candidate.wer <= most]
    return max(intelligible, key=lambda c: (c.wvad_ccc + c.emo_sim) / 2).step  # the first of equals


def best_step(history: Mapping[int, Mapping[str, float]], wer_margin: float) -> int:
    """Apply `choose_checkpoint` to the metrics measured at each step."""
    candidates = [
        ScoredCheckpoint(step, *(m[name] for name in PROBE_METRICS)) for step, m in history.items()
    ]
    return choose_checkpoint(candidates, wer_margin)
