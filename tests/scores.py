"""Columns of SCORES that a test of other columns needs too."""

from typing import Any

import numpy as np


def quality_and_prosody(n: int, generator: np.random.Generator) -> dict[str, Any]:
    """Columns of `n` utterances with recordings, from DistillMOS on; weights brought: none."""
    recorded, spoken = generator.integers(1, 4, (2, n))
    return {
        "distillmos": generator.uniform(1, 5, n),
        **{name: generator.uniform(-1, 1, n) for name in ("f0_corr", "energy_corr", "rate_corr")},
        "n_pauses_both": np.minimum(recorded, spoken) - 1,
        "n_pauses_synthesis": spoken,
        "n_pauses_recording": recorded,
        **dict.fromkeys(("utmos", "nisqa", "scoreq"), np.nan),
    }
