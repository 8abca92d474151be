"""Speak a fixed set of dev sentences with the policy as it is, and have them judged.

The judge is a callable, so that this room knows no judges: `hpro_core.evaluate.probe` has the
embedded ones. So is the way from tokens to sound. Letters: T sample.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from hpro_core.engine.batching import Example
from hpro_core.engine.examples import SpeakerIndex, utt_ids
from hpro_core.errors import HproError
from hpro_core.params import Synthesis
from hpro_core.policy.interface import SpeechPolicy
from hpro_core.policy.synthesis import SoundOf, references_of, speak


@dataclass(frozen=True)
class SentenceScores:
    """What the judges say about one sentence."""

    n_errors: int  # word errors
    n_words: int  # words of the reference text
    wvad_ccc: float | None  # None where the words could not be found in the audio
    emo_sim: float


Judge = Callable[[Example, np.ndarray], SentenceScores]
"""Judges the sound of a sentence, float32 (T,), against its recording."""


class Probe:
    """The same sentences, references and random numbers at every call."""

    def __init__(
        self,
        sentences: list[Example],
        references: dict[str, Example],
        settings: Synthesis,
        sound_of: SoundOf,
        judge: Judge,
        device: torch.device,
    ):
        """
        Args:
            sentences: dev utterances.
            references: another utterance of the speaker for each of them, by its utt_id.
            settings: of the sampling, those of the tables.
            sound_of: tokens to sound, see `policy.synthesis.load_decoder`.
            judge: hears one sentence.
            device: of the policy.
        """
        self.sentences = sentences
        self._references = references
        self._settings = settings
        self._sound_of = sound_of
        self._judge = judge
        self._device = device

    def __call__(self, policy: SpeechPolicy) -> dict[str, float]:
        """Judge the policy.

        Returns:
            wer: word errors over words.
            wvad_ccc: mean; 0 where the words were not found, as in the tables.
            emo_sim: mean.
            stopped: share of sentences that ended by themselves.
            length_ratio: speech tokens over those of the recordings.

        Raises:
            HproError: the policy said nothing at all of a sentence.
        """
        said = speak(
            policy, self.sentences, self._references, self._settings, 0, self._device, "probe"
        )
        tokens = [said[e.utt_id].tokens.cpu().numpy() for e in self.sentences]
        voices = [self._references[e.utt_id] for e in self.sentences]
        sounds = self._sound_of(tokens, voices)
        judged = [self._judge(e, s) for e, s in zip(self.sentences, sounds, strict=True)]
        recorded = sum(len(e.tokens) for e in self.sentences)
        return {
            "wer": sum(j.n_errors for j in judged) / sum(j.n_words for j in judged),
            "wvad_ccc": float(np.mean([j.wvad_ccc or 0.0 for j in judged])),
            "emo_sim": float(np.mean([j.emo_sim for j in judged])),
            "stopped": float(np.mean([said[e.utt_id].stopped for e in self.sentences])),
            "length_ratio": sum(map(len, tokens)) / recorded,
        }


def probe_set(
    dev: Sequence[Example], others: Sequence[Example], size: int, seed: int
) -> tuple[list[Example], dict[str, Example]]:
    """The dev sentences to probe with, and a reference for each by its utt_id.

    Sentences of speakers that say nothing else are left out.

    Args:
        dev: the dev split.
        others: utterances that serve as reference where dev has only one of a speaker.
        size: sentences; all of dev, if there are not so many.
        seed: of the choice and of the references.

    Raises:
        HproError: no sentence has a reference.
    """
    heard = SpeakerIndex(dev).counts(SpeakerIndex(others))
    able = np.flatnonzero(heard > 1)
    if not len(able):
        raise HproError(
            f"none of the {len(dev)} dev sentences has a reference to be spoken after: their "
            "speakers say nothing else in dev or train; set reward.probe_every to 0"
        )
    order = np.random.default_rng(seed).permutation(len(able))
    ids = utt_ids(dev)
    by_id = sorted(able.tolist(), key=lambda i: ids[i])
    chosen = [dev[by_id[i]] for i in order[:size]]
    return chosen, references_of(chosen, dev, others, seed)
