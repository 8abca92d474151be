"""Reader `amazon_queen`, the whole game: the dialogue in its data file, queen.1c with MP3 sound.

The file is an archive: an index of names, then the entries. Numbers are big-endian. The entry
BOB1.DOG is the dialogue `bob1` between Joe, the hero, and Bob: a header, a tree of choices, the
numbered lines of Joe, those of Bob, and how the two greet when they meet again. A line is one
string, "Ah.*04You again.*00What now?", which stage commands cut into clips. <id>.SB is the sound of
a clip, a whole MP3 file, and the id is made of

- the number of the dialogue, two decimal digits;
- the number of the line, four hexadecimal digits; `ssss` for Joe's first greeting, `xxxx` for how
  the two greet later;
- `j` where Joe speaks and `p` where the other does;
- the place of the clip in its line, from 1, hexadecimal.
"""

import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

from hpro_core.corpus.recording import Recording
from hpro_core.errors import HproError

MAKE = "`make data/raw/queen/queen.1c` gets it"
CURE = f"delete it; {MAKE} anew"
HERO = "joe"
SUFFIX = ".1c"
"""Tells the data file from the folder of the excerpt."""

_MAGIC = b"QTBL"
_COUNT_AT, _INDEX_AT = 13, 15
_ENTRY = struct.Struct(">12sxII")  # name, offset, size
_DIALOGUE_HEADER = 20  # bytes; offsets count from behind them
_TREE_AT, _LEVEL = 32, 96  # bytes before the tree, and of each of its levels
_STAGE_COMMAND = re.compile(r"\*[A-Z0-9]{2}(?:\d*\([^)]*\))?")  # *03, *AO, *XY00(237,112)
_TRADEMARK = "^_"  # a sign of the game's font


def dialogue(path: Path) -> list[Recording]:
    """Every clip of dialogue, in the order of the file; cut-scenes are left out.

    A recording's group is the dialogue. Where two lines have one id (two pairs in LARIS.DOG), the
    first keeps the clips: it is what Whisper hears in them.

    Raises:
        HproError: no such file, not the game's, or damaged.
    """
    entries = _entries(path)
    clips: dict[str, Recording] = {}
    for name, content in entries.items():
        if name.endswith(".DOG"):
            try:
                lines = list(_lines(content[_DIALOGUE_HEADER:]))
            except (struct.error, IndexError, ValueError) as error:
                raise HproError(f"{path}: {name} is damaged ({error}): {CURE}") from error
            for clip in _clips(name.removesuffix(".DOG").lower(), lines, entries):
                clips.setdefault(clip.utterance, clip)
    if not clips:
        raise HproError(f"{path} holds no dialogue with sound: {CURE}")
    return list(clips.values())


def _entries(path: Path) -> dict[str, bytes]:
    """The content of every entry by its name, upper case."""
    if not path.is_file():
        raise HproError(f"{path} does not exist: {MAKE}")
    archive = path.read_bytes()
    if not archive.startswith(_MAGIC):
        raise HproError(f"{path} does not begin with {_MAGIC.decode()}: {CURE}")
    entries: dict[str, bytes] = {}
    try:
        (count,) = struct.unpack_from(">H", archive, _COUNT_AT)
        for index in range(count):
            padded, start, size = _ENTRY.unpack_from(archive, _INDEX_AT + _ENTRY.size * index)
            name = padded.rstrip(b"\0 ").decode("ascii")
            if start + size > len(archive):
                raise ValueError(f"{name} ends at byte {start + size} of {len(archive)}")
            entries[name] = archive[start : start + size]
    except (struct.error, ValueError) as error:
        raise HproError(f"{path} is damaged ({error}): {CURE}") from error
    return entries


def _lines(data: bytes) -> Iterator[tuple[str, str]]:
    """Lines of a dialogue, each with the beginning of its clips' ids."""
    levels, _, number, n_hero, n_other = struct.unpack_from(">hHHHH", data)
    other_at, _, again_at = struct.unpack_from(">3H", data, 22)
    hero, end = _numbered(data, _TREE_AT + _LEVEL * abs(levels), n_hero)
    if end != other_at:
        raise ValueError(f"the first speaker's lines end at byte {end}, not {other_at}")
    other, _ = _numbered(data, other_at, n_other)
    other_again, end = _string(data, again_at)
    hero_again, _ = _string(data, end + end % 2)
    for line, text in hero:
        yield f"{number:02d}{f'{line:04x}' if line else 'ssss'}j", text
    for line, text in other:
        yield f"{number:02d}{line:04x}p", text
    yield f"{number:02d}xxxxp", other_again
    yield f"{number:02d}xxxxj", hero_again


def _numbered(data: bytes, at: int, count: int) -> tuple[list[tuple[int, str]], int]:
    """Lines with their numbers, each in a multiple of 4 bytes; and where they end."""
    lines = []
    for _ in range(count):
        (line,) = struct.unpack_from(">2xH", data, at)
        text, end = _string(data, at + 4)
        lines.append((line, text))
        at = end + -end % 4
    return lines, at


def _string(data: bytes, at: int) -> tuple[str, int]:
    """A string whose length stands in its first byte; and where it ends."""
    end = at + 1 + data[at]
    if end > len(data):
        raise ValueError(f"a string ends at byte {end} of {len(data)}")
    return data[at + 1 : end].decode("ascii"), end


def _clips(
    name: str, lines: list[tuple[str, str]], entries: Mapping[str, bytes]
) -> Iterator[Recording]:
    """The clips of a dialogue that have a sound."""
    other = name.rstrip("0123456789")
    for line_id, line in lines:
        for place, text in enumerate(_STAGE_COMMAND.split(line), start=1):
            clip_id = f"{line_id}{place:x}"
            sound = entries.get(f"{clip_id.upper()}.SB")
            if sound is not None:
                yield Recording(
                    utterance=clip_id,
                    speaker=HERO if line_id.endswith("j") else other,
                    text=text.replace(_TRADEMARK, "").strip(),
                    audio=sound,
                    group=name,
                )
