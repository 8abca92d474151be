"""`hpro label`."""

from pathlib import Path

import typer

from hpro_core import params as p
from hpro_core.options import Params, Root, Shard, Threads, Weights, Work

app = typer.Typer()


@app.command()
def label(
    root: Root,
    params: Params,
    work: Work,
    weights: Weights = Path("weights"),
    threads: Threads = 1,
    shard: Shard = None,
) -> None:
    """Compute emotion posteriors per utterance and valence, arousal and dominance per word."""
    from hpro_core.label.stage import run

    settings = p.read_section(params, "label", p.Label)
    run(root, settings, weights, p.read_compute(params, threads), work, shard)
