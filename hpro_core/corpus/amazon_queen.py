"""Reader `amazon_queen`, the excerpt: acted speech of the game Flight of the Amazon Queen."""

from pathlib import Path

from hpro_core.corpus.recording import (
    Recording,
    checked_audio,
    checked_id,
    checked_name,
    metadata_rows,
)

COLUMNS = ("utt_id", "speaker", "dialogue", "audio", "text")


def recordings(folder: Path) -> list[Recording]:
    """All utterances of the corpus; a group is a scene (column `dialogue`).

    Args:
        folder: holds metadata.csv and the clips it names.

    Raises:
        HproError: metadata or audio is missing, an id is a duplicate, a path leaves the folder.
    """
    seen: set[str] = set()
    return [
        Recording(
            utterance=checked_id(row["utt_id"], seen, where),
            speaker=checked_name(row, "speaker", where),
            text=row["text"].strip(),
            audio=checked_audio(folder, row["audio"], where),
            group=checked_name(row, "dialogue", where),
        )
        for where, row in metadata_rows(folder, COLUMNS)
    ]
