"""A process that makes mutants and lets the readers read them: numbers in, outcomes out.

`python -m tests.fuzz.worker --build STORE` makes the artefacts. Otherwise a line of standard input
is the number of a mutant, or `minimise NUMBER`; a line of standard output is its outcome as JSON.
"""

import argparse
import fnmatch
import json
import os
import random
import shutil
import sys
import time
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fuzz import artefacts, branches, guard, oracle
from tests.fuzz.containers import resealed
from tests.fuzz.mutators import Others, of_bytes
from tests.fuzz.targets import TARGETS, Target, change_of

_SPECIAL_SHARE = 0.06
_SPECIAL = (
    *("missing", "missing", "no such files", "no such files", "no such folder"),
    *(
        "no such top folder",
        "folder",
        "empty",
        "pipe",
        "loop",
        "link to nothing",
        "device",
        "huge",
        "pointer",
    ),
)
"""What can stand in the place of a file."""
_SEALED_SHARE = 0.7
_HUGE_BYTES = 3 * 10**9
_HUGE = (".json", ".yaml", ".csv", ".npy", ".txt", ".TextGrid", ".tsv", ".dict", ".parquet", ".zip")
_OF_ONNX = ".ses"
"""What onnxruntime leaves in the temporary folder when it is imported."""

_WARM_UP_S = 300.0
_LEAST_NAME = 4
"""Names of files that are shorter could stand in any message."""


@dataclass(frozen=True)
class Mutant:
    """One file of a target, changed.

    Attributes:
        target: whose file it is.
        path: relative to its group.
        content: new bytes; None where something else stands in its place.
        what: was done.
        special: what stands in its place: missing, folder, pipe, link to itself, ...
        sealed: lists of hashes get its new one.
    """

    target: Target
    path: Path
    content: bytes | None
    what: str
    special: str
    sealed: bool


def chosen_by(pattern: str) -> list[Target]:
    """The targets whose names fit a pattern."""
    return [target for target in TARGETS if fnmatch.fnmatchcase(target.name, pattern)]


