"""Reader `iemocap`: Interactive Emotional Dyadic Motion Capture database, its turns.

Below Session1 to Session5:

- dialog/EmoEvaluation/<dialog>.txt: `[start - end]<tab>turn<tab>label<tab>[V, A, D]`, then lines of
  raters. The folders beside these files have the raters' own files and are not read.
- dialog/transcriptions/<dialog>.txt: `turn [start-end]: text`. Other lines (`M: Yeah.`) and turns
  that were not segmented (Ses03F_impro05_MXX0) have neither audio nor label and are ignored.
- sentences/wav/<dialog>/<turn>.wav.

Ses01F_impro01_M000 is the first turn of the man of session 1; the F marks the speaker with the
motion-capture markers in this dialog, here the woman.

Excited maps to happy, as is usual with this corpus: both are joy, at two strengths. Frustrated maps
to "other" and not "angry", which the raters could have chosen. Without a majority label (xxx) there
is no emotion; the class "unknown" would be trained like an emotion.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from hpro_core.corpus.readers.about import CorpusInfo, audio_files, safe_id, text_of
from hpro_core.corpus.recording import Fault, Recording
from hpro_core.errors import HproError

INFO = CorpusInfo(
    title="IEMOCAP, Busso et al. 2008",
    licence="USC's own, to be signed: research only, not to be passed on",
    source="sail.usc.edu/iemocap on request: IEMOCAP_full_release, with videos or without",
    patterns=(
        "Session1/dialog/EmoEvaluation/Ses01*.txt",
        "IEMOCAP_full_release/Session1/dialog/EmoEvaluation/Ses01*.txt",
    ),
    emotions={
        "ang": "angry",
        "dis": "disgusted",
        "exc": "happy",
        "fea": "fearful",
        "fru": "other",
        "hap": "happy",
        "neu": "neutral",
        "oth": "other",
        "sad": "sad",
        "sur": "surprised",
    },
)
NO_AGREEMENT = "xxx"

_DIALOG = re.compile(r"(?P<session>Ses0[1-5])[FM]_(?P<scene>impro\d\d|script\d\d_\d)[a-z]?")
_TURN = re.compile(rf"(?P<dialog>{_DIALOG.pattern})_(?P<actor>[FM])\d\d\d")
_EVALUATED = re.compile(r"\[.+ - .+\]\t(\S+)\t(\S+)\t\[.+\]")
_TRANSCRIBED = re.compile(r"(\S+) \[[^]]*\]:(.*)")
_SOUND = re.compile(r"\[[^]]*\]")
"""Non-speech sounds: [LAUGHTER], [BREATHING], [LIPSMACK], [GARBAGE]."""


def read(folder: Path) -> Iterator[Recording | Fault]:
    """Yield all turns that are evaluated or have audio.

    A group is a dialog. All performances of a part of a script (script01_1) are one group, because
    they share sentences.

    Args:
        folder: IEMOCAP_full_release, or its parent folder.

    Raises:
        HproError: a session is missing, or a file is not UTF-8 or has a damaged evaluation.
    """
    within = folder / "IEMOCAP_full_release"
    root = within if within.is_dir() else folder
    for number in range(1, 6):
        session = root / f"Session{number}"
        if not _dialogs(session / "dialog" / "EmoEvaluation"):
            raise HproError(f"{session} has no dialog/EmoEvaluation/*.txt: extract all sessions")
        yield from _turns(session)


def _turns(session: Path) -> Iterator[Recording | Fault]:
    evaluations, texts = _evaluations(session), _texts(session)
    audio = {path.stem: path for path in audio_files(session, "sentences/wav/*/*.wav")}
    for turn, found in evaluations.items():
        yield _turn(session, turn, found, texts.get(turn, []))
    for turn in sorted(audio.keys() - evaluations.keys()):
        yield Fault(safe_id(turn), "audio without an evaluation", str(audio[turn]))


def _turn(
    session: Path, turn: str, evaluations: list[tuple[str, str]], texts: list[str]
) -> Recording | Fault:
    label, where = evaluations[0]
    name = _TURN.fullmatch(turn)
    if name is None:
        return Fault(safe_id(turn), "turn whose name is not IEMOCAP's", f"{where}: {turn!r}")
    path = session / "sentences" / "wav" / name["dialog"] / f"{turn}.wav"
    if len(evaluations) > 1:
        return Fault(turn, "evaluated twice", " and ".join(where for _, where in evaluations))
    if label != NO_AGREEMENT and label not in INFO.emotions:
        return Fault(turn, "label that IEMOCAP does not have", f"{where}: {label!r}")
    if not path.is_file():
        return Fault(turn, "no audio file", str(path))
    if len(texts) != 1:
        reason = "transcripts that differ" if texts else "no transcript"
        return Fault(turn, reason, f"{_transcriptions(session)}/{name['dialog']}.txt")
    return Recording(
        utterance=turn,
        speaker=name["session"] + name["actor"],
        text=texts[0],
        audio=path,
        group=name["scene" if name["scene"].startswith("script") else "dialog"],
        emotion=INFO.emotions.get(label),
        label=label,
    )


def _evaluations(session: Path) -> dict[str, list[tuple[str, str]]]:
    """Turn -> its labels, each with its place; more than one is a fault."""
    found: dict[str, list[tuple[str, str]]] = {}
    for path in _dialogs(session / "dialog" / "EmoEvaluation"):
        for number, line in enumerate(text_of(path).split("\n"), start=1):
            if not line.startswith("["):
                continue
            fields = _EVALUATED.match(line)
            if fields is None:
                raise HproError(
                    f"{path}, line {number}: {line!r} is not '[start - end]<tab>turn<tab>label<tab>"
                    "[V, A, D]': extract the archive again"
                )
            found.setdefault(fields[1], []).append((fields[2], f"{path}, line {number}"))
    return found


def _texts(session: Path) -> dict[str, list[str]]:
    """Turn -> its distinct transcripts; more than one is a fault."""
    found: dict[str, list[str]] = {}
    for path in _dialogs(_transcriptions(session)):
        for fields in map(_TRANSCRIBED.match, text_of(path).split("\n")):
            if fields is not None:
                texts = found.setdefault(fields[1], [])
                text = " ".join(_SOUND.sub(" ", fields[2]).split())
                texts.extend([text] if text not in texts else [])
    return found


def _transcriptions(session: Path) -> Path:
    return session / "dialog" / "transcriptions"


def _dialogs(folder: Path) -> list[Path]:
    """Files named after a dialog, without copies, raters' files and macOS's ._files."""
    return sorted(path for path in folder.glob("*.txt") if _DIALOG.fullmatch(path.stem))
