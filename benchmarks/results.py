"""What a stage computes, how far two computations of it may differ, and what was recorded.

A result is a dict of named arrays and texts. A name may have a place after a slash ("tokens/3");
tolerances are by the part before it.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import load_file, save

Value = np.ndarray | float | str
Result = Mapping[str, Value]


@dataclass(frozen=True)
class Tolerance:
    """How far values may differ.

    Attributes:
        kind: "equal": not at all; "absolute", "relative": by the largest difference of a value,
            or that over the largest value; "share": so many of the values may be others.
        most: for the reference and hpro_core in one process.
        recorded: for what was recorded, perhaps on another CPU; None: the same as `most`.
    """

    kind: Literal["equal", "absolute", "relative", "share"]
    most: float = 0.0
    recorded: float | None = None

    def limit(self, against: str) -> float:
        """The largest difference that passes."""
        return self.most if against == "reference" or self.recorded is None else self.recorded

    def difference(self, value: Value, other: Value) -> float:
        """How far two values differ, in the unit of the kind; infinite if their shapes do."""
        if isinstance(value, str) or isinstance(other, str):
            return float(value != other)
        one, two = np.asarray(value, dtype=np.float64), np.asarray(other, dtype=np.float64)
        if one.shape != two.shape or not (np.isfinite(one).all() and np.isfinite(two).all()):
            return math.inf
        if not one.size:
            return 0.0
        if self.kind in ("equal", "share"):
            return float(np.mean(one != two))
        largest = float(np.abs(one - two).max())
        return (
            largest / max(float(np.abs(two).max()), 1e-12) if self.kind == "relative" else largest
        )


@dataclass(frozen=True)
class Check:
    """The largest difference of one kind of value, against the reference or the record."""

    name: str
    against: Literal["reference", "recorded"]
    kind: str
    largest: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether it is within the tolerance."""
        return self.largest <= self.tolerance


def checks(
    current: Result,
    other: Result,
    against: Literal["reference", "recorded"],
    tolerances: Mapping[str, Tolerance],
) -> list[Check]:
    """Compare what hpro_core computes with all that the other has.

    Raises:
        KeyError: hpro_core lacks a value that the other has, or a value has no tolerance.
    """
    largest: dict[str, float] = {}
    for name, value in other.items():
        kind = name.split("/")[0]
        difference = tolerances[kind].difference(current[name], value)
        largest[kind] = max(largest.get(kind, 0.0), difference)
    return [
        Check(name, against, tolerances[name].kind, found, tolerances[name].limit(against))
        for name, found in largest.items()
    ]


@dataclass(frozen=True)
class Record:
    """Outputs of an earlier hpro_core (recorded.json and recorded.safetensors).

    Attributes:
        about: commit and machine that they are of, and seeds that were chosen for them.
        values: by "stage:name".
    """

    about: dict[str, Any]
    values: dict[str, Value]

    def of(self, stage: str) -> dict[str, Value]:
        """What was recorded of a stage."""
        mine = ((name.partition(":"), value) for name, value in self.values.items())
        return {name: value for (owner, _, name), value in mine if owner == stage}


def read_record(path: Path) -> Record:
    """Read recorded.json and the tensors beside it."""
    stored = json.loads(path.read_text(encoding="utf-8"))
    tensors = load_file(path.with_suffix(".safetensors"))
    values: dict[str, Value] = {name: tensor.numpy() for name, tensor in tensors.items()}
    return Record(stored["about"], values | stored["values"])


def write_record(path: Path, record: Record) -> None:
    """Write recorded.json and the tensors beside it."""
    plain = {n: v for n, v in record.values.items() if not isinstance(v, np.ndarray)}
    arrays = {n: v for n, v in record.values.items() if isinstance(v, np.ndarray)}
    text = json.dumps({"about": record.about, "values": plain}, indent=1, sort_keys=True)
    path.write_text(text + "\n", encoding="utf-8")
    tensors = {n: torch.from_numpy(np.ascontiguousarray(v)) for n, v in sorted(arrays.items())}
    # save_file would leave a file that only its owner reads
    path.with_suffix(".safetensors").write_bytes(save(tensors))
