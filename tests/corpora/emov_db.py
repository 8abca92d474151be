"""A miniature of EmoV-DB: one or two archives of each speaker, and six prompts."""

from pathlib import Path

from tests.corpora.planting import Planted, cut, edit, write_sound

READER = "emov_db"
FILES = {
    "bea_Amused": ("amused_1-15_0001", "amused_1-15_0002"),
    "bea_Neutral": ("Neutral_1-28_0001", "Neutral_1-28_0003"),
    "jenie_Angry": ("anger_1-28_0001", "anger_1-28_0002"),
    "josh_Sleepy": ("sleepiness_1-28_0001", "sleepiness_1-28_0003"),
    "sam/Disgusted": ("disgust_1-28_0002", "disgust_225_252_0226"),
}
UTTERANCES, SPEAKERS = 10, 4
FIRST = "bea_Amused/amused_1-15_0001.wav"
PROMPTS = """( arctic_a0001 "Author of the danger trail, Philip Steels, etc." )
( arctic_a0002 "Not at this particular case, Tom, apologized Whittemore." )
( arctic_a0003 "For the twentieth time that evening the two men shook hands." )
( arctic_a0016 "There's Fort Churchill, a rifle-shot beyond the ridge, asleep." )
( arctic_a0226 "That came before my A B C's." )
( arctic_b0001 "Gad, do I remember it." )
"""


def build(folder: Path) -> None:
    """The archives are extracted into folders of their names; sam's in folders of the first copy.

    Some files have another spelling, as published.
    """
    for home, names in FILES.items():
        for name in names:
            subtype = "DOUBLE" if home.startswith("bea") else "PCM_16"
            write_sound(folder / home / f"{name}.wav", rate_hz=44_100, subtype=subtype)
    (folder / "cmuarctic.data").write_text(PROMPTS)


def _lump(folder: Path) -> None:
    (folder / "bea_Amused").rename(folder / "EmoV-DB")


def _misnumber(folder: Path) -> None:
    (folder / FIRST).rename(folder / "bea_Amused/amused_1-15_0016.wav")


PLANTED = [
    Planted("a file is cut off", lambda f: cut(f / FIRST), "truncated audio: 1"),
    Planted(
        "a number outside its session", _misnumber, "sentence outside the range of its file name: 1"
    ),
    Planted(
        "a number without a prompt",
        lambda f: (f / FIRST).rename(f / "bea_Amused/amused_1-15_0009.wav"),
        "sentence that cmuarctic.data does not have: 1",
    ),
    Planted(
        "a file in the folder of another emotion",
        lambda f: (f / FIRST).rename(f / "bea_Neutral" / Path(FIRST).name),
        "emotion of the file name is not the folder's: 1",
    ),
    Planted("an archive without its folder", _lump, "folder that does not name one speaker: 2"),
    Planted(
        "a copy of a file",
        lambda f: write_sound(f / "bea/Amused" / Path(FIRST).name),
        "second file of an utterance: 1",
    ),
    Planted(
        "no prompts",
        lambda f: (f / "cmuarctic.data").unlink(),
        "download http://www.festvox.org/cmu_arctic/cmuarctic.data",
        stops=True,
    ),
    Planted(
        "an error page instead of prompts",
        lambda f: edit(f / "cmuarctic.data", "( arctic_a0003", "<html>"),
        "cmuarctic.data, line 3",
        stops=True,
    ),
]
