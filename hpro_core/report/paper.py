"""The paper's Tables I to III (arXiv 2606.28249), and what they say about the order of systems.

Its corpora, sizes and judges are others than ours: absolute figures cannot be compared.
WER is a fraction here, as everywhere in this project.
"""

from typing import NamedTuple

METRICS = ("wer", "wvad_ccc", "emo_sim", "dnsmos")
"""Metrics that the paper reports, in the order of the figures below."""

LOWER_IS_BETTER = ("wer",)

FIGURES: dict[str, dict[str, tuple[float, float, float, float]]] = {
    "comparison": {
        "tokenrecon": (0.0734, 0.570, 0.775, 3.58),
        "cosyvoice2": (0.0545, 0.307, 0.613, 3.76),
        "cosyvoice3": (0.0490, 0.275, 0.611, 3.72),
        "indextts2": (0.0674, 0.293, 0.526, 3.53),
        "hd_ppt": (0.0492, 0.323, 0.646, 3.75),
        "hpro": (0.0402, 0.339, 0.672, 3.73),
    },
    "progressive": {
        "sft": (0.0542, 0.297, 0.641, 3.63),
        "frame": (0.0485, 0.332, 0.650, 3.71),
        "word": (0.0399, 0.350, 0.653, 3.70),
        "hpro": (0.0402, 0.339, 0.672, 3.73),
    },
    "ablation": {
        "no_content": (0.1361, 0.285, 0.584, 3.59),
        "no_emotion": (0.0380, 0.295, 0.637, 3.78),
        "no_frame": (0.0497, 0.333, 0.608, 3.68),
        "no_wvad": (0.0410, 0.310, 0.659, 3.75),
        "diffro": (0.0435, 0.315, 0.662, 3.73),
        "hpro": (0.0402, 0.339, 0.672, 3.73),
    },
}
"""Table -> system -> WER, wVAD-CCC, EMO-SIM, DNSMOS. Names are this project's."""


class Claim(NamedTuple):
    """An order that the paper's figures show: `better` beats `worse` in `metric`."""

    table: str
    metric: str
    better: str
    worse: str
    meaning: str


CLAIMS = (
    Claim("comparison", "wvad_ccc", "tokenrecon", "hpro", "the tokens could carry more affect"),
    Claim("comparison", "emo_sim", "tokenrecon", "hpro", "the tokens could carry more emotion"),
    Claim("progressive", "wer", "frame", "sft", "the frame reward makes speech clearer"),
    Claim("progressive", "wvad_ccc", "frame", "sft", "the frame reward helps affect over words"),
    Claim("progressive", "wer", "word", "frame", "the word reward makes speech clearer still"),
    Claim("progressive", "wvad_ccc", "word", "frame", "the word reward helps affect over words"),
    Claim("progressive", "emo_sim", "hpro", "word", "the sentence reward helps emotion"),
    Claim("progressive", "wer", "hpro", "sft", "all three stages together make speech clearer"),
    Claim("progressive", "wvad_ccc", "hpro", "sft", "all three stages help affect over words"),
    Claim("progressive", "emo_sim", "hpro", "sft", "all three stages help emotion"),
    Claim("ablation", "wer", "hpro", "no_content", "without content rewards words are lost"),
    Claim("ablation", "wer", "no_emotion", "hpro", "emotion rewards cost a few words"),
    Claim("ablation", "wvad_ccc", "hpro", "no_emotion", "emotion rewards help affect over words"),
    Claim("ablation", "emo_sim", "hpro", "no_emotion", "emotion rewards help emotion"),
    Claim("ablation", "emo_sim", "hpro", "no_frame", "the frame reward helps emotion"),
    Claim("ablation", "wvad_ccc", "hpro", "no_wvad", "the word reward helps affect over words"),
    Claim("ablation", "wvad_ccc", "hpro", "diffro", "HPRO beats DiffRO in affect over words"),
    Claim("ablation", "emo_sim", "hpro", "diffro", "HPRO beats DiffRO in emotion"),
)
"""Orders that the paper draws conclusions from; each one holds in `FIGURES` (a test checks it)."""
