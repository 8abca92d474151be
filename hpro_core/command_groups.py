"""The groups of commands that `hpro --help` shows, and what all commands have in common."""

from typing import Any

from typer.core import TyperGroup

from hpro_core import process
from hpro_core.command_line import show_defaults

GROUPS = {
    "Use: speech, judgements and corpora of your own": (
        "say", "listen", "judge", "compare", "export", "corpus", "test-list",
    ),
    "Run: before, during and after": ("settings", "plan", "preflight", "status", "verify"),
    "Stages: jobs of the workflow, in its order": (
        "corpus-read", "corpus-render", "corpus-split", "base-take", "align-models", "align",
        "align-check", "label", "tokenizer", "tokenizer-published", "vocoder", "tokenize",
        "dataset", "gather", "gather-dataset", "codec-content", "codec-style", "codec-released",
        "sft", "reward", "reward-watched", "synthesise", "import-audio", "judge-train",
        "judge-recordings", "tables", "claims", "report",
    ),
    "Maintenance: models, weights, measurements": (
        "weights", "base-make", "judge-grade", "codec", "policy", "benchmark",
    ),
}  # fmt: skip
"""Title of a group -> names of its commands. `judge` is also a stage."""

GROUP_OF = {name: title for title, names in GROUPS.items() for name in names}


class Commands(TyperGroup):
    """The group of all commands: sorted into `GROUPS`, and with errors that typer would hide.

    typer prints "Aborted." or nothing for some errors; `process.Raised` carries them to the end.
    """

    def __init__(self, **attributes: Any):
        super().__init__(**attributes)
        for name, command in self.commands.items():
            command.rich_help_panel = GROUP_OF.get(name)  # type: ignore[attr-defined]
        show_defaults(self)

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of the commands in the order of `GROUPS`, then others."""
        order = list(GROUP_OF)
        known = [name for name in order if name in self.commands]
        return known + [name for name in super().list_commands(ctx) if name not in GROUP_OF]

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (EOFError, BrokenPipeError) as error:
            raise process.Raised from error
