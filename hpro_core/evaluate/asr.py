"""The embedded ASR judges: two Whisper models. Letters: T samples, C mel channels, F mel frames."""

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
from hpro_core.errors import HproError


class Hearing(NamedTuple):
    """How a model listens."""

    prompt: tuple[str, ...]  # special tokens that its decoder starts from
    windows_s: tuple[int, ...]  # audio is padded to the first that holds it; the last is Whisper's
    beam_size: int


TINY_EN = Hearing(("<|startoftranscript|>", "<|notimestamps|>"), (20, 30), 5)
"""The judge, `weights/whisper_tiny_en`. A window of 20 s: a third of the encoder's time for the
same WER. Beam 5 is OpenAI's default: a greedy decoder repeats itself on clips of a word or two."""

BASE = Hearing(
    ("<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"), (10, 20, 30), 1
)
"""The second judge, `weights/whisper_base`, multilingual. The cheapest window, and no beam: in that
window a wide one writes sentences twice (docs/judges.md)."""

TOKENS_PER_S, SPARE_TOKENS = 10, 10
"""No speech has more tokens than this; the cap bounds what a repeating decoder can add."""

_POINTS = re.compile(r"\.{2,}|…")
_BRACKETS = re.compile(r"[][()<>]")


class WordErrors(NamedTuple):
    """Word errors of one utterance; a corpus WER is the sum of errors over the sum of words."""

    transcript: str  # what was heard, normalised; may be empty
    n_errors: int
    n_words: int  # words of the reference, normalised


class Ears:
    """A Whisper model in int8 through CTranslate2, English, temperature 0."""

    def __init__(self, folder: Path, threads: int, hearing: Hearing = TINY_EN) -> None:
        """
        Args:
            folder: of the model's weights.
            threads: CPU threads.
            hearing: how this model listens; the judge's unless it is another model.
        """
        self._model = ctranslate2.models.Whisper(
            str(folder), device="cpu", compute_type="int8", intra_threads=threads, inter_threads=1
        )
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._prompt = [self._tokenizer.token_to_id(token) for token in hearing.prompt]
        self._windows_s = hearing.windows_s
        self._beam_size = hearing.beam_size

    def hear(self, audio_T: np.ndarray) -> str:
        """Write down the words of one clip, as the model spells them.

        Args:
            audio_T: float32 (T,), 16 kHz, in [-1, 1]; beyond the last window nothing is heard.
        """
        audio_T = audio_T[: self._windows_s[-1] * SAMPLE_RATE_HZ]
        mel_1CF = ctranslate2.StorageView.from_array(padded_mel(audio_T, self._windows_s))
        most = most_tokens(audio_T)
        result = self._model.generate(
            mel_1CF,
            [self._prompt],
            beam_size=self._beam_size,
            max_length=len(self._prompt) + most,
        )
        return self._tokenizer.decode(result[0].sequences_ids[0])


class WordErrorCounter:
    """Counts word errors after OpenAI's English normaliser on both sides."""

    def __init__(self) -> None:
        self._english = EnglishTextNormalizer()
        self._basic = BasicTextNormalizer()

    def count(self, reference: str, heard: str) -> WordErrors:
        """Compare what was heard with the published text.

        The English normaliser drops "hmm", "uh" and the like. Where nothing else was said, both
        sides are only lower-cased and stripped of punctuation instead. Runs of points go first: it
        would leave one of them as a word. So do brackets of the text: it would drop the words in
        them, which are aligned and spoken like the others.

        Raises:
            HproError: the reference holds no words at all.
        """
        said, heard = (_POINTS.sub(" ", text) for text in (reference, heard))
        said = _BRACKETS.sub(" ", said)
        normalise = self._english if self._english(said).strip() else self._basic
        expected, transcript = normalise(said).strip(), normalise(heard).strip()
        if not expected:
            raise HproError(
                f"the text {reference!r} has no words for the judge of WER: take the utterance out "
                "of its corpus, or spell it out"
            )
        counts = jiwer.process_words(expected, transcript)
        n_errors = counts.substitutions + counts.deletions + counts.insertions
        return WordErrors(transcript, n_errors, len(expected.split()))


def most_tokens(audio_T: np.ndarray) -> int:
    """How many tokens a recogniser may write for a clip."""
    return SPARE_TOKENS + int(TOKENS_PER_S * len(audio_T) / SAMPLE_RATE_HZ)


def padded_mel(audio_T: np.ndarray, windows_s: tuple[int, ...], n_mels: int = 80) -> np.ndarray:
    """Log-mel spectrogram (1, C, F) of a clip padded to the first window that holds it."""
    samples = next(s * SAMPLE_RATE_HZ for s in windows_s if len(audio_T) <= s * SAMPLE_RATE_HZ)
    padding = samples - len(audio_T)
    mel_CF = log_mel_spectrogram(audio_T.astype(np.float32), n_mels=n_mels, padding=padding)
    return np.ascontiguousarray(mel_CF.numpy()[None])
