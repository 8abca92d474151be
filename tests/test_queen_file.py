"""The game's data file: a small one made here, its faults, and the real one where it is there."""

import struct
from collections import Counter
from pathlib import Path

import pytest

from hpro_core import tables
from hpro_core.corpus import stage
from hpro_core.corpus.readers.queen_file import cut_scenes, dialogue
from hpro_core.errors import HproError
from tests.test_corpus import EXCERPT, excerpt_rows, settings

GAME = EXCERPT.parent / "queen" / "queen.1c"
Lines = list[tuple[int, str]]


def archive(entries: dict[str, bytes]) -> bytes:
    """A data file with these entries."""
    start = 15 + 21 * len(entries)
    index, content = b"", b""
    for name, entry in entries.items():
        index += struct.pack(">12sBII", name.encode(), 1, start + len(content), len(entry))
        content += entry
    return b"QTBL" + b"CEM10\0\0\0\1" + struct.pack(">H", len(entries)) + index + content


def scene(number: int, hero: Lines, other: Lines, other_again: str, hero_again: str) -> bytes:
    """A dialogue with one level of choices; after its lines stands the name of a cut-scene."""
    first, second = numbered(hero), numbered(other)
    other_at = 32 + 96 + len(first)
    cut = padded(b"\0\5\0\1" + string("c14c.CUT"), 4)
    again_at = other_at + len(second) + len(cut)
    header = struct.pack(">5h12x3h4x", -1, 0, number, len(hero), len(other), other_at, 0, again_at)
    again = padded(string(other_again), 2) + string(hero_again)
    return bytes(20) + header + bytes(96) + first + second + cut + again + bytes(50)


def numbered(lines: Lines) -> bytes:
    return b"".join(padded(struct.pack(">2xh", line) + string(text), 4) for line, text in lines)


