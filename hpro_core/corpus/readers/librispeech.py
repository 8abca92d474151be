"""Reader `librispeech`: LibriSpeech, read books at 16 kHz, and Mini LibriSpeech.

<subset>/<speaker>/<chapter>/<speaker>-<chapter>-<nnnn>.flac, with the texts of a chapter in
<speaker>-<chapter>.trans.txt, "<id> <TEXT>" in each line, upper case without punctuation. The name
of the subset prescribes the split. CHAPTERS.TXT beside the subsets lists all chapters. Subsets of
other kinds (intro, mp3, texts, raw-metadata) are left out.

LibriTTS has the same layout; functions that its reader uses are public here.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from hpro_core.corpus.readers.about import CorpusInfo, safe_id, text_of
from hpro_core.corpus.recording import Fault, Recording
from hpro_core.corpus.walk import entries_of, is_folder
from hpro_core.errors import HproError

INFO = CorpusInfo(
    title="LibriSpeech, Panayotov and others 2015",
    licence="CC BY 4.0: requires attribution",
    source="openslr.org/12: train-clean-100.tar.gz and others, one for each subset",
    patterns=(
        "[tde]*-[co]*/*/*/*-*.trans.txt",
        "*/[tde]*-[co]*/*/*/*-*.trans.txt",
        "[0-9]*/[0-9]*/*-*.trans.txt",
    ),
)
LIST = "CHAPTERS.TXT"

_EMPTY = "chapter without files"
_SUBSET = re.compile(r"(train|dev|test)-(?:clean|other)(?:-\d+)?")
_LISTED = re.compile(r"(\d+) *\| *(\d+) *\|[^|]*\| *(\S+) *\|")  # chapter, speaker, minutes, subset


class Line(NamedTuple):
    """A line of a transcript; `text` is None where the line is damaged."""

    utterance: str
    text: str | None
    where: str


def read(folder: Path) -> Iterator[Recording | Fault]:
    """Yield all utterances, chapter by chapter; a group is a chapter.

    Args:
        folder: LibriSpeech, its parent folder, or a subset.

    Raises:
        HproError: no subset was found, or a transcript is not UTF-8.
    """
    for subset, split in subsets(folder):
        missing = _listed(subset)
        for chapter in chapters(subset):
            name = f"{chapter.parent.name}-{chapter.name}"
            missing.pop(name, None)
            transcript = chapter / f"{name}.trans.txt"
            yield from utterances(chapter, split, "-", ".flac", _lines(transcript))
        for name, where in missing.items():
            yield Fault(name, _EMPTY, where)


def subsets(folder: Path) -> list[tuple[Path, str]]:
    """Return the subsets of a corpus and their splits, in the folder or up to two levels below.

    Raises:
        HproError: no subset was found.
    """
    for places in _places(folder):
        found = [(path, match[1]) for path in places if (match := _SUBSET.fullmatch(path.name))]
        if found:
            return found
    raise HproError(
        f"{folder}: no folder such as train-clean-100, dev-other or test-clean: give the folder "
        "that holds them, or one of them"
    )


def chapters(subset: Path) -> Iterator[Path]:
    """Yield the folders <speaker>/<chapter> of a subset, in order."""
    for speaker in _folders(subset):
        yield from _folders(speaker)


def utterances(
    chapter: Path, split: str, joint: str, suffix: str, lines: Iterable[Line]
) -> Iterator[Recording | Fault]:
    """Yield the utterances of a chapter: those with audio, a transcript line, or both.

    Args:
        chapter: folder <speaker>/<chapter>.
        split: split of its subset.
        joint: separator between the parts of an id.
        suffix: suffix of audio files.
        lines: lines of the chapter's transcript.
    """
    group = f"{chapter.parent.name}{joint}{chapter.name}"
    names = [entry.name for entry in entries_of(chapter) if not entry.name.startswith(".")]
    audio = {name.removesuffix(suffix) for name in names if name.endswith(suffix)}
    found: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        found[line.utterance].append(line)
    if not audio and not found:
        yield Fault(group, _EMPTY, str(chapter))
    for utterance in sorted(audio | found.keys()):
        path, here = chapter / f"{utterance}{suffix}", found.get(utterance, [])
        where = f"{here[-1].where}: {path.name}" if here else str(path)
        reason = _wrong(utterance in audio, here)
        if not re.fullmatch(rf"{re.escape(group)}({joint}\d+)+", utterance):
            yield Fault(safe_id(f"{group}/{utterance}"), "id that is not its chapter's", where)
        elif reason:
            yield Fault(utterance, reason, where)
        else:
            yield Recording(
                utterance=utterance,
                speaker=chapter.parent.name,
                text=here[0].text or "",
                audio=path,
                group=group,
                split=split,
            )


def _wrong(has_audio: bool, lines: list[Line]) -> str:
    """The reason why an utterance cannot be used; empty if it can."""
    if not has_audio:
        return "no audio file"
    if not lines:
        return "no transcript"
    if len(lines) > 1:
        return "several transcripts"
    return "transcript that is damaged" if lines[0].text is None else ""


def _places(folder: Path) -> Iterator[list[Path]]:
    """Yield the candidate folders of subsets, level by level."""
    yield [folder.absolute()]
    yield _folders(folder)
    yield [path for below in _folders(folder) for path in _folders(below)]


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    found = (entry for entry in entries_of(folder) if is_folder(entry))
    return sorted(Path(entry) for entry in found if not entry.name.startswith("."))


def _lines(transcript: Path) -> Iterator[Line]:
    if transcript.is_file():
        for number, line in enumerate(text_of(transcript).split("\n"), start=1):
            utterance, _, text = line.partition(" ")
            if utterance:
                yield Line(utterance, text.strip(), f"{transcript}, line {number}")


def _listed(subset: Path) -> dict[str, str]:
    """Expected chapters of a subset -> their place in the list; empty if there is no list."""
    path = subset.parent / LIST
    if not path.is_file():
        return {}
    lines = text_of(path, "latin-1").split("\n")  # book titles may not be UTF-8
    rows = [(number, _LISTED.match(line)) for number, line in enumerate(lines, start=1)]
    return {
        f"{row[2]}-{row[1]}": f"{path}, line {number}"
        for number, row in rows
        if row and row[3] == subset.name
    }
