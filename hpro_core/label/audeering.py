"""Teacher of word affect (paper): audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim.

The published weights are loaded from a folder in Hugging Face format (docs/labels.md). The input is
the waveform of the window of words around each word (paper: the word, one before and one after).
Letters: B window of a batch, N window, T sample, F frame of 20 ms, D feature, C affect dimension,
W word.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import LongTensor, Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2Model

from hpro_core.constants import SAMPLE_RATE_HZ, VAD
from hpro_core.errors import HproError
from hpro_core.io import fingerprint, read_json
from hpro_core.label.files import HUGGING_FACE
from hpro_core.label.hugging_face import (
    check_runs,
    find_weights_file,
    from_values,
    load_feature_extractor,
    load_strict,
)
from hpro_core.label.teachers import AlignedUtterance, Read, word_windows
from hpro_core.label.weak import read_audio

ORIGIN = "audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim"
MIN_WINDOW_S = 0.1
"""Shorter windows are widened (ours): the convolutions need 25 ms for their first frame."""

# Replaces masked frames in training only; the file may or may not hold it.
_UNUSED = ("wav2vec2.masked_spec_embed",)


class AffectModel(nn.Module):
    """wav2vec2 with a regression head on the mean of its last hidden states (model card)."""

    def __init__(self, config: Wav2Vec2Config):
        """
        Args:
            config: model configuration; `id2label` names the affect dimensions.
        """
        super().__init__()
        self.wav2vec2 = Wav2Vec2Model(config)
        self.classifier = nn.ModuleDict(
            {
                "dense": nn.Linear(config.hidden_size, config.hidden_size),
                "out_proj": nn.Linear(config.hidden_size, len(dimensions_of(config))),
            }
        )

    def forward(self, samples_BT: Tensor, mask_BT: LongTensor) -> Tensor:
        """Predict the affect of each window.

        Args:
            samples_BT: normalised waveforms, float (B, T), zero in the padding.
            mask_BT: 1 for samples, 0 for padding, int (B, T); padding does not change the result.

        Returns:
            float (B, C), unbounded.
        """
        hidden_BFD = self.wav2vec2(samples_BT, attention_mask=mask_BT).last_hidden_state
        inside_BF = self.wav2vec2._get_feature_vector_attention_mask(hidden_BFD.shape[1], mask_BT)
        inside_BF1 = inside_BF.unsqueeze(-1).to(hidden_BFD)
        pooled_BD = (hidden_BFD * inside_BF1).sum(dim=1) / inside_BF1.sum(dim=1)
        return self.classifier["out_proj"](torch.tanh(self.classifier["dense"](pooled_BD)))


class AudeeringWordVad:
    """`WordVadTeacher` that predicts the affect of the window of words around each word."""

    def __init__(
        self,
        folder: Path,
        window_words: int,
        batch_size: int,
        device: torch.device,
        read: Read = read_audio,
    ):
        """
        Args:
            folder: config.json, preprocessor_config.json, and model.safetensors or, without it,
                pytorch_model.bin.
            window_words: number of words on each side in the window of a word.
            batch_size: windows per batch of the model.
            device: device of the model, which runs in float32.
            read: returns the samples of an utterance.

        Raises:
            HproError: a file is missing, broken, of another model, or lacks weights.
        """
        self.weights = find_weights_file(folder, ORIGIN)
        config = _config(folder)
        files = (self.weights, *(folder / name for name in HUGGING_FACE))
        self.dimensions = dimensions_of(config)
        self.window_words = window_words
        self.batch_size = batch_size
        self._extractor = load_feature_extractor(folder, ORIGIN)
        self._read = read
        self.identity: dict[str, object] = {
            "teacher": ORIGIN,
            "files": fingerprint(*files),
            "window_words": window_words,
            "code": fingerprint(*sorted(Path(__file__).parent.glob("*.py"))),
        }  # without batch_size, so that it can be lowered after an out-of-memory error
        self._device = device
        layers = config.num_hidden_layers
        model = load_strict(lambda: AffectModel(config), layers, self.weights, ORIGIN, _UNUSED)
        self._model = model.to(device)
        shortest_T = np.zeros(round(MIN_WINDOW_S * SAMPLE_RATE_HZ), dtype=np.float32)
        two = [shortest_T, np.append(shortest_T, shortest_T)]  # the first is padded
        check_runs(lambda: self._batch(two), folder, ORIGIN)

    def word_vad(self, utterances: Sequence[AlignedUtterance]) -> list[np.ndarray]:
        """Predict the affect of each word, see `WordVadTeacher`.

        Values outside [0, 1] are clipped; the number of clipped words is printed.

        Raises:
            HproError: an audio file is missing, unreadable, not 16 kHz mono or too short, or an
                output of the model is not finite.
        """
        windows = [self._windows(utterance) for utterance in utterances]
        raw = self._outputs([samples_T for of_one in windows for samples_T in of_one])
        ends = np.cumsum([len(of_one) for of_one in windows])
        rows = np.split(raw, ends[:-1])
        for utterance, rows_WC in zip(utterances, rows, strict=True):
            if not np.isfinite(rows_WC).all():
                raise HproError(
                    f"{utterance.utt_id}: the output of {self.weights} for {utterance.audio} is "
                    "not finite: check the audio, or download the weights again"
                )
        clipped = int(((raw < 0) | (raw > 1)).any(axis=1).sum())
        if clipped:
            print(f"audeering: values outside [0, 1], clipped: {clipped} of {len(raw)} words")
        return [np.clip(rows_WC, 0.0, 1.0) for rows_WC in rows]

    def _windows(self, utterance: AlignedUtterance) -> list[np.ndarray]:
        """Cut the waveform of the window around each word, float32 (T,) each."""
        samples_T = self._read(utterance)
        shortest = round(MIN_WINDOW_S * SAMPLE_RATE_HZ)
        if len(samples_T) < shortest:
            raise HproError(
                f"{utterance.utt_id}: {utterance.audio} has {len(samples_T)} samples, but a "
                f"window needs {shortest}: raise corpus.min_duration_s in params.yaml"
            )
        spans_s = utterance.spans_s
        return [
            samples_T[window_samples(spans_s[first, 0], spans_s[past - 1, 1], len(samples_T))]
            for first, past in word_windows(len(utterance.words), self.window_words)
        ]

    def _outputs(self, windows: list[np.ndarray]) -> np.ndarray:
        """Compute the model's outputs, float64 (N, C), in the order of the windows."""
        by_length = sorted(range(len(windows)), key=lambda index: len(windows[index]))
        out = np.empty((len(windows), len(self.dimensions)))
        for start in range(0, len(windows), self.batch_size):
            chosen = by_length[start : start + self.batch_size]
            out[chosen] = self._batch([windows[index] for index in chosen])
        return out

    @torch.inference_mode()
    def _batch(self, windows: list[np.ndarray]) -> np.ndarray:
        inputs = self._extractor(
            windows,
            sampling_rate=SAMPLE_RATE_HZ,
            padding=True,
            return_attention_mask=True,
            return_tensors="pt",
        ).to(self._device)
        return self._model(inputs["input_values"], inputs["attention_mask"]).cpu().numpy()


