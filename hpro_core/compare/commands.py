"""`hpro compare`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Two finished runs or more: names below results/, folders, or NAME=FOLDER. The "
            "others are compared with the first."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="New folder to write; default: results/compare/<names of the runs>."),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Sentences with audio per test set.")] = 12,
) -> None:
    """Compare finished runs: paired differences, settings that differ, audio side by side."""
    from hpro_core.compare.runs import RESULTS, named_runs, read_run

    named = named_runs(runs)
    found = [read_run(name, root) for name, root in named.items()]
    target = out or RESULTS / "compare" / "_".join(named)

    from hpro_core import records
    from hpro_core.compare.stage import build
    from hpro_core.compare.text import as_text
    from hpro_core.new_folder import new_folder

    with new_folder(target) as partial:
        compared = build(found, partial, samples)
        records.write(partial, "compare", sys.argv[2:])
    print(as_text(compared))
    print(f"{target}: index.html, differences.csv, settings.csv")
