"""`hpro corpus check PATH`: reads a corpus to its end and says what is in it."""

import csv
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.corpus import audio
from hpro_core.corpus.published.about import About
from hpro_core.corpus.readers import READERS, recognised
from hpro_core.corpus.recording import Fault, Recording
from hpro_core.errors import HproError
from hpro_core.progress import track
from hpro_core.text.normalise import normalised_words

EXAMPLES = 5
"""Faults of a kind that are named; all of them with --faults."""


@dataclass
class Contents:
    """What a corpus holds.

    Attributes:
        seconds: of each utterance that can be used, by emotion and label of the corpus.
        speakers: their utterances.
        splits: those that the corpus prescribes, by their utterances.
        faults: what cannot be used.
    """

    seconds: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    speakers: Counter[str] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)

    @property
    def n_utterances(self) -> int:
        """How many can be used."""
        return sum(map(len, self.seconds.values()))


def check(folder: Path, reader: str = "") -> tuple[About, Contents]:
    """Read a corpus and decode all its audio.

    Args:
        folder: of the corpus.
        reader: a name of `READERS`; "" to recognise it.

    Raises:
        HproError: no reader fits, or the folder as a whole cannot be read.
    """
    name = reader or recognised(folder)
    if name not in READERS:
        raise HproError(f"--reader {name}: unknown; known: {', '.join(READERS)}")
    about = READERS[name].ABOUT
    entries = list(READERS[name].read(folder))
    contents = Contents()
    seen: set[str] = set()
    for entry in track(entries, len(entries), f"checking {name}"):
        found = _faulty(entry, seen) if isinstance(entry, Recording) else entry
        if isinstance(found, Fault):
            contents.faults.append(found)
        else:
            assert isinstance(entry, Recording)
            _count(contents, entry, found)
    return about, contents


def _faulty(recording: Recording, seen: set[str]) -> Fault | float:
    """Its duration in seconds, or why a recording cannot be used."""
    where = str(recording.audio) if isinstance(recording.audio, Path) else "in the archive"
    if recording.utterance in seen:
        return Fault(recording.utterance, "duplicate id", where)
    seen.add(recording.utterance)
    if not normalised_words(recording.text):
        return Fault(recording.utterance, "transcript without words", f"{where}: {recording.text}")
    try:
        return len(audio.decoded(recording.audio)) / SAMPLE_RATE_HZ
    except audio.Unusable as reason:
        return Fault(recording.utterance, str(reason), where)


def _count(contents: Contents, recording: Recording, seconds: float) -> None:
    key = (recording.emotion or "none", recording.label or "-")
    contents.seconds.setdefault(key, []).append(seconds)
    contents.speakers[recording.speaker] += 1
    if recording.split:
        contents.splits[recording.split] += 1


def described(about: About, contents: Contents) -> Iterator[str]:
    """The lines of the table."""
    seconds = sorted(chain.from_iterable(contents.seconds.values()))
    alone = sum(n == 1 for n in contents.speakers.values())
    yield f"{about.title}. Licence: {about.licence}. Source: {about.source}"
    yield f"{len(seconds)} utterances, {sum(seconds) / 3600:.2f} hours"
    yield f"{len(contents.speakers)} speakers, {alone} of them with one utterance"
    if seconds:
        middle = seconds[len(seconds) // 2]
        yield f"from {seconds[0]:.1f} to {seconds[-1]:.1f} s, half of them above {middle:.1f} s"
    if contents.splits:
        yield "splits: " + ", ".join(f"{name} {k}" for name, k in contents.splits.most_common())
    yield f"{'emotion':<12} {'label':<16} {'utterances':>10} {'minutes':>9}"
    for (emotion, label), each in sorted(contents.seconds.items()):
        yield f"{emotion:<12} {label:<16} {len(each):>10} {sum(each) / 60:>9.1f}"
    yield f"faults: {len(contents.faults)}"
    for reason, k in Counter(fault.reason for fault in contents.faults).most_common():
        yield f"  {reason}: {k}"
        examples = [fault for fault in contents.faults if fault.reason == reason][:EXAMPLES]
        yield from (f"    {fault.utterance}: {fault.where}" for fault in examples)
        if k > EXAMPLES:
            yield f"    and {k - EXAMPLES} more: --faults FILE lists all"


def write_faults(contents: Contents, path: Path) -> None:
    """All faults as a table: utterance, reason, where."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("utterance", "reason", "where"))
        writer.writerows((each.utterance, each.reason, each.where) for each in contents.faults)
