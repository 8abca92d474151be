"""What several files of tests share: one finished run of the stand-in."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.workflow.project import EVERYTHING, Project


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A tree in which Snakemake made everything, recorded in DVC and committed: only to be copied.

    Processes of pytest-xdist share it: the first makes it, the others wait for that.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # that of the process which started the others
    project = Project(folder / "finished")
    complete = folder / "finished_is_complete"
    with locked(folder / "finished_lock"):
        if not complete.exists():
            make(project.folder)
            complete.touch()
    return project


def make(folder: Path) -> None:
    project = Project.copied(folder, data=False)
    project.use_stand_in()
    project.set_base("")
    project.commit()
    assert project.snakemake() == EVERYTHING
    project.run("dvc", "commit", "--force")
    project.commit()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait until no other process is in here."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
