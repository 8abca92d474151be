"""One sentence of the controlled corpus, frame by frame. Letters: P phone, F frame, K bin, W word.

hibari's network and its synthesis are the package's; what is ours is what a word's controls do to
its spectra and pitch.
"""

import numpy as np
import onnxruntime
import soxr
from hibari import dsp
from hibari.tts import Hibari

from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.corpus.controlled.sentence_plans import Plan
from hpro_core.corpus.controlled.voice import open_graph

FRAME_S = dsp.HOP / dsp.SR
AHEAD = 3


class Voice:
    """hibari's default voice."""

    def __init__(self) -> None:
        self._hibari = Hibari()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        graph = open_graph(self._hibari.model_path)
        self._network = onnxruntime.InferenceSession(
            graph, options, providers=["CPUExecutionProvider"]
        )

    def synthesise(self, plan: Plan) -> tuple[np.ndarray, np.ndarray]:
        """Samples (T,) at 16 kHz, and word times (W, 2) in seconds."""
        controls, rest = plan.controls, plan.n_words
        phones = "".join(self._hibari.phonemize(plan.sentence.text))
        word_P, word = [rest], 0
        for sign in phones:
            word += sign == " "
            word_P.append(word)
        word_P[-1] = rest
        word_P.append(rest)
        stretch_P = [float(controls.stretch[w]) if w != rest else 1.0 for w in word_P]
        limit_P = [1e3] * len(word_P)
        limit_P[0] = limit_P[-3] = 3.0
        found = self._network.run(
            None,
            {
                "ids": np.array([self._hibari.ids(phones)], np.int64),
                "speed": np.ones(1, np.float32),
                "stretch": np.array(stretch_P, np.float32),
                "limit": np.array(limit_P, np.float32),
            },
        )
        lh, theta, ln, lr, phi, f0, units_P = found
        frames_P = [2 * int(units) for units in units_P]
        word_F = [w for w, frames in zip(word_P, frames_P, strict=True) for _ in range(frames)]
        word_F = word_F[AHEAD:] + word_F[-AHEAD:]
        spectra = [self._shaped(x[0], word_F, plan, breath=x is ln) for x in (lh, ln, lr)]
        pitch_F = self._pitch(f0[0], word_F, plan)
        noise = np.random.default_rng(plan.seed)
        wave = dsp.synth(spectra[0], theta[0], spectra[1], spectra[2], phi[0], pitch_F, noise)
        samples = soxr.resample(wave * 10 ** (-8 / 20), dsp.SR, SAMPLE_RATE_HZ)
        ends_P = np.cumsum(frames_P) - AHEAD
        starts_P = [-AHEAD, *ends_P[:-1]]
        spans = []
        for word in range(rest):
            places = [place for place, w in enumerate(word_P) if w == word]
            spans.append((starts_P[places[0]] * FRAME_S, ends_P[places[-1]] * FRAME_S))
        return samples / max(1.0, float(np.abs(samples).max())), np.array(spans)

    def _shaped(
        self, log_KF: np.ndarray, word_F: list[int], plan: Plan, breath: bool
    ) -> np.ndarray:
        """Formants moved, level, tilt and breath added, one frame after the other."""
        controls = plan.controls
        bin_K = np.arange(len(log_KF))
        octaves_K = [max(np.log2(max(k * dsp.SR / dsp.N_FFT, 1) / 500), 0.0) for k in bin_K]
        shaped_KF = np.empty_like(log_KF)
        nepers = np.log(10) / 20
        for frame in range(len(word_F)):
            factor = glide(controls.formant, 1.0, word_F, frame)
            source_K = np.minimum(bin_K / factor, len(bin_K) - 1)
            gain_K = glide(controls.tilt_db, 0.0, word_F, frame) * np.array(octaves_K)
            gain_K = gain_K + glide(controls.level_db, 0.0, word_F, frame)
            if breath:
                gain_K = gain_K + glide(controls.breath_db, 0.0, word_F, frame) + 24.0
            shaped_KF[:, frame] = np.interp(source_K, bin_K, log_KF[:, frame]) + gain_K * nepers
        return shaped_KF

    def _pitch(self, f0_F: np.ndarray, word_F: list[int], plan: Plan) -> np.ndarray:
        controls = plan.controls
        voiced = [frame for frame in range(len(word_F)) if f0_F[frame] > 40.0]
        st_F = 12 * np.log2(np.maximum(f0_F, 40.0))
        mean_st = np.mean([st_F[frame] for frame in voiced])
        pitch_F = f0_F.copy()
        for frame in voiced:
            moved = (st_F[frame] - mean_st) * glide(controls.pitch_range, 1.0, word_F, frame)
            moved += mean_st + glide(controls.pitch_st, 0.0, word_F, frame)
            depth = glide(controls.tremor_st, 0.0, word_F, frame)
            moved += depth * np.sin(2 * np.pi * 6.0 * frame * FRAME_S)
            word, first, last = word_F[frame], frame, frame
            while first > 0 and word_F[first - 1] == word:
                first -= 1
            while last + 1 < len(word_F) and word_F[last + 1] == word:
                last += 1
            if word < plan.n_words:
                share = (frame - first + 0.5) / (last - first + 1)
                moved += controls.rise_st[word] * (share - 0.5)
            pitch_F[frame] = min(max(2 ** (moved / 12), 41.0), 500.0)
        return pitch_F


def glide(value_W: np.ndarray, rest: float, word_F: list[int], frame: int) -> float:
    """A word's value at a frame: the mean over the five frames around it."""
    around = [min(max(f, 0), len(word_F) - 1) for f in range(frame - 2, frame + 3)]
    values = [value_W[word_F[f]] if word_F[f] < len(value_W) else rest for f in around]
    return sum(values) / len(values)
