"""Weights as data: the list, the hashes, what happens when something is wrong."""

import hashlib
import io
import re
import tarfile
import zipfile
from pathlib import Path

import pytest

from hpro_core.errors import HproError
from hpro_core.pretrained import weights
from hpro_core.pretrained.weights import WeightFile

CONTENT = b"some weights"


@pytest.fixture(scope="module")
def weights_folder() -> Path:
    """What `hpro weights fetch` brought; a test fails with that hint where it is missing."""
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
    monkeypatch.setattr(weights, "weight_files", lambda: [row()])
    return row()


def serve(monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, **others: bytes) -> list[str]:
    """Replace the download by one that drops an archive; returns what is asked for.

    `others` are wheels of further packages, by the name of the package.
    """
    asked: list[str] = []

    def download(wanted: str, folder: Path) -> Path:
        asked.append(wanted)
        package = wanted.split("==")[0]
        path = folder / (f"{package}.whl" if package in others else name)
        path.write_bytes(others.get(package, content))
        return path

    monkeypatch.setattr(weights, "download", download)
    return asked


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip is set up with as its only index."""
    folder = tmp_path / "an index"
    folder.mkdir()
    config = tmp_path / "pip.conf"
    config.write_text(f"[global]\nno-index = true\nfind-links = {folder.as_uri()}\n")
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    return folder


def sdist(path: Path, marker: Path) -> None:
    """A source archive whose setup script and build backend leave a file."""
    leave = f"open({str(marker)!r}, 'w').close()\n"
    files = {
        "setup.py": f"{leave}from setuptools import setup\nsetup(name='a', version='1.0')\n",
        "pyproject.toml": "[build-system]\nrequires = []\nbuild-backend = 'own'\n"
        "backend-path = ['.']\n",
        "own.py": leave,
        "inside/net.bin": CONTENT.decode(),
    }
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"a-package-1.0/{name}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))


def wheel(member: str = "inside/net.bin", content: bytes = CONTENT) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(member, content)
        archive.writestr("inside/code.py", "raise SystemExit")
    return stream.getvalue()


def test_the_list_is_complete_and_names_no_host() -> None:
    rows = weights.weight_files()
    names = {"whisper_tiny_en", "whisper_base", "ge2e", "dnsmos", "distillmos", "warriner"}
    assert {r.name for r in rows} == names
    assert len({(r.package, r.member) for r in rows}) == len(rows)
    assert len({(r.name, r.file, r.sha256) for r in rows}) == len({(r.name, r.file) for r in rows})
    for r in rows:
        assert re.fullmatch(r"[0-9a-f]{64}", r.sha256)
        assert all((r.package, r.version, r.member, r.licence, r.purpose))
        assert "//" not in "".join(r)


def test_what_is_here_is_what_the_list_says(weights_folder: Path) -> None:
    for r in weights.weight_files():
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
    asked = serve(monkeypatch, *served[kind])
    assert weights.fetch(tmp_path) == [tmp_path / "net" / "net.bin"]
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [tmp_path / "net" / "net.bin"]
    assert weights.find_weights("net", tmp_path) == tmp_path / "net"
    assert weights.fetch(tmp_path) == []
    assert asked == ["a-package==1.0"]


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
        weights.find_weights("net", tmp_path)


def test_a_missing_member_is_named(
    one_row: WeightFile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    serve(monkeypatch, "a.whl", wheel(member="elsewhere/net.bin"))
    with pytest.raises(HproError, match=r"inside/net\.bin.*: a\.whl does not match .*weights\.csv"):
        weights.fetch(tmp_path)


def test_nothing_of_a_source_archive_runs(one_row: WeightFile, index: Path, tmp_path: Path) -> None:
    sdist(index / "a-package-1.0.tar.gz", tmp_path / "was_run")
    (made,) = weights.fetch(tmp_path / "weights")
    assert made.read_bytes() == CONTENT
    assert not (tmp_path / "was_run").exists()


def test_a_wheel_is_taken_before_a_source_archive(index: Path, tmp_path: Path) -> None:
    sdist(index / "a-package-1.0.tar.gz", tmp_path / "was_run")
    made = index / "a_package-1.0-py3-none-any.whl"
    made.write_bytes(wheel())
    taken = weights.download("a-package==1.0", tmp_path)
    assert taken == tmp_path / made.name
    assert taken.read_bytes() == made.read_bytes()


def test_a_package_that_no_index_has_is_named(
    one_row: WeightFile, index: Path, tmp_path: Path
) -> None:
    with pytest.raises(HproError, match=r"no package index has a-package==1\.0: check the net"):
        weights.fetch(tmp_path)


def test_a_package_of_absurd_size_is_refused(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (index / "a_package-1.0-py3-none-any.whl").write_bytes(wheel())
    monkeypatch.setattr(weights, "MAX_ARCHIVE_BYTES", 100)
    with pytest.raises(HproError, match=r"a_package-1\.0.*whl has more than 100 bytes"):
        weights.download("a-package==1.0", tmp_path)


def bomb(kind: str) -> tuple[str, bytes]:
    """An archive whose listed file is 50 MB of zeros."""
    stream, zeros = io.BytesIO(), bytes(50 * 2**20)
    if kind == "wheel":
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("inside/net.bin", zeros)
        return "a.whl", stream.getvalue()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        entry = tarfile.TarInfo("a-package-1.0/inside/net.bin")
        entry.size = len(zeros)
        archive.addfile(entry, io.BytesIO(zeros))
    return "a-package-1.0.tar.gz", stream.getvalue()


@pytest.mark.parametrize("kind", ["wheel", "source"])
def test_a_bomb_is_refused(
    kind: str, one_row: WeightFile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    serve(monkeypatch, *bomb(kind))
    monkeypatch.setattr(weights, "MAX_ARCHIVE_BYTES", 10**6)
    with pytest.raises(HproError, match=r"takes more than 1000000 bytes"):
        weights.fetch(tmp_path)


def other_archives() -> dict[str, tuple[str, bytes]]:
    """What is no archive, is cut off, or has a link where the file should be."""
    linked = io.BytesIO()
    with tarfile.open(fileobj=linked, mode="w:gz") as archive:
        entry = tarfile.TarInfo("a-package-1.0/inside/net.bin")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(entry)
    whole = bomb("source")[1]
    return {
        "no tar": ("a-package-1.0.tar.gz", b"<html>not found</html>"),
        "no zip": ("a.whl", b"<html>not found</html>"),
        "empty": ("a-package-1.0.tar.gz", b""),
        "cut off": ("a-package-1.0.tar.gz", whole[: len(whole) // 2]),
        "flipped": ("a-package-1.0.tar.gz", whole[:40] + b"\xff" + whole[41:]),
        "a link": ("a-package-1.0.tar.gz", linked.getvalue()),
        "another top": ("b-package-1.0.tar.gz", whole),
    }


@pytest.mark.parametrize("kind", other_archives())
def test_a_broken_archive_is_one_line(
    kind: str, one_row: WeightFile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name, content = other_archives()[kind]
    serve(monkeypatch, name, content)
    with pytest.raises(HproError, match=rf"{name}.*does not match .*/weights.csv") as error:
        weights.fetch(tmp_path)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.rglob("*.bin"))


def test_missing_weights_name_the_cure(one_row: WeightFile, tmp_path: Path) -> None:
    with pytest.raises(HproError, match=r"net\.bin is missing: run `hpro weights fetch`"):
        weights.find_weights("net", tmp_path)
    with pytest.raises(HproError, match="not listed"):
        weights.find_weights("other", tmp_path)


@pytest.fixture
def two_parts(monkeypatch: pytest.MonkeyPatch) -> list[WeightFile]:
    """One file in two parts, of a package that holds another file too and of a second package."""
    whole = row(file="config.json", member="inside/config.json")
    parts = [row(member="inside/net.1"), row(package="second", member="inside/net.2")]
    monkeypatch.setattr(weights, "weight_files", lambda: [whole, *parts])
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
    asked = serve(monkeypatch, "a.whl", first_part(), second=second)
    made = [tmp_path / "net" / name for name in ("config.json", "net.bin")]
    assert weights.fetch(tmp_path) == made
    assert [path.read_bytes() for path in made] == [CONTENT, CONTENT]
    assert sorted(p for p in tmp_path.rglob("*") if p.is_file()) == made
    assert asked == ["a-package==1.0", "second==1.0"]
    assert weights.find_weights("net", tmp_path) == tmp_path / "net"
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
