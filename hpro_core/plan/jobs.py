"""Jobs of a run as the Snakefile plans them, derived from the settings alone.

Unlike `snakemake --dry-run`, this needs no files of the user. A test compares both.
"""

from dataclasses import dataclass

from hpro_core.align.mfa_models import published
from hpro_core.judges.files import all_affect_published
from hpro_core.params import SEEDLESS, Params


@dataclass(frozen=True)
class Job:
    """A rule of `workflow/rules/<phase>.smk`, and its number of jobs for the target `all`."""

    phase: str
    rule: str
    count: int


def jobs_of(settings: Params) -> list[Job]:
    """Return the jobs of the target `all` with an empty results folder, in order of phases."""
    readers = [chosen.reader for chosen in settings.corpus.sets.values()]
    rendered = readers.count("controlled")
    excerpts = [
        each.path
        for each in settings.corpus.sets.values()
        if each.reader == "amazon_queen" and not each.path.endswith(".1c")
    ]
    trained, seeds = policies(settings), len(settings.seeds)
    base = bool(settings.base)
    shards, gathered = settings.shards, int(settings.shards > 1)
    spoken = sum(seeds if system in trained else 1 for system in systems(settings))
    found = [
        Job("corpus", "corpus_read", len(readers) - rendered),
        Job("corpus", "corpus_render", rendered),
        Job("corpus", "corpus_split", 1),
        Job("align", "align_models", 1 if published(settings.align) else 0),
        Job("align", "align", shards),
        Job("align", "align_gather", gathered),
        Job("align", "align_check", 1 if excerpts else 0),
        Job("label", "label", shards),
        Job("label", "label_gather", gathered),
        Job("speech", _tokenizer(settings), 1),
        Job("speech", "tokenize", shards),
        Job("dataset", "dataset", shards),
        Job("dataset", "dataset_gather", gathered),
        *_codec_jobs(settings),
        Job("policy", "base_policy", 1 if base and trained else 0),
        Job("policy", "sft", seeds if trained else 0),
        Job("reward", "reward", seeds * len(rewarded(settings))),
        Job("evaluate", "base_judge" if base else "judge_train", _embedded_judge(settings)),
        Job("evaluate", "judge_recordings", 1),
        Job("evaluate", "synthesise", spoken),
        Job("evaluate", "judge", spoken),
        Job("report", "tables", 1),
        Job("report", "report", 1),
    ]
    return [job for job in found if job.count]


def systems(settings: Params) -> list[str]:
    """Return every system that is a row of a table, once."""
    rows = [system for names in settings.tables.model_dump().values() for system in names]
    return list(dict.fromkeys(rows))


def policies(settings: Params) -> list[str]:
    """Return the trained policies: those that the tables name, and those that they start from.

    Empty if the tables name none.
    """
    wanted: list[str] = []
    for system in systems(settings):
        chain: list[str] = []
        while system not in (*SEEDLESS, "sft"):
            chain.append(system)
            system = settings.variants[system].start
        wanted += ["sft", *reversed(chain)] if system == "sft" else []
    return list(dict.fromkeys(wanted))


def rewarded(settings: Params) -> list[str]:
    """Return the policies that are trained by rewards."""
    return [name for name in policies(settings) if name != "sft"]


def _tokenizer(settings: Params) -> str:
    if settings.speech.preset == "cosyvoice2":
        return "tokenizer_published"
    return "base_tokenizer" if settings.base else "tokenizer"


def _embedded_judge(settings: Params) -> int:
    """Number of jobs (0 or 1) of the affect judge: needed by tables or by a probed training."""
    watches = settings.reward.probe_every > 0 and bool(rewarded(settings))
    return int(watches or not all_affect_published(settings.evaluate))


def _codec_jobs(settings: Params) -> list[Job]:
    needed = 1 if rewarded(settings) else 0
    if settings.codec.checkpoint:
        return [Job("codec", "codec_released", needed)]
    if settings.base:
        return [Job("codec", "base_codec", needed)]
    return [Job("codec", "codec_content", 1), Job("codec", "codec_style", 1)]
