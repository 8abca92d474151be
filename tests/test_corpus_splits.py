"""Splits: what must hold for any corpus, and the errors."""

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array

from hpro_core import tables
from hpro_core.corpus import splits
from hpro_core.errors import HproError
from hpro_core.params import WholeCorpus
from tests.test_corpus import settings


def two_sets(**changes: object) -> WholeCorpus:
    path = {"reader": "csv", "path": "unused"}
    return settings(Path(), sets={"acted": path, "told": path}, **changes)


def random_set(name: str, rng: np.random.Generator) -> pd.DataFrame:
    n_groups = int(rng.integers(12, 40))
    rows = []
    for group in range(n_groups):
        speakers = rng.choice(6, size=2)
        for _ in range(int(rng.integers(2, 12))):
            index = len(rows)
            rows.append(
                {
                    "utt_id": f"{name}_{index}",
                    "corpus": name,
                    "speaker": f"{name}{rng.choice(speakers)}",
                    "text": "x",
                    "words": f"word {rng.integers(400)}",
                    "audio": f"{index}.wav",
                    "duration_s": 1.0,
                    "split": "",
                    "group": f"scene{group}",
                    "emotion": str(rng.choice(["happy", "sad"])) if name == "told" else None,
                    "label": None,
                }
            )
    return pd.DataFrame(rows)


def write_set(root: Path, name: str, table: pd.DataFrame) -> None:
    folder = root / "corpus" / name
    tables.write_table(table, folder / "utterances.parquet", tables.UTTERANCES)
    lost = tables.rejected([(f"{name}_lost", "silent audio")], "corpus-read")
    tables.write_table(lost, folder / "rejected.parquet", tables.REJECTED)


def run(root: Path, corpus: WholeCorpus) -> tuple[pd.DataFrame, pd.DataFrame]:
    splits.split(root, corpus)
    return (
        tables.read_table(root / "corpus" / "utterances.parquet", tables.UTTERANCES),
        tables.read_table(root / "corpus" / "rejected.parquet", tables.REJECTED),
    )


@pytest.mark.parametrize("seed", range(8))
def test_what_must_hold_for_any_corpus(tmp_path: Path, seed: int):
    rng = np.random.default_rng(seed)
    entered = {name: random_set(name, rng) for name in ("acted", "told")}
    for name, table in entered.items():
        write_set(tmp_path, name, table)
    corpus = two_sets(
        max_rejected_fraction=1.0, max_test_utterances=12, seed=seed, test_fraction=0.2
    )
    kept, lost = run(tmp_path, corpus)

    assert (kept.groupby(["corpus", "group"]).split.nunique() == 1).all()
    assert (kept.groupby("words").split.nunique() == 1).all()
    test = kept[kept.split == "test"]
    assert test.groupby("corpus").size().max() <= 12
    assert set(test.corpus) == {"acted", "told"}
    assert set(kept.split) == {"train", "dev", "test", "judge"}
    heard = kept[kept.split.isin(("test", "train"))].groupby(["corpus", "speaker"]).size()
    assert all(heard[row.corpus, row.speaker] >= 2 for row in test.itertuples())
    ids = [utt_id for table in entered.values() for utt_id in table.utt_id]
    lost_here = lost[lost.stage == "corpus-split"]
    assert sorted([*kept.utt_id, *lost_here.utt_id]) == sorted(ids)
    assert sorted(lost.utt_id[lost.stage == "corpus-read"]) == ["acted_lost", "told_lost"]


def test_the_same_input_gives_the_same_bytes(tmp_path: Path):
    for root in (tmp_path / "a", tmp_path / "b"):
        rng = np.random.default_rng(3)
        for name in ("acted", "told"):
            write_set(root, name, random_set(name, rng))
        run(root, two_sets(max_rejected_fraction=1.0))
    for file in ("utterances.parquet", "rejected.parquet"):
        first, second = ((tmp_path / ab / "corpus" / file).read_bytes() for ab in "ab")
        assert first == second


