"""Measurements of a JSON file as names and formatted values."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from hpro_core.io import read_json

SEPARATOR = " · "
"""Between the parts of a measurement's name."""


def measurements(path: Path, command: str, without: Collection[str] = ()) -> list[tuple[str, str]]:
    """Flatten a JSON file of measurements into a list of names and formatted values.

    An object with the keys value, lo and hi becomes one value with its interval.

    Args:
        path: the file.
        command: the command that creates it, for the error message.
        without: keys of the file to leave out.

    Raises:
        HproError: the file is missing or is not JSON.
    """
    stored = read_json(path, f"run `{command}`")
    return list(_flat({key: v for key, v in stored.items() if key not in without}, ""))


def by_group(rows: list[tuple[str, str]]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Group measurements by the first part of their names; those of one part have no group."""
    found: dict[str, list[tuple[str, str]]] = {}
    for name, value in rows:
        group, mark, rest = name.partition(SEPARATOR)
        found.setdefault(group if mark else "", []).append((rest if mark else name, value))
    return list(found.items())


def _flat(value: Any, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and {"value", "lo", "hi"} <= value.keys():
        yield name, f"{_figure(value['value'])} [{_figure(value['lo'])}, {_figure(value['hi'])}]"
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}{SEPARATOR}{key}" if name else str(key))
    elif isinstance(value, list):
        yield name, ", ".join(_figure(item) for item in value)
    else:
        yield name, _figure(value)


def _figure(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
