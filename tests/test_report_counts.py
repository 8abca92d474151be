"""The balance of alignment, with and without the split that a base makes superfluous."""

from pathlib import Path

import pandas as pd
import pytest

from hpro_core.report.counts import _align_count
from hpro_core.tables import REJECTED, WORDS, rejected, write_table

SPLITS = {"u0": "train", "u1": "train", "u2": "test", "u3": "judge", "u4": "judge"}
UTTERANCES = pd.DataFrame(SPLITS.items(), columns=["utt_id", "split"])


@pytest.mark.parametrize(
    ("aligned", "stage", "entered", "adds_up"),
    [
        (("u0", "u2"), "align, without the split judge", 3, True),
        (("u0", "u2", "u3", "u4"), "align", 5, True),
        (("u0", "u2", "u3"), "align", 5, False),
        (("u0",), "align, without the split judge", 3, False),
    ],
)
def test_only_a_whole_split_may_be_left_out(
    tmp_path: Path, aligned: tuple[str, ...], stage: str, entered: int, adds_up: bool
) -> None:
    words = [(utt_id, 0, "hi", 0.0, 0.1, 1.0) for utt_id in aligned]
    table = pd.DataFrame(words, columns=list(WORDS.columns))
    write_table(table, tmp_path / "align/words.parquet", WORDS)
    lost = rejected([("u1", "the words do not fit")], "align")
    write_table(lost, tmp_path / "align/rejected.parquet", REJECTED)
    found = _align_count(tmp_path, UTTERANCES)
    assert (found.stage, found.entered, found.adds_up) == (stage, entered, adds_up)