def one_set(**columns: list) -> pd.DataFrame:
    n = len(columns["words"])
    defaults = {
        "utt_id": [f"mine_{index}" for index in range(n)],
        "corpus": ["mine"] * n,
        "speaker": ["ann"] * n,
        "text": ["x"] * n,
        "audio": ["x.wav"] * n,
        "duration_s": [1.0] * n,
        "split": [""] * n,
        "group": [f"g{index}" for index in range(n)],
        "emotion": [None] * n,
        "label": [None] * n,
    }
    return pd.DataFrame(defaults | columns)


PRESCRIBED = ["train"] * 4 + ["dev", "judge", "test", "test"]


def test_prescribed_splits_are_kept_and_repeats_go(tmp_path: Path):
    words = ["a", "b", "c", "c", "d", "e", "f", "a"]
    write_set(tmp_path, "mine", one_set(words=words, split=PRESCRIBED))
    kept, lost = run(tmp_path, settings(Path(), max_rejected_fraction=0.2))
    assert dict(zip(kept.utt_id, kept.split, strict=True)) == {
        f"mine_{index}": label for index, label in enumerate(PRESCRIBED) if index
    }
    assert lost.reason.tolist() == ["silent audio", "same sentence as in test"]
    with pytest.raises(HproError, match=r"1 of 8 utterances rejected, more than .* 0\.1 "):
        run(tmp_path, settings(Path()))


def test_prescribed_test_set_that_is_too_big(tmp_path: Path):
    labels = ["train", "dev", "judge"] + ["test"] * 5
    write_set(tmp_path, "mine", one_set(words=list("abcdefgh"), split=labels))
    kept, lost = run(tmp_path, settings(Path(), max_rejected_fraction=0.0, max_test_utterances=2))
    assert (kept.split == "test").sum() == 2
    assert lost.reason.tolist().count("test set is full") == 3


def test_what_publishers_do_not_prescribe_is_taken_from_train(tmp_path: Path):
    n = 100
    words = [f"w{index}" for index in range(n)]
    labels = ["train"] * 80 + ["dev"] * 10 + ["test"] * 10
    groups = [f"g{index // 2}" for index in range(n)]
    write_set(tmp_path, "mine", one_set(words=words, split=labels, group=groups))
    kept, lost = run(tmp_path, settings(Path(), judge_fraction=0.12))
    judge = kept[kept.split == "judge"]
    assert len(judge) == 12
    assert set(judge.utt_id) <= {f"mine_{index}" for index in range(80)}
    assert (kept.groupby("group").split.nunique() == 1).all()
    assert kept.split.value_counts().to_dict() == {
        "train": 68, "judge": 12, "dev": 10, "test": 10
    }  # fmt: skip
    assert len(lost) == 1


def test_a_small_set_without_groups_loses_no_repeated_sentence(tmp_path: Path):
    words = [f"w{index}" for index in range(50)] + [f"w{index}" for index in range(10)]
    write_set(tmp_path, "mine", one_set(words=words))
    usual = {"dev_fraction": 0.06, "test_fraction": 0.0265, "judge_fraction": 0.12}
    kept, lost = run(
        tmp_path, settings(Path(), max_rejected_fraction=0.0, max_test_utterances=48, **usual)
    )
    assert (len(kept), len(lost)) == (60, 1)  # one was lost before
    assert (kept.groupby("words").split.nunique() == 1).all()
    sizes = kept.split.value_counts()
    assert (sizes["test"], sizes["dev"], sizes["judge"]) == (12, 4, 7)
    kept, _ = run(tmp_path, settings(Path(), max_test_utterances=5, **usual))
    assert (kept.split == "test").sum() == 5


def test_a_set_of_few_sentences_cannot_be_split(tmp_path: Path):
    write_set(tmp_path, "mine", one_set(words=list("abcabcabc")))
    with pytest.raises(HproError, match="corpus 'mine' has 3 groups: 4 are needed"):
        run(tmp_path, settings(Path()))


