"""CSV files with a sentence per row that users write: the rows, checked against known columns."""

from collections.abc import Sequence
from pathlib import Path

from hpro_core.corpus.recording import csv_table, summary
from hpro_core.errors import HproError
from hpro_core.io import read_text


def sentence_rows(
    path: Path, required: Sequence[str], optional: Sequence[str], hint: str
) -> list[tuple[str, dict[str, str]]]:
    """Read a CSV file with a sentence per row.

    Args:
        path: the file.
        required: required columns.
        optional: optional columns; others are refused.
        hint: what to do about a missing file, column or row.

    Returns:
        The place of each row ("file, line 7") and its stripped cells by column.

    Raises:
        HproError: the file is not readable or has no rows, or a column is missing or unknown.
    """
    names, rows, faults = csv_table(read_text(path, hint), path)
    if faults:
        raise HproError(summary(faults))
    known = (*required, *optional)
    if missing := [name for name in required if name not in names]:
        raise HproError(f"{path}, line 1: column {missing[0]!r} is missing: {hint}")
    if unknown := [name for name in names if name not in known]:
        raise HproError(f"{path}, line 1: column {unknown[0]!r} is unknown: use {', '.join(known)}")
    if not rows:
        raise HproError(f"{path} has no sentence: {hint}")
    return [(where, {name: cell.strip() for name, cell in row.items()}) for where, row in rows]
