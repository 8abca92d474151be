"""Synthesiser of the controlled corpus: hibari-tts with exact phone durations and word controls.

hibari's network predicts an integer duration per phone (units of 25 ms), a pitch curve and spectra
per frame of 12.5 ms. Two inputs (a factor and an upper limit per phone duration) and one output
(the durations) are added to its graph. Word times are then exact, and the controls of each word can
be applied before synthesis.
Letters: P phone (with hibari's pads), F frame, K frequency bin, W word.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import soxr
from hibari import dsp
from hibari.tts import Hibari

from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.corpus.controlled.affect import WordControls

FRAMES_PER_UNIT = 2
FRAME_S = dsp.HOP / dsp.SR
LEAD_UNITS = 3
"""Silence before speech: 75 ms instead of hibari's 350 ms."""
LAST_PHONE_UNITS = 3
"""hibari includes the silence after the sentence in its last phone; 75 ms exclude it."""
AHEAD_FRAMES = 3
"""hibari's audio is 37.5 ms ahead of its durations: against a forced aligner, 430 boundaries lie
40 ms before the blank's start (median; standard deviation 16 ms; docs/corpora.md)."""
CORPUS_GAIN_DB = -8.0
"""Headroom for loud words: one gain for all utterances keeps levels comparable."""
BREATH_GAIN_DB = 24.0
"""hibari's noise is 42 dB below its speech, where changes of it are inaudible (measured)."""
VOICED_HZ = 40.0
MAX_PITCH_HZ = 500.0
TREMOR_HZ = 6.0
SMOOTHING_FRAMES = 5
"""Word controls are smoothed over 62 ms, to avoid clicks at word boundaries."""

_DURATIONS = "/Clip_output_0"
_ROUNDING = "/Round_output_0"


class UnreadableSentence(Exception):
    """hibari's phones do not match the words of the sentence."""


@dataclass(frozen=True)
class RenderedSpeech:
    """One rendered sentence."""

    samples: np.ndarray  # float32 (T,) at `SAMPLE_RATE_HZ`
    spans_s: np.ndarray  # start and end of each word, float (W, 2)


class Voice:
    """hibari's default voice with per-word control."""

    def __init__(self) -> None:
        self._hibari = Hibari()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            open_graph(self._hibari.model_path), options, providers=["CPUExecutionProvider"]
        )

    def synthesise(
        self, text: str, n_words: int, controls: WordControls, seed: list[int]
    ) -> RenderedSpeech:
        """Render one sentence.

        Args:
            text: one sentence.
            n_words: W, its number of words.
            controls: acoustic controls of each word, arrays (W,).
            seed: seed of the voice's noise.

        Raises:
            UnreadableSentence: the phones do not form W words.
        """
        phones = "".join(self._hibari.phonemize(text))
        word_P = word_of_phone(phones, n_words)
        stretch_P = np.append(controls.stretch, 1.0)[word_P].astype(np.float32)
        lh, theta, ln, lr, phi, f0, units_P = self._session.run(
            None,
            {
                "ids": np.array([self._hibari.ids(phones)], np.int64),
                "speed": np.ones(1, np.float32),
                "stretch": stretch_P,
                "limit": _limits(word_P),
            },
        )
        frames_P = units_P.astype(int) * FRAMES_PER_UNIT
        spectra = apply_controls((lh[0], ln[0], lr[0]), f0[0], word_P, frames_P, controls)
        (lh_KF, ln_KF, lr_KF), f0_F = spectra
        noise = np.random.default_rng(seed)
        wave = dsp.synth(lh_KF, theta[0], ln_KF, lr_KF, phi[0], f0_F, noise)
        samples = soxr.resample(wave * 10 ** (CORPUS_GAIN_DB / 20), dsp.SR, SAMPLE_RATE_HZ)
        return RenderedSpeech(
            samples / max(1.0, float(np.abs(samples).max())), _spans_s(word_P, frames_P)
        )


