"""Sizes declared by audio files, in cases where libsndfile loses samples without an error.

- An ID3v2 tag before RIFF shifts all offsets in the header.
- A WAV writer that was killed leaves a data size of 0. Some writers include the header in it.
- libsndfile estimates the length of a variable-bit-rate MP3 without an encoder header (Xing, Info,
  VBRI) from the bit rate of its first frame.
- Truncated WAV, RF64, AIFF, AU and Opus files are read up to their end without an error.
"""

import io
import struct
from collections.abc import Iterator
from typing import BinaryIO, TypeAlias

UNKNOWN_SIZE = 2**31 - 8192
"""Data sizes from this value on mean that the WAV writer did not know the length."""

HEADER_BYTES = 44
"""Header of a plain WAV file; the excess of the data size where a writer includes the header."""

MAX_HEAD_BYTES = 16 * 2**20
MAX_CHUNKS = 1000
"""Most chunks before the samples; real files have far fewer."""

MAX_MP3_FRAMES = 10_000
"""Most frames that are counted: more than 30 s at any rate."""

_TAG = struct.Struct(">3sxxB4B")
_CONTAINERS = (b"RIFF", b"RF64", b"RIFX", b"FORM", b"fLaC", b"OggS", b".snd")
_OGG_PAGE_BYTES = 65_307  # the largest page
_OGG_LAST = 4
_MPEG1 = 3
_MP3_RATES_HZ = {
    _MPEG1: (44_100, 48_000, 32_000),
    2: (22_050, 24_000, 16_000),
    0: (11_025, 12_000, 8_000),
}
_MP3_KBPS = {
    True: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),  # MPEG 1, layer III
    False: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_BEHIND_MP3 = (b"TAG", b"APETAGEX", b"LYRICSBEGIN")
"""First bytes of the tags that may follow the last frame."""
_MP3_INDEX = 9  # a frame of this bit rate has room for an encoder header


class Unusable(Exception):
    """The utterance cannot be used; the message is its reason in the `rejected` table."""


Searchable: TypeAlias = "BinaryIO | SplicedFile"
"""A seekable binary file."""


class SplicedFile(io.RawIOBase):
    """A file-like view: some bytes, followed by the content of a file from an offset on."""

    def __init__(self, head: bytes, raw: Searchable, start: int):
        """View the bytes `head`, followed by the content of `raw` from the offset `start` on."""
        self._head, self._raw, self._start = head, raw, start
        self._size = len(head) + max(0, raw.seek(0, io.SEEK_END) - start)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        return super().read(size) or b""

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def,override]
        wanted = len(buffer)
        found = self._head[self._at : self._at + wanted]
        if len(found) < wanted and self._at + len(found) < self._size:
            self._raw.seek(self._start + self._at + len(found) - len(self._head))
            found += self._raw.read(wanted - len(found))
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)


def complete_view(raw: Searchable) -> SplicedFile:
    """Return a view of the audio that libsndfile reads completely.

    Args:
        raw: a seekable file, at any position.

    Returns:
        A view of the file, with a corrected header where needed. Nothing is decoded.

    Raises:
        Unusable: a variable-bit-rate MP3 whose frames cannot be counted.
    """
    start = _behind_tags(raw)
    magic = _at(raw, start, 12)
    if _is_wav(magic):
        return _closed_wav(SplicedFile(b"", raw, start))
    head = b"" if magic[:4] in _CONTAINERS else _missing_mp3_header(raw, start)
    return SplicedFile(head, raw, start)


def is_cut_off(raw: Searchable) -> bool:
    """Whether a file is shorter than its container declares.

    Sizes that mean an unknown length are ignored: 0, and values from SoX's 2^31 - 4096, less the
    rest of a block, to ffmpeg's 2^32 - 1.
    """
    magic = _at(raw, 0, 12)
    end = raw.seek(0, io.SEEK_END)
    if magic[:4] == b"OggS":
        return not _ends_with_last_page(_at(raw, max(0, end - _OGG_PAGE_BYTES), _OGG_PAGE_BYTES))
    if magic[:4] == b".snd":
        begin, size = struct.unpack(">II", magic[4:].ljust(8, b"\0"))
        return size < UNKNOWN_SIZE and begin + size > end
    if _is_wav(magic) or magic[:4] in (b"RF64", b"FORM"):
        return _lacks_samples(raw, magic[:4], end)
    return False


def mp3_frames(raw: Searchable) -> int | None:
    """Number of frames that an MP3's encoder header declares; None without such a header."""
    first = next(_mp3_frame_starts(raw, _behind_tags(raw)), None)
    if first is None:
        return None
    found = _encoder_header(raw, first[0])
    at = found.find(b"Xing") if b"Xing" in found else found.find(b"Info")
    if at < 0 or len(found) < at + 12 or not found[at + 7] & 1:
        return None
    return int.from_bytes(found[at + 8 : at + 12], "big")


def _ends_with_last_page(tail: bytes) -> bool:
    """Whether an Ogg file ends with a complete page that has the last-page flag."""
    page = tail[tail.rfind(b"OggS") :]
    if len(page) < 27 or not page[5] & _OGG_LAST:
        return False
    sizes = page[27 : 27 + page[26]]
    return len(sizes) == page[26] and len(page) >= 27 + len(sizes) + sum(sizes)


def _at(raw: Searchable, place: int, size: int) -> bytes:
    raw.seek(place)
    return raw.read(size)


def _is_wav(magic: bytes) -> bool:
    return magic[:4] == b"RIFF" and magic[8:12] == b"WAVE"


