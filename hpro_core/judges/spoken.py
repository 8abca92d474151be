"""What a policy in training speaks for the trackers: sentences of dev, with the judges' scores.

No result depends on it (`workflow/scripts/code_hash.py`), and no rule of a training waits for
its models: until the decoder is made nothing is spoken; until the judge is made nothing is scored.
Letters: T audio sample.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from hpro_core.constants import EMOTIONS
from hpro_core.dataset import train_dev
from hpro_core.judges import affect
from hpro_core.judges.probe import SentenceJudge
from hpro_core.params import Audio
from hpro_core.policy.interface import SpeechPolicy
from hpro_core.reward.probe import Judge, SentenceScores, probe_set
from hpro_core.synthesis.stage import AudioDecoder, load_decoder, sample_batch
from hpro_core.train.batching import Example
from hpro_core.train.loop import device_of
from hpro_core.train.run import Run
from hpro_core.train.trackers import Spoken

DECODER = ("speech/tokenizer/config.json", "speech/vocoder/config.json")
JUDGE = ("judge/model.safetensors", "judge/config.json")
"""Files of a run without which decoder and judge are not loaded. A published tokenizer has its
decoder elsewhere, and only the first one."""


class DevSpeech:
    """A few sentences of dev, the same ones with the same random numbers at every call."""

    def __init__(self, run: Run, audio: Audio, leave_out: Sequence[str], weights: Path):
        """Choose the sentences: of corpora that the affect judge knows, if there are any.

        Args:
            run: reads the dataset of its results.
            audio: number of sentences, and sampling settings.
            leave_out: corpora that the training leaves out.
            weights: folder of the downloaded weights.

        Raises:
            HproError: what `train_dev` and `probe_set` raise.
        """
        self.every = audio.every
        self._run, self._audio, self._weights = run, audio, weights
        train, dev = train_dev(run.root, list(leave_out), "tracking.audio_every")
        corpora = set(dev.column("corpus").unique().to_pylist())
        self._known = set(affect.known_sets(run.root / "judge")) if self._is_made(JUDGE) else set()
        if corpora & self._known:
            dev = dev.without(corpora - self._known)
        self.sentences, references = probe_set(dev, train, audio.sentences, audio.synthesis.seed)
        self._prompts = [references[e.utt_id] for e in self.sentences]
        self._decoder: AudioDecoder | None = None
        self._judge: Judge | None = None
        self._was_said: set[str] = set()

    def __call__(self, policy: SpeechPolicy) -> Iterator[Spoken]:
        """Yield the sentences that a policy in eval mode speaks.

        A sentence for which the policy generates no token is left out, with a message.
        """
        device = device_of(self._run.compute.device)
        if self._decoder is None and self._decoder_is_made():
            self._decoder = load_decoder(self._run.root, device)
        if self._decoder is None:
            return
        sampled = sample_batch(
            policy, self.sentences, self._prompts, self._audio.synthesis, 0, device
        )
        tokens = [each.tokens.cpu().numpy() for each in sampled]
        places = [place for place, each in enumerate(tokens) if len(each)]
        for place in set(range(len(tokens))) - set(places):
            print(f"audio: {self.sentences[place].utt_id}: no speech token", flush=True)
        prompts = [self._prompts[place] for place in places]
        audios = self._decoder([tokens[place] for place in places], prompts) if places else []
        for place, samples_T in zip(places, audios, strict=True):
            yield self._spoken(self.sentences[place], samples_T, sampled[place].stopped)

    def _spoken(self, example: Example, samples_T: np.ndarray, stopped: bool) -> Spoken:
        scores = self._scores(example, samples_T)
        emotion = EMOTIONS[int(np.argmax(example.emotion))]
        caption = [f"**{example.text}** ({emotion}, {example.speaker})"]
        found: dict[str, float] = {}
        if scores is not None:
            found = {
                "wer": scores.n_errors / scores.n_words,
                "wvad_ccc": scores.wvad_ccc or 0.0,
                "emo_sim": scores.emo_sim,
            }
            agreement = "no words found" if scores.wvad_ccc is None else f"{scores.wvad_ccc:.2f}"
            caption.append(f"word errors {scores.n_errors} of {scores.n_words}")
            caption.append(f"wVAD-CCC {agreement}, EMO-SIM {scores.emo_sim:.2f}")
        if not stopped:
            caption.append("not ended by the policy")
        return Spoken(example.utt_id, samples_T, "; ".join(caption), found)

    def _scores(self, example: Example, samples_T: np.ndarray) -> SentenceScores | None:
        if self._judge is None and example.corpus in self._known:
            self._judge = SentenceJudge(
                self._run.root, self.sentences, self._weights, self._run.compute.threads
            )
        if self._judge is None:
            self._say_once("without scores: the affect judge is not made, or knows no dev sentence")
            return None
        return self._judge(example, samples_T)

    def _decoder_is_made(self) -> bool:
        root = self._run.root
        published = (root / "speech/tokenizer/record_tokenizer-published.json").is_file()
        made = self._is_made(DECODER[:1] if published else DECODER)
        if not made:
            self._say_once("none until the decoder of speech tokens is made")
        return made

    def _is_made(self, names: Sequence[str]) -> bool:
        return all((self._run.root / name).is_file() for name in names)

    def _say_once(self, text: str) -> None:
        if text not in self._was_said:
            self._was_said.add(text)
            print(f"audio: {text}", flush=True)