class Bench:
    """The artefacts of this worker: changed, read, and put in order again."""

    def __init__(self, store: Path, place: Path, seed: int, pattern: str):
        self.store, self.place, self.seed = store, place, seed
        self.targets = chosen_by(pattern)
        self.slots = [
            target for turn in range(max(t.weight for t in self.targets))
            for target in self.targets if target.weight > turn
        ]  # fmt: skip
        self.again = place / "again"
        for folder in (self.again, place / "tmp", place / "outside", place / "benches"):
            folder.mkdir(parents=True, exist_ok=True)
        (place / "outside/kept.txt").write_text("is not for readers\n")
        self.watch = guard.Watch(place, place / "outside")
        self.trees: dict[str, guard.Tree] = {}
        self.values: dict[str, object] = {}
        self.others: Others = artefacts.others(store, random.Random(seed))
        self.reached: set[branches.Place] = set()
        branches.record(self.reached)

    def folder(self, target: Target) -> Path:
        """Where this worker has the artefacts of a target."""
        folder = self.place / "benches" / target.group.replace("/", "_")
        if target.group not in self.trees:
            shutil.copytree(self.store / target.group, folder)
            self.trees[target.group] = guard.tree(folder)
        return folder

    def warm_up(self, targets: list[Target], traced: bool) -> set[branches.Place]:
        """Read everything unchanged, so that all is imported; gives the functions that read."""
        functions: set[branches.Place] = set()
        for target in targets:
            with branches.entered(functions) if traced else nullcontext():
                outcome = self._attempt(target, self.folder(target), _WARM_UP_S)
            problem = self._traces(target) or (outcome.result != "accepted" and outcome.detail)
            if problem:
                raise SystemExit(f"{target.name} cannot be read unchanged: {problem}")
            self.values[target.name] = outcome.value if target.guarded else None
            self._restore(target)
        self.reached.clear()
        return functions

    def mutant(self, number: int) -> Mutant:
        """The mutant of a number: it depends on the seed and the number alone."""
        rng = random.Random(f"{self.seed} {number}")
        target = self.slots[number % len(self.slots)]
        store = self.store / target.group
        paths = sorted({
            path.relative_to(store) for pattern in target.files for path in store.glob(pattern)
            if path.is_file()
        })  # fmt: skip
        suffix = rng.choice(sorted({path.suffix for path in paths}))  # not audio alone in a corpus
        path = rng.choice([path for path in paths if path.suffix == suffix])
        sealed = rng.random() < _SEALED_SHARE
        if rng.random() < _SPECIAL_SHARE:
            special = rng.choice(_SPECIAL)
            if special != "huge" or (path.suffix in _HUGE and not target.hashes):
                return Mutant(target, path, None, special, special, sealed)
        content, said = (store / path).read_bytes(), []
        change = change_of(path)
        for _ in range(rng.choices((1, 2, 3), (7, 2, 1))[0]):
            try:
                content, what = change(content, rng, self.others)
            except Exception:  # a file that was changed before can be too odd to take apart
                content, what = of_bytes(content, rng, self.others)
            said.append(what)
        return Mutant(target, path, content, "; ".join(said), "", sealed)

    def run(self, number: int) -> dict[str, Any]:
        """Make a mutant, let it be read, and say what became of it."""
        mutant = self.mutant(number)
        before_s, before_bytes = time.monotonic(), _reset_peak()
        outcome, sealed = self._outcome(mutant, mutant.content)
        if outcome.result == "hang":  # once more: other processes may have had the machine
            outcome, sealed = self._outcome(mutant, mutant.content)
        return {
            "number": number, "target": mutant.target.name, "file": str(mutant.path),
            "what": (mutant.what + sealed)[:300], "result": outcome.result,
            "detail": outcome.detail, "signature": outcome.signature,
            "seconds": time.monotonic() - before_s,
            "bytes": _peak() - before_bytes, "reached": sorted(self.reached),
        }  # fmt: skip

    def _outcome(self, mutant: Mutant, content: bytes | None) -> tuple[oracle.Outcome, str]:
        target, folder = mutant.target, self.folder(mutant.target)
        path, sealed = folder / mutant.path, ""
        old = path.read_bytes()
        if content is None:
            _put(mutant.special, path, folder)
        else:
            path.write_bytes(content)
            sealed = resealed(folder, path, old, content) if mutant.sealed else ""
        before = guard.tree(folder)
        outcome = self._attempt(target, folder)
        if outcome.result in oracle.PASSED:
            outcome = self._looked_at(target, outcome, before, bool(sealed))
        self._restore(target)
        return outcome, sealed

    def _attempt(
        self, target: Target, folder: Path, limit_s: float = guard.LIMIT_S
    ) -> oracle.Outcome:
        names = {part for name in self.trees[target.group] for part in Path(name).parts}
        known = {str(folder), *(name for name in names if len(name) >= _LEAST_NAME)}
        os.chdir(folder)
        try:
            with self.watch.watching(target.starts):
                return oracle.attempt(target, folder, self.again, known, limit_s)
        finally:
            os.chdir(self.place)

    def _looked_at(
        self, target: Target, outcome: oracle.Outcome, before: guard.Tree, sealed: bool
    ) -> oracle.Outcome:
        """What passed may have left nothing, and nothing that a checksum should have stopped."""
        if problem := self._traces(target, before):
            return oracle.Outcome("files", problem, f"files by {target.name}")
        checked = target.guarded and outcome.result == "accepted" and not sealed
        if checked and not oracle.equal(outcome.value, self.values[target.name]):
            return oracle.Outcome("silent", "another value", f"silent in {target.name}")
        return outcome

    def _traces(self, target: Target, before: guard.Tree | None = None) -> str:
        """What a reader left or touched that it may not; empty if nothing."""
        if self.watch.seen:
            return "; ".join(self.watch.seen[:3])
        left = [path for path in (self.place / "tmp").iterdir() if path.name != _OF_ONNX]
        if left:
            return f"left in the temporary folder: {left[0].name}"
        before = self.trees[target.group] if before is None else before
        now = guard.tree(self.folder(target))
        changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        wrong = [name for name in changed if not _allowed(name, target.writes)]
        return f"changed in its folder: {sorted(wrong)[:3]}" if wrong else ""

    def _restore(self, target: Target) -> None:
        """Bring the folder of a target back to what is in the store."""
        folder, good = self.folder(target), self.trees[target.group]
        now = guard.tree(folder)
        for name in sorted(now, key=len, reverse=True):
            if now[name] != good.get(name):
                _remove(folder / name)
        for name in sorted(good, key=len):
            source, path = self.store / target.group / name, folder / name
            if source.is_dir():
                path.mkdir(exist_ok=True)
            elif not path.is_file() or now.get(name) != good[name]:
                shutil.copy2(source, path)
        self.trees[target.group] = guard.tree(folder)
        for scratch in (self.again, self.place / "tmp"):
            for path in scratch.iterdir():
                _remove(path)

    def minimise(self, number: int, keep: Path, limit_s: float = 20.0) -> str:
        """The smallest file that fails in the same way; gives where it is."""
        mutant = self.mutant(number)
        if mutant.content is None:
            return f"{mutant.special}: {mutant.path}"
        wanted, _ = self._outcome(mutant, mutant.content)
        end_s = time.monotonic() + limit_s

        def fails(content: bytes) -> bool:
            found, _ = self._outcome(mutant, content)
            return found.signature == wanted.signature

        original = (self.store / mutant.target.group / mutant.path).read_bytes()
        content = _smallest(original, mutant.content, fails, end_s)
        keep.mkdir(parents=True, exist_ok=True)
        path = keep / f"{self.seed}-{number}-{mutant.path.name}"
        path.write_bytes(content)
        return str(path)


