"""Reader `esd`: the Emotional Speech Dataset, its English part.

<speaker>/<Emotion>/<speaker>_<number>.wav, in older copies <Emotion>/<part>/ with the parts train,
evaluation and test; and <speaker>/<speaker>.txt, whose lines are id, text and emotion. Speakers
0011 to 0020 speak the same 350 sentences in five emotions: numbers 1 to 350 are neutral, 351 to 700
angry, and so on. Speakers 0001 to 0010 are Chinese and left out.

The published texts are in ASCII, UTF-16 or an 8-bit code, Chinese or Western. 14 lines of three
speakers have a blank instead of the tab after the id, and some of these lack their first word.
0014_001590 has no line.
"""

import codecs
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from hpro_core.corpus.readers.about import CorpusInfo, audio_files, safe_id, text_of
from hpro_core.corpus.recording import Fault, Recording
from hpro_core.errors import HproError
from hpro_core.io import MAX_TEXT_BYTES, read_bytes
from hpro_core.text.normalise import normalised_words

INFO = CorpusInfo(
    title="Emotional Speech Dataset (ESD), Zhou and others 2021, English part",
    licence="research only; a signed form goes to the authors",
    source="github.com/HLTSingapore/Emotional-Speech-Data has the form and the link to "
    "Emotional Speech Dataset (ESD).zip",
    patterns=("00[12]?/00[12]?.txt", "*/00[12]?/00[12]?.txt", "*/*/00[12]?/00[12]?.txt"),
    emotions={
        "Neutral": "neutral",
        "Angry": "angry",
        "Happy": "happy",
        "Sad": "sad",
        "Surprise": "surprised",
    },
)
SPEAKERS = tuple(f"{number:04d}" for number in range(11, 21))
LABELS = tuple(INFO.emotions)
"""Labels in the order of the file numbers."""
SENTENCES = 350
SPLITS = {"train": "train", "evaluation": "dev", "test": "test"}
MACOS = "__MACOSX"
"""Folder in archives that macOS packed: duplicate names without content."""

_PLACE = re.compile(rf"({'|'.join(LABELS)})/(?:({'|'.join(SPLITS)})/)?(\d{{4}})_(\d{{6}})\.wav")
_LINE = re.compile(r"(\d{4}_\d{6})(\s+)(.*\S)\s+(\S+)")


@dataclass(frozen=True)
class _Line:
    text: str
    label: str
    whole: bool  # False: the first word may be lost
    where: str


def read(folder: Path) -> Iterator[Recording | Fault]:
    """Yield all English utterances; a group is a sentence, across speakers and emotions.

    The parts become splits, evaluation as dev, if all audio is in parts and each sentence is in one
    part only, as published.

    Args:
        folder: holds the folders of the speakers, directly or up to two levels below.

    Raises:
        HproError: there is no English speaker or one twice, or a text file is missing or damaged.
    """
    found = (path for depth in ("", "*/", "*/*/") for path in folder.glob(f"{depth}00[12]?"))
    homes = sorted(
        path
        for path in found
        if path.name in SPEAKERS and path.is_dir() and MACOS not in path.relative_to(folder).parts
    )
    if not homes:
        raise HproError(f"{folder}: no folder of an English speaker, 0011 to 0020: extract it all")
    last = {home.name: home for home in homes}
    for home in homes:
        if home != last[home.name]:
            raise HproError(f"{home} and {last[home.name]}: the same speaker: remove one")
    entries = [entry for home in homes for entry in _speaker(home)]
    parts = {(entry.group, entry.split) for entry in entries if isinstance(entry, Recording)}
    one_each = len(parts) == len(dict(parts))
    prescribed = one_each and all(split for _, split in parts)
    for entry in entries:
        yield entry if prescribed or isinstance(entry, Fault) else replace(entry, split="")


def _speaker(home: Path) -> Iterator[Recording | Fault]:
    lines, damaged = _transcripts(home / f"{home.name}.txt")
    yield from damaged
    seen: set[str] = set()
    for path in audio_files(home, "**/*.wav"):
        found = _utterance(path, home, lines)
        if found.utterance in seen:
            found = Fault(_path_id(path, home), "second file of an utterance", str(path))
        seen.add(found.utterance)
        yield found
    for name, line in lines.items():
        if name not in seen:
            yield Fault(name, "no audio file", line.where)


def _path_id(path: Path, home: Path) -> str:
    """An id from the path, for a file whose utterance id another file may have."""
    return safe_id(path.relative_to(home.parent).as_posix())


def _utterance(path: Path, home: Path, lines: dict[str, _Line]) -> Recording | Fault:
    fields = _PLACE.fullmatch(path.relative_to(home).as_posix())
    index = int(fields[4]) - 1 if fields else -1
    if fields is None or not 0 <= index < SENTENCES * len(LABELS):
        return Fault(_path_id(path, home), "path that is not ESD's", str(path))
    if fields[3] != home.name:
        reason = "speaker of the file name is not the folder's"
        return Fault(_path_id(path, home), reason, str(path))
    label, line = LABELS[index // SENTENCES], lines.get(path.stem)
    if fields[1] != label:
        return Fault(path.stem, "emotion of the folder is not the number's", str(path))
    if line is None:
        return Fault(path.stem, "no transcript", f"{path}: no line in {home.name}.txt")
    if line.label.capitalize() != label:
        return Fault(path.stem, "emotion of the transcript is not the number's", line.where)
    if not line.whole:
        return Fault(path.stem, "transcript that may lack its first word", line.where)
    return Recording(
        utterance=path.stem,
        speaker=home.name,
        text=line.text,
        audio=path,
        group=f"sentence{index % SENTENCES + 1:03d}",
        split=SPLITS.get(fields[2], ""),
        emotion=INFO.emotions[label],
        label=label,
    )


def _transcripts(path: Path) -> tuple[dict[str, _Line], list[Fault]]:
    """The lines of a speaker by id, and faults of lines that cannot be read.

    A line with a blank after its id is complete if another emotion of the sentence has its words.
    """
    lines: dict[str, _Line] = {}
    damaged = []
    for number, written in enumerate(_text(path).splitlines(), start=1):
        where = f"{path}, line {number}: {written.strip()!r}"
        fields = _LINE.fullmatch(written.strip())
        if fields and fields[1].startswith(path.stem) and fields[1] not in lines:
            lines[fields[1]] = _Line(fields[3], fields[4], "\t" in fields[2], where)
        elif written.strip():
            reason = "line that is not a new id, text and emotion"
            damaged.append(Fault(f"{path.name}_line{number}", reason, where))
    counts = Counter(_sentence_and_words(name, line) for name, line in lines.items())
    for name, line in lines.items():
        if counts[_sentence_and_words(name, line)] > 1:
            lines[name] = replace(line, whole=True)
    return lines, damaged


def _sentence_and_words(name: str, line: _Line) -> tuple[int, str]:
    """Sentence and words of a line."""
    return int(name[-6:]) % SENTENCES, normalised_words(line.text)


def _text(path: Path) -> str:
    """The content of a text file in any of the published encodings.

    GB 2312 is tried first among the 8-bit codes, because it rejects Western text.
    """
    raw = read_bytes(path, "extract the whole archive", MAX_TEXT_BYTES)
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return text_of(path, "utf-16")
    if raw[1:2] == b"\0":
        return text_of(path, "utf-16-le")
    for encoding in ("utf-8-sig", "gb2312"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return text_of(path, "cp1252")
