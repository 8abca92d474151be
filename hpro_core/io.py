"""Reading and writing of files: each format once, for the whole package.

Reading: whatever can be wrong with a file becomes one `HproError` that names the file, the place in
it where that is known, and what to do next. A size that a header declares is compared with the size
of the file before memory of that size is allocated. Nothing in a file is executed.

Writing: `replacing` gives a temporary path of this process beside the file, flushes it to the disk,
and renames it. A killed process or a full disk leaves the old file or none, never half of one.

torch, pandas and the like are imported inside the functions, so that commands without them start
quickly.
"""

import csv
import errno
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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from tokenize import TokenError
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn, TypeVar

import numpy as np
import yaml

from hpro_core.errors import HproError

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

AGAIN = "run the stage that makes it again"
"""What to do about a broken file of a run."""

MAX_TEXT_BYTES = 256 * 2**20
"""Largest JSON, YAML or CSV file that is read; none of this project's comes near it."""

MAX_DEPTH = 100
"""Deepest nesting of a JSON file."""

_HALVES = re.compile("[\ud800-\udfff]")

MAX_YAML_NODES = 200_000
"""Most values of a YAML file, each use of an alias counted: a bomb of aliases has billions."""

_NPY_HEADER_BYTES = 2**16
MAX_HEADER_BYTES = 100 * 2**20
"""Longest header of a safetensors file (the library's own limit)."""

CHECKSUM = "sha256"
"""Key of the metadata of a safetensors file: SHA-256 of all that follows its header."""

CURVES = ("step", "split", "term", "value")
"""Columns of a training's curves, training.csv."""

_STALE_S = 24 * 3600.0


@dataclass
class Journal:
    """The files that this process has read and written: what `hpro_core.records` writes down."""

    read: set[Path] = field(default_factory=set)
    made: set[Path] = field(default_factory=set)


JOURNAL = Journal()


def note_read(path: Path) -> None:
    """Say that what this process makes depends on a file; the readers of this module do."""
    JOURNAL.read.add(path)


def note_audio(folder: Path) -> None:
    """The same of the files of a folder of audio, which the list beside it names."""
    sums = folder.with_name(f"{folder.name}.sha256")
    if sums.is_file():
        note_read(sums)


# --- text ----------------------------------------------------------------------------------------


def read_bytes(path: Path, cure: str = AGAIN, limit: int | None = None) -> bytes:
    """Read a whole file.

    Args:
        path: of the file.
        cure: what to do if it cannot be read, for the message.
        limit: most bytes that are accepted.

    Raises:
        HproError: the file is missing, is no plain file, cannot be read or is larger than `limit`.
    """
    with opened(path, cure) as file:
        size = os.fstat(file.fileno()).st_size
        if limit is not None and size > limit:
            raise HproError(f"{path} has {size} bytes, more than {limit}: {cure}")
        try:
            return file.read()
        except OSError as error:
            raise HproError(f"{path} cannot be read ({reason_of(error)}): {cure}") from error


@contextmanager
def opened(path: Path, cure: str = AGAIN) -> Iterator[BinaryIO]:
    """Open a plain file for reading in binary.

    Raises:
        HproError: it is missing, is no plain file, or may not be read.
    """
    note_read(path)
    with _opened(path, cure) as file:
        yield file


@contextmanager
def _opened(path: Path, cure: str) -> Iterator[BinaryIO]:
    try:
        if path.exists() and not path.is_file():
            raise HproError(f"{path} is not a plain file: {cure}")
        file = path.open("rb")
    except FileNotFoundError as error:
        raise HproError(f"{path} does not exist: {_first(cure)}") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise HproError(f"{path} cannot be read ({reason_of(error)}): {cure}") from error
    with file:
        yield file


def read_text(path: Path, cure: str = AGAIN, encoding: str = "utf-8-sig") -> str:
    """Read a text file.

    Raises:
        HproError: as `read_bytes`, or the content is not in that encoding; the line is named.
    """
    return decoded(read_bytes(path, cure, MAX_TEXT_BYTES), str(path), encoding)


