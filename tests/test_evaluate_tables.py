"""Intervals against hand values, and tables from scores of utterances."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hpro_core.analysis import tables
from hpro_core.analysis.scores import (
    METRICS,
    PROSODY_METRICS,
    ids_to_check,
    metric_summary,
    ratio,
)
from hpro_core.analysis.statistics import Ratio, interval, paired_difference
from hpro_core.errors import HproError
from hpro_core.io import read_json, write_json
from hpro_core.judges.provenance import JudgeProvenance, to_json
from hpro_core.params import SEEDLESS, Evaluate, Tables
from hpro_core.tables import SCORES, write_table
from tests.recorded import record
from tests.scores import quality_and_prosody

SETTINGS = Evaluate(
    judge_epochs=1,
    judge_learning_rate=1e-3,
    check_every=1,
    dnsmos_windows=1,
    bootstrap_samples=200,
    seed=0,
)
PAUSES_OF = ("both", "synthesis", "recording")
PROSODY_COLUMNS = ("f0_corr", "energy_corr", "rate_corr", *(f"n_pauses_{of}" for of in PAUSES_OF))
ROWS = Tables(
    comparison=["recordings", "tokenrecon", "sft", "hpro"],
    progressive=["sft", "frame", "hpro"],
    ablation=["joint", "hpro"],
)


def scores(seed: int, n: int = 6) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "utt_id": [f"{c}_{i}" for c in ("acted", "controlled") for i in range(n)],
            "corpus": ["acted"] * n + ["controlled"] * n,
            "transcript": "",
            "n_errors": generator.integers(0, 4, 2 * n),
            "n_words": generator.integers(4, 9, 2 * n),
            "n_errors_check": generator.integers(0, 4, 2 * n),
            "wvad_ccc": generator.uniform(-1, 1, 2 * n),
            "emo_sim": generator.uniform(0, 1, 2 * n),
            "dnsmos": generator.uniform(1, 5, 2 * n),
            "speaker_sim": generator.uniform(0, 1, 2 * n),
            **quality_and_prosody(2 * n, generator),
        }
    )


def write(root: Path, system: str, seed: int, table: pd.DataFrame) -> None:
    folder = root / "eval" / system / f"seed{seed}"
    write_table(table, folder / "scores.parquet", SCORES)
    record(root, folder / "scores.parquet", system, seed)
    write_json(folder / "metrics.json", to_json(JudgeProvenance({"asr": "an ear"}, {})))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number, system in enumerate(("recordings", "tokenrecon")):
        write(tmp_path, system, 0, scores(number))
    for number, system in enumerate(("sft", "frame", "hpro", "joint")):
        for seed in (0, 1):
            write(tmp_path, system, seed, scores(10 * number + seed + 5))
    return tmp_path


def test_a_constant_score_has_no_spread() -> None:
    assert interval(Ratio.mean_of(np.full((2, 5), 0.25)), 100, 0) == (0.25, 0.25, 0.25)


def test_two_utterances_by_hand() -> None:
    # two draws of {0, 1}: mean 0, 1/2, 1 with chances 1/4, 1/2, 1/4, so the 95 % interval is [0, 1]
    found = interval(Ratio.mean_of(np.array([[0.0, 1.0]])), 2000, 0)
    assert found == (0.5, 0.0, 1.0)


def test_interval_is_near_the_normal_one() -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, (1, 400))
    half = 1.96 * values.std() / 20
    value, lo, hi = interval(Ratio.mean_of(values), 4000, 0)
    assert value == pytest.approx(values.mean())
    assert (lo, hi) == pytest.approx((value - half, value + half), abs=0.15 * half)


def test_resampling_equals_a_plain_loop() -> None:
    generator = np.random.default_rng(2)
    errors, words = generator.integers(0, 5, (3, 8)), generator.integers(3, 9, (3, 8))
    draws = np.random.default_rng(7)
    chosen_BN, chosen_BS = draws.integers(8, size=(60, 8)), draws.integers(3, size=(60, 3))
    expected = [
        sum(errors[s, n] for s in seeds for n in utterances)
        / sum(words[s, n] for s in seeds for n in utterances)
        for seeds, utterances in zip(chosen_BS, chosen_BN, strict=True)
    ]
    value, lo, hi = interval(Ratio(errors.astype(float), words.astype(float)), 60, 7)
    assert value == pytest.approx(errors.sum() / words.sum())
    assert (lo, hi) == pytest.approx(tuple(np.quantile(expected, (0.025, 0.975))))


def test_seeds_widen_the_interval() -> None:
    same = np.tile(np.random.default_rng(3).random((1, 200)), (3, 1))
    apart = same + np.array([[-0.3], [0.0], [0.3]])
    narrow, wide = (interval(Ratio.mean_of(x), 500, 0) for x in (same, apart))
    assert narrow.value == pytest.approx(wide.value)
    assert wide.hi - wide.lo > 3 * (narrow.hi - narrow.lo)


def test_pairs_make_small_gains_visible() -> None:
    baseline = np.random.default_rng(4).random((1, 100))
    gain = paired_difference(Ratio.mean_of(baseline + 0.01), Ratio.mean_of(baseline), 300, 0)
    assert gain == pytest.approx((0.01, 0.01, 0.01))
    with pytest.raises(ValueError, match="shapes differ"):
        paired_difference(Ratio.mean_of(baseline), Ratio.mean_of(baseline[:, 1:]), 10, 0)


def test_words_that_were_not_found_count_as_no_agreement() -> None:
    table = scores(0)
    table.loc[[0, 1], "wvad_ccc"] = None
    kept = table["wvad_ccc"].iloc[2:6].sum() / 6
    found = metric_summary(table, SETTINGS)["acted"]
    assert found["wvad_ccc"]["value"] == pytest.approx(kept)
    assert (found["n"], found["n_wvad"]) == (6, 4)
    table["wvad_ccc"] = None
    assert ratio([table], "wvad_ccc").numerator_SN.sum() == 0


def test_words_that_were_not_found_count_as_no_prosody() -> None:
    table = scores(0).assign(n_words=5)
    table.loc[[0, 1], ["f0_corr", "n_pauses_both", "n_pauses_synthesis"]] = None  # not found
    table.loc[1, "n_words"] = 2  # too short for a correlation
    table.loc[2, "f0_corr"] = None  # found, but without pitch
    own = table.iloc[:6]
    found = metric_summary(table, SETTINGS)["acted"]
    assert found["f0_corr"]["value"] == pytest.approx(own["f0_corr"].sum() / 4)
    both, spoken, recorded = (own[f"n_pauses_{of}"].sum() for of in PAUSES_OF)
    assert found["pause_f1"]["value"] == pytest.approx(2 * both / (spoken + recorded))


def test_f1_of_pauses_by_hand() -> None:
    # 1 of 2 and 3, 1 of 1 and 1, 0 of 0 and 1: precision 2/3, recall 2/5, their harmonic mean 1/2
    table = scores(0, n=3)
    for column, counted in zip(PAUSES_OF, ([1, 1, 0], [2, 1, 0], [3, 1, 1]), strict=True):
        table[f"n_pauses_{column}"] = counted * 2
    assert ratio([table[:3]], "pause_f1").value == pytest.approx(0.5)
    table[["n_pauses_both", "n_pauses_synthesis", "n_pauses_recording"]] = 0
    assert np.isnan(ratio([table[:3]], "pause_f1").value)
    assert "pause_f1" not in metric_summary(table, SETTINGS)["acted"]


def test_draws_without_a_pause_are_left_out() -> None:
    found = interval(Ratio(np.array([[2.0, 0.0]]), np.array([[4.0, 0.0]])), 200, 0)
    assert found == (0.5, 0.5, 0.5)


def test_prosody_without_recordings_has_no_value(root: Path) -> None:
    for path in sorted(root.glob("eval/*/seed*/scores.parquet")):
        table = pd.read_parquet(path)
        table.loc[table["corpus"] == "acted", [*PROSODY_COLUMNS]] = None
        write(root, path.parts[-3], int(path.parent.name.removeprefix("seed")), table)
    tables.write_tables(root, ROWS, [0, 1], SETTINGS)
    found = pd.read_csv(root / "tables/comparison.csv").set_index("test_set")
    assert found.loc["acted", [*PROSODY_METRICS]].isna().all(axis=None)
    assert found.loc["controlled", [*PROSODY_METRICS]].notna().all(axis=None)
    gaps = pd.read_csv(root / "tables/differences.csv").groupby("test_set")["metric"].agg(set)
    assert gaps["controlled"] - gaps["acted"] == set(PROSODY_METRICS)


def test_judges_that_the_user_brings_have_columns(root: Path) -> None:
    for path in sorted(root.glob("eval/*/seed*/scores.parquet")):
        table = pd.read_parquet(path).assign(nisqa=3.5)
        write(root, path.parts[-3], int(path.parent.name.removeprefix("seed")), table)
    tables.write_tables(root, ROWS, [0, 1], SETTINGS)
    found = pd.read_csv(root / "tables/comparison.csv")
    assert tuple(found.columns) == (*tables.COLUMNS, "nisqa", "nisqa_lo", "nisqa_hi")
    assert set(found["nisqa"]) == {3.5}
    assert "| pauses | NISQA |" in (root / "tables/comparison.md").read_text()
    assert "nisqa" in set(pd.read_csv(root / "tables/differences.csv")["metric"])


def test_checks_are_averaged_over_the_checked_utterances() -> None:
    table = scores(0)
    unheard = [0, 2, 3, 5]
    table["n_errors_check"] = table["n_errors_check"].astype("Int64")
    table.loc[unheard, ["n_errors_check", "dnsmos"]] = None
    heard = table.loc[[1, 4]]
    found = metric_summary(table, SETTINGS)["acted"]
    expected = heard["n_errors_check"].sum() / heard["n_words"].sum()
    assert found["wer_check"]["value"] == pytest.approx(expected)
    assert found["dnsmos"]["value"] == pytest.approx(heard["dnsmos"].mean())
    assert (found["n"], found["n_checked"]) == (6, 2)


@pytest.mark.parametrize(("every", "n"), [(1, 6), (4, 2), (9, 1)])
def test_of_every_test_set_the_same_share_is_checked(every: int, n: int) -> None:
    settings = SETTINGS.model_copy(update={"check_every": every})
    utterances = scores(0)[["utt_id", "corpus"]]
    chosen = ids_to_check(utterances, settings)
    assert utterances[utterances["utt_id"].isin(chosen)].groupby("corpus").size().tolist() == [n, n]
    assert ids_to_check(utterances.sample(frac=1, random_state=1), settings) == chosen


def test_tables_have_every_cell(root: Path) -> None:
    tables.write_tables(root, ROWS, [0, 1], SETTINGS)
    for name, systems in ROWS.model_dump().items():
        table = pd.read_csv(root / "tables" / f"{name}.csv")
        assert tuple(table.columns) == tables.COLUMNS
        assert not table.isna().any().any()
        assert table["system"].tolist() == [s for s in systems for _ in range(2)]
        assert set(table["n"]) == {6}
        for metric in METRICS:
            assert table[metric].between(table[f"{metric}_lo"], table[f"{metric}_hi"]).all()
        seeds = dict(zip(table["system"], table["seeds"], strict=True))
        assert seeds == {s: 1 if s in SEEDLESS else 2 for s in systems}
        lines = (root / "tables" / f"{name}.md").read_text().splitlines()
        rows, below = lines[: 2 + len(table)], lines[2 + len(table) :]
        assert all(line.count("|") == rows[0].count("|") for line in rows)
        assert below[:3] == ["", "Prosody against the recording:", ""]
        rows, below = below[3 : 5 + len(table)], below[5 + len(table) :]
        assert rows[0] == "| system | test set | words found | F0 | energy | rate | pauses |"
        assert all(line.count("|") == rows[0].count("|") for line in rows)
        assert below == ["", tables.COUNTS_NOTE]


def test_tables_say_of_how_many_utterances_their_figures_are(root: Path) -> None:
    for seed, lost in ((0, 3), (1, 0)):
        table = scores(seed + 5)
        table.loc[: lost - 1, "wvad_ccc"] = None
        table.loc[1:5, ["dnsmos", "n_errors_check"]] = None
        write(root, "sft", seed, table)
    for system in ("frame", "hpro"):
        for seed in (0, 1):
            table = scores(seed)
            table.loc[1:5, ["dnsmos", "n_errors_check"]] = None
            write(root, system, seed, table)
    rows = Tables(comparison=["sft"], progressive=["sft", "frame"], ablation=["hpro"])
    tables.write_tables(root, rows, [0, 1], SETTINGS)
    found = pd.read_csv(root / "tables/progressive.csv").set_index(["system", "test_set"])
    assert found.loc[("sft", "acted"), ["n", "n_wvad", "n_checked"]].tolist() == [6, 4.5, 1]
    assert found.loc[("frame", "acted"), ["n", "n_wvad", "n_checked"]].tolist() == [6, 6, 1]
    assert "| sft | acted | 6 | 4.5 | 1 | 2 |" in (root / "tables/progressive.md").read_text()


def test_policies_that_judges_chose_are_named(root: Path) -> None:
    for variant, chosen in (("frame", {}), ("hpro", {"kept_step": 30})):
        write_json(root / f"policy/{variant}/seed1/metrics.json", {"dev": {}, **chosen})
    tables.write_tables(root, ROWS, [0, 1], SETTINGS)
    said = (root / "tables/comparison.md").read_text()
    assert "Embedded judges chose the kept step of hpro (reward.probe_every)" in said


def test_figures_are_those_of_the_scores(root: Path) -> None:
    tables.write_tables(root, ROWS, [0, 1], SETTINGS, root / "elsewhere")
    table = pd.read_csv(root / "elsewhere" / "progressive.csv").set_index(["system", "test_set"])
    both = pd.concat([scores(5), scores(6)])
    acted = both[both["corpus"] == "acted"]
    row = table.loc[("sft", "acted")]
    assert row["wer"] == pytest.approx(acted["n_errors"].sum() / acted["n_words"].sum())
    assert row["dnsmos"] == pytest.approx(acted["dnsmos"].mean())
    gaps = pd.read_csv(root / "elsewhere" / "differences.csv")
    assert set(gaps["system"]) == {"frame", "hpro", "joint"}
    gap = gaps[(gaps["system"] == "hpro") & (gaps["test_set"] == "acted")].set_index("metric")
    expected = table.loc[("hpro", "acted")]["dnsmos"] - row["dnsmos"]
    assert gap.loc["dnsmos", "above_sft"] == pytest.approx(expected)


def test_flat_metrics_are_the_means_of_the_tables(root: Path) -> None:
    tables.write_tables(root, ROWS, [0, 1], SETTINGS)
    names = ("comparison", "progressive", "ablation")
    rows = pd.concat([pd.read_csv(root / f"tables/{name}.csv") for name in names])
    expected = rows.drop_duplicates(["system", "test_set"]).set_index(["test_set", "system"])
    files = list((root / "tables/metrics").glob("*/*.json"))
    assert len(files) == len(expected)
    for file in files:
        row = expected.loc[(file.parent.name, file.stem)]
        assert read_json(file) == {
            name: round(row[metric], 3) for metric, name in tables.SUMMARY.items()
        }


def test_a_set_whose_affect_is_not_judged_has_empty_cells_and_the_reason(root: Path) -> None:
    tables.write_tables(root, ROWS, [0, 1], SETTINGS)
    names = ("comparison.csv", "differences.csv")
    before = {name: pd.read_csv(root / "tables" / name) for name in names}
    reason = "No wVAD-CCC and EMO-SIM on acted: unknown."
    for path in sorted(root.glob("eval/*/seed*/scores.parquet")):
        table = pd.read_parquet(path)
        table.loc[table["corpus"] == "acted", ["wvad_ccc", "emo_sim"]] = np.nan
        write(root, path.parts[-3], int(path.parent.name.removeprefix("seed")), table)
        judges = JudgeProvenance({"asr": "an ear"}, {}, {"acted": reason})
        write_json(path.with_name("metrics.json"), to_json(judges))
    tables.write_tables(root, ROWS, [0, 1], SETTINGS)
    affect = [f"{m}{end}" for m in ("wvad_ccc", "emo_sim") for end in ("", "_lo", "_hi")]
    for name, old in before.items():
        found = pd.read_csv(root / "tables" / name)
        withheld = old["test_set"] == "acted"
        if name == "comparison.csv":
            assert found.loc[withheld, affect].isna().all(axis=None)
            # words found: known from prosody where affect is not judged
            assert (found.loc[withheld, "n_wvad"] == found.loc[withheld, "n"]).all()
            expected = old.copy()
            expected.loc[withheld, affect] = np.nan
        else:
            expected = old[~(withheld & old["metric"].isin(("wvad_ccc", "emo_sim")))]
        pd.testing.assert_frame_equal(found, expected.reset_index(drop=True), check_exact=True)
    text = (root / "tables/comparison.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| hpro | acted "))
    assert row.count("| – ") == 2
    assert text.endswith(f"\n{reason}\n")
    flat = [root / "tables/metrics" / name / "hpro.json" for name in ("acted", "controlled")]
    assert [sorted(read_json(path)) for path in flat] == [
        ["wer"],
        ["ccc", "sim", "wer"],
    ]


def test_systems_with_other_notes_on_affect_are_refused(root: Path) -> None:
    judges = JudgeProvenance({"asr": "an ear"}, {}, {"acted": "unknown"})
    write_json(root / "eval/sft/seed1/metrics.json", to_json(judges))
    with pytest.raises(HproError, match=r"different judges \(affect: .*unknown"):
        tables.write_tables(root, ROWS, [0, 1], SETTINGS)


def test_a_missing_system_is_named(root: Path) -> None:
    (root / "eval" / "joint" / "seed1" / "scores.parquet").unlink()
    with pytest.raises(HproError, match=r"row 'joint': run `hpro judge joint --seed 1`"):
        tables.write_tables(root, ROWS, [0, 1], SETTINGS)
    assert not (root / "tables").exists()


def test_other_utterances_are_refused(root: Path) -> None:
    write(root, "frame", 1, scores(0, n=5))
    with pytest.raises(HproError, match="frame, seed 1, was judged on other utterances"):
        tables.write_tables(root, ROWS, [0, 1], SETTINGS)


def test_systems_in_each_others_place_are_refused(root: Path) -> None:
    one, other = root / "eval/recordings", root / "eval/tokenrecon"
    one.rename(root / "aside")
    other.rename(one)
    (root / "aside").rename(other)
    with pytest.raises(HproError, match=r"recordings/seed0/scores\.parquet is not of recordings"):
        tables.write_tables(root, ROWS, [0, 1], SETTINGS)
    assert not (root / "tables").exists()


def test_scores_of_another_system_are_refused(root: Path) -> None:
    name = "seed0/scores.parquet"
    shutil.copy(root / "eval/frame" / name, root / "eval/hpro" / name)
    with pytest.raises(HproError, match=r"hpro/seed0/scores\.parquet was changed after"):
        tables.write_tables(root, ROWS, [0, 1], SETTINGS)
    assert not (root / "tables").exists()


@pytest.mark.parametrize("name", ["comparison.csv", "comparison.md", "differences.csv"])
def test_a_full_disk_leaves_nothing_under_the_name_of_a_table(root, full_disk, name) -> None:
    full_disk(name)
    with pytest.raises(HproError, match=rf"{name} cannot be written \(No space left on device"):
        tables.write_tables(root, ROWS, [0, 1], SETTINGS)
    assert not list((root / "tables").glob(f"*{name}*"))
