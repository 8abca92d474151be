"""The fuzzer: a sample of mutants, and that it sees what it should."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from hpro_core.errors import HproError
from hpro_core.io import read_json, write_npy, write_safetensors
from tests.fuzz import oracle
from tests.fuzz.branches import all_branches
from tests.fuzz.containers import of_safetensors, resealed
from tests.fuzz.mutators import of_bytes, of_csv, of_json, of_text, of_yaml
from tests.fuzz.oracle import attempt, equal
from tests.fuzz.targets import TARGETS, Target

REPO = Path(__file__).parents[1]


class Odd(Exception):
    """What a reader documents beside `HproError`."""


def target(read, **more) -> Target:
    return Target("planted", "formats", ("a.json",), read, **more)


def outcome(read, folder: Path, **more) -> str:
    return attempt(target(read, **more), folder, folder, {"a.json"}).result


def raises(error: BaseException):
    def read(folder: Path) -> object:
        raise error

    return read


@pytest.mark.full
def test_a_sample_of_mutants_passes():
    command = [sys.executable, "tests/fuzz/run.py", "--number", "150", "--seed", "7"]
    some = ["--targets", "[dimr]*", "--workers", "1"]  # io, models, datasets, records, reports
    done = subprocess.run([*command, *some], cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()
    assert last[-1] == "fuzz: 150 passed, 0 failed"
    assert last[-2].startswith("error branches reached: ")


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (KeyError("a"), "raw exception"),
        (HproError("a.json is broken: get it again"), "refused"),
        (HproError("it is broken"), "names no file"),
        (Odd("cut off"), "refused"),
        (Odd("cut off\nget it again"), "not one line"),
        (Odd("cut off: \x1b[31m"), "not one line"),
        (MemoryError(), "memory"),
    ],
)
def test_what_a_reader_raises_is_judged(error, result, tmp_path):
    assert outcome(raises(error), tmp_path, refusals=(Odd,)) == result


def test_memory_that_was_asked_for_is_seen_behind_a_refusal(tmp_path):
    def read(folder: Path) -> object:
        try:
            raise MemoryError
        except MemoryError as error:
            raise HproError("a.json does not fit: get it again") from error

    assert outcome(read, tmp_path) == "memory"


def test_a_reader_that_hangs_is_stopped(tmp_path):
    def read(folder: Path) -> object:
        while True:
            time.sleep(0.01)

    assert attempt(target(read), tmp_path, tmp_path, {"a.json"}, 0.05).result == "hang"


def test_a_value_that_changes_is_not_stable(tmp_path):
    assert outcome(lambda f: random.random(), tmp_path) == "not stable"
    assert outcome(lambda f: 1, tmp_path, again=lambda value, f: 2) == "not stable"
    assert outcome(lambda f: float("nan"), tmp_path, again=lambda value, f: value) == "accepted"


def test_files_outside_and_processes_are_seen(tmp_path):
    code = (
        "import os, subprocess, sys; from pathlib import Path; from tests.fuzz.guard import Watch\n"
        "place = Path(sys.argv[1]); watch = Watch(place / 'in', place / 'out')\n"
        "with watch.watching(()):\n"
        "    (place / 'in/a').write_text('x'); print(len(watch.seen))\n"
        "    (place / 'other').write_text('x'); print(len(watch.seen))\n"
        "    (place / 'out/kept').read_text(); print(len(watch.seen))\n"
        "    (place / 'in/b').symlink_to(place / 'out'); (place / 'in/b/kept').read_text()\n"
        "    print(len(watch.seen)); subprocess.run(['true']); print(len(watch.seen))\n"
    )
    for name in ("in", "out"):
        (tmp_path / name).mkdir()
    (tmp_path / "out/kept").write_text("x")
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=REPO, capture_output=True, text=True,
        check=True, env={**os.environ, "PYTHONPATH": str(REPO)},
    )  # fmt: skip
    assert done.stdout.split() == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize(
    "value",
    [
        np.array([1.0, np.nan]), torch.tensor([1.0, float("nan")]), {"a": [1, (2.0, None)]},
        pd.DataFrame({"a": [1.0, np.nan], "b": ["x", None]}), torch.ones(2, dtype=torch.bfloat16),
    ],
)  # fmt: skip
def test_values_are_equal_to_themselves_alone(value):
    assert equal(value, value)
    assert not equal(value, [value])


def test_another_type_or_shape_is_not_equal():
    assert not equal(np.float32([1]), np.float64([1]))
    assert not equal({"a": 1, "b": 2}, {"a": 1, "c": 2})
    assert not equal(1, True)
    assert not equal(torch.zeros(2), torch.zeros(2, 1))


@pytest.mark.parametrize("change", [of_bytes, of_text, of_json, of_yaml, of_csv])
def test_a_change_depends_on_its_random_numbers_alone(change):
    content = b'{"a": 1, "b": [1, 2, 3]}'
    made = [[change(content, random.Random(k), [b"other"]) for k in range(200)] for _ in range(2)]
    assert made[0] == made[1]
    assert len({content for content, _ in made[0]}) > 50


def test_a_changed_weight_gets_a_fitting_checksum(tmp_path):
    path = tmp_path / "a.safetensors"
    write_safetensors(path, {"a": np.arange(600, dtype=np.float32)})
    content, accepted = path.read_bytes(), 0
    for k in range(200):
        made, what = of_safetensors(content, random.Random(k), [b"other"])
        accepted += "a value of a" in what and made != content and b"sha256" in made
    assert accepted > 5


def test_lists_get_the_new_hash_of_a_file(tmp_path):
    from hpro_core.io import sha256_of

    path = tmp_path / "a.npy"
    write_npy(path, np.arange(3))
    old = path.read_bytes()
    (tmp_path / "SHA256SUMS").write_text(f"{sha256_of(path)}  a.npy\n")
    path.write_bytes(b"new")
    assert resealed(tmp_path, path, old, b"new") == "; SHA256SUMS with its new SHA-256"
    assert (tmp_path / "SHA256SUMS").read_text() == f"{sha256_of(path)}  a.npy\n"


def test_every_reader_of_io_has_a_target():
    read = {
        target.name.removeprefix("io: ") for target in TARGETS if target.name.startswith("io: ")
    }
    assert {"json", "yaml", "csv", "npy", "zip", "wav", "safetensors", "pt", "text"} <= read


def test_error_branches_are_found():
    places = {(branch.file, branch.function) for branch in all_branches()}
    assert ("io.py", read_json.__code__.co_firstlineno) in places
    assert oracle.PASSED == ("accepted", "refused")
