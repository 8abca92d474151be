"""Announcements of a telephone system, out of their Debian packages, for the reader `csv`.

Run by `make data/raw/announcements/metadata.csv`. One professional speaker, neutral, 16 kHz:
prompts of Asterisk, recorded by Allison Smith, CC BY-SA 3.0. The audio is not in git.
Letters: N file, T time, K tap.
"""

import csv
import gzip
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile

SAMPLE_RATE_HZ = 16_000

PACKAGES = ("asterisk-core-sounds-en-g722", "asterisk-core-sounds-en")
SOUNDS = "usr/share/asterisk/sounds/en_US_f_Allison"
TEXTS = "usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz"
PROMPTS = 236
"""Number of prompts in the version that was used, 1.6.1."""

MIN_WORDS = 3
MIN_S, MAX_S = 0.8, 9.0
"""Limits of a prompt (ours); durations as in params.yaml, longer ones take most of the decoding."""


_INVERSE_6_BIT = np.array([
    -136, -136, -136, -136, -24808, -21904, -19008, -16704, -14984, -13512, -12280, -11192, -10232,
    -9360, -8576, -7856, -7192, -6576, -6000, -5456, -4944, -4464, -4008, -3576, -3168, -2776,
    -2400, -2032, -1688, -1360, -1040, -728, 24808, 21904, 19008, 16704, 14984, 13512, 12280, 11192,
    10232, 9360, 8576, 7856, 7192, 6576, 6000, 5456, 4944, 4464, 4008, 3576, 3168, 2776, 2400, 2032,
    1688, 1360, 1040, 728, 432, 136, -432, -136,
])  # fmt: skip
_INVERSE_4_BIT = np.array([
    0, -20456, -12896, -8968, -6288, -4240, -2584, -1200, 20456, 12896, 8968, 6288, 4240, 2584,
    1200, 0,
])  # fmt: skip
_INVERSE_2_BIT = np.array([-7408, -1616, 7408, 1616])
_LOG_STEP_LOW = np.array([
    -60, 3042, 1198, 538, 334, 172, 58, -30, 3042, 1198, 538, 334, 172, 58, -30, -60
])  # fmt: skip
_LOG_STEP_HIGH = np.array([798, -214, 798, -214])
_EXPONENTIAL = np.array([
    2048, 2093, 2139, 2186, 2233, 2282, 2332, 2383, 2435, 2489, 2543, 2599, 2656, 2714, 2774, 2834,
    2896, 2960, 3025, 3091, 3158, 3228, 3298, 3371, 3444, 3520, 3597, 3676, 3756, 3838, 3922, 4008,
])  # fmt: skip
_QMF = np.array([3, -11, 12, 32, -210, 951, 3876, -805, 362, -156, 53, -11])


def prompts(text: str) -> Iterator[tuple[str, str]]:
    """Yield name and text of the prompts that are speech of at least MIN_WORDS.

    Prompts in subfolders are letters, numbers and names of letters. Brackets are descriptions of
    sounds, or notes.

    Args:
        text: lines "name: text"; comments begin with ";".
    """
    for line in text.splitlines():
        name, colon, spoken = line.partition(":")
        if not colon or line.startswith(";") or "/" in name or re.search(r"[\[\]<>()]", spoken):
            continue
        if len(re.findall(r"[A-Za-z0-9']+", spoken)) >= MIN_WORDS:
            yield name, " ".join(spoken.split())


def within_limits(path: Path) -> bool:
    """Whether a prompt exists and its duration is within MIN_S and MAX_S."""
    return path.is_file() and MIN_S <= 2 * path.stat().st_size / SAMPLE_RATE_HZ <= MAX_S


class _Band:
    """Step size and adaptive predictor of one sub-band: two poles, six zeros."""

    def __init__(self, n: int, first_step: int, largest_log: int, shift: int):
        self.step_N = np.full(n, first_step)
        self.log_N = np.zeros(n, dtype=np.int64)
        self.largest_log, self.shift = largest_log, shift
        self.poles_2N = np.zeros((2, n), dtype=np.int64)
        self.zeros_6N = np.zeros((6, n), dtype=np.int64)
        self.differences_6N = np.zeros((6, n), dtype=np.int64)
        self.partial_2N = np.zeros((2, n), dtype=np.int64)  # earlier partly reconstructed signals
        self.rebuilt_N = np.zeros(n, dtype=np.int64)
        self.of_zeros_N = np.zeros(n, dtype=np.int64)
        self.predicted_N = np.zeros(n, dtype=np.int64)

    def adapt(self, difference_N: np.ndarray, log_N: np.ndarray) -> None:
        """Blocks LOGSCL and SCALEL (or H) for the next step size, then UPPOL to FILTEZ."""
        self.log_N = np.clip((self.log_N * 127 >> 7) + log_N, 0, self.largest_log)
        fraction_N = _EXPONENTIAL[self.log_N >> 6 & 31]
        self.step_N = (fraction_N << 4 >> (self.shift + 4 - (self.log_N >> 11))) << 2
        self._predict(difference_N)

    def _predict(self, difference_N: np.ndarray) -> None:
        earlier_N = self.rebuilt_N
        self.rebuilt_N = _sat(self.predicted_N + difference_N)
        partial_N = _sat(self.of_zeros_N + difference_N)
        same_2N = (partial_N < 0) == (self.partial_2N < 0)
        first_N, second_N = self.poles_2N
        moved_N = np.minimum(np.where(same_2N[0], -1, 1) * _sat(first_N << 2), 32767) >> 7
        second_N = moved_N + np.where(same_2N[1], 128, -128) + (second_N * 32512 >> 15)
        second_N = np.clip(second_N, -12288, 12288)
        bound_N = _sat(15360 - second_N)
        first_N = _sat(np.where(same_2N[0], 192, -192) + (first_N * 32640 >> 15))
        first_N = np.clip(first_N, -bound_N, bound_N)
        self.poles_2N = np.stack([first_N, second_N])
        same_6N = (difference_N < 0) == (self.differences_6N < 0)
        change_6N = np.where(same_6N, 128, -128) * (difference_N != 0)
        self.zeros_6N = _sat(change_6N + (self.zeros_6N * 32640 >> 15))
        self.differences_6N = np.concatenate([difference_N[None], self.differences_6N[:-1]])
        self.partial_2N = np.stack([partial_N, self.partial_2N[0]])
        of_poles_N = _sat(
            (first_N * _sat(2 * self.rebuilt_N) >> 15) + (second_N * _sat(2 * earlier_N) >> 15)
        )
        self.of_zeros_N = _sat((self.zeros_6N * _sat(2 * self.differences_6N) >> 15).sum(axis=0))
        self.predicted_N = _sat(of_poles_N + self.of_zeros_N)


