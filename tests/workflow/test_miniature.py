"""The whole workflow with the real `hpro` on a handful of real and rendered sentences."""

import csv
import json
from pathlib import Path

import pytest

from tests.workflow.miniature import miniature
from tests.workflow.project import Project

pytestmark = pytest.mark.workflow

SYSTEMS = ("recordings", "tokenrecon", "sft", "frame", "joint")
AFFECT = ("wvad_ccc", "emo_sim")
REASON = (
    "No wVAD-CCC and EMO-SIM on acted: the affect judge was not trained on acted, and its accuracy "
    "on unknown corpora was not measured"
)
METRICS = (
    *("wer", "wer_check", "wvad_ccc", "emo_sim", "dnsmos", "distillmos", "speaker_sim"),
    *("f0_corr", "energy_corr", "rate_corr", "pause_f1"),
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy of the project with miniature settings and a small excerpt, after `snakemake`."""
    made = miniature(tmp_path_factory.mktemp("miniature") / "project")
    made.run("snakemake", "--cores", "all")
    return made


@pytest.fixture(scope="module")
def results(project: Project) -> Path:
    return project.folder / "results/miniature"


def test_tables_have_every_system_and_no_empty_cell(results: Path) -> None:
    rows = {
        "comparison": {"recordings", "tokenrecon", "sft"},
        "progressive": {"sft", "frame"},
        "ablation": {"frame", "joint"},
    }
    for name, systems in rows.items():
        with (results / f"tables/{name}.csv").open(encoding="utf-8") as file:
            table = list(csv.DictReader(file))
        expected = {
            (system, test_set) for system in systems for test_set in ("acted", "controlled")
        }
        if name == "comparison":
            table = [row for row in table if row["system"] != "clips"]
        assert {(row["system"], row["test_set"]) for row in table} == expected
        for row in table:
            on_acted = row["test_set"] == "acted"
            unjudged = [name for name in row if on_acted and name.startswith(AFFECT)]
            assert all(row[name] == "" for name in unjudged)
            cells = [row[n] for n in row if n not in unjudged and not n.startswith("pause_f1")]
            assert all(cell.strip() not in ("", "nan") for cell in cells)  # there may be no pause
        assert {"n", "seeds"} <= set(table[0])
        assert {f"{m}{end}" for m in METRICS for end in ("", "_lo", "_hi")} <= set(table[0])
        assert REASON in (results / f"tables/{name}.md").read_text(encoding="utf-8")


def test_an_external_system_is_a_row_with_paired_statistics(results: Path) -> None:
    with (results / "tables/comparison.csv").open(encoding="utf-8") as file:
        rows = {(row["system"], row["test_set"]): row for row in csv.DictReader(file)}
    assert ("clips", "controlled") not in rows
    external, recordings = rows["clips", "acted"], rows["recordings", "acted"]
    assert external["n"] == recordings["n"]
    # its MP3 files are the recordings themselves
    for metric in ("wer", "speaker_sim", "energy_corr"):
        assert float(external[metric]) == pytest.approx(float(recordings[metric]), abs=2e-3)
    assert external["emo_sim"] == ""
    with (results / "tables/differences.csv").open(encoding="utf-8") as file:
        gaps = {(r["system"], r["test_set"], r["metric"]): r for r in csv.DictReader(file)}
    assert gaps["clips", "acted", "wer"]["n"] == recordings["n"]
    outcome = json.loads((results / "eval/clips/seed0/import.json").read_text(encoding="utf-8"))
    n_controlled = int(rows["recordings", "controlled"]["n"])
    assert len(outcome["without_audio"]) == n_controlled
    assert outcome["with_audio"] == int(recordings["n"])
    assert f"clips lacks {n_controlled} of the test sentences" in (
        results / "tables/comparison.md"
    ).read_text(encoding="utf-8")


def test_the_report_is_one_file_that_plays_every_system(results: Path) -> None:
    page = (results / "report/index.html").read_text(encoding="utf-8")
    assert "<audio" in page
    assert 'src="http' not in page
    assert all(system in page for system in SYSTEMS)
    assert f'<p class="caution">{REASON}' in page


def test_the_recordings_are_their_own_ceiling(results: Path) -> None:
    with (results / "tables/comparison.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["system"] == "recordings"]
    judged = [row for row in rows if row["test_set"] == "controlled"]
    assert len(judged) == 1
    assert float(judged[0]["wvad_ccc"]) == pytest.approx(1.0)
    assert float(judged[0]["emo_sim"]) == pytest.approx(1.0)
    for row in rows:
        assert float(row["energy_corr"]) == pytest.approx(1.0)


def test_every_job_left_a_log_and_a_benchmark(project: Project) -> None:
    logs = {p.relative_to(project.folder / "logs").with_suffix("") for p in _files(project, "logs")}
    times = {
        p.relative_to(project.folder / "benchmarks").with_suffix("")
        for p in _files(project, "benchmarks")
        if p.suffix == ".tsv"  # beside them lie bench.py and its reference
    }
    assert logs == times
    assert (project.folder / "benchmarks/miniature/runs.csv").is_file()  # the whole run's time
    assert len(logs) == 31


def test_a_second_run_does_nothing(project: Project) -> None:
    assert "Nothing to be done" in project.run("snakemake", "--cores", "all").stdout


def test_the_same_run_is_bit_for_bit_resumable_from_its_tables(project: Project) -> None:
    """Asked for again, a deleted variant comes back equal: same settings, same seeds."""
    model = project.folder / "results/miniature/policy/frame/seed0/model.safetensors"
    before = model.read_bytes()
    model.unlink()
    done = project.run("snakemake", "--cores", "all", "--", str(model.relative_to(project.folder)))
    assert "1 of 1 steps" in done.stdout
    assert model.read_bytes() == before


def test_snakemake_writes_its_own_report(project: Project) -> None:
    project.run("snakemake", "--report", "snakemake.html")
    assert "index.html" in (project.folder / "snakemake.html").read_text(encoding="utf-8")


def _files(project: Project, folder: str) -> list[Path]:
    return [p for p in (project.folder / folder).rglob("*") if p.is_file()]
