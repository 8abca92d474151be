"""Sound to speech tokens and the speaker's embedding, one clip at a time.

Letters: T sample, L speech token, F frame, M mel band, K frequency bin, P numbers of a patch.
"""

import torch
from torch import Tensor
from torchaudio.transforms import MelScale

from hpro_core.constants import SAMPLE_RATE_HZ
from reference.vocoder import FLOOR, HOP, MEL_SPREAD, N_FFT, N_MELS, WINDOW, linear, stack

SAMPLES_PER_TOKEN = 640


def encoded(weights: dict[str, Tensor], audio_T: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens int64 (L,) and speaker embedding (64,)."""
    patch_LP = log_mel(audio_T).half().float().reshape(-1, 4 * N_MELS) / MEL_SPREAD
    hidden_LC = stack(weights, "encoder", linear(weights, "project", patch_LP))
    digit_L8 = (2 * torch.sigmoid(linear(weights, "to_digits", hidden_LC))).round().long()
    tokens_L = sum(digit_L8[:, place] * 3**place for place in range(8))
    assert isinstance(tokens_L, Tensor)
    voice_LC = stack(
        weights, "speaker_encoder.stack", linear(weights, "speaker_encoder.project", patch_LP)
    )
    voice_E = linear(weights, "speaker_encoder.out", voice_LC.mean(0))
    return tokens_L, voice_E / voice_E.norm()


def log_mel(audio_T: Tensor) -> Tensor:
    """Log-mel frames (4 L, 80), a discrete Fourier transform for each frame by itself."""
    n_tokens = -(-len(audio_T) // SAMPLES_PER_TOKEN)
    window = torch.zeros(N_FFT)
    inset = (N_FFT - WINDOW) // 2
    window[inset : inset + WINDOW] = torch.hann_window(WINDOW)
    length = n_tokens * SAMPLES_PER_TOKEN
    padded_T = torch.nn.functional.pad(audio_T, (HOP // 2, length - len(audio_T) + HOP // 2))
    padded_T = torch.nn.functional.pad(padded_T[None], (N_FFT // 2,) * 2, mode="reflect")[0]
    bank_KM = MelScale(N_MELS, SAMPLE_RATE_HZ, f_max=SAMPLE_RATE_HZ / 2, n_stft=N_FFT // 2 + 1).fb
    frames = []
    for frame in range(1, 4 * n_tokens + 1):
        piece = padded_T[frame * HOP : frame * HOP + N_FFT] * window
        frames.append((torch.fft.rfft(piece).abs() @ bank_KM).clamp(min=FLOOR).log())
    return torch.stack(frames)
