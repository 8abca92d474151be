"""`hpro judge --audio`: judge the audio of any systems against a list of sentences, without a run.

The output folder has the layout of a run, as far as there is something to write (docs/external.md).
"""

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from hpro_core import tables
from hpro_core.align.stage import run as align
from hpro_core.analysis.tables import (
    COUNTS_NOTE,
    Scores,
    differences,
    markdown,
    summarise,
)
from hpro_core.errors import HproError
from hpro_core.io import write_csv_table, write_text
from hpro_core.judges import affect
from hpro_core.judges.audio_lists import ListedSentence, read_list
from hpro_core.judges.configured import judge_identities
from hpro_core.judges.files import all_affect_published
from hpro_core.judges.panel import JudgePanel
from hpro_core.judges.provenance import JudgeProvenance, common_provenance
from hpro_core.judges.stage import judge_recordings, score, write_judgements
from hpro_core.params import Align, Compute, Evaluate
from hpro_core.pretrained.base import unpack_model
from hpro_core.synthesis.external import convert, files_by_sentence, import_system
from hpro_core.synthesis.imported import import_note
from hpro_core.text.normalise import normalised_words

LIST = "judged_sentences.csv"
"""The judged sentences, in the output folder; marks a folder of `hpro judge --audio`."""

FOLDERS = ("align", "corpus", "eval", "judge", "prompts", "report", "tables")
"""Folders of the output."""

RECORDINGS = "recordings"
_SEED = 0
_NAMED = 5


@dataclass(frozen=True)
class JudgeModels:
    """What the judges are loaded from.

    Attributes:
        settings: section `evaluate`.
        compute: CPU threads and device.
        base: folder of the base with the embedded affect judge.
        weights: folder of the downloaded weights.
        work: folder for the shards of the published judges.
    """

    settings: Evaluate
    compute: Compute
    base: Path
    weights: Path
    work: Path


def judge_audio(
    folders: Mapping[str, Path], list_path: Path, out: Path, models: JudgeModels, align_by: Align
) -> Scores:
    """Judge the audio of systems and write scores, tables and a report.

    Without recordings of the sentences, the columns that compare with a recording are empty; a
    sentence without prompt has no speaker similarity. Sentences without usable audio of a system
    are named in its import.json and below the tables.

    Args:
        folders: name of each system -> folder of its audio files, named by the ids of the list.
        list_path: list of sentences, see `read_list`.
        out: folder to write; an earlier output of this function is replaced.
        models: the judges.
        align_by: section `align`; word times of the recordings are by pocketsphinx.

    Returns:
        The scores of each system.

    Raises:
        HproError: the list, a folder, a judge's file or `out` is not usable.
    """
    if RECORDINGS in folders:
        raise HproError(f"{RECORDINGS!r} is the row of the list's recordings: name it otherwise")
    sentences = _judgeable(read_list(list_path), folders)
    for folder in (*folders.values(), list_path.parent):
        if out.resolve() == folder.resolve():
            raise HproError(f"{out} holds an input: name another folder, --out FOLDER")
    _prepare(out, sentences)
    if not all_affect_published(models.settings):
        unpack_model(models.base, "judge", out)
        sentences = _renamed(sentences, affect.known_sets(out / "judge"))
    recorded = _import_recordings(out, sentences, align_by, models)
    listed, prompts = _with_prompts(out, sentences)
    scores: Scores = {}
    if recorded:
        _write_recordings(out, listed)
        scores[RECORDINGS] = [_score(out, RECORDINGS, models, prompts)]
    for name, folder in folders.items():
        import_system(out, name, _SEED, folder, listed)
        scores[name] = [_score(out, name, models, prompts)]
    _write_tables(out, scores, list(folders), models.settings)
    return scores


