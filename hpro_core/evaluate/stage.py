"""`hpro judge-train`: the affect judge and its own grades. `hpro judge`: scores of one system."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from hpro_core.constants import EMOTIONS, VAD
from hpro_core.engine.checkpoint import write_json
from hpro_core.errors import HproError
from hpro_core.evaluate import affect
from hpro_core.evaluate.asr import Ears
from hpro_core.evaluate.grades import grades
from hpro_core.evaluate.hearing import hear, read_audio, spans_by_utterance
from hpro_core.evaluate.panel import Panel
from hpro_core.evaluate.scores import figures
from hpro_core.evaluate.training import Features, labels, train_judge
from hpro_core.params import Evaluate
from hpro_core.progress import track
from hpro_core.tables import (
    EMOTION_POSTERIORS,
    SCORES,
    SYNTHESIS,
    UTTERANCES,
    WORD_VAD,
    WORDS,
    empty,
    read_table,
    write_table,
)
from hpro_core.weights import located


def train(root: Path, settings: Evaluate, weights: Path, threads: int) -> None:
    """Train the affect judge on the `judge` split and let it hear the recordings of `test`.

    Writes judge/affect.npz, judge/affect.json, judge/recordings/{emotion_posteriors,
    word_vad}.parquet and judge/metrics.json: how far the judge can be trusted.

    Args:
        root: results folder of the run.
        settings: penalties and seed.
        weights: folder of the weights from outside.
        threads: CPU threads.

    Raises:
        HproError: a table or weights are missing, or the `judge` split lacks labels.
    """
    torch.set_num_threads(threads)
    utterances = read_table(root / "corpus" / "utterances.parquet", UTTERANCES)
    features = _features(root, utterances, Ears(located("whisper_tiny_en", weights), threads))
    known = labels(root, utterances)
    judge = train_judge(features, known, settings)
    affect.save(judge, root / "judge")
    judge_recordings(root, judge, features)
    write_json(root / "judge" / "metrics.json", grades(judge, features, known, settings.seed))


def judge_recordings(root: Path, judge: affect.AffectJudge, features: Features) -> None:
    """Write judge/recordings/: what the judge makes of the `test` recordings.

    Every system is compared with this.
    """
    clips = features.of("test")
    posteriors = np.stack([judge.posterior(corpus, features.utterance[u]) for u, corpus in clips])
    table = pd.DataFrame(posteriors, columns=list(EMOTIONS)).assign(utt_id=[u for u, _ in clips])
    folder = root / "judge" / "recordings"
    write_table(table, folder / "emotion_posteriors.parquet", EMOTION_POSTERIORS)
    vad = {u: judge.word_vad(corpus, features.words[u]) for u, corpus in clips}
    write_table(_vad_table(vad), folder / "word_vad.parquet", WORD_VAD)


def judge(
    root: Path, system: str, seed: int, settings: Evaluate, weights: Path, threads: int
) -> None:
    """Score what a system spoke.

    Reads eval/<system>/seed<k>/synthesis.parquet; writes scores.parquet, word_vad.parquet (the
    judge's, where the words were found) and metrics.json beside it.

    Args:
        root: results folder of the run.
        system: recordings, tokenrecon or a variant.
        seed: of the policy.
        settings: resamples of the intervals, windows of DNSMOS.
        weights: folder of the weights from outside.
        threads: CPU threads.

    Raises:
        HproError: the system was not synthesised, the judge not trained, or audio is unusable.
    """
    torch.set_num_threads(threads)
    folder = root / "eval" / system / f"seed{seed}"
    synthesis = read_table(folder / "synthesis.parquet", SYNTHESIS)
    if synthesis.empty:
        raise HproError(f"{folder / 'synthesis.parquet'} has no utterances: synthesise again")
    panel = Panel(root, settings, weights, threads)
    rows, vad = [], {}
    spoken = synthesis.to_dict("records")
    for row in track(spoken, len(spoken), f"judge {system}"):
        scored, vad_W3 = panel.score({str(name): value for name, value in row.items()})
        rows.append(scored)
        if vad_W3 is not None:
            vad[row["utt_id"]] = vad_W3
    scores = pd.DataFrame(rows)
    write_table(scores, folder / "scores.parquet", SCORES)
    write_table(_vad_table(vad), folder / "word_vad.parquet", WORD_VAD)
    report = {"system": system, "seed": seed, "test_sets": figures(scores, settings)}
    write_json(folder / "metrics.json", report)


def _features(root: Path, utterances: pd.DataFrame, ears: Ears) -> Features:
    """Hear every recording of the splits `judge` and `test` that could be aligned."""
    spans = spans_by_utterance(read_table(root / "align" / "words.parquet", WORDS))
    used = utterances["split"].isin(("judge", "test")) & utterances["utt_id"].isin(list(spans))
    rows = utterances.loc[used, ["utt_id", "corpus", "split"]].reset_index(drop=True)
    if set(rows["split"]) != {"judge", "test"}:
        raise HproError(f"{root}: the splits `judge` and `test` need aligned utterances")
    audio = dict(zip(utterances["utt_id"], utterances["audio"], strict=True))
    features = Features(rows, {}, {})
    for utt_id in track(rows["utt_id"], len(rows), "judges: hearing recordings"):
        _, sound = hear(ears, read_audio(root, audio[utt_id]))
        features.utterance[utt_id] = sound.utterance_features().astype(np.float32)
        features.words[utt_id] = sound.word_features(spans[utt_id]).astype(np.float32)
    return features


def _vad_table(vad: dict[str, np.ndarray]) -> pd.DataFrame:
    if not vad:
        return empty(WORD_VAD)
    return pd.concat(
        pd.DataFrame(vad_W3, columns=list(VAD)).assign(utt_id=u, word_index=range(len(vad_W3)))
        for u, vad_W3 in vad.items()
    )
