"""Reader `csv`: any folder with a metadata.csv and the audio files it names (docs/corpora.md)."""

from collections.abc import Iterator
from pathlib import Path

from hpro_core.constants import EMOTIONS, SPLITS
from hpro_core.corpus.readers.about import About
from hpro_core.corpus.recording import Fault, Recording, metadata_rows, row_problems

COLUMNS = ("utterance", "speaker", "text", "audio")
OPTIONAL = ("emotion", "split", "group")

ABOUT = About(
    title="Own corpus",
    licence="its owner's",
    source="a folder with a metadata.csv (docs/corpora.md)",
    signs=("metadata.csv",),
    emotions={emotion: emotion for emotion in EMOTIONS},
)


def read(folder: Path) -> Iterator[Recording | Fault]:
    """Yield all utterances of the corpus, and a fault for each error in its metadata.

    A run stops at these faults (`Fault.stops`): metadata or audio is missing, an id is a duplicate,
    a path leaves the folder, an emotion or a split is unknown, or only some rows have a split.

    Args:
        folder: holds metadata.csv with the columns utterance, speaker, text, audio (relative to the
            folder), and optionally emotion (one of `EMOTIONS` or empty), split (one of `SPLITS`;
            in every row or in none) and group (utterances that must be in one split).

    Raises:
        HproError: `metadata_rows` raises it.
    """
    rows, faults = metadata_rows(folder, COLUMNS, OPTIONAL)
    yield from faults
    has_split = any(row.get("split", "").strip() in SPLITS for _, row in rows)
    seen: dict[str, str] = {}
    for where, row in rows:
        problems = list(_problems(folder, row, where, seen, has_split))
        name = row["utterance"] or where
        yield from (Fault(name, kind, f"{where}: {says}", stops=True) for kind, says in problems)
        if not problems:
            yield _recording(folder, row)


def _problems(
    folder: Path, row: dict[str, str], where: str, seen: dict[str, str], has_split: bool
) -> Iterator[tuple[str, str]]:
    """Yield the errors of a row: kind and message."""
    yield from row_problems(folder, where, row, "utterance", ("speaker",), seen)
    for column, known in (("emotion", EMOTIONS), ("split", SPLITS)):
        value = row.get(column, "").strip()
        if value and value not in known:
            says = f"{column} {value!r} is unknown; known: {', '.join(known)}"
            yield f"unknown {column}", says
    if has_split and not row["split"].strip():
        yield "empty cell", "split is empty: give a split to every row or to none"


def _recording(folder: Path, row: dict[str, str]) -> Recording:
    emotion = row.get("emotion", "").strip()
    return Recording(
        utterance=row["utterance"],
        speaker=row["speaker"].strip(),
        text=row["text"].strip(),
        audio=folder / row["audio"],
        group=row.get("group", "").strip() or row["utterance"],
        split=row.get("split", "").strip(),
        emotion=emotion or None,
        label=emotion,
    )
