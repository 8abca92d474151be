"""A miniature of LibriSpeech: three subsets, four chapters, and the disclaimers, left out."""

import shutil
from pathlib import Path

from tests.corpora.planting import Planted, cut, edit, write_sound

READER = "librispeech"
UTTERANCES, SPEAKERS = 7, 4
CHAPTERS = {
    "train-clean-100/19/198": ("NORTHANGER ABBEY", "THIS LITTLE WORK WAS FINISHED"),
    "train-clean-100/26/495": ("IT WAS A DAMP CHILLY AFTERNOON",),
    "dev-clean/84/121123": ("GO DO YOU HEAR", "BUT IN LESS THAN FIVE MINUTES"),
    "test-other/367/130732": ("LOBSTERS AND LOBSTERS", "WHEN IS A LOBSTER NOT A LOBSTER"),
}
FIRST = Path("train-clean-100/19/198/19-198-0000.flac")
TRANSCRIPT = FIRST.with_name("19-198.trans.txt")


def build(folder: Path) -> None:
    """As the folder LibriSpeech, with three archives and that of the disclaimers extracted."""
    rows = [";ID    |READER|MINUTES| SUBSET           | PROJ.|BOOK ID| CH. TITLE | PROJECT TITLE"]
    for name, texts in CHAPTERS.items():
        subset, speaker, chapter = name.split("/")
        ids = [f"{speaker}-{chapter}-{number:04d}" for number in range(len(texts))]
        for utterance in ids:
            write_sound(folder / name / f"{utterance}.flac")
        lines = "".join(f"{utterance} {text}\n" for utterance, text in zip(ids, texts, strict=True))
        (folder / name / f"{speaker}-{chapter}.trans.txt").write_text(lines)
        rows.append(f"{chapter:<6} | {speaker:<4} | 12.5  | {subset:<16} | 60 | 121 | One | A Tale")
    rows.append("123   | 14   | 25.03 | train-clean-360  | 60 | 121 | One | A subset not fetched")
    (folder / "CHAPTERS.TXT").write_text("\n".join(rows) + "\n")
    write_sound(folder / "intro/14/208/14-208-0000.flac")
    (folder / FIRST).with_name("._19-198-0000.flac").write_bytes(b"Mac OS X")


def _one_level_below(folder: Path) -> None:
    parts = list(folder.iterdir())
    (folder / "LibriSpeech").mkdir()
    for part in parts:
        part.rename(folder / "LibriSpeech" / part.name)
    (folder / "LibriSpeech" / FIRST).unlink()


PLANTED = [
    Planted("a file is missing, below LibriSpeech", _one_level_below, "no audio file: 1"),
    Planted("a file is cut off", lambda f: cut(f / FIRST), "unreadable audio: 1"),
    Planted(
        "a chapter was not extracted",
        lambda f: shutil.rmtree(f / "train-clean-100/26/495"),
        "chapter without files: 1",
    ),
    Planted(
        "a chapter lost its transcript", lambda f: (f / TRANSCRIPT).unlink(), "no transcript: 2"
    ),
    Planted(
        "a line without text",
        lambda f: edit(f / TRANSCRIPT, " NORTHANGER ABBEY", ""),
        "transcript without words: 1",
    ),
    Planted(
        "two lines for one utterance",
        lambda f: edit(f / TRANSCRIPT, "19-198-0001", "19-198-0000"),
        "several transcripts: 1",
    ),
    Planted(
        "an id that climbs out of the folder",
        lambda f: edit(f / TRANSCRIPT, "19-198-0001", "../../84/121123/84-121123-0000"),
        "id that is not its chapter's: 1\n    19-198_.._.._84_121123_84-121123-0000: ",
    ),
    Planted(
        "a chapter in two subsets",
        lambda f: shutil.copytree(f / FIRST.parent, f / "dev-clean/19/198"),
        "duplicate id: 2",
    ),
    Planted(
        "a transcript that is not UTF-8",
        lambda f: (f / TRANSCRIPT).write_bytes(b"19-198-0000 ABBEY\n19-198-0001 CAF\xc9\n"),
        "19-198.trans.txt, line 2: byte 0xc9 is not UTF-8",
        stops=True,
    ),
]
