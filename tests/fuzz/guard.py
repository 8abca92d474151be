"""What a reader may not do while it reads: files outside, processes, 2 GB more, 10 s."""

import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LIMIT_BYTES = 2 * 2**30
LIMIT_S = 10.0

_WRITES = {"os.mkdir", "os.remove", "os.rmdir", "os.rename", "os.symlink", "os.link", "os.truncate",
           "os.chmod", "os.chown", "os.utime", "shutil.rmtree", "shutil.move"}  # fmt: skip
_STARTS = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "pty.spawn",
           "socket.connect"}  # fmt: skip
_ALLOWED = ("/dev/null", "/proc/self/clear_refs", "/dev/shm/")


class Hang(BaseException):
    """A reader took longer than `LIMIT_S`; no reader catches it."""


class Watch:
    """Sees every file that Python opens for writing, and every process that it starts."""

    def __init__(self, scratch: Path, outside: Path):
        """
        Args:
            scratch: the only folder in which files may be written.
            outside: a folder beside it of which nothing may be read.
        """
        self._scratch = f"{scratch}{os.sep}"
        self._outside = str(outside)
        self._starts: tuple[str, ...] = ()
        self._on = False
        self.seen: list[str] = []
        sys.addaudithook(self._hook)

    @contextmanager
    def watching(self, starts: tuple[str, ...]) -> Iterator[None]:
        """Watch the block; `seen` then has what was not allowed.

        Args:
            starts: programs that may be started.
        """
        self.seen, self._starts, self._on = [], starts, True
        try:
            yield
        finally:
            self._on = False

    def _hook(self, event: str, arguments: tuple) -> None:
        if not self._on:
            return
        self._on = False  # what follows opens nothing that is to be seen
        try:
            self._look(event, arguments)
        finally:
            self._on = True

    def _look(self, event: str, arguments: tuple) -> None:
        if event == "open":
            path, mode, flags = (*arguments, None, None, 0)[:3]
            writes = any(sign in (mode or "") for sign in "wax+")
            writes = writes or bool((flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
            self._touched(event, path, writes)
        elif event in _WRITES:
            if event != "os.symlink":  # whose first argument is text
                self._touched(event, arguments[0], True)
            if event in ("os.rename", "os.symlink", "os.link"):
                self._touched(event, arguments[1], True)
        elif event in _STARTS and not self._may_start(arguments):
            self.seen.append(f"{event} {str(arguments[:2])[:100]}")

    def _may_start(self, arguments: tuple) -> bool:
        return any(os.path.basename(str(arguments[0])) == name for name in self._starts)

    def _touched(self, event: str, path: object, writes: bool) -> None:
        if isinstance(path, bytes):
            path = os.fsdecode(path)
        if not isinstance(path, str | os.PathLike):
            return
        name = os.path.join(
            os.path.realpath(os.path.dirname(os.path.abspath(path))), os.path.basename(path)
        )
        if name.startswith(self._outside):
            self.seen.append(f"{event} of {name}, which lies outside")
        elif (
            writes
            and not name.startswith((self._scratch, *_ALLOWED))
            and f"{name}/" != self._scratch
        ):
            self.seen.append(f"{event} writes {name}")


def limit_memory() -> None:
    """Let this process have `LIMIT_BYTES` more addresses than it has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + LIMIT_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `Hang` in the block after so many seconds."""

    def expired(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


Tree = dict[str, tuple[int, int, int]]


def tree(folder: Path) -> Tree:
    """All files and folders below a folder: size, time of change and number of each."""
    found: Tree = {}
    waiting = [str(folder)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                state = entry.stat(follow_symlinks=False)
                is_folder = entry.is_dir(follow_symlinks=False)
                times = (0, 0) if is_folder else (state.st_size, state.st_mtime_ns)
                found[os.path.relpath(entry.path, folder)] = (*times, state.st_ino)
                if is_folder:
                    waiting.append(entry.path)
    return found
