"""Shards: whole speakers, nothing lost, and together what one job would have made."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from hpro_core import dataset, shards
from hpro_core.align import stage as align
from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.errors import HproError
from hpro_core.label import stage as label
from hpro_core.label.lexicon import NORMS_FILE
from hpro_core.params import Align, Dataset, Label, read_section
from hpro_core.speech.stage import utterances_to_encode, write_tokens
from hpro_core.tables import (
    REJECTED,
    UTTERANCES,
    WORDS,
    count_rows,
    empty,
    read_table,
    rejected,
    write_table,
)
from tests.test_label import voice

SHIPPED = Path(__file__).parents[1] / "params.yaml"
SPEAKERS = ("ann", "ben", "cid", "dot", "eve")
SPLITS = ("train", "train", "dev", "test", "judge")
LABEL = Label(window_words=1, temperature=0.25)
DATASET = Dataset(policy_text="phones", codec_text="phones", max_rejected_fraction=0.5)
ALIGN = read_section(SHIPPED, "align", Align).model_copy(update={"max_rejected_fraction": 0.5})


def utterance(speaker: str, take: int, duration_s: float = 1.0) -> dict:
    utt_id = f"a_{speaker}{take}"
    return {
        "utt_id": utt_id, "corpus": "a", "speaker": speaker, "text": "Good day!",
        "words": "good day", "audio": f"corpus/a/audio/{utt_id}.wav", "duration_s": duration_s,
        "split": SPLITS[take % len(SPLITS)], "group": utt_id, "emotion": None, "label": None,
    }  # fmt: skip


@pytest.fixture
def corpus() -> pd.DataFrame:
    """Five speakers, the first with most to say."""
    takes = [(s, take) for i, s in enumerate(SPEAKERS) for take in range(20 - 3 * i)]
    rng = np.random.default_rng(0)
    order = rng.permutation(len(takes))
    return pd.DataFrame([utterance(*takes[i], 1.0 + rng.random()) for i in order])


@pytest.mark.parametrize("n_shards", [1, 2, 3, 5])
def test_shards_are_whole_speakers_in_the_order_of_the_table(corpus, n_shards):
    parts = shards.assign_shards(corpus, n_shards)
    assert len(parts) == n_shards
    assert sum(map(len, parts)) == len(corpus)
    speakers = [set(part["speaker"]) for part in parts]
    assert sum(map(len, speakers)) == len(SPEAKERS)
    assert all(part.index.is_monotonic_increasing for part in parts)


def test_shards_last_about_as_long(corpus):
    seconds = [part["duration_s"].sum() for part in shards.assign_shards(corpus, 2)]
    longest = corpus.groupby("speaker")["duration_s"].sum().max()
    assert max(seconds) - min(seconds) < longest / 2


def test_a_speaker_of_two_corpora_is_two(corpus):
    twice = pd.concat([corpus, corpus.assign(corpus="b", utt_id="b" + corpus["utt_id"])])
    assert len(shards.assign_shards(twice, 10)) == 10
    with pytest.raises(HproError, match="shards: 11, but the corpora have 10 speakers"):
        shards.assign_shards(twice, 11)


OF_NO_SHARD = ("align/mfa_models.csv", "align/words.parquet", "speech/tokenizer/config.json")
OF_ONE_JOB = ("align/textgrids/a.TextGrid", "align/mfa.log", "align/alignment_analysis.csv",
              "align/mfa_work_x/corpus/a.lab", "speech/speech_tokens.parquet")  # fmt: skip


@pytest.mark.parametrize(("before", "after"), [(3, 2), (3, 1), (1, 3), (2, 3), (1, 1)])
def test_another_number_of_shards_leaves_nothing_of_the_old(corpus, tmp_path, before, after):
    shards.write(tmp_path, corpus, before)
    of_shards = [
        f"{stage}/shards/{shard:05d}/made"
        for stage in ("align", "label", "speech", "dataset")
        for shard in range(before if before > 1 else 0)
    ]
    for name in (*OF_NO_SHARD, *of_shards, *(OF_ONE_JOB if before == 1 else ())):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    shards.write(tmp_path, corpus, after)
    assert len(list(tmp_path.glob("corpus/shards/*"))) == (after if after > 1 else 0)
    kept = [name for name in of_shards if after > 1 and int(name.split("/")[2]) < after]
    kept += OF_ONE_JOB if before == after == 1 else ()
    found = [p for p in tmp_path.rglob("*") if p.is_file() and p.name != "utterances.parquet"]
    assert {str(p.relative_to(tmp_path)) for p in found} == {*OF_NO_SHARD, *kept}
    assert (tmp_path / "align/shards").exists() == (before > 1 and after > 1)


@pytest.fixture
def run_folder(tmp_path, monkeypatch):
    """Five speakers of five utterances whose audio is a hum, aligned, with norms for the labels."""
    root = tmp_path / "run"
    table = pd.DataFrame([utterance(s, take) for s in SPEAKERS for take in range(len(SPLITS))])
    for i, audio in enumerate(table["audio"]):
        (root / audio).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / audio, voice(100 + 7 * i, 1.0), SAMPLE_RATE_HZ)
    write_table(table, root / "corpus/utterances.parquet", UTTERANCES)
    shards.write(root, table, 3)
    norms = tmp_path / "weights" / NORMS_FILE
    # Made-up norms in the place of the published ones, whose hash is known.
    monkeypatch.setattr("hpro_core.label.lexicon.find_weights", lambda name, folder: folder / name)
    norms.parent.mkdir(parents=True)
    norms.write_text(",Word,V.Mean.Sum,A.Mean.Sum,D.Mean.Sum\n1,good,8,4,6\n2,day,6,3,5\n")
    return root


def made(root, shard: int | None) -> None:
    """All tables of a shard; words are where they are, but one speaker has none."""
    folder = shards.folder_of(root, "corpus", shard)
    table = read_table(folder / "utterances.parquet", UTTERANCES)
    spoken = table[table["speaker"] != "cid"]
    words = [
        (utt_id, i, word, 0.1 + 0.4 * i, 0.5 + 0.4 * i, 1.0)
        for utt_id in spoken["utt_id"]
        for i, word in enumerate(("good", "day"))
    ]
    lost = [(utt_id, "no words") for utt_id in table["utt_id"] if "cid" in utt_id]
    aligned = shards.folder_of(root, "align", shard)
    write_table(pd.DataFrame(words, columns=list(WORDS.columns)), aligned / "words.parquet", WORDS)
    write_table(rejected(lost, "align"), aligned / "rejected.parquet", REJECTED)
    label.run(root, LABEL, root.parent / "weights", shard=shard)
    wanted = utterances_to_encode(root, shard)
    row = {"tokens": np.arange(25, dtype=np.int16), "speaker_embedding": np.ones(4, np.float32)}
    write_tokens(root, shard, wanted, [{"utt_id": utt_id, **row} for utt_id in wanted["utt_id"]])
    dataset.build(root, DATASET, shard)


def test_shards_together_are_what_one_job_makes(run_folder):
    made(run_folder, None)
    names = [(stage, name, schema) for stage, held in shards.TABLES.items()
             for name, schema in held.items()]  # fmt: skip
    paths = [run_folder / stage / f"{name}.parquet" for stage, name, _ in names]
    whole = [read_table(path, schema) for path, (_, _, schema) in zip(paths, names, strict=True)]
    for path in paths:
        path.unlink()
    for shard in range(3):
        made(run_folder, shard)
    accuracy = run_folder / "align/accuracy.json"  # of the words before
    accuracy.touch()
    for stage in shards.TABLES:
        shards.gather(run_folder, stage, 3, max_rejected_fraction=0.5)
    assert not accuracy.exists()
    for path, expected, (_, _, schema) in zip(paths, whole, names, strict=True):
        assert count_rows(path) == len(expected) > 0
        key = [c for c in ("utt_id", "word_index") if c in expected]
        found = read_table(path, schema).sort_values(key).reset_index(drop=True)
        expected = expected.sort_values(key).reset_index(drop=True)
        pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_a_shard_of_which_nothing_is_aligned_stops_nobody(run_folder):
    alone = next(
        shard
        for shard in range(3)
        if "cid" in set(utterances_to_encode(run_folder, shard)["speaker"])
    )
    table = utterances_to_encode(run_folder, alone)
    folder = shards.folder_of(run_folder, "corpus", alone)
    write_table(table[table["speaker"] == "cid"], folder / "utterances.parquet", UTTERANCES)
    made(run_folder, alone)
    assert count_rows(shards.folder_of(run_folder, "dataset", alone) / "train.parquet") == 0


def test_all_shards_together_may_lose_no_more_than_one_job(run_folder):
    for shard in range(3):
        made(run_folder, shard)
    with pytest.raises(
        HproError, match=r"align: 5 of 25 .*align.max_rejected_fraction 0.1 .*a_cid0"
    ):
        shards.gather(run_folder, "align", 3, max_rejected_fraction=0.1)


def test_a_missing_shard_is_named(run_folder):
    made(run_folder, 0)
    with pytest.raises(HproError, match=r"align/shards/00001/words.parquet does not exist"):
        shards.gather(run_folder, "align", 3)
    assert not (run_folder / "align/words.parquet").exists()


@pytest.mark.parametrize("stage", shards.TABLES)
def test_tables_of_other_lists_are_refused(run_folder, stage):
    """Made in three shards, gathered in two."""
    for shard in range(3):
        made(run_folder, shard)
    table = read_table(run_folder / "corpus/utterances.parquet", UTTERANCES)
    with pytest.raises(HproError, match=r"3 lists of 25 utterances, but shards is 2 and .* 25:"):
        shards.gather(run_folder, stage, 2)
    shards.write(run_folder, table, 2)
    stale = stage if stage == "dataset" else "align"  # nothing can be labelled before
    told = rf"{stale}/shards/0000\d lacks \d+ .* and has \d+ others .*`hpro {stale} --shard \d`"
    with pytest.raises(HproError, match=told):
        shards.gather(run_folder, stage, 2)
    assert not list((run_folder / stage).glob("*.parquet"))
    shards.write(run_folder, table, 1)
    with pytest.raises(HproError, match="shards is 1"):
        shards.gather(run_folder, stage, 1)


@pytest.mark.parametrize("name", ["emotion_posteriors", "word_vad"])
def test_a_table_that_lacks_an_utterance_is_refused(run_folder, name):
    for shard in range(3):
        made(run_folder, shard)
    path = shards.folder_of(run_folder, "label", 1) / f"{name}.parquet"
    schema = shards.TABLES["label"][name]
    labels = read_table(path, schema)
    lost = labels["utt_id"].iloc[0]
    write_table(labels[labels["utt_id"] != lost], path, schema)
    told = rf"label/shards/00001 lacks 1 utterances of .*/align/.* 0 others \(first: {lost}\)"
    with pytest.raises(HproError, match=told):
        shards.gather(run_folder, "label", 3)


def test_a_split_that_no_shard_has_is_named(run_folder):
    for shard in range(3):
        path = shards.folder_of(run_folder, "corpus", shard) / "utterances.parquet"
        table = read_table(path, UTTERANCES)
        write_table(table.replace({"split": {"dev": "train"}}), path, UTTERANCES)
        made(run_folder, shard)
    with pytest.raises(HproError, match="split 'dev' has no utterance"):
        shards.gather(run_folder, "dataset", 3)


def test_a_shard_is_aligned_alone(run_folder, tmp_path):
    """Whatever a hum becomes: the shard's utterances are in its tables, no other's change."""
    (run_folder / "align/shards/00002").mkdir(parents=True)
    marker = run_folder / "align/shards/00002/words.parquet"
    marker.write_text("another shard's")
    align.run(run_folder, ALIGN, threads=1, shard=1)
    folder = shards.folder_of(run_folder, "align", 1)
    there = set(read_table(folder / "rejected.parquet", REJECTED)["utt_id"]) | set(
        read_table(folder / "words.parquet", WORDS)["utt_id"]
    )
    source = shards.folder_of(run_folder, "corpus", 1) / "utterances.parquet"
    assert there == set(read_table(source, UTTERANCES)["utt_id"])
    assert marker.read_text() == "another shard's"


def test_only_chosen_rows_are_read(tmp_path):
    table = pd.DataFrame([utterance(s, take) for s in SPEAKERS for take in range(5)])
    path = tmp_path / "utterances.parquet"
    write_table(table, path, UTTERANCES)
    chosen = read_table(path, UTTERANCES, only={"split": ("dev", "test"), "speaker": {"ann"}})
    assert chosen["utt_id"].tolist() == ["a_ann2", "a_ann3"]
    assert len(read_table(path, UTTERANCES, only={"split": ["train"]})) == 10
    assert read_table(path, UTTERANCES, only={"utt_id": []}).empty
    write_table(empty(UTTERANCES), path, UTTERANCES)
    assert read_table(path, UTTERANCES, only={"split": ("dev",)}).empty
