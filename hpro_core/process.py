"""Process handling of `hpro` commands: error messages, signals, and locks.

- An `HproError` is printed as one line on standard error, an unexpected error as a paragraph that
  names the file of its traceback.
- A command whose Snakemake was killed (SIGKILL, out of memory) ends itself and all processes that
  it started, since a killed Snakemake cannot stop its jobs. Linux only.
- Two commands with the same arguments never run at the same time on the same results.
"""

import atexit
import errno
import hashlib
import os
import re
import select
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn, TextIO

from hpro_core.errors import HproError
from hpro_core.locks import Lock, LocksUnsupported
from hpro_core.records import root_of

SNAKEMAKE = "HPRO_SNAKEMAKE"
"""Environment variable: the Snakemake process of a job, as named by `this_process`."""

JOB_SHELL = "HPRO_JOB_SHELL"
"""Environment variable: process id of the shell that runs the job's shell line."""

TRACEBACK = "HPRO_TRACEBACK"
"""Environment variable; 1 prints the traceback of an unexpected error on the terminal."""

SHELL_PREFIX = f"set -euo pipefail; export {JOB_SHELL}=$$; "
"""Prefix of a job's shell line: Snakemake's own, and the export of the shell's process id."""

QUIET_SHELL_PREFIX = f"{SHELL_PREFIX}exec > /dev/null; "
"""Shell prefix with which `tee` writes only to the log."""

NO_RESULT = ("--threads", "--tracker", "--dev-audio")
"""Options with a value that do not affect results; they are ignored when commands are compared."""

NO_RESULT_FLAGS = ("--profile",)
"""The same without a value."""

BUG_STATUS = 70
"""Exit status of an unexpected error (EX_SOFTWARE of sysexits.h)."""

POLL_S = 0.25
GRACE_S = 0.7


class Stopped(BaseException):
    """This process received a signal to end.

    It is not an Exception, so that no `except Exception` handles it.
    """

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


class Raised(Exception):
    """Wraps an error, its cause, that typer would otherwise hide or print as "Aborted."."""


def run(
    commands: Callable[[], object], prepare: Callable[[list[str]], list[str]] = list
) -> NoReturn:
    """Run the command line and exit.

    `prepare` completes its arguments before another process with the same ones is waited for.

    The exit status is 0, that of typer for wrong usage, 1 for an HproError, 70 for an unexpected
    error, or 128 and the number of the signal.
    """
    _print_what_the_terminal_can()
    _end_on_signals()
    _end_with_snakemake()
    threading.excepthook = _report_of_thread
    try:
        sys.argv[1:] = prepare(sys.argv[1:])
        with one_at_a_time(sys.argv[1:]):
            commands()
        status: Any = 0
    except SystemExit as end:
        status = end.code
    except HproError as error:
        status = _fail(1, str(error))
    except Stopped as stop:
        status = _fail(
            128 + stop.number, f"stopped by {stop}; run the same command again to continue"
        )
    except MemoryError:
        status = _fail(1, "out of memory: free memory, or use a machine with more")
    except OSError as error:
        of_machine = error.errno in _OF_MACHINE
        status = _fail(1, _machine_error(error)) if of_machine else _unexpected(error)
    except Raised as raised:
        status = _unexpected(raised.__cause__ or raised)
    except Exception as error:
        status = _unexpected(error)
    sys.exit(_flushed(status))


_OF_MACHINE = {
    errno.ENOSPC: "free space on its disk",
    errno.EDQUOT: "free space in your quota",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f)",
    errno.EROFS: "make its file system writable",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "too many files are open on this machine: end other programs",
    errno.EIO: "check its disk or network file system",
    errno.ESTALE: "check its network file system",
    errno.ENOMEM: "free memory, or use a machine with more",
}
"""Errors of the machine or of this user's limits -> the action to take."""


_FILES_OF_A_LIBRARY = 8
"""Number of files that a library may have open at once, beside those of this process."""


