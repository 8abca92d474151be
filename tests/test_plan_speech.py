"""What planning reads of corpora that a run has read: of each table one column."""

from pathlib import Path

import pandas as pd
import pytest

from hpro_core import params as p
from hpro_core.errors import HproError
from hpro_core.plan.settings import read_settings
from hpro_core.plan.speech import amounts
from hpro_core.tables import UTTERANCES, empty
from tests.workflow.project import REPO


@pytest.fixture
def paper() -> p.Params:
    return read_settings(REPO / "params.yaml", [REPO / "config/paper.yaml"])


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a run keeps the utterances of LSSED."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "results/paper/corpus/lssed/utterances.parquet"
    path.parent.mkdir(parents=True)
    return path


def test_durations_are_all_that_is_read_and_nothing_is_checked(paper: p.Params, table: Path):
    pd.DataFrame({"duration_s": [9.0] * 800}).to_parquet(table)
    found = amounts(paper, {})["lssed"]
    assert found is not None
    assert (found.hours, found.utterances, found.source) == (2.0, 800, "results/paper")


def test_a_table_without_rows_says_nothing(paper: p.Params, table: Path):
    empty(UTTERANCES).to_parquet(table)
    found = amounts(paper, {})["lssed"]
    assert found is not None
    assert found.source == "Fan et al. 2021"


def test_a_table_that_cannot_be_read_is_named(paper: p.Params, table: Path):
    table.write_bytes(b"no table")
    message = r"lssed/utterances\.parquet has no readable column duration_s .*: delete it"
    with pytest.raises(HproError, match=message):
        amounts(paper, {})