def open_graph(path: str | Path) -> bytes:
    """Return hibari's network with inputs `stretch` and `limit` and the durations as last output.

    The original graph rounds each duration separately, which removes small changes of tempo. This
    graph rounds the boundaries between phones, so that rounding errors do not accumulate.
    """
    model = onnx.load(path)
    graph = model.graph
    rounding = next(node for node in graph.node if _ROUNDING in node.output)
    position = list(graph.node).index(rounding)
    predicted = rounding.input[0]
    graph.node.remove(rounding)
    node = onnx.helper.make_node
    opened = [
        node("Mul", [predicted, "stretch"], ["longer"]),
        node("Min", ["longer", "limit"], ["limited"]),
        node("CumSum", ["limited", "hpro_zero"], ["ends"]),
        node("Round", ["ends"], ["rounded_ends"]),
        node("Slice", ["rounded_ends", "hpro_first", "hpro_last"], ["earlier_ends"]),
        node("Concat", ["hpro_start", "earlier_ends"], ["rounded_starts"], axis=0),
        node("Sub", ["rounded_ends", "rounded_starts"], [_ROUNDING]),
    ]
    for index, added in enumerate(opened):
        graph.node.insert(position + index, added)
    integers = {"hpro_zero": 0, "hpro_first": [0], "hpro_last": [-1]}
    constants = {name: np.array(value, np.int64) for name, value in integers.items()}
    constants["hpro_start"] = np.zeros(1, np.float32)
    for name, value in constants.items():
        graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    for name in ("stretch", "limit"):
        graph.input.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["L"]))
    graph.output.append(
        onnx.helper.make_tensor_value_info(_DURATIONS, onnx.TensorProto.FLOAT, ["L"])
    )
    return model.SerializeToString()


def word_of_phone(phones: str, n_words: int) -> np.ndarray:
    """Return the word of each phone, int (P,), P = len(phones) + 2 pads; n_words for no word.

    A blank between words belongs to the word after it; the final mark and the pads to no word.

    Raises:
        UnreadableSentence: the phones do not form `n_words` words and a full stop or question mark.
    """
    if not phones.endswith((".", "?")) or len(phones.split()) != n_words:
        raise UnreadableSentence(phones)
    word_P = np.cumsum([0, *(sign == " " for sign in phones), 0])
    word_P[[0, -2, -1]] = n_words
    return word_P


def _limits(word_P: np.ndarray) -> np.ndarray:
    limit_P = np.full(len(word_P), 1e3, np.float32)
    limit_P[0] = LEAD_UNITS
    limit_P[-3] = LAST_PHONE_UNITS
    return limit_P


def _spans_s(word_P: np.ndarray, frames_P: np.ndarray) -> np.ndarray:
    bounds = np.append(0, np.cumsum(frames_P)) - AHEAD_FRAMES
    words_W = range(word_P.max())
    first_W = [int(np.argmax(word_P == word)) for word in words_W]
    count_W = [int((word_P == word).sum()) for word in words_W]
    frames_W2 = [(bounds[p], bounds[p + n]) for p, n in zip(first_W, count_W, strict=True)]
    return np.array(frames_W2) * FRAME_S


