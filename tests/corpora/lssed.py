"""A miniature of LSSED: two speakers with all labels, a Chinese recording, and transcripts."""

import shutil
from pathlib import Path

from tests.corpora.planting import Planted, cut, edit, write_sound

READER = "lssed"
UTTERANCES, SPEAKERS = 22, 2
LABELS = (
    "Angry, Neutral, Happy, Sad, Fear, Disgusted, Surprised, Excited, Disappointed, Bored, Other"
)
TABLE, TEXTS, FIRST = "metadata_english_all.csv", "transcripts.csv", "wav_all/s0003_00.wav"


def build(folder: Path) -> None:
    """Speakers 3 and 884, each with one recording of each label."""
    rows, texts = [",name,faces,is_Chinese\n"], ["name,text\n"]
    for speaker in ("0003", "0884"):
        for number, label in enumerate(LABELS.split(", ")):
            name = f"s{speaker}_{number:02d}"
            write_sound(folder / "wav_all" / f"{name}.wav")
            rows.append(f"{len(rows) - 1},{name},{label},False\n")
            texts.append(f'{name},"Well, this is number {number}."\n')
    write_sound(folder / "wav_all/s0500_00.wav")
    rows.append(f"{len(rows) - 1},s0500_00,Happy,True\n")
    (folder / TABLE).write_text("".join(rows))
    (folder / TEXTS).write_text("".join(texts))


PLANTED = [
    Planted("a file is missing", lambda f: (f / FIRST).unlink(), "no audio file: 1"),
    Planted(
        "a recording without a label",
        lambda f: write_sound(f / "wav_all/s0003_99.wav"),
        "audio that has no label: 1",
    ),
    Planted(
        "a label that does not exist",
        lambda f: edit(f / TABLE, "Bored", "Contempt"),
        "label that is not LSSED's: 1",
    ),
    Planted(
        "a recording that the recogniser left out",
        lambda f: edit(f / TEXTS, 's0003_00,"Well, this is number 0."\n', ""),
        "no transcript: 1",
    ),
    Planted(
        "no transcripts",
        lambda f: (f / TEXTS).unlink(),
        "LSSED has no transcripts",
        stops=True,
    ),
    Planted(
        "features instead of audio",
        lambda f: shutil.rmtree(f / "wav_all"),
        "no .wav file: features alone cannot be used",
        stops=True,
    ),
    Planted(
        "labels of an interrupted download",
        lambda f: cut(f / TABLE, 0.987),
        "line 24: the row does not have as many cells as the header",
        stops=True,
    ),
    Planted(
        "a table without emotions",
        lambda f: edit(f / TABLE, "faces", "age"),
        "no column 'faces' or 'label' with the emotion, but , name, age, is_Chinese",
        stops=True,
    ),
]