def test_a_set_for_the_judges_alone(tmp_path: Path):
    write_set(tmp_path, "mine", one_set(words=list("abcdefgh"), split=PRESCRIBED))
    heard = one_set(words=list("ijklmnoa"))
    heard = heard.assign(utt_id=[f"heard_{index}" for index in range(8)], corpus="heard")
    write_set(tmp_path, "heard", heard)
    sets = {"mine": {"reader": "csv", "path": "unused"}}
    sets["heard"] = sets["mine"] | {"split": "judge"}
    kept, lost = run(tmp_path, settings(Path(), sets=sets, max_rejected_fraction=0.2))
    assert kept[kept.corpus == "heard"].split.unique().tolist() == ["judge"]
    assert lost[lost.stage == "corpus-split"].values.tolist() == [
        ["mine_0", "corpus-split", "same sentence as in judge"]
    ]


def write_voices(root: Path, speakers: list[str], **columns: list) -> None:
    """A set of `PRESCRIBED` splits, and `voices`."""
    write_set(root, "mine", one_set(words=list("abcdefgh"), split=PRESCRIBED))
    n = len(speakers)
    voices = one_set(words=[f"word {index}" for index in range(n)], speaker=speakers)
    ids = [f"voices_{index}" for index in range(n)]
    write_set(root, "voices", voices.assign(utt_id=ids, corpus="voices", **columns))


def voices_sets(**changes: object) -> WholeCorpus:
    """`mine`, and `voices`, all of which is a test set."""
    mine = {"reader": "csv", "path": "unused"}
    return settings(Path(), sets={"voices": mine | {"split": "test"}, "mine": mine}, **changes)


def test_a_test_set_has_equally_many_utterances_of_each_speaker(tmp_path: Path):
    speakers = ["ann"] * 40 + ["bea"] * 10 + ["cid"] * 3 + ["dan"] * 10
    write_voices(tmp_path, speakers, split=["train"] * 63)
    kept, lost = run(tmp_path, voices_sets(max_rejected_fraction=0.0, max_test_utterances=18))
    voices = kept[kept.corpus == "voices"]
    assert set(voices.split) == {"test"}
    assert voices.speaker.value_counts().to_dict() == {"ann": 5, "bea": 5, "cid": 3, "dan": 5}
    assert kept.split[kept.corpus == "mine"].tolist() == PRESCRIBED
    assert lost.reason.value_counts()["test set is full"] == 63 - 18
    again, _ = run(tmp_path, voices_sets(max_rejected_fraction=0.0, max_test_utterances=18))
    pd.testing.assert_frame_equal(again, kept)
    other = voices_sets(max_rejected_fraction=0.0, max_test_utterances=18, seed=1)
    assert set(run(tmp_path, other)[0].utt_id) != set(kept.utt_id)
    whole, _ = run(tmp_path, voices_sets(max_rejected_fraction=0.0, max_test_utterances=63))
    assert (whole.corpus == "voices").sum() == 63


def test_no_speaker_of_a_test_set_is_without_reference(tmp_path: Path):
    write_voices(tmp_path, [name for name in "abcd" for _ in range(4)])
    for limit, n_speakers in ((5, 2), (6, 3), (9, 4)):
        corpus = voices_sets(max_rejected_fraction=0.0, max_test_utterances=limit)
        voices = run(tmp_path, corpus)[0].query("corpus == 'voices'")
        sizes = voices.speaker.value_counts()
        assert (len(sizes), sizes.min()) == (n_speakers, 2)
        assert len(voices) == limit - (limit == 5)


def test_sentences_of_a_test_set_are_in_no_training(tmp_path: Path):
    write_voices(tmp_path, ["ann"] * 4)
    voices = tables.read_table(tmp_path / "corpus/voices/utterances.parquet", tables.UTTERANCES)
    write_set(tmp_path, "voices", voices.assign(words=["a", "b", "x", "y"]))
    kept, lost = run(tmp_path, voices_sets(max_rejected_fraction=0.3))
    assert (kept.corpus == "voices").sum() == 4
    assert lost[lost.stage == "corpus-split"].values.tolist() == [
        ["mine_0", "corpus-split", "same sentence as in test"],
        ["mine_1", "corpus-split", "same sentence as in test"],
    ]


