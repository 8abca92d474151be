"""Key files: everything that the result of a command depends on besides its input tables.

A key file holds the settings that the command reads, a hash of the code that it runs and the shell
line that runs it. The Snakefile writes it anew only when that content changed and lists it as an
input of the rule, so that an edit re-runs exactly what depends on it; unlike Snakemake's own
`params:` and `code` records, which live in `.snakemake/`, this also works in a fresh clone.
The key file is also the settings file that the command gets (`--params`): a command cannot read a
setting that its rule does not declare.
"""

import ast
import hashlib
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from hpro_core.corpus.walk import folders, is_file
from hpro_core.errors import HproError
from hpro_core.io import write_text
from hpro_core.process import SNAKEMAKE, this_process

PACKAGE = "hpro_core"
NO_RESULT = {
    "hpro_core/__init__.py",
    "hpro_core/errors.py",
    "hpro_core/params.py",
    "hpro_core/progress.py",
}
"""Modules that every stage imports and that change no result: they hold the version, read and check
settings (whose values are in the key), word errors and show progress. Neither they nor what they
import count: every edit of them would re-run everything."""

Lines = list[str]


def _is_text(statement: ast.stmt) -> bool:
    """Whether a statement is nothing but a string: a docstring, or the text below a constant."""
    return isinstance(statement, ast.Expr) and (
        isinstance(statement.value, ast.Constant) and isinstance(statement.value.value, str)
    )


class Keys:
    """The key files of a workflow: declared by its rules, written after all of them."""

    def __init__(
        self,
        root: str | Path,
        folder: str,
        wildcards: Mapping[str, Mapping[str, Mapping[str, str]]],
    ):
        """
        Args:
            root: holds the package.
            folder: of the key files.
            wildcards: the values that each wildcard in the name of a key file may have, and with
                each value what follows from it, for the names of sections.
        """
        self.root = Path(root)
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
            code = code_hash(self.root, command)
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


def use_checkout(root: str | Path) -> None:
    """Make `hpro` in shell lines the one of this checkout, which ends when this process does.

    Its Python is the one that runs this, unless Snakemake activates another environment.

    Raises:
        HproError: the path of the checkout cannot stand in PATH.
    """
    if os.pathsep in str(root):
        raise HproError(
            f"{root}: the path of the project has a {os.pathsep!r}, at which PATH and PYTHONPATH "
            "are split: rename the folder"
        )
    os.environ[SNAKEMAKE] = this_process()
    path = [str(Path(root, "workflow", "bin")), str(Path(sys.executable).parent)]
    os.environ["PATH"] = os.pathsep.join([*path, os.environ["PATH"]])
    modules = [str(root), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, modules))


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
            values and, of its mappings, nothing but the entry `acted` of `sets`.
        code: hash of the code, from `code_hash`.
        shell: the shell lines of the rules that run the command.
        files: hash of the listing of a raw corpus, from `listing_hash`.
    """
    content: dict[str, Any] = {}
    for section in sections:
        name, *entry = section.split(".")
        content[name] = _narrowed(settings[name], entry)
    content["depends_on"] = {"code": code, "shell": list(shell)}
    if files is not None:
        content["depends_on"]["files"] = files
    return content


def write_changed(keys: Mapping[Path, Mapping[str, Any]]) -> None:
    """Write those key files whose content has changed: a new time of a file re-runs its command."""
    for path, content in keys.items():
        write_if_changed(path, content)


def write_if_changed(path: Path, content: Mapping[str, Any]) -> None:
    """Write a YAML file unless it holds the same already; readers never see half of it."""
    text = yaml.safe_dump(dict(content), sort_keys=True, allow_unicode=True)
    if path.is_file() and path.read_bytes() == text.encode():
        return
    write_text(path, text)


def _raw_files(settings: Mapping[str, Any], values: Mapping[str, str]) -> str | None:
    """Hash of the listing of the raw corpus that a key with the wildcard {set} is about."""
    if "set" not in values:
        return None
    path = Path(settings["corpus"]["sets"][values["set"]]["path"])
    if not path.name or not path.exists():
        return None
    return listing_hash(path)


def listing_hash(path: Path) -> str:
    """Hash of the names, sizes and times of the files at or below a path (not of their content)."""
    digest = hashlib.sha256()
    for lines in _listing(path) if path.is_dir() else [[_line(path.name, path.stat())]]:
        digest.update(os.fsencode("\n".join(lines)))  # names in any encoding
    return digest.hexdigest()


def _listing(folder: Path) -> Iterator[Lines]:
    """Each folder at or below a path, as readers go through them: its name and its files.

    A million files take five seconds, most of it for their sizes.
    """
    for name, entries in folders(folder):
        yield [name, *(_line(entry.name, entry.stat()) for entry in entries if is_file(entry))]


def _line(name: str, found: os.stat_result) -> str:
    return f"{name} {found.st_size} {found.st_mtime_ns}"


def code_hash(root: Path, command: str) -> str:
    """Hash of the code that a command runs: its function in `cli.py` and all that this imports.

    Comments, docstrings and layout do not count, nor does the version of Python.
    """
    nodes, _ = _command_source(root, command)
    digest = hashlib.sha256("".join(map(_canonical, nodes)).encode())
    for name in code_files(root, command):
        content = (root / name).read_bytes()
        digest.update(f"{name} {_content_hash(content, name.endswith('.py'))}\n".encode())
    return digest.hexdigest()


@cache
def _content_hash(content: bytes, is_code: bool) -> str:
    """Hash of a file; of code, without what runs nothing."""
    return _sha256(_canonical(_parsed(content)).encode() if is_code else content)


@cache
def _parsed(content: bytes) -> ast.Module:
    """The code of a file, which its hash and its imports both need."""
    return ast.parse(content)


def _canonical(value: Any) -> str:
    """A piece of code as text, without docstrings.

    Not by `ast.dump`, whose text differs between versions of Python.
    """
    if isinstance(value, list):
        return "[" + ",".join(map(_canonical, value)) + "]"
    if not isinstance(value, ast.AST):
        return repr(value)
    fields = {name: item for name, item in ast.iter_fields(value) if item not in (None, [])}
    if isinstance(fields.get("body"), list):
        fields["body"] = [item for item in fields["body"] if not _is_text(item)]
    if isinstance(value, ast.JoinedStr):  # Python 3.12 has empty texts in nested formats
        texts = (item.value if isinstance(item, ast.Constant) else item for item in value.values)
        fields["values"] = [text for text in texts if text != ""]
    inner = ",".join(f"{name}={_canonical(item)}" for name, item in fields.items())
    return f"{type(value).__name__}({inner})"


def code_files(root: Path, command: str) -> list[str]:
    """Files of the package that a command imports, directly or not, relative to `root`.

    Args:
        root: folder that holds the package.
        command: name of the command, such as "corpus-read".

    Returns:
        Sorted names of modules, and of the data files beside them that they name; `cli.py` and the
        modules that change no result are left out.
    """
    _, found = _command_source(root, command)
    waiting = set(found)
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        if name not in NO_RESULT:
            waiting |= _module_imports(root, name) - seen
    modules = seen - NO_RESULT
    return sorted(modules | {data for name in modules for data in _data_files(root, name)})


def _command_source(root: Path, command: str) -> tuple[list[ast.stmt], set[str]]:
    """A command's function with what it names in `cli.py`; the files that these import."""
    named = _commands((root / PACKAGE / "cli.py").read_text(encoding="utf-8"))
    function = command.replace("-", "_")
    if function not in named:
        raise ValueError(f"{PACKAGE}/cli.py has no function {function} for `hpro {command}`")
    waiting, used = {function}, set[str]()
    while waiting:
        name = waiting.pop()
        used.add(name)
        node = named[name]
        body = node.body if isinstance(node, ast.FunctionDef) else [node]
        names = {n.id for part in body for n in ast.walk(part) if isinstance(n, ast.Name)}
        waiting |= (names & named.keys()) - used
    nodes = [named[name] for name in sorted(used)]
    imports = {f for node in nodes for f in _imports(root, node, f"{PACKAGE}/cli.py")}
    return nodes, imports


