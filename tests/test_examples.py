"""Mapped utterances: what a list of the same would give, batch for batch and fact for fact."""

import hashlib
import io
import json
from dataclasses import asdict, fields, replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from hpro_core.constants import VAD
from hpro_core.dataset import load
from hpro_core.errors import HproError
from hpro_core.reward.probe import probe_set
from hpro_core.synthesis.stage import _number, references_of
from hpro_core.tables import DATASET, read_table, write_table
from hpro_core.text.phones import WHISPER_SPECIAL_TOKENS
from hpro_core.train import example_file
from hpro_core.train.batching import Batch, Sampler, collate, sequential_batches, spans_to_frames
from hpro_core.train.examples import Example, SpeakerIndex, utt_ids
from hpro_core.train.facts import ROUNDINGS, Extreme, Facts, facts_from_json, facts_of
from tests.conftest import make_example
from tests.results import dataset_row

CORPORA = ("a", "b", "weak")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """100 ragged utterances of three corpora and some speakers, one of them heard once."""
    rng = np.random.default_rng(0)
    made = [make_example(i, int(rng.integers(20, 90)), n_words=2 + i % 5) for i in range(100)]
    rows = []
    for i, e in enumerate(made):
        corpus = CORPORA[int(rng.integers(3))]
        speaker = "alone" if i == 50 else f"s{rng.integers(4)}"
        named = replace(e, utt_id=f"{corpus}_{99 - i}", corpus=corpus, speaker=speaker)
        rows.append(dataset_row(named))
    path = tmp_path_factory.mktemp("dataset") / "train.parquet"
    write_table(pd.DataFrame(rows), path, DATASET)
    return path


