"""Changes of bytes, of text, and of values as JSON and YAML hold them.

A change takes the content of a file, the random numbers of its mutant and the files that it may
splice in. It gives the new content, and words that say what was done. It never fails: where a file
is no longer what a change needs, bytes are changed.
"""

import copy
import csv
import io
import json
import random
import re
from collections.abc import Callable, Sequence
from typing import Any

import yaml

Mutant = tuple[bytes, str]
Others = Sequence[bytes]
Change = Callable[[bytes, random.Random, Others], Mutant]

NUMBERS = (
    *(0, 1, 2, 3, 16, 127, 128, 255, 256, 4096, 32767, 32768, 65535, 65536, 2**24),
    *(2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53, 2**63 - 1, 2**64 - 1),
)
"""Where counters and signs turn over."""

OUTSIDE = "../../outside/kept.txt"
"""A file outside of what a reader may touch; the worker watches it."""

WORDS = (
    *("", " ", "0", "-1", "1e400", "1e-400", "NaN", "inf", "-inf", "null", "true", "~", "9" * 400),
    *("0x10", "010", "1_000", "1,5", "\u0661", "2024-13-45", "[", "{", '"', "'", "a" * 5000),
    *("/etc/hostname", "/dev/zero", "..", "../..", OUTSIDE, "~/x", "$(touch x)", "a/b", "con:"),
    *("\u2019", "\u0441\u0430t", "\u200b", "e\u0301", "\U0001d407", "a\x00b", "a\x1b[31mb"),
    *("a\x7f", "a\u2028b", "a\x85b", "a\nb", "a\r\nb", "a\tb", "\ufeff", "*a", "&a"),
    "!!python/name:os.system",
)  # fmt: skip

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 3, 64, 10**6, 2**31, 2**63, 2**64, 10**30, -(10**12)),
    *(0.0, -0.5, 0.5, 1e-320, 1e308, float("nan"), float("inf"), float("-inf")),
    *("", "a", "0", "a.b", "\ud800", "a\x00b", "a\nb", OUTSIDE, "x" * 3000, "\u2028"),
    *([], {}, [[]], [None], [1, 2], ["a"], [["a"]], [1e999], {"a": 1}, {"": {}}, [0] * 3000),
)  # fmt: skip


def place(rng: random.Random, size: int) -> int:
    """A position in so many bytes; every second one in the first 200, where headers are."""
    if size < 2:
        return 0
    part = rng.random()
    if part < 0.5:
        return rng.randrange(min(size, 200))
    return size - 1 - rng.randrange(min(size, 200)) if part < 0.65 else rng.randrange(size)


# --- bytes ---------------------------------------------------------------------------------------


def _flip(content: bytes, rng: random.Random, others: Others) -> Mutant:
    raw, n = bytearray(content), rng.choice((1, 1, 1, 2, 8, 64))
    places = [place(rng, len(raw)) for _ in range(n)]
    for at in places:
        raw[at] ^= 1 << rng.randrange(8)
    return bytes(raw), f"{n} bits flipped, the first in byte {places[0]}"


def _set(content: bytes, rng: random.Random, others: Others) -> Mutant:
    raw, at, value = (
        bytearray(content),
        place(rng, len(content)),
        rng.choice((0, 255, 127, 128, 32)),
    )
    n = rng.choice((1, 1, 2, 4, 16))
    raw[at : at + n] = bytes([value]) * len(raw[at : at + n])
    return bytes(raw), f"{n} bytes from {at} set to {value}"


def _number(content: bytes, rng: random.Random, others: Others) -> Mutant:
    """Write an integer of some size and byte order over what is there, or add to it."""
    raw, at, n = bytearray(content), place(rng, len(content)), rng.choice((1, 2, 4, 8))
    order = rng.choice(("little", "big"))
    there = int.from_bytes(raw[at : at + n], order)
    value = rng.choice((*NUMBERS, there + 1, there - 1, there * 2)) % 256**n
    raw[at : at + n] = value.to_bytes(n, order)[: len(raw) - at]
    return bytes(raw), f"{n} bytes from {at} are {value} ({order})"


