"""Every call of hpro_core that is timed: where an interface changes, this file changes alone."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hpro_core.align.pocketsphinx_aligner import PocketsphinxAligner
from hpro_core.codec.training import load_codec
from hpro_core.corpus.controlled.sentence_plans import Plan
from hpro_core.corpus.controlled.voice import Voice
from hpro_core.judges import affect, speaker
from hpro_core.judges.asr import BASE, TINY_EN, WhisperASR
from hpro_core.judges.dnsmos import Dnsmos
from hpro_core.params import Sft
from hpro_core.policy.sampling import Sampling, sample
from hpro_core.policy.sft import load_policy, sft_terms
from hpro_core.pretrained.weights import find_weights
from hpro_core.reward.objective import NoisyBatch, Objective, Rewarder, with_policy_history
from hpro_core.speech.decoder import TokenDecoder
from hpro_core.speech.features import FRAMES_PER_TOKEN, MelFrontend
from hpro_core.speech.stage import load_tokenizer
from hpro_core.train.batching import Batch, Example, Sampler, collate

CPU = torch.device("cpu")


def voice() -> Voice:
    """The voice of the controlled corpus."""
    return Voice()


def render(teller: Voice, plan: Plan) -> tuple[np.ndarray, np.ndarray]:
    """Samples float32 (T,) and word times (W, 2) in seconds of a sentence."""
    spoken = teller.synthesise(plan.sentence.text, plan.n_words, plan.controls, plan.seed)
    return spoken.samples, spoken.spans_s


class Encoder:
    """Audio to speech tokens and speaker embeddings, as `hpro encode`."""

    def __init__(self, folder: Path):
        self._model = load_tokenizer(folder)
        self._frontend = MelFrontend()

    @torch.no_grad()
    def __call__(self, audios: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Tokens (L,) and speaker embedding (64,) of each clip, all in one batch."""
        mels = [self._frontend.analyse(torch.from_numpy(audio_T)) for audio_T in audios]
        mels = [mel_FM.half().float() for mel_FM in mels]  # as the stage keeps them
        lengths_B = torch.tensor([len(mel_FM) // FRAMES_PER_TOKEN for mel_FM in mels])
        mel_BFM = nn.utils.rnn.pad_sequence(mels, batch_first=True)
        tokens_BL = self._model.tokens(mel_BFM, lengths_B).numpy()
        speakers_BE = self._model.speaker(mel_BFM, lengths_B).numpy()
        rows = zip(tokens_BL, lengths_B.tolist(), speakers_BE, strict=True)
        return [(tokens_L[:length], speaker_E) for tokens_L, length, speaker_E in rows]


class RewardStep:
    """The sentence stage of a reward training: the terms of a batch and their gradients."""

    def __init__(self, models: Path, objective: Objective):
        """The policy is that of the folder `moved`, the frozen reference the base's."""
        self._policy = load_policy(models / "moved")
        frozen = load_policy(models / "policy").requires_grad_(False)
        codec = load_codec(models / "codec")
        self._rewarder = Rewarder(self._policy, frozen, codec, objective, CPU, bf16=False)

    def draw(self, batch: Batch, seed: int) -> NoisyBatch:
        """The batch and its noise."""
        return self._rewarder.draw_noise(batch, seed)

    def __call__(self, drawn: NoisyBatch) -> tuple[dict[str, float], float]:
        """The terms, and the norm of the loss's gradient."""
        self._policy.zero_grad(set_to_none=True)
        terms = self._rewarder.terms(drawn)
        terms["loss"].backward()
        norm = gradient_norm(self._policy.parameters())
        return {name: float(term.detach()) for name, term in terms.items()}, norm

    def history(self, drawn: NoisyBatch) -> Tensor:
        """The tokens that the policy has read where it is rewarded, int64 (B, L)."""
        objective, noise_KRBLC = self._rewarder.objective, drawn.noise_KRBLC
        return with_policy_history(self._policy, drawn.batch, objective, noise_KRBLC).history_BL


class SftStep:
    """A step of fine-tuning, dropout off: its random numbers are no part of the comparison."""

    def __init__(self, models: Path, settings: Sft):
        self._policy = load_policy(models / "policy")
        self._settings = settings

    def __call__(self, batch: Batch) -> tuple[dict[str, float], float]:
        """The terms, and the norm of the loss's gradient."""
        self._policy.zero_grad(set_to_none=True)
        settings = self._settings
        terms = sft_terms(
            self._policy, batch, settings.guided_attention_weight, settings.emotion_weight
        )
        terms["loss"].backward()
        norm = gradient_norm(self._policy.parameters())
        return {name: float(term.detach()) for name, term in terms.items()}, norm


class Speaker:
    """Speech tokens for a batch of sentences, as `hpro synthesise` has them."""

    def __init__(self, models: Path):
        self._policy = load_policy(models / "policy")

    def __call__(
        self, examples: list[Example], references: list[Example], seeds: list[int], how: Sampling
    ) -> list[list[int]]:
        """Tokens of each sentence, its draws by its seed."""
        batch = collate(examples, [r.speaker_embedding for r in references])
        prompt = collate(references, [r.speaker_embedding for r in references])
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        said = sample(self._policy, batch, generators, how, prompt)
        return [one.tokens.tolist() for one in said]


class Decoder:
    """Speech tokens to log-mel frames, and these to sound."""

    def __init__(self, folder: Path):
        self._decoder = TokenDecoder.load(folder)

    def mel(self, tokens_L: np.ndarray, embedding_E: np.ndarray) -> Tensor:
        """Log-mel frames (4 L, 80)."""
        return self._decoder.mel(tokens_L, embedding_E)

    def sound(self, mel_FM: Tensor) -> np.ndarray:
        """Samples (160 F,)."""
        return self._decoder.frontend.synthesise(mel_FM).numpy()


def transcripts(weights: Path, second: bool):
    """A function from clips to what a recogniser writes: the judge's, or the second."""
    name, options = ("whisper_base", BASE) if second else ("whisper_tiny_en", TINY_EN)
    recogniser = WhisperASR(find_weights(name, weights), 1, options)
    return recogniser.transcribe_batch


def voices(weights: Path):
    """A function from clips to their voices (256,)."""
    encoder = speaker.load_encoder(find_weights("ge2e", weights))
    return torch.inference_mode()(lambda audios: speaker.embed_batch(encoder, audios))


def quality(weights: Path, windows: int):
    """A function from clips to their DNSMOS."""
    network = Dnsmos(find_weights("dnsmos", weights), 1)
    return lambda audios: [network.score(audio_T, windows).ovrl for audio_T in audios]


def judged_affect(folder: Path):
    """A function from clips with word times to emotion posterior (9,) and word affect (W, 3)."""
    judge = affect.load(folder)

    def judge_clips(audios, spans):
        return [
            judge.judge("controlled", affect.input_features(audio_T), spans_W2)
            for audio_T, spans_W2 in zip(audios, spans, strict=True)
        ]

    return judge_clips


def word_times():
    """A function from clips with their words to word times (W, 2) in seconds."""
    aligner = PocketsphinxAligner()

    def align(audios, words):
        found = [aligner.align(a, list(w)) for a, w in zip(audios, words, strict=True)]
        return [np.array([(s.start_s, s.end_s) for s in spans]) for spans in found]

    return align


def batches(examples: list[Example], size: int, seed: int):
    """A function from a step to its batch."""
    return Sampler(examples, size, seed).batch_at


def single(example: Example, reference: Example) -> Batch:
    """One utterance as a batch, its voice another's."""
    return collate([example], [reference.speaker_embedding])


def gradient_norm(parameters) -> float:
    """Norm of all gradients together."""
    squares = [p.grad.double().square().sum() for p in parameters if p.grad is not None]
    return float(torch.stack(squares).sum().sqrt())
