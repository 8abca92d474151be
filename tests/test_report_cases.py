"""Reports of runs that lack something: a variant, sound, a second speaker, Latin letters."""

import json
import math
import re
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
import yaml

from hpro_core.analysis.statistics import Interval
from hpro_core.codec.training import make_codec
from hpro_core.errors import HproError
from hpro_core.report import comparison, figures, jobs, paper, results, stage, svg
from hpro_core.report.comparison import BETTER, NOT_SHOWN, WORSE
from hpro_core.report.measured import by_group
from hpro_core.report.page import short_revision, unhashed
from hpro_core.report.training import path_of
from hpro_core.tables import GENERATED_TOKENS, SYNTHESIS, UTTERANCES, WORDS, read_table, write_table
from hpro_core.train.checkpoint import save_model
from hpro_core.train.examples import spans_to_frames
from tests import test_report as made
from tests.test_report import build, read_index, read_sentence


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return made.make_run(tmp_path_factory.mktemp("results") / "made_up")


@pytest.fixture
def run(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "made_up"))


def without(root, *systems):
    """Remove systems from the tables, as if the settings did not name them."""
    for name in (*results.TABLES, "differences"):
        table = pd.read_csv(root / f"tables/{name}.csv")
        table[~table["system"].isin(systems)].to_csv(root / f"tables/{name}.csv", index=False)


def first_screen(page):
    return page.split('<section id="summary">')[1].split("</section>")[0]


def test_without_hpro_another_policy_is_compared(run):
    for name in results.TABLES:  # no table is empty: hpro's rows become word's
        table = pd.read_csv(run / f"tables/{name}.csv").replace({"system": {"hpro": "word"}})
        table = table.drop_duplicates(["system", "test_set"])
        table.to_csv(run / f"tables/{name}.csv", index=False)
    without(run, "hpro")
    page = build(run)
    assert "No difference between joint and sft is shown" in first_screen(page)
    assert 'data-system="hpro"' not in page
    assert "hpro" not in {system["name"] for system in read_index(page)["systems"]}


def test_without_a_baseline_nothing_is_compared(run):
    without(run, "sft")
    header = (run / "tables/differences.csv").read_text().splitlines()[0]
    (run / "tables/differences.csv").write_text(header + "\n")
    page = build(run)
    assert "there is nothing to compare" in first_screen(page)
    assert "data-comparison" not in page
    assert "paired differences of the other systems" not in page


def test_a_silent_system_has_a_flat_picture(run):
    for path in sorted((run / "eval/word/seed0/audio").glob("*.wav")):
        soundfile.write(path, np.zeros(16000), 16000)
    build(run)
    for path in sorted((run / "report/sentences").glob("*.js")):
        takes = {take["system"]: take for take in read_sentence(path)["takes"]}
        assert set(takes["word"]["f0"]) == {None}
        assert set(takes["word"]["level"]) == {-80}
        assert set(takes["hpro"]["level"]) != {-80}


def test_the_reward_model_is_shown_on_the_tokens_of_each_system(run):
    codec = make_codec("embedded").eval()
    save_model(run / "codec/style", codec, {"model": asdict(codec.config)})
    build(run)
    [path, *_] = sorted((run / "report/sentences").glob("*.js"))
    content = read_sentence(path)
    takes = {take["system"]: take for take in content["takes"]}
    assert takes["diffro"]["reward"] is None  # without tokens
    for system in ("recordings", "hpro"):
        folder, only = run / f"eval/{system}/seed0", {"utt_id": [path.stem]}
        [tokens] = read_table(folder / "tokens.parquet", GENERATED_TOKENS, only)["tokens"]
        words = read_table(folder / "words.parquet", WORDS, only)
        spans = spans_to_frames(words[["start_s", "end_s"]].to_numpy(), len(tokens))
        with torch.no_grad():
            expected = codec(
                torch.tensor(tokens.astype(np.int64))[None],
                torch.tensor([len(tokens)]),
                torch.tensor(spans)[None],
                torch.zeros(1, 1, dtype=torch.int64),
            ).vad_BW3[0]
        assert np.allclose(takes[system]["reward"], expected, atol=6e-4)
        assert len(takes[system]["reward"]) == len(content["words"]) > 1
        assert np.std(takes[system]["reward"]) > 0
    assert takes["recordings"]["reward"] != takes["hpro"]["reward"]


