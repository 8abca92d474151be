"""Exact labels of the controlled corpus, and the acoustic controls that follow from them.

Style, strength and emphasis give each word a point in pleasure, arousal and dominance. That point
sets the word's pitch, level, tempo and timbre, so that label and acoustics agree word by word.
Letters: W word, 3 = signed (valence, arousal, dominance), 0 is neutral.

All numbers are ours unless a source is named.
"""

from dataclasses import dataclass

import numpy as np

from hpro_core.constants import EMOTIONS

PAD = {
    "neutral": (0.10, -0.10, 0.10),
    "happy": (0.76, 0.48, 0.35),
    "sad": (-0.63, -0.27, -0.33),
    "angry": (-0.51, 0.59, 0.25),
    "fearful": (-0.64, 0.60, -0.43),
}
"""Pleasure, arousal, dominance of a style at full strength, in [-1, 1], after the emotion terms of
Russell and Mehrabian (1977). `neutral` is ours: slightly calm, so that its words differ too.
Published tables disagree on the sign of arousal for sadness; here it is negative."""

RENDERINGS = {
    "neutral": {"neutral": 0.76, "happy": 0.06, "sad": 0.06, "angry": 0.06, "fearful": 0.06},
    "happy": {"happy": 0.75, "neutral": 0.25},
    "sad": {"sad": 0.75, "neutral": 0.15, "fearful": 0.10},
    "angry": {"angry": 0.75, "neutral": 0.15, "sad": 0.10},
    "fearful": {"fearful": 0.75, "neutral": 0.15, "angry": 0.10},
}
"""Text style -> distribution of spoken styles: the text alone does not determine the rendering."""
STRENGTH = (0.65, 1.0)
"""Range of the strength of a style; uniform distribution."""
EMPHASIS_ON_FEELING = 0.6
"""Probability that the emotion word is emphasised; otherwise another content word is."""

SENTENCE_SHARE = 0.35
"""Fraction of the affect that all words carry; the rest peaks at the emotion word."""
DECAY_PER_WORD = 0.6
"""Factor on the peak per word of distance from the emotion word."""
EMPHASIS_PAD = (0.40, 0.45, 0.40)
"""Valence, arousal and dominance added to an emphasised word. The valence term has the sign of the
style's valence. Neighbouring words get `NEIGHBOUR_SHARE` of it."""
NEIGHBOUR_SHARE = 1 / 3

EMPHASIS_STRETCH = 1.35
"""Factor on the duration of an emphasised word."""
PITCH_ST = (1.5, 7.0, -2.0)
"""Semitones per unit of valence, arousal (Banse and Scherer 1996), dominance (Ohala's frequency
code, 1984). Directions of all controls are cited from memory; the sizes are ours."""
LEVEL_DB = (0.0, 7.0, 3.0)
"""Decibels per unit (Juslin and Laukka 2003; Tusing and Dillard 2000)."""
TEMPO_LOG = 0.22
"""Log of the speed-up per unit of arousal without emphasis, which has its own stretch (Juslin and
Laukka 2003)."""
RANGE_PER_AROUSAL = 0.5
"""Increase of the pitch range factor per unit of arousal without emphasis (Banse and Scherer
1996)."""
FORMANT_PER_VALENCE = 0.12
"""Relative shift of the spectral envelope per unit of valence: smiling shortens the vocal tract
(Tartter 1980)."""
RISE_ST_PER_VALENCE = 6.0
"""Rise of pitch from the start of a word to its end, in semitones per unit of valence: happy speech
rises, sad speech falls (Juslin and Laukka 2003)."""
TILT_DB_PER_AROUSAL = 2.0
"""Decibels per octave above 500 Hz per unit of arousal: loud voices are bright."""
BREATH_DB_PER_DOMINANCE = -15.0
"""Decibels of breath noise per unit of dominance: a weak voice is breathy."""
TREMOR_ST_PER_SUBMISSION = 1.0
"""Semitones of tremor per unit of dominance below zero."""


