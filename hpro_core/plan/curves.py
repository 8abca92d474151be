"""Last values of the terms of a training: from training.csv, or TensorBoard's file while it runs.

Nothing here imports torch.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hpro_core.errors import HproError
from hpro_core.io import CURVES, RERUN_HINT, csv_lines, read_text

_HEADER = struct.Struct("<QI")  # length of an event, and a checksum
_CHECKSUM_BYTES = 4


class LastValue(NamedTuple):
    """The last value of a term."""

    step: int
    split: str
    term: str
    value: float


def last_values(folder: Path) -> list[LastValue]:
    """Return the last value of each term of a training, in the order of their first values.

    Args:
        folder: of the training's results, with training.csv or tensorboard/.

    Returns:
        Nothing if the training has not written a value yet.

    Raises:
        HproError: training.csv cannot be read or is no table of curves.
    """
    path = folder / "training.csv"
    found = {}
    for value in _of_csv(path) if path.is_file() else _of_board(folder / "tensorboard"):
        found[value.split, value.term] = value
    return list(found.values())


def _of_csv(path: Path) -> Iterator[LastValue]:
    """Yield the rows of training.csv, without the slow import of pandas."""
    rows = list(csv_lines(read_text(path), str(path)))
    if not rows or tuple(rows[0][1]) != CURVES:
        raise HproError(f"{path} has not the columns {', '.join(CURVES)}: {RERUN_HINT}")
    for line, (step, split, term, value) in rows[1:]:
        try:
            yield LastValue(int(step), split, term, float(value))
        except ValueError as error:
            raise HproError(f"{path}, line {line}: {error}: {RERUN_HINT}") from error


def _of_board(folder: Path) -> Iterator[LastValue]:
    """Yield the scalars of the newest event file, which has those before a resume too."""
    files = sorted(folder.glob("events.out.tfevents.*"), key=lambda file: file.stat().st_mtime_ns)
    for event in _events(files[-1]) if files else ():
        for value in event.summary.value:
            split, slash, term = value.tag.partition("/")
            if slash and value.WhichOneof("value") == "simple_value":
                yield LastValue(event.step, split, term, value.simple_value)


def _events(file: Path) -> Iterator:
    """Yield the complete events of a file, which a training may be writing."""
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.event_pb2 import Event

    content, place = file.read_bytes(), 0
    while place + _HEADER.size <= len(content):
        length, _ = _HEADER.unpack_from(content, place)
        first = place + _HEADER.size
        place = first + length + _CHECKSUM_BYTES
        if place > len(content):
            return
        try:
            yield Event.FromString(content[first : first + length])
        except DecodeError:
            return
