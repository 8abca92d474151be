"""Changes of what binary formats say of themselves, with the checksums of the format made anew.

Each function is a `Change`; what it cannot take apart it hands to `of_bytes`.
"""

import gzip
import hashlib
import io
import json
import os
import random
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from tests.fuzz.mutators import (
    NUMBERS,
    OUTSIDE,
    VALUES,
    Mutant,
    Others,
    of_bytes,
    of_json,
    of_text,
    of_value,
    place,
)

DATE = (2020, 1, 1, 0, 0, 0)
"""Of the members of zip archives: the same artefacts in every run."""

# --- safetensors ---------------------------------------------------------------------------------

_DTYPES = ("F64", "F32", "F16", "BF16", "I64", "I32", "I8", "U8", "BOOL", "F8_E4M3", "X9", "", 3)
_TENSOR_VALUES = (*NUMBERS, -1, 1.5, None, "1", [], {}, *_DTYPES)


def of_safetensors(content: bytes, rng: random.Random, others: Others) -> Mutant:
    """One change of the header or of the weights; our checksum fits again, four times in five."""
    if rng.random() < 0.25:
        return of_bytes(content, rng, others)
    length = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8 : 8 + length])
        weights = bytearray(content[8 + length :])
        what = _changed_safetensors(header, weights, rng)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return of_bytes(content, rng, others)
    metadata = header.get("__metadata__")
    if rng.random() < 0.8 and isinstance(metadata, dict) and "sha256" in metadata:
        metadata["sha256"] = hashlib.sha256(weights).hexdigest()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % rng.choice((8, 8, 8, 1)))
    stated = rng.choice((len(text),) * 12 + NUMBERS) % 2**64
    return stated.to_bytes(8, "little") + text + bytes(weights), what


