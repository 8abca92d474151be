"""A miniature of RAVDESS: two actors, all that each says, and a song."""

from itertools import product
from pathlib import Path

from tests.corpora.planting import Planted, cut, write_sound

READER = "ravdess"
UTTERANCES, SPEAKERS = 120, 2
FIRST = "Actor_01/03-01-01-01-01-01-01.wav"


def build(folder: Path) -> None:
    """Actor_01 and Actor_02 as the archive of speech has them."""
    for actor, emotion, intensity, statement, repetition in product(
        ("01", "02"), range(1, 9), (1, 2), (1, 2), (1, 2)
    ):
        if (emotion, intensity) != (1, 2):
            name = f"03-01-{emotion:02d}-{intensity:02d}-{statement:02d}-{repetition:02d}-{actor}"
            write_sound(folder / f"Actor_{actor}" / f"{name}.wav", rate_hz=48_000)
    write_sound(folder / "Actor_01/03-02-01-01-01-01-01.wav")
    (folder / "Actor_01/._03-01-01-01-01-01-01.wav").write_bytes(b"Mac OS X")
    write_sound(folder / "Actor_02/03-01-03-02-01-01-02.wav", rate_hz=48_000, channels=2)


PLANTED = [
    Planted("a file is missing", lambda f: (f / FIRST).unlink(), "no audio file: 1"),
    Planted("a file is cut off", lambda f: cut(f / FIRST), "truncated audio: 1"),
    Planted(
        "a file of another actor",
        lambda f: (f / FIRST).rename(f / "Actor_02" / Path(FIRST).name),
        "actor of the file name is not the folder's: 1",
    ),
    Planted(
        "an emotion that does not exist",
        lambda f: (f / FIRST).rename(f / "Actor_01/03-01-09-01-01-01-01.wav"),
        "code that RAVDESS does not have: 1",
    ),
    Planted(
        "a name of another corpus",
        lambda f: (f / FIRST).rename(f / "Actor_01/1001_DFA_ANG_XX.wav"),
        "file name that is not RAVDESS's: 1",
    ),
]
