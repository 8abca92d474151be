"""Judge provenance: which models judged a system, by name and SHA-256, and which were teachers.

`metrics.json` of a system names its judges, so that figures of different judges are not mixed. A
judge is not independent where the same published model made the labels that the rewards learned
from.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from hpro_core.errors import HproError
from hpro_core.io import checked, read_json, sha256_of
from hpro_core.label.files import hugging_face_weights
from hpro_core.params import Evaluate
from hpro_core.weights import listed

NAMES = {
    "emotion2vec": "emotion2vec_plus_large",
    "audeering": "wav2vec2-large-robust-12-ft-emotion-msp-dim",
}
"""Of the published models that are teachers and judges."""


def judges_of(root: Path, settings: Evaluate) -> dict[str, str]:
    """Every judge of the settings: model and sha256 of its weights."""
    judges = affect_judges_of(root, settings)
    judges["asr"] = _listed("whisper_tiny_en", "model.bin")
    if settings.asr == "whisper":
        judges["asr"] = _named("openai-whisper", Path(settings.whisper))
    judges["asr_check"] = _listed("whisper_base", "model.bin")
    judges["dnsmos"] = _listed("dnsmos", "sig_bak_ovr.onnx")
    judges["speaker"] = _listed("ge2e", "pretrained.pt")
    if settings.speaker == "wavlm":
        judges["speaker"] = _named("wavlm-base-plus-sv", hugging_face_weights(Path(settings.wavlm)))
    return judges


def affect_judges_of(root: Path, settings: Evaluate) -> dict[str, str]:
    """The judges of emotion and word affect alone, who also hear the recordings."""
    published = {
        "emotion2vec": Path(settings.emotion2vec, "model.pt"),
        "audeering": hugging_face_weights(Path(settings.audeering)),
    }
    return {
        what: _named("embedded affect network", root / "judge" / "model.safetensors")
        if chosen == "embedded"
        else _named(NAMES[chosen], published[chosen])
        for what, chosen in (("emotion", settings.emotion), ("vad", settings.vad))
    }


def taught_by(settings: Evaluate, teachers: Set[str]) -> dict[str, str]:
    """By metric the judge that is the same published model as a teacher of the labels.

    The rewards are heads of the codec that learn from these labels: such a judge is no independent
    one, whatever file it was read from.

    Args:
        settings: the judges.
        teachers: of the labels that the codec, the policies or both learned from.
    """
    chosen = (("emo_sim", settings.emotion), ("wvad_ccc", settings.vad))
    return {metric: NAMES[judge] for metric, judge in chosen if judge in NAMES.keys() & teachers}


def _listed(name: str, file: str) -> str:
    row = next(row for row in listed() if (row.name, row.file) == (name, file))
    return f"{name}, sha256 {row.sha256}"


def _named(model: str, weights: Path) -> str:
    return f"{model}, sha256 {sha256_of(weights)}"


JUDGES, TAUGHT = "judges", "judged_by_teachers"
"""Keys of metrics.json."""

_KEYS = (JUDGES, TAUGHT)


@dataclass(frozen=True)
class JudgeProvenance:
    """Who judged a system.

    Attributes:
        judges: model and sha256 by what it judges.
        taught: by metric the judge that also made the labels that the rewards learned from.
    """

    judges: Mapping[str, str]
    taught: Mapping[str, str]


def to_json(origin: JudgeProvenance) -> dict[str, dict[str, str]]:
    """The entries of metrics.json."""
    return {JUDGES: dict(origin.judges), TAUGHT: dict(origin.taught)}


def read_provenance(path: Path) -> JudgeProvenance:
    """Who judged, from a system's metrics.json.

    Raises:
        HproError: the file is missing, or does not name the judges.
    """
    found = read_json(path)
    if JUDGES not in found or TAUGHT not in found:
        raise HproError(
            f"{path} does not name the judges: run `hpro judge` again for this system and seed"
        )
    again = "run `hpro judge` again for this system and seed"
    names = (checked(found[key], dict[str, str], f"{path}, {key}", again) for key in _KEYS)
    return JudgeProvenance(*names)


def common_provenance(paths: Sequence[Path]) -> JudgeProvenance:
    """Who judged several systems, which must be the same for all.

    Args:
        paths: of their metrics.json, at least one.

    Raises:
        HproError: systems were judged by different models, or a file does not name them.
    """
    first, *others = [read_provenance(path) for path in paths]
    for path, origin in zip(paths[1:], others, strict=True):
        if origin != first:
            raise HproError(
                f"{path} and {paths[0]} are of different judges ({_difference(origin, first)}): "
                "run `hpro judge` again for the one that is outdated"
            )
    return first


def notes(origin: JudgeProvenance, names: Mapping[str, str]) -> list[str]:
    """What must stand beside the figures: a sentence for each judge that is not independent.

    Args:
        origin: who judged.
        names: of the metrics, for people.
    """
    return [
        f"{names[metric]} is not independent here: {judge} judged it and also made the labels that "
        "the rewards learned from (docs/judges.md)."
        for metric, judge in origin.taught.items()
    ]


def _difference(one: JudgeProvenance, other: JudgeProvenance) -> str:
    for key in sorted(one.judges.keys() | other.judges.keys()):
        if one.judges.get(key) != other.judges.get(key):
            return f"{key}: {one.judges.get(key)}, and {other.judges.get(key)}"
    return f"judges that were teachers: {dict(one.taught)}, and {dict(other.taught)}"
