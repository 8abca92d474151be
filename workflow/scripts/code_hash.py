"""The code that the result of a command depends on: files of the package, and one hash of them."""

import ast
import hashlib
from functools import cache
from importlib.util import resolve_name
from pathlib import Path
from typing import Any

PACKAGE = "hpro_core"
NO_RESULT = {
    f"{PACKAGE}/{m}.py"
    for m in (
        "__init__",
        "errors",
        "judges/spoken",
        "options",
        "params",
        "progress",
        "train/trackers",
    )
}
"""Modules that stages import and that change no result: they hold the version, read and check
settings (whose values are in the key), word errors and options, and show trainings and progress.
Neither they nor what they import count: every edit of them would re-run everything."""


def code_hash(root: Path, command: str) -> str:
    """Hash of the code that a command runs: its function in a `commands.py` and its `code_files`.

    Comments, docstrings and layout do not count, nor does the version of Python.
    """
    digest = hashlib.sha256(_canonical(_command_code(root, command)[1]).encode())
    for name in code_files(root, command):
        content = (root / name).read_bytes()
        digest.update(f"{name} {_content_hash(content, name.endswith('.py'))}\n".encode())
    return digest.hexdigest()


def code_files(root: Path, command: str) -> list[str]:
    """Files of the package that a command imports, directly or not, relative to `root`.

    Args:
        root: folder that holds the package.
        command: name of the command, such as "corpus-read".

    Returns:
        Sorted names of modules, and of the data files beside them that they name, without the
        modules that change no result.
    """
    name, code = _command_code(root, command)
    waiting, seen = _imports(root, code, name), set[str]()
    while waiting:
        name = waiting.pop()
        if name not in seen | NO_RESULT:
            seen.add(name)
            waiting |= _module_imports(root, name)
    return sorted(seen.union(*(_data_files(root, name) for name in seen)))


def _command_code(root: Path, command: str) -> tuple[str, ast.Module]:
    """The file of a command, and its code without the functions of the other commands."""
    function = command.replace("-", "_")
    for path in sorted((root / PACKAGE).rglob("*commands.py")):
        body = _parsed(path.read_bytes()).body
        others = [n for n in body if isinstance(n, ast.FunctionDef) and n.name != function]
        if len(others) < sum(isinstance(n, ast.FunctionDef) for n in body):
            kept = [n for n in body if n not in others or not n.decorator_list]
            return path.relative_to(root).as_posix(), ast.Module(kept, [])
    raise ValueError(f"{PACKAGE} has no function {function} for `hpro {command}` in a commands.py")


@cache
def _content_hash(content: bytes, is_code: bool) -> str:
    """Hash of a file; of code, without what runs nothing."""
    return hashlib.sha256(_canonical(_parsed(content)).encode() if is_code else content).hexdigest()


@cache
def _parsed(content: bytes) -> ast.Module:
    return ast.parse(content)


def _is_text(node: Any) -> bool:
    """Whether a statement is nothing but a string: a docstring, or the text below a constant."""
    return isinstance(node, ast.Expr) and isinstance(getattr(node.value, "value", None), str)


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


@cache
def _module_imports(root: Path, name: str) -> set[str]:
    return _imports(root, _parsed((root / name).read_bytes()), name)


def _imports(root: Path, tree: ast.AST, name: str) -> set[str]:
    """Files of the package that a piece of code imports, at any depth of its functions.

    A package whose `__init__.py` uses `import_module` imports all its modules.
    """
    folder = Path(name).parent
    lists = Path(name).name == "__init__.py"
    files: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            files.update(*(_files_of(root, alias.name) for alias in node.names))
        elif isinstance(node, ast.ImportFrom):
            module = resolve_name("." * node.level + (node.module or ""), ".".join(folder.parts))
            files.update(*(_files_of(root, f"{module}.{alias.name}") for alias in node.names))
        elif lists and "import_module" in (getattr(node, "id", ""), getattr(node, "attr", "")):
            found = [*(root / folder).glob("*.py"), *(root / folder).glob("*/__init__.py")]
            files |= {path.relative_to(root).as_posix() for path in found}
    return files


def _files_of(root: Path, dotted: str) -> set[str]:
    """The module that a dotted name stands for or is defined in, and the packages above it."""
    parts = dotted.split(".")
    stems = ["/".join(parts[: n + 1]) for n in range(len(parts) if parts[0] == PACKAGE else 0)]
    names = {f"{stem}{end}" for stem in stems for end in ("/__init__.py", ".py")}
    return {name for name in names if (root / name).is_file()}


@cache
def _data_files(root: Path, module: str) -> set[str]:
    """Files beside or below a module that are not Python and whose name stands in its source."""
    text = (root / module).read_text(encoding="utf-8")
    return {
        path.relative_to(root).as_posix()
        for path in (root / module).parent.rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc"} and path.name in text
    }
