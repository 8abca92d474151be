"""Reads dialogue and cut-scenes from the game's data file, queen.1c with MP3 audio.

The file is an archive: an index of names, then the entries. Numbers are big-endian. <id>.SB is the
audio of a clip, a complete MP3 file. A line is one string, "Ah.*04You again.*00What now?"; stage
commands separate its clips.

The entry BOB1.DOG is the dialogue `bob1` between Joe, the hero, and Bob: a header, a tree of
choices, the numbered lines of Joe, those of Bob, and the greetings of both at a later meeting. An
id consists of

- the number of the dialogue, two decimal digits;
- the number of the line, four hexadecimal digits; `ssss` for Joe's first greeting, `xxxx` for the
  later greetings;
- `j` where Joe speaks and `p` where the other does;
- the position of the clip in its line, from 1, hexadecimal.

The entry C18A.CUT is the cut-scene `c18a`: a header, records, and a line for each record. A record
has the number of an object: a person who speaks the line, Joe, or a subtitle with its room and
colour. An id consists of the scene, padded with `_`, two digits for the record, from 1, and the
position of the clip. QUEEN.JAS identifies persons, with names in QUEEN2.JAS: the nth person among
the objects of a room is one of the actors whose place in that room is n. An actor's subtitles have
one colour.
"""

import re
import struct
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hpro_core.corpus.recording import Recording
from hpro_core.errors import HproError
from hpro_core.io import read_bytes

MAKE = "`make data/raw/queen/queen.1c` downloads it"
HINT = f"delete it; {MAKE} again"
HERO = "joe"
SUFFIX = ".1c"
"""Suffix of the data file; the excerpt is a folder."""
MAX_BYTES = 500 * 2**20
"""Largest accepted file; the game's file has a tenth of this size."""

_MAGIC = b"QTBL"
_VERSION = b"CEM"  # at the end of QUEEN.JAS
_COUNT_AT, _INDEX_AT = 13, 15
_ENTRY = struct.Struct(">12sxII")  # name, offset, size
_HEADER = 20  # bytes of an entry; offsets count from behind them
_TREE_AT, _LEVEL = 32, 96  # bytes before the tree, and of each of its levels
_STAGE_COMMAND = re.compile(r"\*[A-Z0-9]{2}(?:\d*\([^)]*\))?")  # *03, *AO, *XY00(237,112)
_TRADEMARK = "^_"  # a sign of the game's font

_OBJECT = struct.Struct(">10xH2xh")  # room, image
_PERSON_IMAGES = (-3, -4)  # faces left, right
_ACTOR = struct.Struct(">hhH4xH12x")  # room, place, name, colour
_VERBS, _ANSWERS = 12, 40  # lines of QUEEN2.JAS
_RECORDS_AT = 12
_RECORD = struct.Struct(
    ">h6xhh8xh2xh4xh2xH"
)  # object, animation, runs, colour, copied, room, people
_HERO_NUMBERS = (0, -1)  # -1: he appears while the room fades in
_SUBTITLES = (-2, -3, -4)
_HERO_COLOUR = 14
_COSTUME = re.compile(r"X\d+_|-[EFH]$")  # of an actor's name: X10_RITA, FAYE-H
_IN_DIALOGUE = {
    "anderson": "and",
    "andson": "and",
    "ape1": "ape",
    "ape2": "ape",
    "azura": "prin",
    "jimmy": "jim",
    "johan": "john",
    "lola_shower": "lola",
    "man1": "man",
    "princess1": "prin",
    "princess2": "prin",
    "secretary": "sec",
    "tammy": "tam",
    "wedgewood": "wedge",
}
"""Names of actors -> how `dialogue` calls the same character."""
_TURNS = {
    121: (("", "faye"),),
    122: (("c18[bc]", "prin"), ("", "amguard")),
    292: (("c41b", "and"), ("", "frank")),
    306: (("c62a", "henry"), ("", "death")),
    517: (("c69z_[0-3]", "frank"), ("", "sparky")),
    518: (("c69z_[2-5]", "tmpd"), ("", "prin")),
}
"""Object -> prefixes of ids and their speaker. Two actors share each of these objects, and the
state of the game, which the file lacks, selects one. The speakers are assigned from the text; a
speaker encoder confirms them (docs/corpora.md)."""