def test_a_test_set_of_known_sentences_is_refused(tmp_path: Path, monkeypatch):
    write_voices(tmp_path, ["ann"] * 4)
    known = {f"word {index}" for index in range(4)}
    monkeypatch.setattr(splits, "known_sentences", lambda base, words: words.isin(known))
    corpus = voices_sets(max_rejected_fraction=1.0)
    with pytest.raises(HproError, match=r"'voices'.* \(4 the base was trained on this sentence\)"):
        splits.split(tmp_path, corpus, tmp_path)
    known.remove("word 0")  # and the only other utterance of its speaker is known
    with pytest.raises(HproError, match=r"\(3 the base was trained on this sentence, 1 no other "):
        splits.split(tmp_path, corpus, tmp_path)


def test_a_training_set_is_without_the_scenes_of_a_test_set(tmp_path: Path):
    """Both are of one game: the test set has some of its speakers, the training set the others."""
    groups = ["g0", "g1", "new", "new"]
    write_voices(tmp_path, ["ann"] * 4, group=groups)
    rest = one_set(words=list("ijkl"), group=["new", "g8", "g9", "g8"])
    rest = rest.assign(utt_id=[f"rest_{index + 20}" for index in range(4)], corpus="rest")
    write_set(tmp_path, "rest", rest)
    mine = {"reader": "amazon_queen", "path": "unused"}
    sets = {"mine": mine, "rest": mine | {"split": "train"}, "voices": mine | {"split": "test"}}
    renamed = {f"voices_{index}": f"voices_{index + 40}" for index in range(4)}
    voices = tables.read_table(tmp_path / "corpus/voices/utterances.parquet", tables.UTTERANCES)
    write_set(tmp_path, "voices", voices.assign(utt_id=voices.utt_id.map(renamed)))
    kept, lost = run(tmp_path, settings(Path(), sets=sets, max_rejected_fraction=0.0))
    assert kept.utt_id[kept.corpus == "voices"].tolist() == ["voices_42", "voices_43"]
    assert kept.utt_id[kept.corpus == "rest"].tolist() == ["rest_21", "rest_22", "rest_23"]
    reasons = dict(zip(lost.utt_id, lost.reason, strict=True))
    assert reasons["voices_40"] == "same group as in another split of set mine"
    assert reasons["rest_20"] == "same group as in another split of set voices"


def test_two_sets_with_equal_ids(tmp_path: Path):
    for name in ("a", "a_b"):
        table = one_set(words=list("abcdefgh"), split=PRESCRIBED)
        ids = [f"a_b_{index}" for index in range(8)]
        write_set(tmp_path, name, table.assign(corpus=name, utt_id=ids))
    sets = {name: {"reader": "csv", "path": "unused"} for name in ("a", "a_b")}
    with pytest.raises(HproError, match="sets a and a_b both have 'a_b_0': rename one"):
        run(tmp_path, settings(Path(), sets=sets))


def test_many_groups_are_split_in_seconds():
    """A choice of few groups among a hundred thousand, each of one speaker in thousands."""
    rng = np.random.default_rng(0)
    n = 100_000
    speaker_G = rng.integers(0, 2000, n)
    counts_GS = csr_array((np.ones(n, int), (np.arange(n), speaker_G)), shape=(n, 2000))
    start = time.monotonic()
    chosen = splits.choose_groups(counts_GS, csr_array(np.ones((n, 1), int)), wanted=100, rng=rng)
    assert len(chosen) == 100
    assert time.monotonic() - start < 20


