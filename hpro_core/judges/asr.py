"""Embedded ASR judges (two Whisper models) and word errors.

Letters: B clips of a batch, T samples, C mel channels, F mel frames.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import ctranslate2
import jiwer
import numpy as np
from tokenizers import Tokenizer

from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.errors import HproError
from hpro_core.judges.whisper_parts import log_mel, normalisers
from hpro_core.text.normalise import spoken_text


class DecodingOptions(NamedTuple):
    """Decoding options of a Whisper model."""

    prompt: tuple[str, ...]  # special tokens that start the decoder
    windows_s: tuple[int, ...]  # ascending; audio is padded to the first that fits; the last is 30
    beam_size: int


TINY_EN = DecodingOptions(("<|startoftranscript|>", "<|notimestamps|>"), (20, 30), 5)
"""The first recogniser, `weights/whisper_tiny_en`. A window of 20 s takes a third of the encoder's
time at the same WER. Beam 5 is OpenAI's default: greedy decoding repeats itself on clips of one or
two words."""

BASE = DecodingOptions(
    ("<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"), (10, 20, 30), 1
)
"""The second recogniser, `weights/whisper_base`, multilingual. It has the cheapest window and no
beam: with a wide beam, that window gives repeated sentences (docs/judges.md)."""

BATCH = 8
"""Number of clips that are decoded together (ours). The decoder reads all its weights for every
token, so a batch is cheaper than single clips; a batch of 16 is no cheaper."""

TOKENS_PER_S, SPARE_TOKENS = 10, 10
"""Token limit of a clip: 10 tokens per second plus 10, more than any speech has. The limit bounds
the insertions of a decoder that repeats itself."""

_POINTS = re.compile(r"\.{2,}")
_EDGES = re.compile(r"(?<![a-z0-9])'|'(?![a-z0-9])")
_BRACKETS = re.compile(r"[][()<>]")


class WordErrors(NamedTuple):
    """Word errors of one utterance. Corpus WER is the sum of errors over the sum of words."""

    transcript: str  # of the recogniser, normalised; may be empty
    n_errors: int
    n_words: int  # number of words of the normalised reference


class WhisperASR:
    """Whisper model in int8 (CTranslate2), English, temperature 0, on the CPU."""

    def __init__(self, folder: Path, threads: int, options: DecodingOptions = TINY_EN) -> None:
        """Load a model from the folder of its weights, for `threads` CPU threads."""
        self._model = ctranslate2.models.Whisper(
            str(folder), device="cpu", compute_type="int8", intra_threads=threads, inter_threads=1
        )
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._prompt = [self._tokenizer.token_to_id(token) for token in options.prompt]
        self._windows_s = options.windows_s
        self._beam_size = options.beam_size

    def transcribe(self, audio_T: np.ndarray) -> str:
        """Transcribe one clip, without text normalisation.

        Args:
            audio_T: float32 (T,), 16 kHz, in [-1, 1]; audio after the last window (30 s) is cut.
        """
        return self.transcribe_batch([audio_T])[0]

    def transcribe_batch(self, audios: Sequence[np.ndarray]) -> list[str]:
        """Transcribe several clips, decoded in batches of BATCH.

        Each transcript equals that of `transcribe`. The encoder runs on one clip at a time, which
        is faster because the activations of a batch exceed the CPU cache. Batches are most
        efficient if clips are sorted by length.

        Args:
            audios: as for `transcribe`, float32 (T,) each.
        """
        audios = [audio_T[: self._windows_s[-1] * SAMPLE_RATE_HZ] for audio_T in audios]
        windows = [_window_s(audio_T, self._windows_s) for audio_T in audios]
        texts: dict[int, str] = {}
        for window_s in self._windows_s:
            chosen = [i for i, own_s in enumerate(windows) if own_s == window_s]
            for start in range(0, len(chosen), BATCH):
                batch = chosen[start : start + BATCH]
                texts.update(zip(batch, self._batch([audios[i] for i in batch]), strict=True))
        return [texts[i] for i in range(len(audios))]

    def _batch(self, audios: Sequence[np.ndarray]) -> list[str]:
        """Transcribe clips of one window.

        The batch is decoded with the largest token limit of its clips. A clip is decoded again
        with its own limit if the larger limit may have changed its transcript.
        """
        encoded = [self._encoded(audio_T) for audio_T in audios]
        most_B = [max_tokens(audio_T) for audio_T in audios]
        found = self._decoded(encoded, max(most_B))
        for i, most in enumerate(most_B):
            if most < max(most_B) and not self._ended_before(most, found[i]):
                found[i] = self._decoded([encoded[i]], most)[0]
        return [self._tokenizer.decode(hypotheses[0]) for hypotheses in found]

    def _encoded(self, audio_T: np.ndarray) -> np.ndarray:
        mel_1CF = padded_mel(audio_T, self._windows_s)
        return np.array(self._model.encode(ctranslate2.StorageView.from_array(mel_1CF)))

    def _decoded(self, encoded: Sequence[np.ndarray], most: int) -> list[list[list[int]]]:
        """Token ids of all hypotheses of each clip, best first."""
        results = self._model.generate(
            ctranslate2.StorageView.from_array(np.concatenate(encoded)),
            [self._prompt] * len(encoded),
            beam_size=self._beam_size,
            num_hypotheses=self._beam_size,
            max_length=len(self._prompt) + most,
        )
        return [result.sequences_ids for result in results]

    def _ended_before(self, most: int, hypotheses: Sequence[Sequence[int]]) -> bool:
        """Whether beam search ended before the last step that the limit `most` allows.

        The search ends when as many hypotheses are finished as there are beams. CTranslate2 allows
        `max_length` / 2 steps; the end-of-text token takes one step.
        """
        last_step = (len(self._prompt) + most) // 2
        return all(len(tokens) + 1 < last_step for tokens in hypotheses)


class WordErrorCounter:
    """Count word errors after OpenAI's English normaliser on reference and transcript."""

    def __init__(self) -> None:
        self._english, self._basic = normalisers()

    def count(self, reference: str, hypothesis: str) -> WordErrors:
        """Count the word errors of a transcript against the published text.

        Both texts are first converted to spoken form as for alignment
        (`text.normalise.spoken_text`): one form of each sign, numerals and abbreviations in words.
        The English normaliser alone keeps U+02BC as a letter, and its words for "10:30", "1/2" and
        "No. 5" differ from the spoken ones.

        The English normaliser drops "hmm", "uh" and similar words. If the reference has no other
        words, the basic normaliser (punctuation only) is applied to both texts. Three things are
        removed first: runs of points, of which the normaliser leaves one as a word; single quotes
        at word edges, which it joins to the word before; and brackets in the reference, because it
        drops the words inside them, which are aligned and spoken.

        Args:
            reference: published text of the utterance.
            hypothesis: transcript of a recogniser; may be empty.

        Raises:
            HproError: the reference has no words.
        """
        spoken_reference, hypothesis = (
            _EDGES.sub(" ", _POINTS.sub(" ", spoken_text(text))) for text in (reference, hypothesis)
        )
        spoken_reference = _BRACKETS.sub(" ", spoken_reference)
        normalise = self._english if self._english(spoken_reference).strip() else self._basic
        expected, transcript = normalise(spoken_reference).strip(), normalise(hypothesis).strip()
        if not expected:
            raise HproError(
                f"the text {reference!r} has no words for WER: remove the utterance from its "
                "corpus, or write its words out"
            )
        counts = jiwer.process_words(expected, transcript)
        n_errors = counts.substitutions + counts.deletions + counts.insertions
        return WordErrors(transcript, n_errors, len(expected.split()))


def max_tokens(audio_T: np.ndarray) -> int:
    """Maximum number of tokens of a transcript; `audio_T` is (T,), 16 kHz."""
    return SPARE_TOKENS + int(TOKENS_PER_S * len(audio_T) / SAMPLE_RATE_HZ)


def padded_mel(audio_T: np.ndarray, windows_s: tuple[int, ...], n_mels: int = 80) -> np.ndarray:
    """Log-mel spectrogram of a clip that is zero-padded to the first window that fits.

    Args:
        audio_T: float (T,), 16 kHz, not longer than the last window.
        windows_s: window lengths in seconds, ascending.
        n_mels: 80 or 128.

    Returns:
        float32 (1, C, F).
    """
    padding = _window_s(audio_T, windows_s) * SAMPLE_RATE_HZ - len(audio_T)
    return log_mel(np.pad(audio_T.astype(np.float32), (0, padding)), n_mels)[None]


def _window_s(audio_T: np.ndarray, windows_s: tuple[int, ...]) -> int:
    return next(s for s in windows_s if len(audio_T) <= s * SAMPLE_RATE_HZ)
