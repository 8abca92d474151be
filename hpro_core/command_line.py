"""What a person may leave out of a command line: the folder of the project, --root, --work.

`prepared` completes the arguments of `hpro` before the command starts. It makes them explicit, so
that records and locks contain what was used:

- The command runs in the folder of the project, which is searched upwards. Relative paths in the
  arguments still start at the user's folder.
- `--root`, `--params` and `--work` have the values that the workflow passes for the run of
  `params.yaml`.
- A name that the settings do not have is refused at once, not after the imports of the command.

Jobs of the workflow pass everything; their arguments are not touched.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

from hpro_core.errors import HproError, did_you_mean
from hpro_core.io import read_yaml
from hpro_core.params import SEEDLESS
from hpro_core.process import SNAKEMAKE

MARKERS = ("params.yaml", "Snakefile")
"""Files whose folder is a project."""

NO_PROJECT = (
    "no params.yaml beside a Snakefile in this folder or above it: change to the folder of the "
    "project"
)

FOLDERS = ("audio", "references", "runs")
"""Parameters, not of type path, whose values are PATH or NAME=PATH."""

RUNS = "runs"
"""That of `FOLDERS` whose path may also be the name of a run below results/."""

WORK = {
    "tokenizer": "tokenizer",
    "vocoder": "vocoder",
    "codec-content": "codec_content",
    "codec-style": "codec_style",
    "label": "label",
    "sft": "sft/seed{seed}",
    "reward": "reward_{variant}/seed{seed}",
    "reward-watched": "reward_{variant}/seed{seed}",
    "judge-recordings": "judge_recordings",
    "judge": "judge_{system}_seed{seed}",
}
"""Command -> its folder in work/<run>, as the rules have it; `label` adds that of a shard."""

OF_PROJECT = ("benchmark", "plan", "settings", "preflight", "status")
"""Commands whose settings are those of the project: they need its folder, or --params."""

NAMED = {
    "reward": ("variant", "variant"),
    "reward-watched": ("variant", "variant"),
    "corpus-read": ("name", "set"),
    "corpus-render": ("name", "set"),
    "import-audio": ("system", "external system"),
    "synthesise": ("system", "system"),
    "judge": ("system", "system"),
}
"""Command -> its argument that the settings must have, and the kind of name."""

SHOWN_DEFAULTS = {
    "root": "results/<run> of params.yaml",
    "params": "params.yaml",
    "work": "work/<run>/.., as the workflow",
}
"""Option -> its default in the help."""


class Word(NamedTuple):
    """A value in the arguments: `parameter` is the one that it is for, `head` what precedes it."""

    place: int
    parameter: Any
    head: str
    value: str


def show_defaults(command: Any) -> None:
    """Make the options that `prepared` adds optional, in a click command and those below it."""
    for inner in getattr(command, "commands", {}).values():
        show_defaults(inner)
    for parameter in _with_default(command):
        if parameter.required:
            parameter.required = False
            parameter.default = _no_default
            parameter.show_default = SHOWN_DEFAULTS[parameter.name]


def _with_default(command: Any) -> list[Any]:
    """The options --root, --params and --work of a command."""
    options = (each for each in command.params if each.param_type_name == "option")
    return [each for each in options if each.name in SHOWN_DEFAULTS]


def _no_default() -> str:
    """Called only where `prepared` has added nothing."""
    raise HproError(f"{NO_PROJECT}, or give --root, --params and --work")


def prepared(commands: Any, arguments: Sequence[str]) -> list[str]:
    """Complete the arguments of `hpro`, and change to the folder of the project.

    Args:
        commands: click group of all commands.
        arguments: as given, without the program.

    Returns:
        Arguments for the folder of the project, which is then the working directory.

    Raises:
        HproError: a name is not in the settings, --root is not the run of the settings, or a
            command of a project is outside of one.
    """
    complete = list(arguments)
    command, name, first = _command(commands, arguments)
    if command is None or SNAKEMAKE in os.environ or {"-h", "--help"} & set(arguments):
        return complete
    project = find_project(Path.cwd())
    if project is not None and project != Path.cwd():
        complete = _entered(project, command, complete, first)
    given = {word.parameter.name: word.value for word in _words(command, complete, first)}
    if name in OF_PROJECT and "params" not in given and not Path(MARKERS[0]).is_file():
        options = {parameter.name for parameter in command.params}
        raise HproError(NO_PROJECT + (", or give --params" if "params" in options else ""))
    added = {} if project is None else _defaults(name, given, _left_out(command, given))
    settings = Path(({"params": MARKERS[0]} | given | added)["params"])
    if name in NAMED and settings.is_file():
        check_names(name, given, read_yaml(settings), settings)
    end = complete.index("--") if "--" in complete else len(complete)
    new = [part for option, value in added.items() for part in (f"--{option}", value)]
    return [*complete[:end], *new, *complete[end:]]


def find_project(folder: Path) -> Path | None:
    """The folder, or the nearest above it, that has the `MARKERS`; None without one."""
    for path in (folder, *folder.parents):
        if all((path / name).is_file() for name in MARKERS):
            return path
    return None


def _command(commands: Any, arguments: Sequence[str]) -> tuple[Any, str, int]:
    """The click command of some arguments, its name, and the number of words that name it.

    The command is None if there is none, or if an option precedes its name.
    """
    command = commands
    for number, word in enumerate(arguments):
        command = command.commands.get(word)
        if command is None or not hasattr(command, "commands"):
            return command, word, number + 1
    return None, "", 0


def _words(command: Any, arguments: Sequence[str], first: int) -> Iterator[Word]:
    """Yield the values of the parameters of a command; what is no parameter is left to click."""
    options = {name: each for each in command.params for name in each.opts if name[0] == "-"}
    places = [each for each in command.params if each.param_type_name == "argument"]
    place, only_arguments = first, False
    while place < len(arguments):
        word = arguments[place]
        if word == "--" and not only_arguments:
            only_arguments = True
        elif word.startswith("-") and word != "-" and not only_arguments:
            name, equals, value = word.partition("=")
            option = options.get(name)
            if option is not None and equals:
                yield Word(place, option, f"{name}=", value)
            elif option is not None and not option.is_flag and place + 1 < len(arguments):
                place += 1
                yield Word(place, option, "", arguments[place])
        elif places:
            yield Word(place, places[0], "", word)
            if places[0].nargs == 1:
                places.pop(0)
        place += 1


def _entered(project: Path, command: Any, arguments: list[str], first: int) -> list[str]:
    """Change to the folder of the project; return the arguments with their paths from there."""
    here, moved = Path.cwd(), list(arguments)
    for word in _words(command, arguments, first):
        moved[word.place] = word.head + _moved(word, here, project)
    said = f"hpro: working in {project}: paths in messages are relative to it"
    print(said, file=sys.stderr, flush=True)
    os.chdir(project)
    return moved


def _left_out(command: Any, given: Mapping[str, str]) -> list[str]:
    """The options that `prepared` adds: required ones, and those of `hpro judge SYSTEM`."""
    of_system = "system" in given and "audio" not in given
    return [
        option.name
        for option in _with_default(command)
        if option.name not in given
        and (option.default is _no_default or (of_system and option.name != "params"))
    ]


def _moved(word: Word, here: Path, project: Path) -> str:
    """A value for the folder of the project instead of the user's."""
    if word.parameter.name in FOLDERS:
        name, equals, path = word.value.partition("=")
        if not equals:
            name, path = "", word.value
        if word.parameter.name == RUNS and "/" not in path and not (here / path).is_dir():
            return word.value
        return f"{name}{equals}{_relative(path, here, project)}"
    kind = word.parameter.type_descriptor.annotation
    if Path in (kind, *get_args(kind)):
        return _relative(word.value, here, project)
    return word.value


