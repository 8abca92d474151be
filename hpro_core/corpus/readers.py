"""The readers of corpora in folders by name, and which one a folder belongs to."""

from pathlib import Path

from hpro_core.corpus import csv_folder
from hpro_core.corpus.published import (
    crema_d,
    emov_db,
    emovoice_db,
    esd,
    expresso,
    iemocap,
    librispeech,
    libritts,
    lssed,
    msp_podcast,
    ravdess,
)
from hpro_core.corpus.published.about import Reader
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
"""The names are those of `corpus.sets.<set>.reader` in params.yaml."""

READERS: dict[str, Reader] = {**PUBLISHED, "csv": csv_folder}
"""Those that `hpro corpus check` knows."""


def recognised(folder: Path) -> str:
    """The reader whose corpus lies in a folder, by the signs of each, or `csv` if no other.

    Raises:
        HproError: no such folder, or no reader or several know it.
    """
    if not folder.is_dir():
        raise HproError(f"{folder} is not a folder: give the one that the archive was extracted to")
    known = [
        name
        for name, reader in PUBLISHED.items()
        if any(next(folder.glob(sign), None) is not None for sign in reader.ABOUT.signs)
    ]
    if not known and (folder / csv_folder.ABOUT.signs[0]).is_file():
        return "csv"
    if len(known) == 1:
        return known[0]
    wanted = "\n".join(f"  {name}: {' or '.join(r.ABOUT.signs)}" for name, r in READERS.items())
    found = f"looks like {' and '.join(known)}" if known else "is no corpus that a reader knows"
    raise HproError(f"{folder} {found}: name the reader with --reader. They look for\n{wanted}")
