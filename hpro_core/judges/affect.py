"""Embedded affect judge: a small convolutional network over acoustic features, with two heads.

The judge is independent of the reward by design. It has its own waveform front-end. Its training
recordings (split `judge`) train no other model. It shares neither features nor architecture nor
code with the codec's heads (attention over speech tokens) or the teachers.
Letters: B clips, F frames (100 Hz), C channels, H width, W words, 9 emotions, 3 valence, arousal
and dominance.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from hpro_core.constants import EMOTIONS, SAMPLE_RATE_HZ, VAD
from hpro_core.errors import HproError
from hpro_core.judges.mel import mel_spectrogram
from hpro_core.judges.prosody import FRAME_RATE_HZ, contours
from hpro_core.train.checkpoint import (
    CONFIG,
    RETRAIN,
    WEIGHTS,
    build_checked,
    load_weights,
    model_config,
    save_model,
    shapes_of,
)

Span = tuple[float, float]
"""Start and end of a word in seconds."""

N_MELS = 64
N_CHANNELS = N_MELS + 4
"""Log-mel bands, and four channels: pitch minus the clip's median, voicing, level, median pitch."""
_WINDOW, _N_FFT = 640, 1024
_FLOOR = 0.01  # of mel amplitudes
_WIDTH = 96
_DILATIONS = (1, 2, 4, 8)
_KERNEL = 5
_MIN_DEVIATION = 0.1  # bands above the bandwidth of an old recording hardly vary
_DROPOUT = 0.2
_PITCH_ST = 12.0  # median pitch that is set for a clip without voiced frames


def input_features(audio_T: np.ndarray) -> np.ndarray:
    """Compute the input features of the affect judge.

    Args:
        audio_T: float (T,), 16 kHz, not empty.

    Returns:
        float32 (F, C) at 100 Hz, unscaled; C is `N_CHANNELS`.
    """
    hop = SAMPLE_RATE_HZ // FRAME_RATE_HZ
    samples_T = audio_T.astype(np.float32)
    amplitudes_MF = mel_spectrogram(samples_T, _N_FFT, _WINDOW, hop, N_MELS, power=1.0)
    mel_FM = np.log(amplitudes_MF + _FLOOR).T
    pitch_st_F, level_db_F = contours(audio_T)
    frames = min(len(mel_FM), len(level_db_F))
    voiced_F = ~np.isnan(pitch_st_F[:frames])
    median = float(np.median(pitch_st_F[:frames][voiced_F])) if voiced_F.any() else _PITCH_ST
    moved_F = np.where(voiced_F, pitch_st_F[:frames] - median, 0.0)
    prosody = (moved_F, voiced_F, level_db_F[:frames], np.full(frames, median))
    return np.column_stack([mel_FM[:frames], *prosody]).astype(np.float32)


