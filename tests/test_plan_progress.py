"""The line before a run and the line during it: made-up benchmark files, graphs and log records."""

import csv
import io
import logging
import random
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hpro_core.plan import durations, live
from hpro_core.plan.durations import Job, expected_s, jobs_of, wall_s

HEADER = "s\th:m:s\tmax_rss\tcpu_time\n"
RULES = ("align", "sft", "reward", "judge", "all")
ROWS = (  # rule, wildcards, numbers of what it needs, seconds last time
    ("align", {}, [], 60.0),
    ("sft", {"seed": "0"}, [0], 120.0),
    ("reward", {"variant": "frame", "seed": "0"}, [1], 200.0),
    ("reward", {"variant": "word", "seed": "0"}, [1], 100.0),
    ("judge", {"system": "sft", "seed": "0"}, [1], None),
    ("all", {}, [2, 3, 4], None),
)


class FakeJob(SimpleNamespace):
    """Equal to itself alone, and so a key of mappings, as Snakemake's jobs are."""

    __hash__ = object.__hash__
    __eq__ = object.__eq__


class Fake:
    """What of Snakemake's workflow the progress reads: ROWS as its graph, some of them to do."""

    def __init__(self, todo: list[int], cores: int = 2, dryrun: bool = False, local: bool = True):
        rules = {
            name: SimpleNamespace(name=name, snakefile=f"workflow/rules/{name}.smk")
            for name in RULES
        }
        self.rules = list(rules.values())
        self.all = [
            FakeJob(
                rule=rules[rule],
                wildcards_dict=wildcards,
                is_norun=rule == "all",
                benchmark=f"benchmarks/embedded/{rule}_{number}.tsv",
                log=[f"logs/embedded/{rule}_{number}.log"],
                output=[f"results/embedded/{rule}_{number}/training.csv"],
                resources={"_cores": 1, "mem_mb": "TBD", "_nodes": 1},
            )
            for number, (rule, wildcards, _, _) in enumerate(ROWS)
        ]
        self.dag = SimpleNamespace(
            jobs=self.all,
            jobid=self.all.index,
            needrun=lambda job: self.all.index(job) in todo,
            needrun_jobs=lambda: [self.all[n] for n in todo],
            priority=lambda job: 0,
            dependencies={
                job: {self.all[n]: {"file"} for n in needs}
                for job, (_, _, needs, _) in zip(self.all, ROWS, strict=True)
            },
        )
        limits = {"_cores": cores, "_nodes": 2**63 - 1}
        self.scheduler = SimpleNamespace(global_resources=limits)
        self.dryrun, self.local_exec, self.touch = dryrun, local, False
        self.output_settings = SimpleNamespace(
            quiet=None, verbose=False, printshellcmds=False, debug_dag=False, dryrun=dryrun
        )


class Screen:
    """A run's log records, what they print, and a clock that stands still."""

    def __init__(self, workflow: Fake, redrawn: bool):
        self.stream, self.time = io.StringIO(), 1000.0
        shown = logging.StreamHandler(self.stream)
        self.progress = live.RunProgress(
            shown, workflow, "embedded", self.stream, redrawn, lambda: self.time
        )

    def say(self, message: str, event: str = "", level: int = logging.INFO, **fields: Any) -> None:
        record = logging.LogRecord("snakemake", level, "", 0, message, None, None)
        record.__dict__.update(fields, event=event or None)
        self.progress.handle(record)

    def start(self) -> None:
        self.say("Job stats:", "run_info", stats={})

    def job(self, number: int, seconds: float) -> None:
        self.say("Execute 1 jobs...", "job_started", jobs=[number])
        self.time += seconds
        self.say(f"Finished jobid: {number}", "job_finished", job_id=number)
        self.say("", "progress", done=1, total=5)

    def lines(self) -> list[str]:
        """What was printed, each state of the redrawn line as one."""
        return [line for line in re.split(r"\r\x1b\[K|\n", self.stream.getvalue()) if line]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory whose terminal is wide, without the thread that redraws."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(live.RunProgress, "_tick", lambda self: None)
    return tmp_path


@pytest.fixture
def timed(here: Path) -> Path:
    """The same after an earlier run: a benchmark file for each job but the judge."""
    for number, (rule, _, _, seconds) in enumerate(ROWS):
        if seconds is not None:
            benchmark(here / f"benchmarks/embedded/{rule}_{number}.tsv", str(seconds))
    return here


def benchmark(path: Path, *seconds: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEADER + "".join(f"{s}\t0:00:01\t-\t1.0\n" for s in seconds))
    return path


