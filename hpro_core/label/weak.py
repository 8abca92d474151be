"""The embedded teachers for real speech: simple, documented and weak (docs/labels.md; ours).

They replace emotion2vec and audeering's model if their weights are not available. Valence depends
on words only, arousal mostly on pitch, level and rate relative to the speaker's mean.
Letters: N utterance, W word, C class, F frame.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hpro_core.constants import EMOTIONS, SAMPLE_RATE_HZ
from hpro_core.errors import HproError
from hpro_core.io import read_wav
from hpro_core.label.lexicon import Lexicon
from hpro_core.label.prosody import FRAME_RATE_HZ, Prosody, analyse
from hpro_core.label.teachers import AlignedUtterance, word_windows
from hpro_core.progress import track
from hpro_core.text.phones import phones_of

# Log-odds per standard deviation: rows pitch, level and rate, columns valence, arousal, dominance.
# Signs: pitch, level and rate rise with arousal (Banse and Scherer 1996; Juslin and Laukka 2003);
# level raises dominance, pitch lowers it (Ohala's frequency code, 1984; Tusing and Dillard 2000 for
# level). Valence has no cue that is reliable across speakers, so it depends on words only. The
# magnitudes are ours: typical outputs then span about 0.2 to 0.8.
_CUE_WEIGHTS = np.array([[0.0, 0.5, -0.2], [0.0, 0.5, 0.5], [0.0, 0.25, 0.0]])
_WORD_WEIGHTS = np.diag([1.2, 0.4, 0.6])  # of the norms' valence, arousal, dominance
_Z_LIMIT = 3.0

# Valence, arousal, dominance of the classes in [-1, 1]: Russell and Mehrabian (1977), "Evidence for
# a three-factor theory of emotions", terms angry, disgusted, fearful, happy, sad, surprised.
PROTOTYPES = {
    "angry": (-0.51, 0.59, 0.25),
    "disgusted": (-0.60, 0.35, 0.11),
    "fearful": (-0.64, 0.60, -0.43),
    "happy": (0.81, 0.51, 0.46),
    "neutral": (0.0, 0.0, 0.0),
    "sad": (-0.63, -0.27, -0.33),
    "surprised": (0.40, 0.67, -0.13),
}
_FLOORS = {"other": 0.04, "unknown": 0.04}  # ours: constant, as these classes have no prototype
_EXCLAMATION = np.array([0.0, 0.15, 0.0])  # ours: added to the affect of a text with "!"
_QUESTION = 0.4  # ours: log-odds of "surprised" added for a text with "?"
_SPREAD = 2.0  # ours: scales utterance means, which have a smaller spread than the prototypes


class WeakWordVad:
    """Estimates word affect from the norms and the prosody of the window around each word."""

    def __init__(self, lexicon: Lexicon, window_words: int):
        """
        Args:
            lexicon: affective word norms.
            window_words: number of words on each side in the window of a word.
        """
        self.lexicon = lexicon
        self.window_words = window_words

    def word_vad(self, utterances: Sequence[AlignedUtterance]) -> list[np.ndarray]:
        """Estimate the affect of the words of each utterance, float (W, 3) in [0, 1], as VAD.

        Prosody is z-scored per speaker over all utterances of this call.

        Raises:
            HproError: an audio file is missing, unreadable, or not 16 kHz mono.
        """
        steps = track(utterances, len(utterances), "label: pitch and level")
        cues = [window_cues(u, analyse(read_audio(u)), self.window_words) for u in steps]
        scores = z_scores(cues, [u.speaker for u in utterances])
        return [self._estimate(u, z) for u, z in zip(utterances, scores, strict=True)]

    def _estimate(self, utterance: AlignedUtterance, cues_W3: np.ndarray) -> np.ndarray:
        deviations_W3 = self.lexicon.deviations(utterance.words)
        windows = word_windows(len(utterance.words), self.window_words)
        lexical_W3 = np.stack([deviations_W3[a:b].mean(axis=0) for a, b in windows])
        log_odds_W3 = cues_W3 @ _CUE_WEIGHTS + lexical_W3 @ _WORD_WEIGHTS
        return 1.0 / (1.0 + np.exp(-log_odds_W3))


class WeakEmotion:
    """Estimates emotions from the distance of an utterance's mean affect to class prototypes."""

    def __init__(self, word_vad: Mapping[str, np.ndarray], temperature: float):
        """
        Args:
            word_vad: valence, arousal, dominance of words in [0, 1], (W, 3), by utt_id.
            temperature: variance of a class around its prototype; larger gives flatter posteriors.
        """
        self.word_vad = word_vad
        self.temperature = temperature

    def posteriors(self, utterances: Sequence[AlignedUtterance]) -> np.ndarray:
        """Compute the posteriors of utterances, float (N, 9), ordered as EMOTIONS."""
        return np.stack([self._posterior(u) for u in utterances])

    def _posterior(self, utterance: AlignedUtterance) -> np.ndarray:
        affect_3 = _SPREAD * (2 * self.word_vad[utterance.utt_id].mean(axis=0) - 1)
        affect_3 = affect_3 + _EXCLAMATION * ("!" in utterance.text)
        prototypes_C3 = np.array(list(PROTOTYPES.values()))
        logits_C = -((prototypes_C3 - affect_3) ** 2).sum(axis=1) / (2 * self.temperature)
        logits_C[list(PROTOTYPES).index("surprised")] += _QUESTION * ("?" in utterance.text)
        odds_C = np.exp(logits_C - logits_C.max())
        shares_C = (1 - sum(_FLOORS.values())) * odds_C / odds_C.sum()
        named = dict(zip(PROTOTYPES, shares_C, strict=True)) | _FLOORS
        return np.array([named[name] for name in EMOTIONS])


