"""Losses of the vocoder and of the mel refiner.

Letters: B batch, F frame, M mel band, T sample, K bin, X one more axis.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.speech.vocoder import Pitch

_RESOLUTIONS = (256, 640, 1280)  # samples of the windows; hops are a quarter
_MELS = (24, 80, 160)
_SMALLEST = 1e-3  # lower bound of amplitudes in logarithms, re the largest sum of a window of 640


class MultiResolutionMel(nn.Module):
    """L1 distance of log-mel spectra of three window lengths.

    Bands average over bins, so that the noise of speech is compared by its level and not value by
    value, which would be lowest without any noise.
    """

    def __init__(self) -> None:
        super().__init__()
        from torchaudio.functional import melscale_fbanks

        for size, mels in zip(_RESOLUTIONS, _MELS, strict=True):
            bank_KM = melscale_fbanks(size // 2 + 1, 0.0, 8000.0, mels, SAMPLE_RATE_HZ)
            self.register_buffer(f"bank_{size}", bank_KM, persistent=False)
            self.register_buffer(f"window_{size}", torch.hann_window(size), persistent=False)

    def forward(self, audio_BT: Tensor, target_BT: Tensor) -> Tensor:
        """Mean over resolutions, frames and bands; gradients reach `audio_BT`."""
        terms = []
        for size in _RESOLUTIONS:
            made, true = (self._log_mel(x_BT, size) for x_BT in (audio_BT, target_BT))
            terms.append((made - true).abs().mean())
        return torch.stack(terms).mean()

    def _log_mel(self, audio_BT: Tensor, size: int) -> Tensor:
        window, bank_KM = getattr(self, f"window_{size}"), getattr(self, f"bank_{size}")
        spectrum_BKF = torch.stft(audio_BT, size, size // 4, window=window, return_complex=True)
        amplitude_BFK = (spectrum_BKF.abs() / size).mT
        return (amplitude_BFK @ bank_KM).clamp(min=1e-5).log()


def pitch_loss(pitch: Pitch, f0_BF: Tensor) -> Tensor:
    """L1 distance in octaves over voiced frames plus cross-entropy of voicing.

    Args:
        pitch: prediction.
        f0_BF: pitch of the recordings in Hz, NaN where unvoiced.
    """
    voiced_BF = f0_BF.isfinite()
    voicing = functional.binary_cross_entropy_with_logits(pitch.voicing_BF, voiced_BF.float())
    if not voiced_BF.any():
        return voicing
    octaves = (pitch.f0_BF[voiced_BF] / f0_BF[voiced_BF]).log2().abs().mean()
    return 4 * octaves + voicing


class PatchDiscriminator(nn.Module):
    """Convolutions over time and frequency of a spectrum, for one score per patch."""

    def __init__(self, channels: Sequence[int], kernel: tuple[int, int], stride: tuple[int, int]):
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2)
        pairs = pairwise(channels)
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, kernel, stride if i else (1, stride[1]), padding)
            for i, (a, b) in enumerate(pairs)
        )
        self.score = nn.Conv2d(channels[-1], 1, 3, padding=1)

    def forward(self, spectrum_BCFK: Tensor) -> list[Tensor]:
        """Outputs of all layers; the last is the score, float (B, 1, F', K')."""
        hidden, outputs = spectrum_BCFK, []
        for layer in self.layers:
            hidden = functional.leaky_relu(layer(hidden), 0.1)
            outputs.append(hidden)
        return [*outputs, self.score(hidden)]


class AudioDiscriminator(nn.Module):
    """Patch discriminators on complex spectra of several window lengths (Jang et al. 2021)."""

    def __init__(self, sizes: Sequence[int] = (320, 1024), width: int = 16) -> None:
        super().__init__()
        self.sizes = sizes
        channels = (2, width, width, 2 * width, 2 * width)
        self.parts = nn.ModuleList(PatchDiscriminator(channels, (3, 7), (1, 2)) for _ in sizes)

    def forward(self, audio_BT: Tensor) -> list[list[Tensor]]:
        """Layer outputs of every part; spectra have their magnitudes to the power 0.3."""
        outputs = []
        for size, part in zip(self.sizes, self.parts, strict=True):
            window = torch.hann_window(size, device=audio_BT.device)
            complex_BKF = torch.stft(
                audio_BT / size**0.5 * 8, size, size // 4, window=window, return_complex=True
            )
            magnitude_BKF = (complex_BKF.real**2 + complex_BKF.imag**2).clamp(min=1e-8).sqrt()
            scaled_BKF = complex_BKF * magnitude_BKF**-0.7
            outputs.append(part(torch.view_as_real(scaled_BKF).permute(0, 3, 2, 1)))
        return outputs


def discriminator_loss(real: list[list[Tensor]], made: list[list[Tensor]]) -> Tensor:
    """Least-squares loss of a discriminator (Mao et al. 2017): real patches to 1, made to 0."""
    terms = [
        (r[-1].float() - 1).square().mean() + m[-1].float().square().mean()
        for r, m in zip(real, made, strict=True)
    ]
    return torch.stack(terms).mean()


def generator_losses(real: list[list[Tensor]], made: list[list[Tensor]]) -> tuple[Tensor, Tensor]:
    """Least-squares loss of a generator, and the feature-matching loss over all layers."""
    scores = torch.stack([(m[-1].float() - 1).square().mean() for m in made]).mean()
    distances = [
        (a.detach().float() - b.float()).abs().mean()
        / a.detach().float().abs().mean().clamp(min=1e-3)
        for r, m in zip(real, made, strict=True)
        for a, b in zip(r[:-1], m[:-1], strict=True)
    ]
    return scores, torch.stack(distances).mean()


def frozen(module: nn.Module, *inputs: Tensor) -> list[list[Tensor]]:
    """Call a module so that gradients reach its inputs only."""
    fixed = {name: weight.detach() for name, weight in module.named_parameters()}
    return functional_call(module, fixed, inputs)