def _cut(content: bytes, rng: random.Random, others: Others) -> Mutant:
    at = rng.choice((0, place(rng, len(content)), len(content) // 2, max(0, len(content) - 1)))
    return content[:at], f"cut off after {at} bytes of {len(content)}"


def _behead(content: bytes, rng: random.Random, others: Others) -> Mutant:
    at = rng.choice((1, 2, 4, place(rng, len(content))))
    return content[at:], f"without the first {at} bytes"


def _insert(content: bytes, rng: random.Random, others: Others) -> Mutant:
    at, n = place(rng, len(content)), rng.choice((1, 2, 4, 100, 5000))
    more = rng.choice((rng.randbytes(n), bytes(n), b"\xff" * n))
    return content[:at] + more + content[at:], f"{n} bytes inserted at {at}"


def _remove(content: bytes, rng: random.Random, others: Others) -> Mutant:
    at, n = place(rng, len(content)), rng.choice((1, 2, 4, 100))
    return content[:at] + content[at + n :], f"{n} bytes removed at {at}"


def _repeat(content: bytes, rng: random.Random, others: Others) -> Mutant:
    at, n = place(rng, len(content)), rng.choice((4, 64, 1000))
    times = rng.choice((1, 1, 2, 50))
    block = content[at : at + n]
    return content[:at] + block * times + content[at:], f"{len(block)} bytes at {at} {times} times"


def _swap(content: bytes, rng: random.Random, others: Others) -> Mutant:
    n = rng.choice((2, 8, 64))
    one, two = sorted((place(rng, len(content)), place(rng, len(content))))
    two = max(two, one + n)
    a, b = content[one : one + n], content[two : two + n]
    made = content[:one] + b + content[one + n : two] + a + content[two + n :]
    return made, f"blocks of {n} bytes at {one} and {two} swapped"


def _splice(content: bytes, rng: random.Random, others: Others) -> Mutant:
    other = rng.choice(others)
    if rng.random() < 0.3:
        return other, f"another artefact of {len(other)} bytes"
    at, start = place(rng, len(content)), place(rng, len(other))
    n = rng.choice((16, 200, 10**6))
    return content[:at] + other[start : start + n], f"from byte {at} on another artefact"


def _append(content: bytes, rng: random.Random, others: Others) -> Mutant:
    more = rng.choice((b"\0", b"\n", content[:1000], rng.randbytes(64), bytes(4096)))
    return content + more, f"{len(more)} bytes after the end"


_OF_BYTES: tuple[Change, ...] = (
    *(_flip, _flip, _set, _number, _number, _cut, _cut, _behead, _insert, _remove, _repeat, _swap),
    *(_splice, _append),
)


def of_bytes(content: bytes, rng: random.Random, others: Others) -> Mutant:
    """One change of bytes, whatever they mean."""
    if not content:
        return rng.randbytes(rng.choice((1, 4, 100))), "bytes where there were none"
    return rng.choice(_OF_BYTES)(content, rng, others)


# --- text ----------------------------------------------------------------------------------------

_WORD = re.compile(r"[^\s,;:=|\"'\[\]{}<>]+")
_SIGNS = (
    *("\0", "\r", "\n", "\t", " ", '"', "'", ",", ":", "#", "\\", "[", "{", "-", "\x1b", "\u2028"),
    *("\udcff", "\udced\udca0\udc80", "\ufeff", "\u2019", "\u0441", "\u200b", "%", "\x0c", "\x85"),
)
_ENCODINGS = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig", "latin-1", "cp1252")


def _text_word(text: str, rng: random.Random) -> tuple[str, str]:
    found = list(_WORD.finditer(text))
    if not found:
        return text + "a", "a letter added"
    word = rng.choice(found)
    new = rng.choice((*WORDS, rng.choice(found)[0]))
    where = f"line {text[: word.start()].count(chr(10)) + 1}: {word[0][:30]!r}"
    return text[: word.start()] + new + text[word.end() :], f"{where} is {new[:30]!r}"


def _text_sign(text: str, rng: random.Random) -> tuple[str, str]:
    at, sign = place(rng, len(text)), rng.choice(_SIGNS)
    if rng.random() < 0.3:
        return text[:at] + text[at + 1 :], f"sign {at} removed"
    return text[:at] + sign + text[at:], f"{sign!r} at sign {at}"


def _text_lines(text: str, rng: random.Random) -> tuple[str, str]:
    lines = text.splitlines(keepends=True) or [""]
    one, two = rng.randrange(len(lines)), rng.randrange(len(lines))
    what = rng.choice(("removed", "twice", "swapped", "many times", "joined", "blank"))
    if what == "removed":
        del lines[one]
    elif what == "twice":
        lines.insert(two, lines[one])
    elif what == "swapped":
        lines[one], lines[two] = lines[two], lines[one]
    elif what == "many times":
        lines[one] = lines[one] * 3000
    elif what == "joined":
        lines[one] = lines[one].rstrip("\r\n")
    else:
        lines[one] = rng.choice(("\n", "   \n", "\r\n", "\t\t\n"))
    return "".join(lines), f"line {one + 1} {what}"


def of_text(content: bytes, rng: random.Random, others: Others) -> Mutant:
    """One change of a text: a word, a sign, a line or its encoding."""
    text = content.decode("utf-8", "surrogateescape")
    kind = rng.random()
    if kind < 0.4:
        text, what = _text_word(text, rng)
    elif kind < 0.6:
        text, what = _text_sign(text, rng)
    elif kind < 0.8:
        text, what = _text_lines(text, rng)
    elif kind < 0.9:
        encoding = rng.choice(_ENCODINGS)
        accent = rng.choice(("", "", "\xe9"))
        return (accent + text).encode(encoding, "replace"), f"in {encoding}"
    elif kind < 0.93:
        text, what = (
            text.replace("\n", rng.choice(("\r\n", "\r", "\u2028", " "))),
            "other line ends",
        )
    else:
        return of_bytes(content, rng, others)
    return text.encode("utf-8", "surrogateescape"), what


# --- values --------------------------------------------------------------------------------------


def of_value(root: Any, rng: random.Random, values: Sequence[Any] = VALUES) -> tuple[Any, str]:
    """One change of a value of dicts and lists; the argument is left alone.

    Args:
        root: the value.
        rng: random numbers.
        values: what to put in, such as values of the wrong type.
    """
    root = copy.deepcopy(root)
    slot = _slot(root, rng)
    if slot is None or rng.random() < 0.03:
        new = copy.deepcopy(rng.choice(values))
        return new, f"all of it is {_short(new)}"
    box, key, name = slot
    kind = rng.random()
    if kind < 0.5:
        new = rng.choice(values)
        box[key] = copy.deepcopy(new)
        return root, f"{name} is {_short(new)}"
    if kind < 0.6:
        del box[key]
        return root, f"{name} is missing"
    if kind < 0.75:
        return root, _changed_key(box, key, name, rng)
    if kind < 0.9:
        other_box, other_key, other_name = _slot(root, rng) or slot
        box[key] = copy.deepcopy(other_box[other_key])
        return root, f"{name} is that of {other_name}"
    return root, _near(box, key, name, rng)


def _slot(root: Any, rng: random.Random) -> tuple[Any, Any, str] | None:
    """A place in a value: what holds it, under which key, and its dotted name; None without one.

    Each step into it is as likely as staying, so that many weights do not hide a few sizes.
    """
    if not isinstance(root, dict | list) or not root:
        return None
    box, key, name = root, *_step(root, "", rng)
    while rng.random() < 0.6 and isinstance(box[key], dict | list) and box[key]:
        box, (key, name) = box[key], _step(box[key], name, rng)
    return box, key, name


def _step(box: Any, name: str, rng: random.Random) -> tuple[Any, str]:
    key = rng.choice(list(box)) if isinstance(box, dict) else rng.randrange(len(box))
    return key, f"{name}.{key}" if name else str(key)


def _changed_key(box: Any, key: Any, name: str, rng: random.Random) -> str:
    if isinstance(box, list):
        box.insert(key, copy.deepcopy(box[key]))
        return f"{name} stands twice"
    new = rng.choice(("unknown", "", str(key).upper(), f"{key}s", f" {key}", OUTSIDE, "a\x00", "1"))
    if rng.random() < 0.5:
        box[new] = copy.deepcopy(box[key])
        return f"{new!r} beside {name}"
    box[new] = box.pop(key)
    return f"{name} is called {new!r}"


def _near(box: Any, key: Any, name: str, rng: random.Random) -> str:
    """A value of the same type, or nearly."""
    old = box[key]
    if isinstance(old, bool) or old is None:
        new: Any = int(bool(old))
    elif isinstance(old, int):
        new = rng.choice((old + 1, -old, old * 1000, float(old), str(old), old**4))
    elif isinstance(old, float):
        new = rng.choice((-old, old * 1e6, 1 - old, str(old), round(old) if abs(old) < 1e9 else 0))
    elif isinstance(old, str):
        new = rng.choice((old + "x", old[:-1], old.upper(), f" {old}", [old], old * 50))
    elif isinstance(old, list):
        new = rng.choice((old[:-1], old + old, [old], dict(enumerate(old[:5]))))
    elif isinstance(old, dict):
        new = rng.choice(([old], str(old), list(old), {**old, "a": 1}))
    else:
        new = rng.choice(([old], str(old)))
    box[key] = new
    return f"{name} is {_short(new)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 40 else f"{text[:30]}.. of type {type(value).__name__}"


def nested(depth: int) -> str:
    """Lists in lists, as JSON and YAML write them."""
    return "[" * depth + "]" * depth


# --- JSON, YAML, CSV -----------------------------------------------------------------------------


def of_json(content: bytes, rng: random.Random, others: Others) -> Mutant:
    """One change of the values of a JSON file, or of its text."""
    kind = rng.random()
    if kind < 0.15:
        return of_text(content, rng, others)
    try:
        root = json.loads(content)
    except (ValueError, RecursionError):
        return of_text(content, rng, others)
    if kind < 0.2:
        text = json.dumps(root).replace(
            '": ', '": ' + nested(rng.choice((50, 5000, 200_000))) + ", ", 1
        )
        return text.encode(), "deeply nested"
    if kind < 0.25 and isinstance(root, dict) and root:
        key = rng.choice(list(root))
        more = json.dumps({key: rng.choice(VALUES)})
        return (json.dumps(root)[:-1] + ", " + more[1:]).encode(), f"key {key!r} twice"
    root, what = of_value(root, rng)
    return json.dumps(root, ensure_ascii=rng.random() < 0.7).encode("utf-8", "surrogatepass"), what


def of_json_lines(content: bytes, rng: random.Random, others: Others) -> Mutant:
    """One change of a line that is JSON, or of the text."""
    lines = content.split(b"\n")
    at = rng.randrange(len(lines))
    if rng.random() < 0.3 or not lines[at].strip():
        return of_text(content, rng, others)
    lines[at], what = of_json(lines[at], rng, others)
    return b"\n".join(lines), f"line {at + 1}: {what}"


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "\n".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)
)
"""A few lines that stand for 10^9 values."""

