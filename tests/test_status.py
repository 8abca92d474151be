"""`hpro status`: runs under way, killed, stopped and finished, here and on a cluster."""

import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from torch.utils.tensorboard.writer import SummaryWriter
from typer.testing import CliRunner

from hpro_core import process
from hpro_core.cli import app
from hpro_core.errors import HproError
from hpro_core.locks import Lock
from hpro_core.plan import status as module
from hpro_core.plan.curves import LastValue, last_values
from hpro_core.plan.durations import Job
from hpro_core.plan.jobs import Listing
from hpro_core.plan.run_record import RunRecorder, read_record, record_path
from hpro_core.plan.status import Status, runs, status_of
from hpro_core.plan.status_output import format_status, status_json
from tests.test_plan_progress import ROWS, Fake

REPO = Path(__file__).parents[1]
START = 1_800_000_000.0
HEADER = "s\th:m:s\n"


class Run:
    """A run whose Snakemake is this process, with a clock that stands still."""

    started: ClassVar[list["Run"]] = []

    def __init__(self, workflow: Fake):
        self.time = START
        self.recorder = RunRecorder(workflow, "embedded", lambda: self.time)
        self.started.append(self)
        Path("work/embedded").mkdir(parents=True, exist_ok=True)
        Path("work/embedded/run.lock").touch()

    def say(self, event: str, **fields: Any) -> None:
        record = logging.LogRecord("snakemake", logging.INFO, "", 0, event, None, None)
        record.__dict__.update(fields, event=event)
        self.recorder.handle(record)

    def start(self, *numbers: int) -> None:
        if not self.recorder.is_open:
            self.say("run_info", stats={})
        if numbers:
            self.say("job_started", jobs=list(numbers))

    def finish(self, number: int, seconds: float) -> None:
        self.time += seconds
        self.made(number)
        self.say("job_finished", job_id=number)

    def made(self, *numbers: int) -> None:
        """Write the outputs of jobs, here and in earlier runs."""
        for number in numbers:
            (output,) = self.recorder.workflow.all[number].output
            Path(output).parent.mkdir(parents=True, exist_ok=True)
            Path(output).write_text("step,split,term,value\n0,dev,loss,1\n")

    def status(self) -> Status:
        return status_of("embedded", self.time)

    def of_process(self, name: str) -> None:
        """Let the record be of another process."""
        path = record_path("embedded")
        first, *rest = path.read_text().splitlines()
        path.write_text("\n".join([json.dumps(json.loads(first) | {"process": name}), *rest, ""]))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project in which every job of ROWS but the last has been measured."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(process.SNAKEMAKE, raising=False)
    folder = tmp_path / "benchmarks/embedded"
    folder.mkdir(parents=True)
    for number, (rule, _, _, seconds) in enumerate(ROWS):
        if seconds is not None:
            (folder / f"{rule}_{number}.tsv").write_text(f"{HEADER}{seconds}\t0:01\n")
    yield tmp_path
    while Run.started:  # not at the exit of Python, in another folder
        Run.started.pop().recorder.close()


def text_of(status: Status) -> str:
    return "\n".join(format_status(status))


def gone() -> str:
    """The name of a process of this machine that has ended."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    machine, _, start = process.this_process().rsplit(" ", 2)
    return f"{machine} {ended.pid} {start}"


def curves(folder: str) -> Path:
    """A training's TensorBoard folder, as while it runs."""
    path = Path("results/embedded", folder)
    board = SummaryWriter(str(path / "tensorboard"))
    for step, value in ((10, 3.5), (20, 2.25)):
        board.add_scalar("train/loss", value, step)
        board.add_scalar("train/logit/kl", value / 2, step)
    board.add_scalar("dev/loss", 4.0, 0)
    board.add_text("note", "no scalar")
    board.close()
    return path


def test_a_run_under_way_shows_jobs_time_left_and_terms(here: Path) -> None:
    run = Run(Fake([1, 2, 3]))
    run.start(1)
    run.finish(1, 120.0)
    run.start(2, 3)
    run.time += 50.0
    curves("reward_2")
    log = Path("logs/embedded/reward_2.log")
    log.parent.mkdir(parents=True)
    log.write_text("x\nframe (frame), seed 0: 20/36 (56 %), 0.1/s, 90 s left\nwarning: odd\n")
    found = run.status()
    assert [found.states[n] for n in range(5)] == ["done", "done", "running", "running", "done"]
    assert found.left_s == pytest.approx(150.0)
    about = f"under way since {module._date(START)}, 2:50 so far (process {os.getpid()})"
    assert found.about == about
    assert list(format_status(found))[-9:] == [
        "3 of 5 jobs done, 52 % of their time; about 2:30 left (by times measured here)",
        "  align         1 of 1  done",
        "  sft           1 of 1  done",
        "  reward        0 of 2  running: reward frame (0:50), reward word (0:50)",
        "  judge         1 of 1  done",
        "",
        "reward frame: 20/36 (56 %), 0.1/s, 90 s left",
        "  train, step 20: loss 2.25, logit/kl 1.125",
        "  dev, step 0: loss 4",
    ]


