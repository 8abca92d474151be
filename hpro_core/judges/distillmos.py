"""Naturalness judge: DistillMOS, a network distilled from a judge on XLS-R embeddings.

Stahl and Gamper 2025 (arXiv 2502.05356). Network and front-end are reimplemented; the weights are
those of the package distillmos (variant 7, 4.2 M parameters), and scores equal the package's.

The network takes windows of 7.68 s. Where a window is zero padding, the outputs of the convolutions
are constant, except at both ends of the padding. The convolutions take most of the time, so they
run on the audio and the ends, and the constant is copied.

Letters: T samples, W windows, F frames, K bins of a spectrum, C channels, D transformer width.
"""

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.errors import HproError

WINDOW = 122_880  # samples
HOP = 160
"""Samples per frame of the spectrum."""
_N_FFT = 320
_WINDOW_FRAMES = WINDOW // HOP
_CHANNELS = (64, 64, 128, 256, 256, 256)  # of the six convolutions
_DIM, _HEADS, _LAYERS = 200, 8, 7
_REACH = 6  # context frames per side of six convolutions of width 3
_NAMES = {
    "cnn.cnn.": "convolutions.",
    "transformer_pool_attn.norm_input.": "spectrum_norm.",
    "transformer_pool_attn.transformer.norm.": "input_norm.",
    "transformer_pool_attn.transformer.linear_proj.": "projection.",
    "transformer_pool_attn.transformer.position_encoding.pe": "positions_1FD",
    "transformer_pool_attn.transformer.transformer_encoder.": "transformer.",
    "transformer_pool_attn.norm_trans.": "output_norm.",
    "transformer_pool_attn.pool.linear1.": "attention.0.",
    "transformer_pool_attn.pool.linear2.": "attention.2.",
    "transformer_pool_attn.pool.linear3.": "head.",
}
"""Start of a parameter's name in the package's file -> name here."""


class DistillMos(nn.Module):
    """Six convolutions on the compressed spectrum, a transformer and attention pooling."""

    positions_1FD: Tensor

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        bins = _N_FFT // 2 + 1
        for place, (ins, outs) in enumerate(pairwise((2, *_CHANNELS))):
            stride = (1 if place == 0 else 2, 2 if place == len(_CHANNELS) - 1 else 1)
            layers += [nn.Conv2d(ins, outs, 3, stride, padding=(0, 1)), nn.LeakyReLU(0.1)]
            bins = (bins - 3) // stride[0] + 1
        features = _CHANNELS[-1] * bins
        self.convolutions = nn.Sequential(*layers)
        self.spectrum_norm = nn.BatchNorm1d(features)
        self.input_norm = nn.BatchNorm1d(features)
        self.projection = nn.Linear(features, _DIM)
        layer = nn.TransformerEncoderLayer(_DIM, _HEADS, 2 * _DIM, dropout=0.0, batch_first=True)
        self.transformer = nn.TransformerEncoder(layer, _LAYERS, enable_nested_tensor=False)
        self.output_norm = nn.BatchNorm1d(_DIM)
        self.attention = nn.Sequential(nn.Linear(_DIM, 2 * _DIM), nn.ReLU(), nn.Linear(2 * _DIM, 1))
        self.head = nn.Linear(_DIM, 1)
        self.register_buffer("positions_1FD", torch.zeros(1, _WINDOW_FRAMES // 2, _DIM))

    def forward(self, windows_WT: Tensor) -> Tensor:
        """Predict the score of windows: float (W, 122,880), 16 kHz -> float (W,) in [1, 5]."""
        levelled_WT = windows_WT / (windows_WT.abs().amax(dim=1, keepdim=True) + 1e-8)
        hidden_WCF = self.input_norm(self.spectrum_norm(self._convolve(_spectrum(levelled_WT))))
        projected_WFD = self.projection(hidden_WCF.mT) + self.positions_1FD
        hidden_WFD = self.output_norm(self.transformer(projected_WFD).mT).mT
        weight_WF1 = torch.softmax(self.attention(hidden_WFD), dim=1)
        return 1 + 4 * torch.sigmoid(self.head((weight_WF1 * hidden_WFD).sum(dim=1)))[:, 0]

    def _convolve(self, spectrum_W2KF: Tensor) -> Tensor:
        """Outputs of the convolutions, float (W, C, F / 2); constant parts are copied."""
        used_F = spectrum_W2KF.abs().amax(dim=(0, 1, 2)).nonzero()
        used = 2 * math.ceil((int(used_F.max()) + 1) / 2) if len(used_F) else 0
        computed = used + 2 * _REACH + 2
        if computed >= _WINDOW_FRAMES:
            return self.convolutions(spectrum_W2KF).flatten(1, 2)
        part_WCF = self.convolutions(spectrum_W2KF[..., :computed]).flatten(1, 2)
        constant = (used + _REACH) // 2  # its input and that of its left neighbours' ends is zero
        copies = (_WINDOW_FRAMES - computed) // 2
        copied_WCF = part_WCF[..., constant : constant + 1].expand(-1, -1, copies)
        return torch.cat([part_WCF[..., :constant], copied_WCF, part_WCF[..., constant:]], dim=2)


def load_distillmos(folder: Path) -> DistillMos:
    """Load the network from `weights/distillmos` in eval mode; no code is unpickled.

    Raises:
        HproError: the parameters in the file do not match the network.
    """
    path = folder / "distill_mos_v7.pt"
    stored = torch.load(path, map_location="cpu", weights_only=True)["model"]
    network = DistillMos()
    try:
        network.load_state_dict({_renamed(name): value for name, value in stored.items()})
    except RuntimeError as error:
        raise HproError(f"{path} does not fit the DistillMOS network: {error}") from error
    return network.eval()


@torch.inference_mode()
def score(network: DistillMos, audio_T: np.ndarray) -> float:
    """Mean score over windows, 1 (bad) to 5.

    A clip that is shorter than a window is zero-padded at the end. Windows of a longer clip are
    evenly spaced, at most one second apart, from the first to the last.

    Args:
        network: from `load_distillmos`.
        audio_T: float (T,), 16 kHz, not empty; the level does not matter.
    """
    audio_T = np.pad(audio_T, (0, max(0, WINDOW - len(audio_T)))).astype(np.float32)
    excess = len(audio_T) - WINDOW
    places = np.linspace(0, 1, math.ceil(excess / SAMPLE_RATE_HZ) + 1)
    starts = [int(place * excess) for place in places]
    windows = [torch.from_numpy(audio_T[start : start + WINDOW]) for start in starts]
    return float(np.mean([network(window_T[None]).item() for window_T in windows]))


def _spectrum(audio_WT: Tensor) -> Tensor:
    """Complex spectrum with magnitude to the power 0.3, real and imaginary: float (W, 2, K, F)."""
    side = (_N_FFT - HOP) // 2
    padded_WT = functional.pad(audio_WT, (side, side), mode="reflect")
    hann = torch.hann_window(_N_FFT)
    complex_WKF = torch.stft(padded_WT, _N_FFT, HOP, window=hann, center=False, return_complex=True)
    magnitude_WKF = complex_WKF.abs().clamp(min=1e-12)
    return torch.view_as_real(complex_WKF * magnitude_WKF**-0.7).permute(0, 3, 1, 2)


def _renamed(name: str) -> str:
    """Name here of a parameter of the package's file; unknown names stay as they are."""
    for start, ours in _NAMES.items():
        if name.startswith(start):
            return ours + name.removeprefix(start)
    return name
