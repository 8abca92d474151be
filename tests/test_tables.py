"""Tables between stages: what they hold is what the schema says, or one line names the column."""

import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hpro_core import tables
from hpro_core.errors import HproError
from hpro_core.label.result_cache import read_shard


@pytest.fixture
def path(tmp_path):
    rows = [("a", 0, "well", 0.0, 0.4, 1.0), ("a", 1, "now", 0.4, 0.9, None)]
    table = pd.DataFrame(rows, columns=list(tables.WORDS.columns))
    tables.write_table(table, tmp_path / "words.parquet", tables.WORDS)
    return tmp_path / "words.parquet"


def changed(path, change):
    """Write the table again with a change of its Arrow form."""
    pq.write_table(change(pq.read_table(path)), path)


def column(path, name, values):
    changed(path, lambda t: t.set_column(t.column_names.index(name), name, pa.array(values)))


def refusal(path, schema=tables.WORDS) -> str:
    with pytest.raises(HproError) as caught:
        tables.read_table(path, schema)
    message = str(caught.value)
    assert str(path) in message
    assert message.isprintable()
    return message


def test_a_table_comes_back_equal(path):
    table = tables.read_table(path, tables.WORDS)
    assert table["word"].tolist() == ["well", "now"]
    assert table["end_s"].tolist() == [0.4, 0.9]
    assert table["score"].isna().tolist() == [False, True]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("utt_id", [b"a", b"b"]),
        ("word_index", ["0", "1"]),
        ("start_s", ["0.0", "0.4"]),
        ("word", [1, 2]),
        ("word", [None, None]),
        ("end_s", [[0.4], [0.9]]),
    ],
)
def test_a_column_of_another_type_is_named(path, name, values):
    column(path, name, values)
    assert f"column {name} holds" in refusal(path)


def test_a_column_that_is_too_much_is_named(path):
    changed(path, lambda t: t.append_column("extra", t.column("word")))
    assert "'extra'" in refusal(path)


def test_a_value_with_a_control_character_is_named_in_one_line(path):
    column(path, "utt_id", ["a\x00b", "a"])
    assert r"a\x00b" in refusal(path)


def test_a_text_that_is_not_utf8_is_found_when_it_is_read(path):
    raw = pa.array([b"w\xff", b"now"]).cast(pa.binary())
    text = pa.Array.from_buffers(pa.string(), 2, raw.buffers())
    changed(path, lambda t: t.set_column(2, "word", text))
    assert "Invalid UTF8" in refusal(path)


@pytest.mark.parametrize("columns", [[], {}, None, [{"name": "score"}], "x"])
def test_what_pandas_wrote_beside_a_table_does_not_matter(path, columns):
    before = tables.read_table(path, tables.WORDS)
    notes = json.dumps({"columns": columns, "index_columns": ["word"]})
    changed(path, lambda t: t.replace_schema_metadata({"pandas": notes}))
    pd.testing.assert_frame_equal(tables.read_table(path, tables.WORDS), before)


def test_lists_with_a_gap_or_of_names_are_refused(tmp_path):
    path = tmp_path / "speech_tokens.parquet"
    for tokens in ([[1, None]], [["a"]], [None], ["a"]):
        kind = None if tokens != [[1, None]] else pa.list_(pa.int16())
        rows = {"utt_id": ["a"], "tokens": pa.array(tokens, kind), "speaker_embedding": [[0.5]]}
        pq.write_table(pa.table(rows), path)
        assert "column tokens holds" in refusal(path, tables.SPEECH_TOKENS)


def test_a_row_without_a_name_is_named(path):
    column(path, "utt_id", ["a", None])
    with pytest.raises(HproError, match="a row has no utt_id"):
        tables.distinct(path, "utt_id")


def test_names_of_a_kind_that_cannot_be_counted_are_named(path):
    column(path, "utt_id", [{"a": 1}, {"a": 2}])
    with pytest.raises(HproError, match=r"words\.parquet"):
        tables.distinct(path, "utt_id")


def test_a_broken_shard_of_labels_is_named(tmp_path):
    path = tmp_path / "00000.parquet"
    table = pa.table({"utt_id": ["a"]}).replace_schema_metadata(
        {b"hpro.identity": b"x", b"pandas": b'{"columns": [[]], "index_columns": [3]}'}
    )
    pq.write_table(table, path)
    found = read_shard(path, "x")
    assert found is not None
    assert found["utt_id"].tolist() == ["a"]