def _machine_error(error: OSError) -> str:
    name = f"{error.filename}: " if error.filename else ""
    hint = _OF_MACHINE[error.errno or 0]
    return f"{name}{error.strerror}: {hint}, then run the same command again"


def _skip_pytorchs_exit_hook() -> None:
    """Remove an exit hook of PyTorch's compiler, which fails if no file can be opened."""
    utils = sys.modules.get("torch._dynamo.utils")
    if utils is not None:
        atexit.unregister(utils.dump_compile_times)


def _report_of_thread(failed: threading.ExceptHookArgs) -> None:
    """Report an error that ended a thread; end the process if it is not the machine's.

    The main thread may wait for this thread, such as that of a pool of processes, for ever. It does
    not wait for TensorBoard's writer, and meets a full disk or too many open files itself.
    """
    error = failed.exc_value
    if error is None or isinstance(error, SystemExit):
        return
    if isinstance(error, OSError) and error.errno in _OF_MACHINE:
        _say(_machine_error(error))
        return
    status = _unexpected(error)
    if "multiprocessing" in sys.modules:  # /proc cannot be read without free file descriptors
        for child in sys.modules["multiprocessing"].active_children():
            child.kill()
    os._exit(status)


# --- output --------------------------------------------------------------------------------------


def _print_what_the_terminal_can() -> None:
    """Print characters outside the terminal's encoding as escapes instead of raising an error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _say(message: str) -> None:
    try:
        print(f"hpro: {message}", file=sys.stderr, flush=True)
    except BrokenPipeError:
        _close_quietly()


def _fail(status: int, message: str) -> int:
    _skip_pytorchs_exit_hook()
    _say(message)
    return status


def _flushed(status: Any) -> Any:
    """Flush the output; return the status, or that of SIGPIPE if the output has no reader."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        _close_quietly()
        return 128 + signal.SIGPIPE
    return status