def _allowed(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatch(name, each) or each.startswith(f"{name}/") for each in patterns)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _put(special: str, path: Path, folder: Path) -> None:
    """Put something else in the place of a file."""
    if special == "no such files":
        for other in [each for each in folder.rglob(f"*{path.suffix}") if each.is_file()]:
            other.unlink()
        return
    if special in ("no such folder", "no such top folder"):
        above = list(path.relative_to(folder).parents)[:-1]  # without the folder of the group
        if above:
            shutil.rmtree(folder / above[0 if special == "no such folder" else -1])
            return
    path.unlink()
    if special == "empty":
        path.touch()
    elif special == "pointer":
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n")
    elif special == "folder":
        path.mkdir()
    elif special == "pipe":
        os.mkfifo(path)
    elif special == "loop":
        path.symlink_to(path.name)
    elif special == "link to nothing":
        path.symlink_to(path.parent / "is not there")
    elif special == "device":
        path.symlink_to("/dev/zero")
    elif special == "huge":
        with path.open("wb") as file:
            file.truncate(_HUGE_BYTES)


def _smallest(original: bytes, content: bytes, fails: Any, end_s: float) -> bytes:
    """Take changes back, then blocks out, while it still fails."""
    if len(original) == len(content):
        for at in [i for i, (a, b) in enumerate(zip(original, content, strict=True)) if a != b][
            :300
        ]:
            less = content[:at] + original[at : at + 1] + content[at + 1 :]
            if time.monotonic() < end_s and fails(less):
                content = less
        return content
    size = max(1, len(content) // 2)
    while size and time.monotonic() < end_s:
        at = 0
        while at < len(content) and time.monotonic() < end_s:
            less = content[:at] + content[at + size :]
            if len(less) < len(content) and fails(less):
                content = less
            else:
                at += size
        size //= 2
    return content


def _reset_peak() -> int:
    """Forget the most memory that was in use; gives what is in use, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--place", type=Path)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--targets", default="*")
    parser.add_argument("--only", type=int)
    parser.add_argument("--trace", action="store_true", help="say which functions read")
    given = parser.parse_args()
    if given.build:
        artefacts.build(given.build, {target.group for target in chosen_by(given.targets)})
        return
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.dont_write_bytecode = True
    bench = Bench(given.store, given.place, given.seed, given.targets)
    one = given.only is not None
    chosen = [bench.slots[given.only % len(bench.slots)]] if one else bench.targets
    functions = bench.warm_up(chosen, given.trace)
    guard.limit_memory()
    print(json.dumps({"functions": sorted(functions)}), file=answers, flush=True)
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        for line in sys.stdin:
            print(json.dumps(_answer(bench, *line.split())), file=answers, flush=True)


def _answer(bench: Bench, command: str, *arguments: str) -> dict[str, Any]:
    if command == "minimise":
        return {"smallest": bench.minimise(int(arguments[0]), Path(arguments[1]))}
    answer = bench.run(int(command))
    bench.reached.clear()
    return answer


if __name__ == "__main__":
    main()
