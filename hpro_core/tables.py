"""Typed tables that stages exchange, checked on write and on read.

Every table is a Parquet file. Times are seconds; audio is 16 kHz mono. An utterance that enters a
stage is either in its tables or in its `rejected` table.
"""

import functools
import operator
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pyarrow
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pyarrow.types as types

from hpro_core.constants import EMOTIONS, SPLITS, VAD
from hpro_core.errors import HproError
from hpro_core.io import parquet_errors, replacing


def _schema(columns: dict, unique: list[str], checks: list[pa.Check] | None = None):
    return pa.DataFrameSchema(columns, unique=unique, strict=True, coerce=True, checks=checks)


_text = pa.Column(str, pa.Check.str_length(min_value=1))
_utt_id = pa.Column(str, pa.Check.str_matches(r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"))
_probability = pa.Column(float, pa.Check.in_range(0.0, 1.0))
_seconds = pa.Column(float, pa.Check.ge(0.0))

UTTERANCES = _schema(
    {
        "utt_id": _utt_id,  # unique over all corpora of a run: the reader prefixes the corpus
        "corpus": _text,  # the test set that the utterance belongs to: acted, controlled, ...
        "speaker": _text,
        "text": _text,  # as published
        "words": _text,  # normalised for alignment: lower case, [a-z'] words, single blanks
        "audio": _text,  # relative to the results folder of the run, 16 kHz mono WAV
        "duration_s": pa.Column(float, pa.Check.gt(0.0)),
        "split": pa.Column(str, pa.Check.isin(("", *SPLITS))),  # empty until `hpro corpus split`
        "group": _text,  # utterances of one group are in one split: scene or sentence
        "emotion": pa.Column(str, nullable=True),  # of the corpus, as one of EMOTIONS, or null
        "label": pa.Column(str, nullable=True),  # the corpus's own emotion label, or null
    },
    unique=["utt_id"],
)

WORDS = _schema(
    {
        "utt_id": _utt_id,
        "word_index": pa.Column(int, pa.Check.ge(0)),  # position in `words` of the utterance
        "word": _text,
        "start_s": _seconds,
        "end_s": _seconds,
        "score": pa.Column(float, nullable=True),  # the aligner's own, higher is better
    },
    unique=["utt_id", "word_index"],
    checks=[pa.Check(lambda df: df["end_s"] > df["start_s"], error="a word ends before it starts")],
)

EMOTION_POSTERIORS = _schema(
    {"utt_id": _utt_id, **dict.fromkeys(EMOTIONS, _probability)},
    unique=["utt_id"],
    checks=[
        pa.Check(
            lambda df: (df[list(EMOTIONS)].sum(axis=1) - 1).abs() < 1e-4,
            error="the nine probabilities do not sum to one",
        )
    ],
)

WORD_VAD = _schema(
    {
        "utt_id": _utt_id,
        "word_index": pa.Column(int, pa.Check.ge(0)),
        **dict.fromkeys(VAD, _probability),
    },
    unique=["utt_id", "word_index"],
)

SPEECH_TOKENS = _schema(
    {
        "utt_id": _utt_id,
        "tokens": pa.Column(object),  # int16 array, 25 Hz, 0..6560
        "speaker_embedding": pa.Column(object),  # float32 array
    },
    unique=["utt_id"],
)

TRAINING_SPLITS = tuple(split for split in SPLITS if split != "judge")
"""Splits of the dataset; `judge` is for training the judges only."""

_list = pa.Column(object)
DATASET = _schema(
    {
        "utt_id": _text,
        "corpus": _text,
        "speaker": _text,
        "text": _text,  # as published
        "words": _text,  # normalised, single blanks
        "n_words": pa.Column(int, pa.Check.gt(0)),
        "symbols": _list,  # int32, text input of the policy (text.tokenizers)
        "symbol_word": _list,  # int16, word index of each symbol; zeros if unknown
        "transcript": _list,  # int32, target of the codec's text decoder (text.tokenizers)
        "tokens": _list,  # int16, 25 Hz
        "speaker_embedding": _list,  # float32
        "emotion": _list,  # float32, nine, sums to one
        "word_start_s": _list,  # float64, one per word
        "word_end_s": _list,
        "word_vad": _list,  # float32, n_words * 3: valence, arousal, dominance of each word
    },
    unique=["utt_id"],
)

REJECTED = _schema({"utt_id": _text, "stage": _text, "reason": _text}, unique=["utt_id", "stage"])

SYNTHESIS = _schema(
    {
        "utt_id": _utt_id,
        "corpus": _text,
        "speaker": _text,
        "text": _text,
        "words": _text,
        "audio": _text,  # relative to the results folder of the run
        "duration_s": pa.Column(float, pa.Check.gt(0.0)),
        "reference": pa.Column(str, nullable=True),  # utt_id of the zero-shot reference, or null
        "n_tokens": pa.Column(int, pa.Check.ge(0)),
        "stopped": pa.Column(bool),  # false: the length limit was reached without an end token
    },
    unique=["utt_id"],
)

GENERATED_TOKENS = _schema(
    {"utt_id": _utt_id, "tokens": pa.Column(object)},  # as in SPEECH_TOKENS
    unique=["utt_id"],
)

_score = pa.Column(float, nullable=True)
_correlation = pa.Column(float, pa.Check.in_range(-1.0, 1.0), nullable=True)
_count = pa.Column("Int64", pa.Check.ge(0), nullable=True)
SCORES = _schema(
    {
        "utt_id": _utt_id,
        "corpus": _utt_id,  # names a folder of tables/metrics
        "transcript": pa.Column(str),  # output of the ASR judge, normalised; may be empty
        "n_errors": pa.Column(int, pa.Check.ge(0)),  # word errors
        # Word errors of the second ASR judge; null for utterances that it skips
        # (evaluate.check_every). DNSMOS and DistillMOS score the same utterances.
        "n_errors_check": pa.Column("Int64", pa.Check.ge(0), nullable=True),
        "n_words": pa.Column(int, pa.Check.gt(0)),  # words of the reference, normalised
        # Null if the aligner does not find the words, or if emo_sim is.
        "wvad_ccc": pa.Column(float, pa.Check.in_range(-1.0, 1.0), nullable=True),
        # Null if the affect of the test set is not judged, or the sentence has no recording.
        "emo_sim": pa.Column(float, pa.Check.in_range(-1.0, 1.0001), nullable=True),
        "dnsmos": _score,  # null if n_errors_check is
        "distillmos": _score,  # null if n_errors_check is
        # Null without a reference recording.
        "speaker_sim": pa.Column(float, pa.Check.in_range(-1.0001, 1.0001), nullable=True),
        # Correlation with the recording over words. Null if a series has fewer than three values or
        # is constant, if the aligner does not find the words, and without a recording.
        **dict.fromkeys(("f0_corr", "energy_corr", "rate_corr"), _correlation),
        # Pauses at the same place in both, in the synthesis, in the recording. All are null without
        # a recording, the first two if the aligner does not find the words.
        "n_pauses_both": _count,
        "n_pauses_synthesis": _count,
        "n_pauses_recording": _count,
        # Judges whose weights the user brings; null without them.
        **dict.fromkeys(("utmos", "nisqa", "scoreq"), _score),
    },
    unique=["utt_id"],
)


_CHECKED = {"page_checksum_verification": True}
"""Read option that verifies the checksums of pages, which `write_table` writes."""


def empty(schema: pa.DataFrameSchema) -> pd.DataFrame:
    """Return a table of the schema without rows."""
    return pd.DataFrame({name: pd.Series(dtype=object) for name in schema.columns})


def rejected(rows: Iterable[tuple[str, str]], stage: str) -> pd.DataFrame:
    """Return the `rejected` table of one stage from pairs of utt_id and reason."""
    return pd.DataFrame(
        [(utt_id, stage, reason) for utt_id, reason in rows],
        columns=["utt_id", "stage", "reason"],
        dtype=object,
    )


def read_table(
    path: str | Path,
    schema: pa.DataFrameSchema,
    only: Mapping[str, Collection] | None = None,
) -> pd.DataFrame:
    """Read a Parquet table and check it.

    `only` maps columns to accepted values; other rows are not read into memory.

    Raises:
        HproError: the file is missing or not Parquet, a column has another type, or a row violates
            the schema.
    """
    path = Path(path)
    with parquet_errors(path):
        rows = pq.read_table(path, filters=_chosen(path, only), **_CHECKED)
        rows.validate(full=True)  # finds text that is not UTF-8 now rather than on use
        _check_types(path, rows, schema)
        table = rows.to_pandas(ignore_metadata=True)  # the schema defines the types
    return _validated(table, schema, path)


def _check_types(path: Path, rows: pyarrow.Table, schema: pa.DataFrameSchema) -> None:
    """Refuse a column of another type; columns without rows have no type."""
    for name, column in schema.columns.items():
        if not rows.num_rows or name not in rows.column_names:
            continue
        if not _fits(rows.column(name), column):
            kind = rows.schema.field(name).type
            raise HproError(f"{path}: column {name} holds {kind}: run its stage again")


def _fits(values: pyarrow.ChunkedArray, column: pa.Column) -> bool:
    """Whether values have the type of a column."""
    kind = values.type
    if types.is_null(kind):
        return column.nullable
    match str(column.dtype):
        case "object":  # lists of numbers without missing values
            lists = types.is_list(kind) or types.is_large_list(kind)
            return lists and _is_number(kind.value_type) and not _n_missing(values)
        case "bool":
            return types.is_boolean(kind)
        case "int64" | "Int64":
            return types.is_integer(kind)
        case "float64":
            return _is_number(kind)
        case _:
            return types.is_string(kind) or types.is_large_string(kind)


def _is_number(kind: pyarrow.DataType) -> bool:
    return types.is_integer(kind) or types.is_floating(kind)


def _n_missing(lists: pyarrow.ChunkedArray) -> int:
    """Number of missing values in lists."""
    return sum(chunk.flatten().null_count for chunk in lists.chunks)


def distinct(path: Path, column: str, only: Mapping[str, Collection] | None = None) -> set[str]:
    """Return the distinct values of a text column; other columns are not read into memory.

    `only` is as for `read_table`.

    Raises:
        HproError: the file is missing or not Parquet, or the column is missing or has a null.
    """
    with parquet_errors(path):
        if column not in pq.read_schema(path).names:
            raise HproError(f"{path}: column {column!r} is missing: run its stage again")
        kept = _chosen(path, only)
        found = pq.read_table(path, columns=[column], filters=kept, **_CHECKED)[column]
        found.validate(full=True)
        names = set(found.unique().to_pylist())
    if not all(isinstance(name, str) for name in names):
        raise HproError(f"{path}: a row has no {column}: run its stage again")
    return names


def check_columns(path: Path, schema: pa.DataFrameSchema) -> None:
    """Check the columns of a table without reading its rows, which were checked on write.

    Raises:
        HproError: the file is missing, is not Parquet, or lacks a column.
    """
    with parquet_errors(path):
        names = pq.read_schema(path).names
    for column in schema.columns:
        if column not in names:
            raise HproError(f"{path}: column {column!r} is missing: run its stage again")


def by_utterance(of_words: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return utt_id -> its rows in word order, from a WORDS or WORD_VAD table."""
    ordered = of_words.sort_values(["utt_id", "word_index"])
    return {str(utt_id): rows for utt_id, rows in ordered.groupby("utt_id", sort=False)}


def vad_by_utterance(of_words: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return utt_id -> valence, arousal, dominance, float (W, 3) in word order, from WORD_VAD."""
    return {utt_id: rows[list(VAD)].to_numpy() for utt_id, rows in by_utterance(of_words).items()}


def without_reference(kept: pd.DataFrame) -> dict[str, str]:
    """Return utt_id -> reason for test utterances without a reference.

    Their speaker has no other utterance in test or train.
    """
    n_utterances = kept[kept["split"].isin(("test", "train"))]
    n_heard = n_utterances.groupby(["corpus", "speaker"])["utt_id"].transform("size")
    alone = n_utterances.loc[(n_utterances["split"] == "test") & (n_heard == 1), "utt_id"]
    return dict.fromkeys(alone, "no other utterance of the speaker in test or train")


def count_rows(path: Path) -> int:
    """Return the number of rows of a table, without reading it.

    Raises:
        HproError: the file is missing or is not Parquet.
    """
    with parquet_errors(path):
        return pq.read_metadata(path).num_rows


def write_table(table: pd.DataFrame, path: str | Path, schema: pa.DataFrameSchema) -> None:
    """Check a table and write it as Parquet, whole or not at all.

    Raises:
        HproError: a row violates the schema, or the file cannot be written.
    """
    path = Path(path)
    checked = _validated(table, schema, path)[list(schema.columns)].reset_index(drop=True)
    with replacing(path) as partial:
        checked.to_parquet(partial, index=False, write_page_checksum=True)


def check_rejected(
    lost: Iterable[tuple[str, str]], stage: str, entered: int, max_fraction: float
) -> None:
    """Refuse a result with too many rejected utterances.

    Args:
        lost: rejected utterances and reasons; a note in brackets at the end of a reason is not
            counted as part of it.
        stage: section of the setting `max_rejected_fraction`.
        entered: number of utterances that entered the stage.
        max_fraction: largest accepted rejected fraction.
    """
    lost = list(lost)
    if len(lost) <= max_fraction * entered:
        return
    reasons = Counter(reason.split(" (")[0] for _, reason in lost).most_common(5)
    raise HproError(
        f"{stage}: {len(lost)} of {entered} utterances rejected, more than "
        f"{stage}.max_rejected_fraction {max_fraction} "
        f"({', '.join(f'{n} {r}' for r, n in reasons)}; "
        f"first: {lost[0][0]}). Compare its transcript with its audio, and correct the corpus or "
        "raise this setting"
    )


def check_split(path: Path, n_utterances: int) -> None:
    """Refuse an empty split of the dataset."""
    if not n_utterances:
        raise HproError(
            f"{path}: split {path.stem!r} has no utterance: add data to the corpus, "
            "or raise dev_fraction and test_fraction in corpus.splits"
        )


def _chosen(path: Path, only: Mapping[str, Collection] | None) -> ds.Expression | None:
    """Row filter for Parquet's reader; None for a table without rows, whose columns are untyped."""
    if not only or not pq.read_metadata(path).num_rows:
        return None
    types = pq.read_schema(path)
    kept = [
        ds.field(name).isin(pyarrow.array(list(values), type=types.field(name).type))
        for name, values in only.items()
    ]
    return functools.reduce(operator.and_, kept)


def _validated(table: pd.DataFrame, schema: pa.DataFrameSchema, path: Path) -> pd.DataFrame:
    if table.empty:
        missing = [name for name in schema.columns if name not in table.columns]
        if missing:
            raise HproError(f"{path}: column {missing[0]!r} is missing")
        return table
    try:
        return schema.validate(table, lazy=False)
    except pa.errors.SchemaErrors as errors:  # raised for surplus columns, also if not lazy
        raise HproError(f"{path}: {_first_line(errors.schema_errors[0])}") from errors
    except (pa.errors.SchemaError, TypeError, ValueError, AttributeError, KeyError) as error:
        raise HproError(f"{path}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]
