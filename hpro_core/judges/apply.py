"""Load the configured judges and apply them to clips.

Embedded judges process one clip or a small batch at a time on the CPU. Published judges run on the
configured device and cache their results (hpro_core/label/result_cache.py), so that a killed job
resumes.
Letters: N clips, W words, T samples, D voice dimensions, 9 emotions, 3 affect dimensions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from hpro_core.io import fingerprint
from hpro_core.judges import affect
from hpro_core.judges.asr import BATCH, TINY_EN, WhisperASR
from hpro_core.judges.files import all_affect_published
from hpro_core.judges.realignment import pad_to_duration, read_wav
from hpro_core.judges.speaker import embed_batch, load_encoder
from hpro_core.label.result_cache import cached_posteriors, cached_word_vad, in_shards
from hpro_core.label.teachers import AlignedUtterance, EmotionTeacher, Identified, WordVadTeacher
from hpro_core.params import Compute, Evaluate
from hpro_core.pretrained.weights import find_weights
from hpro_core.progress import track
from hpro_core.train.loop import device_of

SHARD_CLIPS = 100
"""Clips per shard (ours): the most that a killed job loses of each published judge."""
WINDOW_WORDS = 1
"""Words on either side of a word that audeering's model gets as context (paper)."""
MIN_DURATION_S = 0.1
"""Shorter clips are zero-padded at the end to this length (ours): minimum of the affect models."""


@dataclass(frozen=True)
class Clip(AlignedUtterance):
    """Speech to judge, synthesised or recorded; `words` is empty if the aligner found none."""

    corpus: str  # the test set


JudgeFn = Callable[[Sequence[Clip], Path], list[Any]]
"""Function from clips to one result per clip.

The path is a cache folder for this judge and these clips only."""

AffectOutputs = dict[str, tuple[np.ndarray, np.ndarray | None]]
"""By utt_id: emotion posterior (9,), and word affect (W, 3) or None without word times."""


class PublishedJudge(Identified, Protocol):
    """A published recogniser, speaker encoder or quality judge."""

    def predict(self, clips: Sequence[AlignedUtterance]) -> Sequence[Any]:
        """Return one result per clip."""
        ...


def in_batches(judge: Callable[[list[np.ndarray]], list[Any]], size: int, label: str) -> JudgeFn:
    """Wrap an embedded judge; clips of similar length are batched.

    Args:
        judge: function of the samples of several clips, float32 (T,) each, 16 kHz; the result for
            one clip must not depend on the others.
        size: clips per batch.
        label: label of the progress line.
    """

    def judge_clips(clips: Sequence[Clip], work: Path) -> list[Any]:
        results: dict[int, Any] = {}
        order = sorted(range(len(clips)), key=lambda i: (_bytes(clips[i].audio), i))
        batches = [order[start : start + size] for start in range(0, len(order), size)]
        for batch in track(batches, len(batches), f"{label}, batches"):
            audios = [read_wav(clips[i].audio) for i in batch]
            results.update(zip(batch, judge(audios), strict=True))
        return [results[i] for i in range(len(clips))]

    return judge_clips


def with_result_cache(model: PublishedJudge) -> JudgeFn:
    """Wrap a published judge and cache its results."""

    def judge_clips(clips: Sequence[Clip], work: Path) -> list[Any]:
        return in_shards(clips, model.predict, work, SHARD_CLIPS, model.identity | _code())

    return judge_clips


def load_recogniser(settings: Evaluate, weights: Path, compute: Compute) -> JudgeFn:
    """Load the first recogniser, which returns the transcript of each clip.

    Raises:
        HproError: its files are missing, broken or of another model.
    """
    if settings.asr == "whisper":
        from hpro_core.judges.whisper import WhisperTranscripts

        path, device = Path(settings.whisper), device_of(compute.device)
        return with_result_cache(WhisperTranscripts(path, settings.batch_size, device))
    options = TINY_EN._replace(windows_s=tuple(settings.asr_windows_s))
    recogniser = WhisperASR(find_weights("whisper_tiny_en", weights), compute.threads, options)
    return in_batches(recogniser.transcribe_batch, BATCH, "judges: words")


def load_speaker_encoder(settings: Evaluate, weights: Path, compute: Compute) -> JudgeFn:
    """Load the speaker encoder, which returns a unit-length embedding of each clip, float32 (D,).

    Raises:
        HproError: its files are missing, broken or of another model.
    """
    if settings.speaker == "wavlm":
        from hpro_core.judges.wavlm import WavlmSpeakerEncoder

        return with_result_cache(
            WavlmSpeakerEncoder(Path(settings.wavlm), device_of(compute.device))
        )
    encoder = load_encoder(find_weights("ge2e", weights))
    return in_batches(lambda audios: embed_batch(encoder, audios), BATCH, "judges: voice")


