"""A `conda` for tests: what Snakemake 9 asks of one, answered by py-rattler, nothing else.

Environments are really solved (strict priority) and installed, from channels in a folder. The
`pip:` section, gigabytes of wheels, is not downloaded: its pins are compared with what is installed
for the tests, and that is linked.
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from rattler import Channel, ChannelConfig, ChannelPriority, VirtualPackage, install, solve
from rattler.exceptions import GatewayError, InstallerError, InvalidMatchSpecError, SolverError
from rattler.platform import Subdir

from tests.workflow.conda_channel import closure, links_of

REPO = Path(__file__).parents[2]
START = """#!/bin/sh
PYTHONPATH={repo} exec {python} -P -m tests.workflow.conda_stand_in {folder} "$@"
"""
ACTIVATE = """# sourced, with the environment's folder as its argument
export CONDA_PREFIX="$1" CONDA_SHLVL=1 PATH="$1/bin:$PATH"
"""


def place(folder: Path) -> None:
    """Put `conda` and `activate` into the `bin` of a folder that has `channels`."""
    programs = folder / "bin"
    programs.mkdir()
    start = START.format(repo=REPO, python=sys.executable, folder=folder)
    (programs / "conda").write_text(start)
    (programs / "conda").chmod(0o755)
    (programs / "activate").write_text(ACTIVATE)


def main(folder: Path, arguments: Sequence[str]) -> None:
    """Answer one command."""
    match list(arguments):
        case ["info", "--json"]:
            print(json.dumps({"conda_prefix": str(folder), "platform": str(Subdir.current())}))
        case ["--version"]:
            print("conda 24.7.1")  # the oldest that Snakemake takes
        case ["config", "--get", "channel_priority", "--json"]:
            print(json.dumps({"get": {"channel_priority": "strict"}}))
        case ["clean", "-y", "--tarballs"]:
            pass  # a package here is a few bytes
        case ["env", "create", *options]:
            _create(folder, options)
        case _:
            raise SystemExit(f"conda stand-in: it does not know {' '.join(arguments)!r}: teach it")


def _create(folder: Path, options: Sequence[str]) -> None:
    parser = argparse.ArgumentParser("conda env create")
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--no-default-packages", action="store_true")
    parser.add_argument("-f", "--file", type=Path, required=True)
    parser.add_argument("-p", "--prefix", type=Path)
    chosen = parser.parse_args(options)
    wanted = yaml.safe_load(chosen.file.read_text(encoding="utf-8"))
    prefix = chosen.prefix or folder / "envs" / wanted["name"]
    try:
        asyncio.run(_install(folder, wanted, prefix))
    except (SolverError, GatewayError, InstallerError, InvalidMatchSpecError) as error:
        raise SystemExit(f"{chosen.file}: {error}") from None
    for section in wanted["dependencies"]:
        if isinstance(section, dict):
            _link(section["pip"], prefix)


async def _install(folder: Path, wanted: dict[str, Any], prefix: Path) -> None:
    """Solve and install the conda packages of an environment file."""
    alias = ChannelConfig(channel_alias=f"{(folder / 'channels').as_uri()}/")
    records = await solve(
        sources=[Channel(name, alias) for name in wanted["channels"] if name != "nodefaults"],
        specs=[spec for spec in wanted["dependencies"] if isinstance(spec, str)],
        platforms=[Subdir.current(), "noarch"],
        virtual_packages=VirtualPackage.detect(),
        channel_priority=ChannelPriority.Strict,
    )
    await install(records, prefix, show_progress=False, cache_dir=folder / "packages")


def _link(pins: Sequence[str], prefix: Path) -> None:
    """Give an environment the installed distributions that its pins ask for, and their needs."""
    for pin in map(Requirement, pins):
        try:
            installed = distribution(pin.name).version
        except PackageNotFoundError:
            raise SystemExit(f"pip: {pin} is not installed here: run `make setup`") from None
        if not pin.specifier.contains(installed, prereleases=True):
            raise SystemExit(
                f"pip: the tests run with {pin.name} {installed}, not {pin}: copy the pin of "
                "pyproject.toml into the environment's file, or run `make setup`"
            )
    for name in closure(pins):
        for path, target in links_of(distribution(name)).items():
            if not (prefix / path).exists():  # namespaces belong to several
                (prefix / path).symlink_to(target)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
    sys.stdout.flush()
    os._exit(0)  # an interpreter that ends beside py-rattler's threads can crash: it did, once
