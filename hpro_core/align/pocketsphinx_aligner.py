"""Forced alignment with pocketsphinx and the English model inside its wheel (no download).

pocketsphinx needs two passes over an utterance: the first finds words and pauses, the second the
phones of each word. Additional steps, all ours:

- The clip is normalised in level and low-level noise is added. Digital silence at the ends and the
  missing band of low-rate recordings do not occur in the model's training data.
- If the default search finds no path (0.7 % of acted clips), a search with wider beams is run.
- The mean score of the words detects audio with other words: such an utterance is refused.
- Boundaries next to silence are corrected by the signal level (refine.py).
"""

from collections.abc import Iterable

import numpy as np
from pocketsphinx import Decoder

from hpro_core.align.jobs import AlignmentRefused, WordSpan
from hpro_core.align.pronunciation import arpabet_of
from hpro_core.align.refine import Phone, RawWord, frame_levels_db, refine
from hpro_core.constants import SAMPLE_RATE_HZ

FRAME_S = 0.01
"""Hop of the model."""
NATS_PER_UNIT = 1024 * float(np.log(1.0001))
"""pocketsphinx's unit of scores: 2^10 steps of a logarithm to the base 1.0001."""
LEVEL_DBFS = -6.0
"""Level of the 99th percentile of |sample| after scaling, for a constant distance to the noise."""
NOISE_DBFS = -50.0
"""Level of the added white noise (ours; -45 to -55 differ little)."""
SILENT_DBFS = -60.0
"""A clip whose loudest 20 ms are below this contains no speech."""
MIN_SCORE = -3.5
"""Threshold in nats per frame relative to the best state; docs/alignment.md has its error rates."""
WIDE_BEAMS = {"beam": 1e-80, "wbeam": 1e-60, "pbeam": 1e-80}
"""Wider than pocketsphinx's 1e-48, 7e-29, 1e-48. If both find a path, it is the same."""


class PocketsphinxAligner:
    """Aligns utterances; a result does not depend on the utterances before it.

    Attributes:
        added: words that the dictionary lacked -> the pronunciation that was added.
    """

    def __init__(self) -> None:
        self._usual = _decoder({})
        self._wide: Decoder | None = None
        self.added: dict[str, str] = {}

    def align(self, audio: np.ndarray, words: list[str]) -> list[WordSpan]:
        """Align words with audio.

        Args:
            audio: float (T,) in -1..1, 16 kHz mono.
            words: lower case, [a-z'], in spoken order.

        Returns:
            One span per word, in order, not overlapping; `score` is the mean log-likelihood per
            frame relative to the best state (nats; about -2, worse than -3.5 is refused).

        Raises:
            AlignmentRefused: there are no words, the audio is silent, or it does not match them.
        """
        if not words:
            raise AlignmentRefused("the transcript has no words")
        if not len(audio) or frame_levels_db(audio).max() < SILENT_DBFS:
            raise AlignmentRefused("the audio is silent")
        placed = self._place(_as_pcm(audio), words)
        if [word.word for word in placed] != words:
            raise AlignmentRefused("the aligner returned other words than its input")
        _refuse_low_score(placed)
        return [
            WordSpan(word.word, round(word.start_s, 4), round(word.end_s, 4), round(word.score, 3))
            for word in refine(placed, audio)
        ]

    def _place(self, pcm: bytes, words: list[str]) -> list[RawWord]:
        try:
            return self._decode(self._usual, pcm, words)
        except AlignmentRefused:
            self._wide = self._wide or _decoder(WIDE_BEAMS)
            return self._decode(self._wide, pcm, words)

    def _decode(self, decoder: Decoder, pcm: bytes, words: list[str]) -> list[RawWord]:
        """Run both passes; return the words with the acoustic model's boundaries."""
        for word in words:
            if decoder.lookup_word(word) is None:
                self.added[word] = arpabet_of(word)
                decoder.add_word(word, self.added[word])
        decoder.set_align_text(" ".join(words))
        self._run(decoder, pcm)
        try:
            decoder.set_alignment()
        except RuntimeError as error:
            raise AlignmentRefused("the words do not fit the audio (no path)") from error
        self._run(decoder, pcm)
        alignment = decoder.get_alignment()
        if alignment is None:
            raise AlignmentRefused("the words do not fit the audio (no phones)")
        return _word_entries(alignment)  # copied now: its entries are freed with it

    def _run(self, decoder: Decoder, pcm: bytes) -> None:
        """Run one pass. A decoder that fails during an utterance is replaced."""
        try:
            decoder.start_utt()
            decoder.process_raw(pcm, full_utt=True)
            decoder.end_utt()
        except RuntimeError as error:
            self._usual, self._wide = _decoder({}), None
            raise AlignmentRefused(f"the recogniser failed ({error})") from error


def _decoder(beams: dict[str, float]) -> Decoder:
    """Return a decoder without language model and without noise removal.

    The noise estimate would carry over from one clip to the next. The model's feat.params overrides
    the constructor's value, so noise removal is turned off afterwards.
    """
    decoder = Decoder(samprate=SAMPLE_RATE_HZ, lm=None, bestpath=False, loglevel="FATAL", **beams)
    decoder.config["remove_noise"] = False
    decoder.reinit_feat()
    return decoder


def _as_pcm(audio: np.ndarray) -> bytes:
    """16-bit samples, normalised in level, with low-level noise of a fixed seed."""
    loud = max(float(np.percentile(np.abs(audio), 99)), 1e-4)
    noise = np.random.default_rng(0).standard_normal(len(audio))
    levelled = audio * (10 ** (LEVEL_DBFS / 20) / loud) + 10 ** (NOISE_DBFS / 20) * noise
    return np.round(np.clip(levelled, -1, 1) * 32767).astype("<i2").tobytes()


def _word_entries(entries: Iterable) -> list[RawWord]:
    """The words among the entries, without silence and noise; "a(2)" is a variant of "a"."""
    return [
        RawWord(
            word=entry.name.split("(")[0],
            start_s=entry.start * FRAME_S,
            end_s=(entry.start + entry.duration) * FRAME_S,
            score=entry.score * NATS_PER_UNIT / entry.duration,
            phones=tuple(
                Phone(phone.name, phone.start * FRAME_S, (phone.start + phone.duration) * FRAME_S)
                for phone in entry
            ),
        )
        for entry in entries
        if entry.name[0] not in "<["
    ]


def _refuse_low_score(words: list[RawWord]) -> None:
    duration_s = sum(word.end_s - word.start_s for word in words)
    mean = sum(word.score * (word.end_s - word.start_s) for word in words) / duration_s
    if mean < MIN_SCORE:
        raise AlignmentRefused(
            f"the audio does not match these words (score {mean:.1f}, below {MIN_SCORE})"
        )
