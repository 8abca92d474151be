"""Differences between runs against hand values, what is refused, and the page."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from hpro_core.analysis import tables
from hpro_core.analysis.scores import METRICS
from hpro_core.analysis.tables import Scores
from hpro_core.compare import settings as settings_of
from hpro_core.compare.commands import app
from hpro_core.compare.differences import (
    Resampling,
    as_table,
    run_differences,
    seed_pairs,
    withheld,
)
from hpro_core.compare.runs import named_runs
from hpro_core.errors import HproError
from hpro_core.io import read_json, write_json
from hpro_core.judges.provenance import JudgeProvenance
from hpro_core.tables import UTTERANCES, read_table, write_table
from tests import test_report as made
from tests import two_runs
from tests.test_evaluate_tables import SETTINGS, scores

DRAWS = Resampling(SETTINGS.bootstrap_samples, SETTINGS.seed)
IDS = {f"{name}_{i}": name for name in ("controlled", "acted") for i in range(6)}


def of_two(
    first: Scores,
    other: Scores,
    seeds: tuple[list[int], list[int]] = ([0], [0]),
    without: dict[str, str] | None = None,
    test_sets: dict[str, str] = IDS,
) -> pd.DataFrame:
    """Differences as a table, by system, test set and metric."""
    found = run_differences(
        first, other, seed_pairs(*seeds), seeds, test_sets, without or {}, DRAWS
    )
    table = as_table({"b": found}, "a")
    return table.set_index(["system", "test_set", "metric"])


# --- differences ---------------------------------------------------------------------------------


def test_a_known_effect_is_found_with_its_sign() -> None:
    first = scores(1).assign(n_words=8)
    other = first.assign(n_errors=first["n_errors"] + 1, dnsmos=first["dnsmos"] - 0.25)
    found = of_two({"hpro": [first]}, {"hpro": [other]})
    for test_set in ("acted", "controlled"):
        wer, dnsmos = (found.loc[("hpro", test_set, m)] for m in ("wer", "dnsmos"))
        assert wer["n"] == dnsmos["n"] == 6
        assert wer["first"] == pytest.approx(
            first.loc[first["corpus"] == test_set, "n_errors"].sum() / 48
        )
        # the same change in every sentence: no spread, so the pairs are by sentence
        assert [wer[end] for end in ("above_a", "lo", "hi")] == pytest.approx([1 / 8] * 3)
        assert [dnsmos[end] for end in ("above_a", "lo", "hi")] == pytest.approx([-0.25] * 3)
    assert (found.loc[(slice(None), slice(None), "speaker_sim"), "above_a"] == 0).all()


def test_intervals_cover_a_known_effect() -> None:
    generator = np.random.default_rng(5)
    ids = [f"controlled_{i:02d}" for i in range(40)]
    base = pd.concat([scores(1, n=20), scores(2, n=20)])
    base = base[base["corpus"] == "controlled"].assign(utt_id=ids).reset_index(drop=True)
    covered = 0
    for _ in range(100):
        noise = generator.normal(0.2, 0.3, 40)
        other = base.assign(dnsmos=base["dnsmos"] + noise)
        own = {"hpro": [other[["utt_id", "corpus", "dnsmos", *_rest(other)]]]}
        sets = dict.fromkeys(ids, "controlled")
        table = of_two({"hpro": [base]}, own, without=_all_but("dnsmos"), test_sets=sets)
        row = table.loc[("hpro", "controlled", "dnsmos")]
        covered += row["lo"] <= 0.2 <= row["hi"]
    assert 88 <= covered <= 99  # near 95 %


def _rest(table: pd.DataFrame) -> list[str]:
    return [name for name in table if name not in ("utt_id", "corpus", "dnsmos")]


def _all_but(kept: str) -> dict[str, str]:
    return {metric: "" for metric in METRICS if metric != kept}


def test_the_statistics_are_those_of_the_tables_of_a_run() -> None:
    first, other = [scores(1), scores(2)], [scores(3), scores(4)]
    found = of_two({"x": first}, {"x": other}, ([0, 1], [0, 1])).reset_index()
    expected = tables.differences({"a": first, "b": other}, ["b"], "a", SETTINGS)
    columns = ["test_set", "metric", "n", "above_a", "lo", "hi"]
    merged = found.merge(expected, on=["test_set", "metric"], suffixes=("", "_expected"))
    assert len(merged) == len(found) == len(expected) == 2 * len(METRICS)
    for name in columns[2:]:
        assert (merged[name] == merged[f"{name}_expected"]).all()


def test_only_sentences_that_both_have_are_compared() -> None:
    first, other = scores(1), scores(2)
    few = other.drop([0, 8])  # acted_0, controlled_2
    found = of_two({"x": [first]}, {"x": [few]})
    both = first.drop([0, 8])
    for test_set in ("acted", "controlled"):
        row = found.loc[("x", test_set, "speaker_sim")]
        gaps = (few["speaker_sim"] - both["speaker_sim"])[both["corpus"] == test_set]
        assert row["n"] == 5
        assert row["above_a"] == pytest.approx(gaps.mean())


def test_sentences_that_one_judge_did_not_score_are_left_out_of_its_metric() -> None:
    first, other = scores(1), scores(2)
    first.loc[[0, 1], ["dnsmos", "distillmos"]] = np.nan
    other.loc[[1, 2], ["dnsmos", "distillmos"]] = np.nan
    found = of_two({"x": [first]}, {"x": [other]})
    row = found.loc[("x", "acted", "dnsmos")]
    assert row["n"] == 3
    assert row["above_a"] == pytest.approx((other["dnsmos"] - first["dnsmos"])[3:6].mean())
    assert found.loc[("x", "acted", "wer"), "n"] == 6


def test_affect_that_one_run_does_not_judge_is_left_out() -> None:
    first, other = scores(1), scores(2)
    other.loc[other["corpus"] == "acted", ["emo_sim", "wvad_ccc"]] = np.nan
    found = of_two({"x": [first]}, {"x": [other]})
    assert ("x", "acted", "emo_sim") not in found.index
    assert ("x", "controlled", "emo_sim") in found.index


def test_seeds_are_paired_and_combined_as_in_the_tables() -> None:
    of_a, of_b = [scores(1), scores(2), scores(3)], [scores(4), scores(5)]
    found = of_two({"x": of_a}, {"x": of_b}, ([0, 1, 2], [2, 0]))
    expected = tables.differences({"a": [of_a[0], of_a[2]], "b": of_b[::-1]}, ["b"], "a", SETTINGS)
    row = found.loc[("x", "acted", "dnsmos")]
    assert row["seeds"] == 2
    want = expected.set_index(["test_set", "metric"]).loc[("acted", "dnsmos")]
    assert list(row[["above_a", "lo", "hi"]]) == list(want[["above_a", "lo", "hi"]])


def test_a_system_without_seeds_is_paired_once() -> None:
    found = of_two({"recordings": [scores(1)]}, {"recordings": [scores(1)]}, ([0, 1], [0, 1]))
    assert set(found["seeds"]) == {1}
    assert (found[["above_a", "lo", "hi"]] == 0).all(axis=None)


@pytest.mark.parametrize(
    ("first", "other", "pairs"),
    [
        ([0], [0], [(0, 0)]),
        ([0, 1, 2], [2, 1, 5], [(1, 1), (2, 2)]),
        ([0], [7, 8], [(0, 7)]),
        ([0, 1], [5, 6, 7], [(0, 5), (1, 6)]),
    ],
)
def test_the_same_seeds_are_pairs_else_the_order_is(first, other, pairs) -> None:
    assert seed_pairs(first, other) == pairs


def test_metrics_of_other_judges_are_withheld() -> None:
    names = {"asr": "a", "emotion": "e", "vad": "e", "dnsmos": "d"}
    one = JudgeProvenance(names, {})
    other = JudgeProvenance(names | {"emotion": "f", "vad": "f"}, {})
    assert withheld(one, one) == {}
    assert withheld(one, other) == {"wvad_ccc": "vad", "emo_sim": "emotion"}
    found = of_two({"x": [scores(1)]}, {"x": [scores(2)]}, without=withheld(one, other))
    shown = set(found.index.get_level_values("metric"))
    assert shown == set(METRICS) - {"wvad_ccc", "emo_sim"}


# --- settings ------------------------------------------------------------------------------------


def test_settings_that_differ_are_flat() -> None:
    before = {"run": "a", "sft": {"steps": 50, "path": ""}, "seeds": [0], "same": 1}
    after = {"run": "b", "sft": {"steps": 60, "path": "x"}, "seeds": [0, 1], "same": 1, "new": True}
    found = settings_of.differing({"a": before, "b": after})
    assert found.to_dict("split")["data"] == [
        ["sft.steps", "50", "60"],
        ["sft.path", '""', "x"],
        ["seeds", "[0]", "[0, 1]"],
        ["new", "", "true"],
    ]


def test_settings_of_the_judges_that_change_scores_are_named() -> None:
    before = {"evaluate": {"check_every": 4, "seed": 0, "judge_epochs": 1}}
    after = {"evaluate": {"check_every": 2, "seed": 1, "judge_epochs": 2}}
    different = settings_of.differing({"a": before, "b": after})
    assert settings_of.of_judges(different) == ["evaluate.check_every"]


# --- runs ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made_runs(tmp_path_factory):
    return two_runs.make_runs(tmp_path_factory.mktemp("project"))


@pytest.fixture
def project(made_runs, tmp_path, monkeypatch):
    """A project with results/before and results/after, which a test may change."""
    shutil.copytree(made_runs[0].parents[1], tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def compare(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def refused(*arguments: str) -> str:
    with pytest.raises(HproError) as refusal:
        compare(*arguments)
    assert not list(Path("results").glob("compare/*"))
    return str(refusal.value)


def test_runs_are_named_by_name_or_folder(project) -> None:
    before, after = Path("results/before"), Path("results/after")
    assert named_runs(["before", "after"]) == {"before": before, "after": after}
    assert named_runs(["results/before", f"new={after}"]) == {"before": before, "new": after}
    shutil.copytree(after, project / "elsewhere/before")
    found = named_runs(["before", "other=elsewhere/before"])
    assert found == {"before": before, "other": Path("elsewhere/before")}
    assert "both named 'before': give them names" in refused("before", "elsewhere/before")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["before"], "name two runs or more"),
        (["before", "afer"], "no run 'afer' in results/ (after, before); did you mean after?"),
        (["before", "results/afer"], "'results/afer' is not a folder"),
        (["before", "x y=after"], "'x y' is not usable as the name of a run"),
        (["before", "before"], "before and before are the same run"),
        (["before", "again=results/before"], "before and again=results/before are the same run"),
    ],
)
def test_wrong_names_are_refused(project, given, said) -> None:
    assert said in refused(*given)


@pytest.mark.parametrize(
    ("lost", "stage"),
    [
        ("eval/hpro/seed0/scores.parquet", "eval"),
        ("label/emotion_posteriors.parquet", "label"),
        ("corpus/utterances.parquet", "corpus"),
    ],
)
def test_a_run_that_is_not_finished_is_refused_with_the_stage(project, lost, stage) -> None:
    for name in ("policy/hpro", "policy/word"):
        for root in ("before", "after"):
            (project / "results" / root / name / "seed0").mkdir(parents=True, exist_ok=True)
            (project / "results" / root / name / "seed0/model.safetensors").touch()
    for system in made.ALL_SYSTEMS[2:]:
        path = project / "results/after/policy" / system / "seed0/model.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (project / "results/after" / lost).unlink()
    said = refused("before", "after")
    assert said.startswith(f"results/after is not finished: the stage {stage} has not made {lost}")
    assert f"run `snakemake --cores all -- phase_{stage}`" in said


def test_the_first_missing_stage_is_named(project) -> None:
    shutil.rmtree(project / "results/after/eval/hpro")
    assert "the stage policy has not made policy/" in refused("before", "after")
    (project / "results/after/params/report.yaml").unlink()
    assert "params/report.yaml does not exist" in refused("before", "after")


def test_runs_without_a_common_sentence_are_refused(project) -> None:
    path = project / "results/after/corpus/utterances.parquet"
    table = read_table(path, UTTERANCES)
    write_table(table.assign(text="Other words."), path, UTTERANCES)
    said = refused("before", "after")
    assert "no test sentence in common" in said
    assert "6 have the same id, but another text or recording" in said


def test_a_recording_that_is_not_the_same_is_another_sentence(project) -> None:
    for root, digest in (("before", "a"), ("after", "b")):
        lines = [f"{digest * 64}  ./controlled_4.wav\n", f"{'c' * 64}  ./controlled_5.wav\n"]
        (project / "results" / root / "corpus/controlled/audio.sha256").write_text("".join(lines))
    said = compare("before", "after")
    assert "The runs have other test sentences (before 6, after 6; 1 have the same id" in joined(
        said
    )
    table = pd.read_csv("results/compare/before_after/differences.csv")
    assert set(table.loc[table["test_set"] == "controlled", "n"]) <= {1, 2}


def joined(text: str) -> str:
    return re.sub(r"\s+", " ", text)


# --- the comparison ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compared(made_runs, tmp_path_factory):
    """The text and the folder of a comparison."""
    out = tmp_path_factory.mktemp("compare") / "out"
    return compare(*map(str, made_runs), "--out", str(out), "--samples", "2"), out


def test_the_page_has_the_figures_of_the_table(compared) -> None:
    page = (compared[1] / "index.html").read_text(encoding="utf-8")
    table = pd.read_csv(compared[1] / "differences.csv")
    assert set(table["system"]) == set(made.ALL_SYSTEMS)
    assert set(table["run"]) == {"after"}
    changed = table[table["above_before"] != 0]
    assert set(changed["system"]) == set(two_runs.CHANGED)
    assert set(changed["metric"]) == {"wer", "wvad_ccc"}
    for row in changed.to_dict("records"):
        start = f'data-values="{row["system"]}" data-test-set="{row["test_set"]}"'
        line = page.split(start)[1].split(f'data-metric="{row["metric"]}"')[1].split("</tr>")[0]
        digits, factor = (1, 100) if row["metric"] == "wer" else (3, 1)
        gap, lo, hi = (f"{factor * row[end]:+.{digits}f}" for end in ("above_before", "lo", "hi"))
        assert f"{gap} [{lo}, {hi}]" in line
        assert f">{factor * row['first']:.{digits}f} <small>" in line
        better = row["hi"] < 0 if row["metric"] == "wer" else row["lo"] > 0
        assert (">better in this pair<" in line) == better
    assert "No difference between hpro of after and hpro of before is shown" in page


def test_the_page_has_the_settings_that_differ(compared) -> None:
    table = pd.read_csv(compared[1] / "settings.csv")
    assert table.to_dict("split")["data"] == [["report.samples", 6, 9], ["sft.steps", 50, 70]]
    page = (compared[1] / "index.html").read_text(encoding="utf-8")
    assert page.count("<tr data-setting=") == 2
    assert "2 settings\n  differ</a>" in page


def test_only_other_audio_is_there_twice(compared) -> None:
    _, out = compared
    index = made_index(out)
    names = [system["name"] for system in index["systems"]]
    assert names[:2] == ["hpro, before", "hpro, after"]
    twice = {name for name in names if ", " in name}
    assert twice == {f"{name}, {run}" for name in two_runs.CHANGED for run in ("before", "after")}
    assert index["gaps"] == [f"{name}: after − before" for name in ("hpro", "word")]
    assert index["start"] == "hpro, after"
    sets = [sentence["set"] for sentence in index["sentences"]]
    assert sets == ["acted"] * 2 + ["controlled"] * 2  # --samples 2
    # the lowest and the highest difference in wVAD-CCC: the first and the last sentence
    assert [s["id"][-1] for s in index["sentences"]] == ["4", "6", "4", "6"]
    place = [metric["key"] for metric in index["metrics"]].index("wvad_ccc")
    first = index["sentences"][0]["scores"][place]
    gap = first[len(names)]
    assert gap == pytest.approx(first[1] - first[0], abs=0.0015)
    assert gap == pytest.approx(0.1, abs=0.0015)


def made_index(out: Path) -> dict:
    return made.read_index((out / "index.html").read_text(encoding="utf-8"))


def test_the_text_fits_a_terminal(compared) -> None:
    text, out = compared
    lines = text.splitlines()
    assert max(map(len, lines[:-1])) < 80  # the last line has the folder
    assert lines[-1] == f"{out}: index.html, differences.csv, settings.csv"
    table = pd.read_csv(out / "differences.csv")
    row = table.set_index(["system", "test_set", "metric"]).loc[("hpro", "acted", "wer")]
    [found] = re.findall(r"^hpro on acted.*?^WER +3 +(\S+) +(\S+) +(\S+) ", text, re.M | re.S)
    values = [100 * row[name] for name in ("first", "value", "above_before")]
    assert found == (f"{values[0]:.1f}", f"{values[1]:.1f}", f"{values[2]:+.1f}")
    assert "The same in every metric: recordings, tokenrecon, sft" in joined(text)


def test_the_folder_is_whole_and_recorded(compared) -> None:
    _, out = compared
    names = {path.name for path in out.iterdir()}
    assert {"index.html", "differences.csv", "settings.csv", "record_compare.json"} <= names
    made_files = read_json(out / "record_compare.json")["made"]
    assert {"index.html", "differences.csv", "settings.csv"} <= made_files.keys()


def test_what_limits_a_comparison_is_said(project) -> None:
    after = project / "results/after"
    for path in after.glob("eval/*/seed*/metrics.json"):
        stored = read_json(path)
        stored["judges"] |= {"vad": "net, sha256 " + "d" * 64, "emotion": "net, sha256 " + "d" * 64}
        write_json(path, stored | {"affect_notes": {"acted": "Not trusted on acted."}})
    for system in made.ALL_SYSTEMS[2:]:
        shutil.move(after / f"eval/{system}/seed0", after / f"eval/{system}/seed3")
        scores_file = after / f"eval/{system}/seed3/scores.parquet"
        two_runs.record(after, scores_file, system, 3)
        fix_audio(after, system)
    for system in made.ALL_SYSTEMS[:2]:
        shutil.move(after / f"eval/{system}/seed0", after / f"eval/{system}/seed3")
        two_runs.record(after, after / f"eval/{system}/seed3/scores.parquet", system, 3)
        fix_audio(after, system)
    two_runs.write_settings(after, {"seeds": [3], "evaluate.check_every": 1})
    shutil.copytree(project / "results/before/eval/hpro", project / "results/before/eval/extra")
    two_runs.record(
        project / "results/before",
        project / "results/before/eval/extra/seed0/scores.parquet",
        "extra",
        0,
    )
    said = joined(compare("before", "after"))
    for note in (
        "wVAD-CCC and EMO-SIM cannot be compared: another model judged after (net, sha256 dddddddd)"
        " than before (none).",
        "after: Not trusted on acted.",
        "The runs have other training seeds (before 0, after 3). Paired: after: seeds 0 with 3.",
        "Not compared, since not every run has it: extra (before).",
        "The settings of the judges differ: evaluate.check_every.",
    ):
        assert f"Note: {note}" in said
    table = pd.read_csv("results/compare/before_after/differences.csv")
    assert not {"wvad_ccc", "emo_sim"} & set(table["metric"])
    index = made_index(Path("results/compare/before_after"))
    assert "wvad_ccc" not in [metric["key"] for metric in index["metrics"]]


def fix_audio(root: Path, system: str) -> None:
    """Name the audio of seed 3 as its folder is."""
    path = root / f"eval/{system}/seed3/synthesis.parquet"
    table = read_table(path, made.SYNTHESIS)
    audio = table["audio"].str.replace("/seed0/", "/seed3/")
    write_table(table.assign(audio=audio), path, made.SYNTHESIS)


def test_a_copy_of_a_run_has_no_difference(project) -> None:
    shutil.copytree(project / "results/before", project / "results/copy")
    text = joined(compare("before", "copy"))
    assert text.startswith("copy and before have the same scores for every sentence and system")
    assert (pd.read_csv("results/compare/before_copy/differences.csv")["above_before"] == 0).all()
    page = Path("results/compare/before_copy/index.html").read_text(encoding="utf-8")
    assert "All settings are the same." in page


def test_several_seeds_and_three_runs(project) -> None:
    for root in ("before", "after"):
        folder = project / "results" / root
        for system in made.ALL_SYSTEMS[2:]:
            two_runs.add_seed(folder, system, 1)
        two_runs.write_settings(folder, {"seeds": [0, 1]})
    two_runs.change(project / "results/after", "hpro", two_runs.better, seed=1)
    shutil.copytree(project / "results/before", project / "results/third")
    text = joined(compare("before", "after", "third"))
    assert "hpro of after and hpro of before" in text
    assert "third and before have the same scores" in text
    table = pd.read_csv("results/compare/before_after_third/differences.csv")
    assert dict(zip(table["system"], table["seeds"], strict=True))["hpro"] == 2
    assert dict(zip(table["system"], table["seeds"], strict=True))["recordings"] == 1
    assert set(table["run"]) == {"after", "third"}


def test_a_folder_that_exists_is_not_replaced(project) -> None:
    (project / "results/compare/before_after/notes").mkdir(parents=True)
    with pytest.raises(HproError, match="exists and is not an empty folder"):
        compare("before", "after")
