"""Embedded judges of a few dev sentences during training: WER, wVAD-CCC, EMO-SIM.

As `panel`, without DNSMOS and speaker similarity. It judges the recordings itself, because no table
has the judged affect of the dev split.
Letters: T samples, W words, 9 emotions, 3 valence, arousal and dominance.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hpro_core.align.pocketsphinx_aligner import PocketsphinxAligner
from hpro_core.judges import affect
from hpro_core.judges.asr import WhisperASR, WordErrorCounter
from hpro_core.judges.metrics import ccc, cosine
from hpro_core.judges.realignment import read_wav, realigned
from hpro_core.params import Compute, Synthesis
from hpro_core.pretrained.weights import located
from hpro_core.reward.probe import Probe, SentenceScores, probe_set
from hpro_core.synthesis.stage import load_decoder
from hpro_core.tables import UTTERANCES, read_table
from hpro_core.train.batching import Example
from hpro_core.train.loop import device_of


def load_probe(
    root: Path,
    dev: Sequence[Example],
    train: Sequence[Example],
    size: int,
    settings: Synthesis,
    compute: Compute,
    weights: Path,
) -> Probe:
    """Load the decoder and the judges for a fixed choice of dev sentences.

    Args:
        root: results folder of the run, with a trained tokenizer and a trained affect judge.
        dev: examples of the dev split.
        train: training examples; the reference of speakers with a single dev utterance.
        size: number of sentences.
        settings: sampling settings, and the seed of the choice.
        compute: device and number of CPU threads.
        weights: folder of the downloaded weights.
    """
    sentences, references = probe_set(dev, train, size, settings.seed)
    device = device_of(compute.device)
    judge = SentenceJudge(root, sentences, weights, compute.threads)
    return Probe(sentences, references, settings, load_decoder(root, device), judge, device)


class SentenceJudge:
    """Score synthesised sentences against their recordings, which are judged once."""

    def __init__(self, root: Path, sentences: list[Example], weights: Path, threads: int) -> None:
        """Load the judges and judge the recordings of the sentences.

        Raises:
            HproError: the judge is not trained, weights are missing, or a recording is unusable.
        """
        self._affect = affect.load(root / "judge")
        self._recogniser = WhisperASR(located("whisper_tiny_en", weights), threads)
        self._counter = WordErrorCounter()
        self._aligner = PocketsphinxAligner()
        utterances = read_table(root / "corpus" / "utterances.parquet", UTTERANCES)
        audio = dict(zip(utterances["utt_id"], utterances["audio"], strict=True))
        self._recorded = {e.utt_id: self._hear(e, root, audio[e.utt_id]) for e in sentences}

    def _hear(self, example: Example, root: Path, audio: str) -> tuple[np.ndarray, np.ndarray]:
        """Judged emotion posterior (9,) and word affect (W, 3) of a recording."""
        spans = [(float(start_s), float(end_s)) for start_s, end_s in example.spans_s]
        sound = affect.heard(read_wav(root / audio))
        return self._affect.judge(example.corpus, sound, spans)

    def __call__(self, example: Example, audio_T: np.ndarray) -> SentenceScores:
        """Score one of the sentences of the constructor, synthesised: float32 (T,), 16 kHz.

        Returns:
            Word errors and words, wVAD-CCC (None if the aligner does not find the words), EMO-SIM.
        """
        recorded_9, recorded_W3 = self._recorded[example.utt_id]
        errors = self._counter.count(example.text, self._recogniser.transcribe(audio_T))
        spans = realigned(self._aligner, audio_T, example.words)
        sound, agreement = affect.heard(audio_T), None
        if spans is None:
            posterior_9 = self._affect.posterior(example.corpus, sound)
        else:
            posterior_9, vad_W3 = self._affect.judge(example.corpus, sound, spans)
            agreement = float(ccc(vad_W3, recorded_W3).mean())
        similarity = cosine(posterior_9, recorded_9)
        return SentenceScores(errors.n_errors, errors.n_words, agreement, similarity)
