"""Readers and writers of all file formats of the package.

Reading: every error of a file becomes an `HproError` that names the file, the place in it if known,
and the action to take, which is the argument `hint`. A size declared by a header is compared with
the file's size before memory is allocated. Content of files is never executed.

Writing: `replacing` provides a temporary path beside the file, flushes it to disk, and renames it.
After a kill or with a full disk, the old file or none exists, never a partial one. A full disk or a
missing permission is an `HproError`.

Large packages such as torch and pandas are imported inside the functions, so that commands that do
not need them start quickly.
"""

import csv
import errno
import glob
import hashlib
import io
import json
import lzma
import math
import os
import re
import shutil
import socket
import struct
import tarfile
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from tokenize import TokenError
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import numpy as np
import yaml

from hpro_core.errors import HproError

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

RERUN_HINT = "run the stage that writes it again"
"""Action for a broken file of a run."""

MAX_TEXT_BYTES = 256 * 2**20
"""Largest JSON, YAML or CSV file that is read; files of this project are far smaller."""

MAX_DEPTH = 100
"""Deepest accepted nesting of a JSON file."""

_HALVES = re.compile("[\ud800-\udfff]")

MAX_YAML_NODES = 200_000
"""Most values of a YAML file, counting each use of an alias; an alias bomb has billions."""

_NPY_HEADER_BYTES = 2**16
MAX_HEADER_BYTES = 100 * 2**20
"""Longest header of a safetensors file (the library's own limit)."""

CHECKSUM = "sha256"
"""Metadata key of a safetensors file: SHA-256 of all bytes after its header."""

CURVES = ("step", "split", "term", "value")
"""Columns of a training's curves, training.csv."""

_STALE_S = 24 * 3600.0

