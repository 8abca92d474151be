"""Forced alignment with the Montreal Forced Aligner, the program `mfa` of its conda environment.

Handled behaviour of MFA:

- Its working folder and database are keyed by the corpus folder's NAME, so concurrent runs would
  share them. Every run has its own MFA_ROOT_DIR and --temporary_directory.
- With a separate MFA_ROOT_DIR, MFA does not find models that the user downloaded. Names are
  resolved in the user's folder and passed as paths (mfa_models.py).
- `mfa train` writes <dictionary name>.dict beside the model and would overwrite a dictionary of the
  user there. The model is written to a separate folder.
- `mfa align` tokenises words with a spaCy model if the acoustic model names its language, and
  downloads that model during the job. Our words are tokenised already (--no_tokenization).
- 3.4.0 and 3.4.1 write the quality table on request only (--output_analysis); 3.3.9 always writes
  it and ignores the option.
"""

import re
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from hpro_core.align.jobs import Job, Outcome, WordSpan
from hpro_core.align.matching import match_words
from hpro_core.align.mfa_models import required_models
from hpro_core.align.mfa_program import execute, program
from hpro_core.align.mfa_quality import ANALYSIS, Quality, read_analysis, refusal
from hpro_core.align.textgrid import Interval, read_words
from hpro_core.errors import HproError
from hpro_core.io import read_text
from hpro_core.params import Align

EXAMPLES = 8
"""Number of words of the G2P model that are printed with their phones."""


def align_all(jobs: list[Job], settings: Align, threads: int, folder: Path) -> Iterator[Outcome]:
    """Align a corpus with one `mfa` run; yields one outcome for each job, in the order of the jobs.

    Args:
        jobs: utterances; all words [a-z'].
        settings: the command, names or paths of models and dictionary, limits of quality. Without
            an acoustic model, one is trained on these utterances and kept in `folder`/mfa_model/.
        threads: number of MFA's jobs.
        folder: output folder of mfa.log, MFA's quality table and a trained model.

    Raises:
        HproError: `mfa`, a model or the dictionary is missing, or MFA failed.
    """
    command = program(settings.mfa_command)
    models = {model.kind: model.path() for model in required_models(settings)}
    pronounced: dict[str, str] = {}
    with tempfile.TemporaryDirectory(
        prefix="mfa_work_", dir=folder, ignore_cleanup_errors=True
    ) as name:
        work = Path(name).resolve()
        placed = _write_mfa_corpus(jobs, work / "corpus")
        arguments = [*_arguments(work, models, folder), *_options(work, models, threads)]
        with (folder / "mfa.log").open("w", encoding="utf-8") as log:
            execute([*command, *arguments], log, root=work / "root")
        output = work / "textgrids"
        quality = read_analysis(output / ANALYSIS)
        shutil.copy(output / ANALYSIS, folder)
        entries = _entries(models["dictionary"]) if "g2p" in models else None
        for job in jobs:
            grid = output / placed[job.utt_id].with_suffix(".TextGrid")
            outcome = _outcome(job, grid, quality.get(job.utt_id), settings, entries)
            pronounced.update(outcome.pronounced)
            yield outcome
    if entries is not None:
        print(_g2p_summary(pronounced))


def _arguments(work: Path, models: Mapping[str, Path], folder: Path) -> list[str]:
    """Arguments of `mfa align` with an acoustic model, of `mfa train` without one."""
    source = [str(work / "corpus"), str(models["dictionary"])]
    output = str(work / "textgrids")
    if "acoustic" in models:
        return ["align", *source, str(models["acoustic"]), output, "--no_tokenization"]
    own = folder.resolve() / "mfa_model"
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir()
    return ["train", *source, str(own / "acoustic.zip"), "--output_directory", output]


def _options(work: Path, models: Mapping[str, Path], threads: int) -> list[str]:
    """Options of both. --output_analysis is last: MFA does not declare it and may read on."""
    options = ["--temporary_directory", str(work / "temporary"), "-j", str(threads)]
    options += ["--clean", "--final_clean", "--output_format", "long_textgrid"]
    if "g2p" in models:
        options += ["--g2p_model_path", str(models["g2p"])]
    return [*options, "--output_analysis"]