def window_cues(utterance: AlignedUtterance, prosody: Prosody, window_words: int) -> np.ndarray:
    """Compute pitch, level and rate of the window around each word.

    Args:
        utterance: aligned utterance.
        prosody: pitch and level contours of the utterance.
        window_words: number of words on each side in the window of a word.

    Returns:
        float64 (W, 3): mean pitch of voiced frames in semitones (NaN without voiced frames), mean
        level in dB, and rate in phones per second of word time.
    """
    phones_W = np.array([len(phones_of(word)) for word in utterance.words])
    rows = []
    for first, past in word_windows(len(utterance.words), window_words):
        spans = utterance.spans_s[first:past]
        inside = _frames_inside(spans, len(prosody.level_db))
        pitch = prosody.pitch_st[inside]
        voiced = pitch[~np.isnan(pitch)]
        rate = phones_W[first:past].sum() / (spans[:, 1] - spans[:, 0]).sum()
        rows.append([_mean(voiced), _mean(prosody.level_db[inside]), rate])
    return np.array(rows)


def z_scores(cues: Sequence[np.ndarray], speakers: Sequence[str]) -> list[np.ndarray]:
    """Standardise every cue over all windows of its speaker.

    Args:
        cues: cues of each utterance, float (W, 3); NaN where undefined.
        speakers: speaker of each utterance.

    Returns:
        float (W, 3) each, clipped to [-3, 3]; zero (the speaker's mean) where a cue is undefined
        or constant.
    """
    of_speaker = defaultdict(list)
    for rows, speaker in zip(cues, speakers, strict=True):
        of_speaker[speaker].append(rows)
    habits = {speaker: _habit(np.concatenate(rows)) for speaker, rows in of_speaker.items()}
    return [
        _standardised(rows, *habits[speaker]) for rows, speaker in zip(cues, speakers, strict=True)
    ]


def read_audio(utterance: AlignedUtterance) -> np.ndarray:
    """Read the waveform of an utterance, float32 (T,) at 16 kHz.

    Raises:
        HproError: the audio file is missing, unreadable or not 16 kHz mono.
    """
    try:
        return read_wav(Path(utterance.audio), SAMPLE_RATE_HZ, "run `hpro corpus-read` again")
    except HproError as error:
        raise HproError(f"{utterance.utt_id}: {error}") from error


def _frames_inside(spans_s: np.ndarray, n_frames: int) -> np.ndarray:
    """Mask the frames whose centre is in a span, bool (F,); at least the nearest to word 0."""
    time_F = np.arange(n_frames) / FRAME_RATE_HZ
    inside_WF = (time_F >= spans_s[:, :1]) & (time_F < spans_s[:, 1:])
    inside = np.array(inside_WF.any(axis=0), ndmin=1)
    if not inside.any():
        inside[min(round(float(spans_s[0, 0]) * FRAME_RATE_HZ), n_frames - 1)] = True
    return inside


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _habit(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute mean and standard deviation of each cue over the rows in which it is defined."""
    defined = ~np.isnan(rows)
    count = np.maximum(defined.sum(axis=0), 1)
    mean = np.where(defined, rows, 0.0).sum(axis=0) / count
    variance = (np.where(defined, rows - mean, 0.0) ** 2).sum(axis=0) / count
    return mean, np.sqrt(variance)


def _standardised(rows: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
    scores = (rows - mean) / np.where(sd > 1e-6, sd, np.inf)
    return np.clip(np.nan_to_num(scores, nan=0.0), -_Z_LIMIT, _Z_LIMIT)
