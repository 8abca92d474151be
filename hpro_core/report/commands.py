"""`hpro report`."""

import typer

from hpro_core import params as p
from hpro_core.options import Params, Root

app = typer.Typer()


@app.command()
def report(root: Root, params: Params) -> None:
    """Write the report: tables, curves, word-level traces, audio."""
    from hpro_core.report.stage import build

    build(root, p.read_section(params, "report", p.Report), params)
