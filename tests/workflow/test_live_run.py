"""A run keeps its settings, is alone, and goes on after a kill: real Snakemake, the stand-in."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hpro_core import process
from hpro_core.locks import Lock
from hpro_core.plan import live_run
from hpro_core.plan.status import status_of
from tests.workflow.project import REPO, RUN, Project

pytestmark = pytest.mark.workflow

EDIT = ("params.yaml", "min_duration_s: 0.8 ", "min_duration_s: 0.7 ")
TARGET = "phase_corpus"
SNAKEMAKE = ("snakemake", "--cores", "2")
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A tree with the stand-in, in a folder with a blank in its name; nothing has run."""
    made = Project.copied(tmp_path_factory.mktemp("live") / "a project", data=False)
    made.use_stand_in()
    made.set_base("")
    return made


@pytest.fixture
def project(fresh: Project, tmp_path: Path) -> Project:
    return fresh.twin(tmp_path / "a project")


@pytest.fixture
def held(project: Project) -> Iterator[tuple[Project, subprocess.Popen[str], Path]]:
    """A run that waits in corpus-split: the project, Snakemake, and the file that holds it."""
    hold = project.hold("corpus-split")
    running = project.start(*SNAKEMAKE, "--", TARGET)
    waits = hold.with_suffix(".waits")
    wait_for(lambda: waits.is_file() or running.poll() is not None)
    assert running.poll() is None, running.communicate()[0]
    yield project, running, hold
    hold.unlink(missing_ok=True)
    running.kill()
    running.wait()
    if waits.is_file():  # the stand-in does not watch Snakemake, as `hpro` does
        process._signal(int(waits.read_text()), signal.SIGKILL)


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def keys(project: Project) -> dict[str, tuple[bytes, int]]:
    """The key files with their content and time."""
    files = (project.folder / RUN / "params").iterdir()
    return {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in files}


@pytest.mark.full
def test_a_run_keeps_its_settings_while_others_edit_and_look(
    held: tuple[Project, subprocess.Popen[str], Path], fresh: Project, tmp_path: Path
) -> None:
    project, running, hold = held
    begun = keys(project)
    project.edit(*EDIT)
    for look, shows in (("--dry-run", "This was a dry-run"), ("--summary", "output_file")):
        said = project.run(*SNAKEMAKE, look, "--", TARGET).stdout
        assert f"the run 'embedded' is active (process {running.pid} on " in said
        assert shows in said
    second = project.run(*SNAKEMAKE, "--", TARGET, check=False)
    assert second.returncode == 1
    assert f"is active (process {running.pid} on " in second.stdout.split("WorkflowError")[1]
    assert "Traceback" not in second.stdout
    deleting = project.run(*SNAKEMAKE, "--delete-all-output", "--", TARGET, check=False)
    assert deleting.returncode == 1
    assert keys(project) == begun
    hold.unlink()
    out, _ = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 0, out
    assert keys(project) == begun
    undisturbed = fresh.twin(tmp_path / "undisturbed")
    undisturbed.snakemake("--", TARGET)
    assert project.results() == undisturbed.results()
    # And the edit counts for the next run.
    assert project.snakemake("--", TARGET) >= {"corpus-read acted", "corpus-split"}