def test_a_job_that_never_ran_leaves_the_time_unknown(here: Path) -> None:
    run = Run(Fake([3, 4]))
    run.start(3)
    found = run.status()
    assert (found.left_s, found.unknown) == (None, "never ran on this machine: judge")
    assert "; time left unknown: never ran on this machine: judge" in text_of(found)


def test_a_killed_run_has_stopped_jobs(here: Path) -> None:
    run = Run(Fake([1, 2, 3]))
    run.start(1)
    run.finish(1, 120.0)
    run.start(2)
    run.made(0, 4)
    run.of_process(gone())
    found = run.status()
    assert (found.state, found.left_s) == ("killed", None)
    assert [found.states[n] for n in range(5)] == ["done", "done", "stopped", "waiting", "done"]
    assert "is gone): the same command" in " ".join(text_of(found).split())
    assert "  reward        0 of 2  stopped: reward frame; 1 waiting" in text_of(found)


def test_a_run_that_ended_is_finished_or_stopped(here: Path) -> None:
    run = Run(Fake([2, 3]))
    run.start(2, 3)
    run.finish(2, 60.0)
    run.say("job_error", jobid=3)
    assert run.status().states[3] == "failed"
    run.start(3)  # Snakemake tries again
    assert run.status().states[3] == "running"
    run.say("job_error", jobid=3)
    run.recorder.close()
    run.recorder.close()  # logging closes it once more at exit
    found = run.status()
    assert (found.state, found.states[3]) == ("stopped", "failed")
    again = Run(Fake([3]))
    again.made(0, 1, 4)
    again.start(3)
    again.finish(3, 30.0)
    again.recorder.close()
    found = again.status()
    assert (found.state, set(found.states.values())) == ("finished", {"done"})
    assert text_of(found).startswith(f"run embedded: finished {module._date(START)}, after 0:30\n5")
    Path("results/embedded/reward_2/training.csv").unlink()
    assert "1 of 2  missing: reward frame" in text_of(again.status())


def test_states_on_a_cluster_are_those_of_files(here: Path) -> None:
    """A log is written from the start of a job, a benchmark file at its end."""
    run = Run(Fake([1, 2, 3], local=False))
    run.start(1, 2, 3)
    log, benchmark = Path("logs/embedded/reward_2.log"), Path("benchmarks/embedded/sft_1.tsv")
    log.parent.mkdir(parents=True)
    for path, seconds in ((log, 9.0), (benchmark, -99.0)):
        path.touch()
        os.utime(path, (START + seconds, START + seconds))
    found = run.status()
    assert [found.states[n] for n in (1, 2, 3)] == ["queued", "running", "queued"]
    assert found.unknown == "on a cluster, where queueing times are unknown"
    os.utime(benchmark, (START + 9, START + 9))
    run.made(0, 1, 4)
    run.of_process(gone())
    found = run.status()
    assert (found.state, found.states[1], found.states[2]) == ("killed", "done", "running")
    assert "submitted jobs run to their end" in " ".join(text_of(found).split())


def test_a_run_of_another_machine_is_not_called_killed(here: Path) -> None:
    run = Run(Fake([2, 3]))
    run.start(2)
    run.of_process("login1/boot/pid:[1] 77 12345")
    found = run.status()
    assert (found.state, found.states[2]) == ("unseen", "running")
    assert "by process 77 on login1, which cannot be seen from here" in " ".join(
        text_of(found).split()
    )


def test_dry_runs_and_touching_leave_no_record(here: Path) -> None:
    dry, touch = Fake([2], dryrun=True), Fake([2])
    touch.touch = True
    for workflow in (dry, touch):
        Run(workflow).start(2)
    assert not record_path("embedded").exists()


def test_a_line_that_is_being_written_is_left_out(here: Path) -> None:
    run = Run(Fake([2, 3]))
    run.start(2)
    path = record_path("embedded")
    path.write_text(path.read_text() + '{"time": 18000')
    record = read_record(path)
    assert record is not None
    assert record.running == {2: START}


