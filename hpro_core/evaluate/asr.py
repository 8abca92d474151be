"""The embedded ASR judges: two Whisper models. Letters: T samples, C mel channels, F mel frames."""

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
from hpro_core.evaluate.whisper_parts import log_mel, normalisers
from hpro_core.text.normalise import spoken_text


class DecodingOptions(NamedTuple):
    """How a model listens."""

    prompt: tuple[str, ...]  # special tokens that its decoder starts from
    windows_s: tuple[int, ...]  # audio is padded to the first that holds it; the last is Whisper's
    beam_size: int


TINY_EN = DecodingOptions(("<|startoftranscript|>", "<|notimestamps|>"), (20, 30), 5)
"""The judge, `weights/whisper_tiny_en`. A window of 20 s: a third of the encoder's time for the
same WER. Beam 5 is OpenAI's default: a greedy decoder repeats itself on clips of a word or two."""

BASE = DecodingOptions(
    ("<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"), (10, 20, 30), 1
)
"""The second judge, `weights/whisper_base`, multilingual. The cheapest window, and no beam: in that
window a wide one writes sentences twice (docs/judges.md)."""

BATCH = 8
"""Clips that are decoded together (ours): a decoder reads all its weights for every token, and 16
are no cheaper."""

TOKENS_PER_S, SPARE_TOKENS = 10, 10
"""No speech has more tokens than this; the cap bounds what a repeating decoder can add."""

_POINTS = re.compile(r"\.{2,}")
_EDGES = re.compile(r"(?<![a-z0-9])'|'(?![a-z0-9])")
_BRACKETS = re.compile(r"[][()<>]")


class WordErrors(NamedTuple):
    """Word errors of one utterance; a corpus WER is the sum of errors over the sum of words."""

    transcript: str  # what was heard, normalised; may be empty
    n_errors: int
    n_words: int  # words of the reference, normalised


class WhisperASR:
    """A Whisper model in int8 through CTranslate2, English, temperature 0."""

    def __init__(self, folder: Path, threads: int, hearing: DecodingOptions = TINY_EN) -> None:
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
        return self.transcribe_batch([audio_T])[0]

    def transcribe_batch(self, audios: Sequence[np.ndarray]) -> list[str]:
        """The same of several clips, decoded in batches of BATCH; best sorted by length.

        Each text is that of `hear`. Clips are encoded one by one, which is cheaper: what a batch
        of them takes does not fit the cache.
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
        """Clips of one window. Where the widest cap might have changed a text, it is made again."""
        encoded = [self._encoded(audio_T) for audio_T in audios]
        most_B = [most_tokens(audio_T) for audio_T in audios]
        found = self._decoded(encoded, max(most_B))
        for i, most in enumerate(most_B):
            if most < max(most_B) and not self._ended_before(most, found[i]):
                found[i] = self._decoded([encoded[i]], most)[0]
        return [self._tokenizer.decode(hypotheses[0]) for hypotheses in found]

    def _encoded(self, audio_T: np.ndarray) -> np.ndarray:
        mel_1CF = padded_mel(audio_T, self._windows_s)
        return np.array(self._model.encode(ctranslate2.StorageView.from_array(mel_1CF)))

    def _decoded(self, encoded: Sequence[np.ndarray], most: int) -> list[list[list[int]]]:
        """All hypotheses of each clip, the best first, as tokens."""
        results = self._model.generate(
            ctranslate2.StorageView.from_array(np.concatenate(encoded)),
            [self._prompt] * len(encoded),
            beam_size=self._beam_size,
            num_hypotheses=self._beam_size,
            max_length=len(self._prompt) + most,
        )
        return [result.sequences_ids for result in results]

    def _ended_before(self, most: int, hypotheses: Sequence[Sequence[int]]) -> bool:
        """Whether the search was over before the last step under a tighter cap.

        It ends with as many finished hypotheses as it has beams. CTranslate2 allows as many steps
        as half of `max_length`; the end of a text is one.
        """
        last_step = (len(self._prompt) + most) // 2
        return all(len(tokens) + 1 < last_step for tokens in hypotheses)


class WordErrorCounter:
    """Counts word errors after OpenAI's English normaliser on both sides."""

    def __init__(self) -> None:
        self._english, self._basic = normalisers()

    def count(self, reference: str, heard: str) -> WordErrors:
        """Compare a transcript of a recogniser with the published text.

        Both sides are first read out as for alignment (`text.normalise.spoken_text`): one form of
        each sign, numerals and abbreviations in words. The English normaliser alone takes U+02BC
        for a letter, and "10:30", "1/2" and "No. 5" for other words than a person says.

        It drops "hmm", "uh" and the like. Where nothing else was said, both sides are only stripped
        of punctuation instead. Runs of points go first: it would leave one of them as a word. So
        do single quotes, which it would join to the word before, and brackets of the text: it would
        drop the words in them, which are aligned and spoken like the others.

        Raises:
            HproError: the reference holds no words at all.
        """
        said, heard = (
            _EDGES.sub(" ", _POINTS.sub(" ", spoken_text(text))) for text in (reference, heard)
        )
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
    padding = _window_s(audio_T, windows_s) * SAMPLE_RATE_HZ - len(audio_T)
    return log_mel(np.pad(audio_T.astype(np.float32), (0, padding)), n_mels)[None]


def _window_s(audio_T: np.ndarray, windows_s: tuple[int, ...]) -> int:
    return next(s for s in windows_s if len(audio_T) <= s * SAMPLE_RATE_HZ)
