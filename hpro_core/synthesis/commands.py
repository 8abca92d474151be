"""`hpro synthesise`."""

import typer

from hpro_core import params as p
from hpro_core.options import Params, Root, Seed, Threads

app = typer.Typer()


@app.command()
def synthesise(
    system: str, root: Root, params: Params, seed: Seed = 0, threads: Threads = 1
) -> None:
    """Synthesise the test sentences with a system: a variant, `tokenrecon` or `recordings`."""
    from hpro_core.dataset import load
    from hpro_core.synthesis.stage import synthesise as speak
    from hpro_core.train.example_file import split_files

    settings = p.read_section(params, "synthesis", p.Synthesis)
    train_table, _, test_table = split_files(root)
    test, train = list(load(test_table)), load(train_table)
    speak(root, system, seed, settings, p.read_compute(params, threads), test, train)