def test_after_a_kill_the_same_command_goes_on(
    held: tuple[Project, subprocess.Popen[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    project, running, hold = held
    locks = project.folder / ".snakemake/locks"
    assert list(locks.iterdir())
    monkeypatch.chdir(project.folder)
    (number,) = [n for n, j in status_of("embedded").jobs.items() if j.rule == "corpus_split"]
    found = status_of("embedded")
    assert (found.state, found.states[number]) == ("running", "running")
    running.kill()
    running.wait()
    found = status_of("embedded")
    assert (found.state, found.states[number]) == ("killed", "stopped")
    os.kill(int(hold.with_suffix(".waits").read_text()), signal.SIGKILL)
    hold.unlink()
    done = project.run(*SNAKEMAKE, "--", TARGET)
    assert "the last run 'embedded' was killed: its lock is removed" in done.stdout
    assert status_of("embedded").state == "finished"
    assert set(status_of("embedded").states.values()) == {"done"}
    assert (project.folder / RUN / "corpus/utterances.parquet").is_file()
    again = project.run(*SNAKEMAKE, "--", TARGET).stdout
    assert "Nothing to be done" in again
    assert "was killed" not in again


@pytest.mark.full
def test_runs_of_two_names_work_side_by_side(
    held: tuple[Project, subprocess.Popen[str], Path],
) -> None:
    project, _, hold = held
    other = project.start(*SNAKEMAKE, "--config", "run=second", "--", TARGET)
    waits = hold.with_suffix(".waits")
    waits.unlink()
    wait_for(lambda: list((project.folder / "results/second/corpus").glob("*/utterances.parquet")))
    hold.unlink()
    out, _ = other.communicate(timeout=PATIENCE_S)
    assert other.returncode == 0, out
    assert "is active" not in out


@pytest.mark.full
def test_the_snakemakes_of_jobs_get_the_settings_that_the_run_began_with(project: Project) -> None:
    """Those of a cluster are given `--configfile`; here a scheduler that is a shell."""
    scheduler = 'python -c \'import sys, subprocess; subprocess.Popen(["sh", sys.argv[1]], stdout=subprocess.DEVNULL, stderr=open("jobs", "a"), start_new_session=True); print(1)\''  # noqa: E501
    hold = project.hold("corpus-read")
    running = project.start(
        "snakemake", "--workflow-profile", "none", "--executor", "cluster-generic", "--jobs", "1",
        "--cluster-generic-submit-cmd", scheduler, "--", TARGET,
    )  # fmt: skip
    wait_for(lambda: hold.with_suffix(".waits").is_file() or running.poll() is not None)
    assert running.poll() is None, running.communicate()[0]
    (project.folder / "params.yaml").write_text("run: [broken")
    hold.unlink()
    out, _ = running.communicate(timeout=3 * PATIENCE_S)
    assert running.returncode == 0, out + (project.folder / "jobs").read_text()
    assert len(list((project.folder / "work/embedded/settings").iterdir())) == 1


@pytest.mark.full
def test_a_job_of_the_real_command_ends_with_snakemake(project: Project) -> None:
    """The rules hand down which Snakemake and which shell it is."""
    hpro = project.folder / "workflow/bin/hpro"
    hpro.write_text(
        f"#!{sys.executable}\n"
        "import os, sys, time\n"
        "from hpro_core import process\n"
        "def commands():\n"
        "    with open('pids', 'a') as file: file.write(f'{os.getpid()}\\n')\n"
        "    time.sleep(60)\n"
        "process.run(commands)\n"
    )
    running = project.start(*SNAKEMAKE, "--", TARGET)
    wait_for(lambda: (project.folder / "pids").is_file() or running.poll() is not None)
    assert running.poll() is None, running.communicate()[0]
    wait_for((project.folder / "pids").read_text)
    jobs = process.descendants(running.pid)
    assert {int(pid) for pid in (project.folder / "pids").read_text().split()} < {*jobs}
    running.kill()
    running.wait()
    deadline = time.monotonic() + 2.0
    while any(process._start_of(pid) for pid in jobs):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.full
def test_small_numbers_as_dvc_writes_them(project: Project) -> None:
    path = project.folder / "params.yaml"
    text = path.read_text()
    sft = text[text.index("\nsft:") :]
    line = next(each for each in sft.splitlines() if "learning_rate" in each)
    path.write_text(text.replace(line, "  learning_rate: 1e-05"))
    project.run("snakemake", "-n", "--quiet", "all", "--", TARGET)
    assert "learning_rate: 1.0e-05" in (project.folder / RUN / "params/sft.yaml").read_text()


@pytest.mark.full
@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (b"steps: 1900", b"steps: 1900 # caf\xe9", "byte 0xe9 is not UTF-8"),
        (b"steps: 1900", b"steps: 2024-13-45", "not '2024-13-45'"),
        (b"\nsynthesis:", b"\nshards: 1\nsynthesis:", "key 'shards' is also in line"),
        (b"steps: 1900", b"steps: 010", "010 begins with a zero"),
    ],
)
def test_odd_settings_are_one_message(project: Project, old: bytes, new: bytes, says: str) -> None:
    path = project.folder / "params.yaml"
    path.write_bytes(path.read_bytes().replace(old, new, 1))
    done = project.run(*SNAKEMAKE, "--", TARGET, check=False)
    assert done.returncode == 1
    (line,) = (each for each in done.stdout.splitlines() if says in each)
    assert line.startswith("params.yaml")
    assert "Traceback" not in done.stdout


@pytest.mark.full
def test_a_target_that_was_taken_for_a_settings_file_is_named(project: Project) -> None:
    (project.folder / "metrics.json").write_text('{"system": "sft"}')
    said = project.run(
        *SNAKEMAKE, "--configfile", "config/acted.yaml", "metrics.json", check=False
    ).stdout
    assert "metrics.json is not a settings file, it has no known section: targets of" in said
    said = project.run("snakemake", "-n", "--configfile", "config/acted.yaml", "all", check=False)
    assert said.stdout.splitlines()[1:] == [
        "hpro: all is not a settings file, it does not exist: targets of Snakemake come after `--`"
    ]
    above = project.folder / "above.yaml"
    above.write_text("sft: {steps: 0}")
    said = project.run(*SNAKEMAKE, "--configfile", "above.yaml", "--", TARGET, check=False).stdout
    assert "\nabove.yaml: sft.steps: " in said
    above.write_bytes(b"sft: {steps: 5} # caf\xe9")
    for profile in ("default", "slurm", "slurm-generic"):
        options = ("--workflow-profile", f"profiles/{profile}", "-n", "--configfile", "above.yaml")
        said = project.run("snakemake", *options, "--", TARGET, check=False).stdout
        (line,) = said.splitlines()[1:]
        assert line == "hpro: above.yaml, line 1: byte 0xe9 is not UTF-8: save it as UTF-8"


@pytest.mark.full
def test_a_path_of_a_corpus_is_quoted_for_the_shell(project: Project) -> None:
    (project.folder / "data/raw/amazon_queen").rename(project.folder / "data/raw/q u$(touch X)'s")
    odd = 'path: "data/raw/q u$(touch X)\'s"}'
    project.edit("params.yaml", "path: data/raw/amazon_queen}", odd)
    project.snakemake("--", "phase_align")
    assert not (project.folder / "X").exists()
    assert (project.folder / RUN / "align/accuracy.json").is_file()


@pytest.mark.full
def test_a_folder_that_cannot_stand_in_path_is_refused(fresh: Project, tmp_path: Path) -> None:
    twin = fresh.twin(tmp_path / "a:b")
    said = twin.run(*SNAKEMAKE, "-n", "--", TARGET, check=False).stdout
    assert f"{twin.folder}: the path of the project has a ':', at which PATH" in said
    assert not (twin.folder / RUN / "params").exists()
    made = twin.run("make", "setup", check=False)
    assert made.returncode == 2
    assert "the path of the project has a ':'" in made.stdout
    alone = subprocess.run(
        ["workflow/scripts/setup.sh"], cwd=twin.folder, capture_output=True, text=True
    )
    assert (alone.returncode, len(alone.stderr.splitlines())) == (1, 1)


# --- without Snakemake ---------------------------------------------------------------------------


def test_locks_of_other_runs_stay(tmp_path: Path) -> None:
    for name, text in {
        "0.input.lock": "results/mine/params/align.yaml\n",
        "0.output.lock": "docs/claims.csv\n",
        "1.input.lock": "results/mine2/params/align.yaml\nresults/other/a\n",
        "1.output.lock": "results/mine2/align/words.parquet\n",
    }.items():
        (tmp_path / name).write_text(text)
    assert live_run.remove_stale_locks("mine", tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"1.input.lock", "1.output.lock"}
    assert not live_run.remove_stale_locks("mine", tmp_path)
    assert not live_run.remove_stale_locks("mine", tmp_path / "nowhere")


def test_a_run_waits_for_a_look_and_not_for_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.lock"
    monkeypatch.setattr(live_run, "MAX_DRY_RUN_S", 0.3)
    other = Lock(path)
    other.acquire(live_run.RUN)
    start = time.monotonic()
    with pytest.raises(live_run.RunActive), live_run.hold_lock(Lock(path), "mine", live_run.RUN):
        pass
    assert time.monotonic() - start < 0.2
    other.release()
    other.acquire(live_run.DRY_RUN)
    with pytest.raises(live_run.RunActive), live_run.hold_lock(Lock(path), "mine", live_run.RUN):
        pass
    assert time.monotonic() - start > 0.3


def test_kept_settings_are_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    one = live_run.save_settings("mine", {"run": "mine", "sft": {"learning_rate": 1e-5}})
    before = one.stat().st_mtime_ns
    again = live_run.save_settings("mine", {"run": "mine", "sft": {"learning_rate": 1e-5}})
    assert (again, again.stat().st_mtime_ns) == (one, before)
    assert one != live_run.save_settings("mine", {"run": "mine", "sft": {"learning_rate": 2e-5}})
    assert one.is_absolute()


def test_every_printed_command_has_its_targets_after_two_dashes() -> None:
    targets = r"(results/|all\b|all_ablations|phase_|claims\b|tables\b|base_make)"
    listing = ["git", "ls-files", "*.md", "*.py", "*.smk", "*.sh", "*.yaml", "*.html", "Makefile"]
    names = subprocess.run(listing, cwd=REPO, capture_output=True, text=True, check=True).stdout
    wrong = []
    for name in names.split():
        if name.startswith("tests/"):
            continue
        for line in (REPO / name).read_text(encoding="utf-8").splitlines():
            for command in re.findall(r"snakemake(?: [^`\"'|;&#<]*)", line):
                words = re.sub(r"--(cores|quiet|snakefile) \S+", "", command).split(" -- ")[0]
                if re.search(rf" {targets}", words):
                    wrong.append(f"{name}: {line.strip()}")
    assert not wrong
