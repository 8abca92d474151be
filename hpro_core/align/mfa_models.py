"""`hpro align-models`: downloads MFA's models and dictionary where settings name published ones.

`mfa model download KIND NAME` writes to <root>/pretrained_models/KIND, where <root> is MFA_ROOT_DIR
or ~/Documents/MFA. All runs of the user share these files.
"""

import csv
import io
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from hpro_core.align.mfa_program import execute, program
from hpro_core.errors import HproError
from hpro_core.io import sha256_of, write_text
from hpro_core.params import Align

SUFFIXES = {"acoustic": ".zip", "dictionary": ".dict", "g2p": ".zip"}
"""MFA's kind of model -> suffix of a downloaded file."""


@dataclass(frozen=True)
class Model:
    """A model or dictionary that a run needs."""

    kind: str  # key of `SUFFIXES`
    name: str  # name of a published model, or a path
    setting: str  # the setting that names it

    @property
    def is_path(self) -> bool:
        """Whether it is a file of the user: names of published models have no dots or slashes."""
        return "." in self.name or os.sep in self.name

    @property
    def downloaded(self) -> Path:
        """Path to which MFA downloads the published model of this name."""
        home = Path(os.environ.get("MFA_ROOT_DIR") or Path.home() / "Documents" / "MFA")
        return home / "pretrained_models" / self.kind / f"{self.name}{SUFFIXES[self.kind]}"

    def exists(self) -> bool:
        return self.is_path or self.downloaded.is_file()

    def path(self) -> Path:
        """Return the absolute path of the file.

        Raises:
            HproError: the file does not exist.
        """
        path = Path(self.name) if self.is_path else self.downloaded
        if self.name and path.is_file():
            return path.resolve()
        if self.is_path:
            raise HproError(f"{self.setting}: {self.name} is not a file: correct the path")
        raise HproError(
            f"{self.setting}: MFA's {self.kind} model {self.name!r} is not downloaded ({path}): "
            f"with internet access run `mfa model download {self.kind} {self.name or 'NAME'}`, "
            f"or set the path of a {SUFFIXES[self.kind]} file"
        )


def required_models(settings: Align) -> list[Model]:
    """Return the models of a run: the dictionary, and the others if the settings name them."""
    acoustic = Model("acoustic", settings.mfa_acoustic_model, "align.mfa_acoustic_model")
    dictionary = Model("dictionary", settings.mfa_dictionary, "align.mfa_dictionary")
    g2p = Model("g2p", settings.mfa_g2p_model, "align.mfa_g2p_model")
    return [dictionary, *(model for model in (acoustic, g2p) if model.name)]


def local_models(settings: Align) -> list[Model]:
    """Return the models of a run with MFA that settings name by path."""
    return [
        model for model in required_models(settings) if settings.backend == "mfa" and model.is_path
    ]


def published_models(settings: Align) -> list[Model]:
    """Return the published models of a run with MFA, which `hpro align-models` downloads."""
    return [
        model
        for model in required_models(settings)
        if settings.backend == "mfa" and not model.is_path
    ]


def download_models(root: Path, settings: Align) -> None:
    """Download missing published models, and write align/mfa_models.csv.

    The table has kind, name, bytes and sha256 of each model. Existing files are not downloaded
    again, so a second call needs no internet access.

    Raises:
        HproError: `mfa` or a file is missing, a download failed, or a file is not of its kind.
    """
    models = required_models(settings)
    folder = root / "align"
    folder.mkdir(parents=True, exist_ok=True)
    missing = [model for model in models if not model.exists()]
    if missing:
        command = program(settings.mfa_command)
        with (folder / "mfa_models.log").open("w", encoding="utf-8") as log:
            for model in missing:
                _download(command, model, log)
    rows = [(model.kind, model.name, *_identity(model)) for model in models]
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("kind", "name", "bytes", "sha256"), *rows])
    write_text(folder / "mfa_models.csv", text.getvalue())
    for kind, name, size, _ in rows:
        print(f"align: {kind} {name}, {size / 1e6:.1f} MB")


def _download(command: list[str], model: Model, log: TextIO) -> None:
    """Run `mfa model download`, and check that the file exists."""
    if not model.name:
        raise HproError(f"{model.setting} is empty: name a published model, or set a path")
    try:
        execute([*command, "model", "download", model.kind, model.name], log)
    except HproError as error:
        raise HproError(
            f"{model.setting}: {model.name!r} could not be downloaded. Run `hpro align-models` "
            "with internet access (compute nodes may have none), correct the name, or set the path "
            f"of a {SUFFIXES[model.kind]} file. {error}"
        ) from error
    model.path()


def _identity(model: Model) -> tuple[int, str]:
    """Size in bytes and sha256 of a model's file.

    Raises:
        HproError: the file is empty, or a model is not a zip file.
    """
    path = model.path()
    if not path.stat().st_size or (model.kind != "dictionary" and not zipfile.is_zipfile(path)):
        raise HproError(
            f"{model.setting}: {path} is not a {SUFFIXES[model.kind]} file of MFA: download it "
            f"again, a published one with `mfa model download --force {model.kind} NAME`"
        )
    return path.stat().st_size, sha256_of(path)
