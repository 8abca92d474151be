"""Which lines that raise an `HproError` were reached, of those in the functions that read."""

import ast
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from hpro_core.errors import HproError

PACKAGE = Path(__file__).parents[2] / "hpro_core"

Place = tuple[str, int]
"""File of the package, and line."""


@dataclass(frozen=True)
class Branch:
    """A statement that raises.

    Attributes:
        file: of the package.
        first, last: its lines.
        function: first line of the function around it; 0 outside of functions.
    """

    file: str
    first: int
    last: int
    function: int


def _file(name: str) -> str | None:
    path = str(PACKAGE) + "/"
    return name.removeprefix(path) if name.startswith(path) else None


def record(reached: set[Place]) -> None:
    """From now on add the line at which each `HproError` is made, also of those that are caught."""

    original = HproError.__init__

    def made(self: HproError, message: str) -> None:
        frame = sys._getframe(1)
        file = _file(frame.f_code.co_filename)
        if file is not None:
            reached.add((file, frame.f_lineno))
        original(self, message)

    HproError.__init__ = made  # type: ignore[method-assign]


@contextmanager
def entered(functions: set[Place]) -> Iterator[None]:
    """Add the functions of the package that the block calls, by their first lines."""

    def called(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            file = _file(frame.f_code.co_filename)
            if file is not None:
                functions.add((file, frame.f_code.co_firstlineno))

    sys.setprofile(called)
    try:
        yield
    finally:
        sys.setprofile(None)


def all_branches() -> Iterator[Branch]:
    """Every statement of the package that raises an `HproError`."""
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        file = path.relative_to(PACKAGE).as_posix()
        yield from _branches(tree, file, 0)


def _branches(node: ast.AST, file: str, function: int) -> Iterator[Branch]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef):
            lines = [each.lineno for each in child.decorator_list]
            yield from _branches(child, file, min([child.lineno, *lines]))
            continue
        if isinstance(child, ast.Raise) and _is_ours(child.exc):
            yield Branch(file, child.lineno, child.end_lineno or child.lineno, function)
        yield from _branches(child, file, function)


def _is_ours(raised: ast.expr | None) -> bool:
    called = raised.func if isinstance(raised, ast.Call) else None
    return isinstance(called, ast.Name) and called.id == "HproError"


def split(functions: set[Place], reached: set[Place]) -> tuple[list[Branch], list[Branch]]:
    """The branches that were reached, and those of the same functions that were not.

    Args:
        functions: that readers called, by their first lines.
        reached: lines at which errors were made.
    """
    lines: dict[str, set[int]] = {}
    for file, line in reached:
        lines.setdefault(file, set()).add(line)
    hit, missed = [], []
    for branch in all_branches():
        there = lines.get(branch.file, set())
        if not there.isdisjoint(range(branch.first, branch.last + 1)):
            hit.append(branch)
        elif (branch.file, branch.function) in functions:
            missed.append(branch)
    return hit, missed
