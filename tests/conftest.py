"""What the tests share: small utterances with seeded contents."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from hpro_core import io
from hpro_core.codec.model import HdEmo
from hpro_core.codec.training import make_codec
from hpro_core.plan.jobs import Job, jobs_of
from hpro_core.plan.settings import read_settings
from hpro_core.text.phones import BEGIN_TEXT, END_TEXT, encode
from hpro_core.train.batching import Batch, Example, Sampler
from tests.workflow.project import REPO

torch.set_num_threads(1)


LONGEST = (
    *("test_cluster", "test_miniature", "test_agreement", "test_remotes", "test_conda"),
    *("test_files", "test_judges_large", "test_optimisation", "test_evaluate", "test_controlled"),
    *("test_policy_cosyvoice2", "test_plan", "test_evaluate_claims", "test_corpus_splits"),
    *("test_codec_model", "test_label_large", "test_affect_judge", "test_align"),
)
"""Files, by the time that they take."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that the processes end at about the same time."""
    place = {name: index for index, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONGEST)))


@pytest.fixture(scope="module", name="chromium")
def chromium_browser() -> Iterator:
    """Debian's Chromium, see `browser.chromium`."""
    from tests.browser import chromium  # Playwright is slow to import

    with chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def paper_jobs() -> list[Job]:
    """Jobs of config/paper.yaml, from Snakemake's rules."""
    return jobs_of(read_settings(REPO / "params.yaml", [REPO / "config/paper.yaml"]))


def make_example(index: int, n_tokens: int, seed: int = 0, n_words: int = 5) -> Example:
    """An utterance with random tokens and labels and evenly spread words."""
    rng = np.random.default_rng([seed, index])
    words = ("the", "happy", "dog", "ran", "home", "today")[:n_words]
    symbols, symbol_word = encode(" ".join(words), " ".join(words))
    edges = np.linspace(0.08, n_tokens / 25 - 0.08, n_words + 1)
    return Example(
        utt_id=f"made_{index}",
        corpus="made",
        speaker=f"speaker{index % 2}",
        text=" ".join(words),
        words=words,
        symbols=np.array(symbols),
        symbol_word=np.array(symbol_word),
        transcript=np.array([BEGIN_TEXT, *symbols, END_TEXT]),
        tokens=rng.integers(0, 6561, n_tokens),
        speaker_embedding=rng.normal(size=16).astype(np.float32),
        emotion=rng.dirichlet(np.ones(9)).astype(np.float32),
        spans_s=np.stack([edges[:-1], edges[1:]], axis=1),
        vad=rng.random((n_words, 3)).astype(np.float32),
    )


@pytest.fixture(scope="session")
def examples() -> list[Example]:
    """Eight ragged utterances of two speakers."""
    return [make_example(i, 24 + 5 * i, n_words=3 + i % 3) for i in range(8)]


@pytest.fixture(scope="session")
def batch(examples: list[Example]) -> Batch:
    """All eight as one batch."""
    return Sampler(examples, len(examples), seed=0).batch_at(1)


@pytest.fixture(scope="session")
def codec() -> HdEmo:
    """A codec with random weights, frozen as rewards have it."""
    torch.manual_seed(1)
    codec = make_codec("embedded").eval()
    codec.freeze(list(codec.children()))
    return codec


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A function that makes the disk full for files of one name, at their flush.

    A file that is not written through `io.replacing` is not flushed: no error, and the test fails.
    """
    flush = io._flush

    def fill(name: str) -> None:
        def full(path: Path) -> None:
            if path.name.startswith(f".{name}."):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            flush(path)

        monkeypatch.setattr(io, "_flush", full)

    return fill
