"""Locks between processes, released by the kernel when the holder ends.

A lock is an `flock` on a file with one line that identifies the holder. The lock of a killed
process is free at once, so manual unlocking is not needed. Standard library only.
"""

import errno
import fcntl
import json
import os
import socket
import time
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from hpro_core.errors import HproError

_WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


class LocksUnsupported(Exception):
    """The file system has no `flock`."""


class Holder(NamedTuple):
    """Identification of the holder of a lock."""

    host: str
    pid: int
    since: str
    purpose: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


def holder_in(path: Path) -> Holder | None:
    """Read the holder from the file of a lock without taking the lock.

    None if the lock was released, or its file is missing or incomplete. The holder may have been
    killed since.
    """
    try:
        return Holder(**json.loads(path.read_bytes()))
    except (ValueError, TypeError, OSError):
        return None


class Lock:
    """An exclusive lock on a file, which is created if needed and not deleted."""

    def __init__(self, path: Path):
        self.path = path
        self._descriptor: int | None = None

    def acquire(self, purpose: str) -> Holder | None:
        """Acquire the lock if it is free, and write the purpose to the file.

        Returns:
            None if this process now holds the lock, else the holder.

        Raises:
            LocksUnsupported: the file system has no `flock`.
            HproError: the file cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise HproError(
                f"{self.path} cannot be written ({error.strerror}): give this user write "
                "permission, or free space on its disk"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return self._holder()
        except OSError as error:
            os.close(descriptor)
            if error.errno in _WITHOUT_LOCKS:
                raise LocksUnsupported(f"{self.path.parent}: {error.strerror}") from error
            raise
        self._descriptor = descriptor
        self._sign(purpose)
        return None

    def release(self) -> None:
        """Release the lock."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def _sign(self, purpose: str) -> None:
        assert self._descriptor is not None
        since = datetime.now().isoformat(" ", "seconds")
        holder = Holder(socket.gethostname(), os.getpid(), since, purpose)
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps(holder._asdict()).encode() + b"\n", 0)

    def _holder(self) -> Holder:
        """Read the holder; retries, since a new holder may not have written the file yet."""
        for _ in range(20):
            if (holder := holder_in(self.path)) is not None:
                return holder
            time.sleep(0.05)
        return Holder("an unknown host", 0, "an unknown time", "")