def test_text_from_right_to_left_keeps_its_direction(run):
    hebrew = 'שלום <b>עולם</b> & "you"'
    for path, schema in (
        (run / "corpus/utterances.parquet", UTTERANCES),
        *((path, SYNTHESIS) for path in sorted(run.glob("eval/*/seed0/synthesis.parquet"))),
    ):
        write_table(read_table(path, schema).assign(text=hebrew), path, schema)
    page = build(run)
    assert 'dir="auto">“שלום &lt;b&gt;עולם&lt;/b&gt; &amp; &#34;you&#34;”</h3>' in page
    assert {entry["text"] for entry in read_index(page)["sentences"]} == {hebrew}
    assert "<b>" not in page


def test_one_seed_shows_no_difference_and_more_may(run):
    gaps = pd.read_csv(run / "tables/differences.csv").assign(above_sft=0.1, lo=0.05, hi=0.2)
    gaps.to_csv(run / "tables/differences.csv", index=False)
    said = re.sub(r"\s+", " ", first_screen(build(run)))
    assert "No difference between hpro and sft is shown: there is one training seed" in said
    assert "On controlled (3 sentences), 11 of 11 paired intervals exclude zero: WER (%)" in said
    assert "With one seed this describes these two trainings, not the methods." in said
    assert said.count("worse in this pair</span>") == 2 * len(made.SETS)  # both WERs
    assert said.count("better in this pair</span>") == 9 * len(made.SETS)
    tables = results.read_tables(run)
    rows = pd.concat(table.assign(seeds=3) for table in tables.values())
    rows = rows.drop_duplicates(["system", "test_set"])
    compared = [comparison.compare("hpro", rows, gaps, name, {}) for name in made.SETS]
    assert comparison.headline(compared) == (
        "22 of 22 paired differences between hpro and sft have an interval without zero (3 seeds), "
        "before any correction for the number of comparisons."
    )
    assert "these two trainings" not in compared[0].sentence


@pytest.mark.parametrize(
    ("metric", "gap", "expected"),
    [
        ("wer", (-0.1, -0.2, -0.05), BETTER),
        ("wer", (0.1, 0.05, 0.2), WORSE),
        ("emo_sim", (0.1, 0.05, 0.2), BETTER),
        ("emo_sim", (-0.1, -0.2, -0.05), WORSE),
        ("emo_sim", (0.1, -0.01, 0.2), NOT_SHOWN),
        ("emo_sim", (0.1, 0.0, 0.2), NOT_SHOWN),
        ("wer", (0.0, 0.0, 0.0), NOT_SHOWN),
    ],
)
def test_verdicts(metric, gap, expected):
    assert comparison.verdict(metric, Interval(*gap)) == expected


def test_floors_are_those_of_the_judge(run):
    stored = {"floor": {"controlled": {"n": 9, "emo_sim": 0.25, "wvad_ccc": None}}}
    made.write_json(run / "judge/metrics.json", stored)
    table = first_screen(build(run)).split('data-test-set="controlled"')[1].split("</table>")[0]
    for metric, floor in (("emo_sim", "0.250"), ("wvad_ccc", "–"), ("wer", "–")):
        line = table.split(f'data-metric="{metric}"')[1].split("</tr>")[0]
        assert made.cells_of(line)[1] == floor


@pytest.mark.parametrize(
    "floor", [3, {"controlled": 3}, {"controlled": {"emo_sim": "high"}}, ["controlled"]]
)
def test_odd_floors_are_named(run, floor):
    made.write_json(run / "judge/metrics.json", {"floor": floor})
    with pytest.raises(HproError, match=r"judge/metrics.json, floor.*hpro judge-recordings"):
        build(run)


