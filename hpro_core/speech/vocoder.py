"""Log-mel frames to audio by an inverse STFT: a small harmonic-plus-noise vocoder.

Letters: B batch, F frame, M mel band, T sample, K = 321 bin of the spectrum, C channel.

As in HiFTNet (Li et al. 2023, arXiv 2309.09493; the vocoder of CosyVoice2) and Vocos (Siuzdak 2024,
arXiv 2306.00814) the output is an inverse STFT of a predicted spectrum, and the excitation follows
a pitch that is predicted from the mel frames. Both learn magnitudes and phases from much data. Ours
learns corrections of what is known, in minutes on a CPU: the excitation is a pulse train and white
noise, the level is that of the mel frames, and the phase is the minimum phase of their envelope.
ConvNeXt blocks predict for each bin the share of pulses, and corrections of level and phase.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.errors import HproError
from hpro_core.io import read_json
from hpro_core.speech.features import FLOOR, HOP, N_MELS, mel_bank
from hpro_core.speech.tokenizer import Stack
from hpro_core.train.checkpoint import load_model, model_config

ISTFT, GRIFFIN_LIM = "istft", "griffin_lim"
"""Values of `kind` in speech/vocoder/config.json, and of the setting `vocoder.method`."""
N_FFT = 640
"""Samples of a window, 40 ms as those of the mel frames."""
_BINS = N_FFT // 2 + 1
_MEL_SCALE = 2.5  # of log-mel frames of speech, measured
_MIDDLE_F0_HZ = 150.0
_F0_RANGE_HZ = (50.0, 600.0)
_MAX_GAIN = 6.0  # natural logarithm: largest level of a bin over that of its mel band
_SMALLEST = 1e-4  # lower bound of the excitation's mel amplitudes


@dataclass(frozen=True)
class VocoderConfig:
    """Sizes of the vocoder."""

    width: int = 192
    blocks: int = 3
    pitch_width: int = 96
    pitch_blocks: int = 2


class Pitch(NamedTuple):
    """Pitch of frames as predicted from their spectra."""

    f0_BF: Tensor  # Hz, defined for unvoiced frames too
    voicing_BF: Tensor  # logit of voiced


class PitchPredictor(nn.Module):
    """Predicts pitch and voicing from log-mel frames."""

    def __init__(self, width: int, blocks: int):
        super().__init__()
        self.project = nn.Linear(N_MELS, width)
        self.stack = Stack(width, kernel=7, blocks=blocks)
        self.out = nn.Linear(width, 2)

    def forward(self, mel_BFM: Tensor) -> Pitch:
        """Predict the pitch of log-mel frames, float (B, F, 80)."""
        hidden = self.stack(self.project(mel_BFM / _MEL_SCALE), _ones(mel_BFM))
        octaves_BF, voicing_BF = self.out(hidden).float().unbind(-1)
        f0_BF = (_MIDDLE_F0_HZ * octaves_BF.exp2()).clamp(*_F0_RANGE_HZ)
        return Pitch(f0_BF, voicing_BF)


class Vocoder(nn.Module):
    """Log-mel frames to audio."""

    window: Tensor
    bank_KM: Tensor
    spread_MK: Tensor

    def __init__(self, config: VocoderConfig):
        super().__init__()
        self.config = config
        self.pitch = PitchPredictor(config.pitch_width, config.pitch_blocks)
        self.project = nn.Linear(N_MELS + 2, config.width)
        self.stack = Stack(config.width, kernel=7, blocks=config.blocks)
        self.out = nn.Linear(config.width, 3 * _BINS)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        bank_KM = mel_bank(N_FFT)
        shares_KM = bank_KM / bank_KM.sum(1, keepdim=True).clamp(min=1e-3)
        shares_KM[0, 0] = shares_KM[-1, -1] = 1.0
        for name, fixed in (
            ("window", torch.hann_window(N_FFT)),
            ("bank_KM", bank_KM),
            ("spread_MK", shares_KM.T.contiguous()),
        ):
            self.register_buffer(name, fixed, persistent=False)

    def forward(self, mel_BFM: Tensor, noise_BT: Tensor, pitch: Pitch | None = None) -> Tensor:
        """Synthesise audio.

        Args:
            mel_BFM: log-mel frames as of `MelFrontend.analyse`, float (B, F, 80).
            noise_BT: white noise of unit variance, float32 (B, 160 F).
            pitch: pitch to follow; None: that predicted from the frames.

        Returns:
            float32 (B, 160 F). Gradients reach the frames and all weights, except for those of the
            pitch predictor.
        """
        if pitch is None:
            with torch.no_grad():
                pitch = self.pitch(mel_BFM)
        octaves_BF = (pitch.f0_BF / _MIDDLE_F0_HZ).log2()
        voiced_BF = pitch.voicing_BF.sigmoid()
        inputs = torch.cat(
            [mel_BFM / _MEL_SCALE, torch.stack([octaves_BF, voiced_BF], -1).to(mel_BFM)], -1
        )
        hidden = self.stack(self.project(inputs), _ones(mel_BFM))
        gain_BFK, turn_BFK, mix_BFK = self.out(hidden).float().chunk(3, -1)
        with torch.autocast(mel_BFM.device.type, enabled=False):
            frequency_K = torch.arange(_BINS, device=mel_BFM.device) / _BINS
            prior_BFK = pitch.voicing_BF.clamp(-4, 4)[..., None] - 4 * frequency_K
            mix_BFK = (prior_BFK + mix_BFK).sigmoid()
            pulses_BFK = self.spectrum(pulse_train(pitch.f0_BF))
            noise_BFK = self.spectrum(noise_BT)
            turn_BFK = turn_BFK + self.minimum_phase(mel_BFM)
            turned_BFK = pulses_BFK * torch.polar(torch.ones_like(turn_BFK), turn_BFK)
            excitation_BFK = mix_BFK * turned_BFK + (1 - mix_BFK) * noise_BFK
            level_BFM = (excitation_BFK.abs() @ self.bank_KM).clamp(min=_SMALLEST)
            log_gain_BFK = (mel_BFM.float() - level_BFM.log()) @ self.spread_MK
            log_gain_BFK = (log_gain_BFK + gain_BFK).clamp(max=math.log(1 / FLOOR) + _MAX_GAIN)
            return self.audio(excitation_BFK * log_gain_BFK.exp())

    def minimum_phase(self, mel_BFM: Tensor) -> Tensor:
        """Phases of the minimum-phase filter with the envelope of log-mel frames, (B, F, K).

        The complex cepstrum of such a filter is causal (Oppenheim and Schafer), and the vocal tract
        is nearly one. All harmonics in phase would sound like a buzzer.
        """
        envelope_BFK = (mel_BFM.float() - self.bank_KM.sum(0).log()) @ self.spread_MK
        cepstrum_BFN = torch.fft.irfft(envelope_BFK.to(torch.complex64), N_FFT)
        causal_N = self.window.new_zeros(N_FFT)
        causal_N[1 : N_FFT // 2] = 2.0
        return torch.fft.rfft(cepstrum_BFN * causal_N).imag

    def spectrum(self, audio_BT: Tensor) -> Tensor:
        """Compute the spectrum of frames, complex (B, F, K), of audio, float32 (B, 160 F).

        Frame f is centred on sample 160 f + 80, as in `features`.
        """
        side = (N_FFT - HOP) // 2
        frames_BFN = nn.functional.pad(audio_BT, (side, side)).unfold(-1, N_FFT, HOP)
        return torch.fft.rfft(frames_BFN * self.window)

    def audio(self, spectrum_BFK: Tensor) -> Tensor:
        """Invert `spectrum`, float32 (B, 160 F): overlapping frames are added with weights."""
        frames_BFN = torch.fft.irfft(spectrum_BFK, N_FFT) * self.window
        weight_FN = self.window.square().expand(spectrum_BFK.shape[1], -1)
        added_BT, weight_1T = _overlap_add(frames_BFN), _overlap_add(weight_FN[None])
        side = (N_FFT - HOP) // 2
        return (added_BT / weight_1T.clamp(min=1e-3))[:, side:-side]


def load_vocoder(folder: Path) -> Vocoder | None:
    """Load a trained vocoder in eval mode; None stands for Griffin-Lim.

    Args:
        folder: speech/vocoder of a run, or vocoder/ of an export. If there is none, which older
            runs and exports do not have, or if its config.json names it, it is Griffin-Lim.

    Raises:
        HproError: a file is missing or does not fit.
    """
    if not folder.is_dir():
        return None
    path = folder / "config.json"
    kind = read_json(path).get("kind")
    if kind == GRIFFIN_LIM:
        return None
    if kind != ISTFT:
        raise HproError(f"{path}: kind is {kind!r}, not {ISTFT} or {GRIFFIN_LIM}: train it again")
    config = model_config(folder, "a vocoder", "model")
    return load_model(folder, config["model"], VocoderConfig, Vocoder)


def pulse_train(f0_BF: Tensor) -> Tensor:
    """Sum of all harmonics below 8 kHz with equal amplitudes and unit power.

    Args:
        f0_BF: pitch of frames in Hz, positive.

    Returns:
        float32 (B, 160 F); the pulse times depend on the pitch only.
    """
    f0_BT = nn.functional.interpolate(f0_BF[:, None].double(), scale_factor=HOP, mode="linear")[
        :, 0
    ]
    turns_BT = (f0_BT / SAMPLE_RATE_HZ).cumsum(-1) % 1.0
    harmonics_BT = (0.98 * SAMPLE_RATE_HZ / 2 / f0_BT).floor().clamp(min=1)
    half = math.pi * (turns_BT - turns_BT.round())
    small_BT = half.abs() < 1e-6
    safe = torch.where(small_BT, 1.0, half)
    ratio_BT = ((2 * harmonics_BT + 1) * safe).sin() / safe.sin()
    sum_BT = (torch.where(small_BT, 2 * harmonics_BT + 1, ratio_BT) - 1) / 2
    return (sum_BT * (2 / harmonics_BT).sqrt()).float()


def white_noise(n_frames: int, seed: int) -> Tensor:
    """Noise of an utterance for `Vocoder.forward`, float32 (1, 160 F), on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, n_frames * HOP, generator=generator)


def _overlap_add(frames_BFN: Tensor) -> Tensor:
    """Add frames at a distance of HOP samples, (B, HOP (F - 1) + N)."""
    size = (1, HOP * (frames_BFN.shape[1] - 1) + frames_BFN.shape[2])
    return nn.functional.fold(
        frames_BFN.transpose(1, 2), size, (1, frames_BFN.shape[2]), stride=(1, HOP)
    )[:, 0, 0]


def _ones(mel_BFM: Tensor) -> Tensor:
    return mel_BFM.new_ones(len(mel_BFM), mel_BFM.shape[1], 1)
