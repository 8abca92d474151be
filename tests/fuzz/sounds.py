"""Changes of what audio files say of themselves: RIFF chunks, FLAC, ID3, MPEG and Ogg headers."""

import io
import random
import struct

import numpy as np
import soundfile

from tests.fuzz.mutators import NUMBERS, Mutant, Others, of_bytes, place

_FORMATS = (0, 1, 2, 3, 6, 7, 0x11, 0x31, 0x50, 0x55, 0x161, 0xFFFE, 0xFFFF)
_RATES = (0, 1, 2, 7999, 16000, 48000, 192000, 2**20 - 1, 2**31 - 1, 2**32 - 1)
_CHANNELS = (0, 1, 2, 3, 8, 255, 1024, 65535)
_BITS = (0, 1, 7, 8, 12, 16, 20, 24, 32, 64, 255, 65535)
_CHUNKS = (
    b"LIST",
    b"fact",
    b"data",
    b"fmt ",
    b"id3 ",
    b"bext",
    b"cue ",
    b"smpl",
    b"JUNK",
    b"\0\0\0\0",
)

CONTAINERS = (
    "AIFF", "AU", "W64", "RF64", "CAF", "NIST", "SVX", "VOC", "PAF", "WVE", "IRCAM", "MAT4", "MAT5",
    "HTK", "SDS", "AVR", "MPC2K", "XI", "PVF", "WAVEX",
)  # fmt: skip
"""What libsndfile knows a file by, whatever its name ends in."""


def of_wav(content: bytes, rng: random.Random, others: Others) -> Mutant:
    """One change of a chunk of a WAV file, of its order, or another container."""
    kind = rng.random()
    if kind < 0.15:
        return of_bytes(content, rng, others)
    if kind < 0.3:
        return _other_container(rng, others)
    if content[:4] != b"RIFF":
        return of_bytes(content, rng, others)
    chunks = _chunks(content)
    if kind < 0.38:
        return _changed_samples(content, rng)
    if kind < 0.6:
        return _changed_format(content, chunks, rng)
    if kind < 0.8:
        return _changed_size(content, chunks, rng)
    return _changed_order(content, chunks, rng)


def _chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 12
    while at + 8 <= len(content) and len(found) < 50:
        name, size = struct.unpack_from("<4sI", content, at)
        found.append((name, content[at + 8 : at + 8 + size]))
        at += 8 + size + size % 2
    return found


