"""Settings of a run: `params.yaml` overridden by files, as by `snakemake --configfile`.

All files are read by the strict `hpro_core.io.read_yaml`, also for Snakemake. Its own reader parses
`1e-05`, which DVC writes, as text, and accepts duplicate settings.
"""

import re
from argparse import ArgumentParser
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from hpro_core.errors import HproError, did_you_mean
from hpro_core.io import read_yaml, yaml_mapping
from hpro_core.params import Params, problem_of

PARAMS = Path("params.yaml")
TARGETS = "targets of Snakemake come after `--`"


class Source(NamedTuple):
    """A source of settings: a file or the command line."""

    name: str
    values: Mapping[str, Any]


def read_settings(params: Path, differences: Sequence[Path]) -> Params:
    """Read and check the settings of a run: `params.yaml` and files that override it, in order.

    Raises:
        HproError: a file cannot be read, or a setting is wrong; the message names its file.
    """
    return merge_and_check(sources(params, differences))[1]


def sources(params: Path, differences: Iterable[Path]) -> list[Source]:
    """Read the settings files without merging them; the first one is `params`.

    Raises:
        HproError: a file cannot be read, or contains no settings.
    """
    return [Source(str(params), read_yaml(params)), *_differences(differences)]


def settings_of_workflow(workflow: Any) -> tuple[dict[str, Any], Params]:
    """Return the settings for Snakemake, as plain values and as checked sections.

    The Snakemake process of a cluster job uses the settings with which the run started
    (`plan.live_run`): the one file of its `--configfile`.
    """
    given = [Path(file) for file in workflow.overwrite_configfiles]
    if not workflow.is_main_process and len(given) == 1:
        return merge_and_check([Source(str(given[0]), read_yaml(given[0]))])
    alone = workflow.config_settings.replace_workflow_config
    files = list(map(_relative_path, given))
    found = _differences(files) if alone else sources(PARAMS, files)
    return merge_and_check([*found, *_overrides(workflow.config_settings.config_args or [])])


def check_arguments(arguments: Sequence[str]) -> None:
    """Check the files of `--configfile` before Snakemake, whose errors do not name the file.

    The profiles call this function, since Snakemake reads them first.

    Raises:
        SystemExit: a file is not a settings file; Snakemake is not started.
    """
    options = ArgumentParser(add_help=False, allow_abbrev=False)
    options.add_argument(
        "--configfile", "--configfiles", nargs="*", action="extend", type=Path, default=[]
    )
    try:
        _differences(options.parse_known_args(arguments)[0].configfile)
    except HproError as error:
        raise SystemExit(f"hpro: {error}") from error


def merge_and_check(found: Sequence[Source]) -> tuple[dict[str, Any], Params]:
    """Merge settings, of which later ones take precedence, and check them.

    Returns:
        Plain values, and the same values as sections.

    Raises:
        HproError: a setting is wrong; the message names its source.
    """
    merged: dict[str, Any] = {}
    for source in found:
        merged = _merged(merged, source.values)
    merged = without_null_sets(merged)
    try:
        return merged, Params.model_validate(merged)
    except ValidationError as error:
        key, problem = problem_of(error)
        head = re.match(r"[A-Za-z_][\w.-]*", problem) if not key or ": " in problem else None
        place = ".".join(filter(None, [key, head and head.group()]))
        name = _origin(found, place.split("."))
        raise HproError(": ".join(filter(None, [name, key, problem]))) from error


def _origin(found: Sequence[Source], place: Sequence[str]) -> str:
    """Name of the source of a setting or its section; the first source if none has it."""
    for length in range(len(place), 0, -1):
        for source in reversed(found):
            if _has(source.values, place[:length]):
                return source.name
    return found[0].name


def _has(values: Any, place: Sequence[str]) -> bool:
    for name in place:
        if isinstance(values, list) and name.isdigit() and int(name) < len(values):
            values = values[int(name)]
        elif isinstance(values, Mapping) and name in values:
            values = values[name]
        else:
            return False
    return True


def _differences(files: Iterable[Path]) -> list[Source]:
    """Sources of the `--configfile` files; a file without any setting is probably a target."""
    found = []
    for file in files:
        if not file.exists():
            hint = did_you_mean(str(file), (*Path().glob("*.yaml"), *Path().glob("config/*.yaml")))
            raise HproError(f"{file} is not a settings file, it does not exist: {TARGETS}{hint}")
        values = read_yaml(file, f"name a settings file; {TARGETS}")
        if not values.keys() & Params.model_fields.keys():
            raise HproError(f"{file} is not a settings file, it has no known section: {TARGETS}")
        found.append(Source(str(file), values))
    return found


def _overrides(arguments: Iterable[str]) -> list[Source]:
    """Sources of `--config name=value` arguments, with values as YAML."""
    found = []
    for argument in arguments:
        name, _, value = argument.partition("=")
        where = f"--config {argument}"
        found.append(Source(where, yaml_mapping(f"{name}: {value}", where)))
    return found


def _relative_path(file: Path) -> Path:
    """A path relative to the working directory if it is inside it."""
    here = Path.cwd()
    return file.relative_to(here) if file.is_relative_to(here) else file


def without_null_sets(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings without the corpora that are `null`, which are also removed from `leave_out`.

    An overriding file sets a corpus to null to remove it from `params.yaml`.
    """
    corpus = settings.get("corpus")
    if not isinstance(corpus, Mapping) or not isinstance(corpus.get("sets"), Mapping):
        return dict(settings)  # the check of the settings reports it
    sets = {name: chosen for name, chosen in corpus["sets"].items() if chosen is not None}
    gone = [name for name in corpus["sets"] if name not in sets]
    return {**_without_sets(settings, gone), "corpus": {**corpus, "sets": sets}}


def _without_sets(settings: Mapping[str, Any], gone: Sequence[str]) -> dict[str, Any]:
    """Settings with the removed corpora deleted from `leave_out` lists at any depth."""
    kept = {k: _without_sets(v, gone) if isinstance(v, Mapping) else v for k, v in settings.items()}
    if isinstance(names := kept.get("leave_out"), list):
        kept["leave_out"] = [name for name in names if name not in gone]
    return kept


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Merge mappings recursively and replace all other values, as Snakemake does."""
    both = dict(below)
    for key, value in above.items():
        inner = below.get(key)
        mappings = isinstance(inner, Mapping) and isinstance(value, Mapping)
        both[key] = _merged(inner, value) if mappings else value  # type: ignore[arg-type]
    return both