def test_test_speaker_without_reference_is_rejected(tmp_path: Path):
    speakers = ["ann"] * 7 + ["bea"]
    table = one_set(words=list("abcdefgh"), split=PRESCRIBED, speaker=speakers)
    write_set(tmp_path, "mine", table)
    _, lost = run(tmp_path, settings(Path(), max_rejected_fraction=0.2))
    assert lost.values.tolist()[1:] == [
        ["mine_7", "corpus-split", "no other utterance of the speaker in test or train"]
    ]


def test_errors(tmp_path: Path):
    with pytest.raises(HproError, match="run the stage that writes it first"):
        run(tmp_path, settings(Path()))
    write_set(tmp_path, "mine", one_set(words=list("abc")))
    with pytest.raises(HproError, match="corpus 'mine' has 3 groups: 4 are needed"):
        run(tmp_path, settings(Path()))
    table = one_set(words=list("abcdefgh"), split=PRESCRIBED, group=["g"] * 8)
    write_set(tmp_path, "mine", table)
    with pytest.raises(HproError, match="group 'g' is in several prescribed splits"):
        run(tmp_path, settings(Path()))
    labels = ["train"] * 6 + ["judge", "test"]
    write_set(tmp_path, "mine", one_set(words=list("abcdefgh"), split=labels))
    with pytest.raises(HproError, match="split 'dev' has no utterance"):
        run(tmp_path, settings(Path()))


def queen_sets(reader: str = "amazon_queen", **changes: object) -> WholeCorpus:
    """`mine`, and `game`, all of which is for training."""
    mine = {"reader": reader, "path": "unused"}
    return settings(Path(), sets={"game": mine | {"split": "train"}, "mine": mine}, **changes)


def write_mine_and_game(root: Path, **columns: list) -> None:
    """A set of `PRESCRIBED` splits, of which `game` has all, and four more utterances."""
    write_set(root, "mine", one_set(words=list("abcdefgh"), split=PRESCRIBED))
    groups = [f"g{index}" for index in range(8)] + ["g7", "g4", "g0", "other"]
    game = one_set(words=list("abcdefghijkh"), group=groups)
    game = game.assign(utt_id=[f"game_{index}" for index in range(12)], corpus="game")
    write_set(root, "game", game.assign(**columns))


def test_a_set_for_training_is_without_what_another_set_has_or_holds_out(tmp_path: Path, capsys):
    write_mine_and_game(tmp_path)
    kept, lost = run(tmp_path, queen_sets(max_rejected_fraction=0.5))
    assert kept.utt_id[kept.corpus == "game"].tolist() == ["game_10"]
    assert set(kept.split[kept.corpus == "game"]) == {"train"}
    assert kept.split[kept.corpus == "mine"].tolist() == PRESCRIBED
    reasons = dict(zip(lost.utt_id, lost.reason, strict=True))
    assert reasons == {
        "game_lost": "silent audio",
        "mine_lost": "silent audio",
        **{f"game_{index}": "read already in set mine" for index in range(8)},
        "game_8": "same group as in another split of set mine",
        "game_9": "same group as in another split of set mine",
        "game_11": "same sentence as in test",
    }
    printed = capsys.readouterr().out
    assert "game: left out 10 of 12: 8 read already in set mine, 2 same group as in" in printed
    assert "game: rejected 1 of 2: 1 same sentence as in test" in printed


def test_a_set_for_the_judges_is_without_what_is_in_another_split(tmp_path: Path):
    write_mine_and_game(tmp_path, words=[f"word {index}" for index in range(12)])
    groups = ["g0", "g5", "g6", "new", *("more" for _ in range(8))]
    game = one_set(words=[f"word {index}" for index in range(12)], group=groups)
    game = game.assign(utt_id=[f"game_{index + 20}" for index in range(12)], corpus="game")
    write_set(tmp_path, "game", game)
    sets = {"mine": {"reader": "amazon_queen", "path": "unused"}}
    sets["game"] = sets["mine"] | {"split": "judge"}
    assert (PRESCRIBED[0], PRESCRIBED[5], PRESCRIBED[6]) == ("train", "judge", "test")
    _, lost = run(tmp_path, settings(Path(), sets=sets, max_rejected_fraction=0.2))
    reasons = dict(zip(lost.utt_id, lost.reason, strict=True))
    assert {name: reasons.get(name) for name in ("game_20", "game_21", "game_22", "game_23")} == {
        "game_20": "same group as in another split of set mine",
        "game_21": None,
        "game_22": "same group as in another split of set mine",
        "game_23": None,
    }