def dialogue(path: Path) -> list[Recording]:
    """Return every clip of dialogue, in the order of the file.

    A recording's group is the dialogue. Where two lines have one id (two pairs in LARIS.DOG), the
    clips belong to the first: Whisper's transcripts match it.

    Raises:
        HproError: the file is missing, not the game's, or damaged.
    """
    entries = _entries(path)
    clips: dict[str, Recording] = {}
    for name, content in entries.items():
        if name.endswith(".DOG"):
            group = name.removesuffix(".DOG").lower()
            with _named_if_damaged(path, name):
                lines = list(_lines(content[_HEADER:], group.rstrip("0123456789")))
            for clip in _clips(group, lines, entries):
                clips.setdefault(clip.utterance, clip)
    if not clips:
        raise HproError(f"{path} has no dialogue with audio: {HINT}")
    return list(clips.values())


def cut_scenes(path: Path) -> list[Recording]:
    """Return every clip of the cut-scenes, in the order of the file; no id is also in `dialogue`.

    A recording's group is the scene. Speakers have the same names as in `dialogue`. Where the file
    does not identify the speaker, it is `<scene>_colour<n>` after the colour of the subtitles, or
    `<scene>_object<n>`.

    Raises:
        HproError: the file is missing, not the game's, or damaged.
    """
    entries = _entries(path)
    with _named_if_damaged(path, "QUEEN.JAS or QUEEN2.JAS"):
        cast = _cast(entries)
    clips: list[Recording] = []
    for name, content in entries.items():
        if name.endswith(".CUT"):
            group = name.removesuffix(".CUT").lower()
            with _named_if_damaged(path, name):
                lines = list(_scene_lines(group, content[_HEADER:], cast))
            clips += _clips(group, lines, entries)
    if not clips:
        raise HproError(f"{path} has no cut-scene with audio: {HINT}")
    return clips


@contextmanager
def _named_if_damaged(path: Path, name: str) -> Iterator[None]:
    try:
        yield
    except (struct.error, IndexError, ValueError) as error:
        raise HproError(f"{path}: {name} is damaged ({error}): {HINT}") from error


def _entries(path: Path) -> dict[str, bytes]:
    """Name of every entry, in upper case -> its content."""
    archive = read_bytes(path, MAKE, MAX_BYTES)
    if not archive.startswith(_MAGIC):
        raise HproError(f"{path} does not begin with {_MAGIC.decode()}: {HINT}")
    entries: dict[str, bytes] = {}
    left = len(archive)
    try:
        (count,) = struct.unpack_from(">H", archive, _COUNT_AT)
        for index in range(count):
            padded, start, size = _ENTRY.unpack_from(archive, _INDEX_AT + _ENTRY.size * index)
            name = padded.rstrip(b"\0 ").decode("ascii")
            if start + size > len(archive):
                raise ValueError(f"{name} ends at byte {start + size} of {len(archive)}")
            left -= size
            if left < 0:
                raise ValueError(f"{name} overlaps other entries")
            entries[name] = archive[start : start + size]
    except (struct.error, ValueError) as error:
        raise HproError(f"{path} is damaged ({error}): {HINT}") from error
    return entries


