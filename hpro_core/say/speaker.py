"""Speech of a policy for sentences of one's own, one by one.

A sentence's random numbers depend on the seed and its text only. For equal symbols, reference and
random numbers its tokens are those of `synthesis.stage.sample_tokens`. Letters as in
`policy.interface`; T audio sample.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from hpro_core.constants import EMOTIONS, SAMPLE_RATE_HZ
from hpro_core.errors import HproError
from hpro_core.params import Synthesis
from hpro_core.policy.llm_file import QWEN_FOLDER
from hpro_core.policy.model import SpeechLM
from hpro_core.policy.sampling import GeneratedTokens
from hpro_core.policy.sft import load_policy
from hpro_core.say.policy_folder import EMBEDDED, PolicyFolder
from hpro_core.say.sentences import Sentence
from hpro_core.speech.cosyvoice2 import CamPlus, FlowDecoder, S3Tokenizer
from hpro_core.speech.crops import pad_mels
from hpro_core.speech.decoder import TokenDecoder
from hpro_core.synthesis.stage import AudioDecoder, flow_decoder, sample_batch
from hpro_core.text.normalise import normalised_words
from hpro_core.text.tokenizers import PHONES, load_frontend
from hpro_core.train.batching import Example

Recordings = Mapping[Path, np.ndarray]
"""Audio of the recordings that sentences name, float32 (T,), 16 kHz."""

END_OF_PROMPT = "<|endofprompt|>"


@dataclass(frozen=True)
class Spoken:
    """Speech of a sentence."""

    audio_T: np.ndarray  # float32, 16 kHz, in [-1, 1]
    n_tokens: int
    stopped: bool  # false: cut at the longest allowed length, without an end symbol

    @property
    def duration_s(self) -> float:
        """Length of the audio in seconds."""
        return len(self.audio_T) / SAMPLE_RATE_HZ


class Speaker:
    """A policy with the tokenizer and decoder that it speaks with."""

    def __init__(
        self,
        folder: PolicyFolder,
        settings: Synthesis,
        recordings: Recordings,
        device: torch.device,
        threads: int = 1,
    ):
        """
        Args:
            folder: the policy and its files.
            settings: section `synthesis` of its run.
            recordings: audio of all references of the sentences that follow.
            device: device of the policy and of CosyVoice2's models.
            threads: number of CPU threads of the speaker encoder CAM++.

        Raises:
            HproError: a file is missing, broken or of other sizes, or a package is missing.
        """
        self.settings, self.device = settings, device
        self._recordings = recordings
        self._voices: dict[Path, Example] = {}
        self.policy = load_policy(folder.policy).to(device)
        self._encoder: _Encoder
        if folder.kind == EMBEDDED:
            self._encoder = _EmbeddedEncoder(folder.tokenizer)
            _check_width(self.policy, self._encoder, folder)
            text = PHONES
        else:
            self._encoder = _CosyVoice2Encoder(folder.tokenizer, device, threads, recordings)
            text = str(folder.tokenizer / QWEN_FOLDER)
        self._symbols = load_frontend(text, PHONES).policy

    def tokens(self, sentence: Sentence, seed: int) -> GeneratedTokens:
        """Sample the speech tokens of a sentence.

        Args:
            sentence: a sentence that `sentences.check` accepts.
            seed: seed of the random numbers, that of `hpro synthesise`.

        Raises:
            HproError: a word has no phones, a recording cannot be encoded, or the policy ends
                before its first token.
        """
        example = self._text(sentence.text, sentence.text)
        arguments = (self.settings, seed, self.device)
        (sampled,) = sample_batch(self.policy, [example], [self._prompt(sentence)], *arguments)
        if not len(sampled.tokens):
            raise HproError(
                f"{sentence.where}: the policy generated no speech token: try another --seed"
            )
        return sampled

    def say(self, sentence: Sentence, seed: int) -> Spoken:
        """Speak a sentence: sample its tokens and decode them; raises as `tokens`."""
        sampled = self.tokens(sentence, seed)
        voice = self._voice(sentence.reference)
        (audio_T,) = self._encoder.decode([sampled.tokens.numpy()], [voice])
        return Spoken(audio_T, len(sampled.tokens), sampled.stopped)

    def _prompt(self, sentence: Sentence) -> Example:
        """Build what the policy reads before the text; it has the reference's embedding.

        The small policy uses the embedding only. CosyVoice2 continues a recording with its text
        (zero-shot), reads an instruction without speech (upstream's instruct2), or reads nothing
        (upstream's cross-lingual).
        """
        voice = self._voice(sentence.reference)
        if sentence.reference_text:
            return _with_symbols(voice, self._text("", sentence.reference_text))
        if sentence.like is not None:
            like = _with_symbols(self._voice(sentence.like), self._text("", sentence.like_text))
            return replace(like, speaker_embedding=voice.speaker_embedding)
        silent = replace(voice, tokens=voice.tokens[:0])
        if instruction := instruction_of(sentence):
            return _with_symbols(silent, self._text("", instruction + END_OF_PROMPT))
        return silent

    def _voice(self, path: Path) -> Example:
        if path not in self._voices:
            tokens, embedding = self._encoder.encode(self._recordings[path], str(path))
            self._voices[path] = example_of(str(path), tokens=tokens, embedding=embedding)
        return self._voices[path]

    def _text(self, name: str, text: str) -> Example:
        symbols, symbol_word = self._symbols(text, normalised_words(text))
        made = example_of(name, embedding=np.zeros(1, np.float32))
        return replace(made, symbols=np.array(symbols), symbol_word=np.array(symbol_word))


def instruction_of(sentence: Sentence) -> str:
    """Return the instruction of a sentence; for an emotion the wording is ours."""
    return f"Speak in a {sentence.emotion} tone." if sentence.emotion else sentence.instruct


def example_of(name: str, embedding: np.ndarray, tokens: np.ndarray | None = None) -> Example:
    """Build an utterance without text, words and labels."""
    nothing = np.zeros(0, dtype=np.int64)
    return Example(
        utt_id=name, corpus="", speaker="", text="", words=(), symbols=nothing, symbol_word=nothing,
        transcript=nothing, tokens=nothing if tokens is None else tokens,
        speaker_embedding=embedding, emotion=np.zeros(len(EMOTIONS), np.float32),
        spans_s=np.zeros((0, 2)), vad=np.zeros((0, 3), np.float32),
    )  # fmt: skip


def _with_symbols(speech: Example, text: Example) -> Example:
    return replace(speech, symbols=text.symbols, symbol_word=text.symbol_word)


class _EmbeddedEncoder:
    """The embedded tokenizer: speaker embedding of a recording, and the decoder."""

    def __init__(self, folder: Path):
        self._decoder = TokenDecoder.load(folder)
        self.size = self._decoder.tokenizer.config.speaker_dim

    @torch.no_grad()
    def encode(self, audio_T: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Compute the speaker embedding as `hpro tokenize` does; the tokens are not used."""
        mel_FM = self._decoder.frontend.analyse(torch.from_numpy(audio_T)).half().numpy()
        speaker_1E = self._decoder.tokenizer.speaker(*pad_mels([mel_FM]))
        return np.zeros(0, dtype=np.int64), speaker_1E[0].numpy()

    def decode(self, tokens: list[np.ndarray], references: list[Example]) -> list[np.ndarray]:
        """Decode tokens to 16 kHz audio."""
        return self._decoder.decode(tokens, [r.speaker_embedding for r in references])


class _CosyVoice2Encoder:
    """S3 tokenizer, speaker encoder CAM++, flow and vocoder."""

    def __init__(self, folder: Path, device: torch.device, threads: int, recordings: Recordings):
        self._folder, self._device, self._recordings = folder, device, recordings
        self._tokenizer = S3Tokenizer.load(folder, device)
        self._speakers = CamPlus.load(folder, threads)

    def encode(self, audio_T: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Compute speech tokens and x-vector of a recording."""
        (tokens,) = self._tokenizer.tokens([audio_T], [name])
        return tokens, self._speakers.x_vector(audio_T, name)

    @cached_property
    def decode(self) -> AudioDecoder:
        """Decoder of tokens to 16 kHz audio; loaded when the first sentence has its tokens."""
        decoder = FlowDecoder.load(self._folder, self._device)
        return flow_decoder(decoder, lambda name: self._recordings[Path(name)])


_Encoder = _EmbeddedEncoder | _CosyVoice2Encoder


def _check_width(policy: object, encoder: _EmbeddedEncoder, folder: PolicyFolder) -> None:
    if isinstance(policy, SpeechLM) and policy.config.reference_width != encoder.size:
        raise HproError(
            f"{folder.policy} takes speaker embeddings of size {policy.config.reference_width}, "
            f"but {folder.tokenizer} gives {encoder.size}: use the tokenizer of its own run"
        )