def test_what_a_set_for_training_leaves_out_does_not_count_as_rejected(tmp_path: Path):
    words = [f"word {index}" for index in range(12)]
    write_mine_and_game(tmp_path, words=words)
    kept, _ = run(tmp_path, queen_sets(max_rejected_fraction=0.0))
    assert kept.utt_id[kept.corpus == "game"].tolist() == ["game_10", "game_11"]


def test_ids_and_groups_of_csv_folders_are_not_compared(tmp_path: Path):
    write_mine_and_game(tmp_path, words=[f"word {index}" for index in range(12)])
    kept, _ = run(tmp_path, queen_sets(reader="csv", max_rejected_fraction=0.0))
    assert (kept.corpus == "game").sum() == 12


def test_a_set_for_training_ignores_the_splits_of_its_corpus(tmp_path: Path):
    words = [f"word {index}" for index in range(12)]
    write_mine_and_game(tmp_path, words=words, split=["test", *["dev"] * 11])
    kept, _ = run(tmp_path, queen_sets(reader="csv", max_rejected_fraction=0.0))
    assert set(kept.split[kept.corpus == "game"]) == {"train"}


def test_a_set_for_training_changes_nothing_about_the_splits_of_others(tmp_path: Path):
    rng = np.random.default_rng(5)
    for name in ("acted", "told", "game"):
        write_set(tmp_path, name, random_set(name, rng))
    alone, _ = run(tmp_path, two_sets(max_rejected_fraction=1.0))
    game = {"game": {"reader": "csv", "path": "unused", "split": "train"}}
    sets = game | two_sets().model_dump()["sets"]
    kept, _ = run(tmp_path, settings(Path(), sets=sets, max_rejected_fraction=1.0))
    pd.testing.assert_frame_equal(kept[kept.corpus != "game"], alone)


def test_a_set_for_training_that_adds_nothing(tmp_path: Path):
    write_mine_and_game(tmp_path)
    write_set(tmp_path, "game", one_set(words=["a"]).assign(utt_id="game_0", corpus="game"))
    with pytest.raises(HproError, match="corpus 'game' adds nothing to other sets: remove it"):
        run(tmp_path, queen_sets())


def test_a_set_that_is_split_needs_test_utterances(tmp_path: Path):
    write_mine_and_game(tmp_path, words=list("abcdefghijkl"), split=["train"] * 12)
    sets = {name: {"reader": "csv", "path": "unused"} for name in ("mine", "game")}
    with pytest.raises(HproError, match=r"'game' has no test utterance: .*game\.split: train"):
        run(tmp_path, settings(Path(), sets=sets, max_rejected_fraction=1.0))


def test_a_split_covers_many_speakers_and_no_speaker_is_used_up():
    counts_GS = np.kron(np.eye(5, dtype=int), np.full((3, 1), 4))  # 5 speakers, 3 scenes of 4
    rng = np.random.default_rng(0)
    chosen = splits.choose_groups(counts_GS, np.ones((15, 1), int), wanted=20, rng=rng)
    taken_S = counts_GS[chosen].sum(axis=0)
    assert taken_S.tolist() == [4, 4, 4, 4, 4]


def test_a_split_keeps_the_shares_of_emotions():
    counts_GE = np.repeat(np.eye(5, dtype=int), 40, axis=0)
    rng = np.random.default_rng(0)
    chosen = splits.choose_groups(np.ones((200, 1), int), counts_GE, wanted=20, rng=rng)
    assert len(chosen) == 20
    assert np.abs(counts_GE[chosen].sum(axis=0) - 4).max() <= 2