def _has_no_reader(stream: TextIO) -> bool:
    """Whether a stream's reader has closed it, as after `| head`."""
    poll = select.poll()
    poll.register(stream.fileno(), select.POLLOUT)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _close_quietly() -> None:
    """Discard buffered output, for which Python would print an error at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        if _has_no_reader(stream):
            os.dup2(nowhere, stream.fileno())


def _unexpected(error: BaseException) -> Any:
    """Report an unexpected error, and return the exit status."""
    if isinstance(error, BrokenPipeError) and any(map(_has_no_reader, (sys.stdout, sys.stderr))):
        _close_quietly()
        return 128 + signal.SIGPIPE
    what = " ".join(f"{type(error).__name__}: {error}".split())[:500]
    if not _can_open_files():
        hint = _OF_MACHINE[errno.EMFILE]
        return _fail(
            1, f"{what}. No more files can be opened: {hint}, then run the same command again"
        )
    text = "".join(traceback.format_exception(error))
    in_job = SNAKEMAKE in os.environ
    shown = in_job or os.environ.get(TRACEBACK, "0") not in ("", "0")
    file = None if shown else _written(text)
    if file is None:
        print(text, file=sys.stderr)
    attach = f"{file} (traceback, command and versions)" if file else "the traceback above"
    attach += ", also in the log of this job" if in_job else ""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return _fail(
        BUG_STATUS,
        f"unexpected {what} ({frame.filename}, line {frame.lineno}). This is a bug of hpro: please "
        f"report it, and attach {attach}, your params.yaml and the affected file, if any.",
    )


def _can_open_files() -> bool:
    """Whether this process can open a few more files.

    Libraries report too many open files as an error of their own, such as PyTorch's "Unable to open
    /dev/urandom" and CTranslate2's "Cannot load the vocabulary".
    """
    opened: list[int] = []
    try:
        while len(opened) < _FILES_OF_A_LIBRARY:
            opened.append(os.dup(2))
    except OSError as error:
        return error.errno not in (errno.EMFILE, errno.ENFILE)
    finally:
        for number in opened:
            os.close(number)
    return True


def _written(text: str) -> Path | None:
    """Write a traceback to a file and return its path; None if no file can be written."""
    from hpro_core import __version__

    folder = Path("logs") if Path("logs").is_dir() else Path(tempfile.gettempdir())
    file = folder / f"hpro-bug-{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}.txt"
    about = f"hpro {__version__}, Python {sys.version}\ncommand: {sys.argv}\n\n"
    try:
        file.write_text(about + text, encoding="utf-8", errors="backslashreplace")
    except OSError:
        return None
    return file


# --- signals -------------------------------------------------------------------------------------


def _end_on_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # ignored after nohup or &
            signal.signal(number, _stop)


def _stop(number: int, _: object) -> NoReturn:
    """Signal handler: also stop child processes, since this process may wait for them."""
    if os.getpid() != _MAIN_PROCESS:  # a forked worker has this handler as well
        raise SystemExit(128 + number)
    for pid in descendants(os.getpid()):
        _signal(pid, signal.SIGTERM)
    raise Stopped(number)


_MAIN_PROCESS = os.getpid()


# --- the end of Snakemake ------------------------------------------------------------------------


def this_process() -> str:
    """Return a name of this process for `SNAKEMAKE`: machine, id and start; "" without /proc."""
    start = _start_of(os.getpid())
    return f"{_machine()} {os.getpid()} {start}" if start else ""


def is_running(name: str) -> bool | None:
    """Return whether the process of a name from `this_process` runs; None if it cannot be seen.

    It cannot be seen from another machine, or from another process namespace of its machine.
    """
    machine, pid, start = name.rsplit(" ", 2) if name.count(" ") > 1 else ("", "0", "")
    host, _, boot = machine.partition("/")
    own_host, _, own_boot = _machine().partition("/")
    if not host or host != own_host or not pid.isdigit():
        return None
    if boot == own_boot:
        return _start_of(int(pid)) == start
    same_boot = boot.split("/")[0] == own_boot.split("/")[0]
    return None if same_boot else False


def is_running_since(pid: int, since: datetime) -> bool:
    """Return whether a process of this machine runs that started before a point in time."""
    start = _start_of(pid)
    if start is None:
        return False
    boot = re.search(r"^btime (\d+)$", Path("/proc/stat").read_text(), flags=re.MULTILINE)
    assert boot is not None
    started = int(boot[1]) + int(start) / os.sysconf("SC_CLK_TCK")
    return started <= since.timestamp() + 2.0  # times of locks are in whole seconds


def use_checkout(root: str | Path) -> None:
    """Make `hpro` in shell lines the one of a checkout, and end it when this process ends.

    Its Python is the one that runs this, unless Snakemake activates another environment.

    Args:
        root: folder of the checkout.

    Raises:
        HproError: the path of the checkout cannot stand in PATH.
    """
    if os.pathsep in str(root):
        raise HproError(
            f"{root}: the path of the project has a {os.pathsep!r}, at which PATH and PYTHONPATH "
            "are split: rename the folder"
        )
    os.environ[SNAKEMAKE] = this_process()
    path = [str(Path(root, "workflow", "bin")), str(Path(sys.executable).parent)]
    os.environ["PATH"] = os.pathsep.join([*path, os.environ["PATH"]])
    modules = [str(root), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, modules))


def _machine() -> str:
    """Host, boot and process namespace, within which a process id is unique."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
    return f"{socket.gethostname()}/{boot}/{space}"


def _start_of(pid: int) -> str | None:
    """Start time of a process, in ticks since boot; None if it has ended."""
    fields = _status(pid)
    return fields[19] if fields and fields[0] not in "ZX" else None