def test_a_record_that_is_broken_is_none(here: Path) -> None:
    """`hpro status` then goes by the outputs, as for a run of another version."""
    run = Run(Fake([2, 3]))
    run.start(2)
    path = record_path("embedded")
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    broken = [
        [],
        [1],
        [[]],
        *([{**first, key: "x"}] for key in ("event", "time", "limits", "todo", "jobs")),
        [{**first, "process": 3}],
        [{**first, "jobs": [{"number": 1}]}],
        [first, {**second, "event": "x"}],
        [first, {**second, "jobs": "x"}],
        [first, 7],
    ]
    for lines in broken:
        path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        assert read_record(path) is None, lines
    path.write_text(json.dumps({**first, "process": "a b c"}) + "\n")
    assert status_of("embedded").state == "unseen"
    Path("work/embedded/locks").mkdir()
    odd: tuple[dict[str, Any], ...] = ({"pid": "x"}, {"since": "x"}, {"since": 3}, {"host": 1})
    for number, holder in enumerate(odd):
        whole: dict[str, Any] = {
            "host": socket.gethostname(),
            "pid": 1,
            "since": "2026-11-30",
            "purpose": "",
        }
        Path(f"work/embedded/locks/sft-{number}.lock").write_text(json.dumps(whole | holder))
    assert list(status_of("embedded").by_hand) == ["sft"]  # on host 1, so it cannot be seen


def test_a_disk_that_is_full_ends_the_record_not_the_run(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(Fake([2, 3]))
    run.start(2)
    capsys.readouterr()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RunRecorder, "_write", full)
    run.finish(2, 1.0)
    run.start(3)
    assert capsys.readouterr().err == (
        "hpro: work/embedded/progress.jsonl cannot be written (No space left on device): "
        "hpro status is out of date\n"
    )


# --- without a record -----------------------------------------------------------------------------


