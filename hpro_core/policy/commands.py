"""`hpro sft`, and `hpro policy`: import and export of CosyVoice2's language model."""

from pathlib import Path
from typing import Annotated

import typer

from hpro_core import params as p
from hpro_core.errors import HproError
from hpro_core.options import DevAudio, Params, Profile, Root, Seed, Threads, Tracker, Work

app = typer.Typer()
llm = typer.Typer(help="Import and export CosyVoice2's llm.pt.", no_args_is_help=True)

Model = Annotated[Path, typer.Argument(help="CosyVoice2 folder: llm.pt and CosyVoice-BlankEN/.")]
Folder = Annotated[Path, typer.Argument(help="Policy folder: model.safetensors, config.json.")]
Target = Annotated[Path, typer.Argument(help="Path of the llm.pt to write.")]


@app.command()
def sft(
    root: Root,
    params: Params,
    work: Work,
    seed: Seed = 0,
    threads: Threads = 1,
    profile: Profile = False,
    tracker: Tracker = "tensorboard",
    dev_audio: DevAudio = "",
    start: Annotated[Path | None, typer.Option(help="Folder of a policy to fine-tune.")] = None,
) -> None:
    """Supervised fine-tuning of the policy that reward trainings start from."""
    from hpro_core.policy.sft import train_sft
    from hpro_core.train.run import Run

    policy = p.read_section(params, "policy", p.Policy)
    settings = p.read_section(params, "sft", p.Sft)
    run = Run(root, params, work, p.read_compute(params, threads), profile, tracker)
    speak = None
    if dev_audio:
        from hpro_core.judges.spoken import DevSpeech

        speak = DevSpeech(run, p.read_audio(dev_audio), settings.leave_out, Path("weights"))
    train_sft(run, policy, settings, seed, start, speak)


@llm.command("import")
def import_llm(model: Model, folder: Folder) -> None:
    """Convert CosyVoice2's language model to a policy folder."""
    from hpro_core.policy.llm_file import read_llm
    from hpro_core.policy.sft import save_policy

    save_policy(folder, read_llm(model), variant="cosyvoice2")


@llm.command("export")
def export_llm(folder: Folder, target: Target) -> None:
    """Write a policy folder as an llm.pt for CosyVoice2."""
    from hpro_core.policy.cosyvoice2 import CosyVoice2LM
    from hpro_core.policy.llm_file import write_llm
    from hpro_core.policy.sft import load_policy

    policy = load_policy(folder)
    if not isinstance(policy, CosyVoice2LM):
        raise HproError(
            f"{folder} has a policy of kind {policy.kind}: only cosyvoice2 can be an llm.pt"
        )
    write_llm(policy, target)
