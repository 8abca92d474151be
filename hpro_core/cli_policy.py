"""`hpro policy`: CosyVoice2's language model in and out."""

from pathlib import Path
from typing import Annotated

import typer

policy_app = typer.Typer(help="CosyVoice2's llm.pt, in and out.", no_args_is_help=True)

Model = Annotated[Path, typer.Argument(help="CosyVoice2 folder: llm.pt and CosyVoice-BlankEN/.")]
Folder = Annotated[Path, typer.Argument(help="Folder of a policy: model.safetensors, config.json.")]
Target = Annotated[Path, typer.Argument(help="The llm.pt to write.")]


@policy_app.command("import")
def import_llm(model: Model, folder: Folder) -> None:
    """Write CosyVoice2's language model as a policy folder."""
    from hpro_core.policy.llm_file import read_llm
    from hpro_core.policy.sft import save_policy

    save_policy(folder, read_llm(model), variant="cosyvoice2")


@policy_app.command("export")
def export_llm(folder: Folder, target: Target) -> None:
    """Write a policy as an llm.pt for CosyVoice2."""
    from hpro_core.errors import HproError
    from hpro_core.policy.cosyvoice2 import CosyVoice2LM
    from hpro_core.policy.llm_file import write_llm
    from hpro_core.policy.sft import load_policy

    policy = load_policy(folder)
    if not isinstance(policy, CosyVoice2LM):
        raise HproError(f"{folder} holds an {policy.kind} policy: only cosyvoice2 fits an llm.pt")
    write_llm(policy, target)