@pytest.fixture
def unrecorded(here: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A run of an older version: two jobs, and which of them have outputs and logs."""
    jobs = {
        n: Job(n, rule, rule, rule, log=f"{rule}.log", outputs=(f"results/embedded/{rule}/a",))
        for n, rule in enumerate(("sft", "reward"))
    }
    monkeypatch.setattr(module, "listing_of", lambda settings: Listing([], jobs))
    monkeypatch.setattr(module, "merge_and_check", lambda found: ({}, None))
    settings = here / "work/embedded/settings/a.yaml"
    settings.parent.mkdir(parents=True)
    settings.write_text("run: embedded\n")
    (here / "work/embedded/run.lock").touch()

    def made(*rules: str) -> None:
        for rule in rules:
            output = here / jobs[["sft", "reward"].index(rule)].outputs[0]
            output.parent.mkdir(parents=True, exist_ok=True)
            output.touch()

    return made


def test_a_run_without_a_record_is_told_by_its_outputs(unrecorded: Callable[..., None]) -> None:
    unrecorded("sft")
    found = status_of("embedded")
    assert (found.state, list(found.states.values())) == ("stopped", ["done", "waiting"])
    unrecorded("reward")
    assert status_of("embedded").state == "finished"


def test_a_run_without_a_record_is_under_way_if_its_lock_is_held(
    unrecorded: Callable[..., None],
) -> None:
    unrecorded("sft")
    lock = Lock(Path("work/embedded/run.lock"))
    assert lock.acquire("run") is None
    Path("reward.log").touch()
    found = status_of("embedded")
    assert (found.state, found.states[1]) == ("running", "running")
    assert "time left unknown: the run was started by an older version" in text_of(found)
    holder = json.loads(lock.path.read_text())
    lock.release()
    lock.path.write_text(json.dumps(holder | {"pid": int(gone().split()[1])}))  # killed
    found = status_of("embedded")
    assert (found.state, found.states[1]) == ("killed", "stopped")
    lock.path.write_text(json.dumps(holder | {"host": "login1"}))
    assert status_of("embedded").state == "unseen"


def test_a_command_started_by_hand_is_shown(here: Path) -> None:
    Path("results/embedded/params").mkdir(parents=True)
    curves("policy/sft/seed0")
    lock = Lock(Path("work/embedded/locks/sft-0123456789abcdef.lock"))
    assert lock.acquire("command") is None
    found = status_of("embedded")
    lock.release()
    assert found.state == "not started"
    text = " ".join(text_of(found).split())
    assert f"hpro sft (process {os.getpid()} on {socket.gethostname()}, since" in text
    assert "policy/sft/seed0 train, step 20: loss 2.25" in text
    assert not status_of("embedded").by_hand


# --- curves ---------------------------------------------------------------------------------------


def test_last_values_of_a_training_that_runs_and_of_one_that_ended(here: Path) -> None:
    folder = curves("sft")
    running = [
        LastValue(20, "train", "loss", 2.25),
        LastValue(20, "train", "logit/kl", 1.125),
        LastValue(0, "dev", "loss", 4.0),
    ]
    assert last_values(folder) == running
    (file,) = (folder / "tensorboard").iterdir()
    whole = file.read_bytes()
    for cut in range(len(whole)):  # a training may be writing any part of it
        file.write_bytes(whole[:cut])
        assert all(value in (3.5, 1.75, *(r.value for r in running)) for *_, value in
                   last_values(folder))  # fmt: skip
    (folder / "training.csv").write_text("step,split,term,value\n1,dev,loss,nan\n2,dev,loss,3\n")
    assert last_values(folder) == [LastValue(2, "dev", "loss", 3.0)]
    (folder / "training.csv").write_text("step,split\n1,dev\n")
    with pytest.raises(HproError, match=r"training.csv has not the columns step, split, term"):
        last_values(folder)
    assert last_values(here / "nothing") == []


# --- the command ----------------------------------------------------------------------------------


def test_an_unknown_run_is_named_with_those_that_there_are(here: Path) -> None:
    Path("results/embedded/params").mkdir(parents=True)
    Path("work/base").mkdir(parents=True)
    Path("work/base/run.lock").touch()
    assert runs() == ["base", "embedded"]
    expected = "no run 'embeded' here; runs: base, embedded; did you mean embedded?"
    with pytest.raises(HproError, match=expected.replace("?", r"\?")):
        status_of("embeded")


def test_the_json_has_everything_and_no_nan(here: Path) -> None:
    run = Run(Fake([2, 3]))
    run.start(2)
    folder = Path("results/embedded/reward_2")
    folder.mkdir(parents=True)
    (folder / "training.csv").write_text("step,split,term,value\n1,dev,loss,nan\n")
    values = status_json(run.status())
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert (values["state"], values["jobs_done"]) == ("running", 3)
    assert values["jobs"][2] == {
        "name": "reward frame", "stage": "reward", "state": "running", "running_s": 0.0,
        "log": "logs/embedded/reward_2.log",
    }  # fmt: skip
    (training,) = values["trainings"]
    assert training["last"] == [{"step": 1, "split": "dev", "term": "loss", "value": None}]


def test_every_line_fits_the_terminal(here: Path) -> None:
    run = Run(Fake([1, 2, 3]))
    run.start(1, 2, 3)
    folder = Path("results/embedded/reward_2")
    folder.mkdir(parents=True)
    rows = [f"1,train,symbol_error_rate_{n},{n / 7}" for n in range(40)]
    (folder / "training.csv").write_text("\n".join(["step,split,term,value", *rows, ""]))
    for width in (40, 80):
        lines = list(format_status(run.status(), width))
        assert max(map(len, lines)) <= width
    assert "symbol_error_rate_39 5.571" in "\n".join(lines)


def test_the_command_is_light_and_takes_no_lock(here: Path) -> None:
    run = Run(Fake([2, 3]))
    run.start(2)
    curves("reward_2")
    before = sorted(here.rglob("*"))
    Path("params.yaml").write_text("run: embedded\n")
    code = (
        "import sys; from hpro_core.cli import app\n"
        "try: app(['status'])\n"
        "finally: print([m for m in ('torch', 'pandas', 'snakemake') if m in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True,
                          text=True, check=True)  # fmt: skip
    assert "reward frame" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
    Path("params.yaml").unlink()
    assert sorted(here.rglob("*")) == before
    as_json = CliRunner().invoke(app, ["status", "--run", "embedded", "--json"])
    assert json.loads(as_json.stdout)["run"] == "embedded"


def test_a_process_is_running_gone_or_not_to_be_seen() -> None:
    own = process.this_process()
    machine, pid, start = own.rsplit(" ", 2)
    host, boot, space = machine.split("/", 2)
    cases = {
        own: True,
        gone(): False,
        f"{machine} {pid} {int(start) + 1}": False,  # its number was given again
        f"{host}/another boot/{space} {pid} {start}": False,
        f"{host}/{boot}/another container {pid} {start}": None,
        f"elsewhere/{boot}/{space} {pid} {start}": None,
        "": None,
    }
    assert {name: process.is_running(name) for name in cases} == cases


def test_jobs_pass_through_json() -> None:
    from hpro_core.plan.durations import jobs_from_json, jobs_of, jobs_to_json

    jobs = jobs_of(Fake([2, 4]).dag, {"_cores"})
    assert jobs_from_json(json.loads(json.dumps(jobs_to_json(jobs.values())))) == jobs
    assert jobs[2].curves == "results/embedded/reward_2/training.csv"
    assert SimpleNamespace(**jobs_to_json(jobs.values())[2]).needs == [1]
