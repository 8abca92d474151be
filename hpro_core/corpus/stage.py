"""`hpro corpus-read SET`, `hpro corpus-render SET`: write a corpus as 16 kHz audio and tables."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from hpro_core import tables
from hpro_core.corpus.audio import write_wav
from hpro_core.corpus.controlled import render as controlled
from hpro_core.corpus.controlled.sentence_plans import plans, text_plans
from hpro_core.corpus.readers.registry import of_speakers, read_entries
from hpro_core.corpus.recording import MAX_SET_BYTES, Fault, Recording, metadata_faults, summary
from hpro_core.corpus.usable import SINGLE_UTTERANCE, Clip, check_faults, reasons_by_id, sifted
from hpro_core.errors import HproError
from hpro_core.params import Controlled, Corpus, CorpusSet
from hpro_core.text.normalise import normalised_words, transcript_problem

STAGE = "corpus-read"

WORDS_PER_S = 1.8
"""Words of a sentence to render per second of the longest utterance (ours). Slow rendered speech
has about two."""


def read(root: Path, name: str, corpus: Corpus) -> None:
    """Read one corpus of the settings into `root`/corpus/`name`/.

    Writes utterances.parquet, rejected.parquet and audio/<utt_id>.wav.

    Args:
        root: results folder of the run.
        name: key of `corpus.sets`; it becomes the column `corpus` and the prefix of utt_id.
        corpus: section `corpus`; a relative path of a corpus is relative to the working directory.

    Raises:
        HproError: the set is unknown or a rendered one, its metadata cannot be used, no utterance
            is usable, the corpus lacks a listed speaker, or the rejected fraction exceeds
            `corpus.max_rejected_fraction`. Clips outside the limits of duration are listed as
            rejected but do not count.
    """
    chosen = _chosen(corpus, name, rendered=False)
    found = _entries(name, chosen, chosen.reader)
    if problems := metadata_faults(found):
        raise HproError(summary(problems))
    folder = root / "corpus" / name
    clips, faults = _read_files(folder, name, found, corpus)
    check_faults(faults, len(found), corpus.max_rejected_fraction, name)
    lost = reasons_by_id(faults, (clip.recording.utterance for clip in clips))
    rows = [_row(name, clip) for clip in clips]
    utterances = pd.DataFrame(rows, columns=list(tables.UTTERANCES.columns))
    _write(folder, name, utterances, {f"{name}_{each}": why for each, why in lost.items()})


def render(root: Path, name: str, corpus: Corpus, settings: Controlled, workers: int = 2) -> None:
    """Render a controlled corpus into `root`/corpus/`name`/.

    Writes the files of `read`, and the truth tables. The same settings give the same bytes on the
    same machine; they can differ between machines (docs/corpora.md).

    Args:
        root: results folder of the run.
        name: key of `corpus.sets`.
        corpus: section `corpus`: limits of duration and of the rejected fraction.
        settings: section `controlled`.
        workers: number of processes.

    Raises:
        HproError: the set is unknown or not a rendered one, or the rejected fraction exceeds
            `corpus.max_rejected_fraction`.
    """
    chosen = _chosen(corpus, name, rendered=True)
    folder = root / "corpus" / name
    if chosen.texts:
        texts = sentences_to_render(name, chosen, corpus.max_duration_s)
        planned = text_plans(name, texts, settings)
    else:
        planned = plans(name, settings)
    utterances, lost = controlled.render(folder, name, planned, corpus, workers)
    faults = [Fault(utt_id, reason, utt_id) for utt_id, reason in lost.items()]
    check_faults(faults, len(utterances) + len(lost), corpus.max_rejected_fraction, name)
    _write(folder, name, utterances, lost)


def sentences_to_render(name: str, chosen: CorpusSet, max_duration_s: float) -> list[str]:
    """Return the distinct sentences of a corpus, normalised, each with its final mark.

    Sentences of one word, and those that may exceed the limit of duration at `WORDS_PER_S`, are
    left out; their number is printed.

    Args:
        name: name of the set, for messages.
        chosen: the set; `texts` is the reader of the corpus at `path`.
        max_duration_s: longest utterance.

    Raises:
        HproError: the corpus cannot be read, or has no such sentence.
    """
    found: dict[str, str] = {}
    for entry in _entries(name, chosen, chosen.texts):
        if isinstance(entry, Recording) and not transcript_problem(entry.text):
            mark = "?" if entry.text.rstrip(" \"'”’").endswith("?") else "."
            found.setdefault(normalised_words(entry.text), mark)
    most = int(WORDS_PER_S * max_duration_s)
    texts = [f"{w}{mark}" for w, mark in found.items() if 2 <= len(w.split()) <= most]
    if not texts:
        raise HproError(f"corpus.sets.{name}: {chosen.path} has no sentence of 2 to {most} words")
    print(f"{name}: {len(texts)} sentences; left out {len(found) - len(texts)} by their length")
    return texts


def _entries(name: str, chosen: CorpusSet, reader: str) -> list[Recording | Fault]:
    """The utterances of a set's corpus, of the speakers that it has chosen."""
    path = Path(chosen.path)
    return of_speakers(read_entries(reader, path, f"corpus.sets.{name}.path"), chosen, path)