def _lines(data: bytes, other: str) -> Iterator[tuple[str, str, str]]:
    """Yield the prefix of the clip ids, the speaker and the text of each line of a dialogue."""
    levels, _, number, n_hero, n_other = struct.unpack_from(">hHHHH", data)
    other_at, _, again_at = struct.unpack_from(">3H", data, 22)
    hero_lines, end = _numbered(data, _TREE_AT + _LEVEL * abs(levels), n_hero)
    if end != other_at:
        raise ValueError(f"the first speaker's lines end at byte {end}, not {other_at}")
    other_lines, _ = _numbered(data, other_at, n_other)
    other_again, end = _string(data, again_at)
    hero_again, _ = _string(data, end + end % 2)
    for line, text in hero_lines:
        yield f"{number:02d}{f'{line:04x}' if line else 'ssss'}j", HERO, text
    for line, text in other_lines:
        yield f"{number:02d}{line:04x}p", other, text
    yield f"{number:02d}xxxxp", other, other_again
    yield f"{number:02d}xxxxj", HERO, hero_again


def _numbered(data: bytes, at: int, count: int) -> tuple[list[tuple[int, str]], int]:
    """Numbered lines, each padded to a multiple of 4 bytes, and the offset after them."""
    lines = []
    for _ in range(count):
        (line,) = struct.unpack_from(">2xH", data, at)
        text, end = _string(data, at + 4)
        lines.append((line, text))
        at = end + -end % 4
    return lines, at


def _string(data: bytes, at: int) -> tuple[str, int]:
    """A string with its length in the first byte, and the offset after it."""
    end = at + 1 + data[at]
    if end > len(data):
        raise ValueError(f"a string ends at byte {end} of {len(data)}")
    return data[at + 1 : end].decode("ascii"), end


def _clips(
    group: str, lines: Iterable[tuple[str, str, str]], entries: Mapping[str, bytes]
) -> Iterator[Recording]:
    """Yield the clips of a dialogue or scene that have audio."""
    for line_id, speaker, line in lines:
        for place, text in enumerate(_STAGE_COMMAND.split(line), start=1):
            clip_id = f"{line_id}{place:x}"
            sound = entries.get(f"{clip_id.upper()}.SB")
            if sound is not None:
                yield Recording(
                    utterance=clip_id,
                    speaker=speaker,
                    text=text.replace(_TRADEMARK, "").strip(),
                    audio=sound,
                    group=group,
                )


@dataclass(frozen=True)
class _Cast:
    """Candidate characters of objects and subtitles."""

    people: Mapping[int, set[str]]  # number of each object that is a person -> candidate characters
    coloured: Mapping[tuple[int, int], set[str]]  # room and colour of subtitles -> candidates


def _cast(entries: Mapping[str, bytes]) -> _Cast:
    data = entries.get("QUEEN.JAS", b"")[_HEADER:]
    texts = entries.get("QUEEN2.JAS", b"").decode("ascii").split("\r\n")
    placed: dict[tuple[int, int], set[str]] = defaultdict(set)
    coloured: dict[tuple[int, int], set[str]] = defaultdict(set)
    for name, room, place, colour in _actors(data, texts):
        placed[room, place].add(name)
        coloured[room, colour].add(name)
    (n_objects,) = struct.unpack_from(">H", data, 4)
    people: dict[int, set[str]] = {}
    places: Counter[int] = Counter()
    objects = _OBJECT.iter_unpack(data[8 : 8 + _OBJECT.size * n_objects])
    for number, (room, image) in enumerate(objects, start=1):
        if image in _PERSON_IMAGES:
            places[room] += 1
            people[number] = placed[room, places[room]]
    return _Cast(people, coloured)


def _actors(data: bytes, texts: list[str]) -> Iterator[tuple[str, int, int, int]]:
    """Yield character, room, place in the room and colour of each actor."""
    n_rooms, n_names, n_objects, n_descriptions = struct.unpack_from(">4H", data)
    at = _actors_at(data, n_rooms, n_objects)
    n_actors, n_animations = struct.unpack_from(">2H", data, at)
    names_at = n_descriptions + n_names + n_rooms + _VERBS + _ANSWERS + n_animations
    end = _behind_table(data, at + 8 + _ACTOR.size * n_actors, 6)  # movements
    if not data.startswith(_VERSION, end):
        raise ValueError(f"{_VERSION.decode()} does not stand at byte {end}")
    for index in range(n_actors):
        room, place, number, colour = _ACTOR.unpack_from(data, at + 8 + _ACTOR.size * index)
        name = _COSTUME.sub("", texts[names_at + number - 1]).lower()
        yield _IN_DIALOGUE.get(name, name), room, place, colour


