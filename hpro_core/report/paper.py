"""The paper's Tables I to III (arXiv 2606.28249) and the orderings of systems in them.

The paper's corpora, model sizes and judges differ from ours, so absolute values are not comparable.
WER is a fraction, as everywhere in this project.
"""

from typing import NamedTuple

METRICS = ("wer", "wvad_ccc", "emo_sim", "dnsmos")
"""Metrics that the paper reports, in the order of the values in PAPER_VALUES."""

LOWER_IS_BETTER = ("wer",)

PAPER_VALUES: dict[str, dict[str, tuple[float, float, float, float]]] = {
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
"""Table -> system -> WER, wVAD-CCC, EMO-SIM, DNSMOS (paper). System names are this project's."""


class Claim(NamedTuple):
    """An ordering in the paper's tables: `better` is better than `worse` in `metric`."""

    table: str
    metric: str
    better: str
    worse: str
    meaning: str

    @property
    def trivial(self) -> bool:
        """Whether any policy meets it: the tokens of the recording are its ceiling."""
        return self.better == "tokenrecon"


CLAIMS = (
    Claim("comparison", "wvad_ccc", "tokenrecon", "hpro", "the tokens can carry more affect"),
    Claim("comparison", "emo_sim", "tokenrecon", "hpro", "the tokens can carry more emotion"),
    Claim("progressive", "wer", "frame", "sft", "the frame reward lowers WER"),
    Claim("progressive", "wvad_ccc", "frame", "sft", "the frame reward improves word affect"),
    Claim("progressive", "wer", "word", "frame", "the word reward lowers WER further"),
    Claim("progressive", "wvad_ccc", "word", "frame", "the word reward improves word affect"),
    Claim("progressive", "emo_sim", "hpro", "word", "the sentence reward improves emotion"),
    Claim("progressive", "wer", "hpro", "sft", "all three stages together lower WER"),
    Claim("progressive", "wvad_ccc", "hpro", "sft", "all three stages improve word affect"),
    Claim("progressive", "emo_sim", "hpro", "sft", "all three stages improve emotion"),
    Claim("ablation", "wer", "hpro", "no_content", "without content rewards WER rises"),
    Claim("ablation", "wer", "no_emotion", "hpro", "emotion rewards raise WER slightly"),
    Claim("ablation", "wvad_ccc", "hpro", "no_emotion", "emotion rewards improve word affect"),
    Claim("ablation", "emo_sim", "hpro", "no_emotion", "emotion rewards improve emotion"),
    Claim("ablation", "emo_sim", "hpro", "no_frame", "the frame reward improves emotion"),
    Claim("ablation", "wvad_ccc", "hpro", "no_wvad", "the word reward improves word affect"),
    Claim("ablation", "wvad_ccc", "hpro", "diffro", "HPRO exceeds DiffRO in word affect"),
    Claim("ablation", "emo_sim", "hpro", "diffro", "HPRO exceeds DiffRO in emotion"),
)
"""Orderings from which the paper draws conclusions; a test checks each against `PAPER_VALUES`."""
