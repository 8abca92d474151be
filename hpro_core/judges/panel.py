"""The judge panel, and the reference recordings that synthesis is compared with.

Letters: T samples, W words, 9 emotions, 3 valence, arousal and dominance.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from hpro_core.align.pocketsphinx_aligner import PocketsphinxAligner
from hpro_core.analysis.scores import QUALITY_METRICS
from hpro_core.constants import EMOTIONS
from hpro_core.errors import HproError
from hpro_core.judges import affect, word_prosody
from hpro_core.judges.apply import (
    AffectOutputs,
    Clip,
    in_batches,
    load_affect,
    load_quality_judges,
    load_recogniser,
    load_speaker_encoder,
)
from hpro_core.judges.asr import BASE, BATCH, WhisperASR, WordErrorCounter
from hpro_core.judges.metrics import ccc, cosine
from hpro_core.judges.realignment import read_wav, realign, spans_by_utterance
from hpro_core.params import Compute, Evaluate
from hpro_core.pretrained.weights import find_weights
from hpro_core.progress import track
from hpro_core.tables import (
    EMOTION_POSTERIORS,
    UTTERANCES,
    WORD_VAD,
    WORDS,
    read_table,
    vad_by_utterance,
)

Row = Mapping[str, Any]
"""Row of a SYNTHESIS table."""
T = TypeVar("T")


class ReferenceRecordings:
    """Files, word times and judged affect of the recordings."""

    def __init__(self, root: Path, prompts: Mapping[str, str] | None = None) -> None:
        """Read the tables of the stages corpus, align and judge.

        Args:
            root: results folder of the run.
            prompts: further recordings that SYNTHESIS.reference names: id -> audio file, relative
                to `root`.

        Raises:
            HproError: a table is missing or invalid.
        """
        folder = root / "judge" / "recordings"
        utterances = read_table(root / "corpus" / "utterances.parquet", UTTERANCES)
        posteriors = read_table(folder / "emotion_posteriors.parquet", EMOTION_POSTERIORS)
        vad = read_table(folder / "word_vad.parquet", WORD_VAD)
        words_path, tested = root / "align" / "words.parquet", set(posteriors["utt_id"])
        words = read_table(words_path, WORDS, only={"utt_id": tested})
        values = posteriors[list(EMOTIONS)].to_numpy()
        self._recorded = frozenset(utterances["utt_id"])
        audio = dict(zip(utterances["utt_id"], utterances["audio"], strict=True))
        self._audio = {**audio, **(prompts or {})}
        self._spans = spans_by_utterance(words)
        self._posterior = dict(zip(posteriors["utt_id"], values, strict=True))
        self._vad = vad_by_utterance(vad)

    def __contains__(self, utt_id: str) -> bool:
        """Whether there is a recording of this sentence."""
        return utt_id in self._recorded

    def audio(self, utt_id: str) -> str:
        """Audio file of a recording, relative to the results folder."""
        return _found(self._audio, utt_id, "corpus/utterances.parquet")

    def spans(self, utt_id: str) -> list[affect.Span]:
        """Word times of a recording in seconds."""
        return _found(self._spans, utt_id, "align/words.parquet")

    def posterior(self, utt_id: str) -> np.ndarray:
        """Judged emotion posterior of a recording, float (9,)."""
        return _found(self._posterior, utt_id, "judge/recordings/emotion_posteriors.parquet")

    def vad(self, utt_id: str) -> np.ndarray:
        """Judged valence, arousal, dominance of each word of a recording, float (W, 3)."""
        return _found(self._vad, utt_id, "judge/recordings/word_vad.parquet")


class JudgePanel:
    """All judges, loaded once."""

    def __init__(
        self,
        root: Path,
        settings: Evaluate,
        weights: Path,
        compute: Compute,
        work: Path,
        prompts: Mapping[str, str] | None = None,
    ) -> None:
        """Load the judges and the recordings' tables.

        Args:
            root: results folder of the run.
            settings: section `evaluate`: the judges and the number of DNSMOS windows.
            weights: folder of the downloaded weights.
            compute: CPU threads of each embedded network, device of the published models.
            work: folder for the shards of the published judges, for one system and seed.
            prompts: see `ReferenceRecordings`.

        Raises:
            HproError: a table or weights are missing, or weights are broken or of another model.
        """
        self._root = root
        self._work = work
        self._recorded = ReferenceRecordings(root, prompts)
        self._affect = load_affect(root, settings, compute)
        self._withheld, self.affect_notes = self._unknown_sets()
        self._transcribe = load_recogniser(settings, weights, compute)
        self._embed_speakers = load_speaker_encoder(settings, weights, compute)
        checking = WhisperASR(find_weights("whisper_base", weights), compute.threads, BASE)
        self._transcribe_check = in_batches(
            checking.transcribe_batch, BATCH, "judges: words, second recogniser"
        )
        self._quality_judges = load_quality_judges(settings, weights, compute)
        self._counter = WordErrorCounter()
        self._aligner = PocketsphinxAligner()

    def _unknown_sets(self) -> tuple[set[str], dict[str, str]]:
        """Test sets whose affect is not judged, and a sentence on each unknown test set.

        The scales of unknown sets are given to the embedded judge.
        """
        judge = self._affect.embedded
        withheld: set[str] = set()
        notes: dict[str, str] = {}
        if judge is None:
            return withheld, notes
        judge.scales = affect.read_scales(self._root / "judge" / "recordings" / affect.SCALES)
        for name, scale in judge.scales.items():
            if reason := judge.withheld(name):
                withheld.add(name)
                notes[name] = (
                    f"No wVAD-CCC and EMO-SIM on {name}: {reason} "
                    "(docs/judges.md, Unknown test sets)."
                )
            else:
                notes[name] = (
                    f"The affect judge was not trained on {name}: its channel scale there is of "
                    f"{scale.recordings} recordings of {' and '.join(scale.splits)}."
                )
        return withheld, notes

    def scores(
        self, synthesis: Sequence[Row], checked: Collection[str]
    ) -> tuple[pd.DataFrame, AffectOutputs, pd.DataFrame]:
        """Score utterances.

        Args:
            synthesis: rows of a SYNTHESIS table.
            checked: utt_ids that the second recogniser and the quality judges, the slowest ones,
                score.

        Returns:
            A SCORES table in the order of `synthesis`; the judged affect, without utterances
            where the judge is not trusted (`affect_notes`); and a WORDS table of the utterances
            whose words the aligner found.

        Raises:
            HproError: audio is unusable, or an utterance has another number of words than its
                recording.
        """
        clips = [self._clip(row) for row in track(synthesis, len(synthesis), "judges: word times")]
        checked_clips = [clip for clip in clips if clip.utt_id in checked]
        again = _by_id(
            checked_clips, self._transcribe_check(checked_clips, self._work / "asr_check")
        )
        quality: dict[str, dict[str, float]] = {name: {} for name in QUALITY_METRICS}
        for name, judge in self._quality_judges.items():
            quality[name] = _by_id(checked_clips, judge(checked_clips, self._work / name))
        transcripts = self._transcribe(clips, self._work / "asr")
        trusted = [clip for clip in clips if self._has_affect(clip.corpus, clip.utt_id)]
        judged = self._affect.predict(trusted, self._work)
        similarities = self._similarities(synthesis, clips)
        rows = []
        for row, clip, transcript, similarity in zip(
            track(synthesis, len(synthesis), "judges: prosody of words"),
            clips,
            transcripts,
            similarities,
            strict=True,
        ):
            utt_id = row["utt_id"]
            rows.append({
                "utt_id": utt_id,
                "corpus": row["corpus"],
                **self._word_errors(row["text"], transcript, again.get(utt_id)),
                **self._affect_agreement(utt_id, judged.get(utt_id)),
                **{name: scores.get(utt_id) for name, scores in quality.items()},
                "speaker_sim": similarity,
                **self._prosody(clip, row["words"].split()),
            })  # fmt: skip
        return pd.DataFrame(rows), judged, _word_table(clips)

    def _has_affect(self, test_set: str, utt_id: str) -> bool:
        """Whether affect is judged: the judge is trusted, and there is a recording to compare."""
        return test_set not in self._withheld and utt_id in self._recorded

    def _clip(self, row: Row) -> Clip:
        """An utterance; with word times if the aligner finds its words."""
        path, words = self._root / row["audio"], tuple(row["words"].split())
        spans: list[affect.Span] | None
        if row["utt_id"] not in self._recorded:  # nothing is compared with a recording
            spans = None
        elif row["audio"] == self._recorded.audio(row["utt_id"]):
            spans = self._recorded.spans(row["utt_id"])
        else:
            spans = realign(self._aligner, read_wav(path), words)
        return Clip(
            utt_id=row["utt_id"],
            speaker=row["speaker"],
            text=row["text"],
            words=() if spans is None else words,
            spans_s=np.array(spans or [], dtype=np.float64).reshape(-1, 2),
            audio=path,
            corpus=row["corpus"],
        )

    def _word_errors(
        self, text: str, transcript: str, check_transcript: str | None
    ) -> dict[str, Any]:
        """Columns of SCORES from the two recognisers."""
        first = self._counter.count(text, transcript)._asdict()
        if check_transcript is None:
            return {**first, "n_errors_check": None}
        return {**first, "n_errors_check": self._counter.count(text, check_transcript).n_errors}

    def _affect_agreement(
        self, utt_id: str, judged: tuple[np.ndarray, np.ndarray | None] | None
    ) -> dict[str, float | None]:
        """Columns of SCORES from the affect judges; `judged` is None if they are not trusted."""
        if judged is None:
            return {"wvad_ccc": None, "emo_sim": None}
        posterior_9, vad_W3 = judged
        return {
            "wvad_ccc": None if vad_W3 is None else self._agreement(utt_id, vad_W3),
            "emo_sim": cosine(posterior_9, self._recorded.posterior(utt_id)),
        }

    def _agreement(self, utt_id: str, vad_W3: np.ndarray) -> float:
        recorded_W3 = self._recorded.vad(utt_id)
        _check_words(utt_id, len(recorded_W3), len(vad_W3))
        return float(ccc(vad_W3, recorded_W3).mean())

    def _prosody(self, clip: Clip, words: Sequence[str]) -> dict[str, float | None]:
        """Columns of SCORES that compare prosody with that of the recording; null without one."""
        if clip.utt_id not in self._recorded:
            return dict.fromkeys((*word_prosody.CORRELATIONS, *word_prosody.PAUSES))
        spans_W2 = np.array(self._recorded.spans(clip.utt_id))
        _check_words(clip.utt_id, len(spans_W2), len(words))
        audio = self._root / self._recorded.audio(clip.utt_id)
        recording = word_prosody.spoken_words(read_wav(audio), spans_W2, words)
        synthesis = None
        if clip.words:
            synthesis = word_prosody.spoken_words(read_wav(clip.audio), clip.spans_s, words)
        return word_prosody.agreement(recording, synthesis)

    def _similarities(self, synthesis: Sequence[Row], clips: Sequence[Clip]) -> list[float | None]:
        """Cosine of the speaker embeddings of each utterance and its reference recording.

        None for an utterance without reference.
        """
        references = {
            row["utt_id"]: row["reference"]
            for row in synthesis
            if isinstance(row["reference"], str)
        }
        compared = [clip for clip in clips if clip.utt_id in references]
        recordings = [self._reference_clip(name) for name in dict.fromkeys(references.values())]
        known = _by_id(
            recordings, self._embed_speakers(recordings, self._work / "speaker_reference")
        )
        own = _by_id(compared, self._embed_speakers(compared, self._work / "speaker"))
        return [
            cosine(own[clip.utt_id], known[references[clip.utt_id]]) if clip.utt_id in own else None
            for clip in clips
        ]

    def _reference_clip(self, utt_id: str) -> Clip:
        """A reference recording for the speaker judge, without text and word times."""
        path = self._root / self._recorded.audio(utt_id)
        return Clip(utt_id, "", "", (), np.empty((0, 2)), path, corpus="")


def _word_table(clips: Iterable[Clip]) -> pd.DataFrame:
    """Return the word times of clips as a WORDS table, without scores of the aligner."""
    rows = [
        (clip.utt_id, index, word, start_s, end_s, None)
        for clip in clips
        for index, (word, (start_s, end_s)) in enumerate(zip(clip.words, clip.spans_s, strict=True))
    ]
    return pd.DataFrame(rows, columns=list(WORDS.columns))


def _check_words(utt_id: str, recorded: int, synthesised: int) -> None:
    if recorded != synthesised:
        raise HproError(
            f"{utt_id}: the recording has {recorded} words, the synthesis has {synthesised}: "
            "run `hpro judge-recordings` and `hpro synthesise` again"
        )


def _by_id(clips: Sequence[Clip], made: Sequence[Any]) -> dict[str, Any]:
    return dict(zip((clip.utt_id for clip in clips), made, strict=True))


def _found(entries: dict[str, T], utt_id: str, where: str) -> T:
    if utt_id not in entries:
        raise HproError(f"{utt_id} is not in {where}: run the earlier stages again")
    return entries[utt_id]
