"""Eight speakers from one synthetic voice, by constant changes of pitch, spectrum and tempo.

All numbers are ours. Formant factors follow vocal-tract lengths of adults (a man's tract is about
15 % longer than a woman's; Fant 1960). Pitch correlates with them, but neither determines the
other. Letters: W word.
"""

from dataclasses import dataclass, replace

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