def _status(pid: int) -> list[str]:
    """Fields of /proc/<pid>/stat from the third on (state, parent, ...); empty if it has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _end_with_snakemake() -> None:
    """Start a thread that watches this job's Snakemake process, if it runs on this machine."""
    machine, _, rest = os.environ.get(SNAKEMAKE, "").rpartition(" ")
    machine, _, pid = machine.rpartition(" ")
    if machine and machine == _machine():
        threading.Thread(target=_watch, args=(int(pid), rest), daemon=True).start()


def _watch(pid: int, start: str) -> None:
    """Wait for the end of a process, then end this job."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        descriptor = -1
    if descriptor >= 0 and _start_of(pid) == start:
        select.select([descriptor], [], [])
    while _start_of(pid) == start:
        time.sleep(POLL_S)
    _end_job(pid)


def _end_job(snakemake: int) -> None:
    """Kill the job's shell and all its descendants, this process last."""
    own = os.getpid()
    _say(f"Snakemake (process {snakemake}) was killed: ending this job and its processes")
    time.sleep(0.1)  # time for `tee` to write the message to the log
    root = _job_shell() or own
    for _ in range(2):  # the second pass finds processes that were just starting
        for pid in (root, *descendants(root), *descendants(own)):
            if pid != own:
                _signal(pid, signal.SIGKILL)
    _signal(own, signal.SIGTERM)
    time.sleep(GRACE_S)
    _signal(own, signal.SIGKILL)


def _job_shell() -> int | None:
    """Process id of this job's shell, if it is an ancestor of this process."""
    text = os.environ.get(JOB_SHELL, "")
    shell, above = int(text) if text.isdigit() else 0, os.getpid()
    while above > 1:
        if above == shell:
            return shell
        fields = _status(above)
        above = int(fields[1]) if fields else 0
    return None


def descendants(pid: int) -> list[int]:
    """Return the ids of all descendants of a process, parents first; empty without /proc."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        if fields := _status(int(entry.name)):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found[1:]


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # it has ended; its id is another user's
        os.kill(pid, number)


# --- one at a time -------------------------------------------------------------------------------


@contextmanager
def one_at_a_time(arguments: Sequence[str]) -> Iterator[None]:
    """Wait until no other process runs the same command on the same results.

    After a kill of Snakemake its jobs may run for a moment, and two commands would write the same
    checkpoint. Commands without `--root` do not wait. In a distributed training only rank 0 waits.
    """
    root = root_of(arguments)
    if root is None or not root.is_dir() or os.environ.get("RANK", "0") != "0":
        yield
        return
    lock = Lock(locks_of(root) / f"{_name_of(arguments)}.lock")
    try:
        _wait_for(lock)
    except LocksUnsupported as error:
        _say(f"no locks on this file system ({error}): do not run the same command twice at once")
    try:
        yield
    finally:
        lock.release()


def _wait_for(lock: Lock) -> None:
    was_printed = False
    while holder := lock.acquire("command"):
        if not was_printed:
            _say(f"the same command is already running ({holder}): waiting for its end")
            was_printed = True
        time.sleep(POLL_S)


def locks_of(root: Path) -> Path:
    """Return the folder of the locks of a run: work/<run>/locks for results/<run>."""
    if root.parent.name == "results":
        return root.parent.with_name("work") / root.name / "locks"
    return root.with_name(f".{root.name}.locks")


def _name_of(arguments: Sequence[str]) -> str:
    """Name of a command's lock: the command, and a hash of its arguments and working directory."""
    kept, skipped = [], False
    for argument in arguments:
        if not skipped and argument.partition("=")[0] not in (*NO_RESULT, *NO_RESULT_FLAGS):
            kept.append(argument)
        skipped = argument in NO_RESULT
    digest = hashlib.sha256("\0".join([os.getcwd(), *kept]).encode("utf-8", "surrogateescape"))
    command = arguments[0] if arguments[0].replace("-", "").isalnum() else "hpro"
    return f"{command}-{digest.hexdigest()[:16]}"