def decoded(raw: bytes, where: str, encoding: str = "utf-8-sig") -> str:
    """Decode text.

    Args:
        raw: the bytes.
        where: of the file, for the message.
        encoding: UTF-8, with or without a byte order mark, unless another is given.

    Raises:
        HproError: the bytes are not in that encoding.
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


def read_json(path: Path, cure: str = AGAIN) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        HproError: the file cannot be read, is not JSON, or holds something other than an object.
    """
    text = read_text(path, cure)
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        place = f"{path}, line {error.lineno}"
        raise HproError(f"{place}: is not JSON ({error.msg}): {cure}") from error
    except (RecursionError, ValueError) as error:  # ValueError: a number of thousands of digits
        raise HproError(f"{path} is not JSON ({reason_of(error)}): {cure}") from error
    if not isinstance(found, dict):
        raise HproError(f"{path} holds a {type(found).__name__}, not a JSON object: {cure}")
    if problem := _unfit(found):
        raise HproError(f"{path} {problem}: {cure}")
    return found


def _unfit(value: object) -> str:
    """Why a value of JSON cannot be passed on; empty if it can."""
    waiting = [(value, 0)]
    while waiting:
        part, depth = waiting.pop()
        if depth > MAX_DEPTH:
            return f"is nested more than {MAX_DEPTH} deep"
        if isinstance(part, str) and not part.isascii() and _HALVES.search(part):
            return f"holds half a character ({part[:20]!r})"
        if isinstance(part, dict):
            waiting += [(each, depth + 1) for pair in part.items() for each in pair]
        elif isinstance(part, list):
            waiting += [(each, depth + 1) for each in part]
    return ""


CheckedT = TypeVar("CheckedT")


def checked(value: object, kind: type[CheckedT], where: str, cure: str = AGAIN) -> CheckedT:
    """A value out of a file, if it is what it should be.

    Args:
        value: as read, of dicts, lists and plain values.
        kind: its type, such as dict[str, float]; an int passes for a float.
        where: of the file, for the message.
        cure: what to do about another value.

    Raises:
        HproError: it is not of that type; the place in it is named.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_python(value, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        found = repr(first["input"])[:60]
        raise HproError(
            f"{where}{f', {place}' if place else ''}: {first['msg']}, not {found}: {cure}"
        ) from error


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object, whole or not at all.

    Raises:
        HproError: the file cannot be written.
    """
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all.

    Raises:
        HproError: the file cannot be written.
    """
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


# --- settings ------------------------------------------------------------------------------------


class _StrictLoader(yaml.SafeLoader):
    """YAML 1.2's core types: 1e-05 is a number, 010 and a date are not; a key stands once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        self.flatten_mapping(node)
        first: dict[Any, int] = {}
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(
                    problem="a key is no name", problem_mark=key_node.start_mark
                )
            key, line = self.construct_object(key_node), key_node.start_mark.line + 1
            if key in first and first[key] != line:
                problem = f"key {key!r} stands here and in line {first[key]}: keep one"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key_node.start_mark)
            first[key] = line
        return super().construct_mapping(node, deep)


_FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)|0x[0-9a-fA-F]+|0o[0-7]+")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9_]+")


def _resolvers() -> dict[str, list[tuple[str, re.Pattern]]]:
    """The implicit types by the first character of a scalar."""
    kept: dict[str, list[tuple[str, re.Pattern]]] = {}
    for sign, entries in yaml.SafeLoader.yaml_implicit_resolvers.items():
        own = [e for e in entries if e[0].rpartition(":")[2] not in ("float", "int", "timestamp")]
        kept[sign] = own
    for sign in "-+.0123456789":
        number = [
            ("tag:yaml.org,2002:int", re.compile(f"^(?:{_INT.pattern})$")),
            ("tag:yaml.org,2002:float", re.compile(f"^(?:{_FLOAT.pattern})$")),
        ]
        kept[sign] = number + kept.get(sign, [])
    return kept


_StrictLoader.yaml_implicit_resolvers = _resolvers()


def _yaml_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node), 0)


_StrictLoader.add_constructor("tag:yaml.org,2002:int", _yaml_int)


def read_yaml(path: Path, cure: str = "correct it, or take the one that the project ships") -> dict:
    """Read a YAML mapping.

    Numbers are those of YAML 1.2: `1e-05` is one (DVC writes it so); `010` is refused, since older
    readers take it for 8. A date stays text.

    Raises:
        HproError: the file cannot be read, is not YAML, holds no mapping, has a key twice in one
            mapping, or aliases that stand for too many values. The line is named.
    """
    return yaml_mapping(read_text(path, cure), str(path))