def load_quality_judges(settings: Evaluate, weights: Path, compute: Compute) -> dict[str, JudgeFn]:
    """Load DNSMOS, DistillMOS and the quality judges whose weights the user brings.

    Returns:
        By column of SCORES: judge that returns the score of each clip.

    Raises:
        HproError: a file is missing, broken or of another model.
    """
    from hpro_core.judges.distillmos import load_distillmos, score
    from hpro_core.judges.dnsmos import Dnsmos

    quality = Dnsmos(find_weights("dnsmos", weights), compute.threads)
    natural = load_distillmos(find_weights("distillmos", weights))
    windows, device = settings.dnsmos_windows, device_of(compute.device)
    judges = {
        "dnsmos": in_batches(
            lambda audios: [quality.score(audio_T, windows).ovrl for audio_T in audios],
            BATCH,
            "judges: DNSMOS",
        ),
        "distillmos": in_batches(
            lambda audios: [score(natural, audio_T) for audio_T in audios],
            BATCH,
            "judges: DistillMOS",
        ),
    }
    if settings.utmos:
        from hpro_core.judges.utmos import Utmos

        judges["utmos"] = with_result_cache(Utmos(Path(settings.utmos), device))
    if settings.nisqa:
        from hpro_core.judges.nisqa import Nisqa

        judges["nisqa"] = with_result_cache(Nisqa(Path(settings.nisqa), device))
    if settings.scoreq:
        from hpro_core.judges.scoreq import Scoreq

        judges["scoreq"] = with_result_cache(Scoreq(Path(settings.scoreq), compute.threads))
    return judges


@dataclass(frozen=True)
class AffectJudges:
    """Configured judges of the emotion of a clip and of the affect of its words."""

    embedded: affect.AffectJudge | None  # for whichever has no published judge
    emotion: EmotionTeacher | None
    words: WordVadTeacher | None

    def predict(self, clips: Sequence[Clip], work: Path) -> AffectOutputs:
        """Predict the emotion and the word affect of clips.

        Args:
            clips: clips of any test sets; without word times, only the emotion is predicted.
            work: folder for the shards of the published judges, used for these clips only.

        Returns:
            By utt_id: emotion posterior, float (9,), in the order of EMOTIONS, and word affect,
            float (W, 3), in the order of VAD, or None without word times.

        Raises:
            HproError: audio is unusable, the embedded judge has no channel scale for a test set, or
                a published judge returns values that are not finite.
        """
        posteriors: dict[str, np.ndarray] = {}
        vad: dict[str, np.ndarray | None] = {}
        ids = [clip.utt_id for clip in clips]
        if self.embedded is not None:
            for clip in track(clips, len(clips), "judges: affect"):
                posteriors[clip.utt_id], vad[clip.utt_id] = _judge_clip(self.embedded, clip)
        if self.emotion is not None and clips:
            found_N9 = cached_posteriors(self.emotion, clips, work / "emotion", SHARD_CLIPS)
            posteriors.update(zip(ids, found_N9, strict=True))
        with_words = [clip for clip in clips if clip.words]
        if self.words is not None and with_words:
            found = cached_word_vad(self.words, with_words, work / "word_vad", SHARD_CLIPS)
            vad.update(zip((clip.utt_id for clip in with_words), found, strict=True))
        return {utt_id: (posteriors[utt_id], vad.get(utt_id)) for utt_id in ids}


def load_affect(root: Path, settings: Evaluate, compute: Compute) -> AffectJudges:
    """Load the judges of emotion and word affect; the embedded judge only if it is needed.

    Raises:
        HproError: files are missing, broken or of another model, or the embedded judge is not
            trained.
    """
    embedded: affect.AffectJudge | None = None
    emotion: EmotionTeacher | None = None
    words: WordVadTeacher | None = None
    if not all_affect_published(settings):
        embedded = affect.load(root / "judge")
    device = device_of(compute.device)
    if settings.emotion == "emotion2vec":
        from hpro_core.label.emotion2vec import Emotion2vecPosteriors

        emotion = Emotion2vecPosteriors(Path(settings.emotion2vec), device, _samples)
        emotion.identity |= _code()
    if settings.vad == "audeering":
        from hpro_core.label.audeering import AudeeringWordVad

        folder = Path(settings.audeering)
        words = AudeeringWordVad(folder, WINDOW_WORDS, settings.batch_size, device, _samples)
        words.identity |= _code()
    return AffectJudges(embedded, emotion, words)


def _judge_clip(judge: affect.AffectJudge, clip: Clip) -> tuple[np.ndarray, np.ndarray | None]:
    features = affect.input_features(read_wav(clip.audio))
    if not clip.words:
        return judge.posterior(clip.corpus, features), None
    spans = [(float(start_s), float(end_s)) for start_s, end_s in clip.spans_s]
    return judge.judge(clip.corpus, features, spans)


def _bytes(path: Path) -> int:
    """Size of a file; 0 if it is missing (`read_wav` then raises the error)."""
    return path.stat().st_size if path.is_file() else 0


def _samples(clip: AlignedUtterance) -> np.ndarray:
    return pad_to_duration(read_wav(clip.audio), MIN_DURATION_S)


def _code() -> dict[str, object]:
    """Hash of the code that loads published judges and their audio; part of their identity."""
    package = Path(__file__).parents[1]
    names = (
        *("asr", "realignment", "apply", "wavlm", "whisper", "whisper_parts"),
        *("mel", "quality", "utmos", "nisqa", "scoreq"),
    )
    here = (package / "judges" / f"{name}.py" for name in names)
    return {"judged_by": fingerprint(*here, package / "label" / "hugging_face.py")}
