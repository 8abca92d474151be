"""Test sentences of the controlled corpus said again: how far a recording can be agreed with.

| kind | rendering | tells |
|---|---|---|
| `other_speaker` | as in the recording, by another speaker | the ceiling of the affect metrics |
| `redrawn` | drawn anew, by the same speaker | what a perfect model of the corpus gets |
| `likeliest` | the likeliest of its text, by the same speaker | what the best guess gets |
"""

from dataclasses import replace

import numpy as np

from hpro_core.corpus import affect
from hpro_core.corpus.sentence_plans import Plan, drawn
from hpro_core.corpus.voices import TIMBRES

KINDS = ("other_speaker", "redrawn", "likeliest")


def said_again(plan: Plan) -> list[Plan]:
    """The same sentence once in each kind, named <utt_id>.<kind>."""
    rng = np.random.default_rng([*plan.seed, 1])
    others = [name for name in TIMBRES if name != plan.speaker]
    renderings = {
        "other_speaker": replace(plan, speaker=str(rng.choice(others))),
        "redrawn": replace(plan, **drawn(plan.sentence, rng)),
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