def notes_of(out: Path, systems: Sequence[str]) -> list[str]:
    """Return the notes below the table: what is not judged, and what each system lacks.

    Args:
        out: output folder of `judge_audio`.
        systems: rows of the table.

    Raises:
        HproError: a system was not judged.
    """
    folders = [out / "eval" / name / f"seed{_SEED}" for name in systems]
    found = common_provenance([folder / "metrics.json" for folder in folders]).affect_notes
    lacking = (import_note(folder, name) for folder, name in zip(folders, systems, strict=True))
    notes = [*found.values(), *(note for note in lacking if note)]
    if RECORDINGS not in systems:
        notes.insert(0, "The list has no recordings, so nothing is compared with a recording.")
    return notes


def _judgeable(
    listed: Sequence[ListedSentence], folders: Mapping[str, Path]
) -> list[ListedSentence]:
    """Leave out sentences whose text cannot be judged, and test sets that no system has spoken."""
    wrong = [sentence for sentence in listed if sentence.problem]
    for sentence in wrong[:_NAMED]:
        print(f"left out: {sentence.where}: {sentence.problem}: {sentence.text[:80]!r}")
    if len(wrong) > _NAMED:
        print(f"left out: {len(wrong) - _NAMED} more sentences")
    usable = [sentence for sentence in listed if not sentence.problem]
    if not usable:
        raise HproError(f"{wrong[0].where}: {wrong[0].problem}; no sentence of the list is left")
    ids = [sentence.utt_id for sentence in usable]
    spoken = {utt_id for folder in folders.values() for utt_id in files_by_sentence(folder, ids)[0]}
    sets = {sentence.test_set for sentence in usable if sentence.utt_id in spoken}
    if unspoken := sorted({sentence.test_set for sentence in usable} - sets):
        if not sets:
            folder = next(iter(folders.values()))
            raise HproError(f"{folder}: no file is named as a sentence of the list ({ids[0]}.wav)")
        print(f"left out: test sets without any audio: {', '.join(unspoken)}")
    return [sentence for sentence in usable if sentence.test_set in sets]


def _prepare(out: Path, sentences: Sequence[ListedSentence]) -> None:
    """Remove an earlier output, and write the list."""
    if out.exists() and not (out / LIST).is_file() and any(out.iterdir()):
        raise HproError(f"{out} has other files: name another folder, --out FOLDER")
    for name in FOLDERS:
        shutil.rmtree(out / name, ignore_errors=True)
    rows = [
        {"utterance": s.utt_id, "text": s.text, "test_set": s.test_set, "listed_in": s.where}
        for s in sentences
    ]
    write_text(out / LIST, pd.DataFrame(rows).to_csv(index=False))


def _renamed(sentences: Sequence[ListedSentence], known: Mapping[str, int]) -> list[ListedSentence]:
    """Rename test sets that have the name of a corpus that the affect judge was trained on.

    The judge would take that corpus's channel scale for them.
    """
    return [
        replace(s, test_set=f"{s.test_set}_listed") if s.test_set in known else s for s in sentences
    ]


def _import_recordings(
    out: Path, sentences: Sequence[ListedSentence], align_by: Align, models: JudgeModels
) -> bool:
    """Write the tables of the recordings and their judged affect; False if there are none."""
    files = {s.utt_id: [s.recording] for s in sentences if s.recording is not None}
    folder = out / "corpus" / "audio"
    durations, lost = convert(files, list(files), folder, "recordings: import")
    for utt_id, reason in list(lost.items())[:_NAMED]:
        print(f"recording of {utt_id}: {reason}: {files[utt_id][0]}")
    rows = [
        {
            "utt_id": s.utt_id, "corpus": s.test_set, "speaker": "unknown", "text": s.text,
            "words": normalised_words(s.text), "audio": f"corpus/audio/{s.utt_id}.wav",
            "duration_s": durations[s.utt_id], "split": "test", "group": s.utt_id,
            "emotion": None, "label": None,
        }
        for s in sentences
        if s.utt_id in durations
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=list(tables.UTTERANCES.columns), dtype=object)
    path = out / "corpus" / "utterances.parquet"
    tables.write_table(table, path, tables.UTTERANCES)
    if rows:
        wanted = {"backend": "pocketsphinx", "max_rejected_fraction": 1.0}
        align(out, align_by.model_copy(update=wanted), models.compute.threads)
        words = tables.read_table(out / "align" / "words.parquet", tables.WORDS)
        table = table[table["utt_id"].isin(set(words["utt_id"]))]
        tables.write_table(table, path, tables.UTTERANCES)
    print(f"recordings: {len(table)} of {len(sentences)} sentences, with the words found in them")
    if table.empty:
        tables.write_table(tables.empty(tables.WORDS), out / "align/words.parquet", tables.WORDS)
        write_judgements(out / "judge" / "recordings", {})
        affect.write_scales(out / "judge" / "recordings" / affect.SCALES, {})
        return False
    judge_recordings(out, models.settings, models.weights, models.compute, models.work, frozenset())
    return True


