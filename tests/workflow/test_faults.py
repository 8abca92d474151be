"""Runs that are disturbed and restarted end as if they had not been (tests/faults), and the harness
sees what is wrong."""

from pathlib import Path

import pytest

from tests.faults.comparison import differences, message_problems
from tests.faults.injections import KINDS
from tests.faults.run import IDENTICAL, conclusion, read, sitting
from tests.faults.trial import drawn
from tests.faults.undisturbed import RUN, Job

JOBS = [
    Job(f"stage/{n}", ("do", str(n)), (f"results/{n - 1}",), (f"results/{n}",), 5.0)
    for n in range(26)
]
"""Each reads what the one before it makes."""


@pytest.mark.full
@pytest.mark.workflow
def test_a_run_disturbed_by_each_kind_of_fault_ends_as_the_undisturbed_one(tmp_path: Path) -> None:
    lines = sitting(trials=10, seed=27, record=tmp_path / "faults.csv")
    assert {line["kind"] for line in lines} == set(KINDS)
    assert conclusion(lines, seed=27) == "faults: 10 of 10 restarts identical, 0 utterances lost"
    assert {line["outcome"] for line in read(tmp_path / "faults.csv")} == {IDENTICAL}


def test_a_trial_is_drawn_by_its_seed_and_number() -> None:
    plans = [drawn(1, k, JOBS) for k in range(1, 53)]
    assert plans == [drawn(1, k, JOBS) for k in range(1, 53)]
    assert plans != [drawn(2, k, JOBS) for k in range(1, 53)]
    assert {plan.kind for plan in plans[:10]} == set(KINDS)
    assert [plan.job for plan in plans[:26]] != [plan.job for plan in plans[26:]]
    assert {plan.job for plan in plans[26:]} == set(JOBS)
    assert all(plan.missing == (plan.job,) for plan in plans if plan.k % 10)
    assert all(plan.missing == tuple(JOBS[JOBS.index(plan.job) :]) for plan in plans[9::10])


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("results/faults/eval/scores.parquet", b"other", "differs: "),
        ("results/faults/eval/scores.parquet", None, "missing: "),
        ("results/faults/eval/.scores.parquet.partial", b"half", "left over: "),
        ("work/faults/sft/checkpoint_0000020.pt", b"old", "left over: "),
    ],
)
def test_a_file_that_is_not_as_it_was_is_named(
    name: str, content: bytes | None, problem: str, tmp_path: Path
) -> None:
    base, made = tmp_path / "base", tmp_path / "made"
    for folder in (base, made):
        _write(folder / f"results/{RUN}/eval/scores.parquet", b"scores")
        _write(folder / f"results/{RUN}/tensorboard/events.{folder.name}", b"")
    if content is None:
        (made / name).unlink()
    else:
        _write(made / name, content)
    assert problem + name in differences(base, made, {})


@pytest.mark.parametrize(
    ("log", "problems"),
    [
        ("sft: 3/50\nhpro: model.safetensors cannot be written (No space left on device)\n", 0),
        ("Traceback (most recent call last)\nOSError: No space left on device\n", 1),
        ("hpro: unexpected OSError: This is a bug of hpro\n", 1),
        ("sft: 3/50\n", 1),
    ],
)
def test_a_failed_job_is_to_say_why_in_a_line(log: str, problems: int, tmp_path: Path) -> None:
    _write(tmp_path / "job.log", log.encode())
    assert len(message_problems(tmp_path / "job.log")) == problems


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
