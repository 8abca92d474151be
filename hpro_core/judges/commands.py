"""`hpro judge-train`, `hpro judge-recordings` and `hpro judge`."""

from pathlib import Path

import typer

from hpro_core import params as p
from hpro_core.options import Params, Root, Seed, Threads, Weights, Work

app = typer.Typer()


@app.command()
def judge_train(root: Root, params: Params, threads: Threads = 1) -> None:
    """Train the affect judge on the judge split."""
    from hpro_core.judges.stage import train

    train(root, p.read_section(params, "evaluate", p.Evaluate), threads)


@app.command()
def judge_recordings(
    root: Root,
    params: Params,
    work: Work,
    weights: Weights = Path("weights"),
    threads: Threads = 1,
) -> None:
    """Judge the affect of the reference recordings and measure the judges' accuracy."""
    from hpro_core.judges.configured import teachers_of
    from hpro_core.judges.stage import judge_recordings as judge_all

    label = p.read_section(params, "label", p.Label)
    teachers = teachers_of(label, p.read_section(params, "codec", p.Codec))
    settings = p.read_section(params, "evaluate", p.Evaluate)
    judge_all(root, settings, weights, p.read_compute(params, threads), work, teachers)


@app.command()
def judge(
    system: str,
    root: Root,
    params: Params,
    work: Work,
    seed: Seed = 0,
    weights: Weights = Path("weights"),
    threads: Threads = 1,
) -> None:
    """Judge a system's speech: words, affect, quality, speaker similarity, prosody."""
    from hpro_core.judges.configured import teachers_of
    from hpro_core.judges.stage import judge as judge_system

    label = p.read_section(params, "label", p.Label)
    teachers = teachers_of(label, p.read_section(params, "codec", p.Codec))
    settings = p.read_section(params, "evaluate", p.Evaluate)
    compute = p.read_compute(params, threads)
    judge_system(root, system, seed, settings, weights, compute, work, teachers)
