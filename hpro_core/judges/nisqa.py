"""Published quality judge: NISQA v2.0 (Mittag et al. 2021, arXiv 2104.09494).

Weights are nisqa.tar or nisqa_mos_only.tar of gabrielmittag/NISQA: convolutions on segments of a
mel spectrogram, self-attention over segments and attention pooling. Of nisqa.tar, only the overall
score is used. Network and front-end are reimplemented.
Letters: T samples, C mel channels, F frames, S segments, K frames of a segment, D features.
"""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.errors import HproError
from hpro_core.io import read_pt
from hpro_core.judges.mel import mel_spectrogram
from hpro_core.judges.quality import ClipJudge, check_judge
from hpro_core.train.checkpoint import build_on_meta, check_fit

ORIGIN = "nisqa.tar of gabrielmittag/NISQA"
_FLOOR_DB, _RANGE_DB = -80.0, 80.0
_KIND = {
    **{"cnn_model": "adapt", "cnn_fc_out_h": None, "td": "self_att", "td_sa_pos_enc": False},
    **{"td_2": "skip", "pool": "att", "double_ended": False, "ms_sr": None},
}
"""Settings in the file of a network that this module has."""

_NAMES = {
    "cnn.model.": "cnn.",
    "time_dependency.model.layers.": "layers.",
    "time_dependency.model.": "",
    "pool_layers.0.model.": "pool.",  # the others are noise, discontinuity, colour, loudness
    "pool.model.": "pool.",
}
"""Start of a name in the file -> start here."""


class NisqaNetwork(nn.Module):
    """CNN, self-attention and attention pooling; sizes are the settings in the file."""

    def __init__(self, settings: Mapping[str, Any]):
        super().__init__()
        outs = [settings[f"cnn_c_out_{i}"] for i in (1, 2, 3, 3, 3, 3)]
        height, width = settings["cnn_kernel_size"]
        self.pools = [settings[f"cnn_pool_{i}"] for i in (1, 2, 3)]
        self.cnn = nn.ModuleDict()
        for i, (c_in, c_out) in enumerate(pairwise((1, *outs)), start=1):
            last = i == len(outs)  # its kernel covers the width, so that one column remains
            kernel, padding = (height, self.pools[2][1] if last else width), (1, 0 if last else 1)
            self.cnn[f"conv{i}"] = nn.Conv2d(c_in, c_out, kernel, padding=padding)
            self.cnn[f"bn{i}"] = nn.BatchNorm2d(c_out)
        d_model, hidden = settings["td_sa_d_model"], settings["pool_att_h"]
        self.linear = nn.Linear(outs[-1] * self.pools[2][0], d_model)
        self.norm1 = nn.LayerNorm(d_model)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                d_model, settings["td_sa_nhead"], settings["td_sa_h"], batch_first=True
            )
            for _ in range(settings["td_sa_num_layers"])
        )
        self.pool = nn.ModuleDict(
            {
                "linear1": nn.Linear(d_model, hidden),
                "linear2": nn.Linear(hidden, 1),
                "linear3": nn.Linear(d_model, 1),
            }
        )

    def forward(self, segments_SCK: Tensor) -> Tensor:
        """Predict the score of one clip: segments, dB, float (S, C, K) -> float ()."""
        hidden = segments_SCK[:, None]
        for i in range(1, 7):
            hidden = torch.relu(self.cnn[f"bn{i}"](self.cnn[f"conv{i}"](hidden)))
            if i in (1, 2, 4):
                hidden = functional.adaptive_max_pool2d(hidden, self.pools[i // 2])
        hidden_1SD = self.norm1(self.linear(hidden.flatten(1)))[None]
        for layer in self.layers:
            hidden_1SD = layer(hidden_1SD)
        weight_1S1 = self.pool["linear2"](torch.relu(self.pool["linear1"](hidden_1SD))).softmax(1)
        return self.pool["linear3"]((weight_1S1 * hidden_1SD).sum(dim=1))[0, 0]


class Nisqa(ClipJudge):
    """Published judge that scores whole clips, one at a time."""

    def __init__(self, path: Path, device: torch.device):
        """Load the file of ORIGIN; the network runs in float32.

        Raises:
            HproError: the file is missing, broken or of another network (NISQA-TTS has another).
        """
        super().__init__(path, ORIGIN)
        self._device = device
        self._settings, network = _load(path)
        self._network = network.to(device).eval()
        check_judge(self._score, path, ORIGIN)

    @torch.inference_mode()
    def _score(self, audio_T: np.ndarray) -> float:
        segments_SCK = torch.from_numpy(segments(audio_T, self._settings)).to(self._device)
        return self._network(segments_SCK).item()


def segments(audio_T: np.ndarray, settings: Mapping[str, Any]) -> np.ndarray:
    """Overlapping segments of the mel spectrogram of a clip, dB, float32 (S, C, K).

    Args:
        audio_T: float32 (T,), 16 kHz.
        settings: those in the file.
    """
    seconds = (settings["ms_win_length"], settings["ms_hop_length"])
    window, hop = (int(SAMPLE_RATE_HZ * value) for value in seconds)
    mel_CF = mel_spectrogram(
        audio_T,
        settings["ms_n_fft"],
        window,
        hop,
        settings["ms_n_mels"],
        power=1.0,
        max_hz=float(settings["ms_fmax"]),
        pad_mode="reflect",
    )
    level_CF = 20 * np.log10(np.maximum(mel_CF, 10 ** (_FLOOR_DB / 20)))
    level_CF = np.maximum(level_CF, level_CF.max() - _RANGE_DB)
    every = np.lib.stride_tricks.sliding_window_view(level_CF, settings["ms_seg_length"], axis=1)
    chosen_CSK = every[:, :: settings["ms_seg_hop_length"]]
    return np.ascontiguousarray(chosen_CSK.transpose(1, 0, 2), dtype=np.float32)


def _load(path: Path) -> tuple[dict[str, Any], NisqaNetwork]:
    """Settings in the file, and the network with its weights."""
    hint = f"use {ORIGIN}"
    stored = read_pt(path, hint)
    if not isinstance(stored, dict) or not {"args", "model_state_dict"} <= stored.keys():
        raise HproError(f"{path} has no 'args' and 'model_state_dict': {hint}")
    settings, found = stored["args"], stored["model_state_dict"]
    if not isinstance(settings, dict) or not isinstance(found, dict):
        raise HproError(f"{path}: 'args' or 'model_state_dict' is no dictionary: {hint}")
    for name, value in _KIND.items():
        if settings.get(name) != value:
            raise HproError(f"{path}: {name} is {settings.get(name)!r}, not {value!r}: {hint}")
    if not all(isinstance(value, Tensor) for value in found.values()):
        raise HproError(f"{path}: 'model_state_dict' has values that are not tensors: {hint}")
    other = tuple(f"pool_layers.{i}." for i in range(1, 5))
    weights = {_renamed(n): value for n, value in found.items() if not n.startswith(other)}

    def build() -> NisqaNetwork:
        return NisqaNetwork(settings)

    sized = build_on_meta(build, path, hint)
    check_fit(sized, weights, f"{path}: weights do not fit its args", hint)
    network = build()
    network.load_state_dict(weights, strict=True)
    return settings, network


def _renamed(name: str) -> str:
    for start, ours in _NAMES.items():
        if name.startswith(start):
            return ours + name.removeprefix(start)
    return name
