"""Files of the published judges.

The Snakefile and preflight import this module, so it does not import torch.
"""

from collections.abc import Iterator
from pathlib import Path

from hpro_core.label.files import affect_models, hugging_face
from hpro_core.params import Evaluate

WHISPER_SHA256 = {
    "large-v3.pt": "e5b1a55b89c1367dacf97e3e19bfd829a01529dbfdeefa8caeb59b3f1b81dadb",
}
"""SHA-256 by published file name; the URL in OpenAI's package contains the hash."""


def all_affect_published(settings: Evaluate) -> bool:
    """Whether both affect judges are published models, so that no embedded one is trained."""
    return "embedded" not in (settings.emotion, settings.vad)


def published_judge_files(settings: Evaluate) -> Iterator[Path]:
    """Yield every file of the configured published judges."""
    if settings.asr == "whisper":
        yield Path(settings.whisper)
    yield from affect_judge_files(settings)
    if settings.speaker == "wavlm":
        yield from hugging_face(Path(settings.wavlm))
    yield from quality_judge_files(settings).values()


def quality_judge_files(settings: Evaluate) -> dict[str, Path]:
    """Return the files of the quality judges whose weights the user brings, by column."""
    files = {"utmos": settings.utmos, "nisqa": settings.nisqa, "scoreq": settings.scoreq}
    return {name: Path(path) for name, path in files.items() if path}


def affect_judge_files(settings: Evaluate) -> Iterator[Path]:
    """Yield the files of the published judges of emotion and word affect.

    These judges also score the recordings.
    """
    chosen = (settings.emotion, settings.vad)
    return affect_models(chosen, settings.emotion2vec, settings.audeering)