def _relative(path: str, here: Path, project: Path) -> str:
    return path if Path(path).is_absolute() else os.path.relpath(here / path, project)


def _defaults(name: str, given: Mapping[str, str], wanted: Sequence[str]) -> dict[str, str]:
    """Values of the options that were left out."""
    if not wanted:
        return {}
    settings = Path(given.get("params", MARKERS[0]))
    run = Path(given["root"]).name if "root" in given else _run_of(settings)
    if "params" in wanted and "root" in given:
        _check_run(name, run, settings)
    found = {"root": f"results/{run}", "params": str(settings), "work": f"work/{run}"}
    if "work" in wanted:
        folder = WORK[name].format_map({"seed": "0", "variant": "", **given})
        shard = f"/shards/{int(given['shard']):05d}" if given.get("shard", "").isdigit() else ""
        found["work"] += f"/{folder}{shard}"
    return {option: found[option] for option in wanted}


def _run_of(settings: Path) -> str:
    """The run of a key file results/<run>/params/<name>.yaml, or of a settings file."""
    folder = settings.absolute().parent
    if folder.name == "params" and folder.parent.parent.name == "results":
        return folder.parent.name
    run = read_yaml(settings).get("run")
    if not isinstance(run, str):
        raise HproError(f"{settings} has no `run`: give --root, the results folder of the run")
    return run


def _check_run(name: str, run: str, settings: Path) -> None:
    """Refuse the settings of another run than the one that --root names."""
    if (other := _run_of(settings)) != run:
        raise HproError(
            f"--root is the run {run!r}, but {settings} has the run {other!r}: give --params too, "
            f"such as the file of {name} in results/{run}/params"
        )


def check_names(
    command: str, given: Mapping[str, str], settings: Mapping[str, Any], path: Path
) -> None:
    """Refuse a variant, system or corpus that the settings do not have.

    Args:
        command: a command of `NAMED`.
        given: values of its arguments.
        settings: of the whole run, or the key file of a stage; names of a section that it does not
            have are not checked.
        path: of the settings, for messages.

    Raises:
        HproError: no such name; the message has the names that there are.
    """
    argument, kind = NAMED[command]
    name, names = given.get(argument, ""), _names(kind, settings)
    if name and names is not None and name not in names:
        listed = ", ".join(names) or "none"
        raise HproError(f"{path}: no {kind} {name!r} ({listed}){did_you_mean(name, names)}")


def _names(kind: str, settings: Mapping[str, Any]) -> list[str] | None:
    """Names of a kind in `NAMED`; None if the settings do not have their section."""
    variants, external = settings.get("variants"), settings.get("external")
    match kind:
        case "set":
            found = (settings.get("corpus") or {}).get("sets")
        case "variant":
            found = variants
        case "external system":
            found = external
        case _:
            found = None if variants is None else [*SEEDLESS, "sft", *variants, *(external or [])]
    return None if found is None else list(found)
