"""Speech of other systems: the test sentences that they are to speak, and import of their audio.

An external system is a folder of audio files, one per sentence, named by the sentence's id. The
import converts them to 16 kHz WAV and writes the table that synthesis writes, so that judges,
tables and report treat the system as any other.
"""

import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile

from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.corpus.audio import MAX_DURATION_S, decode_file, write_wav
from hpro_core.corpus.containers import Unusable
from hpro_core.corpus.recording import printable
from hpro_core.corpus.walk import entries_of, is_folder
from hpro_core.errors import HproError
from hpro_core.io import (
    read_bytes,
    write_bytes,
    write_json,
    write_text,
)
from hpro_core.new_folder import check_new
from hpro_core.progress import track
from hpro_core.synthesis.imported import IMPORT, NO_FILE, by_reason, first_names
from hpro_core.tables import SYNTHESIS, UTTERANCES, read_table, write_table

MIN_DURATION_S = 0.1
"""Shortest audio of a system, in seconds: the minimum of the affect models. It may be a bad
synthesis, but judges of quality give any clip a score."""

SUFFIXES = frozenset(
    {f".{name.lower()}" for name in soundfile.available_formats()}
    | {".aif", ".aifc", ".oga", ".opus", ".snd", ".sph"}
) - {".raw", ".htk", ".mat4", ".mat5"}  # fmt: skip
"""Suffixes of audio files that libsndfile reads without further information."""


@dataclass(frozen=True)
class Imported:
    """Outcome of the import of an audio folder.

    Attributes:
        duration_s: utt_id -> duration of its audio in seconds.
        without_audio: utt_id -> why it has no usable audio.
        surplus: names of the files that are of no sentence.
    """

    duration_s: dict[str, float]
    without_audio: dict[str, str]
    surplus: list[str]

    def describe(self, system: str) -> str:
        """Return the counts in one line: what is missing, unusable and surplus, with names."""
        total = len(self.duration_s) + len(self.without_audio)
        parts = [f"{system}: audio of {len(self.duration_s)} of {total} sentences"]
        parts += by_reason(self.without_audio)
        if self.surplus:
            parts.append(f"surplus files: {len(self.surplus)} ({first_names(self.surplus)})")
        return "; ".join(parts)


def import_run(root: Path, system: str, seed: int, folder: Path) -> None:
    """Import an external system's audio of the test sentences of a run.

    Reads eval/recordings/seed<k>/synthesis.parquet, which lists the test sentences and their
    reference recordings. Writes audio/, synthesis.parquet and import.json to
    eval/<system>/seed<k>/.

    Args:
        root: results folder of the run.
        system: name of the system, a key of `external`.
        seed: first policy seed of the run.
        folder: audio files, named <utt_id> and any suffix of `SUFFIXES`.

    Raises:
        HproError: the folder is missing or inside the results of the run, a system of the run has
            this name, or no sentence has usable audio.
    """
    if (root / "eval" / system / f"seed{seed}" / "record_synthesise.json").is_file():
        raise HproError(
            f"{root}/eval/{system} is of a system of this run: rename external.{system}"
        )
    if os.path.realpath(folder).startswith(os.path.join(os.path.realpath(root), "")):
        raise HproError(
            f"external.{system}: {folder} is inside the results of the run, which the import "
            "writes: copy the audio elsewhere"
        )
    path = root / "eval" / "recordings" / f"seed{seed}" / "synthesis.parquet"
    import_system(root, system, seed, folder, read_table(path, SYNTHESIS))


def import_system(
    root: Path, system: str, seed: int, folder: Path, sentences: pd.DataFrame
) -> Imported:
    """Import an external system's audio of listed sentences; see `import_run`.

    Args:
        root: results folder.
        system: name of the system.
        seed: number of its folder.
        folder: its audio files.
        sentences: columns of a SYNTHESIS table; audio, duration_s, n_tokens and stopped are
            replaced.

    Raises:
        HproError: the folder is missing, or no sentence has usable audio.
    """
    inside = Path("eval") / system / f"seed{seed}"
    found = import_audio(folder, list(sentences["utt_id"]), root / inside / "audio", system)
    print(found.describe(system), flush=True)
    rows = sentences[sentences["utt_id"].isin(list(found.duration_s))]
    synthesis = rows.assign(
        audio=[f"{inside}/audio/{utt_id}.wav" for utt_id in rows["utt_id"]],
        duration_s=rows["utt_id"].map(found.duration_s),
        n_tokens=0,  # not known of an external system
        stopped=True,
    )
    write_table(synthesis[list(SYNTHESIS.columns)], root / inside / "synthesis.parquet", SYNTHESIS)
    sets = dict(zip(sentences["utt_id"], sentences["corpus"], strict=True))
    outcome = {
        "sentences": len(sentences),
        "with_audio": len(found.duration_s),
        "without_audio": {
            utt_id: {"test_set": sets[utt_id], "reason": reason}
            for utt_id, reason in found.without_audio.items()
        },
        "surplus_files": found.surplus,
    }
    write_json(root / inside / IMPORT, outcome)
    return found


def import_audio(folder: Path, utt_ids: Sequence[str], out: Path, label: str) -> Imported:
    """Convert the audio files of sentences to 16 kHz WAV in a new folder.

    Args:
        folder: audio files at any rate and with any number of channels.
        utt_ids: ids of the sentences: stems of the files.
        out: folder for <utt_id>.wav; an old one is replaced.
        label: label of the progress line.

    Raises:
        HproError: the folder is missing, or no sentence has usable audio.
    """
    files, surplus = files_by_sentence(folder, utt_ids)
    shutil.rmtree(out, ignore_errors=True)
    durations, lost = convert(files, utt_ids, out, f"{label}: import")
    found = Imported(durations, lost, surplus)
    if not durations:
        raise HproError(
            f"{folder}: no audio of any sentence: name each file by its sentence, for example "
            f"{utt_ids[0]}.wav ({found.describe(label)})"
        )
    return found


