"""What each stage of the default run costs per unit of work, and that its results stay the same.

Times hpro_core against the straightforward way (reference/) in one process, in turn (A B A B ..),
on a small workload that is made of what ships (workload.py). Both are compared with each other and
with what hpro_core computed before (reference/recorded.json). Float32, one thread.

    python benchmarks/bench.py                        # all stages, some minutes
    python benchmarks/bench.py --only sampling        # one of them
    python benchmarks/bench.py --json bench.json --markdown docs/performance.md
    python benchmarks/bench.py --from bench.json --markdown docs/performance.md
    python benchmarks/bench.py --record               # anew, after a change that is meant

Exits with 1 if a result differs by more than its tolerance.
"""

import argparse
import ctypes
import gc
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import current
import numpy as np
import torch
from reference.generation import generate
from reference.policy import Policy
from reference.reward import margins
from results import Record, Result, Value, checks, read_record, write_record
from stages import ALL, N_GENERATED, Stage, reward_input, reward_objective
from workload import Workload, prepare

import hpro_core
from hpro_core.synthesis.stage import sampling_of
from hpro_core.train.loop import has_bf16, set_threads

RECORD = Path(__file__).parent / "reference" / "recorded.json"
LEAST_ROUNDS, MOST_ROUNDS = 3, 25
SECONDS_PER_STAGE = 8.0
RESAMPLES = 2000
SEEDS_TRIED = 24
_STATUS, _PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")
BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"


@dataclass(frozen=True)
class Timed:
    """One call of one side of a stage."""

    cpu_s: float
    wall_s: float


def timed(call: Callable[[], Result]) -> tuple[Timed, Result]:
    """Call it once."""
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    result = call()
    return Timed(time.process_time() - cpu_s, time.perf_counter() - wall_s), result


def measure(stage: Stage, record: Record, rounds: int | None, quick: bool) -> dict[str, Any]:
    """Compare both sides of a stage, then time them in turn.

    Args:
        stage: both sides.
        record: of an earlier hpro_core.
        rounds: pairs; None: at least LEAST_ROUNDS, more within SECONDS_PER_STAGE.
        quick: one pair, and no call before it that warms up.
    """
    memory = Memory()
    first, by_reference = timed(stage.reference)
    reference_mb = memory.mb()
    memory = Memory()
    second, by_current = timed(stage.current)
    current_mb = memory.mb()
    by_current = {**by_current, **stage.more()}
    found = checks(by_current, by_reference, "reference", stage.tolerances)
    found += checks(by_current, record.of(stage.name), "recorded", stage.tolerances)
    pairs = [(first, second)] if quick else []
    begin_s = time.process_time()
    while not quick and wanted(len(pairs), rounds, time.process_time() - begin_s):
        pairs.append((timed(stage.reference)[0], timed(stage.current)[0]))
    return {
        "name": stage.name,
        "unit": stage.unit,
        "reference": side([pair[0] for pair in pairs], stage.units[0], reference_mb),
        "hpro_core": side([pair[1] for pair in pairs], stage.units[1], current_mb),
        "ratio": ratio(pairs, stage.units),
        "checks": [{**asdict(check), "passed": check.passed} for check in found],
        "equal": all(check.passed for check in found),
    }


def wanted(done: int, rounds: int | None, spent_s: float) -> bool:
    """Whether another pair is to be timed."""
    if rounds is not None:
        return done < rounds
    return done < LEAST_ROUNDS or (done < MOST_ROUNDS and spent_s < SECONDS_PER_STAGE)


def side(times: list[Timed], units: int, memory_mb: float | None) -> dict[str, Any]:
    """Median seconds per unit of one side, and the memory of its first call at its peak."""
    return {
        "units": units,
        "cpu_s": float(np.median([t.cpu_s for t in times])) / units,
        "wall_s": float(np.median([t.wall_s for t in times])) / units,
        "memory_mb": memory_mb,
    }


def ratio(pairs: list[tuple[Timed, Timed]], units: tuple[int, int]) -> dict[str, float]:
    """Median over the pairs of the reference's CPU time by hpro_core's, per unit.

    The 95 % interval is by resampling pairs; of three pairs it is the smallest and the largest.
    """
    each = np.array([a.cpu_s / units[0] / max(b.cpu_s / units[1], 1e-9) for a, b in pairs])
    drawn = np.random.default_rng(0).integers(len(each), size=(RESAMPLES, len(each)))
    low, high = np.quantile(np.median(each[drawn], axis=1), (0.025, 0.975))
    return {"median": float(np.median(each)), "low": float(low), "high": float(high),
            "pairs": len(each)}  # fmt: skip