def graph(*rows: tuple[list[int], int], rule: str = "r") -> dict[int, Job]:
    """Jobs of (needs, threads)."""
    return {
        n: Job(n, rule, f"{rule} {n}", "phase", needs=frozenset(needs), asks={"_cores": threads})
        for n, (needs, threads) in enumerate(rows)
    }


def test_seconds_of_a_benchmark_file(tmp_path: Path) -> None:
    assert durations.benchmark_s(benchmark(tmp_path / "one.tsv", "93.30")) == 93.3
    with (tmp_path / "large.tsv").open("wb") as file:
        file.truncate(3 * 2**30)
    assert durations.benchmark_s(tmp_path / "large.tsv") is None
    assert durations.benchmark_s(benchmark(tmp_path / "repeated.tsv", "5.0", "7.5")) == 7.5
    assert durations.benchmark_s(benchmark(tmp_path / "unknown.tsv", "NA")) is None
    assert durations.benchmark_s(benchmark(tmp_path / "empty.tsv")) is None
    assert durations.benchmark_s(tmp_path / "missing.tsv") is None


def test_expected_seconds_are_measured_ones() -> None:
    jobs = [
        Job(0, "reward", "reward frame", "reward", last_s=10.0),
        Job(1, "reward", "reward word", "reward"),
        Job(2, "reward", "reward joint", "reward"),
        Job(3, "judge", "judge sft", "evaluate"),
    ]
    assert expected_s(jobs, {}) == {0: 10.0, 1: 10.0, 2: 10.0}  # no judge ever ran
    assert expected_s(jobs, {0: 99.0, 1: 20.0, 3: 4.0}) == {0: 10.0, 1: 20.0, 2: 15.0, 3: 4.0}


@pytest.mark.parametrize(
    ("rows", "seconds", "cores", "expected"),
    [
        ([([], 1), ([0], 1), ([1], 1)], [1, 2, 3], 2, 6),  # a chain
        ([([], 1), ([], 1), ([], 1)], [3, 3, 3], 2, 6),  # two side by side, then one
        (
            [([], 1), ([], 2), ([], 1)],
            [3, 2, 3],
            2,
            5,
        ),  # both cores wait; one fits beside the first
        ([([], 8)], [4], 2, 4),  # more threads than cores
        ([], [], 2, 0),
    ],
)
def test_wall_time_by_hand(
    rows: list[tuple[list[int], int]], seconds: list[float], cores: int, expected: float
) -> None:
    assert wall_s(graph(*rows), dict(enumerate(seconds)), {"_cores": cores}) == expected


def test_other_resources_running_jobs_and_priorities_count() -> None:
    jobs = {n: Job(n, "r", "r", "p", asks={"_cores": 1, "gpu": 1}) for n in range(3)}
    seconds = {0: 1.0, 1: 2.0, 2: 3.0}
    assert wall_s(jobs, seconds, {"_cores": 16, "gpu": 1}) == 6.0
    assert wall_s(jobs, seconds, {"_cores": 16, "gpu": 3}) == 3.0
    late = {**graph(([], 1), ([], 1)), 2: Job(2, "r", "r", "p", asks={"_cores": 1}, priority=1)}
    last = {**late, 3: Job(3, "r", "r", "p", needs=frozenset([2]), asks={"_cores": 1})}
    assert wall_s(last, {0: 1, 1: 1, 2: 1, 3: 5}, {"_cores": 1}) == 8
    assert wall_s(last, {0: 2, 1: 2, 2: 4, 3: 5}, {"_cores": 2}) == 9  # 2 before 0 and 1
    assert wall_s(last, {0: 2, 1: 2, 2: 4, 3: 5}, {"_cores": 2}, running=[0, 1]) == 11


def test_wall_time_equals_a_clock_that_ticks() -> None:
    draw = random.Random(0)
    for _ in range(200):
        n = draw.randint(1, 12)
        rows = [
            (draw.sample(range(i), draw.randint(0, min(i, 2))), draw.randint(1, 3))
            for i in range(n)
        ]
        seconds = {i: float(draw.randint(1, 9)) for i in range(n)}
        cores = draw.randint(1, 4)
        jobs = graph(*rows)
        assert wall_s(jobs, seconds, {"_cores": cores}) == ticked(jobs, seconds, cores)


def ticked(jobs: Mapping[int, Job], seconds: Mapping[int, float], cores: int) -> float:
    """The same second by second: whatever is ready and fits starts, in the order of numbers."""
    left, started, now = dict(seconds), set[int](), 0
    while left:
        for n in sorted(left.keys() - started):
            used = sum(min(jobs[i].asks["_cores"], cores) for i in started & left.keys())
            ready = not jobs[n].needs & left.keys()
            if ready and used + min(jobs[n].asks["_cores"], cores) <= cores:
                started.add(n)
        now += 1
        for n in started & left.keys():
            left[n] -= 1
        left = {n: s for n, s in left.items() if s > 0}
    return float(now)


