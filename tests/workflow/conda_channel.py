"""Conda channels on disk whose packages are those of the tests' own Python.

No conda channel can be reached where this is developed. A package here has the name that
conda-forge gives it, the version that pip installed, and its needs; instead of files it holds links
to the installed ones. So a solver meets the versions that the tests ran with, and an environment
can import what its file names, what that needs, and nothing else.
"""

import asyncio
import io
import json
import sys
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from rattler.index import index_fs
from rattler.platform import Subdir

PYTHON = "{}.{}".format(*sys.version_info)
SITE = f"lib/python{PYTHON}/site-packages"
ELSEWHERE = {"git": "2.39.2", "make": "4.3", "montreal-forced-aligner": "3.4.2"}
"""What pip does not install. MFA: the version of conda-forge's recipe of August 2026."""


@dataclass(frozen=True)
class Stub:
    """A package without contents of its own.

    Attributes:
        name: on the channel.
        version: as installed.
        needs: names of other packages.
        links: path in the environment -> what it points to.
        files: path in the environment -> text, of what is no link.
    """

    name: str
    version: str
    needs: Iterable[str] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


def make_channels(folder: Path, names: set[str], programs: Mapping[str, Mapping[str, str]]) -> None:
    """Write conda-forge, with these packages and all that they need, and an empty bioconda.

    Args:
        folder: of the channels.
        names: of packages, as environment files have them.
        programs: of packages in `ELSEWHERE`: name -> path in the environment -> text of a program.
    """
    (folder / "bioconda/noarch").mkdir(parents=True)
    stubs = [_python()]
    stubs += [_stub(distribution(name)) for name in closure(names - {"python", *ELSEWHERE})]
    stubs += [
        Stub(name, ELSEWHERE[name], files=programs.get(name, {}))
        for name in sorted(names & set(ELSEWHERE))
    ]
    for stub in stubs:
        _write(folder / "conda-forge", stub)
    for channel in folder.iterdir():
        asyncio.run(index_fs(channel, write_zst=False, write_shards=False))


def closure(requirements: Iterable[str]) -> list[str]:
    """Names of the installed distributions that these need, themselves among them.

    Raises:
        PackageNotFoundError: one of `requirements` is not installed.
    """
    asked = {_key(Requirement(text)) for text in requirements}
    seen: set[tuple[str, frozenset[str]]] = set()
    while asked:
        seen |= asked
        asked = {need for name, extras in asked for need in _needs(name, extras)} - seen
    return sorted({name for name, _ in seen})


def links_of(installed: Distribution) -> dict[str, str]:
    """Links, below an environment, to the modules and the metadata of a distribution."""
    tops = {path.parts[0] for path in installed.files or ()} - {"..", "__pycache__"}
    return {f"{SITE}/{top}": str(installed.locate_file(top)) for top in sorted(tops)}


def _key(wanted: Requirement) -> tuple[str, frozenset[str]]:
    return canonicalize_name(wanted.name), frozenset(wanted.extras)


def _needs(name: str, extras: Iterable[str]) -> set[tuple[str, frozenset[str]]]:
    """What an installed distribution requires here, where that is installed."""
    needs = set()
    for text in distribution(name).requires or ():
        need = Requirement(text)
        marked = need.marker is None or any(
            need.marker.evaluate({"extra": extra}) for extra in ("", *extras)
        )
        if marked and _is_installed(need.name):
            needs.add(_key(need))
    return needs


def _is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def _stub(installed: Distribution) -> Stub:
    name = canonicalize_name(installed.metadata["Name"])
    needs = ["python", *(need for need, _ in _needs(name, ()))]
    return Stub(name, installed.version, needs, links_of(installed))


def _python() -> Stub:
    """This interpreter, in the way in which a virtual environment has it."""
    real = Path(sys.executable).resolve()
    links = {f"bin/python{PYTHON}": str(real), "bin/python3": f"python{PYTHON}"}
    links |= {"bin/python": f"python{PYTHON}"}
    version = ".".join(map(str, sys.version_info[:3]))
    settings = f"home = {real.parent}\ninclude-system-site-packages = false\nversion = {version}\n"
    return Stub("python", version, links=links, files={"pyvenv.cfg": settings})


def _write(channel: Path, stub: Stub) -> None:
    """Write a package in conda's first format."""
    subdir = str(Subdir.current()) if stub.name == "python" else "noarch"
    index = {
        "name": stub.name,
        "version": stub.version.split("+")[0],  # conda knows no local versions such as 2.11.0+cpu
        "build": "stub_0",
        "build_number": 0,
        "depends": sorted(stub.needs),
        "subdir": subdir,
        **({"noarch": "generic"} if subdir == "noarch" else {}),
    }
    files = {path: text.encode() for path, text in stub.files.items()}
    listed = [_listed(path, "softlink", b"") for path in stub.links]
    listed += [_listed(path, "hardlink", content) for path, content in files.items()]
    meta = {"index": index, "paths": {"paths": listed, "paths_version": 1}, "about": {}}
    files |= {f"info/{name}.json": json.dumps(content).encode() for name, content in meta.items()}
    files["info/files"] = "".join(f"{path}\n" for path in (*stub.links, *stub.files)).encode()
    package = channel / subdir / f"{stub.name}-{index['version']}-stub_0.tar.bz2"
    package.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(package, "w:bz2", compresslevel=1) as archive:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(content), 0o755
            archive.addfile(member, io.BytesIO(content))
        for path, target in stub.links.items():
            member = tarfile.TarInfo(path)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)


def _listed(path: str, kind: str, content: bytes) -> dict[str, str | int]:
    digest = sha256(content).hexdigest()
    return {"_path": path, "path_type": kind, "sha256": digest, "size_in_bytes": len(content)}
