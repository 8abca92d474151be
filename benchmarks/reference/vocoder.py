"""Log-mel frames to sound by torchaudio's Griffin-Lim, and speech tokens to log-mel frames.

Letters: F frame, M mel band, K frequency bin, T sample, L speech token, C channel.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional
from torchaudio.transforms import GriffinLim, MelScale

from hpro_core.constants import SAMPLE_RATE_HZ

N_MELS, N_FFT, WINDOW, HOP = 80, 1024, 640, 160
FLOOR, MARGIN = 0.02, 4
MEL_SPREAD = 2.5


def sound_of(mel_FM: Tensor, seed: int = 0) -> Tensor:
    """Sound whose log-mel frames are close to the given ones, float32 (160 F,)."""
    bank_KM = MelScale(N_MELS, SAMPLE_RATE_HZ, f_max=SAMPLE_RATE_HZ / 2, n_stft=N_FFT // 2 + 1).fb
    silence = torch.full((MARGIN, N_MELS), math.log(FLOOR))
    framed_FM = torch.cat([silence, mel_FM, silence])
    amplitudes_FK = framed_FM.exp() @ torch.linalg.pinv(bank_KM.double()).float()
    torch.manual_seed(seed)
    inverse = GriffinLim(N_FFT, 32, WINDOW, HOP, power=1.0, momentum=0.99)
    audio_T = inverse(amplitudes_FK.clamp(min=1e-6).T)
    start = MARGIN * HOP - HOP // 2
    return audio_T[start : start + len(mel_FM) * HOP].clamp(-1.0, 1.0)


def mel_of(weights: dict[str, Tensor], tokens_L: Tensor, speaker_E: Tensor) -> Tensor:
    """Log-mel frames of speech tokens, (4 L, 80), by 1-d convolutions without a mask."""
    digits_L8 = torch.stack([tokens_L // 3**place % 3 for place in range(8)], dim=1)
    x_LC = linear(weights, "from_digits", digits_L8.float() - 1)
    x_LC = x_LC + linear(weights, "speaker_to_token", speaker_E)
    x_LC = stack(weights, "decoder", x_LC)
    x_FC = linear(weights, "to_frames", x_LC).reshape(4 * len(tokens_L), -1)
    x_FC = x_FC + linear(weights, "speaker_to_frame", speaker_E)
    return linear(weights, "to_mel", stack(weights, "frame_decoder", x_FC)) * MEL_SPREAD


def stack(weights: dict[str, Tensor], name: str, x_LC: Tensor) -> Tensor:
    """ConvNeXt blocks over time, and a norm."""
    block = 0
    while f"{name}.blocks.{block}.depthwise.weight" in weights:
        here = f"{name}.blocks.{block}"
        kernel = weights[f"{here}.depthwise.weight"].squeeze(2)
        bias = weights[f"{here}.depthwise.bias"]
        convolved = functional.conv1d(
            x_LC.T[None], kernel, bias, padding=kernel.shape[-1] // 2, groups=len(kernel)
        )
        inner = functional.gelu(
            linear(weights, f"{here}.widen", norm(weights, f"{here}.norm", convolved[0].T))
        )
        x_LC = x_LC + linear(weights, f"{here}.narrow", inner)
        block += 1
    return norm(weights, f"{name}.norm", x_LC)


def linear(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    """x W' + b."""
    return functional.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


def norm(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    """Layer norm over the channels."""
    weight = weights[f"{name}.weight"]
    return functional.layer_norm(x, weight.shape, weight, weights[f"{name}.bias"])