_YAML = (
    "a: &a [*a]", "? [1, 2]\n: x", "<<: *none", "a: !!timestamp x", "a: !!float ''", "a: !!bool x",
    "a: !!binary x", "a: !!set {b}", "a: !!omap [b: 1]", "a: !!pairs [1]", "a: !!int ''",
    "a: !!python/object/apply:os.system ['touch x']", "run: |\n  a\n b", "a: 'b", "\ta: 1",
    "a: 010", "a: 1\na: 2", "%YAML 9.9\n---", "--- \na: 1\n--- \nb: 2", "a: {b: [c, }", "a: !x y",
    "a: 1:30:00", "!!str a: 1", "null: 1", "1: 2", "a: !!null x", "? |\n  a\n: b", "a: !!map [1]",
    "a: !!seq {b: 1}", "a: &x {b: 1}\nc: {<<: [*x, *x]}", "a: &x {<<: *x}", "a: .5e400",
    "a: \"\\ud800\"", "a: \"\\x00\"", "a: 0x", "a: 0o", "a: +.inf", BOMB, "a: 12e03",
    "a: ! b", "@a: 1", "`: 1", "a: 2024-01-01", "yes: no",
)  # fmt: skip


def of_yaml(content: bytes, rng: random.Random, others: Others) -> Mutant:
    """One change of the values of a YAML file, or of its text."""
    kind = rng.random()
    if kind < 0.3:
        return of_text(content, rng, others)
    if kind < 0.45:
        more = rng.choice(_YAML)
        made = content + more.encode() if rng.random() < 0.5 else more.encode() + b"\n" + content
        return made, f"with {more!r}"
    try:
        root = yaml.safe_load(content)
    except (yaml.YAMLError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return of_text(content, rng, others)
    if kind < 0.48:
        return b"a: " + nested(rng.choice((50, 3000))).encode() + b"\n" + content, "deeply nested"
    root, what = of_value(root, rng)
    try:
        return yaml.safe_dump(root, sort_keys=False).encode("utf-8", "surrogatepass"), what
    except (yaml.YAMLError, RecursionError):
        return of_text(content, rng, others)


def of_csv(content: bytes, rng: random.Random, others: Others) -> Mutant:
    """One change of a cell, a row or a column of a CSV file, or of its text."""
    if rng.random() < 0.25:
        return of_text(content, rng, others)
    text = content.decode("utf-8", "replace")
    delimiter = "\t" if "\t" in text.partition("\n")[0] else ","
    rows = list(csv.reader(io.StringIO(text), delimiter=delimiter))
    if not rows or not rows[0]:
        return of_text(content, rng, others)
    what = _of_rows(rows, rng)
    stream = io.StringIO()
    csv.writer(stream, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return stream.getvalue().encode("utf-8", "surrogatepass"), what


def _of_rows(rows: list[list[str]], rng: random.Random) -> str:
    at, column = rng.randrange(len(rows)), rng.randrange(len(rows[0]))
    name, kind = rows[0][column], rng.random()
    if kind < 0.5:
        at = rng.randrange(1, len(rows)) if len(rows) > 1 else 0
        if column < len(rows[at]):
            other = rng.choice(rows)
            rows[at][column] = rng.choice(
                (*WORDS, other[min(column, len(other) - 1)] if other else "")
            )
            return f"row {at + 1}, {name}: {rows[at][column][:30]!r}"
    if kind < 0.6:
        rows[0][column] = rng.choice(("", f" {name}", f"{name}s", name.upper(), rows[0][0], *WORDS))
        return f"column {name} is called {rows[0][column][:30]!r}"
    if kind < 0.7:
        for row in rows:
            del row[column : column + 1]
        return f"without the column {name}"
    if kind < 0.8:
        rows[at] = rng.choice((rows[at][:-1], [*rows[at], "x"], [], [""]))
        return f"row {at + 1} has {len(rows[at])} cells"
    if kind < 0.9:
        rows.insert(at, list(rows[rng.randrange(len(rows))]))
        return f"a row twice, at {at + 1}"
    del rows[rng.choice((0, 1)) :]
    return f"only {len(rows)} rows are left"
