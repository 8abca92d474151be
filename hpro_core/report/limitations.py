"""Limitations of a run that its report states."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from hpro_core.io import read_json
from hpro_core.params import Label
from hpro_core.report import counts
from hpro_core.report.listen import Labels

VAD_TEACHERS = {
    "weak": "weak formulas over word norms, pitch, level and rate",
    "audeering": "audeering's model",
}
EMOTION_TEACHERS = {
    "weak": "a weak formula over that and punctuation",
    "emotion2vec": "emotion2vec",
}
"""Descriptions of the values of `label.vad_teacher` and `label.emotion_teacher`."""

_ONE_SEED = "Intervals are over utterances; they do not include the variance over training seeds."
_FEW_SEEDS = (
    "Intervals are bootstrap intervals over seeds and utterances, which are too narrow for few "
    "seeds; all seeds share the base, the tokenizer, the codec and the judges."
)


def limitations(root: Path, tables: Mapping[str, pd.DataFrame], label: Label) -> list[str]:
    """List the limitations of a run, from its results and its label teachers."""
    every = pd.concat(tables.values())
    points = [
        f"The smallest test set has {int(every['n'].min())} utterances. "
        + (_ONE_SEED if int(every["seeds"].max()) == 1 else _FEW_SEEDS),
        "Labels of real speech are estimates (docs/labels.md): affect of words by "
        f"{VAD_TEACHERS[label.vad_teacher]}, emotion by {EMOTION_TEACHERS[label.emotion_teacher]}. "
        "Rewards that are trained on real speech are trained on these estimates.",
        "The judges are models, small ones by default; section Judges lists them and their "
        "accuracy. There was no listening test: this report has no MOS.",
    ]
    if _is_small(root):
        points += [
            "The policy, tokenizer and codec have a few million parameters and were trained for "
            "minutes; those of the paper have hundreds of millions.",
            "At this scale, an ordering that does not hold is weak evidence against the paper, and "
            "one that holds is weak evidence for it.",
        ]
    if int(every["seeds"].max()) == 1:
        points.insert(0, "One training seed only: no difference between systems is established.")
    if not (root / "align" / "accuracy.json").is_file():
        points.append("Word times were not compared with reference times (`hpro align-check`).")
    uneven = [c.stage for c in counts.stage_counts(root) if not c.adds_up]
    if uneven:
        points.insert(0, f"Utterances are unaccounted for in: {', '.join(uneven)}.")
    return points


def label_source(labels: Labels, label: Label) -> str:
    """Describe the source of the word labels in the figures."""
    made_by = f"by {VAD_TEACHERS[label.vad_teacher]}"
    if not labels.exact:
        return made_by
    return f"exact on {', '.join(labels.exact)}, {made_by} elsewhere"


def label_kinds(
    root: Path, test_sets: Iterable[str], vad_teacher: str, emotion_teacher: str
) -> Labels:
    """Name the labels of a run: weak formulas, a published model, or exact."""
    exact = [s for s in test_sets if (root / "corpus" / s / "truth_vad.parquet").is_file()]
    return Labels(
        words="weak label" if vad_teacher == "weak" else f"label of {vad_teacher}",
        emotion="weak label" if emotion_teacher == "weak" else f"label of {emotion_teacher}",
        exact=exact,
    )


def _is_small(root: Path) -> bool:
    """Whether the policies are the small ones of this project."""
    configs = sorted(root.glob("policy/*/seed*/config.json"))
    kinds = {read_json(path).get("policy") for path in configs}
    return kinds != {"cosyvoice2"}
