"""The command line: mounts the commands of every folder and records the outputs of each command.

A command, in `<folder>/commands.py`, reads its section of the settings and calls one function. It
imports expensive modules inside, so that `hpro --help` is fast.
"""

import os
import sys
from typing import Annotated

import typer

from hpro_core import __version__, dataset_commands, process, project_commands
from hpro_core.align import commands as align
from hpro_core.analysis import commands as analysis
from hpro_core.codec import commands as codec
from hpro_core.command_groups import Commands
from hpro_core.command_line import prepared
from hpro_core.compare import commands as compare
from hpro_core.corpus import commands as corpus
from hpro_core.judges import commands as judges
from hpro_core.label import commands as label
from hpro_core.listening import commands as listening
from hpro_core.policy import commands as policy
from hpro_core.pretrained import commands as pretrained
from hpro_core.report import commands as report
from hpro_core.reward import commands as reward
from hpro_core.say import commands as say
from hpro_core.speech import commands as speech
from hpro_core.synthesis import commands as synthesis

app = typer.Typer(
    cls=Commands,
    help="HPRO: from raw emotional speech to a reward-optimised TTS policy, stage by stage.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
for commands in (
    corpus, pretrained, align, label, speech, dataset_commands, codec, policy, reward, synthesis,
    say, judges, analysis, report, compare, project_commands,
):  # fmt: skip
    app.add_typer(commands.app)
app.add_typer(corpus.checks, name="corpus", help="Corpora of your own: import and check.")
app.add_typer(pretrained.weights, name="weights")
app.add_typer(codec.released, name="codec")
app.add_typer(policy.llm, name="policy")
app.add_typer(listening.app, name="listen")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"hpro {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Options of no command."""


def main() -> None:
    """Run a command; report an error in one line, and an unexpected exception as a bug."""
    process.run(_run, lambda arguments: prepared(typer.main.get_command(app), arguments))


def _run() -> None:
    try:
        app()
    except SystemExit as end:
        if end.code not in (0, None):
            raise
        _record(sys.argv[1:])


def _record(arguments: list[str]) -> None:
    """Write a record of this process's outputs if they are in the results of a run."""
    from hpro_core.records import command_of, root_of, write

    root = root_of(arguments)
    if root is not None and os.environ.get("RANK", "0") == "0":
        write(root, *command_of(arguments))


if __name__ == "__main__":
    main()
