"""`hpro corpus import`: a corpus in a usual layout becomes a folder for the reader `csv`.

The folder has a metadata.csv, and `audio`, a link to the corpus: no audio is copied. Layouts:

- `ljspeech`: metadata.csv with "<id>|<text>" or "<id>|<text>|<text with numbers in words>" in each
  line, without header and quotes, and wavs/<id>.wav (LJSpeech-1.1's README). The last text that is
  not empty is used. An id may also be the path of the file. One speaker.
- `vctk`: txt/<speaker>/<id>.txt, and wav48/<speaker>/<id>.wav, or in release 0.92
  wav48_silence_trimmed/<speaker>/<id>_mic1.flac and _mic2.flac (torchaudio's VCTK_092). The second
  microphone is left out.
- `mfa`: <id>.lab or <id>.txt beside <id>.wav or other audio, in a folder for each speaker
  (MFA's user guide, corpus structure). A .lab precedes a .txt of the same name. TextGrids are not
  read.

No real copy of VCTK or LJSpeech was available.
"""

import csv
import io
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hpro_core.corpus.readers.about import safe_id, text_of
from hpro_core.corpus.readers.csv_folder import COLUMNS
from hpro_core.corpus.recording import Fault, Recording, metadata_faults, printable
from hpro_core.corpus.walk import entries_of, folders, is_file, is_folder
from hpro_core.errors import HproError, did_you_mean
from hpro_core.io import write_text
from hpro_core.new_folder import new_folder

AUDIO = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".aiff", ".aif")
"""Suffixes of audio files that libsndfile reads."""

METADATA = "metadata.csv"
LINK = "audio"
VCTK_AUDIO = ("wav48_silence_trimmed", "wav48", "wav16")
"""Folders of VCTK's audio; the first that exists is read."""

NO_AUDIO, NO_TEXT = "no audio file", "no transcript"


@dataclass(frozen=True)
class Imported:
    """What an import has found.

    Attributes:
        layout: its name in `LAYOUTS`.
        recordings: utterances in the table.
        faults: utterances that the table leaves out.
        notes: what else was left out, in sentences.
    """

    layout: str
    recordings: tuple[Recording, ...]
    faults: tuple[Fault, ...]
    notes: tuple[str, ...]


def import_corpus(source: Path, out: Path, layout: str = "", speaker: str = "") -> Imported:
    """Write a folder for the reader `csv` from a corpus in another layout.

    Args:
        source: folder of the corpus; it is not changed.
        out: new folder, outside `source`.
        layout: a name of `LAYOUTS`; "" to recognise it.
        speaker: name of the only speaker, for `ljspeech` and `mfa`; "": that of the folder.

    Raises:
        HproError: no layout fits, nothing can be used, or `out` is not new or cannot be written.
    """
    if not source.is_dir():
        raise HproError(f"{source} is not a folder: give the folder of the extracted archive")
    if out.resolve().is_relative_to(source.resolve()):
        raise HproError(f"{out} is inside {source}: name a folder outside it")
    if layout and layout not in LAYOUTS:
        known = ", ".join(LAYOUTS)
        raise HproError(f"--layout {layout}: use {known}{did_you_mean(layout, LAYOUTS)}")
    name = layout or detect_layout(source)
    if speaker and name == "vctk":
        raise HproError("--speaker is for ljspeech and mfa: vctk has a folder for each speaker")
    found = [*LAYOUTS[name](source, speaker)]
    recordings, faults = _usable(found, source)
    if not recordings:
        first = f", the first: {faults[0].reason}: {faults[0].where}" if faults else ""
        raise HproError(f"{source} has no utterance of the layout {name} that can be used{first}")
    with new_folder(out) as partial:
        write_text(partial / METADATA, _table(recordings, source))
        try:
            (partial / LINK).symlink_to(source.resolve(), target_is_directory=True)
        except OSError as error:
            raise HproError(
                f"{out / LINK} cannot be a link ({error.strerror}): name a folder on another disk"
            ) from error
    second = _second_microphones(source) if name == "vctk" else 0
    notes = (f"left out: {second} recordings of the second microphone",) if second else ()
    return Imported(name, tuple(recordings), tuple(faults), notes)


