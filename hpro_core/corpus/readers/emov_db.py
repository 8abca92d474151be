"""Reader `emov_db`: the Emotional Voices Database, in its sorted version.

OpenSLR has one archive for each speaker and emotion, such as bea_Amused.tar.gz. Their file names
are the same for all speakers, so each archive needs its own folder: <speaker>_<Emotion>/, or
<speaker>/<Emotion>/ as in the publishers' first copy.

<emotion>_<first>-<last>_<sentence>.wav: the session covers the first to the last sentence; 0011 is
arctic_a0011 of the CMU Arctic prompts (none of its b sentences is used). The prompts are in
cmuarctic.data, which no archive contains. A few files have a wrong number outside their session.
The publishers removed recordings that did not match their prompt, so a gap is not a fault.

Sleepy is `other`: it is acted, with yawns, and differs too much from neutral for that class.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from hpro_core.corpus.readers.about import CorpusInfo, audio_files, safe_id, text_of
from hpro_core.corpus.recording import Fault, Recording
from hpro_core.errors import HproError

INFO = CorpusInfo(
    title="EmoV-DB, Adigwe and others 2018",
    licence="own licence: research, teaching, personal experiments; no commercial use",
    source="OpenSLR 115: <speaker>_<Emotion>.tar.gz, each into a folder of its name; "
    "and http://www.festvox.org/cmu_arctic/cmuarctic.data",
    patterns=(
        "*/[AaDdNnSs]*_[0-9]*-[0-9]*_[0-9][0-9][0-9][0-9].wav",
        "*/*/[AaDdNnSs]*_[0-9]*-[0-9]*_[0-9][0-9][0-9][0-9].wav",
    ),
    emotions={
        "Amused": "happy",
        "Angry": "angry",
        "Disgusted": "disgusted",
        "Neutral": "neutral",
        "Sleepy": "other",
    },
)
SPEAKERS = ("bea", "jenie", "josh", "sam")
PROMPTS = "cmuarctic.data"

_WRITTEN = {label.lower(): label for label in INFO.emotions}
_WRITTEN |= {"anger": "Angry", "disgust": "Disgusted", "sleepiness": "Sleepy"}
_NAME = re.compile(r"([A-Za-z]+)_(\d+)[-_](\d+)_(\d{4})\.wav")
_PROMPT = re.compile(r'\( arctic_([ab]\d{4}) "(.*)" \)')


def read(folder: Path) -> Iterator[Recording | Fault]:
    """Yield all utterances; a group is a sentence, across speakers and emotions.

    Args:
        folder: holds cmuarctic.data and the folders of speakers or archives, at any depth.

    Raises:
        HproError: audio or cmuarctic.data is missing, or the latter is damaged.
    """
    paths = audio_files(folder, "**/*.wav")
    if not paths:
        raise HproError(f"{folder}: no *.wav: extract each archive into a folder of its name")
    prompts = _prompts(folder)
    seen: set[str] = set()
    for path in paths:
        found = _utterance(path, folder, prompts)
        if found.utterance in seen:
            name = safe_id(path.relative_to(folder).as_posix())
            found = Fault(name, "second file of an utterance", str(path))
        seen.add(found.utterance)
        yield found


def _prompts(folder: Path) -> dict[str, str]:
    """Number of a sentence (a0001) -> its text."""
    path = folder / PROMPTS
    if not path.is_file():
        url = INFO.source.split()[-1]
        raise HproError(f"{path} does not exist: no archive contains it; download {url} to there")
    prompts: dict[str, str] = {}
    for number, line in enumerate(text_of(path).splitlines(), start=1):
        fields = _PROMPT.fullmatch(line.strip())
        if fields is None and line.strip():
            raise HproError(f"{path}, line {number}: {line!r} is not a prompt: download it again")
        if fields is not None:
            prompts[fields[1]] = fields[2]
    return prompts


def _utterance(path: Path, folder: Path, prompts: dict[str, str]) -> Recording | Fault:
    within = path.relative_to(folder)
    words = set(re.split(r"[^a-z]+", within.parent.as_posix().lower()))
    speakers = words.intersection(SPEAKERS)
    if len(speakers) != 1:
        where = f"{path}: extract each archive into a folder of its name"
        return Fault(safe_id(within.as_posix()), "folder that does not name one speaker", where)
    speaker = speakers.pop()
    fields = _NAME.fullmatch(path.name)
    if fields is None or fields[1].lower() not in _WRITTEN:
        return Fault(safe_id(within.as_posix()), "file name that is not EmoV-DB's", str(path))
    label, sentence = _WRITTEN[fields[1].lower()], f"a{fields[4]}"
    reason = _doubt(fields, label, {_WRITTEN[word] for word in words if word in _WRITTEN})
    if not reason and sentence not in prompts:
        reason = f"sentence that {PROMPTS} does not have"
    if reason:
        return Fault(f"{speaker}_{path.stem}", reason, str(path))
    return Recording(
        utterance=f"{speaker}_{path.stem}",
        speaker=speaker,
        text=prompts[sentence],
        audio=path,
        group=f"arctic_{sentence}",
        emotion=INFO.emotions[label],
        label=label,
    )


def _doubt(fields: re.Match[str], label: str, folder_labels: set[str]) -> str:
    """The reason why a file name is inconsistent; empty if it is consistent."""
    if folder_labels - {label}:
        return "emotion of the file name is not the folder's"
    first, last, sentence = (int(number) for number in fields.groups()[1:])
    return "" if first <= sentence <= last else "sentence outside the range of its file name"