def window_samples(start_s: float, end_s: float, n_samples: int) -> slice:
    """Compute the sample range of a window, at least MIN_WINDOW_S long.

    Args:
        start_s: start of the first word of the window, in seconds.
        end_s: end of the last word of the window, in seconds.
        n_samples: samples of the recording, at least those of MIN_WINDOW_S.

    Returns:
        Slice of the samples between the two times. A shorter window is widened equally on both
        sides, or further on one side if the recording ends on the other.
    """
    shortest = round(MIN_WINDOW_S * SAMPLE_RATE_HZ)
    first = min(round(start_s * SAMPLE_RATE_HZ), n_samples)
    past = min(round(end_s * SAMPLE_RATE_HZ), n_samples)
    lacking = max(shortest - (past - first), 0)
    first = min(max(first - lacking // 2, 0), n_samples - shortest)
    return slice(first, max(past, first + shortest))


def _config(folder: Path) -> Wav2Vec2Config:
    """Read the configuration of a model folder and check the values that affect results."""
    path = folder / "config.json"
    values = read_json(path, f"get it from {ORIGIN}")
    expected = {
        "model_type": "wav2vec2",
        "feat_extract_norm": "layer",
        "pooling_mode": "mean",
        "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
        "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    }
    for name, value in expected.items():
        if values.get(name) != value:
            raise HproError(
                f"{path}: {name} is {values.get(name)!r}, but {value!r} in the model {ORIGIN}: "
                "use the file of this model"
            )
    config = from_values(Wav2Vec2Config, values, path, ORIGIN)
    if sorted(dimensions_of(config)) != sorted(VAD):
        raise HproError(
            f"{path}: id2label names {', '.join(dimensions_of(config))}, but {', '.join(VAD)} are "
            f"needed: use the file of {ORIGIN}"
        )
    config.mask_time_prob = config.mask_feature_prob = 0.0  # omits the mask parameter
    return config


def dimensions_of(config: Wav2Vec2Config) -> tuple[str, ...]:
    """List the names of the outputs in their order (published: arousal, dominance, valence)."""
    names = {int(index): str(name) for index, name in (config.id2label or {}).items()}
    return tuple(names[index] for index in sorted(names))
