"""A miniature of ESD: three English speakers, a Chinese one, three sentences in five emotions."""

from pathlib import Path

from tests.corpora.planting import Planted, cut, edit, write_sound

READER = "esd"
UTTERANCES, SPEAKERS = 45, 3
ENCODINGS = {"0001": "gb2312", "0011": "ascii", "0012": "utf-16", "0016": "gb2312"}
LABELS = ("Neutral", "Angry", "Happy", "Sad", "Surprise")
SAID = {
    "evaluation": (1, "The nine the eggs, I keep."),
    "test": (21, "Let the glass globe be."),
    "train": (51, "Tom\u2019s answer is all I have."),
}
FIRST = "0011/Angry/test/0011_000371.wav"
LINE = "0011_000371\tLet the glass globe be.\tAngry"


def build(folder: Path) -> None:
    """The older copy with train, evaluation and test; each text in another encoding.

    One line has a blank for a tab, with all its words.
    """
    for speaker, encoding in ENCODINGS.items():
        lines = []
        for block, label in enumerate(LABELS):
            for part, (sentence, text) in SAID.items():
                name = f"{speaker}_{350 * block + sentence:06d}"
                write_sound(folder / speaker / label / part / f"{name}.wav")
                lines.append(f"{name}\t{text}\t{label}\n")
        text = "".join(lines).replace("0012_000351\t", "0012_000351 ")
        text = text.replace("\u2019", "'") if encoding == "ascii" else text
        (folder / speaker / f"{speaker}.txt").write_text(text + "\n", encoding=encoding)
    (folder / "ReadMe.txt").write_text("0011: English Male\n")


def _text(old: str, new: str):
    return lambda folder: edit(folder / "0011/0011.txt", old, new)


PLANTED = [
    Planted("a file is missing", lambda f: (f / FIRST).unlink(), "no audio file: 1"),
    Planted("a file is cut off", lambda f: cut(f / FIRST), "truncated audio: 1"),
    Planted("a line is missing", _text(LINE, ""), "no transcript: 1"),
    Planted(
        "a line without its first word and its tab",
        _text("0011_000371\tLet ", "0011_000371 "),
        "transcript that may lack its first word: 1",
    ),
    Planted(
        "another emotion in the text",
        _text(LINE, LINE.replace("Angry", "Happy")),
        "emotion of the transcript is not the number's: 1",
    ),
    Planted(
        "a file in the folder of another emotion",
        lambda f: (f / FIRST).rename(f / "0011/Happy/test" / Path(FIRST).name),
        "emotion of the folder is not the number's: 1",
    ),
    Planted(
        "a file in two parts",
        lambda f: write_sound(f / "0011/Angry/train" / Path(FIRST).name),
        "second file of an utterance: 1",
    ),
    Planted(
        "a text in UTF-16 is cut off",
        lambda f: cut(f / "0012/0012.txt", share=0.501),
        "0012.txt, line",
        stops=True,
    ),
]