def apply_controls(
    spectra_KF: tuple[np.ndarray, ...],
    f0_F: np.ndarray,
    word_P: np.ndarray,
    frames_P: np.ndarray,
    controls: WordControls,
) -> tuple[list[np.ndarray], np.ndarray]:
    """Apply the word controls to hibari's log spectra and pitch.

    Args:
        spectra_KF: log magnitudes of the harmonic, noise and free-phase branches, float32 (K, F).
        f0_F: pitch in Hz, below `VOICED_HZ` where unvoiced, float32 (F,).
        word_P: word of each phone, int (P,).
        frames_P: number of frames of each phone, int (P,), sum F.
        controls: acoustic controls of each word, arrays (W,).

    Returns:
        The three spectra and the pitch after the controls, same shapes.
    """
    word_F = np.repeat(word_P, frames_P)
    word_F = np.append(word_F[AHEAD_FRAMES:], word_F[-AHEAD_FRAMES:])
    level_F = _glide(controls.level_db, 0.0, word_F) * (np.log(10) / 20)
    breath_F = _glide(controls.breath_db, 0.0, word_F) * (np.log(10) / 20)
    tilt_F = _glide(controls.tilt_db, 0.0, word_F) * (np.log(10) / 20)
    formant_F = _glide(controls.formant, 1.0, word_F)
    hz_K = np.arange(len(spectra_KF[0])) * dsp.SR / dsp.N_FFT
    octaves_K = np.maximum(np.log2(np.maximum(hz_K, 1) / 500), 0)
    gain_KF = (octaves_K[:, None] * tilt_F + level_F).astype(np.float32)
    louder = [warp_frequencies(log_KF, formant_F) + gain_KF for log_KF in spectra_KF]
    louder[1] += (breath_F + BREATH_GAIN_DB * np.log(10) / 20).astype(np.float32)
    return louder, _pitch(f0_F, word_F, controls)


def warp_frequencies(log_KF: np.ndarray, factor_F: np.ndarray) -> np.ndarray:
    """Stretch the frequency axis of each frame by a factor (linear interpolation), (K, F)."""
    last = len(log_KF) - 1
    source_KF = np.minimum(np.arange(last + 1)[:, None] / factor_F, last)
    below_KF = np.minimum(source_KF.astype(int), last - 1)
    part_KF = (source_KF - below_KF).astype(np.float32)
    low_KF = np.take_along_axis(log_KF, below_KF, 0)
    high_KF = np.take_along_axis(log_KF, below_KF + 1, 0)
    return low_KF + part_KF * (high_KF - low_KF)


def _pitch(f0_F: np.ndarray, word_F: np.ndarray, controls: WordControls) -> np.ndarray:
    voiced_F = f0_F > VOICED_HZ
    if not voiced_F.any():
        return f0_F
    st_F = 12 * np.log2(np.maximum(f0_F, VOICED_HZ))
    mean_st = st_F[voiced_F].mean()
    time_s_F = np.arange(len(f0_F)) * FRAME_S
    tremor_F = np.sin(2 * np.pi * TREMOR_HZ * time_s_F) * _glide(controls.tremor_st, 0.0, word_F)
    moved_F = (st_F - mean_st) * _glide(controls.pitch_range, 1.0, word_F)
    moved_F += mean_st + _glide(controls.pitch_st, 0.0, word_F) + tremor_F
    moved_F += np.append(controls.rise_st, 0.0)[word_F] * (_share_of_word(word_F) - 0.5)
    hz_F = np.clip(2 ** (moved_F / 12), VOICED_HZ + 1, MAX_PITCH_HZ)
    return np.where(voiced_F, hz_F, f0_F).astype(np.float32)


def _share_of_word(word_F: np.ndarray) -> np.ndarray:
    """Relative position of each frame in its word, float (F,) in (0, 1)."""
    starts_R = np.flatnonzero(np.diff(word_F, prepend=-1))
    length_R = np.diff(np.append(starts_R, len(word_F)))
    passed_F = np.arange(len(word_F)) - np.repeat(starts_R, length_R)
    return (passed_F + 0.5) / np.repeat(length_R, length_R)


def _glide(value_W: np.ndarray, rest: float, word_F: np.ndarray) -> np.ndarray:
    """Frame values (F,) of word values, smoothed by a moving average."""
    value_F = np.append(value_W, rest)[word_F]
    padded_F = np.pad(value_F, SMOOTHING_FRAMES // 2, mode="edge")
    return np.convolve(padded_F, np.ones(SMOOTHING_FRAMES) / SMOOTHING_FRAMES, mode="valid")
