"""Key files: everything that the result of a command depends on besides its input tables.

A key file holds the settings that the command reads, a hash of the code that it runs and the shell
line that runs it. The Snakefile writes it anew only when that content changed and lists it as an
input of the rule, so that an edit re-runs exactly what depends on it; unlike Snakemake's own
`params:` and `code` records, which live in `.snakemake/`, this also works in a fresh clone.
The key file is also the settings file that the command gets (`--params`): a command cannot read a
setting that its rule does not declare.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from hpro_core.corpus.walk import listing_hash
from hpro_core.io import write_text


class Keys:
    """The key files of a workflow: declared by its rules, written after all of them."""

    def __init__(
        self,
        code_hash: Callable[[str], str],
        folder: str,
        wildcards: Mapping[str, Mapping[str, Mapping[str, str]]],
    ):
        """
        Args:
            code_hash: function from a command to the hash of its code.
            folder: of the key files.
            wildcards: the values that each wildcard in the name of a key file may have, and with
                each value what follows from it, for the names of sections.
        """
        self.code_hash = code_hash
        self.folder = folder
        self.wildcards = wildcards
        self._declared: dict[str, tuple[str, Iterable[str], Mapping[str, Any]]] = {}

    def declare(
        self, name: str, command: str, sections: Iterable[str], settings: Mapping[str, Any]
    ) -> str:
        """Path of a key file, with its wildcard.

        Args:
            name: of the file, without suffix; may hold one wildcard.
            command: the command whose code it covers.
            sections: sections of the settings that the command reads.
            settings: the whole of `params.yaml`.
        """
        self._declared[name] = (command, sections, settings)
        return f"{self.folder}/{name}.yaml"

    def contents(self, shell_lines: Iterable[str | None]) -> dict[Path, dict[str, Any]]:
        """Key files with what they are to hold.

        Args:
            shell_lines: of all rules; a command's key holds those that run it.
        """
        shells: dict[str, list[str]] = {}
        for line in filter(None, shell_lines):
            for command in re.findall(r"\bhpro ([a-z-]+)", line):
                shells.setdefault(command, []).append(line)
        found = {}
        for name, (command, sections, settings) in self._declared.items():
            code = self.code_hash(command)
            for values in self._values(name):
                chosen = [section.format(**values) for section in sections]
                files = _raw_files(settings, values)
                content = key_content(settings, chosen, code, shells[command], files)
                found[Path(self.folder, f"{name.format(**values)}.yaml")] = content
        return found

    def _values(self, name: str) -> list[dict[str, str]]:
        for wildcard, values in self.wildcards.items():
            if f"{{{wildcard}}}" in name:
                return [{wildcard: value, **more} for value, more in values.items()]
        return [{}]


def key_content(
    settings: Mapping[str, Any],
    sections: Iterable[str],
    code: str,
    shell: Iterable[str],
    files: str | None = None,
) -> dict[str, Any]:
    """What a key file holds.

    Args:
        settings: the whole of `params.yaml`.
        sections: sections of the settings; "corpus.sets.acted" is the section corpus with its plain
            values and, of its mappings, nothing but the entry `acted` of `sets`; of a section of
            plain values, such as external, it is that entry alone.
        code: hash of the code, from `code_hash`.
        shell: the shell lines of the rules that run the command.
        files: hash of the listing of a raw corpus or audio folder, from `listing_hash`.
    """
    content: dict[str, Any] = {}
    for section in sections:
        name, *entry = section.split(".")
        content[name] = _narrowed(settings[name], entry)
    content["depends_on"] = {"code": code, "shell": list(shell)}
    if files is not None:
        content["depends_on"]["files"] = files
    return content


def _narrowed(section: Any, entry: list[str]) -> Any:
    """A section without the mappings that stand beside the dotted entry; plain values stay."""
    if not entry:
        return section
    plain = {k: v for k, v in section.items() if not isinstance(v, Mapping)}
    if len(plain) == len(section):
        return {entry[0]: section[entry[0]]}
    return {**plain, entry[0]: _narrowed(section[entry[0]], entry[1:])}


def _raw_files(settings: Mapping[str, Any], values: Mapping[str, str]) -> str | None:
    """Hash of the listing of the files that a key with the wildcard {set} or {external} is of."""
    if "set" in values:
        path = Path(settings["corpus"]["sets"][values["set"]]["path"])
    elif "external" in values:
        path = Path(settings["external"][values["external"]])
    else:
        return None
    return listing_hash(path) if path.name and path.exists() else None


def write_changed(keys: Mapping[Path, Mapping[str, Any]]) -> None:
    """Write those key files whose content has changed: a new time of a file re-runs its command."""
    for path, content in keys.items():
        text = yaml.safe_dump(dict(content), sort_keys=True, allow_unicode=True)
        if not path.is_file() or path.read_bytes() != text.encode():
            write_text(path, text)
