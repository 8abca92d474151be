"""Registry of corpus readers by name, and recognition of the reader for a folder."""

from pathlib import Path

from hpro_core.corpus.readers import (
    amazon_queen,
    amazon_queen_scenes,
    crema_d,
    csv_folder,
    emov_db,
    emovoice_db,
    esd,
    expresso,
    iemocap,
    librispeech,
    libritts,
    lssed,
    msp_podcast,
    queen_file,
    ravdess,
)
from hpro_core.corpus.readers.about import Reader
from hpro_core.corpus.recording import Fault, Recording
from hpro_core.errors import HproError

PUBLISHED: dict[str, Reader] = {
    "crema_d": crema_d,
    "emov_db": emov_db,
    "emovoice_db": emovoice_db,
    "esd": esd,
    "expresso": expresso,
    "iemocap": iemocap,
    "librispeech": librispeech,
    "libritts": libritts,
    "lssed": lssed,
    "msp_podcast": msp_podcast,
    "ravdess": ravdess,
}
"""Name in `corpus.sets.<set>.reader` of params.yaml -> reader of a published corpus."""

READERS: dict[str, Reader] = {
    **PUBLISHED,
    "amazon_queen": amazon_queen,
    "amazon_queen_scenes": amazon_queen_scenes,
    "csv": csv_folder,
}
"""All readers that params.yaml can name except `controlled`, which is rendered."""


def read_entries(reader: str, path: Path, setting: str) -> list[Recording | Fault]:
    """Return all utterances of a corpus in a fixed order, with a fault for each unusable one.

    The path is a folder, or the game's data file; `setting` names it in messages.

    Raises:
        HproError: no such folder or file, or the corpus as a whole cannot be read.
    """
    of_game = reader == "amazon_queen_scenes" or path.suffix == queen_file.SUFFIX
    if not (of_game and reader.startswith("amazon_queen")) and not path.is_dir():
        raise HproError(f"{setting}: {str(path)!r} is not a folder")
    return list(READERS[reader].read(path))


def detect_reader(path: Path) -> str:
    """Return the reader whose files are at a path, or `csv` if no other matches.

    Raises:
        HproError: the folder or file is missing, or no reader or several readers match.
    """
    if path.is_file() and path.suffix == queen_file.SUFFIX:
        return "amazon_queen"
    if not path.is_dir():
        raise HproError(f"{path} is not a folder: give the folder of the extracted archive")
    known = [
        name
        for name, reader in PUBLISHED.items()
        if any(next(path.glob(pattern), None) is not None for pattern in reader.INFO.patterns)
    ]
    if not known and (path / csv_folder.INFO.patterns[0]).is_file():
        return "amazon_queen" if _is_excerpt(path / csv_folder.INFO.patterns[0]) else "csv"
    if len(known) == 1:
        return known[0]
    wanted = "\n".join(
        f"  {name}: {' or '.join(r.INFO.patterns) or '*.1c'}" for name, r in READERS.items()
    )
    found = f"matches {' and '.join(known)}" if known else "matches no reader"
    raise HproError(f"{path} {found}: name the reader with --reader. Files of readers:\n{wanted}")


def _is_excerpt(metadata: Path) -> bool:
    """Whether a metadata.csv has the columns of the game's excerpt."""
    with metadata.open("rb") as file:
        header = file.readline(1000).decode("utf-8", "replace")
    return {"utt_id", "dialogue"} <= {name.strip() for name in header.split(",")}
