"""`hpro policy`: import and export of CosyVoice2's language model."""

from pathlib import Path
from typing import Annotated

import typer

policy_app = typer.Typer(help="Import and export CosyVoice2's llm.pt.", no_args_is_help=True)

Model = Annotated[Path, typer.Argument(help="CosyVoice2 folder: llm.pt and CosyVoice-BlankEN/.")]
Folder = Annotated[Path, typer.Argument(help="Policy folder: model.safetensors, config.json.")]
Target = Annotated[Path, typer.Argument(help="Path of the llm.pt to write.")]


@policy_app.command("import")
def import_llm(model: Model, folder: Folder) -> None:
    """Convert CosyVoice2's language model to a policy folder."""
    from hpro_core.policy.llm_file import read_llm
    from hpro_core.policy.sft import save_policy

    save_policy(folder, read_llm(model), variant="cosyvoice2")


@policy_app.command("export")
def export_llm(folder: Folder, target: Target) -> None:
    """Write a policy folder as an llm.pt for CosyVoice2."""
    from hpro_core.errors import HproError
    from hpro_core.policy.cosyvoice2 import CosyVoice2LM
    from hpro_core.policy.llm_file import write_llm
    from hpro_core.policy.sft import load_policy

    policy = load_policy(folder)
    if not isinstance(policy, CosyVoice2LM):
        raise HproError(
            f"{folder} has a policy of kind {policy.kind}: only cosyvoice2 can be an llm.pt"
        )
    write_llm(policy, target)