class _Convolution(nn.Module):
    """Dilated convolution over time with a residual connection."""

    def __init__(self, dilation: int):
        super().__init__()
        reach = dilation * (_KERNEL // 2)
        self.convolution = nn.Conv1d(_WIDTH, _WIDTH, _KERNEL, padding=reach, dilation=dilation)
        self.norm = nn.LayerNorm(_WIDTH)

    def forward(self, x_BFH: Tensor) -> Tensor:
        convolved_BFH = self.convolution(x_BFH.transpose(1, 2)).transpose(1, 2)
        return x_BFH + functional.gelu(self.norm(convolved_BFH))


class AffectJudge(nn.Module):
    """Predict the emotion of a clip and the affect of its words.

    Dilated convolutions encode frames. A bidirectional GRU encodes words. The mean and standard
    deviation over frames represent the clip. Each test set has its own feature normalisation, which
    removes the effect of the recording channel on all clips of that set.
    """

    def __init__(self, trained_on: Mapping[str, int]):
        """`trained_on`: number of recordings by test set; other test sets are refused."""
        super().__init__()
        self.trained_on = dict(trained_on)
        for name in self.trained_on:
            zero_one_2C = torch.stack([torch.zeros(N_CHANNELS), torch.ones(N_CHANNELS)])
            self.register_buffer(f"scale_{name}", zero_one_2C)
        self.enter = nn.Linear(N_CHANNELS, _WIDTH)
        self.convolutions = nn.ModuleList(_Convolution(d) for d in _DILATIONS)
        self.dropout = nn.Dropout(_DROPOUT)
        self.words = nn.GRU(2 * _WIDTH, _WIDTH, batch_first=True, bidirectional=True)
        self.to_vad = nn.Sequential(
            nn.Linear(4 * _WIDTH, _WIDTH), nn.GELU(), nn.Linear(_WIDTH, len(VAD)), nn.Sigmoid()
        )
        self.to_emotion = nn.Sequential(
            nn.Linear(2 * _WIDTH, _WIDTH),
            nn.GELU(),
            nn.Dropout(_DROPOUT),
            nn.Linear(_WIDTH, len(EMOTIONS)),
        )

    def set_scale(self, test_set: str, frames: Sequence[np.ndarray]) -> None:
        """Set the normalisation of a test set: mean and standard deviation of each channel.

        Args:
            test_set: a key of `trained_on`.
            frames: features of its clips, float32 (F, C) each. Standard deviations below 0.1 are
                set to 0.1.

        Raises:
            HproError: `test_set` is not in `trained_on`.
        """
        together_FC = np.concatenate(frames)
        deviation_C = np.maximum(together_FC.std(axis=0), _MIN_DEVIATION)
        scale = np.stack([together_FC.mean(axis=0), deviation_C])
        self._scale(test_set).copy_(torch.from_numpy(scale))

    def scaled(self, test_set: str, frames_FC: np.ndarray) -> Tensor:
        """Normalise the features of a clip by its test set, float32 (F, C).

        Raises:
            HproError: `test_set` is not in `trained_on`.
        """
        mean_C, deviation_C = self._scale(test_set)
        return (torch.from_numpy(frames_FC) - mean_C) / deviation_C

    def forward(
        self, frames_BFC: Tensor, lengths_B: Tensor, spans_BW2: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Predict emotion logits and word affect of normalised clips.

        Args:
            frames_BFC: float32 (B, F, C); padding is ignored.
            lengths_B: number of frames of each clip, int64 (B,).
            spans_BW2: first and one-past-last frame of each word, int64 (B, W, 2); padding is
                (0, 0) and is ignored.

        Returns:
            Emotion logits, float32 (B, 9), and valence, arousal, dominance of each word in [0, 1],
            float32 (B, W, 3), undefined at padding.
        """
        frame_F = torch.arange(frames_BFC.shape[1])
        real_BF = (frame_F < lengths_B[:, None]).float()
        hidden_BFH = self.enter(frames_BFC * real_BF[..., None])
        for convolution in self.convolutions:
            hidden_BFH = convolution(hidden_BFH * real_BF[..., None])
        hidden_BFH = self.dropout(hidden_BFH)
        inside_BWF = (frame_F >= spans_BW2[..., :1]) & (frame_F < spans_BW2[..., 1:])
        words_BWH = _moments(hidden_BFH, inside_BWF.float())
        clip_BH = _moments(hidden_BFH, real_BF[:, None])[:, 0]
        context_BWH = self._context(words_BWH, (spans_BW2[..., 1] > 0).sum(1))
        return self.to_emotion(clip_BH), self.to_vad(torch.cat([context_BWH, words_BWH], dim=-1))

    @torch.no_grad()
    def judge(
        self, test_set: str, frames_FC: np.ndarray, spans: Sequence[Span]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Predict the emotion posterior and the word affect of one clip. No gradients.

        Args:
            test_set: a key of `trained_on`.
            frames_FC: features from `input_features`, float32 (F, C).
            spans: start and end of each word in seconds, at least one word.

        Returns:
            Emotion posterior, float64 (9,), in the order of EMOTIONS, and valence, arousal,
            dominance of each word in [0, 1], float64 (W, 3).

        Raises:
            HproError: `test_set` is not in `trained_on`.
        """
        spans_1W2 = span_frames(spans, len(frames_FC))[None]
        frames_1FC = self.scaled(test_set, frames_FC)[None]
        logits_19, vad_1W3 = self(frames_1FC, torch.tensor([len(frames_FC)]), spans_1W2)
        return logits_19[0].softmax(-1).double().numpy(), vad_1W3[0].double().numpy()

    def posterior(self, test_set: str, frames_FC: np.ndarray) -> np.ndarray:
        """Predict the emotion posterior of a clip without word times, see `judge`.

        Returns:
            float64 (9,) in the order of EMOTIONS.
        """
        whole = (0.0, len(frames_FC) / FRAME_RATE_HZ)
        return self.judge(test_set, frames_FC, [whole])[0]

    def _context(self, words_BWH: Tensor, count_B: Tensor) -> Tensor:
        """Apply the recurrent layer to the words of each clip, (B, W, 2 H); 0 at padding."""
        packed = pack_padded_sequence(words_BWH, count_B, batch_first=True, enforce_sorted=False)
        context, _ = self.words(packed)
        n_words = words_BWH.shape[1]
        return pad_packed_sequence(context, batch_first=True, total_length=n_words)[0]

    def _scale(self, test_set: str) -> Tensor:
        if test_set not in self.trained_on:
            raise HproError(
                f"the affect judge has no test set {test_set!r}, only "
                f"{', '.join(self.trained_on)}: it was trained without its `judge` split; "
                "give the set `split: train`, or train a judge with it (docs/corpora.md)"
            )
        return self.get_buffer(f"scale_{test_set}")


def span_frames(spans: Sequence[Span], n_frames: int) -> Tensor:
    """Convert word times to frame indices at 100 Hz.

    Args:
        spans: start and end of each word in seconds.
        n_frames: number of frames of the clip.

    Returns:
        First and one-past-last frame of each word, int64 (W, 2); at least one frame each.
    """
    edges_W2 = np.round(np.asarray(spans, dtype=np.float64).reshape(-1, 2) * FRAME_RATE_HZ)
    start_W = np.clip(edges_W2[:, 0], 0, n_frames - 1)
    end_W = np.clip(edges_W2[:, 1], start_W + 1, n_frames)
    return torch.from_numpy(np.stack([start_W, end_W], axis=1).astype(np.int64))


def save(judge: AffectJudge, folder: Path) -> None:
    """Write `model.safetensors` and `config.json` to `folder`."""
    save_model(folder, judge, {"trained_on": judge.trained_on})


def load(folder: Path) -> AffectJudge:
    """Load a judge that `save` wrote, in eval mode.

    Raises:
        HproError: a file is missing or invalid.
    """
    trained_on = model_config(folder, "an affect judge", "trained_on")["trained_on"]
    if not isinstance(trained_on, dict) or not all(type(n) is int for n in trained_on.values()):
        raise HproError(
            f"{folder}/config.json: trained_on is {trained_on!r}, not an integer for each test set"
        )
    shapes = shapes_of(folder / WEIGHTS, RETRAIN)
    judge = build_checked(lambda: AffectJudge(trained_on), folder / CONFIG, shapes, RETRAIN)
    load_weights(folder, judge)
    return judge.eval()


def _moments(hidden_BFH: Tensor, weight_BWF: Tensor) -> Tensor:
    """Mean and standard deviation over each span, (B, W, 2 H); (0, 0.003) for an empty span."""
    count_BW1 = weight_BWF.sum(-1, keepdim=True).clamp(min=1)
    mean_BWH = weight_BWF @ hidden_BFH / count_BW1
    square_BWH = weight_BWF @ hidden_BFH.square() / count_BW1
    deviation_BWH = (square_BWH - mean_BWH.square()).clamp(min=1e-5).sqrt()
    return torch.cat([mean_BWH, deviation_BWH], dim=-1)