def test_whole_runs_are_remembered_and_others_are_not(tmp_path: Path) -> None:
    path = tmp_path / "benchmarks/embedded/runs.csv"
    assert durations.last_whole_run(path, 5) is None
    for jobs, of, wall in ((5, 5, 50), (5, 5, 40), (2, 5, 9), (7, 7, 70)):
        durations.add_run(path, {"jobs": jobs, "of": of, "wall_s": wall})
    assert durations.last_whole_run(path, 5) == {"jobs": "5", "of": "5", "wall_s": "40"}
    assert durations.last_whole_run(path, 6) is None


def test_jobs_of_a_graph(timed: Path) -> None:
    jobs = jobs_of(Fake([2, 4]).dag, {"_cores"})
    assert [job.name for job in jobs.values()] == [
        *("align", "sft", "reward frame", "reward word", "judge sft")
    ]  # no target, and the only seed is not named
    assert jobs[2].last_s == 200.0
    assert jobs[4].last_s is None
    assert (jobs[2].phase, jobs[2].needs, jobs[2].asks) == ("reward", {1}, {"_cores": 1})
    assert jobs[2].log == "logs/embedded/reward_2.log"
    assert jobs[3].asks == {}  # not evaluated where nothing runs


def test_two_seeds_are_named() -> None:
    workflow = Fake([2])
    workflow.all[3].wildcards_dict = {"variant": "word", "seed": "1"}
    names = [job.name for job in jobs_of(workflow.dag, set()).values()]
    assert names[1:4] == ["sft seed 0", "reward frame seed 0", "reward word seed 1"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0:00"), (59.6, "1:00"), (580, "9:40"), (3723, "1:02:03")]
)
def test_clock(seconds: float, text: str) -> None:
    assert live.clock(seconds) == text


def test_the_first_run_has_no_estimate(here: Path) -> None:
    screen = Screen(Fake([0, 1, 2, 3, 4]), redrawn=True)
    screen.start()
    assert screen.lines()[0] == (
        "hpro: 5 jobs to do of 5 (align 1, sft 1, reward 2, judge 1); they have never run here, so "
        "their duration is unknown"
    )
    assert screen.lines()[-1] == "hpro: 0 of 5 jobs, 0:00 so far"
    screen.job(0, 62.0)
    assert screen.lines()[-1] == "hpro: 1 of 5 jobs, 1:02 so far"


def test_what_is_partly_known_is_no_estimate(timed: Path) -> None:
    screen = Screen(Fake([1, 2, 3, 4]), redrawn=True)
    screen.start()
    assert (
        "; 1 of them have never run here, the others took 7:00 one after another"
        in (screen.lines()[0])
    )
    assert screen.lines()[-1] == "hpro: 0 of 4 jobs, 0:00 so far"


def test_a_known_run_has_shares_and_time_left(timed: Path) -> None:
    run = {"date": "2026-11-29 12:00:00", "cores": "2", "jobs": "5", "of": "5", "wall_s": "580"}
    durations.add_run(timed / "benchmarks/embedded/runs.csv", run)
    screen = Screen(Fake([1, 2, 3]), redrawn=True)
    screen.start()
    assert screen.lines()[0] == (
        "hpro: 3 jobs to do of 5 (sft 1, reward 2); the last run of all took 9:40 here "
        "(2026-11-29, 2 cores); these took 7:00 one after another, about 5:20 on 2 cores"
    )
    assert screen.lines()[-1] == "hpro: 0 %, 0 of 3 jobs, 0:00 so far, about 5:20 left"
    screen.job(1, 120.0)
    screen.say("Execute 2 jobs...", "job_started", jobs=[2, 3])
    screen.time += 50.0
    share = round(100 * (120 + 50 + 50) / 420)
    assert screen.progress.line() == (
        f"hpro: {share} %, 1 of 3 jobs, 2:50 so far, about 2:30 left; running: reward frame, "
        "reward word"
    )
    screen.time += 1000.0  # both are late: no number is better than a wrong one
    assert screen.progress.line() == (
        "hpro: 100 %, 1 of 3 jobs, 19:30 so far; running: reward frame, reward word"
    )


def test_the_pace_of_this_run_counts(timed: Path) -> None:
    screen = Screen(Fake([1, 2, 3]), redrawn=True)
    screen.start()
    screen.job(1, 240.0)  # 120 last time
    pace = (durations.STEADY_S + 240) / (durations.STEADY_S + 120)
    assert f"about {live.clock(200 * pace)} left" in screen.progress.line()