def decode(files: Sequence[bytes]) -> list[np.ndarray]:
    """Decode files of ITU-T G.722 at 64 kbit/s: two sub-bands of ADPCM, one byte for two samples.

    After Recommendation G.722 (1988), with the names of its blocks; the arithmetic is that of
    16-bit integers, and the output agrees bit for bit with FFmpeg's decoder. Files are decoded side
    by side, since the cost of numpy is that of its calls.

    Args:
        files: content of the files, without a header.

    Returns:
        int16 (T,) of each, 16 kHz mono; two samples a byte.
    """
    n_steps = max(map(len, files))
    codes_NT = np.zeros((len(files), n_steps), dtype=np.int64)
    for codes_T, content in zip(codes_NT, files, strict=True):
        codes_T[: len(content)] = np.frombuffer(content, dtype=np.uint8)
    low, high = _Band(len(files), 32, 18432, 8), _Band(len(files), 8, 22528, 10)
    taps_KN = np.zeros((24, len(files)), dtype=np.int64)
    samples_TN = np.zeros((2 * n_steps, len(files)), dtype=np.int16)
    for step, codes_N in enumerate(codes_NT.T):
        low_N, high_N = codes_N & 63, codes_N >> 6
        rebuilt_low_N = low.predicted_N + (low.step_N * _INVERSE_6_BIT[low_N] >> 15)
        rebuilt_low_N = np.clip(rebuilt_low_N, -16384, 16383)
        low.adapt(low.step_N * _INVERSE_4_BIT[low_N >> 2] >> 15, _LOG_STEP_LOW[low_N >> 2])
        difference_N = high.step_N * _INVERSE_2_BIT[high_N] >> 15
        rebuilt_high_N = np.clip(high.predicted_N + difference_N, -16384, 16383)
        high.adapt(difference_N, _LOG_STEP_HIGH[high_N])
        taps_KN = np.roll(taps_KN, -2, axis=0)
        taps_KN[22] = rebuilt_low_N + rebuilt_high_N
        taps_KN[23] = rebuilt_low_N - rebuilt_high_N
        samples_TN[2 * step] = _sat(_QMF[::-1] @ taps_KN[1::2] >> 11)
        samples_TN[2 * step + 1] = _sat(_QMF @ taps_KN[::2] >> 11)
    return [samples_TN[: 2 * len(f), n].copy() for n, f in enumerate(files)]


def _sat(values: np.ndarray) -> np.ndarray:
    return np.clip(values, -32768, 32767)


def fetch(folder: Path) -> None:
    """Download the packages with apt-get and extract them into a folder."""
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            sys.exit(f"announcements: {program} is needed, as Debian and Ubuntu have it")
    for package in PACKAGES:
        if subprocess.run(["apt-get", "download", "--quiet", package], cwd=folder).returncode:
            sys.exit(f"announcements: apt-get cannot get {package}: run apt-get update")
        (archive,) = folder.glob(f"{package}_*.deb")
        subprocess.run(["dpkg-deb", "-x", archive, folder], check=True)


def main() -> None:
    """Write the corpus to the folder that is the only argument."""
    out = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as scratch:
        fetch(Path(scratch))
        sounds = Path(scratch, SOUNDS)
        texts = gzip.decompress(Path(scratch, TEXTS).read_bytes()).decode("utf-8")
        chosen = [each for each in prompts(texts) if within_limits(sounds / f"{each[0]}.g722")]
        if len(chosen) != PROMPTS:
            sys.exit(
                f"announcements: {PACKAGES[0]} has {len(chosen)} such prompts, not {PROMPTS}: it "
                "is another version than the one that was used"
            )
        decoded = decode([(sounds / f"{name}.g722").read_bytes() for name, _ in chosen])
        (out / "audio").mkdir(parents=True, exist_ok=True)
        licence = Path(scratch, "usr/share/doc", PACKAGES[0], "copyright")
        (out / "copyright").write_bytes(licence.read_bytes())
    rows = []
    for (name, text), samples_T in zip(chosen, decoded, strict=True):
        audio = f"audio/{name}.flac"
        soundfile.write(out / audio, samples_T, SAMPLE_RATE_HZ)
        rows.append({"utterance": name, "speaker": "allison", "text": text, "audio": audio})
    with (out / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


if __name__ == "__main__":
    main()
