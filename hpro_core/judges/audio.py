"""`hpro judge --audio`: judge the audio of any systems against a list of sentences, without a run.

The output folder has the layout of a run, as far as there is something to write (docs/external.md).
"""

import hashlib
import os
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
from hpro_core.io import check_type, read_json, write_csv_table, write_json, write_text
from hpro_core.judges import affect
from hpro_core.judges.audio_lists import ListedSentence, read_list
from hpro_core.judges.configured import judge_identities
from hpro_core.judges.files import all_affect_published
from hpro_core.judges.panel import JudgePanel
from hpro_core.judges.provenance import JudgeProvenance, common_provenance
from hpro_core.judges.stage import judge_recordings, score, write_judgements
from hpro_core.params import Align, Compute, Evaluate
from hpro_core.pretrained.base import SUMS, unpack_model
from hpro_core.say.sentences import MIN_REFERENCE_S
from hpro_core.synthesis.external import convert, files_by_sentence, import_system
from hpro_core.synthesis.imported import by_reason, import_note
from hpro_core.text.normalise import normalised_words

LIST = "judged_sentences.csv"
"""The judged sentences, in the output folder."""

NOTES = "notes.json"
"""What was left out of the list, in the output folder."""

RECORDINGS = "recordings"
_SEED = 0


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
        out: empty folder to write, see `hpro_core.new_folder`.
        models: the judges.
        align_by: section `align`; word times of the recordings are by pocketsphinx.

    Returns:
        The scores of each system.

    Raises:
        HproError: the list, a folder or a judge's file is not usable.
    """
    if RECORDINGS in folders:
        raise HproError(f"{RECORDINGS!r} is the row of the list's recordings: name it otherwise")
    sentences, notes = _judgeable(read_list(list_path), folders)
    if not all_affect_published(models.settings):
        if not os.path.isfile(models.base / SUMS):
            raise HproError(
                f"{models.base} has no affect judge: run hpro in the folder of the project, or "
                "name a base in params.yaml"
            )
        unpack_model(models.base, "judge", out)
        sentences = _renamed(sentences, affect.known_sets(out / "judge"))
    _write_list(out, sentences)
    listed, prompts, prompt_notes = _with_prompts(out, sentences)
    recorded, recording_notes = _import_recordings(out, sentences, align_by, models)
    write_json(out / NOTES, {"notes": [*notes, *recording_notes, *prompt_notes]})
    for name, folder in folders.items():  # all of them before the first is judged
        import_system(out, name, _SEED, folder, listed)
    scores: Scores = {}
    if recorded:
        _write_recordings(out, listed)
        scores[RECORDINGS] = [_score(out, RECORDINGS, listed, models, prompts)]
    for name in folders:
        scores[name] = [_score(out, name, listed, models, prompts)]
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
    kept = check_type(read_json(out / NOTES).get("notes"), list[str], str(out / NOTES))
    return [*kept, *found.values(), *(note for note in lacking if note)]


def _judgeable(
    listed: Sequence[ListedSentence], folders: Mapping[str, Path]
) -> tuple[list[ListedSentence], list[str]]:
    """Leave out sentences whose text cannot be judged, and test sets that no system has spoken.

    Returns:
        The other sentences, and notes on what is left out.
    """
    wrong = {sentence.utt_id: sentence.problem for sentence in listed if sentence.problem}
    usable = [sentence for sentence in listed if sentence.utt_id not in wrong]
    notes = [f"Left out of the list: {', '.join(by_reason(wrong))}."] if wrong else []
    if not usable:
        first = listed[0]
        raise HproError(f"{first.where}: {first.problem}; no sentence of the list is left")
    ids = [sentence.utt_id for sentence in usable]
    spoken = {utt_id for folder in folders.values() for utt_id in files_by_sentence(folder, ids)[0]}
    sets = {sentence.test_set for sentence in usable if sentence.utt_id in spoken}
    if not sets:
        folder = next(iter(folders.values()))
        raise HproError(f"{folder}: no file is named as a sentence of the list ({ids[0]}.wav)")
    if unspoken := sorted({sentence.test_set for sentence in usable} - sets):
        notes.append(f"Test sets without any audio are left out: {', '.join(unspoken)}.")
    return [sentence for sentence in usable if sentence.test_set in sets], notes


def _write_list(out: Path, sentences: Sequence[ListedSentence]) -> None:
    rows = [
        {"utterance": s.utt_id, "text": s.text, "test_set": s.test_set, "listed_in": s.where}
        for s in sentences
    ]
    write_text(out / LIST, pd.DataFrame(rows).to_csv(index=False))


def _renamed(sentences: Sequence[ListedSentence], known: Mapping[str, int]) -> list[ListedSentence]:
    """Rename test sets that have the name of a corpus that the affect judge was trained on.

    The judge would take that corpus's channel scale for them.
    """
    taken = {*known, *(sentence.test_set for sentence in sentences)}
    names: dict[str, str] = {}
    for name in sorted(taken & known.keys()):
        free = f"{name}_listed"
        while free in taken:
            free = f"{free}_listed"
        taken.add(free)
        names[name] = free
    return [replace(s, test_set=names.get(s.test_set, s.test_set)) for s in sentences]


def _import_recordings(
    out: Path, sentences: Sequence[ListedSentence], align_by: Align, models: JudgeModels
) -> tuple[bool, list[str]]:
    """Write the tables of the recordings and their judged affect.

    Returns:
        Whether any is usable, and notes on those that are not.
    """
    files = {s.utt_id: [s.recording] for s in sentences if s.recording is not None}
    folder = out / "corpus" / "audio"
    durations, lost = convert(files, list(files), folder, "recordings: import")
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
        refused = tables.read_table(out / "align" / "rejected.parquet", tables.REJECTED)
        lost |= dict(zip(refused["utt_id"], refused["reason"], strict=True))
        table = table[~table["utt_id"].isin(list(refused["utt_id"]))]
        tables.write_table(table, path, tables.UTTERANCES)
    print(f"recordings: {len(table)} of {len(sentences)} sentences", flush=True)
    notes = [f"Unusable recordings: {', '.join(by_reason(lost))}."] if lost else []
    if not files:
        notes = ["The list has no recordings, so nothing is compared with a recording."]
    if table.empty:
        tables.write_table(tables.empty(tables.WORDS), out / "align/words.parquet", tables.WORDS)
        write_judgements(out / "judge" / "recordings", {})
        affect.write_scales(out / "judge" / "recordings" / affect.SCALES, {})
        return False, notes
    judge_recordings(out, models.settings, models.weights, models.compute, models.work, frozenset())
    return True, notes


def _with_prompts(
    out: Path, sentences: Sequence[ListedSentence]
) -> tuple[pd.DataFrame, dict[str, str], list[str]]:
    """The sentences as rows of a SYNTHESIS table, the prompts' files by their ids, and notes."""
    names = {s.reference: _prompt_id(s.reference) for s in sentences if s.reference is not None}
    files = {name: [path] for path, name in names.items()}
    label = "prompts: import"
    durations, lost = convert(files, list(files), out / "prompts", label, MIN_REFERENCE_S)
    shown = {files[name][0].name: reason for name, reason in lost.items()}
    notes = []
    if shown:
        notes = [f"No speaker similarity with unusable prompts: {', '.join(by_reason(shown))}."]
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
    return pd.DataFrame(rows, dtype=object), prompts, notes


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


def _score(
    out: Path,
    system: str,
    listed: pd.DataFrame,
    models: JudgeModels,
    prompts: Mapping[str, str],
) -> pd.DataFrame:
    work = models.work / system
    panel = JudgePanel(out, models.settings, models.weights, models.compute, work, prompts)
    provenance = JudgeProvenance(judge_identities(out, models.settings), {})
    folder = out / "eval" / system / f"seed{_SEED}"
    scores = score(panel, folder, system, _SEED, models.settings, provenance, listed)
    return scores.sort_values("utt_id").reset_index(drop=True)


def _write_tables(out: Path, scores: Scores, systems: Sequence[str], settings: Evaluate) -> None:
    """Write tables/comparison.{csv,md} and the differences of the systems from the first one."""
    table = summarise(scores, settings.bootstrap_samples, settings.seed)
    write_csv_table(table, out / "tables" / "comparison.csv")
    notes = "".join(f"\n{note}\n" for note in [COUNTS_NOTE, *notes_of(out, list(scores))])
    write_text(out / "tables" / "comparison.md", markdown(table) + notes)
    gaps = differences(scores, systems[1:], systems[0], settings)
    write_csv_table(gaps, out / "tables" / "differences.csv")