class Memory:
    """Memory that a call takes beside what the process held before it (Linux)."""

    def __init__(self) -> None:
        """Give back what is free, and forget the process's peak so far."""
        gc.collect()
        self._before_kb: int | None = None
        if _STATUS.is_file():
            ctypes.CDLL(None).malloc_trim(0)
            _PEAK.write_text("5", encoding="ascii")
            self._before_kb = self._read_kb("VmRSS")

    def mb(self) -> float | None:
        """Of the calls since; None where the system does not tell."""
        if self._before_kb is None:
            return None
        return (self._read_kb("VmHWM") - self._before_kb) / 1024

    def _read_kb(self, name: str) -> int:
        lines = _STATUS.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name))


def machine(threads: int) -> dict[str, Any]:
    """What the times depend on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    cpu = {name.strip(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    known = [cpu[name] for name in ("model name", "cpu family", "model") if name in cpu]
    return {
        "cpu": "{} (family {}, model {})".format(*known)
        if len(known) == 3
        else platform.processor(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "bf16": has_bf16(torch.device("cpu")),
        "threads": threads,
        "dtype": "float32",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": f"{platform.system()} {platform.machine()}",
    }


def commit() -> str:
    """The last commit that changed the code that is timed; empty outside of a checkout."""
    command = ["git", "log", "-1", "--format=%h", "--", "."]
    folder = Path(hpro_core.__file__).parent
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def seeds_of(w: Workload) -> dict[str, Any]:
    """Seeds of draws that no rounding decides: those with the largest margin of SEEDS_TRIED.

    Two computations of the same logits differ by some 2e-5. Where two tokens are as near to each
    other, either may be drawn, and all after it is another story: that would prove nothing.
    """
    given, objective = reward_input(w), reward_objective(w)
    tried = np.array([
        margins(given.policy, given.batch, objective, given.step.draw(given.batch, s).noise_KRBLC)
        for s in range(SEEDS_TRIED)
    ])  # fmt: skip
    how, policy = sampling_of(w.params.synthesis), Policy(w.models / "policy")
    said = np.zeros((SEEDS_TRIED // 4, N_GENERATED))
    for row, example in enumerate(w.examples[:N_GENERATED]):
        batch = current.single(example, w.references[example.utt_id])
        for seed in range(len(said)):
            generator = torch.Generator().manual_seed(seed)
            said[seed, row] = generate(policy, batch, generator, how)[1]
    return {
        "reward_step": tried.argmax(0).tolist(),
        "reward_step_margin": float(tried.max(0).min()),
        "sampling": said.argmax(0).tolist(),
        "sampling_margin": float(said.max(0).min()),
    }


def record_anew(w: Workload, path: Path, threads: int) -> None:
    """Write what hpro_core computes now, for later versions to be compared with."""
    seeds = seeds_of(w)
    tokens = np.concatenate([e.tokens for e in w.examples]).astype(np.int16)
    values: dict[str, Value] = {
        "workload:tokens": tokens,
        "workload:token_ends": np.cumsum([len(e.tokens) for e in w.examples]).astype(np.int32),
        "workload:speaker_embeddings": np.stack([e.speaker_embedding for e in w.examples]),
    }
    for build in ALL:
        stage = build(w, seeds)
        found = {**stage.current(), **stage.more()}
        kept = {n: v for n, v in found.items() if n.split("/")[0] in stage.recorded}
        values |= {f"{stage.name}:{name}": plain(value) for name, value in kept.items()}
        print(f"recorded {stage.name}: {len(kept)} values", flush=True)
    about = {"commit": commit(), "machine": machine(threads), "seeds": seeds}
    write_record(path, Record(about, values))


def plain(value: Value) -> Value:
    """Numbers of numpy as Python's; arrays in 32 or 16 bits."""
    if isinstance(value, np.ndarray) and value.ndim:
        if np.issubdtype(value.dtype, np.integer):
            return value.astype(np.int16)
        return value.astype(np.float32)
    return value if isinstance(value, str) else float(value)