def _actors_at(data: bytes, n_rooms: int, n_objects: int) -> int:
    """Offset of the actors in QUEEN.JAS, after tables of which only the size is needed."""
    at = 8 + _OBJECT.size * n_objects + 2 * (2 * n_rooms + 1)
    for row_size in (10, 10):  # items, images
        at = _behind_table(data, at, row_size)
    for _ in range(n_rooms):
        at = _behind_table(data, at + 2, 16)  # areas
    at += 8 * n_objects  # clickable areas of objects
    for row_size in (6, 8, 20, 6, 6, 6, 8):  # exits, descriptions, commands and their effects
        at = _behind_table(data, at, row_size)
    return _behind_table(data, at + 2, 4)  # furniture


def _behind_table(data: bytes, at: int, row_size: int) -> int:
    (count,) = struct.unpack_from(">H", data, at)
    return at + 2 + count * row_size


@dataclass(frozen=True)
class _Record:
    """Speaker fields of a cut-scene's record."""

    number: int  # number of an object, or one of `_HERO_NUMBERS` or `_SUBTITLES`
    room: int  # room of the object; 0 if the scene does not change rooms
    colour: int  # colour of a subtitle


def _records(data: bytes, cast: _Cast) -> Iterator[_Record]:
    """Yield the records of a cut-scene."""
    count, end = struct.unpack_from(">2xhxxH", data)
    at = _RECORDS_AT
    for _ in range(abs(count)):
        number, animation, runs, colour, copied, room, n_people = _RECORD.unpack_from(data, at)
        at += _RECORD.size + 2 * n_people
        talks = not animation and (number in _HERO_NUMBERS or number in cast.people)
        if runs and copied <= 0 and not talks and number not in _SUBTITLES:
            at = _behind_frames(data, at)
        yield _Record(number, room, colour)
    if not end - 4 <= at <= end - 2:  # the game's own files differ by 2
        raise ValueError(f"the records end at byte {at}, not {end - 2}")


def _behind_frames(data: bytes, at: int) -> int:
    """Offset after the frames, which have 20 bytes each and end with -2."""
    while struct.unpack_from(">h", data, at) != (-2,):
        at += 20
    return at + 2


def _scene_lines(scene: str, data: bytes, cast: _Cast) -> Iterator[tuple[str, str, str]]:
    """Yield the prefix of the clip ids, the speaker and the text of each line of a cut-scene."""
    (at,) = struct.unpack_from(">H", data, 8)
    _, at = _scene_string(data, at)  # Joe's direction
    for index, record in enumerate(_records(data, cast), start=1):
        text, at = _scene_string(data, at)
        line_id = f"{scene:_<5}{index:02d}"
        yield line_id, _speaker(scene, line_id, record, cast), text


def _scene_string(data: bytes, at: int) -> tuple[str, int]:
    """A string that is padded to an even offset unless it is empty, and the offset after it."""
    text, end = _string(data, at)
    return text, end + end % 2 if text else end


def _speaker(scene: str, line_id: str, record: _Record, cast: _Cast) -> str:
    """The character, or a placeholder name if the file does not identify it."""
    if record.number > 0:
        names, stand_in = cast.people.get(record.number, set()), f"object{record.number}"
    elif record.number in _SUBTITLES and record.colour != _HERO_COLOUR:
        names = cast.coloured.get((record.room, record.colour), set())
        stand_in = f"colour{record.colour}"
    else:
        return HERO
    if len(names) == 1:
        return next(iter(names))
    for beginning, name in _TURNS.get(record.number, ()):
        if re.match(beginning, line_id):
            return name
    return f"{scene}_{stand_in}"