def _behind_tags(raw: Searchable) -> int:
    """Offset of the first byte after the leading ID3v2 tags; 0 without one."""
    at = 0
    for _ in range(MAX_CHUNKS):
        found = _at(raw, at, 10)
        if len(found) < 10 or not found.startswith(b"ID3"):
            return at
        _, flags, *size = _TAG.unpack(found)
        footer = 10 if flags & 0x10 else 0
        at += 10 + footer + sum((part & 0x7F) << shift for part, shift in zip(
            size, (21, 14, 7, 0), strict=True
        ))  # fmt: skip
    return at


# --- chunks: WAV, RF64, AIFF ---------------------------------------------------------------------


def _chunks(raw: Searchable, order: str, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, offset of the content and declared size of each chunk."""
    at = 12
    for _ in range(MAX_CHUNKS):
        found = _at(raw, at, 8)
        if len(found) < 8:
            return
        name, size = struct.unpack(f"{order}4sI", found)
        yield name, at + 8, size
        at += 8 + size + size % 2
        if at >= end:
            return


def _lacks_samples(raw: Searchable, kind: bytes, end: int) -> bool:
    order, wanted = (">", b"SSND") if kind == b"FORM" else ("<", b"data")
    true_size = None
    for name, begin, size in _chunks(raw, order, end):
        if name == b"ds64" and kind == b"RF64":
            true_size = int.from_bytes(_at(raw, begin + 8, 8), "little")
        if name == wanted:
            if kind == b"RF64" and true_size is not None and size >= UNKNOWN_SIZE:
                return true_size > end - begin
            missing = size - (end - begin)
            counts_header = missing <= HEADER_BYTES or size == end
            return size < UNKNOWN_SIZE and missing > 0 and not counts_header
    return True


def _closed_wav(view: SplicedFile) -> SplicedFile:
    """A WAV file with sizes filled in where its writer left the data size at 0."""
    end = view.seek(0, io.SEEK_END)
    for name, begin, size in _chunks(view, "<", end):
        if name == b"data":
            if size or begin >= end or begin > MAX_HEAD_BYTES or _is_chunk(view, begin, end):
                return view
            head = bytearray(_at(view, 0, begin))
            struct.pack_into("<I", head, begin - 4, min(end - begin, 2**32 - 1))
            struct.pack_into("<I", head, 4, min(end - 8, 2**32 - 1))
            return SplicedFile(bytes(head), view, begin)
    return view


def _is_chunk(raw: Searchable, at: int, end: int) -> bool:
    """Whether another chunk begins here, which means that the chunk before it is empty."""
    found = _at(raw, at, 8)
    if len(found) < 8 or not all(32 <= sign < 127 for sign in found[:4]):
        return False
    return at + 8 + int.from_bytes(found[4:], "little") <= end


# --- frames: MP3 ---------------------------------------------------------------------------------


def _mp3_frame_starts(raw: Searchable, at: int) -> Iterator[tuple[int, bytes, int]]:
    """Yield offset, header and size of consecutive layer III frames."""
    for _ in range(MAX_MP3_FRAMES):
        header = _at(raw, at, 4)
        size = _mp3_frame_bytes(header)
        if not size:
            return
        yield at, header, size
        at += size


def _mp3_frame_bytes(header: bytes) -> int:
    """Size of a frame in bytes; 0 if no layer III frame with a known bit rate begins here."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return 0
    version, rate = header[1] >> 3 & 3, header[2] >> 2 & 3
    kbps = header[2] >> 4
    if version not in _MP3_RATES_HZ or rate == 3 or not 1 <= kbps <= 14:
        return 0
    is_mpeg1 = version == _MPEG1
    bits = _MP3_KBPS[is_mpeg1][kbps - 1] * 1000
    return (144 if is_mpeg1 else 72) * bits // _MP3_RATES_HZ[version][rate] + (header[2] >> 1 & 1)


def _side_bytes(header: bytes) -> int:
    """Size of the side information between a frame's header and its data, in bytes."""
    is_mono = header[3] >> 6 == 3
    if header[1] >> 3 & 3 == _MPEG1:
        return 17 if is_mono else 32
    return 9 if is_mono else 17


def _encoder_header(raw: Searchable, at: int) -> bytes:
    """The bytes of a frame that contain the encoder header, if there is one."""
    return _at(raw, at + 4, 2 + 32 + 12)


def _missing_mp3_header(raw: Searchable, start: int) -> bytes:
    """A Xing frame for a variable-bit-rate MP3 that has no encoder header; otherwise empty."""
    n_frames, rates, first, end = 0, set[int](), b"", start
    for at, header, size in _mp3_frame_starts(raw, start):
        if not n_frames:
            first = header
            if any(name in _encoder_header(raw, at) for name in (b"Xing", b"Info", b"VBRI")):
                return b""
        n_frames += 1
        rates.add(header[2] >> 4)
        end = at + size
    if len(rates) < 2:
        return b""
    behind = _at(raw, end, 16)
    if n_frames < MAX_MP3_FRAMES and behind.strip(b"\0") and not behind.startswith(_BEHIND_MP3):
        raise Unusable("MP3 of unknown length")
    header = bytes((first[0], first[1] | 1, first[2] & 0x0D | _MP3_INDEX << 4, first[3]))
    counted = b"Xing" + struct.pack(">II", 1, n_frames)
    return (header + bytes(_side_bytes(first)) + counted).ljust(_mp3_frame_bytes(header), b"\0")