def _changed_samples(content: bytes, rng: random.Random) -> Mutant:
    """Silence, full scale, or what is no number as 32-bit float; or few samples."""
    at = content.find(b"data") + 8
    if at < 8:
        return content[:12], "no data"
    value = rng.choice((bytes(4), b"\xff\x7f\xff\x7f", b"\0\0\xc0\x7f", b"\0\0\x80\x7f"))
    if rng.random() < 0.6:
        n = len(content) - at
        return content[:at] + (value * (n // 4 + 1))[:n], f"all samples {value.hex()}"
    body = content[12 : at - 4]
    n = rng.choice((0, 0, 4, 40, 400))
    rest = n.to_bytes(4, "little") + content[at : at + n]
    size = (4 + len(body) + len(rest)).to_bytes(4, "little")
    return b"RIFF" + size + b"WAVE" + body + rest, f"{n} bytes of samples"


def _changed_format(
    content: bytes, chunks: list[tuple[bytes, bytes]], rng: random.Random
) -> Mutant:
    at = content.find(b"fmt ") + 8
    fields = {
        "format": (0, "<H", _FORMATS), "channels": (2, "<H", _CHANNELS), "rate": (4, "<I", _RATES),
        "bytes a second": (8, "<I", NUMBERS), "block": (12, "<H", (0, 1, 2, 3, 7, 65535)),
        "bits": (14, "<H", _BITS),
    }  # fmt: skip
    raw, said = bytearray(content), []
    for name in rng.sample(sorted(fields), rng.choice((1, 1, 2))):
        offset, form, values = fields[name]
        value = rng.choice(values) % (2**16 if form == "<H" else 2**32)
        struct.pack_into(form, raw, at + offset, value)
        said.append(f"{name} {value}")
    return bytes(raw), ", ".join(said)


def _changed_size(content: bytes, chunks: list[tuple[bytes, bytes]], rng: random.Random) -> Mutant:
    name = rng.choice([b"RIFF", *(each for each, _ in chunks)])
    at = content.find(name) + 4
    there = int.from_bytes(content[at : at + 4], "little")
    value = rng.choice((0, 1, there + 1, there - 1, there + 44, there * 2, 2**31, 2**32 - 1))
    made = content[:at] + (value % 2**32).to_bytes(4, "little") + content[at + 4 :]
    return made, f"{name.decode('latin-1')} of {value} bytes, not {there}"


def _changed_order(content: bytes, chunks: list[tuple[bytes, bytes]], rng: random.Random) -> Mutant:
    what = rng.choice(("shuffled", "one more", "one less", "tag before", "big-endian"))
    if what == "shuffled":
        rng.shuffle(chunks)
    elif what == "one more":
        more = (rng.choice(_CHUNKS), rng.randbytes(rng.choice((0, 1, 7, 4000))))
        chunks.insert(rng.randrange(len(chunks) + 1), more)
    elif what == "one less" and chunks:
        del chunks[rng.randrange(len(chunks))]
    elif what == "tag before":
        return id3(rng) + content, "ID3 tag before RIFF"
    elif what == "big-endian":
        return b"RIFX" + content[4:], "RIFX"
    body = b"".join(
        name + struct.pack("<I", len(inner)) + inner + bytes(len(inner) % 2)
        for name, inner in chunks
    )
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body, f"chunks: {what}"


def _other_container(rng: random.Random, others: Others) -> Mutant:
    name = rng.choice(CONTAINERS)
    stream = io.BytesIO()
    samples = 0.3 * np.sin(np.arange(4000) / 10)
    try:
        soundfile.write(stream, samples, 16_000, format=name)
    except (soundfile.SoundFileError, ValueError, TypeError):
        return rng.randbytes(200), f"not {name}"
    raw = stream.getvalue()
    if rng.random() < 0.2:
        return raw, name
    changed = bytearray(raw)
    for _ in range(rng.choice((1, 2, 4))):
        at, n = place(rng, min(len(raw), 300)), rng.choice((1, 2, 4, 8))
        value = rng.choice(NUMBERS) % 256**n
        changed[at : at + n] = value.to_bytes(n, rng.choice(("little", "big")))
    return bytes(changed), f"{name}, its header changed"


def id3(rng: random.Random) -> bytes:
    """An ID3v2 tag of some size, or that says so."""
    n = rng.choice((0, 10, 300, 30_000))
    stated = rng.choice((n, n, 2**28 - 1, 0))
    size = bytes(stated >> shift & 127 for shift in (21, 14, 7, 0))
    return b"ID3\4\0\0" + size + bytes(n)


def of_flac(content: bytes, rng: random.Random, others: Others) -> Mutant:
    """One change of STREAMINFO, or of the bytes after it."""
    if rng.random() < 0.35 or content[:4] != b"fLaC":
        return of_bytes(content, rng, others)
    raw = bytearray(content)
    kind = rng.choice(("blocks", "frames", "rate", "channels", "bits", "total", "md5", "length"))
    packed = int.from_bytes(raw[18:26], "big")
    fields = {"rate": (44, 20), "channels": (41, 3), "bits": (36, 5), "total": (0, 36)}
    if kind in fields:
        shift, n = fields[kind]
        value = rng.choice((0, 1, 2**n - 1, 2 ** (n - 1), rng.randrange(2**n)))
        packed = packed & ~((2**n - 1) << shift) | value << shift
        raw[18:26] = packed.to_bytes(8, "big")
        return bytes(raw), f"STREAMINFO: {kind} {value}"
    at, n = {"blocks": (8, 4), "frames": (12, 6), "md5": (26, 16), "length": (5, 3)}[kind]
    raw[at : at + n] = rng.choice((bytes(n), b"\xff" * n, rng.randbytes(n)))
    return bytes(raw), f"STREAMINFO: {kind}"


def of_mp3(content: bytes, rng: random.Random, others: Others) -> Mutant:
    """One change of a frame's header or of the Xing header, a tag before or after, or bytes."""
    kind = rng.random()
    if kind < 0.3:
        return of_bytes(content, rng, others)
    if kind < 0.45:
        return id3(rng) + content, "ID3 tag before it"
    if kind < 0.55:
        return content + b"TAG" + bytes(125), "ID3v1 tag after it"
    at = next((content.find(name) for name in (b"Xing", b"Info") if name in content), -1)
    if kind < 0.75 and at >= 0:
        value = rng.choice(NUMBERS) % 2**32
        field = at + rng.choice((4, 8, 12))
        return content[:field] + value.to_bytes(4, "big") + content[field + 4 :], f"Xing: {value}"
    frames = [i for i in range(len(content) - 1) if content[i] == 255 and content[i + 1] >= 0xE0]
    if not frames:
        return of_bytes(content, rng, others)
    raw, frame = bytearray(content), rng.choice(frames)
    raw[frame + rng.choice((1, 2, 3))] = rng.randrange(256)
    return bytes(raw), f"header of the frame at {frame}"


def of_ogg(content: bytes, rng: random.Random, others: Others) -> Mutant:
    """One change of a page, whose checksum fits again."""
    starts = [i for i in range(len(content)) if content.startswith(b"OggS", i)]
    if rng.random() < 0.25 or not starts:
        return of_bytes(content, rng, others)
    number = rng.randrange(len(starts))
    start = starts[number]
    end = starts[number + 1] if number + 1 < len(starts) else len(content)
    page = bytearray(content[start:end])
    if len(page) < 28:
        return of_bytes(content, rng, others)
    at = rng.choice((4, 5, 6, 13, 14, 18, 26, 27, 28 + rng.randrange(max(1, len(page) - 28))))
    n = 8 if at == 6 else 1
    value = rng.choice(NUMBERS) % 256**n
    page[at : at + n] = value.to_bytes(n, "little")
    page_bytes = sealed_page(bytes(page))
    return content[:start] + page_bytes + content[end:], f"page {number}, byte {at}: {value}"


def sealed_page(page: bytes) -> bytes:
    """A page of Ogg with its true checksum."""
    crc = _ogg_crc(page[:22] + bytes(4) + page[26:])
    return page[:22] + crc.to_bytes(4, "little") + page[26:]


def _ogg_crc(page: bytes) -> int:
    crc = 0
    for byte in page:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C11DB7 if crc & 2**31 else crc << 1) & 0xFFFFFFFF
    return crc


def of_queen(content: bytes, rng: random.Random, others: Others) -> Mutant:
    """One change of the index of the game's file, or of a 16-bit number in an entry."""
    if rng.random() < 0.3 or content[:4] != b"QTBL":
        return of_bytes(content, rng, others)
    raw = bytearray(content)
    count = int.from_bytes(raw[13:15], "big")
    index = rng.randrange(max(1, count))
    entry = 15 + 21 * index
    if rng.random() < 0.2:
        at, n = rng.choice(((13, 2), (entry, 12), (entry + 13, 4), (entry + 17, 4)))
        value = rng.choice(NUMBERS) % 256**n
        raw[at : at + n] = value.to_bytes(n, "big")
        return bytes(raw), f"index, byte {at}: {value}"
    plain = [
        i for i in range(count)
        if not raw[15 + 21 * i : 27 + 21 * i].rstrip(b"\0 ").endswith(b".SB")
    ]  # fmt: skip
    entry = 15 + 21 * rng.choice(plain or [0])
    start, size = struct.unpack_from(">II", raw, entry + 13)
    at = start + 20 + (place(rng, max(1, min(size, len(raw)) - 22)) & ~1)
    value = rng.choice((*NUMBERS, 1, 2, 5, 20, 2**16 - 1, 2**16 - 2)) % 2**16
    raw[at : at + 2] = value.to_bytes(2, "big")
    return bytes(raw), f"{bytes(raw[entry : entry + 12])!r}, byte {at - start}: {value}"
