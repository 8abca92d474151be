"""`hpro synthesise`, `hpro import-audio` and `hpro test-list`."""

from pathlib import Path
from typing import Annotated

import typer

from hpro_core import params as p
from hpro_core.errors import HproError
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


@app.command()
def import_audio(system: str, root: Root, params: Params, seed: Seed = 0) -> None:
    """Import the audio of an external system, a key of `external`, for the judges of a run."""
    from hpro_core.synthesis.external import import_run

    folders = p.read_plain(params, "external", dict)
    p.check_external_names(folders)
    if system not in folders:
        raise HproError(f"external has no {system!r}; it has: {', '.join(folders) or 'none'}")
    import_run(root, system, seed, Path(folders[system]))


@app.command()
def test_list(
    run: Annotated[Path, typer.Argument(help="Results folder of the run, e.g. results/embedded.")],
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
) -> None:
    """Write a run's test sentences and prompts as lists, for other systems to speak."""
    from hpro_core.synthesis.external import write_test_list

    write_test_list(run, out)
