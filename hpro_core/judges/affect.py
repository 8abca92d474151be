"""Embedded affect judge: a small convolutional network over acoustic features, with two heads.

The judge is independent of the reward by design. It has its own waveform front-end. Its training
recordings (split `judge`) train no other model. It shares neither features nor architecture nor
code with the codec's heads (attention over speech tokens) or the teachers.
Letters: B clips, F frames (100 Hz), C channels, H width, W words, 9 emotions, 3 valence, arousal
and dominance.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from hpro_core.constants import EMOTIONS, SAMPLE_RATE_HZ, VAD
from hpro_core.errors import HproError
from hpro_core.io import read_json, write_json
from hpro_core.judges.mel import mel_spectrogram
from hpro_core.judges.prosody import FRAME_RATE_HZ, contours
from hpro_core.params import Section, validate_section
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

MIN_RECALL_GAIN = 0.25
"""Least grade of a judge whose outputs on unknown test sets are shown (ours).

The scale is `Grade.gain`: 0 is chance, 1 is no error. Listeners reach 0.29 on the audio of acted
sentences (40.9 % of six emotions, CREMA-D, Cao et al. 2014), so a judge below 0.25 is worse than an
untrained listener.
"""
SCALES = "scales.json"
"""File of the scales of unknown test sets, beside the judged recordings."""


class Grade(Section):
    """Accuracy of a judge on a labelled corpus that it was not trained on, with its own scale."""

    corpus: str = Field(description="the labelled corpus")
    recordings: int = Field(ge=1, description="number of labelled recordings")
    classes: int = Field(ge=2, description="number of emotions in the labels")
    recall: float = Field(ge=0, le=1, description="unweighted average recall of the emotion")

    @property
    def gain(self) -> float:
        """Recall above chance, as a fraction of the largest possible gain."""
        chance = 1 / self.classes
        return (self.recall - chance) / (1 - chance)


@dataclass(frozen=True)
class Scale:
    """Channel scale of a test set that the judge was not trained on.

    Attributes:
        splits: splits that the recordings are of.
        recordings: number of recordings that the scale was computed from.
        scale_2C: mean and standard deviation of each channel, float32 (2, C).
    """

    splits: list[str]
    recordings: int
    scale_2C: Tensor


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
    removes the effect of the recording channel on all clips of that set. The scale of a set that
    the judge was trained on is among its weights. An unknown set is judged with the scale of its
    own recordings (`scales`).
    """

    def __init__(self, trained_on: Mapping[str, int], grade: Grade | None = None):
        """
        Args:
            trained_on: number of recordings by test set.
            grade: accuracy on unknown test sets; None if it was not measured.
        """
        super().__init__()
        self.trained_on = dict(trained_on)
        self.grade = grade
        self.scales: dict[str, Scale] = {}  # of unknown test sets
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

    def withheld(self, test_set: str) -> str | None:
        """Return why the judge is not trusted on a test set; None if it is."""
        if test_set in self.trained_on:
            return None
        if self.grade is None:
            return (
                f"the affect judge was not trained on {test_set}, and its accuracy on unknown "
                "corpora was not measured"
            )
        if self.grade.gain < MIN_RECALL_GAIN:
            return (
                f"the affect judge was not trained on {test_set}, and on an unknown corpus "
                f"({self.grade.corpus}, {self.grade.recordings} recordings) its emotion recall is "
                f"{self.grade.recall:.2f} (chance {1 / self.grade.classes:.2f}), which is too low"
            )
        return None

    def set_scale(self, test_set: str, frames: Sequence[np.ndarray]) -> None:
        """Set the normalisation of a test set that the judge is trained on.

        Args:
            test_set: a key of `trained_on`.
            frames: features of its clips, float32 (F, C) each, see `scale_of`.

        Raises:
            HproError: `test_set` is not in `trained_on`.
        """
        self._scale(test_set).copy_(scale_of(frames))

    def scaled(self, test_set: str, frames_FC: np.ndarray) -> Tensor:
        """Normalise the features of a clip by its test set, float32 (F, C).

        Raises:
            HproError: `test_set` is neither in `trained_on` nor in `scales`.
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
            test_set: a key of `trained_on` or of `scales`.
            frames_FC: features from `input_features`, float32 (F, C).
            spans: start and end of each word in seconds, at least one word.

        Returns:
            Emotion posterior, float64 (9,), in the order of EMOTIONS, and valence, arousal,
            dominance of each word in [0, 1], float64 (W, 3).

        Raises:
            HproError: `test_set` is neither in `trained_on` nor in `scales`.
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
        if test_set in self.trained_on:
            return self.get_buffer(f"scale_{test_set}")
        if test_set not in self.scales:
            known = ", ".join([*self.trained_on, *self.scales])
            raise HproError(
                f"the affect judge has no channel scale for the test set {test_set!r}, only for "
                f"{known}: run `hpro judge-recordings` again"
            )
        return self.scales[test_set].scale_2C


def scale_of(frames: Sequence[np.ndarray]) -> Tensor:
    """Compute the mean and the standard deviation of each channel over all frames of clips.

    Args:
        frames: features of the clips from `input_features`, float32 (F, C) each.

    Returns:
        float32 (2, C); standard deviations below 0.1 are set to 0.1.
    """
    together_FC = np.concatenate(frames)
    deviation_C = np.maximum(together_FC.std(axis=0), _MIN_DEVIATION)
    return torch.from_numpy(np.stack([together_FC.mean(axis=0), deviation_C]))


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
    config: dict[str, Any] = {"trained_on": judge.trained_on}
    if judge.grade is not None:
        config["grade"] = judge.grade.model_dump()
    save_model(folder, judge, config)


def known_sets(folder: Path) -> dict[str, int]:
    """Read the test sets that a judge was trained on, with the number of recordings of each.

    Raises:
        HproError: the config is missing or invalid.
    """
    trained_on = model_config(folder, "an affect judge", "trained_on")["trained_on"]
    if not isinstance(trained_on, dict) or not all(type(n) is int for n in trained_on.values()):
        raise HproError(
            f"{folder}/config.json: trained_on is {trained_on!r}, not an integer for each test set"
        )
    return trained_on


def load(folder: Path) -> AffectJudge:
    """Load a judge that `save` wrote, in eval mode.

    Raises:
        HproError: a file is missing or invalid.
    """
    trained_on = known_sets(folder)
    config = model_config(folder, "an affect judge")
    grade = None
    if "grade" in config:
        grade = validate_section(config["grade"], Grade, folder / CONFIG, "grade")
    shapes = shapes_of(folder / WEIGHTS, RETRAIN)
    judge = build_checked(lambda: AffectJudge(trained_on, grade), folder / CONFIG, shapes, RETRAIN)
    load_weights(folder, judge)
    return judge.eval()


_OneEach = Field(min_length=N_CHANNELS, max_length=N_CHANNELS)
_Mean = Annotated[float, Field(ge=-1e6, le=1e6)]
_Deviation = Annotated[float, Field(ge=_MIN_DEVIATION / 2, le=1e6)]


class _ScaleValues(Section):
    """A scale as it is stored."""

    splits: list[str]
    recordings: int = Field(ge=1)
    mean: Annotated[list[_Mean], _OneEach]
    deviation: Annotated[list[_Deviation], _OneEach]


def write_scales(path: Path, scales: Mapping[str, Scale]) -> None:
    """Write the scales of unknown test sets; the numbers are read back bit for bit."""
    content = {
        test_set: {
            "splits": scale.splits,
            "recordings": scale.recordings,
            "mean": scale.scale_2C[0].tolist(),
            "deviation": scale.scale_2C[1].tolist(),
        }
        for test_set, scale in scales.items()
    }
    write_json(path, content)


def read_scales(path: Path) -> dict[str, Scale]:
    """Read the scales that `write_scales` wrote.

    Raises:
        HproError: the file is missing or invalid.
    """
    scales = {}
    for test_set, values in read_json(path, "run `hpro judge-recordings` again").items():
        stored = validate_section(values, _ScaleValues, path, test_set)
        scale_2C = torch.tensor([stored.mean, stored.deviation], dtype=torch.float32)
        scales[test_set] = Scale(stored.splits, stored.recordings, scale_2C)
    return scales


def _moments(hidden_BFH: Tensor, weight_BWF: Tensor) -> Tensor:
    """Mean and standard deviation over each span, (B, W, 2 H); (0, 0.003) for an empty span."""
    count_BW1 = weight_BWF.sum(-1, keepdim=True).clamp(min=1)
    mean_BWH = weight_BWF @ hidden_BFH / count_BW1
    square_BWH = weight_BWF @ hidden_BFH.square() / count_BW1
    deviation_BWH = (square_BWH - mean_BWH.square()).clamp(min=1e-5).sqrt()
    return torch.cat([mean_BWH, deviation_BWH], dim=-1)
