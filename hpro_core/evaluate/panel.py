"""All judges together, and the recordings that they compare synthesis with. Letters: T, W, 3."""

from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from hpro_core.align.pocketsphinx_aligner import PocketsphinxAligner
from hpro_core.constants import EMOTIONS
from hpro_core.errors import HproError
from hpro_core.evaluate import affect
from hpro_core.evaluate.asr import BASE, Ears, WordErrorCounter
from hpro_core.evaluate.dnsmos import Dnsmos
from hpro_core.evaluate.hearing import read_audio, realigned, spans_by_utterance
from hpro_core.evaluate.metrics import ccc, cosine
from hpro_core.evaluate.speaker import embed, load_encoder
from hpro_core.evaluate.training import vad_by_utterance
from hpro_core.params import Evaluate
from hpro_core.tables import EMOTION_POSTERIORS, UTTERANCES, WORD_VAD, WORDS, read_table
from hpro_core.weights import located

T = TypeVar("T")


class Recorded:
    """The recordings: their files, word times, and what the affect judge makes of them."""

    def __init__(self, root: Path) -> None:
        """Read the tables of corpus, align and judge below `root`."""
        folder = root / "judge" / "recordings"
        utterances = read_table(root / "corpus" / "utterances.parquet", UTTERANCES)
        posteriors = read_table(folder / "emotion_posteriors.parquet", EMOTION_POSTERIORS)
        vad = read_table(folder / "word_vad.parquet", WORD_VAD)
        words = read_table(root / "align" / "words.parquet", WORDS)
        values = posteriors[list(EMOTIONS)].to_numpy()
        self._audio = dict(zip(utterances["utt_id"], utterances["audio"], strict=True))
        self._spans = spans_by_utterance(words)
        self._posterior = dict(zip(posteriors["utt_id"], values, strict=True))
        self._vad = vad_by_utterance(vad)

    def audio(self, utt_id: str) -> str:
        """Its file, relative to the results folder."""
        return _found(self._audio, utt_id, "corpus/utterances.parquet")

    def spans(self, utt_id: str) -> list[affect.Span]:
        """Its word times."""
        return _found(self._spans, utt_id, "align/words.parquet")

    def posterior(self, utt_id: str) -> np.ndarray:
        """Its judged emotion, float (9,)."""
        return _found(self._posterior, utt_id, "judge/recordings/emotion_posteriors.parquet")

    def vad(self, utt_id: str) -> np.ndarray:
        """Its judged valence, arousal, dominance, float (W, 3)."""
        return _found(self._vad, utt_id, "judge/recordings/word_vad.parquet")


class Panel:
    """All judges, loaded once."""

    def __init__(self, root: Path, settings: Evaluate, weights: Path, threads: int) -> None:
        """Load the judges and the recordings' tables.

        Args:
            root: results folder of the run.
            settings: windows of DNSMOS.
            weights: folder of the weights from outside.
            threads: CPU threads of each network.
        """
        self._root = root
        self._most_windows = settings.dnsmos_windows
        self._recorded = Recorded(root)
        self._affect = affect.load(root / "judge")
        self._ears = Ears(located("whisper_tiny_en", weights), threads)
        self._second_ears = Ears(located("whisper_base", weights), threads, BASE)
        self._counter = WordErrorCounter()
        self._dnsmos = Dnsmos(located("dnsmos", weights), threads)
        self._encoder = load_encoder(located("ge2e", weights))
        self._aligner = PocketsphinxAligner()
        self._voices: dict[str, np.ndarray] = {}

    def score(self, row: dict[str, Any], checked: bool) -> tuple[dict[str, Any], np.ndarray | None]:
        """Judge one utterance.

        Args:
            row: of a SYNTHESIS table.
            checked: whether the second recogniser and DNSMOS, the slowest judges, hear it too.

        Returns:
            A row of SCORES, and the judged affect of each word, float (W, 3), or None where the
            aligner could not find the words.
        """
        utt_id = row["utt_id"]
        audio_T = read_audio(self._root, row["audio"])
        posterior_9, vad_W3 = self._judged_affect(row, audio_T)
        scores = {
            "utt_id": utt_id,
            "corpus": row["corpus"],
            **self._word_errors(row["text"], audio_T, checked),
            "wvad_ccc": None if vad_W3 is None else self._agreement(utt_id, vad_W3),
            "emo_sim": cosine(posterior_9, self._recorded.posterior(utt_id)),
            "dnsmos": self._dnsmos.score(audio_T, self._most_windows).ovrl if checked else None,
            "speaker_sim": cosine(embed(self._encoder, audio_T), self._reference_voice(row)),
        }
        return scores, vad_W3

    def _word_errors(self, text: str, audio_T: np.ndarray, checked: bool) -> dict[str, Any]:
        """The columns of SCORES that come from the two recognisers."""
        first = self._counter.count(text, self._ears.hear(audio_T))._asdict()
        if not checked:
            return {**first, "n_errors_check": None}
        second = self._counter.count(text, self._second_ears.hear(audio_T))
        return {**first, "n_errors_check": second.n_errors}

    def _judged_affect(
        self, row: dict[str, Any], audio_T: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Emotion posterior (9,), and affect of each word (W, 3) where the words were found."""
        sound = affect.heard(audio_T)
        spans = self._spans(row, audio_T)
        if spans is None:
            return self._affect.posterior(row["corpus"], sound), None
        return self._affect.judge(row["corpus"], sound, spans)

    def _spans(self, row: dict[str, Any], audio_T: np.ndarray) -> list[affect.Span] | None:
        if row["audio"] == self._recorded.audio(row["utt_id"]):
            return self._recorded.spans(row["utt_id"])
        return realigned(self._aligner, audio_T, row["words"].split())

    def _agreement(self, utt_id: str, vad_W3: np.ndarray) -> float:
        recorded_W3 = self._recorded.vad(utt_id)
        if len(recorded_W3) != len(vad_W3):
            raise HproError(
                f"{utt_id}: the recording has {len(recorded_W3)} words, the synthesis "
                f"{len(vad_W3)}: run `hpro judge-recordings` and `hpro synthesise` again"
            )
        return float(ccc(vad_W3, recorded_W3).mean())

    def _reference_voice(self, row: dict[str, Any]) -> np.ndarray:
        reference = row["reference"]
        if not isinstance(reference, str):
            raise HproError(
                f"{row['utt_id']} has no reference to compare voices with: give its speaker a "
                "second utterance and run `hpro synthesise` again"
            )
        if reference not in self._voices:
            audio_T = read_audio(self._root, self._recorded.audio(reference))
            self._voices[reference] = embed(self._encoder, audio_T)
        return self._voices[reference]


def _found(entries: dict[str, T], utt_id: str, where: str) -> T:
    if utt_id not in entries:
        raise HproError(f"{utt_id} is not in {where}: run the stages before this one again")
    return entries[utt_id]
