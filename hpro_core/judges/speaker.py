"""Speaker judge: the GE2E encoder of Resemblyzer, a 256-dimensional embedding of unit length.

Wan et al. 2018 (arXiv 1710.10467). Network and front-end are reimplemented from their description;
the weights are Resemblyzer's.
Letters: B windows, F frames, C mel channels, D embedding dimensions, T samples.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hpro_core.errors import HproError
from hpro_core.judges.mel import mel_spectrogram

N_MELS = 40
FRAME_SAMPLES, HOP_SAMPLES = 400, 160  # 25 ms every 10 ms
WINDOW_FRAMES = 160  # 1.6 s
STEP_FRAMES = 77  # 1.3 windows per second
MIN_COVERAGE = 0.75  # a last window with a smaller fraction of audio is dropped
LEVEL_DBFS = -30.0  # quieter clips are amplified to this level


class SpeakerEncoder(nn.Module):
    """Three LSTM layers and a projection of the last state, normalised to unit length."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(N_MELS, 256, num_layers=3, batch_first=True)
        self.linear = nn.Linear(256, 256)

    def forward(self, mel_BFC: Tensor) -> Tensor:
        """Embed windows: power mel, float (B, F, 40) -> float (B, 256), unit length."""
        _, (hidden, _) = self.lstm(mel_BFC)
        return nn.functional.normalize(torch.relu(self.linear(hidden[-1])), dim=1)


def load_encoder(folder: Path) -> SpeakerEncoder:
    """Load the encoder from `weights/ge2e` in eval mode; no code is unpickled.

    Raises:
        HproError: the parameters in the file do not match the network.
    """
    path = folder / "pretrained.pt"
    # The file has the format before PyTorch 1.6; `weights.find_weights` has checked its hash.
    stored = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
    training_only = ("similarity_weight", "similarity_bias")  # parameters of the GE2E loss
    encoder = SpeakerEncoder()
    try:
        encoder.load_state_dict({k: v for k, v in stored.items() if k not in training_only})
    except RuntimeError as error:
        raise HproError(f"{path} does not fit the GE2E encoder: {error}") from error
    return encoder.eval()


@torch.inference_mode()
def embed_batch(encoder: SpeakerEncoder, audios: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Compute the speaker embeddings of clips in one batch: mean over windows, unit length.

    Unlike Resemblyzer, long silences are kept; removing them needs a voice activity detector. The
    other clips of a batch change an embedding by rounding only, at most 1e-5.

    Args:
        encoder: from `load_encoder`.
        audios: float (T,) each, 16 kHz, not empty.

    Returns:
        float32 (256,) for each clip.
    """
    windows = [_windows(_levelled(audio_T)) for audio_T in audios]
    embedded_BD = encoder(torch.from_numpy(np.concatenate(windows)))
    voices = [own_BD.mean(dim=0) for own_BD in embedded_BD.split([len(own) for own in windows])]
    return [nn.functional.normalize(embedding_D, dim=0).numpy() for embedding_D in voices]


def _levelled(audio_T: np.ndarray) -> np.ndarray:
    rms = float(np.sqrt(np.mean(audio_T.astype(np.float64) ** 2)))
    gain = 10 ** (LEVEL_DBFS / 20) / max(rms, 1e-9)
    return (audio_T * max(gain, 1.0)).astype(np.float32)


def _windows(audio_T: np.ndarray) -> np.ndarray:
    """Power mel of overlapping windows, float32 (B, 160, 40); short clips are zero-padded."""
    n_frames = math.ceil((len(audio_T) + 1) / HOP_SAMPLES)
    starts = list(range(0, max(1, n_frames - WINDOW_FRAMES + STEP_FRAMES + 1), STEP_FRAMES))
    last = (len(audio_T) - starts[-1] * HOP_SAMPLES) / (WINDOW_FRAMES * HOP_SAMPLES)
    if last < MIN_COVERAGE and len(starts) > 1:
        starts.pop()
    needed = (starts[-1] + WINDOW_FRAMES) * HOP_SAMPLES
    audio_T = np.pad(audio_T, (0, max(0, needed - len(audio_T))))
    mel_CF = mel_spectrogram(audio_T, FRAME_SAMPLES, FRAME_SAMPLES, HOP_SAMPLES, N_MELS, power=2.0)
    return np.stack([mel_CF.T[s : s + WINDOW_FRAMES] for s in starts]).astype(np.float32)