_BROKEN: tuple[type[Exception], ...] = (
    ArithmeticError, AttributeError, EOFError, LookupError, OSError, RuntimeError, SyntaxError,
    TypeError, ValueError, TokenError, lzma.LZMAError, struct.error, tarfile.TarError,
    yaml.YAMLError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""Exceptions that libraries raise for broken content of a file."""


@dataclass
class Journal:
    """The files that this process has read and written, for `hpro_core.records`."""

    read: set[Path] = field(default_factory=set)
    written: set[Path] = field(default_factory=set)


SUMS = "SHA256SUMS"
"""Name of a list of SHA-256 sums of a folder, as `sha256sum -c` reads it."""

JOURNAL = Journal()


def note_read(path: Path) -> None:
    """Record a file as an input of this process; the readers of this module call it."""
    JOURNAL.read.add(path)


def note_audio(folder: Path) -> None:
    """Record the files of an audio folder as inputs, by the list of hashes beside it."""
    sums = folder.with_name(f"{folder.name}.sha256")
    if sums.is_file():
        note_read(sums)


# --- text ----------------------------------------------------------------------------------------


def read_bytes(path: Path, hint: str = RERUN_HINT, limit: int | None = None) -> bytes:
    """Read a whole file.

    Raises:
        HproError: as `open_binary`, or the file has more than `limit` bytes.
    """
    with open_binary(path, hint) as file:
        size = os.fstat(file.fileno()).st_size
        if limit is not None and size > limit:
            raise HproError(f"{path} has {size} bytes, more than {limit}: {hint}")
        with reader_errors(path, "cannot be read", hint):
            return file.read()


@contextmanager
def open_binary(
    path: Path, hint: str = RERUN_HINT, note: bool = True
) -> Iterator[io.BufferedReader]:
    """Open a plain file for reading in binary; `note` records it as an input of this process.

    Raises:
        HproError: the file is missing, not a plain file, or unreadable.
    """
    if note:
        note_read(path)
    with reader_errors(path, "cannot be read", hint):
        if path.exists() and not path.is_file():
            raise HproError(f"{path} is not a plain file: {hint}")
        try:
            file = path.open("rb")
        except FileNotFoundError as error:
            raise HproError(f"{path} does not exist: {_first(hint)}") from error
    with file:
        yield file


@contextmanager
def reader_errors(path: Path, what: str, hint: str, *also: type[Exception]) -> Iterator[None]:
    """Convert exceptions for broken content, raised in the block, to "<path> <what> (reason)".

    `what` is such as "is not a .npy file", and `also` are exceptions of a library that are not
    among the usual ones.
    """
    try:
        yield
    except (*_BROKEN, *also) as error:
        raise HproError(f"{path} {what} ({reason_of(error)}): {hint}") from error


def read_text(path: Path, hint: str = RERUN_HINT, encoding: str = "utf-8-sig") -> str:
    """Read a text file.

    Raises:
        HproError: as `read_bytes`, or the content is not in the encoding; the message names the
            line.
    """
    return decode_text(read_bytes(path, hint, MAX_TEXT_BYTES), str(path), encoding)


def decode_text(raw: bytes, where: str, encoding: str = "utf-8-sig") -> str:
    """Decode text.

    The default encoding is UTF-8 with or without a byte order mark.

    Raises:
        HproError: the bytes are not in the encoding; the message names the line in `where`.
    """
    try:
        return raw.decode(encoding)
    except UnicodeError as error:
        at = getattr(error, "start", 0)
        line = raw[:at].count(b"\n") + 1
        value = f"byte 0x{raw[at]:02x}" if at < len(raw) else "its end"
        name = encoding.removesuffix("-sig").upper()
        raise HproError(
            f"{where}, line {line}: {value} is not {name}: save it as {name}"
        ) from error


def read_json(path: Path, hint: str = RERUN_HINT) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        HproError: the file cannot be read, is not JSON, or its top-level value is not an object.
    """
    text = read_text(path, hint)
    with reader_errors(path, "is not JSON", hint):  # also nested too deep, or thousands of digits
        try:
            found = json.loads(text)
        except json.JSONDecodeError as error:
            place = f"{path}, line {error.lineno}"
            raise HproError(f"{place}: is not JSON ({error.msg}): {hint}") from error
    if not isinstance(found, dict):
        raise HproError(f"{path} holds a {type(found).__name__}, not a JSON object: {hint}")
    if problem := _unfit(found):
        raise HproError(f"{path} {problem}: {hint}")
    return found


def _unfit(value: object) -> str:
    """The reason why a JSON value is not accepted; empty if it is."""
    waiting = [(value, 0)]
    while waiting:
        part, depth = waiting.pop()
        if depth > MAX_DEPTH:
            return f"is nested more than {MAX_DEPTH} deep"
        if isinstance(part, str) and not part.isascii() and _HALVES.search(part):
            return f"contains a lone surrogate ({part[:20]!r})"
        if isinstance(part, dict):
            waiting += [(each, depth + 1) for pair in part.items() for each in pair]
        elif isinstance(part, list):
            waiting += [(each, depth + 1) for each in part]
    return ""


CheckedT = TypeVar("CheckedT")


def check_type(value: object, kind: type[CheckedT], where: str, hint: str = RERUN_HINT) -> CheckedT:
    """Check the type of a value that was read from a file, and return it.

    `kind` is a type such as dict[str, float], for which an int is accepted as a float.

    Raises:
        HproError: the value has another type; the message names the place in it.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_python(value, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        found = repr(first["input"])[:60]
        raise HproError(
            f"{where}{f', {place}' if place else ''}: {first['msg']}, not {found}: {hint}"
        ) from error


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object, whole or not at all."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


# --- settings ------------------------------------------------------------------------------------


class _StrictLoader(yaml.SafeLoader):
    """Loader with YAML 1.2's core types (1e-05 is a number, 010 and dates are not), unique keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        self.flatten_mapping(node)
        first: dict[Any, int] = {}
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(
                    problem="a key is not a plain value", problem_mark=key_node.start_mark
                )
            key, line = self.construct_object(key_node), key_node.start_mark.line + 1
            if key in first and first[key] != line:
                problem = f"key {key!r} is also in line {first[key]}: keep one"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key_node.start_mark)
            first[key] = line
        return super().construct_mapping(node, deep)


def _leading_zero(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> NoReturn:
    problem = f"{node.value} begins with a zero: remove the zero, or put a text in quotes"
    raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


def _yaml_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node), 0)