def detect_layout(source: Path) -> str:
    """Return the layout of a folder.

    Raises:
        HproError: no layout fits.
    """
    metadata = source / METADATA
    if (source / "txt").is_dir() and _vctk_audio(source) is not None:
        return "vctk"
    if metadata.is_file():
        if "|" in text_of(metadata).partition("\n")[0]:
            return "ljspeech"
        raise HproError(
            f"{metadata} has no | in its first line: if it is a table for the reader csv, nothing "
            "is to be imported; else name the layout with --layout"
        )
    for _, entries in folders(source):
        stems = _by_stem(entries)
        if any(audio and texts for audio, texts in stems.values()):
            return "mfa"
    raise HproError(
        f"{source} matches no layout: ljspeech has a {METADATA} with <id>|<text>; vctk has txt/ "
        f"beside {' or '.join(VCTK_AUDIO)}/; mfa has <id>.lab or <id>.txt beside <id>.wav"
    )


def ljspeech(source: Path, speaker: str) -> Iterator[Recording | Fault]:
    """Yield the utterances of a metadata.csv with "|", then a fault for each other audio file."""
    path = source / METADATA
    lines: dict[str, list[tuple[str, str]]] = {}
    for number, line in enumerate(text_of(path).split("\n"), start=1):
        where = f"{path}, line {number}"
        name, *texts = (cell.strip() for cell in line.split("|"))
        if line.strip() and not (name and len(texts) in (1, 2)):
            yield Fault(f"line {number}", "malformed row", f"{where}: <id>|<text> is expected")
        elif line.strip():
            text = next((text for text in reversed(texts) if text), "")
            lines.setdefault(name, []).append((where, text))
    used: set[Path] = set()
    for name, found in lines.items():
        utterance = safe_id(_without_suffix(Path(name).name))
        audio = _listed_audio(source, name)
        used |= {audio} if audio else set()
        where = found[-1][0]
        if audio is None:
            yield Fault(utterance, NO_AUDIO, f"{where}: wavs/{name} with {', '.join(AUDIO)}")
        elif len(found) > 1:
            yield Fault(utterance, "several transcripts", where)
        else:
            yield _recording(utterance, speaker or source.resolve().name, found[0][1], audio)
    wavs = source / "wavs"
    for entry in entries_of(wavs) if wavs.is_dir() else []:
        if _is_audio(entry) and Path(entry) not in used:
            yield Fault(safe_id(_without_suffix(entry.name)), NO_TEXT, entry.path)


def vctk(source: Path, speaker: str = "") -> Iterator[Recording | Fault]:
    """Yield the utterances of VCTK, speaker by speaker."""
    top = _vctk_audio(source)
    if top is None or not (source / "txt").is_dir():
        raise HproError(f"{source}: vctk has the folders txt and {' or '.join(VCTK_AUDIO)}")
    speakers = [entry for each in (top, source / "txt") for entry in entries_of(each)]
    names = {each.name for each in speakers if is_folder(each) and not each.name.startswith(".")}
    for name in sorted(names):
        texts = _named(source / "txt" / name, (".txt",))
        audio = _named(top / name, (".wav", ".flac"))
        trimmed = {stem.removesuffix("_mic1"): path for stem, path in audio.items()}
        audio = {stem: path for stem, path in trimmed.items() if not stem.endswith("_mic2")}
        for stem in sorted(texts.keys() | audio.keys()):
            yield _pair(safe_id(stem), name, audio.get(stem), texts.get(stem))


def mfa(source: Path, speaker: str) -> Iterator[Recording | Fault]:
    """Yield the utterances of folders with a transcript beside each audio file.

    An id is the name of the file; in several folders, with the name of the folder before it.
    """
    found = [
        (Path(source, below), stem, audio, texts)
        for below, entries in folders(source)
        for stem, (audio, texts) in sorted(_by_stem(entries).items())
    ]
    counts = Counter(stem for _, stem, _, _ in found)
    for folder, stem, audio, texts in found:
        name = folder.resolve().name if folder == source else folder.name
        utterance = safe_id(f"{name}_{stem}" if counts[stem] > 1 else stem)
        if len(audio) > 1:
            yield Fault(utterance, "several audio files", ", ".join(map(str, audio)))
        else:
            first = next(iter(audio), None)
            yield _pair(utterance, speaker or name, first, next(iter(sorted(texts)), None))


