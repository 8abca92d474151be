"""The judges, one clip at a time, each clip from its samples to the judgement.

Letters: T samples, C mel channels, F frames, W words, H width.
"""

from pathlib import Path

import ctranslate2
import librosa
import numpy as np
import onnxruntime
import torch
from pocketsphinx import Decoder
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional
from whisper.audio import log_mel_spectrogram

from hpro_core.align.refine import Phone, RawWord, refine
from hpro_core.constants import SAMPLE_RATE_HZ

Word = tuple[float, float]
"""Start and end in seconds."""


class Recogniser:
    """A Whisper model in int8 that writes down one clip after the other."""

    def __init__(self, folder: Path, prompt: list[str], windows_s: list[int], beam_size: int):
        self._model = ctranslate2.models.Whisper(
            str(folder), device="cpu", compute_type="int8", intra_threads=1, inter_threads=1
        )
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._prompt = [self._tokenizer.token_to_id(token) for token in prompt]
        self._windows_s, self._beam_size = windows_s, beam_size

    def write(self, audio_T: np.ndarray) -> str:
        """The words of a clip, padded to the first window that holds it."""
        duration_s = len(audio_T) / SAMPLE_RATE_HZ
        window_s = min(window for window in self._windows_s if duration_s <= window)
        padding = window_s * SAMPLE_RATE_HZ - len(audio_T)
        mel_CF = log_mel_spectrogram(audio_T, n_mels=80, padding=padding)
        found = self._model.generate(
            ctranslate2.StorageView.from_array(np.ascontiguousarray(mel_CF[None].numpy())),
            [self._prompt],
            beam_size=self._beam_size,
            max_length=len(self._prompt) + 10 + int(10 * duration_s),
        )
        return self._tokenizer.decode(found[0].sequences_ids[0])


class Voices:
    """GE2E: a voice is the mean over windows of 1.6 s, read one after the other."""

    def __init__(self, path: Path):
        stored = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
        self._lstm = nn.LSTM(40, 256, num_layers=3, batch_first=True)
        self._lstm.load_state_dict({n[5:]: w for n, w in stored.items() if n.startswith("lstm.")})
        self._weight, self._bias = stored["linear.weight"], stored["linear.bias"]

    @torch.inference_mode()
    def voice(self, audio_T: np.ndarray) -> np.ndarray:
        """Float32 (256,), unit length."""
        rms = np.sqrt(np.mean(audio_T.astype(np.float64) ** 2))
        audio_T = (audio_T * max(10 ** (-30 / 20) / rms, 1.0)).astype(np.float32)
        starts = [0]
        # another window every 77 frames, as long as three quarters of it are speech
        while len(audio_T) >= (starts[-1] + 77 + 0.75 * 160) * 160:
            starts.append(starts[-1] + 77)
        padded_T = np.pad(audio_T, (0, max(0, (starts[-1] + 160) * 160 - len(audio_T))))
        mel_CF = librosa.feature.melspectrogram(
            y=padded_T, sr=SAMPLE_RATE_HZ, n_fft=400, hop_length=160, n_mels=40
        )
        voices = []
        for start in starts:
            window_1FC = torch.from_numpy(mel_CF.T[start : start + 160].copy())[None]
            _, (state, _) = self._lstm(window_1FC)
            voice = torch.relu(functional.linear(state[-1, 0], self._weight, self._bias))
            voices.append(voice / voice.norm())
        mean = torch.stack(voices).mean(0)
        return (mean / mean.norm()).numpy()


class Quality:
    """DNSMOS P.835, the overall figure."""

    def __init__(self, path: Path):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )

    def score(self, audio_T: np.ndarray) -> float:
        """Of the first window of 9.01 s, the clip repeated until it fills it."""
        length = int(9.01 * SAMPLE_RATE_HZ)
        while len(audio_T) < length:
            audio_T = np.concatenate([audio_T, audio_T])
        raw_13 = self._session.run(None, {"input_1": audio_T[None, :length]})[0]
        return float(np.polyval((-0.06766283, 1.11546468, 0.04602535), raw_13[0, 2]))


class Affect:
    """The affect judge: frames, convolutions, words, all for one clip and word by word."""

    def __init__(self, folder: Path, test_set: str):
        self._weights = load_file(folder / "model.safetensors")
        self._mean_C, self._deviation_C = self._weights[f"scale_{test_set}"]
        self._words = nn.GRU(192, 96, batch_first=True, bidirectional=True)
        self._words.load_state_dict(
            {n[6:]: w for n, w in self._weights.items() if n.startswith("words.")}
        )

    @torch.no_grad()
    def judge(self, audio_T: np.ndarray, words: list[Word]) -> tuple[np.ndarray, np.ndarray]:
        """Emotion posterior (9,), and valence, arousal, dominance of each word (W, 3)."""
        frames_FC = torch.from_numpy(heard(audio_T))
        x_FH = self._linear("enter", (frames_FC - self._mean_C) / self._deviation_C)
        for layer, dilation in enumerate((1, 2, 4, 8)):
            here = f"convolutions.{layer}"
            weight = self._weights[f"{here}.convolution.weight"]
            bias = self._weights[f"{here}.convolution.bias"]
            convolved = functional.conv1d(
                x_FH.T[None], weight, bias, padding=2 * dilation, dilation=dilation
            )
            scale, shift = self._weights[f"{here}.norm.weight"], self._weights[f"{here}.norm.bias"]
            normed = functional.layer_norm(convolved[0].T, scale.shape, scale, shift)
            x_FH = x_FH + functional.gelu(normed)
        own = []
        for start_s, end_s in words:
            start = min(max(round(100 * start_s), 0), len(x_FH) - 1)
            own.append(moments(x_FH[start : max(round(100 * end_s), start + 1)]))
        context_WH = self._words(torch.stack(own)[None])[0][0]
        hidden = torch.cat([context_WH, torch.stack(own)], dim=1)
        vad_W3 = torch.sigmoid(
            self._linear("to_vad.2", functional.gelu(self._linear("to_vad.0", hidden)))
        )
        clip = functional.gelu(self._linear("to_emotion.0", moments(x_FH)))
        return self._linear("to_emotion.3", clip).softmax(-1).numpy(), vad_W3.numpy()

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return functional.linear(x, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])


