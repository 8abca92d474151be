"""What the command line gives to a training."""

from dataclasses import dataclass
from pathlib import Path

from hpro_core.params import Compute
from hpro_core.train.trackers import TENSORBOARD


@dataclass(frozen=True)
class Run:
    """Where a training reads, where it resumes, and on what it computes.

    Attributes:
        root: results folder of the run; has the training data and the models of earlier stages.
        params: settings file of the command, whose content is part of `Loop.identity`.
        work: folder of the checkpoints from which a killed training resumes.
        compute: threads, device, precision.
        profile: whether to write a torch-tb-profiler trace.
        tracker: name of the tracker, see `trackers`.
    """

    root: Path
    params: Path
    work: Path
    compute: Compute
    profile: bool = False
    tracker: str = TENSORBOARD