def test_a_terminal_shows_the_line_warnings_and_errors(timed: Path) -> None:
    screen = Screen(Fake([2, 3]), redrawn=True)
    screen.say("Building DAG of jobs...")
    screen.say("Using shell: /usr/bin/bash")
    screen.say("Provided cores: 2", "resources_info")
    screen.start()
    screen.say("Execute 2 jobs...", "job_started", jobs=[2, 3])
    screen.say("Rule: reward", "job_info", jobid=2)
    screen.say("a file is late", level=logging.WARNING)
    screen.time += 30
    screen.say("Error in rule reward", "job_error", logging.ERROR, jobid=2)
    screen.say("Shutting down, this might take some time.")
    screen.say("Finished jobid: 3", "job_finished", job_id=3)
    screen.progress.close()
    screen.progress.close()  # logging closes it once more at exit
    kept = [line for line in screen.lines() if not re.match(r"hpro: \d+ %", line)]
    assert kept[0] == "Building DAG of jobs..."
    assert [line for line in kept if not line.startswith("hpro: ")][1:] == [
        *("a file is late", "Error in rule reward", "Shutting down, this might take some time.")
    ]
    assert kept[-2:] == [
        "hpro: 1 of 2 jobs done in 0:30, then stopped; run the same command again to continue",
        "hpro: failed: reward frame (log: logs/embedded/reward_2.log)",
    ]
    assert "1 of 2 jobs, 0:30 so far, 1 failed" in screen.stream.getvalue()
    assert not (timed / "benchmarks/embedded/runs.csv").exists()


def test_every_message_stays_above_the_line(timed: Path) -> None:
    """The line is wiped before anything else is printed, and drawn again after it."""
    screen = Screen(Fake([2, 3]), redrawn=True)
    screen.start()
    screen.say("a file is late", level=logging.WARNING)
    raw = screen.stream.getvalue()
    assert re.search(r"left\r\x1b\[Ka file is late\nhpro: 0 %[^\n]*left$", raw)


def test_a_job_that_is_tried_again_has_not_failed(timed: Path) -> None:
    screen = Screen(Fake([2, 3]), redrawn=True)
    screen.start()
    screen.say("Execute 1 jobs...", "job_started", jobs=[2])
    screen.say("Error in rule reward", "job_error", logging.ERROR, jobid=2)
    assert "1 failed" in screen.progress.line()
    screen.job(2, 5.0)
    screen.job(3, 5.0)
    screen.progress.close()
    assert screen.lines()[-1] == "hpro: 2 jobs done in 0:10"


def test_elsewhere_all_that_snakemake_says_stays(timed: Path) -> None:
    screen = Screen(Fake([2, 3]), redrawn=False)
    screen.say("Building DAG of jobs...")
    screen.start()
    screen.say("Rule: reward", "job_info", jobid=2)
    screen.job(2, 200.0)
    screen.job(3, 100.0)
    screen.progress.close()
    assert [line for line in screen.lines() if not line.startswith("hpro:")] == [
        *("Building DAG of jobs...", "Job stats:", "Rule: reward"),
        *("Execute 1 jobs...", "Finished jobid: 2", "Execute 1 jobs...", "Finished jobid: 3"),
    ]
    assert [line for line in screen.lines() if line.startswith("hpro:")][1:] == [
        "hpro: 67 %, 1 of 2 jobs, 3:20 so far, about 1:40 left",
        "hpro: 100 %, 2 of 2 jobs, 5:00 so far",
        "hpro: 2 jobs done in 5:00",
    ]


def test_a_run_without_a_failure_is_recorded(timed: Path) -> None:
    screen = Screen(Fake([2, 3]), redrawn=False)
    screen.start()
    screen.job(2, 200.0)
    screen.job(3, 100.5)
    screen.progress.close()
    with (timed / "benchmarks/embedded/runs.csv").open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert {name: row[name] for name in ("cores", "jobs", "of", "wall_s")} == {
        **{"cores": "2", "jobs": "2", "of": "5", "wall_s": "300.5"}
    }
    assert row["date"]
    assert row["commit"]


def test_a_dry_run_only_announces(timed: Path) -> None:
    screen = Screen(Fake([2, 3], dryrun=True), redrawn=False)
    screen.start()
    screen.say("Rule: reward", "job_info", jobid=2)
    screen.start()  # Snakemake counts twice
    screen.progress.close()
    assert [line for line in screen.lines() if line.startswith("hpro:")] == [
        "hpro: 2 jobs to do of 5 (reward 2); these took 5:00 one after another, "
        "about 3:20 on 2 cores"
    ]
    assert not (timed / "benchmarks/embedded/runs.csv").exists()


