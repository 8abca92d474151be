"""Options that the commands of several folders share, with their help texts."""

from pathlib import Path
from typing import Annotated

import typer

Root = Annotated[Path, typer.Option(help="Results folder of the run, e.g. results/embedded.")]
Params = Annotated[Path, typer.Option(help="params.yaml, or the part of it that the stage uses.")]
Work = Annotated[Path, typer.Option(help="Folder for checkpoints; a killed run resumes from them.")]
Seed = Annotated[int, typer.Option(help="Seed of the policy.")]
Threads = Annotated[int, typer.Option(min=1, help="Number of CPU threads or processes.")]
Profile = Annotated[bool, typer.Option("--profile", help="Write a trace for torch-tb-profiler.")]
Tracker = Annotated[
    str,
    typer.Option(
        callback=lambda name: _installed(name), help="Tracker beside TensorBoard: dvclive or wandb."
    ),
]
DevAudio = Annotated[str, typer.Option(help="What the policy speaks for the trackers, as JSON.")]
Weights = Annotated[Path, typer.Option(help="Folder of the downloaded weights.")]
Shard = Annotated[
    int | None, typer.Option(min=0, help="Number of the only shard to process (docs/scaling.md).")
]
Differences = Annotated[
    list[Path] | None, typer.Option(help="Settings that override params.yaml, as for snakemake.")
]


def _installed(tracker: str) -> str:
    """Refuse a tracker without its package before the command imports PyTorch."""
    from hpro_core.train.trackers import check_tracker

    return check_tracker(tracker)