@pytest.mark.parametrize(
    ("column", "value"), [("metric", "loudness"), ("system", "gone"), ("test_set", "gone")]
)
def test_differences_of_other_tables_are_refused(run, column, value):
    gaps = pd.read_csv(run / "tables/differences.csv")
    gaps.loc[len(gaps) - 1, column] = value
    gaps.to_csv(run / "tables/differences.csv", index=False)
    if (column, value) == ("test_set", "gone"):  # no page shows this test set
        assert "gone" not in first_screen(build(run))
        return
    with pytest.raises(HproError, match=r"differences.csv has .*run `hpro tables`"):
        build(run)


def test_jobs_have_their_times_and_memory(run, tmp_path):
    folder = tmp_path.parent / "benchmarks/made_up"
    assert run.parent.parent == tmp_path.parent
    folder.mkdir(parents=True)
    header = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"
    try:
        (folder / "a.tsv").write_text(f"{header}3725.4\t1:02:05\t512.25\t1\t1\t1\t0\t0\t1\t99.7\n")
        (folder / "b.tsv").write_text(f"{header}0.1\t0:00:00\t-\t-\t-\t-\t-\t-\t-\tNA\n")
        page = build(run)
        found = jobs.read_jobs(folder)
        for broken in ("s\tmax_rss\n", header.replace("max_rss", "x") + "1\t" * 9 + "1\n"):
            (folder / "b.tsv").write_text(broken)
            with pytest.raises(HproError, match=r"b\.tsv is no benchmark file of Snakemake"):
                jobs.read_jobs(folder)
        (folder / "b.tsv").write_text(f"{header}x\t0\t-\t-\t-\t-\t-\t-\t-\tNA\n")
        with pytest.raises(HproError, match=r"b\.tsv has 'x' instead of a number"):
            jobs.read_jobs(folder)
    finally:
        shutil.rmtree(folder.parent)
    assert [job.name for job in found] == ["a", "b"]
    line = page.split('<th scope="row">a</th>')[1].split("</tr>")[0]
    assert made.cells_of(line) == ["1:02:05", "100", "512"]
    line = page.split('<th scope="row">b</th>')[1].split("</tr>")[0]
    assert made.cells_of(line) == ["0:00:00", "–", "–"]


def test_stages_are_drawn_one_after_another():
    rows = [(step, "dev", "kl", float(step)) for step in (0, 10)] + [(10, "dev", "once", 1.0)]
    table = pd.DataFrame(rows, columns=["step", "split", "term", "value"])
    stages = [figures.Curves(f"policy/{name}", [table]) for name in ("frame", "word", "hpro")]
    [alone] = figures.training_curves(stages[:1])
    assert alone.title == "kl"
    assert "starts at step" not in alone.svg
    kl, once = figures.training_curves(stages)
    assert (kl.title, once.title) == ("kl", "once")
    assert "policy/hpro starts at step 20" in kl.svg
    assert once.svg.count("<circle") == 3


def test_a_path_of_trainings_ends_at_the_baseline():
    starts = {"frame": "sft", "word": "frame", "hpro": "word", "joint": "sft", "ring": "ring"}
    assert path_of("hpro", starts) == ["frame", "word", "hpro"]
    assert path_of("joint", starts) == ["joint"]
    assert path_of("sft", starts) == []
    assert path_of("ring", starts) == ["ring"]


