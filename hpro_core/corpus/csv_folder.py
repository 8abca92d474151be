"""Reader `csv`: any folder with a metadata.csv and the audio files it names (docs/corpora.md)."""

from collections.abc import Iterator
from pathlib import Path

from hpro_core.constants import EMOTIONS, SPLITS
from hpro_core.corpus.published.about import About
from hpro_core.corpus.recording import (
    Recording,
    checked_audio,
    checked_id,
    checked_name,
    metadata_rows,
)
from hpro_core.errors import HproError

COLUMNS = ("utterance", "speaker", "text", "audio")

ABOUT = About(
    title="A corpus of one's own",
    licence="its owner's",
    source="a folder with a metadata.csv (docs/corpora.md)",
    signs=("metadata.csv",),
    emotions={emotion: emotion for emotion in EMOTIONS},
)


def read(folder: Path) -> Iterator[Recording]:
    """All utterances of the corpus.

    Args:
        folder: holds metadata.csv with the columns utterance, speaker, text, audio (relative to the
            folder) and, if wanted, emotion (one of `EMOTIONS` or empty), split (one of `SPLITS`;
            in every row or in none) and group (what may not straddle splits).

    Raises:
        HproError: metadata or audio is missing, an id is a duplicate, a path leaves the folder, an
            emotion or a split is unknown, or only some rows have a split.
    """
    rows = metadata_rows(folder, COLUMNS)
    seen: set[str] = set()
    found = [_recording(folder, row, where, seen) for where, row in rows]
    without = [where for (where, _), each in zip(rows, found, strict=True) if not each.split]
    if 0 < len(without) < len(found):
        raise HproError(f"{without[0]}: split is empty: give a split to every row or to none")
    yield from found


def _recording(folder: Path, row: dict[str, str], where: str, seen: set[str]) -> Recording:
    utterance = checked_id(row["utterance"], seen, where)
    emotion = _one_of(row.get("emotion", ""), EMOTIONS, "emotion", where)
    return Recording(
        utterance=utterance,
        speaker=checked_name(row, "speaker", where),
        text=row["text"].strip(),
        audio=checked_audio(folder, row["audio"], where),
        group=row.get("group", "").strip() or utterance,
        split=_one_of(row.get("split", ""), SPLITS, "split", where),
        emotion=emotion or None,
        label=emotion,
    )


def _one_of(value: str, known: tuple[str, ...], column: str, where: str) -> str:
    value = value.strip()
    if value and value not in known:
        raise HproError(f"{where}: {column} {value!r} is unknown; known: {', '.join(known)}")
    return value
