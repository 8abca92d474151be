"""`hpro corpus check PATH`: reads a whole corpus and reports what a run can use of it.

The check decides with the functions that a run uses (`recording.metadata_faults`, `usable`), so
that both refuse, reject and leave out the same utterances.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import pandas as pd

from hpro_core.corpus.readers.about import CorpusInfo
from hpro_core.corpus.readers.registry import READERS, detect_reader, of_speakers, read_entries
from hpro_core.corpus.recording import Fault, Recording, metadata_faults
from hpro_core.corpus.splits import groups_problem
from hpro_core.corpus.usable import Clip, rejection_problem, sifted
from hpro_core.errors import HproError, did_you_mean, escaped
from hpro_core.io import write_text
from hpro_core.params import Corpus, CorpusSet
from hpro_core.text.normalise import COSYVOICE2_TAGS, unknown_tags

EXAMPLES = 5
"""Faults of a kind that are printed; --faults lists all."""


@dataclass
class Contents:
    """Contents of a corpus.

    Attributes:
        seconds: durations of the usable utterances, by emotion and by the corpus's own label.
        speakers: number of usable utterances of each speaker.
        splits: number of usable utterances of each split that the corpus prescribes.
        faults: utterances that a run refuses or rejects.
        left_out: utterances that a run leaves out: outside the limits of duration, or with a
            fault in a corpus of which speakers are chosen.
        stops: reasons why a run stops at this corpus as a whole, in sentences.
        unknown_tags: bracketed text that is not a known mark and is read as words -> its
            utterances.
        speakers_chosen: whether the set has only some speakers of the corpus.
    """

    seconds: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    speakers: Counter[str] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)
    left_out: list[Fault] = field(default_factory=list)
    stops: list[str] = field(default_factory=list)
    unknown_tags: dict[str, list[str]] = field(default_factory=dict)
    speakers_chosen: bool = False

    @property
    def n_utterances(self) -> int:
        """Number of usable utterances."""
        return sum(map(len, self.seconds.values()))


def check(folder: Path, corpus: Corpus, reader: str = "") -> tuple[CorpusInfo, Contents]:
    """Read a corpus and decode all its audio.

    Args:
        folder: of the corpus.
        corpus: limits of duration and of the rejected fraction. If one of its sets has this
            folder, the name, reader, split and speakers of that set are used.
        reader: a name of `READERS`; "" for the reader of the set, or to recognise it.

    Raises:
        HproError: no reader fits, the folder as a whole cannot be read, or it lacks a speaker that
            the set lists.
    """
    name, chosen = _set_of(folder, corpus, reader)
    if chosen.reader not in READERS:
        raise HproError(
            f"--reader {chosen.reader}: unknown reader; known: {', '.join(READERS)}"
            f"{did_you_mean(chosen.reader, READERS)}"
        )
    found = of_speakers(read_entries(chosen.reader, folder, "PATH"), chosen, folder)
    contents = Contents(speakers_chosen=bool(chosen.speakers or chosen.leave_out_speakers))
    clips = _examine(found, corpus, contents, f"checking {name}")
    for clip in clips:
        _count(contents, clip)
    everything = [*contents.faults, *contents.left_out]
    problem = rejection_problem(everything, len(found), corpus.max_rejected_fraction)
    if not problem and not chosen.split:
        problem = groups_problem(_groups(clips), name)
    contents.stops += [problem] if problem else []
    return READERS[chosen.reader].INFO, contents


def _set_of(folder: Path, corpus: Corpus, reader: str) -> tuple[str, CorpusSet]:
    """The set of the settings with this folder; without one, a set that is all for training."""
    for name, chosen in corpus.sets.items():
        same = chosen.path and Path(chosen.path).resolve() == folder.resolve()
        if same and reader in ("", chosen.reader):
            return name, chosen
    name = reader or detect_reader(folder)
    return name, CorpusSet.model_construct(reader=name, path=str(folder), split="train")


def _examine(
    found: Sequence[Recording | Fault], corpus: Corpus, contents: Contents, what: str
) -> list[Clip]:
    """The clips that a run keeps, without their samples; faults are added to `contents`."""
    problems = metadata_faults(found)
    if problems:
        contents.stops.append(f"{len(problems)} faults of metadata")
    entries: list[Recording | Fault] = []
    seen: set[str] = set()
    for entry in found:
        if isinstance(entry, Fault):
            entries += [] if entry.stops else [entry]
        elif entry.utterance not in seen:  # the others are listed as duplicates
            seen.add(entry.utterance)
            entries.append(entry)
            for mark in unknown_tags(entry.text):
                contents.unknown_tags.setdefault(mark, []).append(entry.utterance)
    clips, faults = sifted(entries, corpus, what)
    for fault in [*problems, *faults]:
        (contents.left_out if fault.left_out else contents.faults).append(fault)
    lost = {problem.utterance for problem in problems}
    return [clip for clip in clips if clip.recording.utterance not in lost]


def _count(contents: Contents, clip: Clip) -> None:
    recording = clip.recording
    key = (recording.emotion or "none", recording.label or "-")
    contents.seconds.setdefault(key, []).append(clip.duration_s)
    contents.speakers[recording.speaker] += 1
    if recording.split:
        contents.splits[recording.split] += 1


def _groups(clips: Sequence[Clip]) -> pd.DataFrame:
    rows = [(clip.recording.group, clip.recording.split) for clip in clips]
    return pd.DataFrame(rows, columns=["group", "split"])


def format_report(info: CorpusInfo, contents: Contents) -> Iterator[str]:
    """The lines of the table, with control characters of a corpus's values escaped."""
    return map(escaped, _lines(info, contents))