def moments(x_FH: Tensor) -> Tensor:
    """Mean and deviation over frames, (2 H,)."""
    mean, square = x_FH.mean(0), x_FH.square().mean(0)
    return torch.cat([mean, (square - mean.square()).clamp(min=1e-5).sqrt()])


def heard(audio_T: np.ndarray) -> np.ndarray:
    """Log-mel bands, pitch around its median, voicing, level and that median, float32 (F, 68)."""
    amplitudes_MF = librosa.feature.melspectrogram(
        y=audio_T, sr=SAMPLE_RATE_HZ, n_fft=1024, win_length=640, hop_length=160, n_mels=64, power=1
    )
    padded_T = np.pad(audio_T.astype(np.float64), 320)
    pitches_st, levels_db, strengths = [], [], []
    for start in range(0, len(audio_T) + 1, 160):
        frame_K = padded_T[start : start + 640]
        levels_db.append(10 * np.log10(np.mean(frame_K**2) + 1e-8))
        pitch_st, strength = pitch_of(frame_K)
        pitches_st.append(pitch_st)
        strengths.append(strength)
    loud_db = max(max(levels_db) - 35.0, -60.0)
    voiced = [s > 0.45 and db > loud_db for s, db in zip(strengths, levels_db, strict=True)]
    spoken = [pitch for pitch, is_voiced in zip(pitches_st, voiced, strict=True) if is_voiced]
    median = float(np.median(spoken)) if spoken else 12.0
    rows = []
    for frame in range(min(amplitudes_MF.shape[1], len(levels_db))):
        moved_st = pitches_st[frame] - median if voiced[frame] else 0.0
        bands = np.log(amplitudes_MF[:, frame] + 0.01)
        rows.append([*bands, moved_st, float(voiced[frame]), levels_db[frame], median])
    return np.array(rows, dtype=np.float32)


def pitch_of(frame_K: np.ndarray) -> tuple[float, float]:
    """Pitch of 40 ms in semitones above 100 Hz, and how periodic they are (Boersma 1993)."""
    window_K = np.hanning(len(frame_K))
    own = autocorrelation((frame_K - frame_K.mean()) * window_K)
    windows = autocorrelation(window_K)
    strength = own / (own[0] + 1e-10) / (windows / windows[0])
    lags = range(32, 214)  # 500 to 75 Hz
    best = max(lags, key=lambda lag: strength[lag] - 0.01 * np.log2(lag))
    return float(12 * np.log2(SAMPLE_RATE_HZ / best / 100)), float(strength[best])


def autocorrelation(frame_K: np.ndarray) -> np.ndarray:
    """At lags 0 to 214."""
    return np.correlate(frame_K, frame_K, mode="full")[len(frame_K) - 1 : len(frame_K) + 214]


def word_times(audio_T: np.ndarray, words: list[str]) -> list[Word]:
    """Forced alignment of one clip by a decoder of its own, boundaries beside silence mended."""
    decoder = Decoder(samprate=SAMPLE_RATE_HZ, lm=None, bestpath=False, loglevel="FATAL")
    decoder.config["remove_noise"] = False
    decoder.reinit_feat()
    decoder.set_align_text(" ".join(words))
    loud = float(np.percentile(np.abs(audio_T), 99))
    noise_T = np.random.default_rng(0).standard_normal(len(audio_T))
    levelled_T = audio_T * (10 ** (-6 / 20) / loud) + 10 ** (-50 / 20) * noise_T
    pcm = np.round(np.clip(levelled_T, -1, 1) * 32767).astype("<i2").tobytes()
    for first in (True, False):  # words, then the phones in them
        decoder.start_utt()
        decoder.process_raw(pcm, full_utt=True)
        decoder.end_utt()
        if first:
            decoder.set_alignment()
    spoken = []
    for entry in decoder.get_alignment():
        if entry.name[0] not in "<[":
            phones = tuple(
                Phone(p.name, 0.01 * p.start, 0.01 * (p.start + p.duration)) for p in entry
            )
            end_s = 0.01 * (entry.start + entry.duration)
            spoken.append(RawWord(entry.name, 0.01 * entry.start, end_s, 0.0, phones))
    return [(word.start_s, word.end_s) for word in refine(spoken, audio_T)]
