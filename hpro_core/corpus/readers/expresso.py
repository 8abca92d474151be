"""Reader `expresso`: Expresso, expressive speech of two women and two men; its read speech.

    read_transcriptions.txt     "<id><tab><text>" in each line
    audio_48khz/read/<speaker>/<style>/<base or longform>/<id>.wav

An id is <speaker>_<style>_<number>. Between style and number it may have `emphasis` (a sentence
with each of its words stressed in turn) or `essentials`, both of `default` and `base`, or
`longform`: texts of several minutes, which are too long to use.

Left out without a fault: `audio_48khz/conversational`, which has no transcripts, and the style
`singing`. `splits/` is not read: it cuts the long files in three, and every twentieth sentence is
in several of its splits, by another speaker or in another style. A sentence is therefore a group.

Layout, styles and ids follow the publishers' documentation and split lists
(facebookresearch/textlesslib, examples/expresso). The format of read_transcriptions.txt and its
marks follow a draft in the history of that repository, which numbers the speakers differently. It
is assumed that the archive has the same format.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from hpro_core.corpus.readers.about import CorpusInfo, audio_files, safe_id, text_of
from hpro_core.corpus.recording import Fault, Recording
from hpro_core.errors import HproError
from hpro_core.text.normalise import normalised_words

TRANSCRIPTS = "read_transcriptions.txt"
INFO = CorpusInfo(
    title="Expresso, Nguyen et al. 2023 (its read speech: the dialogues have no transcripts)",
    licence="CC BY-NC 4.0: no commercial use",
    source="github.com/facebookresearch/textlesslib, examples/expresso/dataset: expresso.tar",
    patterns=(TRANSCRIPTS, f"*/{TRANSCRIPTS}"),
    emotions={
        "default": "neutral",
        "happy": "happy",
        "laughing": "happy",
        "sad": "sad",
        "confused": "other",
    },
)
MANNERS = ("enunciated", "narration", "whisper")
"""Styles that describe the manner of speaking and have no emotion."""

_ID = re.compile(r"(ex\d\d)_([a-z]+)(?:_(emphasis|essentials|longform))?_\d{5}")
_MARKS = re.compile(r"<\w+>|[*|]")
"""<laugh> and <breath>, *stressed words*, and bars at pauses: none is a word."""
_APOSTROPHE = ("´", "'")
"""Accent that some lines have in place of an apostrophe (There´s), and its replacement."""


def read(folder: Path) -> Iterator[Recording | Fault]:
    """Yield all utterances of read speech, without songs.

    Args:
        folder: content of the archive, or the parent of its folder `expresso`.

    Raises:
        HproError: the list of transcripts is missing, damaged, or belongs to other audio.
    """
    lists = [*folder.glob(TRANSCRIPTS), *folder.glob(f"*/{TRANSCRIPTS}")]
    root = lists[0].parent if lists else folder
    listed = _listed(root / TRANSCRIPTS)
    found: dict[str, list[Path]] = {}
    for path in audio_files(root, "audio_48khz/read/**/*.wav"):
        found.setdefault(path.stem, []).append(path)
    if not listed.keys() & found.keys():
        raise HproError(
            f"{root / TRANSCRIPTS} lists no file that is in {root / 'audio_48khz/read'}: extract "
            "the whole archive, and use audio and transcripts of one version"
        )
    for utterance in sorted(listed.keys() | found.keys()):
        if "_singing_" not in utterance:
            yield _entry(root, utterance, listed.get(utterance, []), found.get(utterance, []))


def _listed(path: Path) -> dict[str, list[tuple[str, str]]]:
    """Id -> place and text of each line that has it."""
    listed: dict[str, list[tuple[str, str]]] = {}
    for number, line in enumerate(text_of(path).split("\n"), start=1):
        utterance, tab, text = line.partition("\t")
        if tab:
            listed.setdefault(utterance, []).append((f"{path}, line {number}", text))
        elif line.strip():
            raise HproError(
                f"{path}, line {number}: {line[:60]!r} is not <id><tab><text>: use the file of "
                "the archive"
            )
    return listed


def _entry(
    root: Path, utterance: str, lines: list[tuple[str, str]], paths: list[Path]
) -> Recording | Fault:
    where = "; ".join([place for place, _ in lines] + [str(path) for path in paths])
    fields = _ID.fullmatch(utterance)
    if fields is None or fields[2] not in (*INFO.emotions, *MANNERS):
        return Fault(safe_id(utterance), "id that Expresso does not have", where)
    speaker, style, substyle = fields.groups()
    part = "longform" if substyle == "longform" else "base"
    audio = root / "audio_48khz/read" / speaker / style / part / f"{utterance}.wav"
    if not lines:
        return Fault(utterance, "no transcript", where)
    if len(lines) > 1:
        return Fault(utterance, "listed more than once", where)
    if not paths:
        return Fault(utterance, "no audio file", f"{where}: {audio}")
    if paths != [audio]:
        return Fault(utterance, "audio in another folder than its id says", f"{where}: not {audio}")
    text = " ".join(_MARKS.sub("", lines[0][1].replace(*_APOSTROPHE)).split())
    return Recording(
        utterance=utterance,
        speaker=speaker,
        text=text,
        audio=audio,
        group=normalised_words(text) or utterance,
        emotion=INFO.emotions.get(style),
        label=style,
    )
