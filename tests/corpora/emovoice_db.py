"""A miniature of EmoVoice-DB: two voices, seven emotions, three splits, descriptions reworded."""

import json
import shutil
from itertools import product
from pathlib import Path

from hpro_core.corpus.readers.emovoice_db import LABELS, SPLITS
from tests.corpora.planting import Planted, cut, edit, write_sound

READER = "emovoice_db"
UTTERANCES, SPEAKERS = 42, 2
TRAIN, VAL, TEST = SPLITS
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 167772160\n"


def build(folder: Path) -> None:
    """One recording of each split, emotion and voice; three rows for each of train."""
    lines: dict[str, list[str]] = {name: [] for name in SPLITS}
    for number, (emotion, voice, name) in enumerate(product(LABELS, ("ash", "verse"), SPLITS)):
        key = f"gpt4o_{number}_{emotion}_{voice}"
        write_sound(folder / "audio" / emotion / f"{key}.wav", rate_hz=24_000)
        for wording in range(3 if name == TRAIN else 1):
            row = {
                "key": key,
                "source_text": f"I can\\u2019t see number {number}!",
                "target_text": f"I can\\u2019t see number {number}!",
                "emotion": emotion,
                "emotion_text_prompt": f"Wording {wording} of what one feels.",
                "target_wav": f"audio/{emotion}/{key}.wav",
                "answer_cosyvoice_speech_token": [[1, 2], [3, 4], [5, 6]],
            }
            lines[name].append(json.dumps(row) + "\n")
    for name in SPLITS:
        (folder / name).write_text("".join(lines[name]))
    shutil.copy(folder / TEST, folder / "test_with_phn.jsonl")
    (folder / "audio/__MACOSX/angry").mkdir(parents=True)
    (folder / "audio/__MACOSX/angry/._gpt4o_0_angry_ash.wav").write_bytes(b"Mac OS X")


def _leak(folder: Path) -> None:
    with (folder / TRAIN).open("a") as train:
        train.write((folder / TEST).read_text().splitlines()[0] + "\n")


def _point(folder: Path) -> None:
    (folder / TRAIN).write_text(POINTER)


PLANTED = [
    Planted(
        "an archive is not extracted",
        lambda f: shutil.rmtree(f / "audio/angry"),
        "no audio file: 6",
    ),
    Planted(
        "a recording of no split",
        lambda f: write_sound(f / "audio/angry/gpt4o_99_angry_sage.wav"),
        "audio that no split lists: 1",
    ),
    Planted("a test recording in train", _leak, "in several splits: 1"),
    Planted(
        "another text in one of three rows",
        lambda f: edit(f / TRAIN, 'target_text": "I', 'target_text": "You'),
        "contradictory rows: 1",
    ),
    Planted(
        "an emotion that is not the file's",
        lambda f: edit(f / VAL, 'emotion": "angry"', 'emotion": "happy"'),
        "emotion that is unknown or not the file name's: 1",
    ),
    Planted(
        "a path out of the corpus",
        lambda f: edit(f / VAL, "audio/angry/", "../angry/"),
        "path that leaves the corpus: 1",
    ),
    Planted(
        "an interrupted download", lambda f: cut(f / TEST, 0.45), "not JSON in UTF-8", stops=True
    ),
    Planted("a Git LFS pointer", _point, "run git lfs pull", stops=True),
]
