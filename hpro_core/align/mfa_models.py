"""`hpro align-models`: MFA's models and dictionary, paths or names of published ones.

MFA keeps what `mfa model download KIND NAME` brings in <root>/pretrained_models/KIND, where <root>
is MFA_ROOT_DIR or ~/Documents/MFA. It stays there for every run of the user.
"""

import csv
import hashlib
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from hpro_core.align.mfa_program import execute, program
from hpro_core.errors import HproError
from hpro_core.params import Align

SUFFIXES = {"acoustic": ".zip", "dictionary": ".dict", "g2p": ".zip"}
"""MFA's kind of model -> how a downloaded one ends."""


@dataclass(frozen=True)
class Model:
    """One that a run needs.

    Attributes:
        kind: of `SUFFIXES`.
        name: of a published one, or a path.
        setting: that names it.
    """

    kind: str
    name: str
    setting: str

    @property
    def is_path(self) -> bool:
        """A file of the user's: names of published models have neither dots nor slashes."""
        return "." in self.name or os.sep in self.name

    @property
    def downloaded(self) -> Path:
        """Where MFA puts the published one of this name."""
        home = Path(os.environ.get("MFA_ROOT_DIR") or Path.home() / "Documents" / "MFA")
        return home / "pretrained_models" / self.kind / f"{self.name}{SUFFIXES[self.kind]}"

    def is_there(self) -> bool:
        return self.is_path or self.downloaded.is_file()

    def path(self) -> Path:
        """Its file.

        Raises:
            HproError: there is none.
        """
        path = Path(self.name) if self.is_path else self.downloaded
        if self.name and path.is_file():
            return path.resolve()
        if self.is_path:
            raise HproError(f"{self.setting}: {self.name} is not a file: mend the path")
        raise HproError(
            f"{self.setting}: MFA's {self.kind} model {self.name!r} is not downloaded ({path}): "
            f"where there is internet run `mfa model download {self.kind} {self.name or 'NAME'}`, "
            f"or set the path of a {SUFFIXES[self.kind]} file"
        )


def wanted(settings: Align) -> list[Model]:
    """What a run needs: a dictionary always, the others where the settings name them."""
    acoustic = Model("acoustic", settings.mfa_acoustic_model, "align.mfa_acoustic_model")
    dictionary = Model("dictionary", settings.mfa_dictionary, "align.mfa_dictionary")
    g2p = Model("g2p", settings.mfa_g2p_model, "align.mfa_g2p_model")
    return [dictionary, *(model for model in (acoustic, g2p) if model.name)]


def given(settings: Align) -> list[Model]:
    """Models that a run with MFA has from the user, by path."""
    return [model for model in wanted(settings) if settings.backend == "mfa" and model.is_path]


def published(settings: Align) -> list[Model]:
    """Models that a run with MFA names: `hpro align-models` sees that they are there."""
    return [model for model in wanted(settings) if settings.backend == "mfa" and not model.is_path]


def get(root: Path, settings: Align) -> None:
    """Download what is named and not there yet, and write down what a run aligns with.

    Writes align/mfa_models.csv: kind, name, bytes and sha256 of each. A file that is there is not
    asked for again, so that this needs no internet the second time.

    Args:
        root: results folder of the run.
        settings: names or paths, and the command.

    Raises:
        HproError: `mfa`, the internet or a file is missing, or a file is not what it should be.
    """
    models = wanted(settings)
    folder = root / "align"
    folder.mkdir(parents=True, exist_ok=True)
    missing = [model for model in models if not model.is_there()]
    if missing:
        command = program(settings.mfa_command)
        with (folder / "mfa_models.log").open("w", encoding="utf-8") as log:
            for model in missing:
                _download(command, model, log)
    rows = [(model.kind, model.name, *_identity(model)) for model in models]
    with (folder / "mfa_models.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("kind", "name", "bytes", "sha256"), *rows])
    for kind, name, size, _ in rows:
        print(f"align: {kind} {name}, {size / 1e6:.1f} MB")


def _download(command: list[str], model: Model, log: TextIO) -> None:
    """`mfa model download`, and a look whether the file is there then."""
    if not model.name:
        raise HproError(f"{model.setting} is empty: name a published one, or set a path")
    try:
        execute([*command, "model", "download", model.kind, model.name], log)
    except HproError as error:
        raise HproError(
            f"{model.setting}: {model.name!r} could not be downloaded. Run `hpro align-models` "
            "where there is internet (compute nodes may have none), mend the name, or set the path "
            f"of a {SUFFIXES[model.kind]} file. {error}"
        ) from error
    model.path()


def _identity(model: Model) -> tuple[int, str]:
    """Bytes and sha256 of a file.

    Raises:
        HproError: it is empty, or should be a zip file and is none.
    """
    path = model.path()
    if not path.stat().st_size or (model.kind != "dictionary" and not zipfile.is_zipfile(path)):
        raise HproError(
            f"{model.setting}: {path} is no {SUFFIXES[model.kind]} file of MFA: get it again, a "
            f"published one with `mfa model download --force {model.kind} NAME`"
        )
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()
