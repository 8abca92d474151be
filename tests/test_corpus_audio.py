"""Audio as people have it: every container, wrong sizes, rates and lengths beyond limits."""

import contextlib
import io
import resource
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hpro_core.corpus.audio import MAX_DURATION_S, TooLong, Unusable, decode_file, write_wav
from hpro_core.corpus.containers import SplicedFile
from hpro_core.errors import HproError

RATE_HZ = 16_000
TONE_T = 0.4 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE_HZ) / RATE_HZ)


def encoded(samples_T: np.ndarray = TONE_T, rate_hz: int = RATE_HZ, **form: object) -> bytes:
    """A file in memory; a WAV file unless another format is given."""
    content = io.BytesIO()
    soundfile.write(content, samples_T, rate_hz, **{"format": "WAV", **form})
    return content.getvalue()


def is_the_tone(samples_T: np.ndarray) -> bool:
    """Two seconds of 440 Hz, from their first to their last sample."""
    heard = np.abs(np.fft.rfft(samples_T[: 2 * RATE_HZ])).argmax() == 880
    return heard and abs(len(samples_T) - 2 * RATE_HZ) <= 1152


def test_decoding_keeps_pitch_and_mixes_down(tmp_path: Path):
    time_s = np.arange(44_100) / 44_100
    tone = 0.4 * np.sin(2 * np.pi * 440 * time_s)
    soundfile.write(tmp_path / "a.flac", np.stack([tone, 0 * tone], 1), 44_100)
    samples = decode_file(tmp_path / "a.flac")
    assert len(samples) == 16_000
    assert np.abs(np.fft.rfft(samples)).argmax() == 440
    assert np.abs(samples[2000:-2000]).max() == pytest.approx(0.2, abs=0.01)
    with pytest.raises(Unusable, match="unreadable audio"):
        decode_file(tmp_path / "missing.wav")


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "ULAW"])
@pytest.mark.parametrize(("rate_hz", "channels"), [(8_000, 1), (16_000, 2), (48_000, 1)])
def test_any_wav_is_read_and_half_of_it_refused(tmp_path, subtype, rate_hz, channels):
    tone_T = 0.4 * np.sin(2 * np.pi * 440 * np.arange(rate_hz) / rate_hz)
    path = tmp_path / "a.wav"
    soundfile.write(path, np.stack([tone_T] * channels, 1), rate_hz, subtype=subtype)
    samples = decode_file(path)
    assert len(samples) == 16_000
    assert np.abs(np.fft.rfft(samples)).argmax() == 440
    content = path.read_bytes()
    with pytest.raises(Unusable, match="truncated audio"):
        decode_file(content[: len(content) // 2])


def test_other_formats_that_are_cut_off_do_not_pass_as_whole(tmp_path):
    tone_T = 0.4 * np.sin(2 * np.pi * 440 * np.arange(48_000) / 16_000)
    for suffix in ("flac", "ogg"):
        path = tmp_path / f"a.{suffix}"
        soundfile.write(path, tone_T, 16_000)
        content = path.read_bytes()
        assert len(decode_file(content)) == pytest.approx(48_000, abs=400)
        with pytest.raises(Unusable, match=r"unreadable audio|empty audio"):
            decode_file(content[: len(content) // 2])


@pytest.mark.parametrize("size", [2**31 - 4096 - 12, 2**32 - 1])
def test_the_size_of_a_stream_says_nothing(tmp_path, size):
    """ffmpeg writes 2^32 - 1 where it cannot go back, SoX nearly 2^31."""
    path = tmp_path / "a.wav"
    soundfile.write(path, np.full(16_000, 0.1), 16_000, subtype="PCM_16")
    content = path.read_bytes()
    at = content.index(b"data") + 4
    streamed = content[:at] + size.to_bytes(4, "little") + content[at + 4 :]
    assert len(decode_file(streamed)) == 16_000


def test_what_is_no_share_of_full_scale_is_refused(tmp_path):
    noise_T = np.random.default_rng(0).normal(0, 0.3, 16_000).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", noise_T, 16_000, subtype="FLOAT")
    assert len(decode_file(tmp_path / "a.wav")) == 16_000
    soundfile.write(tmp_path / "a.wav", 32_768 * noise_T, 16_000, subtype="FLOAT")
    with pytest.raises(Unusable, match="audio far above full scale"):
        decode_file(tmp_path / "a.wav")


def test_a_file_that_only_its_name_could_explain_is_unreadable(tmp_path):
    (tmp_path / "a.raw").write_bytes(bytes(32_000))
    with pytest.raises(Unusable, match="unreadable audio"):
        decode_file(tmp_path / "a.raw")


# --- sizes that are wrong ----------------------------------------------------------------------


def without_length(flac: bytes) -> bytes:
    """A FLAC file as an encoder writes it to a pipe: its header says 0 samples."""
    content = bytearray(flac)
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    return bytes(content)


def test_a_flac_stream_without_length_is_read_whole():
    streamed = without_length(encoded(format="FLAC"))
    with soundfile.SoundFile(io.BytesIO(streamed)) as file:
        assert file.frames > 2**62
    assert is_the_tone(decode_file(streamed))
    with pytest.raises(Unusable, match="unreadable audio"):
        decode_file(streamed[: len(streamed) // 2])


def tag(size: int) -> bytes:
    """An ID3v2 tag, as players write it before anything."""
    content = bytes(size)
    parts = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x04\0\0" + parts + content


@pytest.mark.parametrize("form", ["WAV", "FLAC", "AIFF", "OGG", "MP3"])
def test_sound_behind_a_tag_is_read_whole(form):
    assert is_the_tone(decode_file(tag(30_000) + encoded(format=form)))
    assert is_the_tone(decode_file(tag(10) + tag(0) + encoded(format=form)))


def sizes_set(wav: bytes, data: int, riff: int | None = None) -> bytes:
    content = bytearray(wav)
    at = wav.index(b"data") + 4
    struct.pack_into("<I", content, at, data)
    if riff is not None:
        struct.pack_into("<I", content, 4, riff)
    return bytes(content)


def test_a_wav_whose_size_counts_its_header_is_read():
    wav = encoded(subtype="PCM_16")
    size = struct.unpack_from("<I", wav, 40)[0]
    assert is_the_tone(decode_file(sizes_set(wav, size + 44)))
    with pytest.raises(Unusable, match="truncated audio"):
        decode_file(sizes_set(wav, size + 60_000))


@pytest.mark.parametrize("riff", [None, 0, 8, 36, 2**32 - 1])
@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_a_wav_that_was_never_closed_is_read(subtype, riff):
    assert is_the_tone(decode_file(sizes_set(encoded(subtype=subtype), 0, riff)))


def test_a_wav_that_is_truly_empty_is_empty():
    wav = encoded(np.zeros(0), subtype="PCM_16")
    assert len(wav) == 44
    with pytest.raises(Unusable, match="empty audio"):
        decode_file(wav)
    with pytest.raises(Unusable, match="empty audio"):
        decode_file(wav + b"LIST" + struct.pack("<I", 200) + bytes(200))


def varying_mp3(first_loud: bool) -> bytes:
    """Four seconds of noise and four of a whisper at varying bit rate, without Xing's header."""
    generator = np.random.default_rng(0)
    loud, soft = generator.normal(0, 0.2, 96_000), 0.002 * np.sin(np.arange(96_000) * 0.05)
    samples_T = np.concatenate([loud, soft] if first_loud else [soft, loud])
    mp3 = encoded(samples_T, 24_000, format="MP3", bitrate_mode="VARIABLE", compression_level=0.5)
    assert b"Xing" in mp3[:64]
    return mp3[192:]


@pytest.mark.parametrize("first_loud", [True, False])
def test_an_mp3_of_varying_bit_rate_without_header_is_read_whole(first_loud):
    bare = varying_mp3(first_loud)
    with soundfile.SoundFile(io.BytesIO(bare)) as file:
        assert file.frames < 24_000 * 7  # what libsndfile takes for its length
    for content in (bare, tag(500) + bare, bare + b"TAG" + bytes(125), bare + bytes(1000)):
        assert len(decode_file(content)) == pytest.approx(8 * RATE_HZ, abs=1000)
    with pytest.raises(TooLong):
        decode_file(bare, longest_s=7.9)
    broken = bare[:8000] + b"not a frame" + bare[8000:]
    with pytest.raises(Unusable, match="MP3 of unknown length"):
        decode_file(broken)


def test_an_mp3_that_is_cut_off_is_told_by_its_header():
    mp3 = encoded(format="MP3", bitrate_mode="VARIABLE")
    assert is_the_tone(decode_file(mp3))
    with pytest.raises(Unusable, match="truncated audio"):
        decode_file(mp3[: len(mp3) // 2])


@pytest.mark.parametrize(
    "form",
    [
        {"format": "OGG", "subtype": "OPUS"},
        {"format": "AIFF"},
        {"format": "AU"},
        {"format": "RF64"},
    ],
    ids=str,
)
@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_other_containers_that_are_cut_off_are_refused(form, share):
    content = encoded(**form)
    assert is_the_tone(decode_file(content))
    with pytest.raises(Unusable, match=r"truncated|unreadable"):
        decode_file(content[: int(share * len(content))])


# --- limits, asked before anything is decoded --------------------------------------------------


@pytest.mark.parametrize("rate_hz", [1, 100, 3_999, 768_001, 2**31 - 1])
def test_a_rate_that_no_speech_has_is_refused(rate_hz):
    wav = bytearray(encoded(subtype="PCM_16"))
    struct.pack_into("<I", wav, 24, rate_hz)
    with pytest.raises(Unusable, match=f"unsupported sampling rate: {rate_hz} Hz"):
        decode_file(bytes(wav))


@pytest.mark.parametrize("rate_hz", [4_000, 11_025, 44_100, 192_000, 768_000])
def test_rates_of_converters_are_read(rate_hz):
    tone_T = 0.4 * np.sin(2 * np.pi * 440 * np.arange(2 * rate_hz) / rate_hz)
    assert is_the_tone(decode_file(encoded(tone_T, rate_hz, subtype="PCM_16")))


def test_of_a_long_clip_no_more_is_decoded_than_the_limit(tmp_path):
    """16 hours of WAV as a sparse file: decoded whole they would take 3.7 GB."""
    size = 16 * 3600 * RATE_HZ * 2
    path = tmp_path / "long.wav"
    path.write_bytes(sizes_set(encoded(subtype="PCM_16"), size, size + 36))
    with path.open("r+b") as file:
        file.truncate(size + 44)
    code = (
        "import resource, sys; from pathlib import Path; from hpro_core.corpus import audio\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))\n"
        "try: audio.decode_file(Path(sys.argv[1]), 9.0)\n"
        "except audio.TooLong as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "longer than 9 s", done.stderr
    assert resource.getrlimit(resource.RLIMIT_AS)[0] != 2 << 30


def test_the_limit_counts_true_samples_and_not_what_a_header_declares():
    flac = bytearray(encoded(format="FLAC"))
    flac[21] |= 0x0F  # 2^36 samples, which no memory holds
    with pytest.raises(Unusable, match=r"truncated|unreadable"):
        decode_file(bytes(flac))
    with pytest.raises(TooLong, match=r"longer than 1\.5 s"):
        decode_file(encoded(), longest_s=1.5)
    assert is_the_tone(decode_file(encoded(), longest_s=2.0))
    assert MAX_DURATION_S == 30


def test_many_channels_take_no_more_memory_than_few():
    wide_TC = np.repeat(TONE_T[:, None], 200, axis=1)
    assert is_the_tone(decode_file(encoded(wide_TC, subtype="PCM_16")))


# --- any bytes ---------------------------------------------------------------------------------

FORMS = (
    {"subtype": "PCM_16"}, {"subtype": "FLOAT"}, {"subtype": "IMA_ADPCM"}, {"format": "FLAC"},
    {"format": "OGG"}, {"format": "OGG", "subtype": "OPUS"}, {"format": "MP3"},
    {"format": "AIFF"}, {"format": "AU"}, {"format": "RF64"}, {"format": "W64"}, {"format": "CAF"},
)  # fmt: skip


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_any_bytes_are_sound_or_unusable(form):
    generator = np.random.default_rng(0)
    whole = encoded(TONE_T[:4000], **form)
    for _ in range(60):
        content = bytearray(whole)
        for at in generator.integers(0, min(len(content), 200), generator.integers(1, 6)):
            content[at] = generator.choice([0, 1, 127, 128, 255, generator.integers(256)])
        cut = content[: generator.integers(len(content) // 2, len(content) + 1)]
        with contextlib.suppress(Unusable):
            samples_T = decode_file(bytes(cut), 2.0)
            assert samples_T.dtype == np.float32
            assert np.isfinite(samples_T).all()
            assert len(samples_T) <= 2.001 * RATE_HZ


def test_what_is_no_file_is_unusable(tmp_path):
    for name in ("missing.wav", "folder.wav", "nul\0.wav"):
        (tmp_path / "folder.wav").mkdir(exist_ok=True)
        with pytest.raises(Unusable, match="unreadable audio"):
            decode_file(tmp_path / name)


def test_a_spliced_file_reads_like_its_bytes():
    generator = np.random.default_rng(0)
    source = bytes(generator.integers(0, 256, 1000, dtype=np.uint8))
    expected = io.BytesIO(b"head" + source[100:])
    spliced = SplicedFile(b"head", io.BytesIO(source), 100)
    for _ in range(300):
        whence = int(generator.integers(3))
        offset = int(generator.integers(-50, 950)) if whence else int(generator.integers(950))
        if whence == io.SEEK_END:
            offset = -abs(offset)
        if whence == io.SEEK_CUR and expected.tell() + offset < 0:
            offset = 0
        if whence == io.SEEK_END and offset < -904:
            offset = -904
        assert spliced.seek(offset, whence) == expected.seek(offset, whence)
        size = int(generator.integers(0, 300))
        assert spliced.read(size) == expected.read(size)


def test_a_wav_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(HproError, match=r"nowhere/a\.wav cannot be written \(No such file"):
        write_wav(tmp_path / "nowhere" / "a.wav", TONE_T)


def test_a_full_disk_leaves_no_piece_of_a_wav(tmp_path):
    path = tmp_path / "a.wav"
    path.symlink_to("/dev/full")
    with pytest.raises(HproError, match=r"a\.wav cannot be written \(No space left on device"):
        write_wav(path, TONE_T)
    assert list(tmp_path.iterdir()) == []
