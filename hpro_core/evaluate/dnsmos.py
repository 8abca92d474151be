"""The quality judge: DNSMOS P.835, its network run directly. Letters: T samples, W windows.

The figures are those of the package speechmos; only the overall one (OVRL) is stored. A clip that
is shorter than a window is repeated until it fills one; windows start at every whole second.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime

from hpro_core.constants import SAMPLE_RATE_HZ

WINDOW_S = 9.01
_WINDOW = int(WINDOW_S * SAMPLE_RATE_HZ)
# From the network's raw outputs to the scale of listeners, highest power first (Microsoft's fits).
_SCALES = {
    "sig": (-0.08397278, 1.22083953, 0.0052439),
    "bak": (-0.13166888, 1.60915514, -0.39604546),
    "ovrl": (-0.06766283, 1.11546468, 0.04602535),
}


class Mos(NamedTuple):
    """Predicted mean opinions, 1 (bad) to 5."""

    sig: float  # of the speech
    bak: float  # of the background
    ovrl: float  # overall: the column `dnsmos`


class Dnsmos:
    """Predicts what listeners would say of noise and distortion."""

    def __init__(self, folder: Path, threads: int) -> None:
        """Load the network from `weights/dnsmos`."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._network = onnxruntime.InferenceSession(
            str(folder / "sig_bak_ovr.onnx"), options, providers=["CPUExecutionProvider"]
        )

    def score(self, audio_T: np.ndarray, most_windows: int) -> Mos:
        """Mean over windows, in batches of one (faster on a CPU than a larger batch).

        Args:
            audio_T: float32 (T,), 16 kHz, in [-1, 1], not empty.
            most_windows: where there are more, as many are taken, evenly spread from the first to
                the last; with enough of them this is exactly speechmos.
        """
        windows = _windows(audio_T.astype(np.float32), most_windows)
        raw_W3 = np.concatenate([self._network.run(None, {"input_1": w[None]})[0] for w in windows])
        scaled = (
            np.polyval(scale, raw_W3[:, column]) for column, scale in enumerate(_SCALES.values())
        )
        return Mos(*(float(np.mean(values)) for values in scaled))


def _windows(audio_T: np.ndarray, most: int) -> list[np.ndarray]:
    while len(audio_T) < _WINDOW:
        audio_T = np.concatenate([audio_T, audio_T])
    n_windows = int(np.floor(len(audio_T) / SAMPLE_RATE_HZ) - WINDOW_S) + 1
    chosen = np.unique(np.linspace(0, n_windows - 1, min(most, n_windows)).round().astype(int))
    starts = [int(second) * SAMPLE_RATE_HZ for second in chosen]
    return [audio_T[start : start + _WINDOW] for start in starts]
