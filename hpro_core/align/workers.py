"""Runs pocketsphinx in several processes. Each process imports this module, so imports are few."""

import functools
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np

from hpro_core.align.jobs import AlignmentRefused, Job, Outcome
from hpro_core.align.pocketsphinx_aligner import PocketsphinxAligner
from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.errors import HproError
from hpro_core.io import note_audio, read_wav

CHUNK = 8
"""Number of utterances sent to a process at a time."""


def align_all(jobs: list[Job], threads: int) -> Iterator[Outcome]:
    """Align every job in `threads` processes; the order of the outcomes is that of the jobs.

    Raises:
        HproError: a process ended unexpectedly.
    """
    if threads == 1 or len(jobs) <= CHUNK:
        yield from map(align_one, jobs)
        return
    for folder in {Path(job.audio).parent for job in jobs}:
        note_audio(folder)  # worker processes have separate journals
    # not fork: the parent has threads (pyarrow)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(threads, mp_context=context) as pool:
        try:
            yield from pool.map(align_one, jobs, chunksize=CHUNK)
        except BrokenProcessPool as error:
            raise HproError(
                "an alignment process ended unexpectedly, possibly out of memory (0.1 GB each): "
                "run again with fewer --threads"
            ) from error


def align_one(job: Job) -> Outcome:
    """Align one job with the decoder of this process."""
    aligner = _aligner()
    try:
        spans = aligner.align(_read(job), list(job.words))
    except AlignmentRefused as refused:
        return Outcome(job.utt_id, reason=str(refused))
    unknown = tuple(sorted(aligner.added.keys() & set(job.words)))
    return Outcome(job.utt_id, tuple(spans), unknown_words=unknown)


_aligner = functools.cache(PocketsphinxAligner)  # one for each process


def _read(job: Job) -> np.ndarray:
    try:
        return read_wav(Path(job.audio), SAMPLE_RATE_HZ)
    except HproError as error:
        raise AlignmentRefused(f"unreadable audio ({error})") from error