LAYOUTS: dict[str, Callable[[Path, str], Iterator[Recording | Fault]]] = {
    "ljspeech": ljspeech,
    "vctk": vctk,
    "mfa": mfa,
}
"""Name of a layout -> what yields its utterances and faults, given folder and speaker."""


def _pair(utterance: str, speaker: str, audio: Path | None, text: Path | None) -> Recording | Fault:
    """The utterance of an audio file and the file of its transcript, at least one of which is."""
    if audio is None:
        return Fault(utterance, NO_AUDIO, str(text))
    if text is None:
        return Fault(utterance, NO_TEXT, str(audio))
    try:
        return _recording(utterance, speaker, text_of(text), audio)
    except HproError as error:
        return Fault(utterance, "transcript that is damaged", str(error))


def _recording(utterance: str, speaker: str, text: str, audio: Path) -> Recording:
    return Recording(utterance, speaker, " ".join(text.split()), audio, group=utterance)


def _usable(
    found: Sequence[Recording | Fault], source: Path
) -> tuple[list[Recording], list[Fault]]:
    """Separate what the table can have from faults, those of ids and names of files included."""
    faults = [entry for entry in found if isinstance(entry, Fault)]
    entries = [entry for entry in found if isinstance(entry, Recording)]
    wrong = metadata_faults(entries)
    lost = {fault.utterance for fault in wrong}
    kept = []
    for entry in entries:
        if printable(str(entry.audio)) != str(entry.audio):
            wrong.append(Fault(entry.utterance, "file name that is not UTF-8", entry.place))
        elif entry.utterance not in lost:
            kept.append(entry)
    return kept, [replace(fault, stops=False, left_out=True) for fault in [*faults, *wrong]]


def _table(recordings: Sequence[Recording], source: Path) -> str:
    """The metadata.csv, with audio relative to its folder."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for each in recordings:
        assert isinstance(each.audio, Path)
        audio = f"{LINK}/{each.audio.relative_to(source).as_posix()}"
        writer.writerow((each.utterance, each.speaker, each.text, audio))
    return text.getvalue()


def _listed_audio(source: Path, name: str) -> Path | None:
    """The file of an id of a metadata.csv: wavs/<id>.wav, or the path that the id is."""
    for path in (source / "wavs" / name, source / name):
        candidates = [path.with_name(f"{path.name}{suffix}") for suffix in AUDIO]
        candidates += [path] if path.suffix.lower() in AUDIO else []
        inside = ".." not in path.parts and path.is_relative_to(source)
        for candidate in candidates if inside else []:
            if os.path.isfile(candidate):
                return candidate
    return None


def _vctk_audio(source: Path) -> Path | None:
    return next((source / name for name in VCTK_AUDIO if (source / name).is_dir()), None)


def _second_microphones(source: Path) -> int:
    top = _vctk_audio(source)
    assert top is not None
    return sum(
        _without_suffix(entry.name).endswith("_mic2") and _is_audio(entry)
        for _, entries in folders(top)
        for entry in entries
    )


def _named(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Name without suffix -> file, for files with these suffixes; empty without the folder."""
    entries = entries_of(folder) if folder.is_dir() else []
    files = [Path(entry) for entry in entries if is_file(entry) and not entry.name.startswith(".")]
    return {path.stem: path for path in files if path.suffix.lower() in suffixes}


def _by_stem(entries: Sequence["os.DirEntry[str]"]) -> dict[str, tuple[list[Path], list[Path]]]:
    """Name without suffix -> audio files and transcripts of a folder."""
    found: dict[str, tuple[list[Path], list[Path]]] = {}
    for entry in entries:
        path = Path(entry)
        if not is_file(entry) or entry.name.startswith("."):
            continue
        if path.suffix.lower() in AUDIO:
            found.setdefault(path.stem, ([], []))[0].append(path)
        elif path.suffix.lower() in (".lab", ".txt"):
            found.setdefault(path.stem, ([], []))[1].append(path)
    return found


def _is_audio(entry: "os.DirEntry[str]") -> bool:
    hidden = entry.name.startswith(".")
    return is_file(entry) and not hidden and entry.name.lower().endswith(AUDIO)


def _without_suffix(name: str) -> str:
    """A name without the suffix of an audio file; other dots belong to the name."""
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and f".{suffix.lower()}" in AUDIO else name