def _chosen(corpus: Corpus, name: str, rendered: bool) -> CorpusSet:
    if name not in corpus.sets:
        raise HproError(f"corpus.sets has no {name!r}; it has: {', '.join(corpus.sets)}")
    chosen = corpus.sets[name]
    if (chosen.reader == "controlled") != rendered:
        command = "corpus-read" if rendered else "corpus-render"
        raise HproError(f"corpus.sets.{name}: reader {chosen.reader!r} is for `hpro {command}`")
    if len(name) > MAX_SET_BYTES:
        raise HproError(f"corpus.sets.{name}: the name has more than {MAX_SET_BYTES} characters")
    if (chosen.texts or not rendered) and not chosen.path:
        raise HproError(f"corpus.sets.{name}.path: '' is not a folder")
    return chosen


def _write(folder: Path, name: str, utterances: pd.DataFrame, lost: dict[str, str]) -> None:
    tables.write_table(utterances, folder / "utterances.parquet", tables.UTTERANCES)
    tables.write_table(
        tables.rejected(lost.items(), STAGE), folder / "rejected.parquet", tables.REJECTED
    )
    print(f"{name}: {len(utterances)} utterances, {utterances.duration_s.sum() / 60:.1f} minutes")


def _read_files(
    folder: Path, name: str, found: Sequence[Recording | Fault], corpus: Corpus
) -> tuple[list[Clip], list[Fault]]:
    """Write the audio of a corpus; return the kept clips and the faults of the others."""
    audio = folder / "audio"
    shutil.rmtree(audio, ignore_errors=True)
    audio.mkdir(parents=True)

    def path_of(utterance: str) -> Path:
        return audio / f"{name}_{utterance}.wav"

    def keep(clip: Clip) -> None:
        write_wav(path_of(clip.recording.utterance), clip.samples_T)

    clips, faults = sifted(found, corpus, f"reading {name}", keep)
    for fault in faults:
        if fault.reason == SINGLE_UTTERANCE:
            path_of(fault.utterance).unlink()
    return clips, faults


def _row(name: str, clip: Clip) -> dict:
    """A row of the `utterances` table."""
    recording = clip.recording
    utt_id = f"{name}_{recording.utterance}"
    return {
        "utt_id": utt_id,
        "corpus": name,
        "speaker": recording.speaker,
        "text": recording.text,
        "words": clip.words,
        "audio": f"corpus/{name}/audio/{utt_id}.wav",
        "duration_s": clip.duration_s,
        "split": recording.split,
        "group": recording.group,
        "emotion": recording.emotion,
        "label": recording.label or None,
    }
