"""The ASR judge: Whisper tiny.en. Letters: T samples, C mel channels, F mel frames, S states, D.

One encoding per clip serves two judges: the decoder turns it into words, the affect judge pools it.
"""

import re
from pathlib import Path
from typing import NamedTuple

import ctranslate2
import jiwer
import numpy as np
from tokenizers import Tokenizer
from whisper.audio import log_mel_spectrogram
from whisper.normalizers import BasicTextNormalizer, EnglishTextNormalizer

from hpro_core.constants import SAMPLE_RATE_HZ

STATE_RATE_HZ = 50
"""Encoder states per second of audio."""
WINDOW_S = 20
"""Audio is padded to this, not to Whisper's 30 s: a third of the time for the same WER."""
LONGEST_S = 30
"""Whisper's own window, for the rare longer clip; what is beyond is not heard."""
BEAM_SIZE = 5
"""OpenAI's default. Greedy decoding repeats itself on clips of one or two words."""
TOKENS_PER_S, SPARE_TOKENS = 10, 10
"""No speech has more tokens than this; the cap bounds what a repeating decoder can add."""


_POINTS = re.compile(r"\.{2,}|…")


class Heard(NamedTuple):
    """What one clip sounds like to Whisper."""

    text: str
    states_SD: np.ndarray  # float32 (S, 384), STATE_RATE_HZ, as long as the clip (at most 30 s)


class WordErrors(NamedTuple):
    """Word errors of one utterance; a corpus WER is the sum of errors over the sum of words."""

    transcript: str  # what was heard, normalised; may be empty
    n_errors: int
    n_words: int  # words of the reference, normalised


class Ears:
    """Whisper tiny.en in int8 through CTranslate2, English, temperature 0."""

    def __init__(self, folder: Path, threads: int) -> None:
        """Load the model from `weights/whisper_tiny_en`."""
        self._model = ctranslate2.models.Whisper(
            str(folder), device="cpu", compute_type="int8", intra_threads=threads, inter_threads=1
        )
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        start = ("<|startoftranscript|>", "<|notimestamps|>")
        self._prompt = [self._tokenizer.token_to_id(token) for token in start]

    def hear(self, audio_T: np.ndarray) -> Heard:
        """Encode one clip and write down its words.

        Args:
            audio_T: float32 (T,), 16 kHz, in [-1, 1].
        """
        audio_T = audio_T[: LONGEST_S * SAMPLE_RATE_HZ]
        duration_s = len(audio_T) / SAMPLE_RATE_HZ
        encoded = self._model.encode(ctranslate2.StorageView.from_array(_mel_1CF(audio_T)), True)
        longest = len(self._prompt) + SPARE_TOKENS + int(TOKENS_PER_S * duration_s)
        result = self._model.generate(
            encoded, [self._prompt], beam_size=BEAM_SIZE, max_length=longest
        )
        n_states = int(np.ceil(duration_s * STATE_RATE_HZ))
        states_SD = np.array(encoded)[0, : max(n_states, 1)]
        return Heard(self._tokenizer.decode(result[0].sequences_ids[0]), states_SD)


class WordErrorCounter:
    """Counts word errors after OpenAI's English normaliser on both sides."""

    def __init__(self) -> None:
        self._english = EnglishTextNormalizer()
        self._basic = BasicTextNormalizer()

    def count(self, reference: str, heard: str) -> WordErrors:
        """Compare what was heard with the published text.

        The English normaliser drops "hmm", "uh" and the like. Where nothing else was said, both
        sides are only lower-cased and stripped of punctuation instead. Runs of points go first: it
        would leave one of them as a word.

        Raises:
            ValueError: the reference holds no words at all.
        """
        reference, heard = (_POINTS.sub(" ", text) for text in (reference, heard))
        normalise = self._english if self._english(reference).strip() else self._basic
        expected, transcript = normalise(reference).strip(), normalise(heard).strip()
        if not expected:
            raise ValueError(f"the reference {reference!r} has no words")
        counts = jiwer.process_words(expected, transcript)
        n_errors = counts.substitutions + counts.deletions + counts.insertions
        return WordErrors(transcript, n_errors, len(expected.split()))


def _mel_1CF(audio_T: np.ndarray) -> np.ndarray:
    window_s = WINDOW_S if len(audio_T) <= WINDOW_S * SAMPLE_RATE_HZ else LONGEST_S
    missing = window_s * SAMPLE_RATE_HZ - len(audio_T)
    mel_CF = log_mel_spectrogram(audio_T.astype(np.float32), n_mels=80, padding=missing)
    return np.ascontiguousarray(mel_CF.numpy()[None])