@cache
def _commands(text: str) -> dict[str, ast.stmt]:
    """What `cli.py` defines, by name."""
    return _top_level(ast.parse(text))


def _top_level(tree: ast.Module) -> dict[str, ast.stmt]:
    """What a module defines or imports at its top level, by name."""
    named: dict[str, ast.stmt] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            named[node.name] = node
        elif isinstance(node, ast.Assign):
            named |= {t.id: node for t in node.targets if isinstance(t, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            named[node.target.id] = node
        elif isinstance(node, ast.Import | ast.ImportFrom):
            named |= {(a.asname or a.name).split(".")[0]: node for a in node.names}
    return named


@cache
def _module_imports(root: Path, name: str) -> set[str]:
    return _imports(root, _parsed((root / name).read_bytes()), name)


def _imports(root: Path, tree: ast.AST, name: str) -> set[str]:
    """Files of the package that a piece of code imports, at any depth of its functions."""
    files: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                files |= _files_of(root, alias.name)
        elif isinstance(node, ast.ImportFrom):
            module = _absolute(node, name)
            for alias in node.names:
                files |= _files_of(root, f"{module}.{alias.name}")
    return files


def _absolute(node: ast.ImportFrom, name: str) -> str:
    """Full name of the module in a `from` import."""
    if node.level == 0:
        return node.module or ""
    package = Path(name).parent.parts[: len(Path(name).parent.parts) - node.level + 1]
    return ".".join([*package, *([node.module] if node.module else [])])


def _files_of(root: Path, dotted: str) -> set[str]:
    """The module that a dotted name stands for or is defined in, and the packages above it."""
    if dotted.split(".")[0] != PACKAGE:
        return set()
    files: set[str] = set()
    parts = dotted.split(".")
    for length in range(1, len(parts) + 1):
        path = Path(*parts[:length])
        for candidate in (path / "__init__.py", path.with_suffix(".py")):
            if (root / candidate).is_file():
                files.add(candidate.as_posix())
    return files


@cache
def _data_files(root: Path, module: str) -> set[str]:
    """Files beside or below a module that are not Python and whose name stands in its source."""
    folder = (root / module).parent
    text = (root / module).read_text(encoding="utf-8")
    return {
        path.relative_to(root).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc"} and path.name in text
    }


def _narrowed(section: Any, entry: list[str]) -> Any:
    """A section without the mappings that stand beside the dotted entry; plain values stay."""
    if not entry:
        return section
    plain = {k: v for k, v in section.items() if not isinstance(v, Mapping)}
    return {**plain, entry[0]: _narrowed(section[entry[0]], entry[1:])}


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