def table(report: dict[str, Any]) -> str:
    """The report as a Markdown table."""
    lines = [
        "| stage | unit | straightforward, CPU ms | hpro_core, CPU ms | ratio, 95 % interval | "
        "memory of a call, MB | largest difference, of the tolerance |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in report["stages"]:
        r, peaks = row["ratio"], [row[s]["memory_mb"] for s in ("reference", "hpro_core")]
        peak = " / ".join("?" if mb is None else f"{mb:.0f}" for mb in peaks)
        lines.append(
            f"| {row['name']} | {row['unit']} | {figure(1000 * row['reference']['cpu_s'])} | "
            f"{figure(1000 * row['hpro_core']['cpu_s'])} | {r['median']:.2f} "
            f"({r['low']:.2f} to {r['high']:.2f}) | {peak} | {worst(row['checks'])} |"
        )
    m = report["machine"]
    lines += [
        "",
        f"{m['cpu']} ({m['capability']}), {m['threads']} thread(s), {m['dtype']}, PyTorch "
        f"{m['torch']};",
        f"hpro_core of commit {report['commit']}, compared with outputs of "
        f"{report['recorded']['commit']}.",
    ]
    return "\n".join(lines)


def figure(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def worst(found: list[dict[str, Any]]) -> str:
    """The check that is nearest to its tolerance, or beyond it."""
    if not any(check["largest"] for check in found):
        return "none"
    check = max(
        found, key=lambda c: c["largest"] / c["tolerance"] if c["tolerance"] else 1e9 * c["largest"]
    )
    against = check["against"]
    return f"{check['name']}: {check['largest']:.1e} of {check['tolerance']:.0e} ({against})"


def write_between(path: Path, text: str) -> None:
    """Replace what stands between the two markers of a file.

    Raises:
        SystemExit: the file has not both markers.
    """
    whole = path.read_text(encoding="utf-8")
    if BEGIN not in whole or END not in whole:
        raise SystemExit(f"{path} lacks the lines {BEGIN} and {END}")
    before, rest = whole.split(BEGIN, 1)
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END, 1)[1]}", encoding="utf-8")


def run(arguments: argparse.Namespace, w: Workload, record: Record) -> dict[str, Any]:
    """Measure the stages that were asked for."""
    rows = []
    for build in ALL:
        if arguments.only and build.__name__ not in arguments.only:
            continue
        rows.append(
            measure(build(w, record.about["seeds"]), record, arguments.rounds, arguments.quick)
        )
        row, r = rows[-1], rows[-1]["ratio"]
        print(
            f"{row['name']:>14} {1e3 * row['reference']['cpu_s']:10.2f} "
            f"{1e3 * row['hpro_core']['cpu_s']:10.2f} ms per {row['unit']:<9} "
            f"ratio {r['median']:6.2f} ({r['low']:.2f} to {r['high']:.2f}; {r['pairs']} pairs)  "
            f"{'equal' if row['equal'] else 'DIFFERS'}; {worst(row['checks'])}",
            flush=True,
        )
    return {
        "commit": commit(),
        "machine": machine(arguments.threads),
        "recorded": record.about,
        "stages": rows,
        "equal": all(row["equal"] for row in rows),
    }


def failures(report: dict[str, Any]) -> list[str]:
    """A line for each result that differs by more than its tolerance."""
    return [
        f"{row['name']}: {check['name']} differs by {check['largest']:.3g} from the "
        f"{check['against']} one, {check['kind']} tolerance {check['tolerance']:g}"
        for row in report["stages"]
        for check in row["checks"]
        if not check["passed"]
    ]


def parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    names = [build.__name__ for build in ALL]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=names, help="a stage; may be repeated")
    parser.add_argument("--rounds", type=int, help="pairs of each stage")
    parser.add_argument("--quick", action="store_true", help="one pair, without warming up")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the report there")
    parser.add_argument("--from", type=Path, dest="known", help="a report: no run, for --markdown")
    parser.add_argument("--markdown", type=Path, help="write the table into this file")
    parser.add_argument("--record", action="store_true", help="write the record anew")
    parser.add_argument("--recorded", type=Path, default=RECORD, help="the record")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = parsed(argv)
    if arguments.known is not None:
        report = json.loads(arguments.known.read_text(encoding="utf-8"))
    else:
        set_threads(arguments.threads)
        with tempfile.TemporaryDirectory() as folder:
            if arguments.record:
                record_anew(prepare(Path(folder), None), arguments.recorded, arguments.threads)
                return 0
            record = read_record(arguments.recorded)
            report = run(arguments, prepare(Path(folder), record.of("workload")), record)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if arguments.markdown is not None:
        write_between(arguments.markdown, table(report))
    for line in failures(report):
        print(line, file=sys.stderr)
    return 0 if report["equal"] else 1


if __name__ == "__main__":
    sys.exit(main())