def _with_prompts(
    out: Path, sentences: Sequence[ListedSentence]
) -> tuple[pd.DataFrame, dict[str, str]]:
    """The sentences as rows of a SYNTHESIS table, and the prompts' audio files by their ids."""
    names = {s.reference: _prompt_id(s.reference) for s in sentences if s.reference is not None}
    files = {name: [path] for path, name in names.items()}
    durations, lost = convert(files, list(files), out / "prompts", "prompts: import")
    for name, reason in list(lost.items())[:_NAMED]:
        print(f"prompt {files[name][0]}: {reason}: no speaker similarity with it")
    prompt_of = {
        s.utt_id: names[s.reference]
        for s in sentences
        if s.reference is not None and names[s.reference] in durations
    }
    rows = [
        {
            "utt_id": s.utt_id, "corpus": s.test_set, "text": s.text,
            "speaker": "unknown" if s.reference is None else s.reference.stem,
            "words": normalised_words(s.text), "audio": f"corpus/audio/{s.utt_id}.wav",
            "reference": prompt_of.get(s.utt_id),
        }
        for s in sentences
    ]  # fmt: skip
    prompts = {name: f"prompts/{name}.wav" for name in durations}
    return pd.DataFrame(rows, dtype=object), prompts


def _prompt_id(path: Path) -> str:
    return f"prompt-{hashlib.sha256(str(path).encode(errors='surrogateescape')).hexdigest()[:16]}"


def _write_recordings(out: Path, listed: pd.DataFrame) -> None:
    """Write the recordings as a system, eval/recordings."""
    own = tables.read_table(out / "corpus" / "utterances.parquet", tables.UTTERANCES)
    rows = listed[listed["utt_id"].isin(list(own["utt_id"]))]
    durations = dict(zip(own["utt_id"], own["duration_s"], strict=True))
    table = rows.assign(duration_s=rows["utt_id"].map(durations), n_tokens=0, stopped=True)
    path = out / "eval" / RECORDINGS / f"seed{_SEED}" / "synthesis.parquet"
    tables.write_table(table[list(tables.SYNTHESIS.columns)], path, tables.SYNTHESIS)


def _score(out: Path, system: str, models: JudgeModels, prompts: Mapping[str, str]) -> pd.DataFrame:
    work = models.work / system
    panel = JudgePanel(out, models.settings, models.weights, models.compute, work, prompts)
    provenance = JudgeProvenance(judge_identities(out, models.settings), {})
    folder = out / "eval" / system / f"seed{_SEED}"
    scores = score(panel, folder, system, _SEED, models.settings, provenance)
    return scores.sort_values("utt_id").reset_index(drop=True)


def _write_tables(out: Path, scores: Scores, systems: Sequence[str], settings: Evaluate) -> None:
    """Write tables/comparison.{csv,md} and the differences of the systems from the first one."""
    table = summarise(scores, settings.bootstrap_samples, settings.seed)
    write_csv_table(table, out / "tables" / "comparison.csv")
    notes = "".join(f"\n{note}\n" for note in [COUNTS_NOTE, *notes_of(out, list(scores))])
    write_text(out / "tables" / "comparison.md", markdown(table) + notes)
    gaps = differences(scores, systems[1:], systems[0], settings)
    write_csv_table(gaps, out / "tables" / "differences.csv")
