"""`params.yaml` with files of differences on top, as `snakemake --configfile` puts them.

All files are read strictly (`hpro_core.io.read_yaml`), by Snakemake too: its own reader takes
`1e-05`, which DVC writes, for a text, and the last one of a setting that stands there twice.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from hpro_core.errors import HproError
from hpro_core.io import read_yaml, yaml_mapping
from hpro_core.params import Params, problem_of

PARAMS = Path("params.yaml")
TARGETS = "targets of Snakemake come after `--`"


class Source(NamedTuple):
    """Where settings come from: a file or the command line."""

    name: str
    values: Mapping[str, Any]


def read_settings(params: Path, differences: Sequence[Path]) -> Params:
    """The settings of a run.

    Args:
        params: `params.yaml`.
        differences: files whose values count instead; a later one wins.

    Raises:
        HproError: a file cannot be read, or a setting is wrong; the file that has it is named.
    """
    return checked(sources(params, differences))[1]


def sources(params: Path, differences: Iterable[Path]) -> list[Source]:
    """The files as they are, the first one `params`.

    Raises:
        HproError: a file cannot be read, or holds no settings.
    """
    return [Source(str(params), read_yaml(params)), *_differences(differences)]


def of_workflow(workflow: Any) -> tuple[dict[str, Any], Params]:
    """The settings that Snakemake is to use, as plain values and checked.

    A job's own Snakemake, on a cluster, uses those that the run began with (`plan.live_run`):
    the one file that its `--configfile` names.

    Args:
        workflow: Snakemake's, in the Snakefile.

    Raises:
        HproError: as `read_settings`.
    """
    given = [Path(file) for file in workflow.overwrite_configfiles]
    if not workflow.is_main_process and len(given) == 1:
        return checked([Source(str(given[0]), read_yaml(given[0]))])
    alone = workflow.config_settings.replace_workflow_config
    files = list(map(_shown, given))
    found = _differences(files) if alone else sources(PARAMS, files)
    return checked([*found, *_overrides(workflow.config_settings.config_args or [])])


def check_arguments(arguments: Sequence[str]) -> None:
    """Check the files of `--configfile` before Snakemake reads them: its reader names no file.

    The profiles call it, which are what Snakemake reads first.

    Args:
        arguments: of the command line of Snakemake.

    Raises:
        SystemExit: a file is no settings file; Snakemake is not started then.
    """
    files, is_file = [], False
    for argument in arguments:
        option, _, value = argument.partition("=")
        if argument.startswith("-"):
            is_file = option in ("--configfile", "--configfiles")
            files += [Path(value)] if is_file and value else []
        elif is_file:
            files.append(Path(argument))
    try:
        _differences(files)
    except HproError as error:
        raise SystemExit(f"hpro: {error}") from error


def checked(found: Sequence[Source]) -> tuple[dict[str, Any], Params]:
    """Merge settings and check them.

    Args:
        found: the later one wins.

    Returns:
        Plain values, and the same as sections.

    Raises:
        HproError: a setting is wrong; the source that has it is named.
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
    """Name of the source that has a setting, or the section above it; the first one if none has."""
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
    """Files of `--configfile`; one that holds no setting at all is probably a target."""
    found = []
    for file in files:
        if not file.exists():
            raise HproError(f"{file} is not a settings file, there is none: {TARGETS}")
        values = read_yaml(file, f"name a settings file; {TARGETS}")
        if not values.keys() & Params.model_fields.keys():
            raise HproError(f"{file} is not a settings file, it has no section of one: {TARGETS}")
        found.append(Source(str(file), values))
    return found


def _overrides(arguments: Iterable[str]) -> list[Source]:
    """Of `--config name=value`: values as YAML."""
    found = []
    for argument in arguments:
        name, _, value = argument.partition("=")
        where = f"--config {argument}"
        found.append(Source(where, yaml_mapping(f"{name}: {value}", where)))
    return found


def _shown(file: Path) -> Path:
    """A path as it was given, where it is in the working directory."""
    here = Path.cwd()
    return file.relative_to(here) if file.is_relative_to(here) else file


def without_null_sets(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without the corpora that are `null`, also where `leave_out` names one.

    Files of differences are merged into `params.yaml`: null is how they leave out one of its sets.
    """
    corpus = settings.get("corpus")
    if not isinstance(corpus, Mapping) or not isinstance(corpus.get("sets"), Mapping):
        return dict(settings)  # for the check of the settings to name
    sets = {name: chosen for name, chosen in corpus["sets"].items() if chosen is not None}
    gone = [name for name in corpus["sets"] if name not in sets]
    return {**_learning(settings, gone), "corpus": {**corpus, "sets": sets}}


def _learning(settings: Mapping[str, Any], gone: Sequence[str]) -> dict[str, Any]:
    """Settings whose lists `leave_out`, at any depth, do not name the corpora that are gone."""
    kept = {k: _learning(v, gone) if isinstance(v, Mapping) else v for k, v in settings.items()}
    if isinstance(names := kept.get("leave_out"), list):
        kept["leave_out"] = [name for name in names if name not in gone]
    return kept


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings are merged, all else is replaced (Snakemake's rule)."""
    both = dict(below)
    for key, value in above.items():
        inner = below.get(key)
        mappings = isinstance(inner, Mapping) and isinstance(value, Mapping)
        both[key] = _merged(inner, value) if mappings else value  # type: ignore[arg-type]
    return both
