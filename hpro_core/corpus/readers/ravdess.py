"""Reader `ravdess`: Ryerson Audio-Visual Database of Emotional Speech and Song, its audio.

Actor_<nn>/<modality>-<channel>-<emotion>-<intensity>-<statement>-<repetition>-<actor>.wav; every
field is two digits. Each of 24 actors speaks two sentences in eight emotions, twice in each of two
intensities (neutral has one intensity). The archive of songs has the same sentences, sung in six
emotions. Songs and the audio of the videos (modality 01, 02) are left out.
"""

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from hpro_core.corpus.readers.about import CorpusInfo, audio_files, safe_id
from hpro_core.corpus.recording import Fault, Recording
from hpro_core.errors import HproError

INFO = CorpusInfo(
    title="RAVDESS, Livingstone and Russo 2018",
    licence="CC BY-NC-SA 4.0: no commercial use",
    source="Zenodo 1188976: Audio_Speech_Actors_01-24.zip",
    patterns=("Actor_*/03-01-*.wav", "*/Actor_*/03-01-*.wav"),
    emotions={
        "neutral": "neutral",
        "calm": "neutral",
        "happy": "happy",
        "sad": "sad",
        "angry": "angry",
        "fearful": "fearful",
        "disgust": "disgusted",
        "surprised": "surprised",
    },
)
STATEMENTS = {"01": "Kids are talking by the door.", "02": "Dogs are sitting by the door."}
LABELS = {f"{code:02d}": label for code, label in enumerate(INFO.emotions, start=1)}
"""Code of the file name -> label, in the order of the publication."""

_NAME = re.compile(r"(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)\.wav")
_AUDIO_ONLY, _SPEECH = "03", "01"


def read(folder: Path) -> Iterator[Recording | Fault]:
    """Yield all spoken utterances; a group is a sentence.

    Args:
        folder: holds the folders Actor_01 to Actor_24, directly or one level below. Archives of
            some mirrors have each twice; each utterance is read once.

    Raises:
        HproError: there is no folder of an actor.
    """
    found = {path.name: path for path in reversed(audio_files(folder, "**/Actor_*/*.wav"))}
    if not found:
        raise HproError(f"{folder}: no Actor_<nn>/*.wav: extract the archive into it")
    seen: set[str] = set()
    for name, path in sorted(found.items()):
        fields = _NAME.fullmatch(name)
        if fields is None:
            yield Fault(safe_id(path.stem), "file name that is not RAVDESS's", str(path))
            continue
        modality, channel, emotion, _, statement, _, actor = fields.groups()
        if (modality, channel) != (_AUDIO_ONLY, _SPEECH):
            continue
        seen.add(path.stem)
        if path.parent.name != f"Actor_{actor}":
            yield Fault(path.stem, "actor of the file name is not the folder's", str(path))
        elif emotion not in LABELS or statement not in STATEMENTS:
            yield Fault(path.stem, "code that RAVDESS does not have", str(path))
        else:
            yield Recording(
                utterance=path.stem,
                speaker=f"actor{actor}",
                text=STATEMENTS[statement],
                audio=path,
                group=f"statement{statement}",
                emotion=INFO.emotions[LABELS[emotion]],
                label=LABELS[emotion],
            )
    yield from _missing(seen, folder)


def _missing(seen: set[str], folder: Path) -> Iterator[Fault]:
    """Yield a fault for each missing utterance of the actors found: the design is complete."""
    for actor in sorted({name[-2:] for name in seen}):
        for emotion, intensity, statement, repetition in product(
            LABELS, ("01", "02"), STATEMENTS, ("01", "02")
        ):
            name = f"03-01-{emotion}-{intensity}-{statement}-{repetition}-{actor}"
            exists = not (LABELS[emotion] == "neutral" and intensity == "02")
            if exists and name not in seen:
                yield Fault(name, "no audio file", f"{folder}: Actor_{actor}/{name}.wav")