_INT, _FLOAT, _ZERO = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float", "!leading-zero"
_NUMBERS = {
    _INT: r"[-+]?(0|[1-9][0-9]*)|0x[0-9a-fA-F]+|0o[0-7]+",
    _FLOAT: r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    _ZERO: r"[-+]?0[0-9_]+",
}
"""Type -> form of its scalars without quotes."""
_StrictLoader.yaml_implicit_resolvers = {
    first: [each for each in types if each[0] not in (_INT, _FLOAT, "tag:yaml.org,2002:timestamp")]
    for first, types in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _form in _NUMBERS.items():
    _StrictLoader.add_implicit_resolver(_tag, re.compile(f"^(?:{_form})$"), list("-+.0123456789"))
_StrictLoader.add_constructor(_INT, _yaml_int)
_StrictLoader.add_constructor(_ZERO, _leading_zero)


def read_yaml(path: Path, hint: str = "correct it, or use the one that the project ships") -> dict:
    """Read a YAML mapping.

    Numbers follow YAML 1.2: `1e-05` is a number (DVC writes it); `010` is refused, since YAML 1.1
    parses it as 8. A date stays text.

    Raises:
        HproError: the file cannot be read, is not YAML, is not a mapping, has a key twice in one
            mapping, or has aliases that expand to too many values. The message names the line.
    """
    return yaml_mapping(read_text(path, hint), str(path))


def yaml_mapping(text: str, where: str) -> dict:
    """Parse a YAML mapping as `read_yaml` does; `where` is the name of its source."""
    try:
        root = yaml.compose(text, _StrictLoader)
        if not isinstance(root, yaml.MappingNode):
            raise HproError(f"{where} has no settings: a mapping of sections is expected")
        _check_size(root, where)
        return _StrictLoader("").construct_document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise HproError(f"{where}{line}: {error.problem or error.context}") from error
    except _BROKEN as error:  # a value with a tag, such as `!!float ''`
        raise HproError(f"{where} is not valid YAML: {reason_of(error)}") from error


def _check_size(root: yaml.Node, where: str) -> None:
    """Refuse alias bombs."""
    waiting, n_nodes = [root], 0
    while waiting:
        node = waiting.pop()
        n_nodes += 1
        if n_nodes > MAX_YAML_NODES:
            raise HproError(
                f"{where} has more than {MAX_YAML_NODES} values: check that it is a settings file"
            )
        if isinstance(node, yaml.MappingNode):
            waiting += [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value


# --- tables --------------------------------------------------------------------------------------


def read_csv_table(
    path: Path, columns: Sequence[str], text: Sequence[str], hint: str = RERUN_HINT
) -> "pd.DataFrame":
    """Read a CSV table of this project.

    Of the required `columns`, those in `text` have no empty cells; all others hold numbers or empty
    cells.

    Returns:
        The columns in the order of the file: text as str, whole numbers as int64, others as
        float64, NaN for an empty cell.

    Raises:
        HproError: the file cannot be read, has no rows, a row has more or fewer cells than the
            header, a column is missing, or a value is not a number; the message names the line.
    """
    import pandas as pd

    lines = list(csv_lines(read_text(path, hint), str(path)))
    if len(lines) < 2:
        raise HproError(f"{path} has no rows: {hint}")
    (_, header), *rows = lines
    missing = [name for name in columns if name not in header]
    if missing or len(set(header)) < len(header):
        what = f"column {missing[0]!r} is missing" if missing else "duplicate column"
        raise HproError(f"{path}, line 1: {what}: {hint}")
    table: dict[str, pd.Series] = {}
    for place, name in enumerate(header):
        cells = [(f"{path}, line {line}: {name}", cells[place]) for line, cells in rows]
        if name in text:
            if empty := [where for where, value in cells if not value]:
                raise HproError(f"{empty[0]} is empty: {hint}")
            table[name] = pd.Series([value for _, value in cells], dtype=str)
        else:
            table[name] = pd.Series([_number(value, where, hint) for where, value in cells])
    return pd.DataFrame(table)


def csv_lines(text: str, where: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a CSV file with their line numbers, the header first.

    Raises:
        HproError: a row has more or fewer cells than the header, or a quote is not closed.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    n_cells = None
    try:
        for cells in reader:
            if not cells:
                continue
            n_cells = n_cells or len(cells)
            if len(cells) != n_cells:
                raise HproError(
                    f"{where}, line {reader.line_num}: {len(cells)} cells, but the header has "
                    f"{n_cells}"
                )
            yield reader.line_num, cells
    except csv.Error as error:
        raise HproError(f"{where}, line {reader.line_num + 1}: {error}") from error


_WHOLE = re.compile(r"[-+]?[0-9]{1,18}")
_DECIMAL = re.compile(
    r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?(?:inf|nan)", re.IGNORECASE
)


def _number(value: str, where: str, hint: str) -> float:
    if _WHOLE.fullmatch(value):
        return int(value)
    if value and not _DECIMAL.fullmatch(value):
        raise HproError(f"{where} is {value[:40]!r}, not a number: {hint}")
    return float(value or "nan")


@contextmanager
def parquet_errors(path: Path, hint: str = RERUN_HINT) -> Iterator[None]:
    """Convert exceptions of a Parquet or Arrow reader in the block to `HproError`."""
    import pyarrow

    note_read(path)
    if not path.is_file():
        raise HproError(f"{path} does not exist: {_first(hint)}")
    with reader_errors(path, "is not a readable table", hint, pyarrow.ArrowException, MemoryError):
        yield


# --- arrays and archives -------------------------------------------------------------------------


def read_npy(path: Path, dtype: type[np.generic], ndim: int, hint: str = RERUN_HINT) -> np.ndarray:
    """Read a NumPy array that `write_npy` wrote.

    Raises:
        HproError: the file cannot be read, is not a .npy file, has another type or number of axes,
            or its header declares another size than the file has.
    """
    with open_binary(path, hint) as file:
        stream = io.BytesIO(file.read(_NPY_HEADER_BYTES))
        with reader_errors(path, "is not a .npy file", hint):
            np.lib.format.read_magic(stream)
            shape, fortran, kind = np.lib.format.read_array_header_1_0(stream)
        if kind != np.dtype(dtype) or len(shape) != ndim or fortran:
            raise HproError(
                f"{path} holds {kind} {shape}, not {np.dtype(dtype)} of {ndim} axes: {hint}"
            )
        declared = math.prod(shape) * kind.itemsize
        held = os.fstat(file.fileno()).st_size - file.seek(stream.tell())
        if declared != held:
            raise HproError(
                f"{path}: header declares {declared} bytes, the file has {held}: {hint}"
            )
        return np.frombuffer(file.read(held), kind).reshape(shape).copy()


def write_npy(path: Path, array: np.ndarray) -> None:
    """Write a NumPy array, whole or not at all."""
    with replacing(path) as partial, partial.open("wb") as file:
        np.save(file, np.ascontiguousarray(array), allow_pickle=False)


def read_zip_members(
    path: Path, names: Sequence[str] | None, limit: int, hint: str
) -> dict[str, bytes]:
    """Read members of a zip archive; without `names`, all plain files in it.

    `limit` is the largest total size of the members, decompressed, in bytes.

    Raises:
        HproError: the file is not a zip archive, lacks a member, is encrypted, is compressed by an
            unknown method, is damaged, or declares or contains more than `limit` bytes.
    """
    found: dict[str, bytes] = {}
    left = limit
    with (
        reader_errors(path, "is not a readable zip archive", hint),
        open_binary(path, hint) as file,
        zipfile.ZipFile(file) as archive,
    ):
        if names is None:
            names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
        for name in names:
            with archive.open(name) as member:
                content = member.read(left + 1)
            left -= len(content)
            if left < 0:
                raise HproError(f"{path}: {name} takes more than {limit} bytes: {hint}")
            found[name] = content
    return found


def read_tar_members(path: Path, names: Sequence[str], limit: int, hint: str) -> dict[str, bytes]:
    """Read plain files of a tar archive, compressed or not, without extraction to disk.

    `limit` is the largest total size of the members, and of all decompressed data, in bytes.

    Raises:
        HproError: the file is not a tar archive, lacks a member or has a link in its place, is
            damaged, or contains more than `limit` bytes.
    """
    found: dict[str, bytes] = {}
    left = limit
    with (
        reader_errors(path, "is not a readable tar archive", hint),
        open_binary(path, hint) as file,
        tarfile.open(fileobj=file, mode="r|*") as archive,
    ):
        for entry in archive:
            if entry.offset_data > limit or entry.size > limit:
                raise HproError(f"{path} takes more than {limit} bytes: {hint}")
            if entry.name not in names:
                continue
            stream = archive.extractfile(entry) if entry.isfile() else None
            if stream is None or entry.size > left:
                raise HproError(f"{path}: {entry.name} is a link or too large: {hint}")
            found[entry.name] = stream.read()
            left -= entry.size
            if len(found) == len(set(names)):
                break
    if missing := [name for name in names if name not in found]:
        raise HproError(f"{path} has no file {missing[0]}: {hint}")
    return found


# --- audio ---------------------------------------------------------------------------------------


def read_wav(path: Path, rate_hz: int, hint: str = "create it again") -> np.ndarray:
    """Read a WAV file that this project wrote.

    Returns:
        float32 (T,), mono, in [-1, 1].

    Raises:
        HproError: the file is unreadable, empty, has NaN or infinite values, is not mono, or has
            another rate than `rate_hz`.
    """
    import soundfile

    note_audio(path.parent)
    with (
        open_binary(path, hint, note=False) as file,
        reader_errors(path, "is not readable audio", hint, soundfile.SoundFileError, MemoryError),
    ):
        samples_T, found_hz = soundfile.read(file, dtype="float32")
    if found_hz != rate_hz or samples_T.ndim != 1:
        raise HproError(f"{path} is not {rate_hz / 1000:g} kHz mono ({found_hz} Hz): {hint}")
    if not len(samples_T) or not np.isfinite(samples_T).all():
        raise HproError(f"{path} is empty or has NaN or infinite values: {hint}")
    return np.clip(samples_T, -1.0, 1.0)


# --- weights -------------------------------------------------------------------------------------

_NO_WEIGHTS = "is not a safetensors file"


def read_safetensors(path: Path, hint: str = RERUN_HINT, own: bool = True) -> dict[str, np.ndarray]:
    """Read the weights of a safetensors file as NumPy arrays.

    A file that this project wrote (`own`) must have a checksum.

    Raises:
        HproError: the file is missing, not a safetensors file, has no checksum, or was changed
            after it was written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    _check_weights(path, hint, own)
    with reader_errors(path, _NO_WEIGHTS, hint, SafetensorError):
        return load(read_bytes(path, hint))


def read_safetensors_torch(
    path: Path, hint: str = RERUN_HINT, own: bool = True
) -> "dict[str, Tensor]":
    """Read weights as `read_safetensors`, but as PyTorch CPU tensors mapped from the file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    _check_weights(path, hint, own)
    with reader_errors(path, _NO_WEIGHTS, hint, SafetensorError):
        return load_file(path)


def safetensors_header(path: Path, hint: str = RERUN_HINT) -> dict[str, Any]:
    """Read the header of a safetensors file without its weights.

    Returns:
        Name -> `dtype`, `shape` and `data_offsets` of each weight; and `__metadata__`.

    Raises:
        HproError: the file cannot be read, has no valid header, or an entry does not fit the file.
    """
    with open_binary(path, hint) as file:
        return _header(path, file, hint)


def _is_weight(entry: object, n_bytes: int) -> bool:
    """Whether an entry of a header is a weight within `n_bytes` of content."""
    match entry:
        case {"dtype": str(), "shape": [*shape], "data_offsets": [int(first), int(last)]}:
            whole = all(type(axis) is int and axis >= 0 for axis in shape)
            # The smallest types have four bits per value.
            return (
                whole and 0 <= first <= last <= n_bytes and math.prod(shape) <= 2 * (last - first)
            )
    return False


def write_safetensors(path: Path, weights: Mapping[str, np.ndarray]) -> None:
    """Write arrays as a safetensors file with the SHA-256 of its content in the header."""
    from safetensors.numpy import save

    arrays = {name: np.ascontiguousarray(value) for name, value in weights.items()}
    write_safetensors_bytes(path, save(arrays))


def write_safetensors_bytes(path: Path, raw: bytes) -> None:
    """Write the output of safetensors' `save` with the SHA-256 of its content in the header."""
    length = int.from_bytes(raw[:8], "little")
    header, content = json.loads(raw[8 : 8 + length]), memoryview(raw)[8 + length :]
    header["__metadata__"] = {CHECKSUM: hashlib.sha256(content).hexdigest()}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the content begins at a multiple of eight
    with replacing(path) as partial, partial.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        file.write(content)


def _header(path: Path, file: io.BufferedReader, hint: str) -> dict[str, Any]:
    """Read the header of an open safetensors file, up to the first byte of its content."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(size - 8, MAX_HEADER_BYTES):
        raise HproError(f"{path} {_NO_WEIGHTS} (header of {length} bytes): {hint}")
    with reader_errors(path, _NO_WEIGHTS, hint):
        header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise HproError(f"{path} {_NO_WEIGHTS} (its header is no object): {hint}")
    for name, entry in header.items():
        if name != "__metadata__" and not _is_weight(entry, size - 8 - length):
            raise HproError(f"{path}: its header has an invalid entry {name}: {hint}")
    return header


def _check_weights(path: Path, hint: str, own: bool) -> None:
    """Check the header of a safetensors file and, if it is our own, its checksum."""
    with open_binary(path, hint) as file:
        metadata = _header(path, file, hint).get("__metadata__")
        if not own:
            return
        expected = metadata.get(CHECKSUM) if isinstance(metadata, dict) else None
        if expected is None:
            raise HproError(f"{path} has no checksum, so it is not from this version: {hint}")
        if sha256_of_rest(file) != expected:
            raise HproError(
                f"{path} was changed after it was written (its checksum differs): {hint}"
            )


def read_pt(path: Path, hint: str) -> object:
    """Read a file of torch.save with weights and plain values only; no code in it is executed.

    Raises:
        HproError: the file is missing or broken, contains objects that could run code, has the
            format before PyTorch 1.6, or declares more data than it contains.
    """
    import torch

    with open_binary(path, hint) as file:
        _check_stored(path, file, hint)
        try:
            found = torch.load(file, map_location="cpu", weights_only=True)
        except MemoryError as error:
            raise HproError(f"{path} does not fit into memory: {hint}") from error
        except Exception as error:  # the format is pickle: any exception can occur
            text = reason_of(error)
            if isinstance(error, UnpicklingError):
                text = "it is broken or contains objects that could run code"
            raise HproError(f"{path} cannot be read ({text[:160]}): {hint}") from error
        _check_tensors(path, found, os.fstat(file.fileno()).st_size, hint)
    return found


def _check_tensors(path: Path, value: object, n_bytes: int, hint: str) -> None:
    """Refuse a tensor that is larger than its file, such as an expanded view of one value."""
    import torch

    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            waiting += part.values()
        elif isinstance(part, list | tuple | set):
            waiting += part
        elif isinstance(part, torch.Tensor):
            dense = part.layout == torch.strided
            if not dense or part.numel() * part.element_size() > n_bytes:
                raise HproError(
                    f"{path} has a tensor of {list(part.shape)} that is not stored in full: {hint}"
                )


def _check_stored(path: Path, file: io.BufferedReader, hint: str) -> None:
    """Refuse a file that is not a zip archive of uncompressed members within its size."""
    what = "is not a PyTorch file of version 1.6 or later, or is truncated"
    with reader_errors(path, what, hint), zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
    size = os.fstat(file.fileno()).st_size
    if sum(entry.file_size for entry in entries) > size:
        raise HproError(f"{path} declares more than its {size} bytes: {hint}")
    file.seek(0)


def write_pt(path: Path, content: object) -> None:
    """Write a file by torch.save, whole or not at all."""
    import torch

    with replacing(path) as partial, partial.open("wb") as file:
        torch.save(content, file)  # given a path, it would store the temporary name in the file


# --- writing -------------------------------------------------------------------------------------


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file whole or not at all; its folder is created if needed.

    Yields:
        A temporary path beside it, unique to this process. When the block ends, the file written
        there is flushed to disk and renamed to `path`. If the block raises, it is removed and
        `path` is unchanged.

    Raises:
        HproError: the disk is full, or the folder is not writable.
    """
    partial = path.with_name(f".{path.name}.{_host()}-{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path)
        yield partial
        _flush(partial)
        os.replace(partial, path)
        JOURNAL.written.add(path)
        _flush(path.parent)
    except OSError as error:
        _unwritten(path, error)
    finally:
        with suppress(OSError):  # the folder has become read-only: the original error is raised
            partial.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all; see `replacing`."""
    with replacing(path) as partial:
        partial.write_bytes(content)


def write_checksums(folder: Path, names: Iterable[str]) -> None:
    """Write SHA256SUMS of files in a folder, in the format of sha256sum."""
    write_text(folder / SUMS, "".join(f"{sha256_of(folder / n)}  {n}\n" for n in names))


def write_in_place(path: Path, content: bytes) -> None:
    """Write a file directly, in a folder that the stage has emptied and no other process reads.

    It uses no temporary file, which would need a scan of the folder for each of many clips.

    Raises:
        HproError: the file cannot be written. If it was opened, it is removed.
    """
    opened = False
    try:
        with path.open("wb") as file:
            opened = True
            file.write(content)
    except OSError as error:
        if opened:
            with suppress(OSError):
                path.unlink(missing_ok=True)
        _unwritten(path, error)


def _unwritten(path: Path, error: OSError) -> NoReturn:
    folder = next(folder for folder in (path.parent, *path.parents) if folder.exists())
    try:
        free = f", {shutil.disk_usage(folder).free / 1e6:.0f} MB free"
    except OSError:
        free = ""
    raise HproError(
        f"{path} cannot be written ({reason_of(error)}{free}): free space on the disk of {folder}, "
        "or give this user write permission, then run again"
    ) from error


def _remove_stale(path: Path) -> None:
    """Remove temporary files that killed processes left beside this file."""
    start = f".{path.name}."
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        host, _, pid = left.name.removeprefix(start).removesuffix(".partial").rpartition("-")
        if not pid.isdigit() or (int(pid) == os.getpid() and host == _host()):
            continue
        with suppress(OSError):  # another process removes the same file
            old = time.time() - left.stat().st_mtime > _STALE_S
            if old or (host == _host() and not Path(f"/proc/{pid}").exists()):
                left.unlink(missing_ok=True)


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9]", "_", socket.gethostname())[:40]


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system without fsync
            raise
    finally:
        os.close(descriptor)


# --- checksums -----------------------------------------------------------------------------------


def sha256_of(path: Path, hint: str = RERUN_HINT) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal digits."""
    with open_binary(path, hint) as file, reader_errors(path, "cannot be read", hint):
        return sha256_of_rest(file)


def sha256_of_rest(file: io.BufferedReader, n_bytes: int | None = None) -> str:
    """Return the SHA-256 of an open file from its position on, up to `n_bytes`."""
    if n_bytes is None:
        return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    while n_bytes > 0 and (block := file.read(min(n_bytes, 2**20))):
        digest.update(block)
        n_bytes -= len(block)
    return digest.hexdigest()


def fingerprint(*paths: Path) -> str:
    """Return one SHA-256 of the contents of files; it identifies the inputs of a training."""
    digest = hashlib.sha256()
    for path in paths:
        hint = "run the stage that writes it first, or correct the path of a model in the settings"
        digest.update(bytes.fromhex(sha256_of(path, hint)))
    return digest.hexdigest()


def reason_of(error: BaseException) -> str:
    """Return the message of an exception as one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())[:200] or type(error).__name__


def _first(hint: str) -> str:
    """The action for a missing file, given that for a broken one."""
    return "run the stage that writes it first" if hint == RERUN_HINT else hint


def write_csv_table(table: "pd.DataFrame", path: Path, float_format: str | None = None) -> None:
    """Write a table as CSV, whole or not at all."""
    with replacing(path) as partial:
        table.to_csv(partial, index=False, float_format=float_format)