def string(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()


def padded(content: bytes, step: int) -> bytes:
    return content + bytes(-len(content) % step)


def cut_scene(*records: tuple[int, int, int, bool, str]) -> bytes:
    """A scene of records: object, room, colour, whether it moves in two frames, line."""
    content, lines = b"", padded(string("*FL"), 2)
    for number, room, colour, moves, line in records:
        frames = struct.pack(">h18xh18xh", number, number, -2) if moves else b""
        fields = (number, moves, moves, colour, 0, room, 1, 0)
        content += struct.pack(">h6xhh8xh2xh4xh2xHh", *fields) + frames
        lines += string(line)
        lines += bytes(len(lines) % 2) if line else b""
    end = 12 + len(content) + 2
    header = struct.pack(">2xh2x3H", len(records), end, end, 0)
    return bytes(20) + header + content + b"\0\0" + lines


def queen_jas(objects: list[tuple[int, int]], actors: list[tuple[int, int, int, int]]) -> bytes:
    """Objects (room, image) and actors (room, place, name, colour) in two rooms."""
    content = struct.pack(">4H", 2, 3, len(objects), 4)
    content += b"".join(struct.pack(">10xH2xh", *each) for each in objects) + bytes(10)
    content += table(10) + table(10) + 2 * (b"\0\0" + table(16)) + bytes(8 * len(objects))
    content += b"".join(map(table, (6, 8, 20, 6, 6, 6, 8))) + b"\0\0" + table(4)
    content += struct.pack(">4H", len(actors), 5, 0, 0)
    content += b"".join(struct.pack(">hhH4xH12x", *each) for each in actors)
    return bytes(20) + content + table(6) + b"CEM10"


def table(row_size: int) -> bytes:
    return b"\0\3" + bytes(3 * row_size)


@pytest.fixture(scope="module")
def sounds() -> list[bytes]:
    """Clips of the excerpt."""
    return [(EXCERPT / row["audio"]).read_bytes() for row in excerpt_rows()[:12]]


@pytest.fixture(scope="module")
def entries(sounds: list[bytes]) -> dict[str, bytes]:
    """Two dialogues with their sounds, and what else is in the game."""
    bob = scene(
        6,
        [(0, "Excuse me Bob.*03"), (26, "*19*18Hello...*17Who are you?*17"), (27, "Silent.")],
        [(1, "I'm Bob.*AO*XY00(237,112)Nice to meet you.*FL"), (0, "Howdy Bob.*02")],
        "*01Hello again Joe.*00Missed me?",
        "Howdy Bob.*02",
    )
    faye = scene(
        22,
        [(0, "0"), (32, "I like back doors.*02"), (32, "A second line with its id.*02")],
        [(7, "The Treatment^_, Joe.")],
        "Yes Joe?",
        "Excuse me Faye.*15",
    )
    ids = ("06SSSSJ1", "06001AJ3", "06001AJ4", "060001P1", "060001P3", "06XXXXP2", "06XXXXP3")
    ids += ("06XXXXJ1", "220020J1", "220007P1", "22XXXXP1", "22XXXXJ1")
    named = {f"{clip_id}.SB": sound for clip_id, sound in zip(ids, sounds, strict=True)}
    return {"FAYE3.DOG": faye, "C14C.CUT": b"a cut-scene", "BOB1.DOG": bob, **named}


@pytest.fixture
def game(entries: dict[str, bytes], tmp_path: Path) -> Path:
    path = tmp_path / "queen.1c"
    path.write_bytes(archive(entries))
    return path


@pytest.fixture(scope="module")
def staged(sounds: list[bytes]) -> dict[str, bytes]:
    """Two cut-scenes with their sounds, and who is on stage."""
    first = cut_scene(
        (0, 1, 0, False, "*03Hello?*04Who is there?"),
        (1, 1, 0, False, "It's me."),
        (2, 1, 0, True, "*"),
        (3, 1, 0, False, "One of two."),
        (4, 2, 0, False, "My name is Tammy."),
        (-1, 2, 0, True, ""),
        (-2, 1, 14, False, "A trap."),
        (-2, 2, 11, False, "Behind you!"),
        (-3, 2, 13, False, "SMASH!"),
    )
    people = [(1, -3), (1, 7), (1, -4), (2, -3)]
    actors = [(1, 1, 1, 10), (1, 2, 2, 12), (1, 2, 3, 12), (2, 1, 4, 11)]
    names = ["-"] * (4 + 3 + 2 + 12 + 40 + 5) + ["BOB", "FAYE-H", "GUARDS", "TAMMY"]
    ids = ("C1A__012", "C1A__013", "C1A__021", "C1A__041", "C1A__051", "C1A__071", "C1A__081")
    named = {f"{clip_id}.SB": sound for clip_id, sound in zip(ids, sounds[:7], strict=True)}
    return {
        "C1A.CUT": first,
        "CINTR.CUT": cut_scene((1, 1, 0, False, "Ah!*XY00(237,112)I'm Bob.")),
        "QUEEN.JAS": queen_jas(people, actors),
        "QUEEN2.JAS": "\r\n".join(names).encode(),
        "C1A__091.SB": sounds[7],
        "CINTR012.SB": sounds[8],
        **named,
    }


# --- a small file ------------------------------------------------------------------------------


def test_every_clip_is_read_back(game: Path, sounds: list[bytes]):
    found = {clip.utterance: clip for clip in dialogue(game)}
    assert {clip.utterance: (clip.speaker, clip.text) for clip in found.values()} == {
        "220020j1": ("joe", "I like back doors."),
        "220007p1": ("faye", "The Treatment, Joe."),
        "22xxxxp1": ("faye", "Yes Joe?"),
        "22xxxxj1": ("joe", "Excuse me Faye."),
        "06ssssj1": ("joe", "Excuse me Bob."),
        "06001aj3": ("joe", "Hello..."),
        "06001aj4": ("joe", "Who are you?"),
        "060001p1": ("bob", "I'm Bob."),
        "060001p3": ("bob", "Nice to meet you."),
        "06xxxxp2": ("bob", "Hello again Joe."),
        "06xxxxp3": ("bob", "Missed me?"),
        "06xxxxj1": ("joe", "Howdy Bob."),
    }
    assert {clip.group for name, clip in found.items() if name.startswith("06")} == {"bob1"}
    assert {clip.group for name, clip in found.items() if name.startswith("22")} == {"faye3"}
    assert [found[name].audio for name in ("06ssssj1", "22xxxxj1")] == [sounds[0], sounds[11]]


def read(root: Path, game: Path) -> None:
    sets = {"mine": {"reader": "amazon_queen", "path": str(game), "split": "train"}}
    stage.read(root, "mine", settings(Path(), sets=sets))


def test_the_reader_takes_the_file_in_place_of_the_folder(game: Path, tmp_path: Path):
    read(tmp_path, game)
    table = tables.read_table(tmp_path / "corpus/mine/utterances.parquet", tables.UTTERANCES)
    assert table.utt_id.tolist() == [f"mine_{clip.utterance}" for clip in dialogue(game)]
    duration_s = dict(zip(table.utt_id, table.duration_s, strict=True))
    published_s = [float(row["duration_s"]) for row in excerpt_rows()[:12]]
    assert duration_s["mine_06ssssj1"] == pytest.approx(published_s[0], abs=0.01)
    assert duration_s["mine_22xxxxj1"] == pytest.approx(published_s[11], abs=0.01)


def test_every_clip_of_a_cut_scene_is_read_back(
    staged: dict[str, bytes], game: Path, sounds: list[bytes]
):
    game.write_bytes(archive(staged))
    found = cut_scenes(game)
    assert [(clip.utterance, clip.speaker, clip.text) for clip in found] == [
        ("c1a__012", "joe", "Hello?"),
        ("c1a__013", "joe", "Who is there?"),
        ("c1a__021", "bob", "It's me."),
        ("c1a__041", "c1a_object3", "One of two."),
        ("c1a__051", "tam", "My name is Tammy."),
        ("c1a__071", "joe", "A trap."),
        ("c1a__081", "tam", "Behind you!"),
        ("c1a__091", "c1a_colour13", "SMASH!"),
        ("cintr012", "bob", "I'm Bob."),
    ]
    assert [clip.group for clip in found] == ["c1a"] * 8 + ["cintr"]
    assert [clip.audio for clip in found] == sounds[:9]


# --- faults ------------------------------------------------------------------------------------


def test_no_such_file(tmp_path: Path):
    with pytest.raises(HproError, match=r"queen\.1c does not exist: `make data/.*` downloads it"):
        read(tmp_path, tmp_path / "queen.1c")


@pytest.mark.parametrize(
    ("length", "message"),
    [
        (0, "does not begin with QTBL"),
        (9, r"is damaged \(unpack_from requires"),
        (60, r"is damaged \(FAYE3\.DOG ends at byte \d+ of 60\)"),
        (-1, r"is damaged \(22XXXXJ1\.SB ends at byte \d+ of \d+\)"),
    ],
)
def test_a_truncated_file(game: Path, length: int, message: str):
    game.write_bytes(game.read_bytes()[:length])
    with pytest.raises(HproError, match=rf"queen\.1c {message}.*: delete it; `make"):
        dialogue(game)


def test_another_file(game: Path):
    game.write_bytes(b"RIFF" + game.read_bytes()[4:])
    with pytest.raises(HproError, match=r"queen\.1c does not begin with QTBL"):
        dialogue(game)


def test_no_dialogue(entries: dict[str, bytes], game: Path):
    game.write_bytes(archive({k: v for k, v in entries.items() if not k.endswith(".SB")}))
    with pytest.raises(HproError, match=r"queen\.1c has no dialogue with audio"):
        dialogue(game)


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (6, 9, r"the first speaker's lines end at byte \d+, not \d+"),
        (8, 999, "unpack_from requires a buffer"),
        (22, 4, r"the first speaker's lines end at byte \d+, not 4"),
        (26, 300, r"a string ends at byte \d+ of \d+"),
        (26, 60_000, "index out of range"),
    ],
)
def test_a_damaged_dialogue(
    entries: dict[str, bytes], game: Path, at: int, value: int, message: str
):
    bob = bytearray(entries["BOB1.DOG"])
    struct.pack_into(">H", bob, 20 + at, value)
    game.write_bytes(archive({**entries, "BOB1.DOG": bytes(bob)}))
    with pytest.raises(HproError, match=rf"queen\.1c: BOB1\.DOG is damaged \(.*({message})"):
        dialogue(game)


