"""The files of the published judges: read by the Snakefile and by preflight, so without torch."""

from collections.abc import Iterator
from pathlib import Path

from hpro_core.label.files import affect_models, hugging_face
from hpro_core.params import Evaluate

WHISPER_SHA256 = {
    "large-v3.pt": "e5b1a55b89c1367dacf97e3e19bfd829a01529dbfdeefa8caeb59b3f1b81dadb",
}
"""By the name under which OpenAI publishes the file; the address in its package holds the hash."""


def all_affect_published(settings: Evaluate) -> bool:
    """Whether nothing is left to judge for the embedded affect judge, which is trained."""
    return "embedded" not in (settings.emotion, settings.vad)


def brought(settings: Evaluate) -> Iterator[Path]:
    """Every file of the published judges that the settings choose."""
    if settings.asr == "whisper":
        yield Path(settings.whisper)
    yield from affect(settings)
    if settings.speaker == "wavlm":
        yield from hugging_face(Path(settings.wavlm))


def affect(settings: Evaluate) -> Iterator[Path]:
    """Those of the judges of emotion and word affect, who hear the recordings too."""
    chosen = (settings.emotion, settings.vad)
    return affect_models(chosen, settings.emotion2vec, settings.audeering)
