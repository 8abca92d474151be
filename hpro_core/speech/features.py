"""Log-mel spectrogram and its inversion by Griffin-Lim. Letters: T sample, F frame, M mel band.

An utterance of T samples has L = ceil(T / 640) speech tokens and F = 4 L frames. Synthesis from its
tokens gives exactly 640 L samples. Frame f is centred on sample 160 f + 80, so the four frames of a
token are evenly spaced in its 40 ms.

Griffin-Lim needs no weights. Settings (ours): HTK mel bands of amplitudes, window 40 ms, floor
0.02, 32 iterations with momentum 0.99. Copy synthesis with them raises the WER by 0.2 points on
clean synthetic speech and by nothing on acted speech (docs/speech_tokens.md).
"""

import math
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torchaudio import transforms
from torchaudio.functional import melscale_fbanks

from hpro_core.constants import SAMPLE_RATE_HZ, TOKEN_RATE_HZ

SizeT = TypeVar("SizeT", int, np.ndarray)

N_MELS = 80
HOP = 160
FRAMES_PER_TOKEN = 4
SAMPLES_PER_TOKEN = SAMPLE_RATE_HZ // TOKEN_RATE_HZ
FLOOR = 0.02
"""Lower bound of mel amplitudes: below the noise of 11 kHz MP3 and inaudible in speech."""
SILENCE = math.log(FLOOR)
"""Value of a log-mel frame of digital silence."""
_N_FFT = 1024
_WINDOW = 640
_ITERATIONS = 32
_MOMENTUM = 0.99
_MARGIN = 4  # silent frames at both ends, for a fade at the edges of an utterance


def n_tokens(n_samples: SizeT) -> SizeT:
    """Compute the number of speech tokens, ceil(n_samples / 640), of an int or an int64 array."""
    return -(-n_samples // SAMPLES_PER_TOKEN)


def mel_bank(n_fft: int) -> Tensor:
    """Filters of the mel bands for a transform of `n_fft` samples, float32 (n_fft / 2 + 1, 80).

    They are scaled so that a spectrum of the same window has the same mel amplitudes whatever
    number of zeros the transform adds.
    """
    bank_KM = melscale_fbanks(
        n_fft // 2 + 1, 0.0, SAMPLE_RATE_HZ / 2, N_MELS, SAMPLE_RATE_HZ, norm=None, mel_scale="htk"
    )
    return bank_KM * (_N_FFT / n_fft)


class MelFrontend(nn.Module):
    """Audio to log-mel frames and back; holds fixed filters only, no trained or saved weights."""

    def __init__(self) -> None:
        super().__init__()
        self.spectrogram = transforms.Spectrogram(_N_FFT, _WINDOW, HOP, power=1.0)
        self.to_mel = transforms.MelScale(
            N_MELS, SAMPLE_RATE_HZ, f_max=SAMPLE_RATE_HZ / 2, n_stft=_N_FFT // 2 + 1
        )
        self.griffin_lim = transforms.GriffinLim(
            _N_FFT, _ITERATIONS, _WINDOW, HOP, power=1.0, momentum=_MOMENTUM
        )
        self.inverse_bank_MK = torch.linalg.pinv(self.to_mel.fb.double()).float()

    @torch.no_grad()
    def analyse(self, audio_T: Tensor) -> Tensor:
        """Compute the log-mel frames of one utterance; no gradients.

        Args:
            audio_T: 16 kHz mono, float32 in [-1, 1].

        Returns:
            float32 (4 L, 80), natural logarithm of mel amplitudes, at least SILENCE.
        """
        length = n_tokens(len(audio_T)) * SAMPLES_PER_TOKEN
        padded = nn.functional.pad(audio_T, (HOP // 2, length - len(audio_T) + HOP // 2))
        # Frame 0 is centred on the first sample of the padding, so frame f + 1 is frame f here.
        amplitudes = self.spectrogram(padded)[:, 1 : 1 + length // HOP]
        return self.to_mel(amplitudes).clamp(min=FLOOR).log().T.contiguous()

    @torch.no_grad()
    def analyse_batch(self, audio_BT: Tensor) -> Tensor:
        """Compute the log-mel frames of audio of whole tokens, float32 (B, T); see `analyse`.

        Returns:
            float32 (B, 4 L, 80).
        """
        padded_BT = nn.functional.pad(audio_BT, (HOP // 2, HOP // 2))
        amplitudes_BKF = self.spectrogram(padded_BT)[:, :, 1 : 1 + audio_BT.shape[1] // HOP]
        return self.to_mel(amplitudes_BKF).clamp(min=FLOOR).log().mT.contiguous()

    @torch.no_grad()
    def synthesise(self, log_mel_FM: Tensor, seed: int = 0) -> Tensor:
        """Synthesise audio from log-mel frames (Griffin-Lim); no gradients.

        Args:
            log_mel_FM: log-mel frames as from `analyse`, on the CPU.
            seed: seed of the initial phases; the global random state is not changed.

        Returns:
            float32 (160 F,) in [-1, 1].
        """
        silence = log_mel_FM.new_full((_MARGIN, N_MELS), SILENCE)
        framed = torch.cat([silence, log_mel_FM, silence]).float()
        amplitudes_KF = (framed.exp() @ self.inverse_bank_MK).clamp(min=1e-6).T
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            audio_T = self.griffin_lim(amplitudes_KF)
        # Sample 0 is the centre of the first margin frame.
        start = _MARGIN * HOP - HOP // 2
        return audio_T[start : start + len(log_mel_FM) * HOP].clamp(-1.0, 1.0)