def test_no_cut_scene(staged: dict[str, bytes], game: Path):
    game.write_bytes(archive({k: v for k, v in staged.items() if not k.endswith(".SB")}))
    with pytest.raises(HproError, match=r"queen\.1c has no cut-scene with audio"):
        cut_scenes(game)


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (2, 2, r"the records end at byte 88, not \d+"),
        (6, 40, r"the records end at byte \d+, not 38"),
        (8, 9_999, "index out of range"),
    ],
)
def test_a_damaged_cut_scene(
    staged: dict[str, bytes], game: Path, at: int, value: int, message: str
):
    scene = bytearray(staged["C1A.CUT"])
    struct.pack_into(">H", scene, 20 + at, value)
    game.write_bytes(archive({**staged, "C1A.CUT": bytes(scene)}))
    with pytest.raises(HproError, match=rf"queen\.1c: C1A\.CUT is damaged \(.*{message}"):
        cut_scenes(game)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("QUEEN.JAS", b"", "unpack_from requires a buffer"),
        ("QUEEN.JAS", bytes(900), "CEM does not stand at byte"),
        ("QUEEN2.JAS", b"", "list index out of range"),
    ],
)
def test_nobody_knows_who_is_on_stage(
    staged: dict[str, bytes], game: Path, name: str, content: bytes, message: str
):
    game.write_bytes(archive({**staged, name: content}))
    with pytest.raises(HproError, match=rf"QUEEN\.JAS or QUEEN2\.JAS is damaged \(.*{message}"):
        cut_scenes(game)


