"""Results of a run for trainings: a dataset of given utterances, and links to models."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from hpro_core.params import Compute
from hpro_core.tables import DATASET, write_table
from hpro_core.train.example_file import write_examples
from hpro_core.train.examples import Example
from hpro_core.train.run import Run


def dataset_row(example: Example) -> dict[str, object]:
    """The row of an utterance in a table DATASET."""
    kinds = {"symbols": np.int32, "symbol_word": np.int16, "transcript": np.int32}
    kinds |= {"tokens": np.int16, "speaker_embedding": np.float32, "emotion": np.float32}
    return {
        **{name: getattr(example, name) for name in ("utt_id", "corpus", "speaker", "text")},
        "words": " ".join(example.words),
        "n_words": len(example.words),
        **{name: getattr(example, name).astype(kind) for name, kind in kinds.items()},
        "word_start_s": example.spans_s[:, 0],
        "word_end_s": example.spans_s[:, 1],
        "word_vad": example.vad.ravel(),
    }


def write_dataset(root: Path, train: Sequence[Example], dev: Sequence[Example]) -> None:
    """Write `dataset/` as `hpro dataset` does; the test split is the dev split."""
    for split, examples in (("train", train), ("dev", dev), ("test", dev)):
        table = root / f"dataset/{split}.parquet"
        write_table(pd.DataFrame([dataset_row(e) for e in examples]), table, DATASET)
        write_examples(table)


def run_in(folder: Path, work: Path | None = None, links: Mapping[str, Path] = {}) -> Run:
    """A run on one CPU thread without bfloat16, with its settings file.

    Args:
        folder: results folder of the run.
        work: folder of the checkpoints; `folder`/work by default.
        links: name of a folder in the results -> the folder that it is a link to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, target in links.items():
        target.mkdir(parents=True, exist_ok=True)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if not (folder / name).exists():
            (folder / name).symlink_to(target.absolute(), target_is_directory=True)
    (folder / "params.yaml").write_text("made: for a test\n")
    compute = Compute(threads=1, device="cpu", bf16=False)
    return Run(folder, folder / "params.yaml", work or folder / "work", compute)