def test_touching_is_no_run(timed: Path) -> None:
    workflow = Fake([2, 3])
    workflow.touch = True
    screen = Screen(workflow, redrawn=False)
    screen.start()
    screen.job(2, 1.0)
    screen.progress.close()
    assert not [line for line in screen.lines() if line.startswith("hpro:")]
    assert not (timed / "benchmarks/embedded/runs.csv").exists()


def test_an_error_of_the_progress_ends_no_run(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workflow = Fake([2, 3])
    workflow.dag = SimpleNamespace()
    screen = Screen(workflow, redrawn=False)
    screen.start()
    screen.job(2, 1.0)
    assert screen.lines() == ["Job stats:", "Execute 1 jobs...", "Finished jobid: 2"]
    assert "AttributeError" in capsys.readouterr().err


def test_a_cluster_has_no_time_left(timed: Path) -> None:
    screen = Screen(Fake([2, 3], local=False), redrawn=True)
    screen.start()
    assert screen.lines()[0].endswith("(reward 2); these took 5:00 one after another")
    dry = Screen(Fake([2, 3], cores=2**63 - 1, dryrun=True), redrawn=False)
    dry.start()
    assert dry.lines()[1] == screen.lines()[0]
    screen.say("Execute 2 jobs...", "job_started", jobs=[2, 3])
    assert screen.progress.line() == (
        "hpro: 0 of 2 jobs, 0:00 so far; submitted: reward frame, reward word"
    )


def test_the_line_is_cut_to_the_terminal(timed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    screen = Screen(Fake([2, 3]), redrawn=True)
    screen.start()
    assert screen.lines()[-1] == "hpro: 0 %, 0 of 2 j"


def test_the_line_is_drawn_while_nothing_is_said(
    timed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.chdir(timed)
    monkeypatch.setattr(live, "REDRAW_EVERY_S", 0.01)
    screen = Screen(Fake([2, 3]), redrawn=True)
    screen.start()
    screen.time += 77.0
    limit = time.monotonic() + 10.0
    while "1:17 so far" not in screen.stream.getvalue() and time.monotonic() < limit:
        time.sleep(0.01)
    screen.progress.close()
    assert "1:17 so far" in screen.stream.getvalue()


@pytest.mark.parametrize(
    ("terminal", "change", "redrawn"),
    [
        (True, lambda w: None, True),
        (False, lambda w: None, False),
        (True, lambda w: setattr(w.output_settings, "verbose", True), False),
        (True, lambda w: setattr(w.output_settings, "printshellcmds", True), False),
        (True, lambda w: setattr(w.output_settings, "dryrun", True), False),
    ],
)
def test_the_line_is_redrawn_on_a_terminal_alone(
    terminal: bool,
    change: Callable[[Fake], None],
    redrawn: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logger, workflow = logger_of("DefaultStreamHandler"), Fake([2])
    on_terminal(monkeypatch, terminal)
    change(workflow)
    assert live.show_progress(workflow, logger, "embedded") == redrawn
    assert [type(handler) for handler in logger.handlers] == [live.RunProgress]


def test_an_environment_variable_shows_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    on_terminal(monkeypatch, True)
    monkeypatch.setenv("HPRO_VERBOSE", "1")
    assert not live.show_progress(Fake([2]), logger_of("DefaultStreamHandler"), "embedded")
    monkeypatch.setenv("HPRO_VERBOSE", "0")
    assert live.show_progress(Fake([2]), logger_of("DefaultStreamHandler"), "embedded")


@pytest.mark.parametrize("quiet", [{"all"}, {"Quietness.PROGRESS", "rules"}])
def test_quiet_runs_and_logger_plugins_are_left_alone(
    quiet: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_terminal(monkeypatch, True)
    logger, workflow = logger_of("DefaultStreamHandler"), Fake([2])
    workflow.output_settings.quiet = quiet
    assert not live.show_progress(workflow, logger, "embedded")
    assert logger.handlers[0].name == "DefaultStreamHandler"
    assert not live.show_progress(Fake([2]), logger_of("rich"), "embedded")


def logger_of(name: str) -> logging.Logger:
    logger = logging.Logger("snakemake")
    handler = logging.StreamHandler()
    handler.name = name
    logger.addHandler(handler)
    return logger


def on_terminal(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    monkeypatch.delenv("HPRO_VERBOSE", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(f"sys.{name}.isatty", lambda: terminal, raising=False)