def test_terms_that_improve_while_judges_do_not_are_watched(run):
    terms = pd.read_csv(run / "policy/hpro/seed0/training.csv")["term"]
    assert {"asr", "ser", "wvad"} <= set(terms)  # they fall in the fixture
    gaps = pd.read_csv(run / "tables/differences.csv")
    gaps.loc[gaps["metric"] == "emo_sim", ["above_sft", "lo", "hi"]] = (-0.1, -0.2, 0.1)
    gaps.loc[gaps["metric"] == "wer", ["above_sft", "lo", "hi"]] = (-0.1, -0.2, 0.1)
    gaps.to_csv(run / "tables/differences.csv", index=False)
    settings = yaml.safe_load((run / "params.yaml").read_text())
    settings["variants"]["hpro"]["start"] = "sft"
    (run / "params.yaml").write_text(yaml.safe_dump(settings))
    without(run, *(set(settings["variants"]) - {"hpro"}))  # the path of trainings is that of `hpro`
    page = build(run)
    start = page.find("From <code>sft</code> to <code>hpro</code>")
    assert "L_ASR -" in page[start : start + 300], page[start : start + 300]
    lines = page.split('<tr data-check="hpro">')[1:]
    watched = {line.split("</td>")[0].rsplit(">", 1)[1]: ">watch</span>" in line for line in lines}
    assert watched["L_SER"]
    assert not watched["L_ASR"]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0.0, 0.5, 1.0]),
        (-0.1, 0.9, [0.0, 0.5]),
        (0.15, 1.05, [0.2, 0.4, 0.6, 0.8, 1.0]),
        (119.0, 131.0, [120.0, 125.0, 130.0]),
    ],
)
def test_ticks_are_round_and_few(low, high, expected):
    found = svg.ticks(low, high, min(3, len(expected)))
    assert found == pytest.approx(expected)


def test_ticks_exist_for_any_range():
    rng = np.random.default_rng(0)
    for low, size in zip(rng.normal(0, 100, 300), 10.0 ** rng.uniform(-6, 6, 300), strict=True):
        found = svg.ticks(low, low + size, 3)
        assert 3 <= len(found) <= 11
        assert low - 1e-6 * size <= found[0]
        assert found[-1] <= low + size * (1 + 1e-6)


def test_plots_leave_out_what_is_not_finite():
    panel = svg.Panel([0, 3], [0, np.nan, np.inf, 1])
    panel.line([0, 1, 2, 3], [0.0, np.nan, 1.0, 1.0], "a")
    panel.dot(1, np.nan, "b", "gone")
    panel.bar(np.nan, np.nan, 1, "c")
    panel.mark(np.inf, "d", "gone")
    drawn = panel.render("a < b")
    assert drawn.count('class="line a"') == 1
    assert drawn.split('class="line a" d="')[1].split('"')[0].count("M") == 2
    assert not re.search("nan|inf|gone", drawn)
    assert 'aria-label="a &lt; b"' in drawn


def test_many_speakers_are_shown_for_two_systems(run):
    table = pd.read_csv(run / "tables/by_speaker.csv")
    rows = [
        table.assign(system=system, speaker=f"speaker {i}")
        for system in ("sft", "word", "hpro")
        for i in range(21)
    ]
    pd.concat(rows).to_csv(run / "tables/by_speaker.csv", index=False)
    lines = build(run).split('<tr data-group="speaker"')[1:]
    assert {re.findall('data-of="(.*?)"', line)[0] for line in lines} == {"sft", "hpro"}
    assert len(lines) == 2 * 21
    pd.concat([row for row in rows if "speaker 20" not in set(row["speaker"])]).to_csv(
        run / "tables/by_speaker.csv", index=False
    )
    assert build(run).count('<tr data-group="speaker"') == 3 * 20


def test_the_evidence_is_linked_within_the_project_only(tmp_path):
    assert stage._evidence(stage.EVIDENCE.parents[1] / "results/x") == "../../../docs/findings.md"
    assert stage._evidence(tmp_path) == ""
    assert stage.EVIDENCE.is_file()


def test_models_have_their_recorded_hashes(run):
    model = run / "policy/hpro/seed0/model.safetensors"
    made.write_json(
        run / "policy/hpro/seed0/record_reward.json",
        {"made": {"policy/hpro/seed0/model.safetensors": "ab" * 32, "policy/x.json": "cd" * 32}},
    )
    page = build(run)
    line = f'<th scope="row">{model.relative_to(run)}</th><td>{"ab" * 32}</td>'
    assert line in page.split("SHA-256 of the models</summary>")[1]
    assert "cd" * 32 not in page
    made.write_json(run / "policy/hpro/seed0/record_reward.json", {"made": [1]})
    with pytest.raises(HproError, match=r"record_reward\.json, made"):
        build(run)


