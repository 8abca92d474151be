"""`params.yaml` with files of differences on top, as `snakemake --configfile` puts them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpro_core.params import Params, read_yaml, validated


def read_settings(params: Path, differences: Sequence[Path]) -> Params:
    """The settings of a run.

    Args:
        params: `params.yaml`.
        differences: files whose values count instead; a later one wins.

    Raises:
        HproError: a file cannot be read, or the settings are wrong together.
    """
    merged = read_yaml(params)
    for file in differences:
        merged = _merged(merged, read_yaml(file))
    names = " with ".join(map(str, (params, *differences)))
    return validated(without_null_sets(merged), Params, names)


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