def convert(
    files: Mapping[str, Sequence[Path]],
    names: Sequence[str],
    out: Path,
    label: str,
    min_duration_s: float = MIN_DURATION_S,
) -> tuple[dict[str, float], dict[str, str]]:
    """Convert audio files to 16 kHz WAV, `out`/<name>.wav.

    Args:
        files: name -> its audio file; several are a fault.
        names: names to convert, in this order.
        out: folder, which is created.
        label: label of the progress line.
        min_duration_s: shorter audio is a fault.

    Returns:
        Name -> duration in seconds, and name -> why there is no usable audio.
    """
    out.mkdir(parents=True, exist_ok=True)
    durations: dict[str, float] = {}
    lost: dict[str, str] = {}
    for name in track(names, len(names), label):
        try:
            samples_T = _decoded(files.get(name, ()), min_duration_s)
        except Unusable as error:
            lost[name] = str(error)
            continue
        write_wav(out / f"{name}.wav", samples_T)
        durations[name] = len(samples_T) / SAMPLE_RATE_HZ
    return durations, lost


def _decoded(files: Sequence[Path], min_duration_s: float) -> np.ndarray:
    if not files or not os.path.lexists(files[0]):
        raise Unusable(NO_FILE)
    if len(files) > 1:
        raise Unusable(f"several audio files: {', '.join(path.name for path in files)}")
    if not os.path.isfile(files[0]):
        raise Unusable("not a file but a folder, a pipe or a broken link")
    samples_T = decode_file(files[0], MAX_DURATION_S)
    if len(samples_T) < min_duration_s * SAMPLE_RATE_HZ:
        raise Unusable(f"shorter than {min_duration_s:g} s")
    return samples_T


def files_by_sentence(
    folder: Path, utt_ids: Iterable[str]
) -> tuple[dict[str, list[Path]], list[str]]:
    """Return the audio files of each sentence, and the names of the audio files of no sentence.

    Raises:
        HproError: the folder is missing or has no audio file.
    """
    if not os.path.isdir(folder):
        raise HproError(f"{folder} is not a folder: name the folder of the system's audio files")
    wanted = set(utt_ids)
    entries = entries_of(folder)
    audio = [entry.name for entry in entries if Path(entry.name).suffix.lower() in SUFFIXES]
    if not audio:
        inner = [printable(entry.name) for entry in entries if is_folder(entry)]
        hint = f"; it has the folders {first_names(inner)}: name one of them" if inner else ""
        raise HproError(f"{folder} has no audio file{hint}")
    files: dict[str, list[Path]] = {}
    surplus = []
    for name in audio:
        stem = Path(name).stem
        if stem in wanted:
            files.setdefault(stem, []).append(folder / name)
        else:
            surplus.append(printable(name))
    return files, surplus


def write_test_list(root: Path, out: Path) -> None:
    """Write the test sentences of a run for other systems to speak.

    `out` gets sentences.csv and meta.lst (the format of seed-tts-eval: id, text of the prompt,
    audio of the prompt, text to speak, recording of it), and the audio that they name. Prompts are
    the reference recordings that the run's own policies get.

    Raises:
        HproError: `out` is not new or empty, the run has no synthesised recordings, or a file
            cannot be written.
    """
    check_new(out)
    paths = sorted(root.glob("eval/recordings/seed*/synthesis.parquet"))
    if not paths:
        raise HproError(
            f"{root} has no eval/recordings/seed*/synthesis.parquet: name the results folder of a "
            "finished run"
        )
    sentences = read_table(paths[0], SYNTHESIS)
    utterances = read_table(root / "corpus" / "utterances.parquet", UTTERANCES)
    known = {row["utt_id"]: row for row in utterances.to_dict("records")}
    rows, lines, unlisted = [], [], []
    for row in sentences.to_dict("records"):
        prompt = _prompt(known, row)
        recording = _copy(root / row["audio"], out / "recordings", row["utt_id"])
        reference = _copy(root / prompt["audio"], out / "prompts", prompt["utt_id"])
        text, prompt_text = (re.sub(r"\s+", " ", each["text"]) for each in (row, prompt))
        rows.append({
            "utterance": row["utt_id"], "text": text, "reference": reference,
            "recording": recording, "test_set": row["corpus"],
        })  # fmt: skip
        cells = [row["utt_id"], prompt_text, reference, text, recording]
        if any("|" in cell for cell in cells):
            unlisted.append(row["utt_id"])
        else:
            lines.append("|".join(cells))
    write_text(out / "sentences.csv", pd.DataFrame(rows).to_csv(index=False))
    write_text(out / "meta.lst", "".join(f"{line}\n" for line in lines))
    print(f"{out}: {len(rows)} sentences in sentences.csv, {len(lines)} in meta.lst")
    if unlisted:
        print(f"not in meta.lst, since a text has '|': {first_names(unlisted)}")


def _prompt(known: Mapping[str, Any], row: Mapping[Any, Any]) -> Mapping[str, Any]:
    if row["reference"] not in known:
        raise HproError(f"{row['utt_id']} has no reference in corpus/utterances.parquet")
    return known[row["reference"]]


def _copy(source: Path, folder: Path, utt_id: str) -> str:
    """Copy a WAV file to a folder of the list; returns its path relative to the list."""
    target = folder / f"{utt_id}.wav"
    if not target.is_file():
        write_bytes(target, read_bytes(source, "run Snakemake again"))
    return f"{folder.name}/{target.name}"