def test_measurements_are_grouped_by_the_first_part_of_their_names():
    rows = [("wer", "1"), ("a · b · c", "2"), ("n", "3"), ("a · d", "4")]
    assert by_group(rows) == [("", [("wer", "1"), ("n", "3")]), ("a", [("b · c", "2"), ("d", "4")])]


def test_labels_are_never_called_the_truth(run):
    assert "truth" not in build(run)


def test_hashes_are_shortened():
    assert short_revision("0123456789abcdef" * 2 + "01234567") == "0123456789ab"
    assert short_revision("a" * 40 + " (with uncommitted changes)") == (
        "a" * 12 + " (with uncommitted changes)"
    )
    assert short_revision("not a git repository") == "not a git repository"
    assert unhashed("whisper, sha256 ab12") == "whisper"


def test_trivial_orderings_are_left_out(run):
    trivial = [claim for claim in paper.CLAIMS if claim.trivial]
    assert {(claim.better, claim.metric) for claim in trivial} == {
        ("tokenrecon", "wvad_ccc"),
        ("tokenrecon", "emo_sim"),
    }
    section = build(run).split('<section id="reading">')[1].split("</section>")[0]
    assert "<strong>tokenrecon</strong> better" not in section
    assert "<strong>hpro</strong> better than <strong>sft</strong>" in section


def test_the_index_cannot_end_its_script(run):
    path = run / "corpus/utterances.parquet"
    text = "you could </script><script>alert(1)</script>"
    write_table(read_table(path, UTTERANCES).assign(text=text), path, UTTERANCES)
    page = build(run)
    assert "<script>alert" not in page
    assert {entry["text"] for entry in read_index(page)["sentences"]} == {text}
    json.dumps(read_index(page), allow_nan=False)


def test_recognisers_that_disagree_are_named(run):
    path = run / "tables/differences.csv"
    gaps = pd.read_csv(path)
    mine = (gaps["system"] == "hpro") & (gaps["test_set"] == "controlled")
    value = ["above_sft", "lo", "hi"]
    gaps.loc[mine & (gaps["metric"] == "wer"), value] = [-0.05, -0.2, 0.1]
    gaps.loc[mine & (gaps["metric"] == "wer_check"), value] = [0.05, 0.01, 0.1]
    gaps.to_csv(path, index=False)
    said = "shows a difference in WER; that of the other has the opposite sign"
    assert said in first_screen(build(run))
    gaps.loc[mine & (gaps["metric"] == "wer"), value] = [0.05, 0.01, 0.1]
    gaps.to_csv(path, index=False)
    assert "Only one of the two recognisers" not in first_screen(build(run)).split("On acted")[0]


@pytest.mark.parametrize(("low", "high", "excluded"), [(0.02, 0.2, True), (-0.05, 0.2, False)])
def test_the_paired_difference_is_drawn_from_the_mean_of_the_baseline(low, high, excluded):
    gap = Interval((low + high) / 2, low, high)
    row = comparison.Difference(
        metric="emo_sim",
        n=30,
        system=Interval(0.6, 0.5, 0.7),
        baseline=Interval(0.5, 0.4, 0.6),
        difference=gap,
        floor=math.nan,
        ceiling=0.9,
        recordings=1.0,
        verdict=comparison.verdict("emo_sim", gap),
    )
    plot = comparison.pair_plot(row, [("hpro", "s-hpro"), ("sft", "s-sft")])
    [zero] = re.findall(r'class="mark zero s-sft" d="M([\d.]+)', plot.svg)
    *_, (left, right) = re.findall(
        r'class="interval s-hpro" d="M([\d.]+) [\d.]+H([\d.]+)', plot.svg
    )
    assert (float(left) > float(zero)) == excluded
    assert float(right) > float(zero)
    assert plot.title == f"EMO-SIM ↑, n = 30: {'better' if excluded else 'no difference shown'}"
