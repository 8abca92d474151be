"""What the names on the page mean, one phrase each; docs/glossary.md has the definitions."""

from collections.abc import Iterable, Mapping

from hpro_core.params import Variant
from hpro_core.report.figures import METRIC_NAMES

METRIC_MEANINGS = {
    "wer": "word errors of a speech recogniser on the audio, in percent of the words",
    "wer_check": "the same by another recogniser, on some of the sentences",
    "wvad_ccc": "agreement with the recording in valence, arousal and dominance of words; 1: equal",
    "emo_sim": "similarity of the judged emotion to that of the recording; 1: equal",
    "dnsmos": "predicted quality of the sound, 1 to 5; does not penalise robotic voices",
    "distillmos": "predicted naturalness, 1 to 5",
    "speaker_sim": "similarity of the voice to that of the reference recording",
    "f0_corr": "correlation of pitch with that of the recording, over words",
    "energy_corr": "correlation of level with that of the recording, over words",
    "rate_corr": "correlation of speaking rate with that of the recording, over words",
    "pause_f1": "agreement with the recording on where the pauses are (F1)",
    "utmos": "predicted naturalness, 1 to 5",
    "nisqa": "predicted quality, 1 to 5",
    "scoreq": "predicted quality, 1 to 5",
}
SYSTEM_MEANINGS = {
    "recordings": "the recordings of the test sentences",
    "tokenrecon": "the speech tokens of the recordings, decoded: no policy is involved",
    "sft": "the policy after supervised fine-tuning, before any reward",
}
TERM_MEANINGS = {
    "kl": "distance of the policy from its reference, the policy before the rewards",
    "sp": "distance of the style code from that of the recording, in each frame",
    "cp": "distance of the content code from that of the recording, in each frame",
    "asr": "the reward model's errors in reading the text from the speech tokens",
    "wvad": "1 minus agreement in valence, arousal and dominance of words, by the reward model",
    "ser": "difference of the emotion from that of the recording, by the reward model",
}
SET_MEANINGS = {
    "controlled": "speech of this project's synthesiser, with exact emotion, affect and word times",
    "acted": "game dialogue by voice actors, with weak labels",
}


def meanings(
    metrics: Iterable[str],
    systems: Iterable[str],
    test_sets: Iterable[str],
    variants: Mapping[str, Variant],
) -> dict[str, list[tuple[str, str]]]:
    """Explain the names of a run's report.

    Args:
        metrics: those on the page, keys of METRIC_NAMES.
        systems: rows of its tables.
        test_sets: its test sets; those of a user have no meaning here and are left out.
        variants: trainings by rewards; a system that is none of these is one of other origin.

    Returns:
        Group -> names with their meanings.
    """
    return {
        "Systems": [(name, _system(name, variants)) for name in systems],
        "Test sets": [(name, SET_MEANINGS[name]) for name in test_sets if name in SET_MEANINGS],
        "Metrics (arrow: the better direction)": [
            (METRIC_NAMES[metric], METRIC_MEANINGS[metric]) for metric in metrics
        ],
        "Terms of the reward trainings (all are losses: lower is better)": list(
            TERM_MEANINGS.items()
        ),
    }


def _system(name: str, variants: Mapping[str, Variant]) -> str:
    if name in SYSTEM_MEANINGS:
        return SYSTEM_MEANINGS[name]
    if name not in variants:
        return "audio of another system, from a folder"
    variant = variants[name]
    without = f", without {', '.join(variant.drop)}" if variant.drop else ""
    return f"{variant.start} trained further with the rewards of the {variant.stage} stage{without}"
