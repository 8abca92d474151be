"""Upper bounds of the affect metrics, from second renderings of the controlled test sentences.

| kind | rendering | measures |
|---|---|---|
| `other_speaker` | as in the recording, by another speaker | the ceiling of the affect metrics |
| `redrawn` | sampled again, by the same speaker | the score of a perfect model of the corpus |
| `likeliest` | the most likely one of its text, by the same speaker | the score of the best guess |
"""

from dataclasses import replace

import numpy as np

from hpro_core.corpus.controlled import affect
from hpro_core.corpus.controlled.sentence_plans import Plan, draw_rendering
from hpro_core.corpus.controlled.voices import TIMBRES

KINDS = ("other_speaker", "redrawn", "likeliest")


def ceiling_plans(plan: Plan) -> list[Plan]:
    """Return one plan of the sentence for each kind, named <utt_id>.<kind>."""
    rng = np.random.default_rng([*plan.seed, 1])
    others = [name for name in TIMBRES if name != plan.speaker]
    renderings = {
        "other_speaker": replace(plan, speaker=str(rng.choice(others))),
        "redrawn": replace(plan, **draw_rendering(plan.sentence, rng)),
        "likeliest": replace(
            plan,
            style=plan.sentence.style,
            strength=sum(affect.STRENGTH) / 2,
            emphasised=plan.sentence.feeling[0],
        ),
    }
    return [
        replace(renderings[kind], utt_id=f"{plan.utt_id}.{kind}", seed=[*plan.seed, 2, index])
        for index, kind in enumerate(KINDS)
    ]