@pytest.fixture(scope="module")
def mapped(table):
    """The file of the table; seven utterances in a record batch, so that there are several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hpro_core.train.examples.ROWS", 7)
        patch.setattr("hpro_core.train.example_file.ROWS", 7)
        example_file.write_examples(table)
        yield load(table)


@pytest.fixture(scope="module")
def listed(table):
    """The same by reading the table, without the file."""
    return [
        Example(
            utt_id=row["utt_id"],
            corpus=row["corpus"],
            speaker=row["speaker"],
            text=row["text"],
            words=tuple(row["words"].split()),
            symbols=np.asarray(row["symbols"], dtype=np.int64),
            symbol_word=np.asarray(row["symbol_word"], dtype=np.int64),
            transcript=np.asarray(row["transcript"], dtype=np.int64),
            tokens=np.asarray(row["tokens"], dtype=np.int64),
            speaker_embedding=np.array(row["speaker_embedding"], dtype=np.float32),
            emotion=np.array(row["emotion"], dtype=np.float32),
            spans_s=np.stack([row["word_start_s"], row["word_end_s"]], axis=1),
            vad=np.array(row["word_vad"], dtype=np.float32).reshape(-1, len(VAD)),
        )
        for row in read_table(table, DATASET).to_dict("records")
    ]


def same(one: Example, other: Example) -> bool:
    for f in fields(Example):
        a, b = getattr(one, f.name), getattr(other, f.name)
        if isinstance(a, np.ndarray):
            if a.dtype != b.dtype or a.shape != b.shape or not np.array_equal(a, b):
                return False
            assert a.flags.writeable
        elif a != b:
            return False
    return True


def equal(one: Batch, other: Batch) -> bool:
    return all(torch.equal(getattr(one, f.name), getattr(other, f.name)) for f in fields(Batch))


def left(listed, leave_out):
    return [e for e in listed if e.corpus not in leave_out]


def test_every_utterance_is_as_in_the_table(mapped, listed):
    assert len(mapped) == len(listed) == 100
    assert all(map(same, mapped, listed))
    assert same(mapped[-1], listed[-1])
    with pytest.raises(IndexError):
        mapped[100]
    assert [e.utt_id for e in mapped[3:60:4]] == [e.utt_id for e in listed[3:60:4]]
    assert [e.utt_id for e in mapped[3:60:4][2:5]] == [e.utt_id for e in listed[3:60:4][2:5]]


@pytest.mark.parametrize("leave_out", [(), ("weak",), ("a", "weak")])
def test_a_selection_of_corpora_is_the_list_without_them(table, mapped, listed, leave_out):
    examples, expected = load(table, leave_out), left(listed, leave_out)
    assert len(examples) == len(expected) > 10
    assert all(map(same, examples, expected))
    assert utt_ids(examples) == [e.utt_id for e in expected]
    assert facts_of(examples) == facts_of(expected)
    assert len(load(table, CORPORA)) == 0


def plain_batch(examples, batch_size, seed, step):
    """A batch of `Sampler` by scans over all utterances, as it is described."""
    speakers = {}
    for i, e in enumerate(examples):
        speakers.setdefault((e.corpus, e.speaker), []).append(i)
    epoch, position = divmod(step - 1, len(examples) // batch_size)
    rng = np.random.default_rng([seed, 0, epoch])
    order = rng.permutation(len(examples))[: len(examples) // batch_size * batch_size]
    lengths = np.array([len(examples[i].tokens) for i in order])
    chunk = 8 * batch_size
    parts = [
        order[s : s + chunk][np.argsort(lengths[s : s + chunk], kind="stable")]
        for s in range(0, len(order), chunk)
    ]
    batches = np.concatenate(parts).reshape(-1, batch_size)
    chosen = batches[rng.permutation(len(batches))][position]
    rng = np.random.default_rng([seed, 1, step])
    references = []
    for i in chosen.tolist():
        others = speakers[examples[i].corpus, examples[i].speaker]
        choice = others[int(rng.integers(len(others)))]
        if choice == i and len(others) > 1:
            choice = others[(others.index(i) + 1) % len(others)]
        references.append(examples[choice].speaker_embedding)
    return collate([examples[i] for i in chosen], references)


@pytest.mark.parametrize("leave_out", [(), ("weak",)])
@pytest.mark.parametrize("seed", [0, 5])
def test_batches_are_those_of_a_list_to_the_last_bit(table, mapped, listed, leave_out, seed):
    examples, expected = load(table, leave_out), left(listed, leave_out)
    of_file, of_list = (Sampler(e, 6, seed) for e in (examples, expected))
    assert of_file.alone == of_list.alone >= 1
    for step in range(1, 3 * of_file.steps_per_epoch):
        batch = of_file.batch_at(step)
        assert equal(batch, of_list.batch_at(step))
        assert equal(batch, plain_batch(expected, 6, seed, step))


def test_dev_batches_are_those_of_a_list(mapped, listed):
    of_file, of_list = (sequential_batches(e[::3], 6) for e in (mapped, listed))
    assert len(of_file) == len(of_list) == 6
    assert all(map(equal, of_file, of_list))


def scanned(example, test, others, seed):
    """The reference of a sentence by a scan, the first version of `references_of`."""

    def of_speaker(candidates):
        return [
            c
            for c in candidates
            if (c.corpus, c.speaker) == (example.corpus, example.speaker)
            and c.utt_id != example.utt_id
        ]

    candidates = of_speaker(test) or of_speaker(others)
    return candidates[_number(seed, example.utt_id) % len(candidates)] if candidates else None


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize("n_test", [8, 40])
def test_references_are_those_of_a_scan(mapped, listed, seed, n_test):
    test, others = listed[:n_test], listed[n_test:]
    expected = {e.utt_id: scanned(e, test, others, seed) for e in test}
    able = [e for e in test if expected[e.utt_id]]
    sources = {expected[e.utt_id].utt_id in {t.utt_id for t in test} for e in able}
    assert len(able) > 5
    assert True in sources
    for chosen in (
        references_of(able, test, others, seed),
        references_of(able, mapped[:n_test], mapped[n_test:], seed),
    ):
        assert all(same(chosen[e.utt_id], expected[e.utt_id]) for e in able)
    # The sentence is among the others too: it is no candidate there either.
    for e in able:
        assert same(references_of([e], [e], mapped, seed)[e.utt_id], scanned(e, [e], listed, seed))


def test_a_probe_set_is_that_of_a_list(mapped, listed):
    of_file = probe_set(mapped[:30], mapped[30:], 12, seed=3)
    of_list = probe_set(listed[:30], listed[30:], 12, seed=3)
    assert [e.utt_id for e in of_file[0]] == [e.utt_id for e in of_list[0]]
    speakers = [(e.corpus, e.speaker) for e in listed]
    able = [e for e in listed[:30] if speakers.count((e.corpus, e.speaker)) > 1]
    order = np.random.default_rng(3).permutation(len(able))
    by_id = sorted(able, key=lambda e: e.utt_id)
    assert [e.utt_id for e in of_file[0]] == [by_id[i].utt_id for i in order[:12]]
    for e in of_list[0]:
        expected = scanned(e, listed[:30], listed[30:], 3)
        assert same(of_file[1][e.utt_id], expected)
        assert same(of_list[1][e.utt_id], expected)


def test_the_index_knows_each_speaker_and_no_stranger(mapped, listed):
    index = SpeakerIndex(mapped)
    for corpus in CORPORA:
        for speaker in ("s0", "s3", "alone"):
            expected = [
                i for i, e in enumerate(listed) if (e.corpus, e.speaker) == (corpus, speaker)
            ]
            assert index.members(corpus, speaker).tolist() == expected
    assert len(index.members("a", "nobody")) == 0
    counts = index.counts(SpeakerIndex(listed[:10])).tolist()
    for e, n in zip(listed, counts, strict=True):
        both = [*listed, *listed[:10]]
        assert n == sum((o.corpus, o.speaker) == (e.corpus, e.speaker) for o in both)


def plain_facts(examples) -> Facts:
    """The facts by asking one utterance after another."""
    in_order = sorted(examples, key=lambda e: e.utt_id)

    def highest(value):
        best = max(in_order, key=value)
        return Extreme(int(value(best)), best.utt_id)

    def uncovered(rounding):
        for e in in_order:
            spans = spans_to_frames(e.spans_s, len(e.tokens), rounding)
            if not (spans[:, 1] > spans[:, 0]).any():
                return Extreme(len(spans), e.utt_id)
        return None

    lowest = min(in_order, key=lambda e: e.transcript.max())
    return Facts(
        utterances=len(examples),
        symbols=sum(len(e.symbols) for e in examples),
        tokens=sum(len(e.tokens) for e in examples),
        highest_symbol=highest(lambda e: e.symbols.max()),
        phones=next((e.utt_id for e in in_order if e.symbol_word.any()), None),
        highest_transcript=highest(lambda e: e.transcript.max()),
        lowest_transcript=Extreme(int(lowest.transcript.max()), lowest.utt_id),
        longest_transcript=highest(lambda e: len(e.transcript)),
        unmarked=next(
            (e.utt_id for e in in_order if not {*e.transcript} >= WHISPER_SPECIAL_TOKENS), None
        ),
        uncovered={rounding: uncovered(rounding) for rounding in ROUNDINGS},
    )


def test_facts_are_those_of_a_plain_loop(table, mapped, listed):
    assert facts_of(mapped) == plain_facts(listed)
    for leave_out in (("weak",), ("a", "b")):
        assert facts_of(load(table, leave_out)) == plain_facts(left(listed, leave_out))
    assert facts_of(mapped[5:9]) == plain_facts(listed[5:9])


def test_facts_name_what_is_wrong(listed):
    rng = np.random.default_rng(0)
    marked = np.array([50258, 50363, 11, 50257])
    tokens = [replace(e, symbols=rng.integers(0, 90, 3), symbol_word=np.zeros(3, dtype=np.int64),
                      transcript=marked) for e in listed[:9]]  # fmt: skip
    assert facts_of(tokens).phones is facts_of(tokens).unmarked is None
    tokens[4] = replace(tokens[4], transcript=marked[1:], spans_s=np.array([[0.05, 0.07]]))
    tokens[6] = replace(tokens[6], symbol_word=np.array([0, 1, 1]))
    facts = facts_of(tokens)
    assert facts == plain_facts(tokens)
    assert facts.unmarked == tokens[4].utt_id
    assert facts.phones == tokens[6].utt_id
    assert facts.uncovered == {"nearest": None, "truncate": Extreme(1, tokens[4].utt_id)}
    assert facts_from_json(json.dumps({"a": asdict(facts)})) == {"a": facts}


def test_a_file_of_another_table_is_refused(table, mapped, tmp_path):
    rows = read_table(table, DATASET)
    path = tmp_path / "train.parquet"
    write_table(rows, path, DATASET)
    with pytest.raises(HproError, match=r"train\.arrow does not exist: run `hpro dataset` again"):
        load(path)
    example_file.write_examples(path)
    assert utt_ids(load(path)) == utt_ids(mapped)
    write_table(rows[1:], path, DATASET)
    with pytest.raises(HproError, match=r"train\.arrow was not made from the train\.parquet"):
        load(path)
    path.with_suffix(".arrow").write_bytes(b"ARROW1 but no more")
    with pytest.raises(HproError, match=r"train\.arrow is not a readable table"):
        load(path)


def test_a_table_without_rows_has_a_file_without(tmp_path):
    path = tmp_path / "dev.parquet"
    write_table(pd.DataFrame({name: pd.Series(dtype=object) for name in DATASET.columns}), path,
                DATASET)  # fmt: skip
    example_file.write_examples(path)
    assert len(load(path)) == 0
    assert load(path).facts == {}


@pytest.mark.parametrize(
    ("name", "values", "says"),
    [
        ("tokens", [[6561]], "a speech token is outside"),
        ("tokens", [[-1]], "a speech token is outside"),
        ("tokens", [None], "column tokens has a missing value"),
        ("tokens", [[None]], "column tokens has a missing value"),
        ("utt_id", [None], "column utt_id has a missing value"),
        ("word_end_s", [[0.5]], "column word_end_s has lists of the wrong length"),
        ("word_vad", [[0.5]], "column word_vad has lists of the wrong length"),
        ("emotion", [[1.0]], "column emotion has lists of the wrong length"),
        ("symbol_word", [[0]], "column symbol_word has lists of the wrong length"),
        ("corpus", ["x"], "its facts belong to other corpora"),
    ],
)
def test_a_dataset_whose_lists_do_not_fit_is_refused(table, name, values, says, tmp_path):
    """Also one with a checksum that fits."""
    path = tmp_path / "train.parquet"
    write_table(read_table(table, DATASET)[:1], path, DATASET)
    example_file.write_examples(path)
    arrow = path.with_suffix(".arrow")
    file = pa.ipc.open_file(arrow.read_bytes())
    batch, (_, metadata) = file.get_batch(0), file.get_batch_with_custom_metadata(1)
    place = file.schema.names.index(name)
    odd = batch.set_column(place, name, pa.array(values, file.schema.types[place]))
    write_sealed(arrow, odd, dict(metadata))
    with pytest.raises(HproError, match=rf"train\.arrow is not a readable table.*{says}"):
        load(path)


@pytest.mark.parametrize(
    "facts", [b"[]", b"{", b'{"a": 1}', b'{"a": {"utterances": 1}}', b"[" * 5000]
)
def test_odd_facts_of_a_dataset_are_refused(table, facts, tmp_path):
    path = tmp_path / "train.parquet"
    write_table(read_table(table, DATASET)[:1], path, DATASET)
    example_file.write_examples(path)
    arrow = path.with_suffix(".arrow")
    file = pa.ipc.open_file(arrow.read_bytes())
    _, metadata = file.get_batch_with_custom_metadata(1)
    write_sealed(arrow, file.get_batch(0), {**dict(metadata), b"hpro.facts": facts})
    with pytest.raises(HproError, match=r"train\.arrow is not a readable table"):
        load(path)


def write_sealed(path, batch, metadata):
    """Write a dataset of one batch with a checksum that fits."""
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, batch.schema) as made:
        made.write_batch(batch)
        content = sink.getvalue()
        digest = hashlib.sha256(content).hexdigest()
        metadata[b"hpro.sha256"] = f"{len(content)} {digest}".encode()
        made.write_batch(pa.RecordBatch.from_pylist([], batch.schema), metadata)
    path.write_bytes(sink.getvalue())
