"""The embedded judges for a few sentences during training: WER, wVAD-CCC, EMO-SIM. Letters: T.

As `panel`, less DNSMOS and voice, and for the dev split, whose recordings no table holds judged.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpro_core.align.pocketsphinx_aligner import PocketsphinxAligner
from hpro_core.engine.batching import Example
from hpro_core.engine.training import device_of
from hpro_core.evaluate import affect
from hpro_core.evaluate.asr import WhisperASR, WordErrorCounter
from hpro_core.evaluate.metrics import ccc, cosine
from hpro_core.evaluate.realignment import read_audio, realigned
from hpro_core.params import Compute, Synthesis
from hpro_core.policy.synthesis import load_decoder
from hpro_core.reward.probe import Probe, SentenceScores, probe_set
from hpro_core.tables import UTTERANCES, read_table
from hpro_core.weights import located


def load_probe(
    root: Path,
    dev: Sequence[Example],
    train: Sequence[Example],
    size: int,
    settings: Synthesis,
    compute: Compute,
    weights: Path,
) -> Probe:
    """The probe of a run: its decoder and its judges on a fixed choice of dev sentences.

    Args:
        root: results folder of the run, with a trained tokenizer and trained judges.
        dev: the dev split.
        train: utterances that serve as reference where dev has only one of a speaker.
        size: sentences.
        settings: of the sampling, and the seed of the choice.
        compute: device and threads.
        weights: folder of the weights from outside.
    """
    sentences, references = probe_set(dev, train, size, settings.seed)
    device = device_of(compute.device)
    judge = SentenceJudge(root, sentences, weights, compute.threads)
    return Probe(sentences, references, settings, load_decoder(root, device), judge, device)


@dataclass(frozen=True)
class _Recorded:
    """What the affect judge hears in a recording."""

    posterior_9: np.ndarray
    vad_W3: np.ndarray


class SentenceJudge:
    """Hears the recordings once, and then whatever is said instead."""

    def __init__(self, root: Path, sentences: list[Example], weights: Path, threads: int) -> None:
        """
        Args:
            root: results folder of the run, with trained judges.
            sentences: that will be judged.
            weights: folder of the weights from outside.
            threads: CPU threads of the recogniser.

        Raises:
            HproError: the judges are not trained, weights are missing, or a recording is unusable.
        """
        self._affect = affect.load(root / "judge")
        self._ears = WhisperASR(located("whisper_tiny_en", weights), threads)
        self._counter = WordErrorCounter()
        self._aligner = PocketsphinxAligner()
        utterances = read_table(root / "corpus" / "utterances.parquet", UTTERANCES)
        audio = dict(zip(utterances["utt_id"], utterances["audio"], strict=True))
        self._recorded = {e.utt_id: self._hear(e, root, audio[e.utt_id]) for e in sentences}

    def _hear(self, example: Example, root: Path, audio: str) -> _Recorded:
        spans = [(float(start_s), float(end_s)) for start_s, end_s in example.spans_s]
        sound = affect.heard(read_audio(root, audio))
        return _Recorded(*self._affect.judge(example.corpus, sound, spans))

    def __call__(self, example: Example, audio_T: np.ndarray) -> SentenceScores:
        """Judge one sentence; `audio_T` is float32 (T,), 16 kHz."""
        recorded = self._recorded[example.utt_id]
        errors = self._counter.count(example.text, self._ears.hear(audio_T))
        spans = realigned(self._aligner, audio_T, example.words)
        sound, agreement = affect.heard(audio_T), None
        if spans is None:
            posterior_9 = self._affect.posterior(example.corpus, sound)
        else:
            posterior_9, vad_W3 = self._affect.judge(example.corpus, sound, spans)
            agreement = float(ccc(vad_W3, recorded.vad_W3).mean())
        return SentenceScores(
            errors.n_errors, errors.n_words, agreement, cosine(posterior_9, recorded.posterior_9)
        )
