"""Speech quality judge: DNSMOS P.835, its ONNX network run directly.

Scores equal those of the package speechmos; only the overall score (OVRL) is stored. A clip that is
shorter than a window is repeated until it fills one. Windows start at every whole second.

If a repeated clip lasts a whole number of frames of the network, as synthesised speech does, its
spectrum is periodic. The outputs of the first four convolutions are then periodic too, except at
both ends. These convolutions take 96 % of the time, so they run on one period and the rest is
copied. The network is split into three parts for this.

Letters: T samples, W windows, F frames, K bins of a spectrum, C channels.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
from onnx.utils import Extractor

from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.errors import HproError

WINDOW_S = 9.01
_WINDOW = int(WINDOW_S * SAMPLE_RATE_HZ)
HOP = 160
"""Samples per frame; the first transform spans two frames."""
_REACH = 4  # context frames per side of four convolutions of width 3
_INPUT, _SPECTRUM = "input_1", "mos_estimator_logpow/truediv:0"
_CONVOLVED, _OUTPUT = "mos_estimator_logpow/conv2d_3/Relu:0", "Identity:0"
# Polynomials from raw network outputs to MOS, highest power first (Microsoft's fits).
_SCALES = {
    "sig": (-0.08397278, 1.22083953, 0.0052439),
    "bak": (-0.13166888, 1.60915514, -0.39604546),
    "ovrl": (-0.06766283, 1.11546468, 0.04602535),
}


class Mos(NamedTuple):
    """Predicted mean opinion scores, 1 (bad) to 5."""

    sig: float  # speech quality
    bak: float  # background noise
    ovrl: float  # overall quality: the column `dnsmos`


class Dnsmos:
    """Predict mean opinion scores for speech, background and overall quality (P.835)."""

    def __init__(self, folder: Path, threads: int) -> None:
        """Load the network from `weights/dnsmos`, for `threads` CPU threads.

        Raises:
            HproError: the file holds another network.
        """
        path = folder / "sig_bak_ovr.onnx"
        network = onnx.load(path)
        missing = {_SPECTRUM, _CONVOLVED} - {o for node in network.graph.node for o in node.output}
        if missing:
            raise HproError(f"{path} has no {min(missing)}: run `hpro weights fetch` again")
        parts = Extractor(onnx.shape_inference.infer_shapes(network))
        self._spectrum = _part(parts, _INPUT, _SPECTRUM, threads)
        self._convolve = _part(parts, _SPECTRUM, _CONVOLVED, threads)
        self._judge = _part(parts, _CONVOLVED, _OUTPUT, threads)

    def score(self, audio_T: np.ndarray, most_windows: int) -> Mos:
        """Mean score over windows, in batches of one (faster on a CPU than a larger batch).

        Args:
            audio_T: float32 (T,), 16 kHz, in [-1, 1], not empty.
            most_windows: maximum number of windows. If there are more, this many are taken, evenly
                spaced from the first to the last. With all windows the score equals speechmos.
        """
        windows = _windows(audio_T.astype(np.float32), most_windows)
        period = _period_frames(len(audio_T))
        raw_W3 = np.concatenate([self._raw(window_T, period) for window_T in windows])
        scaled = (
            np.polyval(scale, raw_W3[:, column]) for column, scale in enumerate(_SCALES.values())
        )
        return Mos(*(float(np.mean(values)) for values in scaled))

    def _raw(self, window_T: np.ndarray, period_frames: int | None) -> np.ndarray:
        """Raw network outputs for a window, float32 (1, 3)."""
        spectrum_1FK = self._spectrum(window_T[None])
        if period_frames is None:
            return self._judge(self._convolve(spectrum_1FK))
        first_1CFK = self._convolve(spectrum_1FK[:, : period_frames + 2 * _REACH])
        last_1CFK = self._convolve(spectrum_1FK[:, -2 * _REACH :])
        frames = np.arange(spectrum_1FK.shape[1] - _REACH)
        copied = np.where(frames < _REACH, frames, _REACH + (frames - _REACH) % period_frames)
        parts = [first_1CFK[:, :, copied], last_1CFK[:, :, -_REACH:]]
        return self._judge(np.concatenate(parts, axis=2))


def _period_frames(n_samples: int) -> int | None:
    """Period of the spectrum in frames; None if it has none or if copying saves nothing."""
    period, rest = divmod(n_samples, HOP)
    return period if not rest and 0 < period + 4 * _REACH < _WINDOW // HOP else None


def _part(
    network: Extractor, start: str, end: str, threads: int
) -> Callable[[np.ndarray], np.ndarray]:
    """Extract the part of a network between two values, for any number of frames."""
    part = network.extract_model([start], [end])
    del part.graph.value_info[:]
    for value in (*part.graph.input, *part.graph.output):
        if value.name != _INPUT:
            value.type.tensor_type.ClearField("shape")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        part.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda values: session.run(None, {start: values})[0]


def _windows(audio_T: np.ndarray, most: int) -> list[np.ndarray]:
    while len(audio_T) < _WINDOW:
        audio_T = np.concatenate([audio_T, audio_T])
    n_windows = int(np.floor(len(audio_T) / SAMPLE_RATE_HZ) - WINDOW_S) + 1
    chosen = np.unique(np.linspace(0, n_windows - 1, min(most, n_windows)).round().astype(int))
    starts = [int(second) * SAMPLE_RATE_HZ for second in chosen]
    return [audio_T[start : start + _WINDOW] for start in starts]