def _lines(info: CorpusInfo, contents: Contents) -> Iterator[str]:
    seconds = sorted(chain.from_iterable(contents.seconds.values()))
    yield f"{info.title}. Licence: {info.licence}. Source: {info.source}"
    yield f"{len(seconds)} utterances, {sum(seconds) / 3600:.2f} hours"
    chosen = ", those of the set in the settings" if contents.speakers_chosen else ""
    yield f"{len(contents.speakers)} speakers{chosen}"
    if seconds:
        middle = seconds[len(seconds) // 2]
        yield f"from {seconds[0]:.1f} to {seconds[-1]:.1f} s, half of them above {middle:.1f} s"
    if contents.splits:
        yield "splits: " + ", ".join(f"{name} {k}" for name, k in contents.splits.most_common())
    yield f"{'emotion':<12} {'label':<16} {'utterances':>10} {'minutes':>9}"
    for (emotion, label), each in sorted(contents.seconds.items()):
        yield f"{emotion:<12} {label:<16} {len(each):>10} {sum(each) / 60:>9.1f}"
    yield f"faults: {len(contents.faults)}"
    yield from by_kind(contents.faults)
    if contents.left_out:
        unknown = ", or a fault of an unknown speaker" if contents.speakers_chosen else ""
        why = f"outside the duration limits{unknown}"
        yield f"left out by a run ({why}): {len(contents.left_out)}"
        yield from by_kind(contents.left_out)
    if contents.unknown_tags:
        yield f"unknown marks, read as words: {len(contents.unknown_tags)}"
        for mark, names in list(contents.unknown_tags.items())[:EXAMPLES]:
            known = f" (known: {mark.lower()})" if mark.lower() in COSYVOICE2_TAGS else ""
            yield f"  {mark} {len(names)} times, as in {names[0]}{known}"
    for sentence in contents.stops:
        yield f"a run stops here: {sentence}"


def by_kind(faults: Sequence[Fault]) -> Iterator[str]:
    """The lines of faults: a line for each kind, below it the first `EXAMPLES`."""
    for kind, k in Counter(fault.kind for fault in faults).most_common():
        yield f"  {kind}: {k}"
        examples = [fault for fault in faults if fault.kind == kind][:EXAMPLES]
        yield from (f"    {each.utterance}: {each.where}{_note(each)}" for each in examples)
        if k > EXAMPLES:
            yield f"    and {k - EXAMPLES} more: --faults FILE lists all"


def _note(fault: Fault) -> str:
    """The part of a reason after its colon."""
    note = fault.reason.removeprefix(fault.kind).removeprefix(": ")
    return f" ({note})" if note else ""


def write_faults(contents: Contents, path: Path) -> None:
    """Write all faults as a CSV table: utterance, reason, place, and the action of a run.

    Raises:
        HproError: the file cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(("utterance", "reason", "where", "run"))
    for fault in [*contents.faults, *contents.left_out]:
        action = "stops" if fault.stops else "leaves it out" if fault.left_out else "rejects it"
        writer.writerow((fault.utterance, fault.reason, fault.where, action))
    write_text(path, text.getvalue())
