"""What differs between runs besides their results: settings, code, models."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from hpro_core.params import flattened

NOT_SET = ""
"""Shown for a setting that a run does not have."""

_NO_DIFFERENCE = ("run",)
"""Settings that differ between any two runs."""

JUDGES = "evaluate."
"""Start of the settings of the judges."""

_NO_SCORE = ("bootstrap_samples", "seed", "batch_size", "judge_epochs", "judge_learning_rate")
"""Settings of `evaluate` that change no score, or only by the judge, whose hash is compared."""


def flat(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each setting by its name with dots; lists and texts that are empty as in JSON."""
    for name, value in flattened(settings):
        plain = isinstance(value, str) and value.strip() != ""
        yield name, value if plain else json.dumps(value, ensure_ascii=False)


def differing(of_runs: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Tabulate the settings that are not the same in all runs.

    Args:
        of_runs: settings by run.

    Returns:
        The column `setting` and one column per run; NOT_SET where a run lacks the setting.
    """
    found = [dict(flat(settings)) for settings in of_runs.values()]
    names = dict.fromkeys(name for each in found for name in each)
    rows = [
        [name, *(each.get(name, NOT_SET) for each in found)]
        for name in names
        if name not in _NO_DIFFERENCE and len({each.get(name) for each in found}) > 1
    ]
    return pd.DataFrame(rows, columns=["setting", *of_runs])


def of_judges(different: pd.DataFrame) -> list[str]:
    """Return the differing settings of the judges that can change scores."""
    names = [str(name) for name in different["setting"] if str(name).startswith(JUDGES)]
    return [name for name in names if name.removeprefix(JUDGES) not in _NO_SCORE]


def other_values(of_runs: Sequence[Mapping[str, str]]) -> list[tuple[str, list[str], bool]]:
    """Tabulate values by name: the value of each run, and whether all have the same one."""
    names = sorted({name for each in of_runs for name in each})
    rows = [(name, [each.get(name, NOT_SET) for each in of_runs]) for name in names]
    return [(name, values, len(set(values)) == 1) for name, values in rows]