def _changed_safetensors(header: dict, weights: bytearray, rng: random.Random) -> str:
    names = sorted(name for name in header if name != "__metadata__")
    name, kind = rng.choice(names), rng.random()
    entry = header[name]
    if kind < 0.2:
        entry["dtype"] = rng.choice(_DTYPES)
        return f"{name} is of {entry['dtype']}"
    if kind < 0.4:
        entry["shape"] = rng.choice((
            entry["shape"][::-1], [*entry["shape"], 1], entry["shape"][1:], [rng.choice(NUMBERS)],
            [2**32, 2**32], [0], [-1], None, "2", [1.5], [[2]],
        ))  # fmt: skip
        return f"{name} has the shape {str(entry['shape'])[:40]}"
    if kind < 0.55:
        entry["data_offsets"][rng.randrange(2)] = rng.choice((*NUMBERS, -1, None, "0", 0.5))
        return f"{name} lies at {entry['data_offsets']}"
    if kind < 0.65:
        new = rng.choice((f"{name}x", "", "a.b", *names, OUTSIDE, "__metadata__", "\ud800"))
        header[new] = header.pop(name)
        return f"{name} is called {new!r}"
    if kind < 0.75:
        first, last = entry["data_offsets"]
        odd = rng.choice((b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f", b"\xff\xff\x7f\x7f", bytes(4)))
        at = first + 4 * rng.randrange(max(1, (last - first) // 4))
        weights[at : at + 4] = odd
        return f"a value of {name} has the bytes {odd.hex()}"
    if kind < 0.8:
        del weights[place(rng, len(weights)) :]
        return f"{len(weights)} bytes of weights"
    changed, what = of_value(header, rng, _TENSOR_VALUES)
    header.clear()
    header.update(changed)
    return what


# --- NumPy ---------------------------------------------------------------------------------------

_DESCRIPTIONS = (
    "'<u8'", "'>u8'", "'<f8'", "'|O'", "'|V8'", "'<U9999999'", "[('a', '<u8')]", "'<M8[s]'", "None",
    "'<u8', 'x': 1", "u8", "'\ud800'", "'|S0'", "'<c16'", "('<u8', (2,))",
)  # fmt: skip
_SHAPES = (
    "()", "(8,)", "(2, 4)", "(-1,)", "(99999999999,)", "(0,)", "(8", "(8,) * 9", "[8]", "8",
    "('8',)", "(True,)", "(10**9,)", "(" * 300, "(8L,)", "(9999999999999999999999,)", "()\n  x",
    "(((",
)  # fmt: skip


def of_npy(content: bytes, rng: random.Random, others: Others) -> Mutant:
    """One change of the header of an array, or of its bytes."""
    kind = rng.random()
    found = re.match(rb"\x93NUMPY(.)(.)", content, re.DOTALL)
    if kind < 0.3 or not found:
        return of_bytes(content, rng, others)
    size = 10 + int.from_bytes(content[8:10], "little")
    header, rest = content[10:size].decode("latin-1"), content[size:]
    if kind < 0.5:
        new = rng.choice(_DESCRIPTIONS)
        header, what = re.sub(r"'descr': '[^']*'", lambda _: f"'descr': {new}", header), new
    elif kind < 0.75:
        new = rng.choice(_SHAPES)
        header, what = re.sub(r"'shape': \([^)]*\)", lambda _: f"'shape': {new}", header), new
    elif kind < 0.85:
        header, what = header.replace("False", rng.choice(("True", "None", "'x'", "1"))), "order"
    else:
        raw, what = of_text(header.encode(), rng, others)
        header = raw.decode("latin-1")
    text = header.encode("utf-8", "replace").rstrip(b" \n") + b"\n"
    version = rng.choice((b"\1\0",) * 5 + (b"\2\0", b"\3\0", b"\4\0", b"\0\0"))
    length = len(text).to_bytes(2 if version == b"\1\0" else 4, "little", signed=False)
    return b"\x93NUMPY" + version + length + text + rest, f"header: {what[:40]}"


# --- zip and tar ---------------------------------------------------------------------------------

_NAMES = (
    OUTSIDE, "/etc/x", "", "a/../../b", "x" * 300, "x" * 70000, "..", "a\\b", "a/", "caf\xe9",
    "a\x00b.TextGrid", ".TextGrid", "../.TextGrid", "a.TextGrid", "con", "\u2028.TextGrid",
)  # fmt: skip


def members_of(content: bytes) -> list[tuple[str, bytes]]:
    """Names and contents of a zip archive.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return [(each.filename, archive.read(each)) for each in archive.infolist()]
    except (
        zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError, zlib.error, struct.error,
        EOFError, KeyError,
    ) as error:  # fmt: skip
        raise ValueError(str(error)) from error


def zipped(members: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip archive with true checksums, the same bytes for the same members."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members:
            entry = zipfile.ZipInfo(name[:60000], DATE)
            entry.compress_type = method
            archive.writestr(entry, content)
    return stream.getvalue()


def of_zip(content: bytes, rng: random.Random, others: Others) -> Mutant:
    """One change of a member, of the names, or of what the directory says of them."""
    kind = rng.random()
    try:
        members = members_of(content)
    except ValueError:
        return of_bytes(content, rng, others)
    if kind < 0.15 or not members:
        return of_bytes(content, rng, others)
    if kind < 0.45:
        return _patched_directory(content, rng)
    at = rng.randrange(len(members))
    name, inner = members[at]
    what = name
    if kind < 0.7:
        change = of_text if name.endswith(("Grid", ".txt", ".csv", ".py", ".pkl")) else of_bytes
        inner, what = change(inner, rng, others)
        members[at] = (name, inner)
    elif kind < 0.85:
        members[at] = (what := rng.choice(_NAMES), inner)
    elif kind < 0.9:
        members[at] = (name, bytes(rng.choice((10**6, 40 * 10**6))))
        what = "a member of zeros"
    else:
        members = rng.choice((members[:at] + members[at + 1 :], members + members[at : at + 1], []))
        what = f"{len(members)} members"
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    with_warning = zipped(members, rng.choice(methods))
    if rng.random() < 0.2:  # a compressed stream that is broken inside
        raw, more = of_bytes(with_warning, rng, others)
        return raw, f"{what[:40]}; {more}"
    return with_warning, what[:60]


def _patched_directory(content: bytes, rng: random.Random) -> Mutant:
    """A field of a local header, of the directory or of its end, in both where both have it."""
    raw = bytearray(content)
    fields = {  # in the directory: where, bytes, and where in the local header
        "flags": (8, 2, 6), "method": (10, 2, 8), "crc": (16, 4, 14), "packed": (20, 4, 18),
        "size": (24, 4, 22), "name length": (28, 2, 26), "extra length": (30, 2, 28),
        "comment length": (32, 2, None), "disk": (34, 2, None), "offset": (42, 4, None),
    }  # fmt: skip
    if rng.random() < 0.2 and (end := raw.rfind(b"PK\5\6")) >= 0:
        at = end + rng.choice((4, 6, 8, 10, 12, 16, 20))
        value = rng.choice(NUMBERS) % 2**16
        raw[at : at + 2] = value.to_bytes(2, "little")
        return bytes(raw), f"end of the directory, byte {at - end}: {value}"
    name, (at, n, local) = rng.choice(sorted(fields.items()))
    value = rng.choice((*NUMBERS, 8, 9, 12, 14, 93, 95, 97, 99)) % 256**n
    entry = raw.find(b"PK\1\2")
    raw[entry + at : entry + at + n] = value.to_bytes(n, "little")
    if local is not None and rng.random() < 0.7:
        raw[local : local + n] = value.to_bytes(n, "little")
    return bytes(raw), f"{name} of the first member: {value}"


def of_tar(content: bytes, rng: random.Random, others: Others) -> Mutant:
    """One change inside the compression, or of a member's name, kind or size."""
    kind = rng.random()
    try:
        plain = gzip.decompress(content)
        with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
            members = [(entry, archive.extractfile(entry)) for entry in archive]
            read = [(entry, file.read() if file else b"") for entry, file in members]
    except (OSError, EOFError, zlib.error, tarfile.TarError, KeyError, ValueError):
        return of_bytes(content, rng, others)
    if kind < 0.2:
        return of_bytes(content, rng, others)
    if kind < 0.6 or not read:
        plain, what = of_bytes(plain, rng, others)
        return gzip.compress(plain, mtime=0), what
    at = rng.randrange(len(read))
    entry, inner = read[at]
    what = f"{entry.name} is "
    if kind < 0.75:
        entry.type = rng.choice(
            (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE)
        )
        entry.linkname, inner = rng.choice((OUTSIDE, "/etc/hostname", entry.name)), b""
        what += f"of the kind {entry.type!r}"
    elif kind < 0.9:
        entry.name = rng.choice(_NAMES).replace("\x00", "")[:200]
        what += f"called {entry.name[:30]!r}"
    else:
        inner, more = of_bytes(inner, rng, others)
        what += more
    read[at] = (entry, inner)
    return tarred(read), what


def tarred(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """A gzipped tar archive, the same bytes for the same members."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for entry, inner in members:
            entry.size = len(inner) if entry.isreg() else 0
            archive.addfile(entry, io.BytesIO(inner) if entry.isreg() else None)
    return gzip.compress(stream.getvalue(), mtime=0)


# --- PyTorch -------------------------------------------------------------------------------------


class Runs:
    """What would leave a file if the unpickler called what it names."""

    def __reduce__(self) -> tuple:
        return os.system, ("touch ran_from_a_file",)


def _tensors() -> tuple[Any, ...]:
    return (
        torch.zeros(0), torch.tensor(1.0), torch.full((3,), float("nan")), torch.zeros(2, 3),
        torch.zeros(4, dtype=torch.int64), torch.zeros(4, dtype=torch.bool),
        torch.zeros(4, dtype=torch.complex64), torch.zeros(1).expand(2**31),
        torch.zeros(2, 2).to_sparse(), torch.zeros(3, dtype=torch.bfloat16), (1, 2), {1, 2},
    )  # fmt: skip


def of_pt(content: bytes, rng: random.Random, others: Others) -> Mutant:
    """One change of the values in a PyTorch file, of its pickle, or of the archive around it."""
    kind = rng.random()
    if kind < 0.1:
        return of_bytes(content, rng, others)
    if kind < 0.25:
        return of_zip(content, rng, others)
    if kind < 0.4:
        return _patched_pickle(content, rng, others)
    if kind < 0.45:
        return _saved({"model": Runs(), "step": Runs()}), "objects that run a command"
    try:
        root = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception:  # whatever a pickle that was changed before can do
        return of_bytes(content, rng, others)
    root = _plain(root)
    if kind < 0.5:
        return _saved(root, _use_new_zipfile_serialization=False), "of the format before 1.6"
    root, what = of_value(root, rng, (*VALUES, *_tensors()))
    try:
        return _saved(root), what
    except (RuntimeError, ValueError, TypeError, UnicodeError):
        return of_bytes(content, rng, others)


def _saved(value: object, **how: bool) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, **how)
    return stream.getvalue()


def _plain(value: Any) -> Any:
    """Ordered dicts as dicts, tuples as lists: what `of_value` changes."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _patched_pickle(content: bytes, rng: random.Random, others: Others) -> Mutant:
    try:
        members = members_of(content)
    except ValueError:
        return of_bytes(content, rng, others)
    at = next((i for i, (name, _) in enumerate(members) if name.endswith("data.pkl")), 0)
    if not members:
        return of_bytes(content, rng, others)
    name, pickle = members[at]
    if rng.random() < 0.4:
        old, new = rng.choice((
            (b"FloatStorage", b"HalfStorage"), (b"FloatStorage", b"NoStorage"), (b"cpu", b"cuda:9"),
            (b"_rebuild_tensor_v2", b"_rebuild_parameter"), (b"torch._utils", b"os"),
            (b"collections", b"builtins"), (b"OrderedDict", b"eval"), (b"storage", b"x"),
        ))  # fmt: skip
        pickle, what = pickle.replace(old, new), f"{old!r} is {new!r}"
    else:
        pickle, what = of_bytes(pickle, rng, others)
    members[at] = (name, pickle)
    return zipped(members), f"pickle: {what}"


# --- Parquet and Arrow ---------------------------------------------------------------------------

_TYPES = (
    pa.string(), pa.large_string(), pa.binary(), pa.int8(), pa.int64(), pa.uint64(), pa.float32(),
    pa.float64(), pa.bool_(), pa.null(), pa.date32(), pa.timestamp("ns"), pa.decimal128(5, 2),
    pa.list_(pa.int32()), pa.list_(pa.string()), pa.list_(pa.list_(pa.float32())),
    pa.struct({"a": pa.int8()}), pa.map_(pa.string(), pa.int8()),
    pa.dictionary(pa.int8(), pa.string()),
)  # fmt: skip
_CELLS: dict[str, tuple[Any, ...]] = {
    "string": ("", "a", "../x", OUTSIDE, "a" * 400, "a\x00b", "\u2019", "a\nb", "\x1b[31m", None),
    "int": (-1, 0, 2**15, 2**31, 2**62, None),
    "float": (float("nan"), float("inf"), -1.0, 1e308, 5e-324, None),
    "list": ([], None, [0], [-1], [6561], [30000], [1, 2, 3] * 700),
    "bool": (True, False, None),
}


def of_parquet(content: bytes, rng: random.Random, others: Others) -> Mutant:
    """One change of a table and how it is written, of its footer, or of a page without checksum."""
    kind = rng.random()
    if kind < 0.1:
        return of_bytes(content, rng, others)
    if kind < 0.3:
        return _patched_footer(content, rng, others)
    try:
        table = pq.read_table(io.BytesIO(content))
        if kind < 0.45:
            return _patched_page(_parquet(table, write_page_checksum=False), rng, others)
        table, what = of_table(table, rng)
        how = rng.choice((
            {}, {"compression": "none"}, {"compression": "zstd"}, {"compression": "gzip"},
            {"version": "1.0"}, {"row_group_size": 1}, {"use_dictionary": False},
            {"data_page_version": "2.0"}, {"store_schema": False}, {"write_statistics": False},
        ))  # fmt: skip
        return _parquet(table, **{"write_page_checksum": rng.random() < 0.5, **how}), what
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError, NotImplementedError):
        return of_bytes(content, rng, others)


def _parquet(table: pa.Table, **how: Any) -> bytes:
    stream = io.BytesIO()
    pq.write_table(table, stream, **how)
    return stream.getvalue()


def _patched_footer(content: bytes, rng: random.Random, others: Others) -> Mutant:
    """The footer, which has no checksum, with its true length behind it; or another length."""
    if len(content) < 12:
        return of_bytes(content, rng, others)
    size = int.from_bytes(content[-8:-4], "little")
    start = max(4, len(content) - 8 - size)
    if rng.random() < 0.15:
        value = rng.choice(NUMBERS) % 2**32
        return content[:-8] + value.to_bytes(4, "little") + content[-4:], f"footer of {value} bytes"
    footer, what = of_bytes(content[start:-8], rng, others)
    made = content[:start] + footer + len(footer).to_bytes(4, "little") + content[-4:]
    return made, f"footer: {what}"


def _patched_page(content: bytes, rng: random.Random, others: Others) -> Mutant:
    """Bytes of the pages, which keep their size."""
    end = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    raw, n = bytearray(content), rng.choice((1, 1, 2, 8))
    for _ in range(n):
        raw[4 + rng.randrange(max(1, end - 4))] ^= 1 << rng.randrange(8)
    return bytes(raw), f"{n} bits of the pages flipped"


def of_table(table: pa.Table, rng: random.Random) -> tuple[pa.Table, str]:
    """One change of a column, a cell, the rows or the metadata of a table."""
    if not table.num_columns:
        return table, "nothing: it has no columns"
    at, kind = rng.randrange(table.num_columns), rng.random()
    name = table.column_names[at]
    if kind < 0.4 and table.num_rows:
        return _changed_cell(table, at, rng)
    if kind < 0.55:
        return _changed_type(table, at, rng)
    if kind < 0.63:
        return table.remove_column(at), f"without the column {name}"
    if kind < 0.7:
        new = rng.choice((f"{name}s", "", table.column_names[0], " utt_id", "a\nb"))
        names = [new if i == at else old for i, old in enumerate(table.column_names)]
        return table.rename_columns(names), f"column {name} is called {new!r}"
    if kind < 0.85:
        return rng.choice((
            (table.slice(0, 0), "no rows"),
            (pa.concat_tables([table, table.slice(0, 1)]), "the first row twice"),
            (table.slice(1), "without the first row"),
            (table.take(pa.array(range(table.num_rows))[::-1]), "rows in the other order"),
            (table.append_column("unknown", table.column(0)), "one column more"),
        ))  # fmt: skip
    return _changed_metadata(table, rng)


def _changed_cell(table: pa.Table, at: int, rng: random.Random) -> tuple[pa.Table, str]:
    field, row = table.schema.field(at), rng.randrange(table.num_rows)
    kinds = (
        ("string", pa.types.is_string), ("string", pa.types.is_large_string),
        ("int", pa.types.is_integer), ("float", pa.types.is_floating), ("list", pa.types.is_list),
        ("bool", pa.types.is_boolean),
    )  # fmt: skip
    kind = next((name for name, fits in kinds if fits(field.type)), None)
    if kind is None:
        return table.remove_column(at), f"without the column {field.name}"
    values = table.column(at).to_pylist()
    values[row] = rng.choice((*_CELLS[kind], values[rng.randrange(len(values))]))
    column = pa.array(values, field.type, from_pandas=False)
    what = f"{field.name} of row {row} is {str(values[row])[:30]!r}"
    return table.set_column(at, field, column), what


def _changed_type(table: pa.Table, at: int, rng: random.Random) -> tuple[pa.Table, str]:
    name, kind = table.column_names[at], rng.choice(_TYPES)
    try:
        column = table.column(at).cast(kind)
    except (pa.ArrowException, NotImplementedError):
        column = pa.nulls(table.num_rows, kind)
    return table.set_column(at, name, column), f"column {name} of {kind}"


def _changed_metadata(table: pa.Table, rng: random.Random) -> tuple[pa.Table, str]:
    """What pandas and this project keep beside a table's columns."""
    metadata = dict(table.schema.metadata or {})
    if not metadata or rng.random() < 0.2:
        return table.replace_schema_metadata(
            {"pandas": "{"} if rng.random() < 0.5 else None
        ), "metadata"
    key = rng.choice(sorted(metadata))
    change: Callable = of_json if metadata[key][:1] == b"{" else of_bytes
    metadata[key], what = change(metadata[key], rng, [b""])
    return table.replace_schema_metadata(metadata), f"metadata {key.decode()}: {what}"


_SUM = re.compile(rb"(\d{2,12}) ([0-9a-f]{64})")


def of_arrow(content: bytes, rng: random.Random, others: Others) -> Mutant:
    """One change of the record batches of a dataset; its checksum fits again, mostly."""
    kind = rng.random()
    if kind < 0.2:
        return of_bytes(content, rng, others)
    if kind < 0.6:
        raw, what = of_bytes(content, rng, others)
        return (_summed(raw) if rng.random() < 0.8 else raw), what
    try:
        return _changed_batches(content, rng)
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError, NotImplementedError):
        return of_bytes(content, rng, others)


def _summed(content: bytes) -> bytes:
    found = _SUM.search(content)
    if found is None:
        return content
    digest = hashlib.sha256(content[: int(found[1])]).hexdigest().encode()
    return content[: found.start(2)] + digest + content[found.end(2) :]


def _changed_batches(content: bytes, rng: random.Random) -> Mutant:
    file = pa.ipc.open_file(io.BytesIO(content))
    *batches, (_, metadata) = [
        file.get_batch_with_custom_metadata(i) for i in range(file.num_record_batches)
    ]
    table = pa.Table.from_batches([batch for batch, _ in batches], file.schema)
    extra = {bytes(key): bytes(value) for key, value in dict(metadata).items()}
    if rng.random() < 0.3:
        key = rng.choice(sorted(extra))
        extra[key], what = (of_json if extra[key][:1] == b"{" else of_bytes)(extra[key], rng, [b""])
        what = f"{key.decode()}: {what}"
    else:
        table, what = of_table(table, rng)
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as made:
        for batch in table.combine_chunks().to_batches(max_chunksize=1024):
            made.write_batch(batch)
        if b"hpro.sha256" in extra and rng.random() < 0.9:
            digest = hashlib.sha256(sink.getvalue()).hexdigest()
            extra[b"hpro.sha256"] = f"{len(sink.getvalue())} {digest}".encode()
        made.write_batch(pa.RecordBatch.from_pylist([], table.schema), extra)
    return sink.getvalue(), what


def resealed(folder: Path, path: Path, old: bytes, new: bytes) -> str:
    """Put the new SHA-256 of a file for the old one in the lists of its folder.

    Returns:
        What was done, for the description; empty if no list names the file.
    """
    before, after = (hashlib.sha256(content).hexdigest().encode() for content in (old, new))
    done = []
    for listed in sorted(folder.rglob("*")):
        if listed.suffix in (".json", ".sha256", "") and listed.is_file() and listed != path:
            content = listed.read_bytes()
            if before in content:
                listed.write_bytes(content.replace(before, after))
                done.append(listed.name)
    return f"; {', '.join(done)} with its new SHA-256" if done else ""
