"""Records of files that a test wrote in the place of a command."""

from pathlib import Path

from hpro_core.io import sha256_of, write_json


def record(root: Path, path: Path, system: str, seed: int, command: str = "judge") -> None:
    """Write the record that `hpro COMMAND SYSTEM --seed SEED` would have left of a file."""
    write_json(
        path.parent / f"record_{command}.json",
        {
            "command": command,
            "arguments": [system, "--seed", str(seed)],
            "from": {},
            "made": {path.relative_to(root).as_posix(): sha256_of(path)},
        },
    )
