"""The benchmark: its report's shape, and that a result that differs ends it with 1."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.full

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
RECORD = BENCHMARKS / "reference" / "recorded.json"
CHEAP = ("batching", "encoding", "reward_step", "token_decoder", "griffin_lim")
MODULES = ("bench", "current", "reference", "results", "stages", "workload")


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ModuleType]]:
    """The benchmark's modules, as bench.py imports them, its workload prepared once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        found = {name: __import__(name) for name in MODULES}
        record = found["results"].read_record(RECORD)
        folder = tmp_path_factory.mktemp("models")
        workload = found["workload"].prepare(folder, record.of("workload"))
        patch.setattr(found["bench"], "prepare", lambda *_: workload)
        yield found
    torch.set_flush_denormal(False)  # the benchmark sets it, as trainings do
    for name in [name for name in sys.modules if name.split(".")[0] in MODULES]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def report(modules: dict[str, ModuleType], tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Of the cheap stages."""
    path = tmp_path_factory.mktemp("bench") / "bench.json"
    only = [word for stage in CHEAP for word in ("--only", stage)]
    assert modules["bench"].main(["--quick", *only, "--json", str(path)]) == 0
    return json.loads(path.read_text(encoding="utf-8"))


def test_every_stage_is_equal_to_the_reference_and_to_the_record(report: dict) -> None:
    assert report["equal"] is True
    by_name = {row["name"]: row for row in report["stages"]}
    assert set(by_name) == set(CHEAP)
    for name, row in by_name.items():
        against = {check["against"] for check in row["checks"]}
        assert against == ({"reference"} if name == "batching" else {"reference", "recorded"})
        assert all(0 <= check["largest"] <= check["tolerance"] for check in row["checks"])


def test_the_report_has_times_ratios_memory_and_machine(report: dict) -> None:
    assert report["machine"]["dtype"] == "float32"
    assert report["machine"]["threads"] == 1
    assert report["recorded"]["seeds"]["reward_step_margin"] > 1e-4
    for row in report["stages"]:
        for side in ("reference", "hpro_core"):
            assert row[side]["cpu_s"] > 0
            assert row[side]["wall_s"] > 0
            assert row[side]["units"] >= 1
            assert (row[side]["memory_mb"] is not None) == Path("/proc/self/status").is_file()
        ratio = row["ratio"]
        assert 0 < ratio["low"] <= ratio["median"] <= ratio["high"]
        assert ratio["pairs"] == 1


def test_a_record_of_other_results_fails(
    modules: dict[str, ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = json.loads(RECORD.read_text(encoding="utf-8"))
    stored["values"]["griffin_lim:log_mel_distance/2"] += 0.003
    (tmp_path / "recorded.json").write_text(json.dumps(stored), encoding="utf-8")
    tensors = RECORD.with_suffix(".safetensors").read_bytes()
    (tmp_path / "recorded.safetensors").write_bytes(tensors)
    recorded = ["--recorded", str(tmp_path / "recorded.json")]
    assert modules["bench"].main(["--quick", "--only", "griffin_lim", *recorded]) == 1
    (failed,) = capsys.readouterr().err.splitlines()
    assert failed.startswith("griffin_lim: log_mel_distance differs by 0.003 from the recorded one")


def test_a_wrong_result_of_hpro_core_fails(
    modules: dict[str, ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    decoder = modules["current"].Decoder
    mel = decoder.mel
    monkeypatch.setattr(decoder, "mel", lambda *given: mel(*given) + 2e-3)
    assert modules["bench"].main(["--quick", "--only", "token_decoder"]) == 1
    failed = [line.split(", ")[0] for line in capsys.readouterr().err.splitlines()]
    assert failed == [
        "token_decoder: log_mel differs by 0.002 from the reference one",
        "token_decoder: mean differs by 0.002 from the recorded one",
    ]


@pytest.mark.parametrize(
    ("kind", "other", "difference"),
    [
        ("absolute", [1.0, 2.5], 0.5),
        ("relative", [1.0, 2.5], 0.2),
        ("share", [1.0, 2.5], 0.5),
        ("equal", [1.0, 2.0], 0.0),
        ("absolute", [1.0], np.inf),
        ("absolute", [1.0, np.nan], np.inf),
    ],
)
def test_differences(
    modules: dict[str, ModuleType], kind: str, other: list[float], difference: float
) -> None:
    tolerance = modules["results"].Tolerance(kind)
    assert tolerance.difference(np.array([1.0, 2.0]), np.array(other)) == pytest.approx(difference)


def test_a_missing_value_is_no_equal_value(modules: dict[str, ModuleType]) -> None:
    tolerances = {"loss": modules["results"].Tolerance("equal")}
    with pytest.raises(KeyError, match="loss"):
        modules["results"].checks({}, {"loss": 1.0}, "recorded", tolerances)


def test_the_interval_of_a_ratio_is_within_its_pairs(modules: dict[str, ModuleType]) -> None:
    timed = modules["bench"].Timed
    pairs = [(timed(slow, slow), timed(1.0, 1.0)) for slow in (2.0, 3.0, 4.0, 5.0, 60.0)]
    found = modules["bench"].ratio(pairs, (1, 2))
    assert found["median"] == pytest.approx(8.0)
    assert 4.0 <= found["low"] < 8.0 < found["high"] <= 120.0


def test_the_table_replaces_what_stood_between_the_markers(
    modules: dict[str, ModuleType], report: dict, tmp_path: Path
) -> None:
    bench = modules["bench"]
    path = tmp_path / "page.md"
    path.write_text(f"before\n{bench.BEGIN}\nold\n{bench.END}\nafter\n", encoding="utf-8")
    (tmp_path / "bench.json").write_text(json.dumps(report), encoding="utf-8")
    assert bench.main(["--from", str(tmp_path / "bench.json"), "--markdown", str(path)]) == 0
    text = path.read_text(encoding="utf-8")
    assert "old" not in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert all(f"\n| {stage} |" in text for stage in CHEAP)
