"""Folders that `hpro say` speaks from: a policy of a run, or an exported policy.

This module imports no torch, so that a wrong folder is reported at once.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from hpro_core.errors import HproError
from hpro_core.io import SUMS, check_type, read_json, read_text, sha256_of, write_checksums

SETTINGS = "settings.yaml"
"""File of an exported folder with the section `synthesis` of the run's settings."""

TOKENIZER = "tokenizer"
"""Folder of an exported folder with the tokenizer and its decoder."""

NEEDED = {"config.json", "model.safetensors", SETTINGS, f"{TOKENIZER}/config.json"}
"""Files of every exported folder."""

EMBEDDED, COSYVOICE2 = "embedded", "cosyvoice2"
"""Values of `policy` in config.json, and kinds of tokenizers."""

_EXPORT_AGAIN = "export the policy again, or copy the folder again"
_SUM = re.compile(r"([0-9a-f]{64})  (.+)")


@dataclass(frozen=True)
class PolicyFolder:
    """A policy and the files that it needs to speak.

    Attributes:
        policy: folder of the policy, with model.safetensors and config.json.
        kind: kind of the policy and of its speech tokens, EMBEDDED or COSYVOICE2.
        tokenizer: folder of the embedded tokenizer and decoder, or the CosyVoice2-0.5B folder.
        settings: YAML file with the section `synthesis`.
        run: results folder of the run; None for an exported folder.
    """

    policy: Path
    kind: str
    tokenizer: Path
    settings: Path
    run: Path | None


def open_policy(folder: Path) -> PolicyFolder:
    """Find the files that a policy needs to speak.

    Args:
        folder: `policy/<system>/seed<k>` of a finished run, or a folder of `hpro export`.

    Raises:
        HproError: the folder is missing or holds no policy, the tokenizer or the settings are
            missing, the policy and the tokenizer are of different kinds, or a file of an exported
            folder is missing or differs from its SHA-256.
    """
    if not folder.is_dir():
        raise HproError(
            f"{folder} is not a folder: name policy/<system>/seed<k> of a finished run, or a "
            "folder that `hpro export` wrote"
        )
    config = folder / "config.json"
    kind = read_json(config).get("policy") if config.is_file() else None
    if kind not in (EMBEDDED, COSYVOICE2):
        raise HproError(
            f"{folder} is no policy: its config.json is missing or names none; name "
            "policy/<system>/seed<k> of a run, or a folder that `hpro export` wrote"
        )
    if (folder / SUMS).exists():
        check_sums(folder)
        return _checked(PolicyFolder(folder, kind, folder / TOKENIZER, folder / SETTINGS, None))
    return _checked(_of_run(folder, kind))


def newest_policy(results: Path) -> Path:
    """Return the folder of `hpro`, seed 0, of the run whose policy was written last.

    Raises:
        HproError: no run has one.
    """
    found = results.glob("*/policy/hpro/seed0/model.safetensors")
    newest = max(found, key=lambda path: path.stat().st_mtime, default=None)
    if newest is None:
        raise HproError(
            f"{results} has no run with policy/hpro/seed0: run the workflow, or name a policy with "
            "--policy"
        )
    return newest.parent


def _of_run(folder: Path, kind: str) -> PolicyFolder:
    parents = list(Path(os.path.abspath(folder)).parents)[1:3]  # .../policy/base has no seed
    runs = [run for run in parents if (run / "speech/tokenizer/config.json").is_file()]
    if not runs:
        raise HproError(
            f"{folder} is not in the results of a run with speech/tokenizer, and has no {SUMS} of "
            "an export: a policy speaks with the tokenizer that it was trained with; use "
            "`hpro export` to take one away"
        )
    settings = runs[0] / "params/synthesise.yaml"
    if not settings.is_file():
        raise HproError(f"{settings} does not exist: run the workflow up to `synthesise`")
    return PolicyFolder(folder, kind, runs[0] / "speech/tokenizer", settings, runs[0])


def _checked(found: PolicyFolder) -> PolicyFolder:
    """Compare the kinds of policy and tokenizer, and find the folder of CosyVoice2."""
    path = found.tokenizer / "config.json"
    config = read_json(path, _EXPORT_AGAIN)
    kind = config.get("kind", EMBEDDED)
    if kind != found.kind:
        raise HproError(
            f"{found.policy} is a policy of kind {found.kind}, but {path} is of kind {kind!r}: use "
            "the policy with the tokenizer of its own run"
        )
    if kind == EMBEDDED:
        return found
    model = found.tokenizer
    if found.run is not None:
        model = Path(check_type(config.get("folder"), str, f"{path}, folder"))
    return PolicyFolder(found.policy, kind, model, found.settings, found.run)


def write_sums(folder: Path) -> None:
    """Write SHA256SUMS of the files below a folder, except texts that its owner completes (.md)."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".md")
    write_checksums(folder, sorted(path.relative_to(folder).as_posix() for path in paths))


def check_sums(folder: Path) -> None:
    """Compare the files of an exported folder with its SHA256SUMS.

    Raises:
        HproError: a file is missing or differs, or the list is not readable or lacks a file that
            is needed.
    """
    listed: dict[str, str] = {}
    for number, line in enumerate(read_text(folder / SUMS, _EXPORT_AGAIN).splitlines(), start=1):
        match = _SUM.fullmatch(line)
        if match is None or ".." in Path(match[2]).parts or Path(match[2]).is_absolute():
            raise HproError(
                f"{folder / SUMS}, line {number}: {line[:60]!r} is not a SHA-256 and the name of a "
                f"file in the folder: {_EXPORT_AGAIN}"
            )
        listed[match[2]] = match[1]
    if missing := NEEDED - listed.keys():
        raise HproError(f"{folder / SUMS} lacks {min(missing)}: {_EXPORT_AGAIN}")
    for name, digest in listed.items():
        if sha256_of(folder / name, _EXPORT_AGAIN) != digest:
            raise HproError(f"{folder / name} differs from its SHA-256: {_EXPORT_AGAIN}")
