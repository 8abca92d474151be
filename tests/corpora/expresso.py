"""A miniature of Expresso: two speakers, all styles, the odd substyles, a dialogue and a song."""

from pathlib import Path

from tests.corpora.planting import Planted, cut, edit, write_sound

READER = "expresso"
UTTERANCES, SPEAKERS = 22, 2
STYLES = {
    "confused": "What percentage of the population would have any interest in art?",
    "default": "There´s two running timers set for one second.",
    "default_emphasis": "Was *this* element always *there?*",
    "default_essentials": "Tomorrow in Mumbai, it won't be sunny.",
    "default_longform": "Three astronauts reached the station.   Their mission has begun.",
    "enunciated": "How do you thaw it?",
    "happy": '<breath> How about "Lord of the Flies"?',
    "laughing": "<laugh> What a fender bender. <laugh>",
    "narration_longform": "The view was panoramic -- and breathtaking.   As usual.",
    "sad": "Enjoy the movie!",
    "singing": "<singing>",
    "whisper": "There will<reduced> also be light freezing fog | on Wednesday.",
}
LIST = "read_transcriptions.txt"
HAPPY = "audio_48khz/read/ex01/happy/base/ex01_happy_00001.wav"


def build(folder: Path) -> None:
    """Speakers ex01 and ex02 with one file of each style and substyle, as in the archive."""
    lines = []
    for speaker in ("ex01", "ex02"):
        for style, text in STYLES.items():
            name = f"{speaker}_{style}_00001"
            part = "longform" if style.endswith("longform") else "base"
            path = folder / "audio_48khz/read" / speaker / style.split("_")[0] / part
            write_sound(path / f"{name}.wav", rate_hz=48_000, subtype="PCM_24")
            lines.append(f"{name}\t{text}\n")
    (folder / LIST).write_text("".join(lines), encoding="utf-8")
    dialogue = "audio_48khz/conversational/ex01-ex02/sad-happy/ex01-ex02_sad-happy_001.wav"
    write_sound(folder / dialogue, rate_hz=48_000, channels=2, subtype="PCM_24")
    (folder / HAPPY).with_name("._ex01_happy_00001.wav").write_bytes(b"Mac OS X")
    (folder / "splits").mkdir()
    (folder / "splits/dev.txt").write_text("# a comment\nex01_default_longform_00001\t(,16.49s)\n")


def _not_utf_8(folder: Path) -> None:
    path = folder / LIST
    path.write_bytes(path.read_text(encoding="utf-8").encode("latin-1"))


def _move_to_sad(folder: Path) -> None:
    (folder / HAPPY).rename(folder / HAPPY.replace("/happy/", "/sad/"))


def _other_version(folder: Path) -> None:
    path = folder / LIST
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("ex01_", "ex05_").replace("ex02_", "ex06_"), encoding="utf-8")


PLANTED = [
    Planted("a file is missing", lambda f: (f / HAPPY).unlink(), "no audio file: 1"),
    Planted("a file is cut off", lambda f: cut(f / HAPPY), "truncated audio: 1"),
    Planted(
        "a transcript is missing",
        lambda f: edit(f / LIST, "ex01_sad_00001\tEnjoy the movie!\n", ""),
        "no transcript: 1",
    ),
    Planted(
        "a file in the folder of another style",
        _move_to_sad,
        "audio in another folder than its id says: 1",
    ),
    Planted(
        "an id with two texts",
        lambda f: edit(f / LIST, "ex01_sad_00001", "ex01_sad_00001\tTake care!\nex01_sad_00001"),
        "listed more than once: 1",
    ),
    Planted("transcripts in Latin-1", _not_utf_8, "line 2: byte 0xb4 is not UTF-8", stops=True),
    Planted(
        "blanks instead of a tab",
        lambda f: edit(f / LIST, "ex01_sad_00001\t", "ex01_sad_00001    "),
        "line 10: 'ex01_sad_00001    Enjoy the movie!' is not <id><tab><text>",
        stops=True,
    ),
    Planted("transcripts of another version", _other_version, "lists no file that is", stops=True),
]
