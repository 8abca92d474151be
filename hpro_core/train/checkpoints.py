"""Checkpoints of a running training: the newest and the one before it, each with its SHA-256.

`checkpoints.json` lists them, newest first. If a file is missing or its SHA-256 differs, a warning
names it and the training resumes from the checkpoint before it, or else starts from step 0. An
interrupted write is harmless: a file is listed after it is complete, and removed after it is no
longer listed.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpro_core.errors import HproError
from hpro_core.io import read_json, read_pt, sha256_of, write_json, write_pt

LIST = "checkpoints.json"
KEPT = 2
"""Number of checkpoints to keep: with one, a bad disk block would lose the whole training."""

RESUME_HINT = "run again, and the training resumes from the checkpoint before it or from step 0"


def kept_weights(work: Path, step: int) -> Path:
    """Path of the weights that model selection keeps from a step."""
    return work / f"kept_{step:07d}.pt"


def save(work: Path, state: Mapping[str, Any], kept: Path | None = None) -> None:
    """Write a checkpoint and remove all older ones but the newest `KEPT`.

    Args:
        work: checkpoint folder of the training.
        state: tensors and plain values, with the keys `step` and `identity`.
        kept: weights file that a training resumed from this checkpoint needs.
    """
    path = work / f"checkpoint_{state['step']:07d}.pt"
    write_pt(path, dict(state))
    files = [path, kept] if kept is not None else [path]
    newest = {
        "step": state["step"],
        "files": {file.name: sha256_of(file, RESUME_HINT) for file in files},
    }
    older = [entry for entry in _listed(work) if entry["step"] < state["step"]]
    entries = [newest, *older][:KEPT]
    write_json(work / LIST, {"checkpoints": entries})
    wanted = {name for entry in entries for name in entry["files"]}
    for found in [*work.glob("checkpoint_*.pt"), *work.glob("kept_*.pt")]:
        if found.name not in wanted:
            found.unlink(missing_ok=True)


def newest(work: Path, identity: str) -> dict[str, Any] | None:
    """Load the newest valid checkpoint.

    Prints a warning for each broken file, and a line if the checkpoints belong to other settings,
    code or inputs.

    Args:
        work: checkpoint folder of the training.
        identity: hash of settings and inputs; a checkpoint with another identity is ignored.

    Returns:
        The saved state, or None if there is no valid checkpoint.
    """
    entries = _listed(work)
    for number, entry in enumerate(entries):
        try:
            state = _state(work, entry)
        except HproError as error:
            before = entries[number + 1 :]
            then = "resuming from the one before it" if before else "starting from step 0"
            print(f"warning: {str(error).removesuffix(f': {RESUME_HINT}')}: {then}", flush=True)
            continue
        if state["identity"] != identity:
            print(
                f"{work}: checkpoints are of other settings, code or inputs: starting from step 0",
                flush=True,
            )
            return None
        _forget(work, entries[number:])
        return state
    return None


def checked_kept(work: Path, step: int) -> Path:
    """Return the path of the weights that model selection kept, after checking its SHA-256.

    Args:
        work: checkpoint folder of the training.
        step: step of the kept weights.

    Raises:
        HproError: the file is missing or was changed.
    """
    path = kept_weights(work, step)
    for entry in _listed(work):
        if path.name in entry["files"]:
            _check(path, entry["files"][path.name])
            return path
    raise HproError(f"{path}, the weights to keep, are not listed in {work / LIST}: {RESUME_HINT}")


def clear(work: Path) -> None:
    """Remove the checkpoints of a finished training, after its model is written."""
    for path in [work / LIST, *work.glob("checkpoint_*.pt"), *work.glob("kept_*.pt")]:
        path.unlink(missing_ok=True)


def _state(work: Path, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Load the state of a listed checkpoint, after checking the SHA-256 of all its files."""
    for name, expected in entry["files"].items():
        _check(work / name, expected)
    path = work / f"checkpoint_{entry['step']:07d}.pt"
    state = read_pt(path, RESUME_HINT)
    if isinstance(state, dict) and {"step", "identity"} <= state.keys():
        step = state["step"]
        if type(step) is int and step == entry["step"]:
            return state
    raise HproError(f"{path} is not a checkpoint of this version: {RESUME_HINT}")


def _check(path: Path, expected: str) -> None:
    if sha256_of(path, RESUME_HINT) != expected:
        raise HproError(
            f"{path} was changed after it was written (its checksum differs): {RESUME_HINT}"
        )


def _forget(work: Path, entries: list[dict[str, Any]]) -> None:
    """Remove broken checkpoints from the list, so that no later run falls back to them."""
    if entries != _listed(work):
        write_json(work / LIST, {"checkpoints": entries})


def _listed(work: Path) -> list[dict[str, Any]]:
    """Read the entries of checkpoints.json; empty if there is no list or it cannot be read."""
    path = work / LIST
    if not path.is_file():
        return []
    try:
        entries = read_json(path, RESUME_HINT).get("checkpoints")
        if not isinstance(entries, list) or not all(_is_entry(entry) for entry in entries):
            raise HproError(f"{path} is not a list of checkpoints: {RESUME_HINT}")
    except HproError as error:
        print(f"warning: {error}", flush=True)
        return []
    return entries


def _is_entry(entry: object) -> bool:
    if not isinstance(entry, dict):
        return False
    step, files = entry.get("step"), entry.get("files")
    return (
        type(step) is int
        and isinstance(files, dict)
        and f"checkpoint_{step:07d}.pt" in files
        and all(isinstance(s, str) and "/" not in n for n, s in files.items())
    )
