"""The files of the published judges: read by the Snakefile and by preflight, so without torch."""

from collections.abc import Iterator
from pathlib import Path

from hpro_core.label.files import AUDEERING, EMOTION2VEC, audeering_weights
from hpro_core.params import Evaluate

WAVLM = ("config.json", "preprocessor_config.json")
"""Beside its weights, which are in either of two formats, as audeering's are."""

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
        folder = Path(settings.wavlm)
        yield from (folder / name for name in WAVLM)
        yield audeering_weights(folder)


def affect(settings: Evaluate) -> Iterator[Path]:
    """Those of the judges of emotion and word affect, who hear the recordings too."""
    if settings.emotion == "emotion2vec":
        yield from (Path(settings.emotion2vec, name) for name in EMOTION2VEC)
    if settings.vad == "audeering":
        folder = Path(settings.audeering)
        yield from (folder / name for name in AUDEERING)
        yield audeering_weights(folder)
