"""`hpro align`, `hpro align-models` and `hpro align-check`."""

from typing import Annotated

import typer

from hpro_core import params as p
from hpro_core.options import Params, Root, Shard, Threads

app = typer.Typer()


@app.command()
def align(
    root: Root,
    params: Params,
    threads: Threads = 1,
    shard: Shard = None,
    leave_out: Annotated[list[str] | None, typer.Option(help="Split that is not aligned.")] = None,
) -> None:
    """Find the word boundaries by forced alignment."""
    from hpro_core.align.stage import run

    run(root, p.read_section(params, "align", p.Align), threads, shard, leave_out or [])


@app.command()
def align_models(root: Root, params: Params) -> None:
    """Download the MFA models and dictionary that the settings name, if they are missing."""
    from hpro_core.align.mfa_models import download_models

    download_models(root, p.read_section(params, "align", p.Align))


@app.command()
def align_check(
    root: Root,
    references: Annotated[
        list[str] | None, typer.Argument(help="MFA TextGrids of a corpus, SET=ZIP.")
    ] = None,
    exact: Annotated[list[str] | None, typer.Option(help="Corpus with exact word times.")] = None,
) -> None:
    """Compare the word boundaries with MFA's and with the exact ones of controlled corpora."""
    from hpro_core.align.stage import check, parsed_references

    check(root, parsed_references(references or []), exact or [])
