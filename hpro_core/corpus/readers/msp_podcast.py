"""Reader `msp_podcast`: MSP-Podcast, spontaneous speech of podcasts, releases 1.10 to 2.0.

Labels/labels_consensus.csv has a row per utterance (FileName, EmoClass, SpkrID, Split_Set, ...),
Audios/<name>.wav (in 1.10 Audio/) its audio, Transcripts/<name>.txt its transcript. Names are
MSP-PODCAST_<podcast>_<turn>.wav or MSP-PODCAST_<podcast>_<turn>_<part>.wav. Not read: labels of
single raters (labels_detailed.csv, labels.txt), the copy of the splits (Partitions.txt), audio of
previous releases. Test3 has audio only (MSP-PODCAST_test3_0001.wav); without a transcript each of
its utterances is a fault.

EmoClass is Angry, Sad, Happy, sUrprised, Fearful, Disgusted, Contempt, Neutral, Other, or X if the
raters do not agree. Contempt maps to "other", since it is none of the nine classes. X has no
emotion; the class "unknown" would be trained like an emotion.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from hpro_core.corpus.readers.about import CorpusInfo, audio_files, safe_id, table_rows
from hpro_core.corpus.recording import Fault, Recording
from hpro_core.errors import HproError
from hpro_core.io import read_text

INFO = CorpusInfo(
    title="MSP-Podcast, Lotfian and Busso 2019, Busso et al. 2025",
    licence="UT Dallas's own, to be signed by the institution: research only, not to be passed on",
    source="lab-msp.com/MSP/MSP-Podcast.html on request: Audios, Labels and Transcripts",
    patterns=("Audios/MSP-PODCAST_*.wav", "Audio/MSP-PODCAST_*.wav"),
    emotions={
        "A": "angry",
        "C": "other",
        "D": "disgusted",
        "F": "fearful",
        "H": "happy",
        "N": "neutral",
        "O": "other",
        "S": "sad",
        "U": "surprised",
    },
)
NO_AGREEMENT = "X"
SPLIT_OF = {
    "Train": "train",
    "Development": "dev",
    "Validation": "dev",  # the earlier name of Development
    "Test1": "test",
    "Test2": "test",
}
COLUMNS = ("FileName", "EmoClass", "SpkrID", "Split_Set")

_NAME = re.compile(r"MSP-PODCAST_(\d+)(_\d+){1,2}\.wav")
_TEST3 = re.compile(r"MSP-PODCAST_test3_\d+\.wav")
_WITHHELD = "Test3, whose transcripts are withheld"


def read(folder: Path) -> Iterator[Recording | Fault]:
    """Yield all utterances, in the splits of the publishers: Test1 and Test2 are both test.

    The splits separate speakers, not podcasts: a group is the part of a podcast that is in one
    split. Unidentified speakers (SpkrID Unknown) are named after their podcast, which may have
    several.

    Args:
        folder: holds Audios, Labels and Transcripts.

    Raises:
        HproError: one of these is missing, or the labels are damaged or of an older release.
    """
    rows = _rows(folder / "Labels")
    audio = {path.name: path for path in audio_files(folder, "Audios/*.wav", "Audio/*.wav")}
    if not audio:
        raise HproError(f"{folder}: no Audios/*.wav: extract the archive of audio into it")
    if not (folder / "Transcripts").is_dir():
        raise HproError(f"{folder}/Transcripts does not exist: extract it (releases 1.10 to 2.0)")
    for name, found in rows.items():
        yield _wrong(name, found, audio) or _utterance(folder, audio[name], found[0][1])
    for name in sorted(audio.keys() - rows.keys()):
        reason = _WITHHELD if _TEST3.fullmatch(name) else "audio that the labels do not list"
        yield Fault(safe_id(Path(name).stem), reason, str(audio[name]))


def _rows(folder: Path) -> dict[str, list[tuple[str, dict[str, str]]]]:
    """File name -> its rows, each with its place; more than one is a fault."""
    path, old = folder / "labels_consensus.csv", folder / "labels_concensus.csv"
    if old.is_file() and not path.is_file():
        raise HproError(f"{old} is of a release before 1.10: get one of 1.10 to 2.0")
    found: dict[str, list[tuple[str, dict[str, str]]]] = {}
    for where, row in table_rows(path, *COLUMNS):
        found.setdefault(row["FileName"], []).append((where, row))
    return found


def _wrong(
    name: str, rows: list[tuple[str, dict[str, str]]], audio: dict[str, Path]
) -> Fault | None:
    """The fault of a listed utterance, apart from its transcript; None if there is none."""
    utterance, (where, row) = safe_id(name.removesuffix(".wav")), rows[0]
    if len(rows) > 1:
        return Fault(utterance, "listed twice", " and ".join(where for where, _ in rows))
    if _TEST3.fullmatch(name) or row["Split_Set"] == "Test3":
        return Fault(utterance, _WITHHELD, where)
    if not _NAME.fullmatch(name):
        return Fault(utterance, "file name that is not MSP-Podcast's", f"{where}: {name!r}")
    for column, known in (
        ("EmoClass", {*INFO.emotions, NO_AGREEMENT}),
        ("Split_Set", SPLIT_OF.keys()),
    ):
        if row[column] not in known:
            reason = f"{column} that MSP-Podcast does not have"
            return Fault(utterance, reason, f"{where}: {row[column]!r}")
    if not row["SpkrID"]:
        return Fault(utterance, "no SpkrID", where)
    return None if name in audio else Fault(utterance, "no audio file", f"{where}: {name}")


def _utterance(folder: Path, audio: Path, row: dict[str, str]) -> Recording | Fault:
    transcript = folder / "Transcripts" / f"{audio.stem}.txt"
    if not transcript.is_file():
        return Fault(audio.stem, "no transcript", str(transcript))
    try:
        text = read_text(transcript, "use the published file")
    except HproError as error:
        return Fault(audio.stem, "transcript that cannot be read", str(error))
    podcast, split = f"podcast{audio.stem.split('_')[1]}", SPLIT_OF[row["Split_Set"]]
    return Recording(
        utterance=audio.stem,
        speaker=podcast if row["SpkrID"] == "Unknown" else f"speaker{row['SpkrID']}",
        text=" ".join(text.split()),
        audio=audio,
        group=f"{podcast}-{split}",
        split=split,
        emotion=INFO.emotions.get(row["EmoClass"]),
        label=row["EmoClass"],
    )
