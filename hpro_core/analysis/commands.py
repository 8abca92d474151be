"""`hpro tables` and `hpro claims`."""

from pathlib import Path
from typing import Annotated

import typer

from hpro_core import params as p
from hpro_core.options import Params, Root

app = typer.Typer()

Out = Annotated[Path | None, typer.Option(help="Folder of the tables; default: <root>/tables.")]


@app.command()
def tables(root: Root, params: Params, out: Out = None) -> None:
    """Write the comparison, progressive and ablation tables, and those by emotion and speaker."""
    from hpro_core.analysis.breakdown import write_breakdowns
    from hpro_core.analysis.tables import write_tables

    rows = p.read_section(params, "tables", p.Tables)
    seeds, external = p.read_plain(params, "seeds", list), p.read_plain(params, "external", dict)
    settings = p.read_section(params, "evaluate", p.Evaluate)
    scores = write_tables(root, rows, seeds, settings, out, external)
    write_breakdowns(root, scores, seeds, settings, out)


@app.command()
def claims(
    root: Root,
    params: Params,
    out: Annotated[Path, typer.Option(help="Folder of claims.md and its tables.")],
) -> None:
    """Test every variant against SFT over several seeds, and the paper's orderings of systems."""
    from hpro_core.analysis.claims import write_claims

    rows = p.read_section(params, "tables", p.Tables)
    seeds = p.read_plain(params, "seeds", list)
    settings = p.read_section(params, "claims", p.Claims)
    starts = {name: variant.start for name, variant in p.read_variants(params).items()}
    left_out = p.read_section(params, "reward", p.Reward).leave_out
    write_claims(root, rows, seeds, settings, starts, left_out, out)