def yaml_mapping(text: str, where: str) -> dict:
    """The same of a text.

    Args:
        text: YAML.
        where: of the file, for messages.
    """
    try:
        root = yaml.compose(text, _StrictLoader)
        if root is None or not isinstance(root, yaml.MappingNode):
            raise HproError(f"{where} holds no settings: a mapping of sections is expected")
        _check_nodes(root, where)
        loader = _StrictLoader("")
        return loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise HproError(f"{where}{line}: {error.problem or error.context}") from error
    except (
        yaml.YAMLError,
        RecursionError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
    ) as error:  # fmt: skip  (values with a tag, such as `!!float ''`)
        raise HproError(f"{where} is not valid YAML: {reason_of(error)}") from error


def _is_plain(node: yaml.Node) -> bool:
    """Whether a scalar stands without quotes."""
    return isinstance(node, yaml.ScalarNode) and node.style is None


def _check_nodes(root: yaml.Node, where: str) -> None:
    """Refuse octal-looking numbers and bombs of aliases."""
    waiting, n_nodes = [root], 0
    while waiting:
        node = waiting.pop()
        n_nodes += 1
        if n_nodes > MAX_YAML_NODES:
            raise HproError(
                f"{where} has more than {MAX_YAML_NODES} values: no settings are so large"
            )
        if isinstance(node, yaml.MappingNode):
            waiting += [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif _is_plain(node) and _LEADING_ZERO.fullmatch(node.value):
            line = node.start_mark.line + 1
            raise HproError(
                f"{where}, line {line}: {node.value} begins with a zero: write the number without "
                "it, or a text in quotes"
            )


# --- tables --------------------------------------------------------------------------------------


def read_csv_table(
    path: Path, columns: Sequence[str], text: Sequence[str], cure: str = AGAIN
) -> "pd.DataFrame":
    """Read a CSV table of this project.

    Args:
        path: of the file.
        columns: that it must have.
        text: columns of text, of which none is empty; all others hold numbers, or nothing.
        cure: what to do about a broken file.

    Returns:
        The columns in the order of the file: text as str, whole numbers as int64, others as
        float64, NaN where there is nothing.

    Raises:
        HproError: the file cannot be read, has no rows, a row has more or fewer cells than the
            header, a column is missing, or a value is not a number; the line is named.
    """
    import pandas as pd

    lines = list(csv_lines(read_text(path, cure), str(path)))
    if len(lines) < 2:
        raise HproError(f"{path} has no rows: {cure}")
    (_, header), *rows = lines
    missing = [name for name in columns if name not in header]
    if missing or len(set(header)) < len(header):
        what = f"column {missing[0]!r} is missing" if missing else "a column stands twice"
        raise HproError(f"{path}, line 1: {what}: {cure}")
    table: dict[str, pd.Series] = {}
    for place, name in enumerate(header):
        cells = [(f"{path}, line {line}: {name}", cells[place]) for line, cells in rows]
        if name in text:
            table[name] = pd.Series(
                [_text(value, where, cure) for where, value in cells], dtype=str
            )
        else:
            table[name] = pd.Series([_number(value, where, cure) for where, value in cells])
    return pd.DataFrame(table)


def csv_lines(text: str, where: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV file as long as its first one, each with its line.

    Raises:
        HproError: a row is longer or shorter, or a quote is not closed.
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
                    f"{where}, line {reader.line_num}: {len(cells)} cells, where the header has "
                    f"{n_cells}"
                )
            yield reader.line_num, cells
    except csv.Error as error:
        raise HproError(f"{where}, line {reader.line_num + 1}: {error}") from error


_WHOLE = re.compile(r"[-+]?[0-9]{1,18}")
_DECIMAL = re.compile(
    r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?(?:inf|nan)", re.IGNORECASE
)


def _number(value: str, where: str, cure: str) -> float:
    if _WHOLE.fullmatch(value):
        return int(value)
    if value and not _DECIMAL.fullmatch(value):
        raise HproError(f"{where} is {value[:40]!r}, not a number: {cure}")
    return float(value or "nan")


def _text(value: str, where: str, cure: str) -> str:
    if not value:
        raise HproError(f"{where} is empty: {cure}")
    return value


@contextmanager
def parquet_errors(path: Path, cure: str = AGAIN) -> Iterator[None]:
    """Whatever a reader of Parquet or Arrow files raises inside is an `HproError` of the file.

    Raises:
        HproError: the file is missing, or not readable.
    """
    import pyarrow

    note_read(path)
    if not path.is_file():
        raise HproError(f"{path} does not exist: {_first(cure)}")
    try:
        yield
    except (
        pyarrow.ArrowException, OSError, ValueError, KeyError, TypeError, IndexError,
        NotImplementedError, MemoryError, OverflowError, AttributeError, RecursionError,
    ) as error:  # fmt: skip
        raise HproError(f"{path} is not a readable table ({reason_of(error)}): {cure}") from error


# --- arrays and archives -------------------------------------------------------------------------


def read_npy(path: Path, dtype: type[np.generic], ndim: int, cure: str = AGAIN) -> np.ndarray:
    """Read a NumPy array.

    Raises:
        HproError: the file cannot be read, is no .npy file, is of another type or number of axes,
            or its header declares another size than the file has.
    """
    with opened(path, cure) as file:
        stream = io.BytesIO(file.read(_NPY_HEADER_BYTES))
        try:
            version = np.lib.format.read_magic(stream)
            if version == (1, 0):
                shape, fortran, kind = np.lib.format.read_array_header_1_0(stream)
            else:
                shape, fortran, kind = np.lib.format.read_array_header_2_0(stream)
        except (
            ValueError, EOFError, TypeError, OSError, SyntaxError, TokenError, RecursionError,
            struct.error,
        ) as error:  # fmt: skip
            raise HproError(f"{path} is not a .npy file ({reason_of(error)}): {cure}") from error
        if kind != np.dtype(dtype) or len(shape) != ndim or fortran:
            raise HproError(
                f"{path} holds {kind} {shape}, not {np.dtype(dtype)} of {ndim} axes: {cure}"
            )
        declared = math.prod(shape) * kind.itemsize
        held = os.fstat(file.fileno()).st_size - file.seek(stream.tell())
        if declared != held:
            raise HproError(
                f"{path}: header declares {declared} bytes, the file has {held}: {cure}"
            )
        return np.frombuffer(file.read(held), kind).reshape(shape).copy()


def write_npy(path: Path, array: np.ndarray) -> None:
    """Write a NumPy array, whole or not at all."""
    with replacing(path) as partial, partial.open("wb") as file:
        np.save(file, np.ascontiguousarray(array), allow_pickle=False)


def read_zip_members(
    path: Path, names: Sequence[str] | None, limit: int, cure: str
) -> dict[str, bytes]:
    """Read members of a zip archive.

    Args:
        path: of the archive.
        names: of the members; None for all plain files in it.
        limit: most bytes of all of them, decompressed.
        cure: what to do about a broken archive.

    Raises:
        HproError: the file is no zip archive, lacks a member, is encrypted, is compressed by an
            unknown method, is damaged, or declares or holds more than `limit` bytes.
    """
    found: dict[str, bytes] = {}
    left = limit
    try:
        with opened(path, cure) as file, zipfile.ZipFile(file) as archive:
            if names is None:
                names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
            for name in names:
                with archive.open(name) as member:
                    content = member.read(left + 1)
                left -= len(content)
                if left < 0:
                    raise HproError(f"{path}: {name} takes more than {limit} bytes: {cure}")
                found[name] = content
    except (
        zipfile.BadZipFile, zlib.error, lzma.LZMAError, KeyError, IndexError, NotImplementedError,
        RuntimeError, EOFError, OSError, ValueError, struct.error, UnicodeError, OverflowError,
    ) as error:  # fmt: skip
        raise HproError(
            f"{path} is not a readable zip archive ({reason_of(error)}): {cure}"
        ) from error
    return found


def read_tar_members(path: Path, names: Sequence[str], limit: int, cure: str) -> dict[str, bytes]:
    """Read plain files of a tar archive, compressed or not; nothing is extracted to disk.

    Args:
        path: of the archive.
        names: of the members.
        limit: most bytes of all of them, and of what is decompressed on the way.
        cure: what to do about a broken archive.

    Raises:
        HproError: the file is no tar archive, lacks a member or has a link in its place, is
            damaged, or holds more than `limit` bytes.
    """
    found: dict[str, bytes] = {}
    left = limit
    try:
        with opened(path, cure) as file, tarfile.open(fileobj=file, mode="r|*") as archive:
            for entry in archive:
                if entry.offset_data > limit or entry.size > limit:
                    raise HproError(f"{path} takes more than {limit} bytes: {cure}")
                if entry.name not in names:
                    continue
                stream = archive.extractfile(entry) if entry.isfile() else None
                if stream is None or entry.size > left:
                    raise HproError(f"{path}: {entry.name} is a link or too large: {cure}")
                found[entry.name] = stream.read()
                left -= entry.size
                if len(found) == len(set(names)):
                    break
    except (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError) as error:
        raise HproError(
            f"{path} is not a readable tar archive ({reason_of(error)}): {cure}"
        ) from error
    if missing := [name for name in names if name not in found]:
        raise HproError(f"{path} has no file {missing[0]}: {cure}")
    return found


# --- audio ---------------------------------------------------------------------------------------


def read_wav(path: Path, rate_hz: int, cure: str = "make it again") -> np.ndarray:
    """Read a WAV file that this project wrote.

    Returns:
        float32 (T,), mono, in [-1, 1].

    Raises:
        HproError: unreadable, empty, with values that are not numbers, not mono, or another rate.
    """
    import soundfile

    note_audio(path.parent)
    with _opened(path, cure) as file:
        try:
            samples_T, found_hz = soundfile.read(file, dtype="float32")
        except (soundfile.SoundFileError, OSError, TypeError, ValueError, MemoryError) as error:
            raise HproError(f"{path} is not readable audio ({reason_of(error)}): {cure}") from error
    if found_hz != rate_hz or samples_T.ndim != 1:
        raise HproError(f"{path} is not {rate_hz / 1000:g} kHz mono ({found_hz} Hz): {cure}")
    if not len(samples_T) or not np.isfinite(samples_T).all():
        raise HproError(f"{path} is empty or has values that are not numbers: {cure}")
    return np.clip(samples_T, -1.0, 1.0)


# --- weights -------------------------------------------------------------------------------------


def read_safetensors(path: Path, cure: str = AGAIN, own: bool = True) -> dict[str, np.ndarray]:
    """Read the weights of a safetensors file as NumPy arrays.

    Args:
        path: of the file.
        cure: what to do about a missing or broken file.
        own: the file is this project's, and must have its checksum.

    Raises:
        HproError: missing, not a safetensors file, without a checksum, or changed since it was
            written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    with opened(path, cure) as file:
        _check_weights(path, file, cure, own)
    try:
        return load(read_bytes(path, cure))
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise HproError(f"{path} is not a safetensors file ({reason_of(error)}): {cure}") from error


def read_safetensors_torch(path: Path, cure: str = AGAIN, own: bool = True) -> "dict[str, Tensor]":
    """The same as PyTorch tensors on the CPU, mapped from the file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    with opened(path, cure) as file:
        _check_weights(path, file, cure, own)
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise HproError(f"{path} is not a safetensors file ({reason_of(error)}): {cure}") from error


def safetensors_header(path: Path, cure: str = AGAIN) -> dict[str, Any]:
    """The header of a safetensors file: what each weight is, before any of them is read.

    Returns:
        By name the `dtype`, `shape` and `data_offsets` of each weight; and `__metadata__`.

    Raises:
        HproError: the file cannot be read, has no such header, or holds other weights than the
            header says.
    """
    with opened(path, cure) as file:
        return _header(path, file, cure)


def _is_weight(entry: object, n_bytes: int) -> bool:
    """Whether an entry of a header is a weight within so many bytes."""
    match entry:
        case {"dtype": str(), "shape": [*shape], "data_offsets": [int(first), int(last)]}:
            whole = all(type(axis) is int and axis >= 0 for axis in shape)
            # The smallest types have four bits a value.
            return (
                whole and 0 <= first <= last <= n_bytes and math.prod(shape) <= 2 * (last - first)
            )
    return False


def write_safetensors(path: Path, weights: Mapping[str, np.ndarray]) -> None:
    """Write arrays as a safetensors file that has the SHA-256 of its content in its header.

    Raises:
        HproError: the file cannot be written.
    """
    from safetensors.numpy import save

    arrays = {name: np.ascontiguousarray(value) for name, value in weights.items()}
    write_safetensors_bytes(path, save(arrays))


def write_safetensors_bytes(path: Path, raw: bytes) -> None:
    """The same of a file that the library has serialised."""
    length = int.from_bytes(raw[:8], "little")
    header, content = json.loads(raw[8 : 8 + length]), memoryview(raw)[8 + length :]
    header["__metadata__"] = {CHECKSUM: hashlib.sha256(content).hexdigest()}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the content begins at a multiple of eight
    with replacing(path) as partial, partial.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        file.write(content)


def _header(path: Path, file: BinaryIO, cure: str) -> dict[str, Any]:
    """The header of an open safetensors file, which is then at the first byte of its content."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(size - 8, MAX_HEADER_BYTES):
        raise HproError(f"{path} is not a safetensors file (header of {length} bytes): {cure}")
    try:
        header = json.loads(file.read(length))
    except (ValueError, RecursionError) as error:
        raise HproError(f"{path} is not a safetensors file ({reason_of(error)}): {cure}") from error
    if not isinstance(header, dict):
        raise HproError(f"{path} is not a safetensors file (its header is no object): {cure}")
    for name, entry in header.items():
        if name != "__metadata__" and not _is_weight(entry, size - 8 - length):
            raise HproError(f"{path}: its header says of {name} what cannot be: {cure}")
    return header


def _check_weights(path: Path, file: BinaryIO, cure: str, own: bool) -> None:
    """Check the header of an open safetensors file and, in a file of ours, its checksum."""
    metadata = _header(path, file, cure).get("__metadata__")
    if not own:
        return
    expected = metadata.get(CHECKSUM) if isinstance(metadata, dict) else None
    if expected is None:
        raise HproError(f"{path} has no checksum, so this version did not write it: {cure}")
    if sha256_of_rest(file) != expected:
        raise HproError(f"{path} was changed after it was written (its checksum differs): {cure}")


def read_pt(path: Path, cure: str) -> object:
    """Read what torch.save wrote, weights and plain values only; nothing in the file runs.

    Raises:
        HproError: the file is missing or broken, holds objects that could run code, is of the
            format before PyTorch 1.6, or declares more than it holds.
    """
    import torch

    with opened(path, cure) as file:
        _check_stored(path, file, cure)
        try:
            found = torch.load(file, map_location="cpu", weights_only=True)
        except MemoryError as error:
            raise HproError(f"{path} does not fit into memory: {cure}") from error
        except Exception as error:  # the format is pickle's: any exception can come out of it
            text = reason_of(error)
            if isinstance(error, UnpicklingError):
                text = "it is broken or holds objects that could run code"
            raise HproError(f"{path} cannot be read ({text[:160]}): {cure}") from error
        _check_tensors(path, found, os.fstat(file.fileno()).st_size, cure)
    return found


def _check_tensors(path: Path, value: object, n_bytes: int, cure: str) -> None:
    """Refuse a tensor that is larger than its file: one stored value that stands for many."""
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
                    f"{path} holds a tensor of {list(part.shape)} that is not stored in full: "
                    f"{cure}"
                )


def _check_stored(path: Path, file: BinaryIO, cure: str) -> None:
    """Refuse what is no zip archive of stored members, of which none is larger than the file."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, struct.error, NotImplementedError) as error:
        raise HproError(
            f"{path} is no PyTorch file of version 1.6 or later, or is cut off "
            f"({reason_of(error)}): {cure}"
        ) from error
    size = os.fstat(file.fileno()).st_size
    if sum(entry.file_size for entry in entries) > size:
        raise HproError(f"{path} declares more than its {size} bytes: {cure}")
    file.seek(0)


def write_pt(path: Path, content: object) -> None:
    """Write by torch.save, whole or not at all."""
    import torch

    with replacing(path) as partial, partial.open("wb") as file:
        torch.save(content, file)  # of a path the name would be in the file, and the process in it


# --- writing -------------------------------------------------------------------------------------


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file whole or not at all.

    Args:
        path: of the file; its folder is made if needed.

    Yields:
        A path beside it, of this process alone. When the block ends, the file written there is
        flushed to the disk and renamed to `path`; if the block raises, it is removed and `path`
        stays as it was.

    Raises:
        HproError: the disk is full, or the folder cannot be written to.
    """
    partial = path.with_name(f".{path.name}.{_host()}-{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path)
        yield partial
        _flush(partial)
        os.replace(partial, path)
        JOURNAL.made.add(path)
        _flush(path.parent)
    except OSError as error:
        _unwritten(path, error)
    finally:
        _drop(partial)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all; see `replacing`."""
    with replacing(path) as partial:
        partial.write_bytes(content)


def write_in_place(path: Path, content: bytes) -> None:
    """Write a file that no other process reads yet, in a folder that the stage has emptied.

    Without a temporary file: of ten thousand clips each would cost a look through the folder.

    Raises:
        HproError: the file cannot be written.
    """
    try:
        path.write_bytes(content)
    except OSError as error:
        _unwritten(path, error)


def _unwritten(path: Path, error: OSError) -> NoReturn:
    folder = next(folder for folder in (path.parent, *path.parents) if folder.exists())
    try:
        free = f", {shutil.disk_usage(folder).free / 1e6:.0f} MB free"
    except OSError:
        free = ""
    raise HproError(
        f"{path} cannot be written ({reason_of(error)}{free}): make room on the disk of {folder}, "
        "or let this user write there, then run again"
    ) from error


def _remove_stale(path: Path) -> None:
    """Remove what killed processes left of earlier attempts to write this file."""
    start = f".{path.name}."
    for left in path.parent.glob(f".{_escaped(path.name)}.*.partial"):
        host, _, pid = left.name.removeprefix(start).removesuffix(".partial").rpartition("-")
        if not pid.isdigit() or (int(pid) == os.getpid() and host == _host()):
            continue
        try:
            old = time.time() - left.stat().st_mtime > _STALE_S
            if old or (host == _host() and not Path(f"/proc/{pid}").exists()):
                left.unlink(missing_ok=True)
        except OSError:
            continue  # another process removes the same file


def _escaped(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)


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


def _drop(partial: Path) -> None:
    try:
        partial.unlink(missing_ok=True)
    except OSError:
        return  # a folder that has become read-only: the error that led here is raised


# --- checksums -----------------------------------------------------------------------------------


def sha256_of(path: Path, cure: str = AGAIN) -> str:
    """SHA-256 of the content of a file, in hexadecimal digits.

    Raises:
        HproError: the file cannot be read.
    """
    with opened(path, cure) as file:
        try:
            return sha256_of_rest(file)
        except OSError as error:
            raise HproError(f"{path} cannot be read ({reason_of(error)}): {cure}") from error


def sha256_of_rest(file: BinaryIO, n_bytes: int | None = None) -> str:
    """SHA-256 of an open file from where it stands, or of the next bytes of it."""
    digest = hashlib.sha256()
    left = math.inf if n_bytes is None else n_bytes
    while left > 0 and (block := file.read(int(min(left, 2**20)))):
        digest.update(block)
        left -= len(block)
    return digest.hexdigest()


def fingerprint(*paths: Path) -> str:
    """One SHA-256 of the contents of files: what a training depends on, so that only it is resumed.

    Raises:
        HproError: a file is missing.
    """
    digest = hashlib.sha256()
    for path in paths:
        cure = "run the stage that makes it first, or mend the path of a model in the settings"
        digest.update(bytes.fromhex(sha256_of(path, cure)))
    return digest.hexdigest()


def reason_of(error: BaseException) -> str:
    """One line of an exception."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())[:200] or type(error).__name__


def _first(cure: str) -> str:
    """The cure for a file that is missing rather than broken."""
    return "run the stage that makes it first" if cure == AGAIN else cure


def write_csv_table(table: "pd.DataFrame", path: Path, float_format: str | None = None) -> None:
    """Write a table as CSV, whole or not at all."""
    with replacing(path) as partial:
        table.to_csv(partial, index=False, float_format=float_format)
