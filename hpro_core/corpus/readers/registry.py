"""Registry of corpus readers by name, and recognition of the reader for a folder."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
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
from hpro_core.params import CorpusSet

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


LISTED_NAMES = 20
"""Largest number of names that the error for an unknown speaker lists."""


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


def of_speakers(
    found: Sequence[Recording | Fault], chosen: CorpusSet, path: Path
) -> list[Recording | Fault]:
    """Return the utterances of the speakers of a set, as if its corpus had no others.

    The speaker of a fault is unknown. With a choice of speakers, faults of audio and transcripts
    are left out, so that they do not count as rejected; a run stops at those of metadata.

    Args:
        found: all utterances of the corpus.
        chosen: the set.
        path: of the corpus, for messages.

    Raises:
        HproError: the corpus has no speaker of a name that the set lists, or no utterance is left.
    """
    if not chosen.speakers and not chosen.leave_out_speakers:
        return list(found)
    counts = Counter(entry.speaker for entry in found if isinstance(entry, Recording))
    _check_speakers(chosen, counts, path)
    listed = set(chosen.speakers or counts.keys()) - set(chosen.leave_out_speakers)
    if not listed:
        raise HproError(
            f"{path}: leave_out_speakers names all {len(counts)} speakers of the corpus: no "
            "utterance is left; remove a name"
        )
    kept: list[Recording | Fault] = []
    for entry in found:
        if isinstance(entry, Fault):
            kept.append(entry if entry.stops else replace(entry, left_out=True))
        elif entry.speaker in listed:
            kept.append(entry)
    return kept


def _check_speakers(chosen: CorpusSet, counts: Counter[str], path: Path) -> None:
    """Refuse names that are not of the corpus."""
    lists = {"speakers": chosen.speakers, "leave_out_speakers": chosen.leave_out_speakers}
    for setting, names in lists.items():
        for name in names:
            if name not in counts:
                known = get_close_matches(name, counts) or sorted(counts)
                more = ", .." if len(known) > LISTED_NAMES or len(known) < len(counts) else ""
                raise HproError(
                    f"{path}: {setting}: the corpus has no speaker {name!r} "
                    f"({', '.join(known[:LISTED_NAMES])}{more})"
                )


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