def _write_mfa_corpus(jobs: list[Job], corpus: Path) -> dict[str, Path]:
    """Write one folder per speaker, which MFA's speaker adaptation requires; audio is linked.

    Returns:
        utt_id -> path of its audio relative to `corpus`.
    """
    speakers = sorted({job.speaker for job in jobs})
    folders = {
        speaker: f"{number:04d}_{re.sub('[^A-Za-z0-9]+', '_', speaker)[:60]}"
        for number, speaker in enumerate(speakers)
    }
    placed = {job.utt_id: Path(folders[job.speaker], f"{job.utt_id}.wav") for job in jobs}
    for job in jobs:
        path = corpus / placed[job.utt_id]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(job.audio.resolve())
        path.with_suffix(".lab").write_text(" ".join(job.words) + "\n", encoding="utf-8")
    return placed


def _outcome(
    job: Job,
    grid: Path,
    quality: Quality | None,
    settings: Align,
    entries: Collection[str] | None,
) -> Outcome:
    """Read MFA's output for one utterance.

    `quality` is None without a row in MFA's table; `entries`, the words of the dictionary, are None
    without a G2P model.
    """
    if not grid.is_file():
        return Outcome(job.utt_id, reason="MFA wrote no TextGrid: the words do not fit the audio")
    if quality is None:
        return Outcome(job.utt_id, reason=f"MFA's {ANALYSIS} has no row for it")
    try:
        intervals = read_words(grid)
    except HproError as error:
        print(f"align: {job.utt_id}: {error}")
        return Outcome(job.utt_id, reason="MFA's TextGrid cannot be read")
    found = match_words(list(job.words), intervals)
    spans = [_span(*pair, quality) for pair in zip(job.words, found, strict=True)]
    lost = [word for word, span in zip(job.words, spans, strict=True) if span is None]
    if lost:
        return Outcome(job.utt_id, reason=f"MFA's TextGrid has no interval for {lost[0]!r}")
    if reason := refusal(quality, settings):
        return Outcome(job.utt_id, reason=reason)
    placed = [interval for interval in found if interval]
    pronounced = _pronounced(placed, entries)
    unknown = {interval.label for interval in placed if interval.is_spn} | pronounced.keys()
    return Outcome(
        job.utt_id,
        tuple(span for span in spans if span),
        unknown_words=tuple(sorted(unknown)),
        pronounced=tuple(sorted(pronounced.items())),
    )


def _span(word: str, interval: Interval | None, quality: Quality) -> WordSpan | None:
    if interval is None or interval.end_s <= interval.start_s:
        return None
    score = quality.log_likelihood
    return WordSpan(
        word, interval.start_s, interval.end_s, None if score is None else round(score, 3)
    )


def _entries(dictionary: Path) -> frozenset[str]:
    """The words of a dictionary: the first field of each line."""
    lines = read_text(dictionary, "use a dictionary that MFA publishes").splitlines()
    return frozenset(line.split(maxsplit=1)[0].lower() for line in lines if line.strip())


def _pronounced(placed: list[Interval], entries: Collection[str] | None) -> dict[str, str]:
    """Words that the dictionary lacks and the G2P model pronounced -> their phones."""
    return {
        interval.label: " ".join(interval.phones)
        for interval in placed
        if entries is not None and not interval.is_spn and not _has_entry(interval.label, entries)
    }


def _has_entry(word: str, entries: Collection[str]) -> bool:
    """Whether MFA finds a word, whole or in two parts at an apostrophe ("sparky" and "'s")."""
    cuts = [i + after for i, letter in enumerate(word) if letter == "'" for after in (0, 1)]
    return any(
        part in entries and (not rest or rest in entries)
        for part, rest in ((word, ""), (word.strip("'"), ""), *((word[:i], word[i:]) for i in cuts))
    )


def _g2p_summary(pronounced: Mapping[str, str]) -> str:
    examples = [f"{word} ({phones})" for word, phones in sorted(pronounced.items())[:EXAMPLES]]
    such = f", such as {', '.join(examples)}" if examples else ""
    return f"align: words pronounced by MFA's G2P model: {len(pronounced)}{such}"
