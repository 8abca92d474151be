"""What an import of an external system's audio lacks (`hpro_core.synthesis.external`).

Judges and tables read this, without the code that decodes audio.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from hpro_core.errors import HproError
from hpro_core.io import check_type, read_json

IMPORT = "import.json"
"""Outcome of an import, beside synthesis.parquet."""

NO_FILE = "no audio file"

_NAMED = 5
"""Number of sentences or files that a message lists."""


def without_audio(folder: Path) -> dict[str, str]:
    """Return the sentences of an imported system without usable audio: utt_id -> test set.

    Args:
        folder: eval/<system>/seed<k>; empty for a system of this project, which has no import.json.

    Raises:
        HproError: import.json is invalid.
    """
    return {utt_id: entry["test_set"] for utt_id, entry in _outcome(folder).items()}


def import_note(folder: Path, system: str) -> str | None:
    """Return a sentence on the sentences that an imported system lacks; None if it has all.

    Raises:
        HproError: import.json is invalid.
    """
    lost = {utt_id: entry["reason"] for utt_id, entry in _outcome(folder).items()}
    if not lost:
        return None
    return (
        f"{system} lacks {len(lost)} of the test sentences: {', '.join(by_reason(lost))}. Its row "
        "is of the others; it is compared with another system on the sentences that both have."
    )


def _outcome(folder: Path) -> dict[str, dict[str, str]]:
    path = folder / IMPORT
    if not path.is_file():
        return {}
    again = "delete it and run Snakemake again"
    found = read_json(path, again).get("without_audio")
    outcome = check_type(found, dict[str, dict[str, str]], f"{path}, without_audio", again)
    for utt_id, entry in outcome.items():
        if not {"test_set", "reason"} <= entry.keys():
            raise HproError(f"{path}, without_audio, {utt_id}: test_set or reason is missing")
    return outcome


def by_reason(lost: Mapping[str, str]) -> list[str]:
    """Count and name the sentences of each reason: "2 no audio file (a, b)"."""
    ids: dict[str, list[str]] = {}
    for utt_id, reason in sorted(lost.items(), key=lambda entry: (entry[1] != NO_FILE, entry[1])):
        ids.setdefault(reason, []).append(utt_id)
    return [f"{len(names)} {reason} ({first_names(names)})" for reason, names in ids.items()]


def first_names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
