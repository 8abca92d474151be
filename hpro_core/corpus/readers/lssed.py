"""Reader `lssed`: LSSED, emotional English of 820 speakers, for users who have its recordings.

Licensees receive features and labels. The licence (EULA.pdf in tobefans/LSSED) excludes audio for
copyright reasons, and no transcripts are documented. The reader therefore expects the files of the
publishers' laboratory, and transcripts that the user adds:

    metadata_english_all.csv    or another metadata*.csv: `name`, `faces` or `label`, `is_Chinese`
    wav_all/<name>.wav          or any other folder
    transcripts.csv             the user's: `name` and `text`, for example from an ASR model

Verified in the laboratory's code (HappyColor/Vesper, tobefans/ISNet_SER): these columns and file
names, that characters 2 to 5 of a name are the speaker's number, and that rows with a true
`is_Chinese` are left out. Verified in the README: labels 0 to 3 are angry, neutral, happy, sad.
Assumed: `faces` has the LSSED paper's eleven classes as words (both forms of a word are accepted,
as `fear` and `fearful`); a number there is not a label. No split is prescribed: the split of that
code (test from speaker 883 on) is not part of the corpus. Conversations are not identified, so each
utterance is its own group.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from hpro_core.corpus.readers.about import CorpusInfo, audio_files, safe_id, table_rows
from hpro_core.corpus.recording import Fault, Recording
from hpro_core.errors import HproError

INFO = CorpusInfo(
    title="LSSED, Fan et al. 2021",
    licence="LSSED user agreement: academic, no commercial use, no redistribution",
    source="github.com/tobefans/LSSED: a signed EULA.pdf by e-mail; audio on request",
    patterns=("metadata_english*.csv", "metadata_4class.csv"),
    emotions={
        "angry": "angry",
        "neutral": "neutral",
        "happy": "happy",
        "sad": "sad",
        "fear": "fearful",
        "fearful": "fearful",
        "disgust": "disgusted",
        "disgusted": "disgusted",
        "surprise": "surprised",
        "surprised": "surprised",
        "excited": "happy",
        "disappointed": "other",
        "bored": "other",
        "other": "other",
    },
)
CODES = {"0": "angry", "1": "neutral", "2": "happy", "3": "sad"}
"""Values of the column `label` -> label."""
TRANSCRIPTS = "transcripts.csv"

_SPEAKER = re.compile(r".(\d{4})")


def read(folder: Path) -> Iterator[Recording | Fault]:
    """Yield all English utterances.

    Args:
        folder: holds the table of labels, transcripts.csv, and the audio at any depth.

    Raises:
        HproError: there are no or several tables of labels, transcripts or audio are missing, or a
            table is damaged.
    """
    labels = _labels(folder)
    audio = {path.stem: path for path in audio_files(folder, "**/*.wav")}
    if not audio:
        raise HproError(
            f"{folder}: no .wav file: features alone cannot be used; request the audio from the "
            "publishers of LSSED and put it into wav_all/<name>.wav"
        )
    texts = _texts(folder)
    for name, rows in labels.items():
        if rows:
            yield _entry(folder, name, rows, texts.get(name), audio.get(name))
    for name in sorted(audio.keys() - labels.keys()):
        yield Fault(safe_id(name), "audio that has no label", str(audio[name]))


def _labels(folder: Path) -> dict[str, list[tuple[str, str]]]:
    """Name -> place and label of each of its rows; empty for a Chinese recording."""
    paths = sorted(folder.glob("metadata*.csv"))
    if len(paths) != 1:
        names = ", ".join(path.name for path in paths) or "none"
        raise HproError(f"{folder}: metadata*.csv: one table of labels is needed, found: {names}")
    rows = table_rows(paths[0], "name")
    column = next((each for each in ("faces", "label") if each in rows[0][1]), None)
    if column is None:
        columns = ", ".join(rows[0][1])
        raise HproError(f"{paths[0]}: no column 'faces' or 'label' with the emotion, but {columns}")
    labels: dict[str, list[tuple[str, str]]] = {}
    for where, row in rows:
        of_name = labels.setdefault(row["name"].strip(), [])
        if row.get("is_Chinese", "").strip().lower() not in ("true", "1"):
            label = row[column].strip().lower()
            of_name.append((where, CODES.get(label, label) if column == "label" else label))
    return labels


def _texts(folder: Path) -> dict[str, str]:
    path = folder / TRANSCRIPTS
    if not path.is_file():
        raise HproError(
            f"{path} does not exist: LSSED has no transcripts; write them there, with the columns "
            "name (as in metadata*.csv) and text (for example the output of an ASR model)"
        )
    texts: dict[str, str] = {}
    for where, row in table_rows(path, "name", "text"):
        name = row["name"].strip()
        if name in texts:
            raise HproError(f"{where}: {name!r} has a text already: keep one")
        texts[name] = row["text"].strip()
    return texts


def _entry(
    folder: Path, name: str, rows: list[tuple[str, str]], text: str | None, audio: Path | None
) -> Recording | Fault:
    utterance, speaker, (where, label) = safe_id(name), _SPEAKER.match(name), rows[0]
    if len(rows) > 1:
        return Fault(utterance, "listed more than once", "; ".join(place for place, _ in rows))
    if speaker is None:
        return Fault(utterance, "name without the number of a speaker", f"{where}: {name!r}")
    if label not in INFO.emotions:
        where = f"{where}: {label!r} is none of {', '.join(INFO.emotions)}"
        return Fault(utterance, "label that is not LSSED's", where)
    if audio is None:
        return Fault(utterance, "no audio file", f"{where}: {name}.wav is not in {folder}")
    if text is None:
        return Fault(utterance, "no transcript", f"{where}: {name!r} is not in {TRANSCRIPTS}")
    return Recording(
        utterance=utterance,
        speaker=f"speaker{speaker[1]}",
        text=text,
        audio=audio,
        group=utterance,
        emotion=INFO.emotions[label],
        label=label,
    )
