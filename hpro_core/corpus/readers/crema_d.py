"""Reader `crema_d`: Crowd-sourced Emotional Multimodal Actors Dataset, its audio.

AudioWAV/<actor>_<sentence>_<emotion>_<level>.wav, as listed in SentenceFilenames.csv: 91 actors
speak twelve sentences in six emotions. One sentence (IEO) has three levels (LO, MD, HI), all others
have XX. The label is the intended emotion. The perceived emotion of raters
(processedResults/summaryTable.csv) often differs and is not read.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from hpro_core.corpus.readers.about import LFS_POINTER, CorpusInfo, audio_files, safe_id, table_rows
from hpro_core.corpus.recording import Fault, Recording
from hpro_core.errors import HproError

INFO = CorpusInfo(
    title="CREMA-D, Cao and others 2014",
    licence="Open Database License 1.0, contents under the Database Contents License 1.0",
    source="github.com/CheyneyComputerScience/CREMA-D or gitlab.com/cs-cooper-lab/crema-d-mirror, "
    "cloned with Git LFS: AudioWAV and SentenceFilenames.csv",
    patterns=("AudioWAV/1[0-9]*_*_*_*.wav", "*/AudioWAV/1[0-9]*_*_*_*.wav"),
    emotions={
        "ANG": "angry",
        "DIS": "disgusted",
        "FEA": "fearful",
        "HAP": "happy",
        "NEU": "neutral",
        "SAD": "sad",
    },
)
SENTENCES = {
    "IEO": "It's eleven o'clock.",
    "TIE": "That is exactly what happened.",
    "IOM": "I'm on my way to the meeting.",
    "IWW": "I wonder what this is about.",
    "TAI": "The airplane is almost full.",
    "MTI": "Maybe tomorrow it will be cold.",
    "IWL": "I would like a new alarm clock.",
    "ITH": "I think I have a doctor's appointment.",
    "DFA": "Don't forget a jacket.",
    "ITS": "I think I've seen this before.",
    "TSI": "The surface is slick.",
    "WSI": "We'll stop in a couple of minutes.",
}
LIST = "SentenceFilenames.csv"

_NAME = re.compile(r"(1\d{3})_([A-Z]{3})_([A-Z]{3})_(?:XX|LO|MD|HI)")
_SOUNDLESS = {"1076_MTI_SAD_XX"}  # the publishers' README: no audio
_FORMER = {"1040_ITH_SAD_XX": "1040_ITH_SAD_X"}  # the file's name until October 2022
_POINTER_BYTES = 1024


def read(folder: Path) -> Iterator[Recording | Fault]:
    """Yield all listed utterances, and a fault for each unlisted audio file; a group is a sentence.

    Args:
        folder: holds AudioWAV and SentenceFilenames.csv, directly or one level below.

    Raises:
        HproError: audio or list is missing, or the list is damaged.
    """
    paths = audio_files(folder, "AudioWAV/*.wav", "*/AudioWAV/*.wav")
    if not paths:
        raise HproError(f"{folder}: no AudioWAV/*.wav: clone the repository into it, with Git LFS")
    root = paths[0].parents[1]
    audio = {path.stem: path for path in paths if path.parents[1] == root}
    for name, where in _listed(root / LIST).items():
        path = audio.pop(name, None) or audio.pop(_FORMER.get(name, ""), None)
        yield _utterance(name, path, where)
    for name, path in audio.items():
        yield Fault(safe_id(name), f"audio file that {LIST} does not list", str(path))


def _listed(path: Path) -> dict[str, str]:
    """Name of each utterance -> its place in the list."""
    if not path.is_file():
        raise HproError(
            f"{path} does not exist: it lists all utterances; copy it from the repository"
        )
    listed: dict[str, str] = {}
    for where, row in table_rows(path, "Filename"):
        name = row["Filename"]
        if not name or name in listed:
            why = f"{name!r} is in {listed[name]} too" if name else "no file name"
            raise HproError(f"{where}: {why}: use the published file")
        listed[name] = where
    return listed


def _utterance(name: str, path: Path | None, where: str) -> Recording | Fault:
    fields = _NAME.fullmatch(name)
    if fields is None or fields[2] not in SENTENCES or fields[3] not in INFO.emotions:
        return Fault(safe_id(name), "name that is not CREMA-D's", f"{where}: {name!r}")
    if path is None:
        return Fault(name, "no audio file", f"{where}: AudioWAV/{name}.wav")
    if path.stat().st_size < _POINTER_BYTES and path.read_bytes().startswith(LFS_POINTER):
        return Fault(name, "Git LFS pointer instead of audio", f"{path}: run git lfs pull")
    if name in _SOUNDLESS:
        return Fault(name, "no audible speech (publishers' README)", str(path))
    actor, sentence, label = fields.groups()
    return Recording(
        utterance=name,
        speaker=actor,
        text=SENTENCES[sentence],
        audio=path,
        group=f"sentence_{sentence}",
        emotion=INFO.emotions[label],
        label=label,
    )
