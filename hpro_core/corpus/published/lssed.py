"""Reader `lssed`: LSSED, emotional English of 820 speakers, for those who have its recordings.

Who signs the licence gets features and labels: its text (EULA.pdf in tobefans/LSSED) says that
audio is not given away for reasons of copyright. Nothing says that there are transcripts. So this
reader expects what the publishers' laboratory has, and texts that you add:

    metadata_english_all.csv    or another metadata*.csv: `name`, `faces` or `label`, `is_Chinese`
    wav_all/<name>.wav          or any other folder
    transcripts.csv             yours: `name` and `text`, for example what a recogniser hears

Verified in the laboratory's code (HappyColor/Vesper, tobefans/ISNet_SER): these columns and names
of files, that signs 2 to 5 of a name are the number of the speaker, and that rows with a true
`is_Chinese` are left out; in the README: that the labels 0 to 3 are angry, neutral, happy, sad.
Assumed: that `faces` has the paper's eleven classes as words (both forms of a word are known, as
`fear` and `fearful`); a number there is no label. No split is prescribed: that code's (test from
speaker 883 on) is not part of the corpus. Nothing says which utterances are of one conversation:
each is its own group.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from hpro_core.corpus.published.about import About, audio_files, safe_id, table_rows
from hpro_core.corpus.recording import Fault, Recording
from hpro_core.errors import HproError

ABOUT = About(
    title="LSSED, Fan et al. 2021",
    licence="LSSED user agreement: academic, no commercial use, no redistribution",
    source="github.com/tobefans/LSSED: a signed EULA.pdf by e-mail; audio has to be asked for",
    signs=("metadata_english*.csv", "metadata_4class.csv"),
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
"""Of the column `label`."""
TRANSCRIPTS = "transcripts.csv"

_SPEAKER = re.compile(r".(\d{4})")


def read(folder: Path) -> Iterator[Recording | Fault]:
    """All English utterances.

    Args:
        folder: holds the table of labels, transcripts.csv, and the audio at any depth.

    Raises:
        HproError: no or several tables of labels, no transcripts, no audio, or a damaged table.
    """
    labels = _labels(folder)
    audio = {path.stem: path for path in audio_files(folder, "**/*.wav")}
    if not audio:
        raise HproError(
            f"{folder}: no .wav file: features alone cannot be used; ask the publishers of LSSED "
            "for the audio and put it into wav_all/<name>.wav"
        )
    texts = _texts(folder)
    for name, rows in labels.items():
        if rows:
            yield _entry(folder, name, rows, texts.get(name), audio.get(name))
    for name in sorted(audio.keys() - labels.keys()):
        yield Fault(safe_id(name), "audio that has no label", str(audio[name]))


def _labels(folder: Path) -> dict[str, list[tuple[str, str]]]:
    """Name -> place and label of each of its rows; none of a Chinese recording."""
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
            f"{path} does not exist: LSSED comes without transcripts; write them there, with the "
            "columns name (as in metadata*.csv) and text (what a speech recogniser hears)"
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
    if label not in ABOUT.emotions:
        where = f"{where}: {label!r} is none of {', '.join(ABOUT.emotions)}"
        return Fault(utterance, "label that is not LSSED's", where)
    if audio is None:
        return Fault(utterance, "no audio file", f"{where}: {name}.wav is nowhere in {folder}")
    if text is None:
        return Fault(utterance, "no transcript", f"{where}: {name!r} is not in {TRANSCRIPTS}")
    return Recording(
        utterance=utterance,
        speaker=f"speaker{speaker[1]}",
        text=text,
        audio=audio,
        group=utterance,
        emotion=ABOUT.emotions[label],
        label=label,
    )
