"""Forced alignment with the Montreal Forced Aligner, the program `mfa` of its conda environment.

Traps of MFA that are handled here:

- Its working folder and database are keyed by the corpus folder's NAME, so two runs side by side
  would share them: every run has its own MFA_ROOT_DIR and --temporary_directory.
- With an MFA_ROOT_DIR of our own, models that the user downloaded are out of its sight: names are
  looked up in the user's folder and passed as paths.
- `mfa train` writes <dictionary name>.dict beside the model and would overwrite the user's own
  dictionary there: the model goes into a folder of its own.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hpro_core.align.jobs import Job, Outcome
from hpro_core.align.matching import match_words
from hpro_core.align.spans import WordSpan
from hpro_core.align.textgrid import Interval, read_words
from hpro_core.errors import HproError
from hpro_core.params import Align

ENVIRONMENT = "workflow/envs/mfa.yaml"
LINES_IN_ERROR = 5


def align_all(jobs: list[Job], settings: Align, threads: int, folder: Path) -> Iterator[Outcome]:
    """Align a corpus with one `mfa` run, and yield what came out in the order of the jobs.

    Args:
        jobs: utterances; all words [a-z'].
        settings: the command, and the names or paths of model and dictionary. Without a model one
            is trained on these utterances and left in `folder`/mfa_model/.
        threads: jobs of MFA.
        folder: where mfa.log and a trained model are written.

    Raises:
        HproError: `mfa`, the model or the dictionary is missing, or MFA failed.
    """
    command = program(settings.mfa_command)
    dictionary = model_path(settings.mfa_dictionary, "dictionary", ".dict")
    model = settings.mfa_acoustic_model
    acoustic = model_path(model, "acoustic", ".zip") if model else None
    with tempfile.TemporaryDirectory(prefix="mfa_", dir=folder, ignore_cleanup_errors=True) as name:
        work = Path(name).resolve()
        placed = _lay_out(jobs, work / "corpus")
        output = work / "textgrids"
        arguments = _arguments(work, dictionary, acoustic, output, folder)
        options = ["--temporary_directory", str(work / "temporary"), "-j", str(threads)]
        options += ["--clean", "--final_clean", "--output_format", "long_textgrid"]
        _execute([*command, *arguments, *options], work / "root", folder / "mfa.log")
        for job in jobs:
            yield _outcome(job, output / placed[job.utt_id].with_suffix(".TextGrid"))


def _arguments(
    work: Path, dictionary: Path, acoustic: Path | None, output: Path, folder: Path
) -> list[str]:
    """`align` with a model, or `train` without one."""
    if acoustic:
        return ["align", str(work / "corpus"), str(dictionary), str(acoustic), str(output)]
    own = folder.resolve() / "mfa_model"
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir()
    trained = str(own / "acoustic.zip")
    source = [str(work / "corpus"), str(dictionary), trained]
    return ["train", *source, "--output_directory", str(output)]


def program(command: str) -> list[str]:
    """The command as a list, `mfa` or for example `conda run -n mfa mfa`."""
    parts = shlex.split(command)
    if not parts or shutil.which(parts[0]) is None:
        raise HproError(
            f"align.mfa_command: {command!r} is not on PATH: create the environment with "
            f"`conda env create -f {ENVIRONMENT}` and set `conda run -n mfa mfa`, or run Snakemake "
            "with --use-conda, or set align.backend: pocketsphinx"
        )
    return parts


def model_path(name: str, kind: str, suffix: str) -> Path:
    """A file that exists, or a model of that name among those that the user downloaded."""
    home = Path(os.environ.get("MFA_ROOT_DIR", Path.home() / "Documents" / "MFA"))
    downloaded = home / "pretrained_models" / kind / f"{name}{suffix}"
    for path in (Path(name), downloaded):
        if name and path.is_file():
            return path.resolve()
    raise HproError(
        f"MFA {kind} model {name!r} is neither a file nor {downloaded}: "
        f"run `mfa model download {kind} {name or 'NAME'}` or give the path of a {suffix} file"
    )


def _lay_out(jobs: list[Job], corpus: Path) -> dict[str, Path]:
    """One folder per speaker, as MFA wants it for speaker adaptation; audio is linked, not copied.

    Returns:
        utt_id -> path of its audio relative to `corpus`.
    """
    speakers = sorted({job.speaker for job in jobs})
    folders = {
        speaker: f"{number:04d}_{re.sub('[^A-Za-z0-9]+', '_', speaker)}"
        for number, speaker in enumerate(speakers)
    }
    placed = {job.utt_id: Path(folders[job.speaker], f"{job.utt_id}.wav") for job in jobs}
    for job in jobs:
        path = corpus / placed[job.utt_id]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(job.audio.resolve())
        path.with_suffix(".lab").write_text(" ".join(job.words) + "\n", encoding="utf-8")
    return placed


def _execute(command: list[str], root: Path, log: Path) -> None:
    """Run MFA; what it says goes to the log and, as it comes, to stderr."""
    root.mkdir()
    environment = {**os.environ, "MFA_ROOT_DIR": str(root)}
    tail: list[str] = []
    with (
        log.open("w", encoding="utf-8") as file,
        subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
        ) as process,
    ):
        print(shlex.join(command), file=file, flush=True)
        assert process.stdout is not None
        for line in process.stdout:
            file.write(line)
            sys.stderr.write(line)
            tail = [*tail, line.strip()][-LINES_IN_ERROR:] if line.strip() else tail
    if process.returncode != 0:
        raise HproError(
            f"mfa ended with status {process.returncode}; its output is in {log}: "
            + " | ".join(tail)
        )


def _outcome(job: Job, grid: Path) -> Outcome:
    """Read what MFA wrote for one utterance."""
    if not grid.is_file():
        return Outcome(job.utt_id, reason="MFA wrote no TextGrid: the words do not fit the audio")
    found = match_words(list(job.words), read_words(grid))
    spans = [_span(word, interval) for word, interval in zip(job.words, found, strict=True)]
    lost = [word for word, span in zip(job.words, spans, strict=True) if span is None]
    if lost:
        return Outcome(job.utt_id, reason=f"MFA's TextGrid has no interval for {lost[0]!r}")
    unknown = {interval.label for interval in found if interval and interval.is_spn}
    return Outcome(
        job.utt_id,
        tuple(span for span in spans if span),
        unknown_words=tuple(sorted(unknown)),
    )


def _span(word: str, interval: Interval | None) -> WordSpan | None:
    if interval is None or interval.end_s <= interval.start_s:
        return None
    return WordSpan(word, interval.start_s, interval.end_s)
