"""The dataset: what goes in comes out, what does not fit is counted with its reason."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hpro_core import dataset
from hpro_core.constants import EMOTIONS
from hpro_core.corpus.splits import split
from hpro_core.errors import HproError
from hpro_core.params import Dataset
from hpro_core.synthesis.stage import references_of
from hpro_core.tables import (
    DATASET,
    EMOTION_POSTERIORS,
    REJECTED,
    SPEECH_TOKENS,
    TRAINING_SPLITS,
    UTTERANCES,
    WORD_VAD,
    WORDS,
    read_table,
    rejected,
    write_table,
)
from hpro_core.text.phones import SYMBOLS, encode
from hpro_core.train import examples as of_file
from hpro_core.train.facts import facts_of
from tests.test_corpus import settings

LENIENT = Dataset(policy_text="phones", codec_text="phones", max_rejected_fraction=0.9)
SPLIT_OF = {"a_1": "train", "a_2": "train", "a_3": "dev", "a_4": "test", "a_5": "judge", "a_6": ""}
TABLES = {
    "corpus/utterances": UTTERANCES,
    "align/words": WORDS,
    "label/word_vad": WORD_VAD,
    "label/emotion_posteriors": EMOTION_POSTERIORS,
    "speech/speech_tokens": SPEECH_TOKENS,
}


@pytest.fixture
def root(tmp_path):
    """A run in which six utterances of two words and one second passed every stage."""
    ids = list(SPLIT_OF)
    tables = {
        "corpus/utterances": [
            (i, "a", "ann", "Good day!", "good day", f"{i}.wav", 1.0, SPLIT_OF[i], i, None, None)
            for i in ids
        ],
        "align/words": [
            row
            for i in ids
            for row in ((i, 1, "day", 0.5, 1.02, 1.0), (i, 0, "good", 0.1, 0.5, 1.0))
        ],
        "label/word_vad": [
            row for i in ids for row in ((i, 1, 0.4, 0.5, 0.6), (i, 0, 0.1, 0.2, 0.3))
        ],
        "label/emotion_posteriors": [(i, *np.full(9, 1 / 9)) for i in ids],
        "speech/speech_tokens": [
            (i, np.arange(25, dtype=np.int16), np.ones(4, dtype=np.float32)) for i in ids
        ],
    }
    for name, rows in tables.items():
        save(tmp_path, name, pd.DataFrame(rows, columns=list(TABLES[name].columns)))
    return tmp_path


def save(root, name, table):
    write_table(table, root / f"{name}.parquet", TABLES[name])


def stored(root, name):
    return read_table(root / f"{name}.parquet", TABLES[name])


def test_round_trip(root):
    dataset.build(root, LENIENT)
    first, second = dataset.load(root / "dataset/train.parquet")
    assert (first.utt_id, second.utt_id) == ("a_1", "a_2")
    assert first.words == ("good", "day")
    ids, word_index = encode("Good day!", "good day")
    assert first.symbols.tolist() == ids
    assert SYMBOLS[first.symbols[-1]] == "!"
    assert first.symbol_word.tolist() == word_index
    assert first.tokens.tolist() == list(range(25))
    assert first.speaker_embedding.dtype == np.float32
    assert first.emotion.shape == (len(EMOTIONS),)
    # rows arrive out of order, and the last word ended after the audio
    np.testing.assert_allclose(first.spans_s, [[0.1, 0.5], [0.5, 1.0]])
    np.testing.assert_allclose(first.vad, [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], rtol=1e-6)


def test_corpora_that_are_left_out_are_not_read(root, monkeypatch):
    utterances = stored(root, "corpus/utterances")
    utterances.loc[utterances["utt_id"].isin(["a_1", "a_3"]), "corpus"] = "weak"
    utterances.loc[utterances["utt_id"] == "a_4", "split"] = "dev"
    utterances.loc[utterances["utt_id"] == "a_5", "split"] = "test"
    save(root, "corpus/utterances", utterances)
    dataset.build(root, LENIENT)
    made, make = [], of_file._example

    def counted(*arguments):
        made.append(make(*arguments))
        return made[-1]

    monkeypatch.setattr(of_file, "_example", counted)
    learnt = dataset.train_dev(root, ["weak"], "reward")
    assert [facts_of(split).utterances for split in learnt] == [1, 1]
    assert made == []
    assert [[e.utt_id for e in split] for split in learnt] == [["a_2"], ["a_4"]]
    assert [example.utt_id for example in made] == ["a_2", "a_4"]
    assert [len(split) for split in dataset.train_dev(root, [], "reward")] == [2, 2]
    with pytest.raises(HproError, match=r"reward.leave_out .* nothing is left to learn from"):
        dataset.train_dev(root, ["weak", "a"], "reward")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (Path.unlink, r"train\.parquet does not exist"),
        (lambda path: path.write_bytes(b"no table"), "train.parquet is not a readable table"),
        (
            lambda path: pd.DataFrame({"utt_id": ["a"]}).to_parquet(path),
            "column 'corpus' is missing",
        ),
    ],
)
def test_a_faulty_table_is_named_where_corpora_are_left_out(root, spoil, message):
    dataset.build(root, LENIENT)
    spoil(root / "dataset/train.parquet")
    with pytest.raises(HproError, match=message):
        dataset.load(root / "dataset/train.parquet", ["weak"])


def test_examples_can_be_collated(root):
    from hpro_core.train.batching import collate

    dataset.build(root, LENIENT)
    examples = dataset.load(root / "dataset/train.parquet")
    batch = collate(examples, [e.speaker_embedding for e in examples])
    assert batch.spans_BW2.tolist() == [[[3, 13], [13, 25]]] * 2


def test_a_test_utterance_that_lost_its_reference_is_rejected(root):
    words = stored(root, "align/words")
    save(root, "align/words", words[words["utt_id"] != "a_1"])
    dataset.build(root, LENIENT)
    assert [e.utt_id for e in dataset.load(root / "dataset/test.parquet")] == ["a_4"]  # after a_2
    utterances = stored(root, "corpus/utterances")
    utterances.loc[utterances["utt_id"] == "a_2", "speaker"] = "bea"
    utterances.loc[utterances["utt_id"] == "a_6", ["speaker", "split"]] = "bea", "test"
    save(root, "corpus/utterances", utterances)
    dataset.build(root, LENIENT)
    assert [e.utt_id for e in dataset.load(root / "dataset/test.parquet")] == ["a_6"]
    lost = read_table(root / "dataset/rejected.parquet", REJECTED)
    assert dict(zip(lost["utt_id"], lost["reason"], strict=True)) == {
        "a_1": "no word times",
        "a_4": "no other utterance of the speaker in test or train",
    }


def test_a_set_that_is_all_test_has_its_references_in_itself(root, tmp_path):
    """Corpus stages and dataset: set `a` prescribes splits, all of set `b` is a test set."""
    utterances = stored(root, "corpus/utterances")
    for name, first, past, labels in (
        ("a", 0, 4, ["train", "train", "dev", "test"]), ("b", 4, 6, "")
    ):  # fmt: skip
        ids = utterances.utt_id[first:past].str.replace("a_", f"{name}_")
        table = utterances[first:past].assign(utt_id=ids, corpus=name, words=ids, split=labels)
        table = table.assign(emotion=None, label=None)
        write_table(table, root / f"corpus/{name}/utterances.parquet", UTTERANCES)
        write_table(rejected([], "corpus-read"), root / f"corpus/{name}/rejected.parquet", REJECTED)
    for name in list(TABLES)[1:]:
        table = stored(root, name)
        save(root, name, table.assign(utt_id=table.utt_id.replace({"a_5": "b_5", "a_6": "b_6"})))
    sets = {"a": {"reader": "csv", "path": "unused"}}
    sets["b"] = sets["a"] | {"split": "test"}
    split(root, settings(tmp_path, sets=sets))

    utterances = stored(root, "corpus/utterances")
    save(root, "corpus/utterances", utterances.assign(words="good day"))  # as aligned
    dataset.build(root, LENIENT)
    loaded = {name: dataset.load(root / f"dataset/{name}.parquet") for name in TRAINING_SPLITS}
    assert {name: [e.utt_id for e in rows] for name, rows in loaded.items()} == {
        "train": ["a_2"], "dev": ["a_3"], "test": ["a_4", "b_5", "b_6"]  # a_1 is for the judges
    }  # fmt: skip
    test = list(loaded["test"])
    references = references_of(test, test, list(loaded["train"]), seed=0)
    assert {name: found.utt_id for name, found in references.items()} == {
        "a_4": "a_2", "b_5": "b_6", "b_6": "b_5"
    }  # fmt: skip
    words = stored(root, "align/words")
    save(root, "align/words", words[words.utt_id != "b_6"])
    dataset.build(root, LENIENT)
    assert [e.utt_id for e in dataset.load(root / "dataset/test.parquet")] == ["a_4"]
    lost = read_table(root / "dataset/rejected.parquet", REJECTED)
    assert dict(zip(lost["utt_id"], lost["reason"], strict=True)) == {
        "b_5": "no other utterance of the speaker in test or train",
        "b_6": "no word times",
    }


def test_judge_utterances_are_no_part_of_the_dataset(root):
    dataset.build(root, LENIENT)
    tables = {
        split: read_table(root / f"dataset/{split}.parquet", DATASET)["utt_id"].tolist()
        for split in TRAINING_SPLITS
    }
    assert tables == {"train": ["a_1", "a_2"], "dev": ["a_3"], "test": ["a_4"]}
    assert read_table(root / "dataset/rejected.parquet", REJECTED).empty


def without(name):
    def drop(root):
        table = stored(root, name)
        save(root, name, table[table["utt_id"] != "a_1"])

    return drop


def one_word(name):
    def drop(root):
        table = stored(root, name)
        save(root, name, table[(table["utt_id"] != "a_1") | (table["word_index"] == 0)])

    return drop


def tokens_of(values):
    def put(root):
        table = stored(root, "speech/speech_tokens")
        table.at[0, "tokens"] = np.array(values, dtype=np.int16)
        save(root, "speech/speech_tokens", table)

    return put


def late_word(root):
    table = stored(root, "align/words")
    table.loc[table["utt_id"] == "a_1", ["start_s", "end_s"]] += 0.6
    save(root, "align/words", table)


def unspeakable(root):
    table = stored(root, "corpus/utterances")
    table.loc[0, "words"] = "good ''"
    save(root, "corpus/utterances", table)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (without("align/words"), "no word times"),
        (without("label/word_vad"), "no word labels"),
        (without("label/emotion_posteriors"), "no emotion label"),
        (without("speech/speech_tokens"), "no speech tokens"),
        (one_word("align/words"), "1 word times for 2 words"),
        (one_word("label/word_vad"), "1 word labels for 2 words"),
        (tokens_of([]), "speech tokens are empty or outside 0..6560"),
        (tokens_of([6561] * 25), "speech tokens are empty or outside 0..6560"),
        (tokens_of([1] * 40), "40 speech tokens do not fit 1.00 s of audio"),
        (late_word, "a word lies beyond the end of the audio"),
        (unspeakable, "word \"''\" has no pronunciation: spell it out in the transcript"),
    ],
)
def test_what_does_not_fit_is_rejected_with_its_reason(root, spoil, reason):
    spoil(root)
    dataset.build(root, LENIENT)
    lost = read_table(root / "dataset/rejected.parquet", REJECTED)
    assert lost.to_numpy().tolist() == [["a_1", "dataset", reason]]
    assert [e.utt_id for e in dataset.load(root / "dataset/train.parquet")] == ["a_2"]


def test_too_many_rejected_stop_the_run(root):
    without("speech/speech_tokens")(root)
    with pytest.raises(HproError, match=r"1 of 4 .*1 no speech tokens; first: a_1"):
        dataset.build(
            root, Dataset(policy_text="phones", codec_text="phones", max_rejected_fraction=0.2)
        )


def test_an_empty_split_stops_the_run(root):
    table = stored(root, "corpus/utterances")
    save(root, "corpus/utterances", table[table["split"] != "dev"])
    with pytest.raises(HproError, match="split 'dev' has no utterance"):
        dataset.build(root, LENIENT)


def test_a_missing_table_is_named(root):
    (root / "label/word_vad.parquet").unlink()
    with pytest.raises(HproError, match=r"word_vad\.parquet does not exist"):
        dataset.build(root, LENIENT)
