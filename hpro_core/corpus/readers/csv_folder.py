"""Reader `csv`: any folder with a metadata.csv and the audio files it names (docs/corpora.md)."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from hpro_core.constants import EMOTIONS, SPLITS
from hpro_core.corpus.readers.about import CorpusInfo
from hpro_core.corpus.recording import Fault, Recording, checked_rows, metadata_rows

COLUMNS = ("utterance", "speaker", "text", "audio")
OPTIONAL = ("emotion", "split", "group")

INFO = CorpusInfo(
    title="Own corpus",
    licence="its owner's",
    source="a folder with a metadata.csv (docs/corpora.md)",
    patterns=("metadata.csv",),
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
    problems = partial(_problems, has_split=has_split)
    for row in checked_rows(folder, rows, "utterance", ("speaker",), problems):
        yield row if isinstance(row, Fault) else _recording(folder, row)


def _problems(row: dict[str, str], has_split: bool) -> Iterator[tuple[str, str]]:
    """Yield the errors of emotion and split: kind and message."""
    for column, known in (("emotion", EMOTIONS), ("split", SPLITS)):
        value = row.get(column, "").strip()
        if value and value not in known:
            problem = f"{column} {value!r} is unknown; known: {', '.join(known)}"
            yield f"unknown {column}", problem
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
