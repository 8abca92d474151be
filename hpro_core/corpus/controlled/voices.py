"""Speakers from one synthetic voice, by constant changes of pitch, spectrum and tempo.

Eight have names and speak in every split. Any number of further ones, with drawn timbres, can speak
in the train split (`controlled.drawn_voices`), so that a speaker encoder learns more than eight
points. All are changes of the same voice: for voices that are new in this sense, take other
synthesisers or people (docs/speech_tokens.md).

All numbers are ours. Formant factors follow vocal-tract lengths of adults (a man's tract is about
15 % longer than a woman's; Fant 1960). Pitch correlates with them, but neither determines the
other. Letters: W word.
"""

import re
from dataclasses import dataclass, replace

import numpy as np

from hpro_core.corpus.controlled.affect import WordControls


@dataclass(frozen=True)
class Timbre:
    """Constant acoustic controls of a speaker."""

    pitch_st: float  # semitones added
    formant: float  # factor on the envelope's frequencies; below 1: a longer tract
    speed: float  # factor on tempo
    breath_db: float  # decibels added to the noise
    tilt_db: float  # decibels per octave above 500 Hz

    def applied(self, controls: WordControls) -> WordControls:
        """Return the controls of an utterance, combined with those of this speaker."""
        return replace(
            controls,
            stretch=controls.stretch / self.speed,
            pitch_st=controls.pitch_st + self.pitch_st,
            formant=controls.formant * self.formant,
            tilt_db=controls.tilt_db + self.tilt_db,
            breath_db=controls.breath_db + self.breath_db,
        )


TIMBRES = {
    "ada": Timbre(0.0, 1.00, 1.00, 0.0, 0.0),
    "ben": Timbre(-9.0, 0.86, 1.00, -2.0, 0.5),
    "cleo": Timbre(2.0, 1.05, 1.08, 2.0, -0.5),
    "dan": Timbre(-11.0, 0.84, 0.93, 1.0, -0.5),
    "eve": Timbre(-2.5, 0.97, 0.94, 5.0, -1.0),
    "finn": Timbre(-6.5, 0.90, 1.10, 0.0, 1.0),
    "gwen": Timbre(-4.5, 1.03, 1.05, -3.0, 1.0),
    "hugo": Timbre(-7.5, 0.95, 0.97, 4.0, 0.0),
}
"""Speaker -> timbre; `ada` is hibari's own voice."""

_DRAWN = "voice_{:03d}"


def drawn_voices(number: int) -> list[str]:
    """Names of the first `number` speakers with drawn timbres."""
    return [_DRAWN.format(index) for index in range(number)]


def timbre_of(speaker: str) -> Timbre:
    """Timbre of a speaker; a drawn one depends on its name alone.

    Raises:
        KeyError: there is no such speaker.
    """
    if not (index := re.fullmatch(r"voice_(\d{3,})", speaker)):
        return TIMBRES[speaker]
    rng = np.random.default_rng([30, int(index[1])])
    octaves = rng.uniform(np.log2(0.82), np.log2(1.12))
    return Timbre(
        pitch_st=float(np.clip(35.0 * octaves - 3.0 + 2.5 * rng.normal(), -12.0, 4.0)),
        formant=float(2.0**octaves),
        speed=float(rng.uniform(0.9, 1.12)),
        breath_db=float(rng.uniform(-3.0, 5.0)),
        tilt_db=float(rng.uniform(-1.0, 1.0)),
    )
