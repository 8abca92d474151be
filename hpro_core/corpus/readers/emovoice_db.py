"""Reader `emovoice_db`: EmoVoice-DB, 40 hours of synthetic English speech by GPT-4o-audio.

    train.jsonl, val.jsonl, test.jsonl    an object in each line
    audio/<emotion>.zip                   to be extracted: audio/<emotion>/<name>.wav

The reader uses `target_wav` (path of the audio), `target_text` (transcript) and `emotion` of an
object, not emotion_text_prompt, speech tokens and neutral_speaker_wav. A name is
gpt4o_<number>_<emotion>_<voice>; the voices (ash, ballad, coral, sage, verse) are the speakers.
train.jsonl has each recording three times, with paraphrased descriptions; it is read once. Other
.jsonl files have the same content in phonemes. The splits are prescribed (val is dev); none is for
judges.

Verified: sizes and fields in the dataset card, names in the publishers' demonstration
(yanghaha0908/EmoVoice), paths and archives in code that reads the corpus (Liu-Tianchi/EmoTra-TTS).
Assumed: that the three rows of a recording share target_wav.
"""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hpro_core.corpus.readers.about import LFS_POINTER, CorpusInfo, audio_files, safe_id
from hpro_core.corpus.recording import Fault, Recording, is_inside
from hpro_core.errors import HproError
from hpro_core.io import open_binary

LABELS = ("angry", "disgusted", "fearful", "happy", "neutral", "sad", "surprised")
INFO = CorpusInfo(
    title="EmoVoice-DB, Yang et al. 2025 (synthetic: GPT-4o-audio)",
    licence="MIT",
    source="Hugging Face, dataset yhaha/EmoVoice-DB: its .jsonl files and audio/*.zip, extracted",
    patterns=("audio/*/gpt4o_*.wav", "audio/*/*/gpt4o_*.wav", "audio/disgusted.zip"),
    emotions={label: label for label in LABELS},
)
SPLITS = {"train.jsonl": "train", "val.jsonl": "dev", "test.jsonl": "test"}

_NAME = re.compile(r"gpt4o_\d+_([a-z]+)_([a-z]+)")
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")


@dataclass(frozen=True)
class _Row:
    """Fields of a line; `where` is ignored in comparisons."""

    where: str = field(compare=False)
    split: str
    text: str
    emotion: str
    wav: str


def read(folder: Path) -> Iterator[Recording | Fault]:
    """Yield all utterances, each once.

    Args:
        folder: a download of the dataset, with the archives extracted in `audio`, or each in a
            folder of its name there.

    Raises:
        HproError: a file of a split is missing or damaged, or no archive was extracted.
    """
    listed: dict[str, list[_Row]] = {}
    for name, split in SPLITS.items():
        for row in _rows(folder / name, split):
            listed.setdefault(Path(row.wav).stem, []).append(row)
    audio = {path.stem: path for path in audio_files(folder, "audio/**/*.wav")}
    if not audio:
        raise HproError(f"{folder / 'audio'} has no .wav file: extract the .zip files there")
    for name, rows in listed.items():
        yield _entry(folder, name, rows)
    for name in sorted(audio.keys() - listed.keys()):
        yield Fault(safe_id(name), "audio that no split lists", str(audio[name]))


def _rows(path: Path, split: str) -> Iterator[_Row]:
    with open_binary(path, "download the whole dataset") as file:
        for number, line in enumerate(file, start=1):
            where = f"{path}, line {number}"
            if not line.strip():
                continue
            try:
                values = json.loads(line)
            except (ValueError, RecursionError) as error:
                lfs = line.startswith(LFS_POINTER)
                hint = "run git lfs pull" if lfs else "download the file again"
                raise HproError(f"{where}: not JSON in UTF-8 ({error}): {hint}") from error
            text, emotion, wav = (
                _value(values, key, where) for key in ("target_text", "emotion", "target_wav")
            )
            yield _Row(where, split, text, emotion, wav)


def _value(values: object, key: str, where: str) -> str:
    value = values.get(key) if isinstance(values, dict) else None
    if not isinstance(value, str) or not value:
        raise HproError(f"{where}: {key} is {value!r}, not a text: use EmoVoice-DB's own file")
    return value


def _entry(folder: Path, name: str, rows: list[_Row]) -> Recording | Fault:
    row, utterance, fields = rows[0], safe_id(name), _NAME.fullmatch(name)
    other = next((each for each in rows if each != row), row)
    if other.split != row.split:
        return Fault(utterance, "in several splits", f"{row.where}; {other.where}")
    if other != row:
        return Fault(utterance, "contradictory rows", f"{row.where}; {other.where}: {other}")
    if fields is None:
        return Fault(utterance, "file name that is not EmoVoice-DB's", f"{row.where}: {row.wav}")
    if fields[1] != row.emotion or row.emotion not in LABELS:
        reason = "emotion that is unknown or not the file name's"
        return Fault(utterance, reason, f"{row.where}: {row.emotion!r} of {row.wav}")
    if not is_inside(row.wav):
        return Fault(utterance, "path that leaves the corpus", f"{row.where}: {row.wav}")
    path = folder / row.wav
    # unzip -d <emotion> puts a folder into a folder of the same name
    places = (path, path.parent / path.parent.name / path.name)
    audio = next((place for place in places if os.path.isfile(place)), None)
    if audio is None:
        return Fault(utterance, "no audio file", f"{row.where}: {path}: extract {path.parent}.zip")
    return Recording(
        utterance=utterance,
        speaker=fields[2],
        # some texts are escaped twice: a backslash and u2019 for an apostrophe
        text=_ESCAPE.sub(lambda match: chr(int(match[1], 16)), row.text),
        audio=audio,
        group=utterance,
        split=row.split,
        emotion=row.emotion,
        label=row.emotion,
    )
