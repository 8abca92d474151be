"""Embedded judges of a few dev sentences during training: WER, wVAD-CCC, EMO-SIM.

As `panel`, without DNSMOS and speaker similarity. It judges the recordings itself, because no table
has the judged affect of the dev split.
Letters: T samples, W words, 9 emotions, 3 valence, arousal and dominance.
"""

from functools import cache
from pathlib import Path

import numpy as np

from hpro_core.align.pocketsphinx_aligner import PocketsphinxAligner
from hpro_core.dataset import train_dev
from hpro_core.errors import HproError
from hpro_core.judges import affect
from hpro_core.judges.asr import WhisperASR, WordErrorCounter
from hpro_core.judges.metrics import ccc, cosine
from hpro_core.judges.realignment import read_wav, realign
from hpro_core.params import Reward, Synthesis
from hpro_core.pretrained.weights import find_weights
from hpro_core.reward.model_selection import ProbeSettings
from hpro_core.reward.probe import Probe, SentenceScores, probe_set
from hpro_core.synthesis.stage import load_decoder
from hpro_core.tables import UTTERANCES, read_table
from hpro_core.train.batching import Example
from hpro_core.train.loop import device_of
from hpro_core.train.run import Run

MODELS = ("judge/model.safetensors", "judge/config.json", "speech/tokenizer/config.json")
"""Files of a run whose change makes a watched training start anew."""


def watch(run: Run, settings: Reward, synthesis: Synthesis, weights: Path) -> ProbeSettings:
    """Choose the dev sentences of a reward training's probes, and define the probes.

    The sentences are of corpora that the affect judge was trained on: elsewhere it is not trusted
    and has no scale. Corpora left out are printed. Decoder and judges are loaded at the first
    probe, since only the main process probes.

    Args:
        run: reads the dataset of its results, and at the first probe the trained tokenizer and
            affect judge.
        settings: section `reward`.
        synthesis: sampling settings, and the seed of the choice.
        weights: folder of the downloaded weights.

    Raises:
        HproError: the judge is not trained, or not on any corpus of the dev sentences, or what
            `train_dev` and `probe_set` raise.
    """
    train, dev = train_dev(run.root, settings.leave_out, "reward")
    known = affect.known_sets(run.root / "judge")
    if unknown := set(dev.column("corpus").unique().to_pylist()) - known.keys():
        dev = dev.without(unknown)
    if not dev:
        raise HproError(
            f"the affect judge was trained on {', '.join(known)}, and the dev sentences of the "
            f"rewards are of {', '.join(sorted(unknown))}: set reward.probe_every to 0"
        )
    if unknown:
        print(
            f"probes: without the dev sentences of {', '.join(sorted(unknown))}, on which the "
            "affect judge was not trained",
            flush=True,
        )
    chosen = probe_set(dev, train, settings.probe_sentences, synthesis.seed)

    @cache
    def probe() -> Probe:
        device = device_of(run.compute.device)
        judge = SentenceJudge(run.root, chosen[0], weights, run.compute.threads)
        return Probe(*chosen, synthesis, load_decoder(run.root, device), judge, device)

    return ProbeSettings(
        sentences=chosen[0],
        probe=lambda policy: probe()(policy),
        every=settings.probe_every,
        wer_margin=settings.wer_margin,
        patience=settings.hacking_patience,
        tolerance=settings.hacking_tolerance,
        stop=settings.stop_on_hacking,
        files=tuple(run.root / name for name in MODELS),
    )


class SentenceJudge:
    """Score synthesised sentences against their recordings, which are judged once."""

    def __init__(self, root: Path, sentences: list[Example], weights: Path, threads: int) -> None:
        """Load the judges and judge the recordings of the sentences.

        Raises:
            HproError: the judge is not trained, weights are missing, or a recording is unusable.
        """
        self._affect = affect.load(root / "judge")
        self._recogniser = WhisperASR(find_weights("whisper_tiny_en", weights), threads)
        self._counter = WordErrorCounter()
        self._aligner = PocketsphinxAligner()
        utterances = read_table(root / "corpus" / "utterances.parquet", UTTERANCES)
        audio = dict(zip(utterances["utt_id"], utterances["audio"], strict=True))
        self._recorded = {
            e.utt_id: self._judge_recording(e, root, audio[e.utt_id]) for e in sentences
        }

    def _judge_recording(
        self, example: Example, root: Path, audio: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """Judged emotion posterior (9,) and word affect (W, 3) of a recording."""
        spans = [(float(start_s), float(end_s)) for start_s, end_s in example.spans_s]
        features = affect.input_features(read_wav(root / audio))
        return self._affect.judge(example.corpus, features, spans)

    def __call__(self, example: Example, audio_T: np.ndarray) -> SentenceScores:
        """Score one of the sentences of the constructor, synthesised: float32 (T,), 16 kHz.

        Returns:
            Word errors and words, wVAD-CCC (None if the aligner does not find the words), EMO-SIM.
        """
        recorded_9, recorded_W3 = self._recorded[example.utt_id]
        errors = self._counter.count(example.text, self._recogniser.transcribe(audio_T))
        spans = realign(self._aligner, audio_T, example.words)
        features, agreement = affect.input_features(audio_T), None
        if spans is None:
            posterior_9 = self._affect.posterior(example.corpus, features)
        else:
            posterior_9, vad_W3 = self._affect.judge(example.corpus, features, spans)
            agreement = float(ccc(vad_W3, recorded_W3).mean())
        similarity = cosine(posterior_9, recorded_9)
        return SentenceScores(errors.n_errors, errors.n_words, agreement, similarity)
