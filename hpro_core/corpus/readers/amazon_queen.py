"""Reader `amazon_queen`: acted speech of the game Flight of the Amazon Queen.

The path is the folder of the excerpt that the project ships, or the game's data file with all of
its dialogue.
"""

from collections.abc import Iterator
from pathlib import Path

from hpro_core.corpus.readers import queen_file
from hpro_core.corpus.readers.about import CorpusInfo
from hpro_core.corpus.recording import Fault, Recording, checked_rows, metadata_rows

COLUMNS = ("utt_id", "speaker", "dialogue", "audio", "text")

INFO = CorpusInfo(
    title="Flight of the Amazon Queen, dialogue of its talkie edition, 1995",
    licence="the game's own (readme.txt): to be passed on with that file, not to be sold",
    source="data/raw/amazon_queen, or `make data/raw/queen/queen.1c`",
    patterns=("metadata.csv",),
)


def read(path: Path) -> Iterator[Recording | Fault]:
    """Yield all utterances of the excerpt or of the whole game; a group is a scene.

    Args:
        path: a folder with metadata.csv and the clips it names, or queen.1c.

    Raises:
        HproError: `metadata_rows` or `queen_file.dialogue` raises it.
    """
    if path.suffix == queen_file.SUFFIX:
        yield from queen_file.dialogue(path)
        return
    rows, faults = metadata_rows(path, COLUMNS)
    yield from faults
    for row in checked_rows(path, rows, "utt_id", ("speaker", "dialogue")):
        if isinstance(row, Fault):
            yield row
            continue
        yield Recording(
            utterance=row["utt_id"],
            speaker=row["speaker"].strip(),
            text=row["text"].strip(),
            audio=path / row["audio"],
            group=row["dialogue"].strip(),
        )
