"""Configured judges by name and SHA-256, and the judges that are also teachers.

A judge is not independent if the same published model made the labels that the rewards are trained
on.
"""

from collections.abc import Set
from pathlib import Path

from hpro_core.io import sha256_of
from hpro_core.judges.files import quality_judge_files
from hpro_core.label.files import hugging_face_weights
from hpro_core.params import Codec, Evaluate, Label
from hpro_core.pretrained.weights import weight_files

MODEL_NAMES = {
    "emotion2vec": "emotion2vec_plus_large",
    "audeering": "wav2vec2-large-robust-12-ft-emotion-msp-dim",
}
"""Names of the published models that can be teachers and judges."""

QUALITY_NAMES = {"utmos": "utmos22-strong", "nisqa": "nisqa-v2", "scoreq": "scoreq"}
"""Names of the quality judges whose weights the user brings."""


def judge_identities(root: Path, settings: Evaluate) -> dict[str, str]:
    """Return model name and weight SHA-256 of every configured judge.

    Raises:
        HproError: a weights file is missing.
    """
    judges = affect_judge_identities(root, settings)
    judges["asr"] = _shipped_identity("whisper_tiny_en", "model.bin")
    if settings.asr == "whisper":
        judges["asr"] = _file_identity("openai-whisper", Path(settings.whisper))
    judges["asr_check"] = _shipped_identity("whisper_base", "model.bin")
    judges["dnsmos"] = _shipped_identity("dnsmos", "sig_bak_ovr.onnx")
    judges["distillmos"] = _shipped_identity("distillmos", "distill_mos_v7.pt")
    judges["speaker"] = _shipped_identity("ge2e", "pretrained.pt")
    if settings.speaker == "wavlm":
        judges["speaker"] = _file_identity(
            "wavlm-base-plus-sv", hugging_face_weights(Path(settings.wavlm))
        )
    for name, path in quality_judge_files(settings).items():
        judges[name] = _file_identity(QUALITY_NAMES[name], path)
    return judges


def affect_judge_identities(root: Path, settings: Evaluate) -> dict[str, str]:
    """Return name and weight SHA-256 of the judges of emotion and word affect.

    These two judges also score the recordings.

    Raises:
        HproError: a weights file is missing.
    """
    published = {
        "emotion2vec": Path(settings.emotion2vec, "model.pt"),
        "audeering": hugging_face_weights(Path(settings.audeering)),
    }
    return {
        what: _file_identity("embedded affect network", root / "judge" / "model.safetensors")
        if chosen == "embedded"
        else _file_identity(MODEL_NAMES[chosen], published[chosen])
        for what, chosen in (("emotion", settings.emotion), ("vad", settings.vad))
    }


def teachers_of(label: Label, codec: Codec) -> set[str]:
    """Return the teachers of the labels that the rewards use.

    Args:
        label: section `label`, with the teachers of the run.
        codec: section `codec`; the authors' codec also has the paper's teachers.
    """
    teachers: set[str] = {label.emotion_teacher, label.vad_teacher}
    return {*teachers, "emotion2vec", "audeering"} if codec.checkpoint else teachers


def teacher_judges(settings: Evaluate, teachers: Set[str]) -> dict[str, str]:
    """Return, by metric, the judge that is the same published model as a label teacher.

    The rewards are heads of the codec that are trained on these labels. Such a judge is not
    independent, regardless of the file it is loaded from. `teachers` are those of the labels that
    the codec, the policies or both are trained on.
    """
    chosen = (("emo_sim", settings.emotion), ("wvad_ccc", settings.vad))
    return {
        metric: MODEL_NAMES[judge]
        for metric, judge in chosen
        if judge in MODEL_NAMES.keys() & teachers
    }


def _shipped_identity(name: str, file: str) -> str:
    row = next(row for row in weight_files() if (row.name, row.file) == (name, file))
    return f"{name}, sha256 {row.sha256}"


def _file_identity(model: str, weights: Path) -> str:
    return f"{model}, sha256 {sha256_of(weights)}"
