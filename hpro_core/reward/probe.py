"""Probe of a policy in training: synthesise a fixed set of dev sentences and judge them.

The judge and the decoder from tokens to audio are callables, so this module does not depend on
them; `hpro_core.judges.probe` has the embedded judges. Letters: T audio sample.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from hpro_core.errors import HproError
from hpro_core.params import Synthesis
from hpro_core.policy.interface import SpeechPolicy
from hpro_core.synthesis.stage import AudioDecoder, references_of, sample_tokens
from hpro_core.train.batching import Example
from hpro_core.train.examples import SpeakerIndex, utt_ids


@dataclass(frozen=True)
class SentenceScores:
    """A judge's scores of one sentence.

    Attributes:
        n_errors: word errors.
        n_words: words of the reference text.
        wvad_ccc: wVAD-CCC; None if the aligner does not find the words in the audio.
        emo_sim: cosine of the emotion posteriors.
    """

    n_errors: int
    n_words: int
    wvad_ccc: float | None
    emo_sim: float


Judge = Callable[[Example, np.ndarray], SentenceScores]
"""Function from a sentence's recording and its synthesised audio, float32 (T,), to its scores."""


class Probe:
    """Synthesis and scoring of fixed dev sentences.

    Every call uses the same sentences, references and random numbers.
    """

    def __init__(
        self,
        sentences: list[Example],
        references: dict[str, Example],
        settings: Synthesis,
        decode_audio: AudioDecoder,
        judge: Judge,
        device: torch.device,
    ):
        """
        Args:
            sentences: dev utterances.
            references: for the utt_id of each sentence, another utterance of its speaker.
            settings: sampling settings, the same as for the tables.
            decode_audio: function from tokens to audio, see `synthesis.stage.load_decoder`.
            judge: function that scores one sentence.
            device: device of the policy.
        """
        self.sentences = sentences
        self._references = references
        self._settings = settings
        self._decode_audio = decode_audio
        self._judge = judge
        self._device = device

    def __call__(self, policy: SpeechPolicy) -> dict[str, float]:
        """Synthesise the sentences with a policy and return their scores.

        Args:
            policy: policy in eval mode, on the probe's device.

        Returns:
            wer: word errors divided by words, over all sentences.
            wvad_ccc: mean over sentences; 0 where the words were not found, as in the tables.
            emo_sim: mean over sentences.
            stopped: fraction of sentences that the policy ended with end of speech.
            length_ratio: number of speech tokens divided by that of the recordings.

        Raises:
            HproError: the policy generated no speech token for a sentence.
        """
        sampled = sample_tokens(
            policy, self.sentences, self._references, self._settings, 0, self._device, "probe"
        )
        tokens = [sampled[e.utt_id].tokens.cpu().numpy() for e in self.sentences]
        prompts = [self._references[e.utt_id] for e in self.sentences]
        audios = self._decode_audio(tokens, prompts)
        scores = [self._judge(e, s) for e, s in zip(self.sentences, audios, strict=True)]
        n_recorded = sum(len(e.tokens) for e in self.sentences)
        return {
            "wer": sum(j.n_errors for j in scores) / sum(j.n_words for j in scores),
            "wvad_ccc": float(np.mean([j.wvad_ccc or 0.0 for j in scores])),
            "emo_sim": float(np.mean([j.emo_sim for j in scores])),
            "stopped": float(np.mean([sampled[e.utt_id].stopped for e in self.sentences])),
            "length_ratio": sum(map(len, tokens)) / n_recorded,
        }


def probe_set(
    dev: Sequence[Example], others: Sequence[Example], size: int, seed: int
) -> tuple[list[Example], dict[str, Example]]:
    """Choose the dev sentences of a probe and a reference utterance for each.

    Sentences whose speaker has no other utterance are left out.

    Args:
        dev: the dev split.
        others: utterances that serve as reference where dev has only one utterance of a speaker.
        size: number of sentences; all of dev if it has fewer.
        seed: seed of the choice and of the references.

    Returns:
        The sentences, and the reference of each by the sentence's utt_id.

    Raises:
        HproError: no sentence has a reference.
    """
    n_utterances = SpeakerIndex(dev).counts(SpeakerIndex(others))
    with_reference = np.flatnonzero(n_utterances > 1)
    if not len(with_reference):
        raise HproError(
            f"none of the {len(dev)} dev sentences has a reference utterance: their speakers have "
            "no other utterance in dev or train; set reward.probe_every to 0"
        )
    order = np.random.default_rng(seed).permutation(len(with_reference))
    ids = utt_ids(dev)
    by_id = sorted(with_reference.tolist(), key=lambda i: ids[i])
    chosen = [dev[by_id[i]] for i in order[:size]]
    return chosen, references_of(chosen, dev, others, seed)