@dataclass(frozen=True)
class WordControls:
    """Acoustic controls of each word, float arrays (W,)."""

    stretch: np.ndarray  # factor on phone durations
    pitch_st: np.ndarray  # semitones added
    pitch_range: np.ndarray  # factor on pitch movements around the utterance's mean
    level_db: np.ndarray  # decibels added
    formant: np.ndarray  # factor on the frequencies of the spectral envelope
    tilt_db: np.ndarray  # decibels per octave above 500 Hz
    breath_db: np.ndarray  # decibels added to the noise
    tremor_st: np.ndarray  # depth of the tremor in semitones
    rise_st: np.ndarray  # semitones that pitch rises from the start of the word to its end


def feeling_W3(style: str, strength: float, n_words: int, feeling: tuple[int, int]) -> np.ndarray:
    """Signed valence, arousal, dominance of each word without emphasis, float (W, 3).

    Args:
        style: key of `PAD`.
        strength: in [0, 1].
        n_words: W.
        feeling: indices [first, last + 1) of the emotion words.
    """
    index_W = np.arange(n_words)
    distance_W = np.maximum(np.maximum(feeling[0] - index_W, index_W - feeling[1] + 1), 0)
    share_W = SENTENCE_SHARE + (1 - SENTENCE_SHARE) * DECAY_PER_WORD**distance_W
    return strength * share_W[:, None] * np.array(PAD[style])


def emphasis_W(n_words: int, emphasised: int | None) -> np.ndarray:
    """1 at the emphasised word, a third at its neighbours, else 0; float (W,)."""
    weight_W = np.zeros(n_words)
    if emphasised is not None:
        weight_W[max(emphasised - 1, 0) : emphasised + 2] = NEIGHBOUR_SHARE
        weight_W[emphasised] = 1.0
    return weight_W


def signed_W3(style: str, feeling_W3: np.ndarray, emphasis_W: np.ndarray) -> np.ndarray:
    """Signed valence, arousal, dominance of each word including emphasis, float (W, 3)."""
    valence, arousal, dominance = EMPHASIS_PAD
    added_3 = np.array([np.sign(PAD[style][0]) * valence, arousal, dominance])
    return feeling_W3 + emphasis_W[:, None] * added_3


def vad_W3(signed_W3: np.ndarray) -> np.ndarray:
    """Label: valence, arousal, dominance of each word in [0, 1], 0.5 is neutral; float (W, 3)."""
    return np.clip(0.5 + 0.5 * signed_W3, 0.0, 1.0)


def posterior(style: str, strength: float) -> np.ndarray:
    """Emotion posterior, float (9,) in the order of `EMOTIONS`.

    The style has probability 0.5 + 0.5 * strength, neutral the rest. Style `neutral` has 1.
    """
    share_9 = np.zeros(len(EMOTIONS))
    share_9[EMOTIONS.index("neutral")] = 0.5 - 0.5 * strength
    share_9[EMOTIONS.index(style)] += 0.5 + 0.5 * strength
    return share_9


def controls(signed_W3: np.ndarray, feeling_W3: np.ndarray, emphasis_W: np.ndarray) -> WordControls:
    """Acoustic controls of each word, computed from the same values as its label."""
    valence_W, arousal_W, dominance_W = signed_W3.T
    stretch_W = np.where(emphasis_W == 1.0, EMPHASIS_STRETCH, 1.0)
    return WordControls(
        stretch=stretch_W * np.exp(-TEMPO_LOG * feeling_W3[:, 1]),
        pitch_st=signed_W3 @ np.array(PITCH_ST),
        pitch_range=1 + RANGE_PER_AROUSAL * feeling_W3[:, 1],
        level_db=signed_W3 @ np.array(LEVEL_DB),
        formant=1 + FORMANT_PER_VALENCE * valence_W,
        tilt_db=TILT_DB_PER_AROUSAL * arousal_W,
        breath_db=BREATH_DB_PER_DOMINANCE * dominance_W,
        tremor_st=TREMOR_ST_PER_SUBMISSION * np.maximum(-dominance_W, 0),
        rise_st=RISE_ST_PER_VALENCE * valence_W,
    )