# --- the real file -----------------------------------------------------------------------------


@pytest.mark.skipif(not GAME.is_file(), reason="the game: make data/raw/queen/queen.1c")
def test_the_game_has_all_that_the_excerpt_has():
    found = {clip.utterance: clip for clip in dialogue(GAME)}
    assert len(found) == 3983
    rows = excerpt_rows()
    assert len(rows) == 946
    for row in rows:
        clip = found[row["utt_id"]]
        assert (clip.text, clip.speaker, clip.group) == (
            row["text"],
            row["speaker"],
            row["dialogue"],
        )
        assert clip.audio == (EXCERPT / row["audio"]).read_bytes()


@pytest.mark.skipif(not GAME.is_file(), reason="the game: make data/raw/queen/queen.1c")
def test_the_cut_scenes_of_the_game_have_speakers():
    known = {clip.utterance: clip for clip in dialogue(GAME)}
    found = {clip.utterance: clip for clip in cut_scenes(GAME)}
    assert len(found) == 2040
    assert len(known | found) == 6023
    assert len({clip.group for clip in found.values()}) == 251
    names = Counter(clip.speaker for clip in found.values())
    in_dialogue = {clip.speaker for clip in known.values()}
    assert sum(n for name, n in names.items() if name in in_dialogue) == 1860
    assert sum(n for name, n in names.items() if "_colour" in name) == 53
    assert not any("_object" in name for name in names)
    for utterance, speaker, text in (
        ("c69z_353", "frank", "I must destroy you!!"),
        ("c69z_591", "sparky", "You gotta do something Joe!"),
        ("c18b_292", "prin", "He's the man who kidnapped me!"),
        ("c18a_051", "amguard", "Our Princess is in grave danger."),
        ("c75b_271", "faye", "You've crashed the plane!!"),
        ("c24a_021", "joe", "These may come in handy..."),
    ):
        assert (found[utterance].speaker, found[utterance].text) == (speaker, text)
