"""What surrounds a command: errors as text, signals, the end of Snakemake, one at a time."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hpro_core import locks, process
from hpro_core.errors import HproError
from hpro_core.locks import Lock, LocksUnsupported

REPO = Path(__file__).parents[1]
PATIENCE_S = 20.0
SOON_S = 2.0
"""Time in which jobs end after their Snakemake was killed."""


def start(code: str, *arguments: str, cwd: Path, **environment: str) -> subprocess.Popen[str]:
    """Run `process.run` on a function `commands` of some code."""
    text = textwrap.dedent(code) + "\nfrom hpro_core import process\nprocess.run(commands)\n"
    own = {k: v for k, v in os.environ.items() if not k.startswith(("HPRO_", "RANK", "LC_"))}
    own |= {"PYTHONPATH": str(REPO), **environment}
    return subprocess.Popen(
        [sys.executable, "-c", text, *arguments],
        cwd=cwd,
        env=own,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_default_signals,
    )


def _default_signals() -> None:
    """As from a terminal: whoever runs the tests may ignore some (nohup, a shell's background)."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def ended(code: str, *arguments: str, cwd: Path, **environment: str) -> tuple[int, str, str]:
    """The same until its end: status, standard output and error."""
    running = start(code, *arguments, cwd=cwd, **environment)
    out, err = running.communicate(timeout=PATIENCE_S)
    return running.returncode, out, err


def wait_for(condition: Callable[[], object], seconds: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    state = process._status(pid)
    return bool(state) and state[0] not in "ZX"


# --- errors --------------------------------------------------------------------------------------


def test_a_problem_of_the_user_is_one_line(tmp_path: Path) -> None:
    code = """
    from hpro_core.errors import HproError
    def commands(): raise HproError("x.wav, line 3:\\n  is empty: take it away")
    """
    assert ended(code, cwd=tmp_path) == (1, "", "hpro: x.wav, line 3: is empty: take it away\n")


def test_a_bug_is_a_paragraph_and_its_traceback_a_file(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    status, _, said = ended("def commands(): {}['key']", "sft", cwd=tmp_path)
    assert status == process.BUG_STATUS
    assert said.startswith("hpro: unexpected KeyError: 'key' (<string>, line ")
    assert "This is a bug of hpro" in said
    assert "Traceback" not in said
    assert len(said.splitlines()) == 1
    (file,) = (tmp_path / "logs").iterdir()
    assert str(file.relative_to(tmp_path)) in said
    written = file.read_text()
    assert "Traceback (most recent call last)" in written
    assert "'sft'" in written


def test_an_error_of_the_machine_is_no_bug(tmp_path: Path) -> None:
    code = """
    import errno
    def commands(): raise OSError(errno.EMFILE, "Too many open files", "a.py")
    """
    status, _, said = ended(code, cwd=tmp_path)
    assert status == 1
    assert said.startswith("hpro: a.py: Too many open files: raise the limit of open files")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    "last",
    ['open("model", "w")', 'raise process.HproError("model: Too many open files: do this")'],
)
def test_no_more_files_is_no_traceback_of_a_thread_or_of_pytorch(tmp_path: Path, last: str) -> None:
    """As in a training: a thread writes TensorBoard's files, and the optimiser has a compiler."""
    code = f"""
    import resource, threading
    import torch
    from hpro_core import process
    torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    def commands():
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
        thread = threading.Thread(target=open, args=("curves", "w"))
        thread.start()
        thread.join()
        {last}
    """
    status, _, said = ended(code, cwd=tmp_path)
    assert status == 1
    assert [line.split(":")[:3] for line in said.splitlines()] == [
        ["hpro", f" {name}", " Too many open files"] for name in ("curves", "model")
    ]


def test_no_more_files_is_no_bug_where_a_library_has_its_own_error(tmp_path: Path) -> None:
    code = """
    import os, resource
    def commands():
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
        raise RuntimeError("Unable to open /dev/urandom")
    """
    status, _, said = ended(code, cwd=tmp_path)
    assert status == 1
    assert said == (
        "hpro: RuntimeError: Unable to open /dev/urandom. No more files can be opened: raise the "
        "limit of open files (ulimit -n), then run the same command again\n"
    )


POOL = """
import multiprocessing, os, resource, time
from concurrent.futures import ProcessPoolExecutor
def slow(number):
    os.write(2, f"{{os.getpid()}}\\n".encode())
    time.sleep(60)
def commands():
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
        found = pool.map(slow, range(20))
        time.sleep(0.5)
        {fault}
        pool.submit(slow, 1)  # wakes the thread of the pool, which waits for its files
        list(found)
"""


@pytest.mark.parametrize(
    ("fault", "expected", "reason"),
    [
        ("resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))", 1, "No more files can be opened"),
        ("pool._call_queue.full = None", process.BUG_STATUS, "This is a bug of hpro"),
    ],
)
def test_a_pool_whose_thread_has_ended_ends_the_process(
    tmp_path: Path, fault: str, expected: int, reason: str
) -> None:
    """Its results would be waited for without end."""
    status, _, said = ended(POOL.format(fault=fault), cwd=tmp_path)
    assert status == expected
    assert reason in said.splitlines()[-1]
    workers = [int(line) for line in said.splitlines() if line.isdigit()]
    assert len(workers) == 2
    deadline = time.monotonic() + 10  # a killed process takes a moment to end
    while any(map(_runs, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in workers if _runs(pid)]


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("name", [process.TRACEBACK, process.SNAKEMAKE])
def test_a_bug_of_a_job_has_its_traceback_in_the_log(tmp_path: Path, name: str) -> None:
    status, _, said = ended("def commands(): {}['key']", cwd=tmp_path, **{name: "1"})
    assert status == process.BUG_STATUS
    assert "Traceback (most recent call last)" in said
    assert "This is a bug of hpro" in said.splitlines()[-1]


@pytest.mark.parametrize("raised", ["EOFError('half a file')", "OSError('far away')"])
def test_typer_hides_no_error_of_a_command(tmp_path: Path, raised: str) -> None:
    """It says "Aborted." alone of an EOFError, which a torn checkpoint is."""
    code = f"""
    from hpro_core.cli import app
    import hpro_core.plan.settings
    def sources(*_): raise {raised}
    hpro_core.plan.settings.sources = sources
    commands = app
    """
    status, _, said = ended(code, "settings", cwd=tmp_path, HPRO_TRACEBACK="1")
    assert status == process.BUG_STATUS
    assert f"unexpected {raised.split('(')[0]}" in said.splitlines()[-1]


def test_wrong_usage_stays_typers(tmp_path: Path) -> None:
    code = "from hpro_core.cli import app\ncommands = app"
    status, _, said = ended(code, "plan", "--no-such-option", cwd=tmp_path)
    assert status == 2
    assert "No such option" in said


def test_out_of_memory_is_no_bug(tmp_path: Path) -> None:
    status, _, said = ended("def commands(): raise MemoryError", cwd=tmp_path)
    assert (status, said.splitlines()) == (1, [said.strip()])
    assert "out of memory" in said


# --- output --------------------------------------------------------------------------------------


def test_a_terminal_without_a_character_gets_an_escape(tmp_path: Path) -> None:
    code = "def commands(): print('naïve “quote”')"
    for encoding, shown in (("iso-8859-1", "naïve"), ("ascii", r"na\xefve")):
        running = start(code, cwd=tmp_path, PYTHONIOENCODING=encoding)
        assert running.stdout is not None
        out = running.stdout.buffer.read().decode(encoding)  # type: ignore[attr-defined]
        assert running.wait() == 0
        assert out == rf"{shown} \u201cquote\u201d" + "\n"


@pytest.mark.parametrize(
    "code",
    [
        "def commands():\n    for i in range(10**6): print(i)",
        "def commands(): print('only when Python ends is this written')",
        "from hpro_core.cli import app\nimport sys\nsys.argv[1:] = ['--help']\ncommands = app",
    ],
)
def test_a_closed_pipe_ends_quietly(tmp_path: Path, code: str) -> None:
    running = start(code, cwd=tmp_path)
    assert running.stdout is not None
    assert running.stderr is not None
    running.stdout.close()
    assert running.stderr.read() == ""
    assert running.wait() != 0


# --- signals -------------------------------------------------------------------------------------


WAITING = """
import subprocess, sys
def commands():
    child = subprocess.Popen(["sleep", "60"])
    print(child.pid, flush=True)
    with child:  # its end waits for that of the child
        pass
"""


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_a_command_with_what_it_has_started(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    running = start(WAITING, cwd=tmp_path)
    assert running.stdout is not None
    assert running.stderr is not None
    child = int(running.stdout.readline())
    running.send_signal(number)
    said = running.stderr.read()
    assert running.wait(timeout=PATIENCE_S) == status
    assert said == f"hpro: stopped by {number.name}; run the same command again to continue\n"
    wait_for(lambda: not is_alive(child), SOON_S)


# --- the end of Snakemake ------------------------------------------------------------------------


SNAKEMAKE = """
import os, subprocess, sys, time
from hpro_core import process
os.environ[process.SNAKEMAKE] = process.this_process()
line = process.SHELL_PREFIX + "({} job.py && touch done) 2>&1 | tee log".format(sys.executable)
subprocess.run(line, shell=True, executable="bash", start_new_session=True)
"""
JOB = """
import os, signal, subprocess, time
from hpro_core import process
def commands():
    deaf = "trap '' TERM; echo $$ > grandchild; sleep 60"
    subprocess.Popen(["sh", "-c", f"sh -c \\"{deaf}\\" & wait"])
    open("job", "w").write(str(os.getpid()))
    time.sleep(60)
process.run(commands)
"""


@pytest.fixture
def killed_with(tmp_path: Path) -> Iterator[Callable[[str], list[int]]]:
    """Starts a job as Snakemake does, kills what stands for Snakemake; returns the job's pids."""
    (tmp_path / "job.py").write_text(JOB)
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    found: list[int] = []

    def kill(snakemake: str) -> list[int]:
        parent = subprocess.Popen([sys.executable, "-c", snakemake], cwd=tmp_path, env=environment)
        wait_for((tmp_path / "grandchild").is_file)
        wait_for(lambda: (tmp_path / "grandchild").read_text().strip())
        wait_for((tmp_path / "job").is_file)
        found.extend(process.descendants(parent.pid))
        parent.kill()  # not yet waited for: as under a `make` that is busy
        return found

    yield kill
    for pid in found:
        process._signal(pid, signal.SIGKILL)


def test_a_job_ends_with_its_snakemake(
    tmp_path: Path, killed_with: Callable[[str], list[int]]
) -> None:
    pids = killed_with(SNAKEMAKE)
    assert len(pids) >= 5  # shell, tee, the job, its child, that one's child
    wait_for(lambda: not any(map(is_alive, pids)), SOON_S)
    assert "was killed: ending this job" in (tmp_path / "log").read_text()
    assert not (tmp_path / "done").exists()


def test_a_job_of_another_machine_goes_on(
    tmp_path: Path, killed_with: Callable[[str], list[int]]
) -> None:
    elsewhere = SNAKEMAKE.replace("process.this_process()", "'other/boot/pid 1 1'")
    pids = killed_with(elsewhere)
    time.sleep(SOON_S)
    assert is_alive(int((tmp_path / "job").read_text()))
    assert sum(map(is_alive, pids)) >= 5


def test_only_the_shell_of_the_job_is_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(process.JOB_SHELL, str(os.getppid()))
    assert process._job_shell() == os.getppid()
    other = subprocess.Popen(["sleep", "60"])
    monkeypatch.setenv(process.JOB_SHELL, str(other.pid))
    assert process._job_shell() is None
    other.kill()


# --- one at a time -------------------------------------------------------------------------------


HOLDING = """
import time, pathlib
def commands():
    print("begun", flush=True)
    while not pathlib.Path("go").exists(): time.sleep(0.02)
"""


@pytest.fixture
def results(tmp_path: Path) -> Path:
    (tmp_path / "results/made").mkdir(parents=True)
    return tmp_path


def test_a_second_command_of_the_same_arguments_waits(results: Path) -> None:
    command = ("sft", "--root", "results/made", "--seed", "0")
    first = start(HOLDING, *command, "--threads", "1", cwd=results)
    assert first.stdout is not None
    assert first.stdout.readline() == "begun\n"
    second = start(HOLDING, *command, "--threads", "2", cwd=results)
    assert second.stderr is not None
    assert (
        f"the same command is already running (process {first.pid} on " in second.stderr.readline()
    )
    assert second.poll() is None
    first.kill()
    assert second.stdout is not None
    assert second.stdout.readline() == "begun\n"
    (results / "go").touch()
    assert second.wait(timeout=PATIENCE_S) == 0
    assert len(list((results / "work/made/locks").iterdir())) == 1


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (("sft", "--root=results/made", "--seed", "1"), {}),
        (("sft", "--root", "results/made", "--seed", "0"), {"RANK": "1"}),
        (("plan", "--params", "params.yaml"), {}),
    ],
)
def test_other_commands_do_not_wait(
    results: Path, arguments: tuple[str, ...], environment: dict[str, str]
) -> None:
    first = start(HOLDING, "sft", "--root", "results/made", "--seed", "0", cwd=results)
    assert first.stdout is not None
    assert first.stdout.readline() == "begun\n"
    second = start(HOLDING, *arguments, cwd=results, **environment)
    assert second.stdout is not None
    assert second.stdout.readline() == "begun\n"
    (results / "go").touch()
    assert first.wait() == second.wait() == 0


def test_locks_lie_beside_the_checkpoints() -> None:
    assert process.locks_of(Path("results/a")) == Path("work/a/locks")
    assert process.locks_of(Path("/far/results/a")) == Path("/far/work/a/locks")
    assert process.locks_of(Path("/far/a")) == Path("/far/.a.locks")


# --- locks ---------------------------------------------------------------------------------------


def test_a_lock_says_who_holds_it_and_is_free_afterwards(tmp_path: Path) -> None:
    one, other = Lock(tmp_path / "a/run.lock"), Lock(tmp_path / "a/run.lock")
    assert one.acquire("run") is None
    holder = other.acquire("look")
    assert holder is not None
    assert (holder.pid, holder.purpose) == (os.getpid(), "run")
    assert str(holder).startswith(f"process {os.getpid()} on ")
    one.release()
    assert other.acquire("look") is None
    other.release()


def test_a_file_system_without_locks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", unsupported)
    with pytest.raises(LocksUnsupported, match=r"No locks available"):
        Lock(tmp_path / "x.lock").acquire("run")
    (tmp_path / "results/made").mkdir(parents=True)
    with process.one_at_a_time(["sft", "--root", str(tmp_path / "results/made")]):
        pass  # goes on, with a line


def test_a_lock_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "work").write_text("")
    with pytest.raises(HproError, match=r"work/locks/x.lock cannot be written \(.*\): give this"):
        Lock(tmp_path / "work/locks/x.lock").acquire("run")


def test_children_do_not_hold_the_lock(tmp_path: Path) -> None:
    code = """
    import subprocess, sys
    from pathlib import Path
    from hpro_core.locks import Lock
    Lock(Path("x.lock")).acquire("run")
    child = subprocess.Popen(["sleep", "60"])
    print(child.pid, flush=True)
    sys.stdin.read()
    """
    holder = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPO)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    child = int(holder.stdout.readline())
    with (tmp_path / "x.lock").open() as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    holder.kill()
    holder.wait()
    assert Lock(tmp_path / "x.lock").acquire("run") is None
    os.kill(child, signal.SIGKILL)
