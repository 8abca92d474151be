"""`make fuzz N=10000 SEED=1`: mutated files for every reader, in worker processes.

Each mutant has to be refused in one line that names a file, or to be read twice with the same value
and, where there is a writer, to be read again from what it wrote. `--only K` repeats one of them.
"""

import argparse
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REPO = Path(__file__).parents[2]
_PASSED = ("accepted", "refused")
_PATIENCE_S = 30.0
"""After so long a worker is killed: it hangs where no alarm reaches it."""

_MINIMISED = 40
"""Kinds of failures for which the smallest file is looked for."""


class Worker:
    """A worker process, started again when it dies."""

    def __init__(self, store: Path, place: Path, given: argparse.Namespace, traces: bool):
        """`traces`: say which functions read the artefacts."""
        self.store, self.place, self.given, self.traces = store, place, given, traces
        self.functions: set[tuple[str, int]] = set()
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = 0

    def start(self) -> None:
        """Start it and wait until it has read all artefacts."""
        self.starts += 1
        place = self.place / str(self.starts)
        for name in ("tmp", "home"):
            (place / name).mkdir(parents=True)
        command = [
            "--store",
            str(self.store),
            "--place",
            str(place),
            "--seed",
            str(self.given.seed),
        ]
        command += ["--targets", self.given.targets]
        if self.given.only is not None:
            command += ["--only", str(self.given.only)]
        if self.traces and self.starts == 1:
            command += ["--trace"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.worker", *command], cwd=place,
            env=_environment(place), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )  # fmt: skip
        self._errors: list[bytes] = []
        threading.Thread(target=self._drain, args=(self.process,), daemon=True).start()
        ready = self._answer(600.0)
        if ready is None:
            raise SystemExit(f"a worker did not start: {self._last_error()}")
        self.functions |= {(file, line) for file, line in ready["functions"]}

    def _drain(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            self._errors = [*self._errors[-30:], line]

    def _last_error(self) -> str:
        return b"".join(self._errors[-6:]).decode("utf-8", "replace").strip()[-800:]

    def run(self, number: int) -> dict[str, Any]:
        """The outcome of a mutant, also if it kills the worker."""
        answer = self._ask(f"{number}", _PATIENCE_S)
        if isinstance(answer, dict):
            return answer
        return {"number": number, "target": "?", "file": "?", "what": "", "result": "crash",
                "detail": answer, "signature": answer.splitlines()[0], "seconds": 0.0, "bytes": 0,
                "reached": []}  # fmt: skip

    def minimise(self, number: int, keep: Path) -> str:
        """Where the smallest file is that fails as a mutant does."""
        answer = self._ask(f"minimise {number} {keep}", 120.0)
        return answer["smallest"] if isinstance(answer, dict) else "none: it kills the worker"

    def _ask(self, question: str, patience_s: float) -> dict[str, Any] | str:
        if self.process is None or self.process.poll() is not None:
            self.start()
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(f"{question}\n".encode())
        self.process.stdin.flush()
        answer = self._answer(patience_s)
        if answer is not None:
            return answer
        ended = self.process.poll()
        self.stop()
        if ended is None:
            return f"no answer in {patience_s:g} s"
        name = signal.Signals(-ended).name if ended < 0 else f"exit code {ended}"
        return f"{name}: {self._last_error()}"

    def _answer(self, patience_s: float) -> dict[str, Any] | None:
        """The next line of the worker; None if there is none in time, or it has ended."""
        assert self.process is not None
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], patience_s)
        line = self.process.stdout.readline() if ready else b""
        if not line and ready:
            self.process.wait()
        return json.loads(line) if line else None

    def stop(self) -> None:
        """End the process."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def _environment(place: Path) -> dict[str, str]:
    """Everything that libraries keep goes into the folder of the worker."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HPRO")}
    tmp, home = str(place / "tmp"), str(place / "home")
    return {
        **kept, "PYTHONPATH": str(REPO), "TMPDIR": tmp, "HOME": home, "HF_HOME": f"{home}/hf",
        "MPLCONFIGDIR": f"{home}/matplotlib", "NUMBA_CACHE_DIR": f"{home}/numba",
        "TORCHINDUCTOR_CACHE_DIR": f"{home}/inductor", "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0",
        "MALLOC_ARENA_MAX": "2", "TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip


def outcomes(workers: list[Worker], numbers: list[int]) -> Iterator[dict[str, Any]]:
    """The outcomes of mutants, as they come."""
    waiting, lock = iter(numbers), threading.Lock()
    found: list[dict[str, Any]] = []
    ready = threading.Semaphore(0)

    def work(worker: Worker) -> None:
        while True:
            with lock:
                number = next(waiting, None)
            if number is None:
                return
            try:
                found.append(worker.run(number))
            except BaseException as error:
                found.append({"stopped": str(error)})
            ready.release()

    threads = [threading.Thread(target=work, args=(w,), daemon=True) for w in workers]
    for thread in threads:
        thread.start()
    for index in range(len(numbers)):
        ready.acquire()
        if "stopped" in found[index]:
            raise SystemExit(found[index]["stopped"])
        yield found[index]


def campaign(given: argparse.Namespace, folder: Path) -> int:
    """Run all mutants and print what came out; gives how many failed."""
    store, keep = folder / "store", given.keep or REPO / "work/fuzz"
    build = [sys.executable, "-m", "tests.fuzz.worker", "--build", str(store)]
    build += ["--targets", given.targets]
    subprocess.run(build, check=True, cwd=REPO, env=_environment(_made(folder / "build")))
    numbers = list(range(given.number)) if given.only is None else [given.only]
    workers = [Worker(store, folder / f"worker{i}", given, i == 0) for i in range(given.workers)]
    try:
        results = list(_shown(outcomes(workers, numbers), len(numbers)))
        failed = sorted(
            (r for r in results if r["result"] not in _PASSED), key=lambda r: r["number"]
        )
        _summary(failed, workers[0], keep.resolve(), given)
        _figures(results, workers, given)
    finally:
        for worker in workers:
            worker.stop()
    print(f"fuzz: {len(results) - len(failed)} passed, {len(failed)} failed")
    return len(failed)


def _made(folder: Path) -> Path:
    for name in ("tmp", "home"):
        (folder / name).mkdir(parents=True)
    return folder


def _shown(results: Iterator[dict[str, Any]], total: int) -> Iterator[dict[str, Any]]:
    """Print each failure as it comes, and now and then how far it is."""
    for done, result in enumerate(results, start=1):
        if total == 1 or result["result"] not in _PASSED:
            print(
                f"{result['number']} ({result['target']}, {result['file']}): {result['what']!r}\n"
                f"    {result['result']}: {result['detail']!a}", flush=True,
            )  # fmt: skip
        if done % max(1, total // 10) == 0:
            print(f"{done} of {total}", file=sys.stderr, flush=True)
        yield result


def _summary(failed: list[dict], worker: Worker, keep: Path, given: argparse.Namespace) -> None:
    """One line for each kind of failure, with its smallest file."""
    kinds = Counter(result["signature"] for result in failed)
    for signature, n in kinds.most_common():
        first = next(result for result in failed if result["signature"] == signature)
        again = f"python tests/fuzz/run.py --seed {given.seed} --only {first['number']}"
        print(f"{n} x {signature} ({first['target']}, {first['file']}): {again}")
        if len(kinds) <= _MINIMISED and given.minimise:
            print(f"    smallest file: {worker.minimise(first['number'], keep)}", flush=True)


def _figures(results: list[dict], workers: list[Worker], given: argparse.Namespace) -> None:
    from tests.fuzz.branches import split

    counts = Counter(result["result"] for result in results)
    slowest = max(results, key=lambda result: result["seconds"])
    largest = max(results, key=lambda result: result["bytes"])
    print(f"read again equal: {counts['accepted']}; refused in one line: {counts['refused']}")
    print(
        f"slowest: {slowest['seconds']:.1f} s ({slowest['number']}); most memory: "
        f"{largest['bytes'] / 1e6:.0f} MB ({largest['number']})"
    )
    functions = {place for worker in workers for place in worker.functions}
    reached = {(file, line) for result in results for file, line in result["reached"]}
    hit, missed = split(functions, reached)
    print(f"error branches reached: {len(hit)} of {len(hit) + len(missed)}")
    if given.unreached:
        for branch in missed:
            print(f"    not reached: hpro_core/{branch.file}:{branch.first}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=10_000, help="of mutants")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="number of the one mutant to make")
    parser.add_argument("--targets", default="*", help="pattern of names; numbers then mean others")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--keep", type=Path, help="folder for the smallest files that fail: work/fuzz"
    )
    parser.add_argument("--minimise", action="store_true", help="look for those files")
    parser.add_argument("--unreached", action="store_true", help="list error branches not reached")
    given = parser.parse_args(arguments)
    if given.only is not None:
        given.workers = 1
    folder = Path(tempfile.mkdtemp(prefix="hpro_fuzz_")).resolve()
    try:
        return 1 if campaign(given, folder) else 0
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.path.insert(0, str(REPO))
    sys.exit(main())
