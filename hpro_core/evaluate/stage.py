"""`hpro judge-train`: the affect judge and its own grades. `hpro judge`: scores of one system."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from hpro_core.constants import EMOTIONS, VAD
from hpro_core.engine.checkpoint import write_json
from hpro_core.errors import HproError
from hpro_core.evaluate import affect
from hpro_core.evaluate.grades import Judgements, ceilings, grades, judgements
from hpro_core.evaluate.hearing import read_audio, spans_by_utterance
from hpro_core.evaluate.panel import Panel
from hpro_core.evaluate.scores import checked, figures
from hpro_core.evaluate.training import Sounds, labels, train_judge
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

AGAIN = "again_words.parquet"
"""Word times of the sentences that a corpus rendered again (`corpus.again`)."""


def train(root: Path, settings: Evaluate, threads: int) -> None:
    """Train the affect judge on the `judge` split; writes judge/{model.safetensors,config.json}.

    Args:
        root: results folder of the run.
        settings: epochs, learning rate and seed.
        threads: CPU threads.

    Raises:
        HproError: a table is missing, or the `judge` split lacks labels.
    """
    torch.set_num_threads(threads)
    utterances = read_table(root / "corpus" / "utterances.parquet", UTTERANCES)
    judge = train_judge(_sounds(root, utterances, "judge"), labels(root, utterances), settings)
    affect.save(judge, root / "judge")


def judge_recordings(root: Path, settings: Evaluate, threads: int) -> None:
    """Let the affect judge hear the recordings of `test`, and grade it where labels are exact.

    Writes judge/recordings/{emotion_posteriors,word_vad}.parquet, with which every system is
    compared, and judge/metrics.json: how far the judge can be trusted.

    Args:
        root: results folder of the run, with a trained judge.
        settings: seed of the floors.
        threads: CPU threads.

    Raises:
        HproError: a table is missing, or the judge does not know a test set.
    """
    torch.set_num_threads(threads)
    utterances = read_table(root / "corpus" / "utterances.parquet", UTTERANCES)
    judge = affect.load(root / "judge")
    sounds = _sounds(root, utterances, "test")
    judged = judgements(judge, sounds)
    write_judgements(root / "judge" / "recordings", judged)
    marks = grades(sounds, judged, labels(root, utterances), settings.seed)
    marks["ceiling"] = {
        corpus: ceilings(judged, judgements(judge, _said_again(root, corpus, judged)))
        for corpus in utterances["corpus"].unique()
        if (root / "corpus" / corpus / AGAIN).is_file()
    }
    write_json(root / "judge" / "metrics.json", {"trained_on": judge.trained_on, **marks})


def write_judgements(folder: Path, judged: Judgements) -> None:
    """Write what the judge makes of the `test` recordings: every system is compared with this."""
    posteriors = np.stack([posterior_9 for posterior_9, _ in judged.values()])
    table = pd.DataFrame(posteriors, columns=list(EMOTIONS)).assign(utt_id=list(judged))
    write_table(table, folder / "emotion_posteriors.parquet", EMOTION_POSTERIORS)
    vad = {utt_id: vad_W3 for utt_id, (_, vad_W3) in judged.items()}
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
        settings: resamples of the intervals, what DNSMOS and the second recogniser hear.
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
    twice_heard = checked(synthesis[["utt_id", "corpus"]], settings)
    spoken = synthesis.to_dict("records")
    for row in track(spoken, len(spoken), f"judge {system}"):
        scored, vad_W3 = panel.score(
            {str(name): value for name, value in row.items()}, row["utt_id"] in twice_heard
        )
        rows.append(scored)
        if vad_W3 is not None:
            vad[row["utt_id"]] = vad_W3
    scores = pd.DataFrame(rows)
    write_table(scores, folder / "scores.parquet", SCORES)
    write_table(_vad_table(vad), folder / "word_vad.parquet", WORD_VAD)
    report = {"system": system, "seed": seed, "test_sets": figures(scores, settings)}
    write_json(folder / "metrics.json", report)


def _sounds(root: Path, utterances: pd.DataFrame, split: str) -> Sounds:
    """Hear every recording of a split that could be aligned."""
    spans = spans_by_utterance(read_table(root / "align" / "words.parquet", WORDS))
    used = (utterances["split"] == split) & utterances["utt_id"].isin(list(spans))
    rows = utterances.loc[used, ["utt_id", "corpus", "audio"]]
    if rows.empty:
        raise HproError(f"{root}: the split {split!r} has no aligned utterance")
    paths = track(rows["audio"], len(rows), f"affect judge: hearing {split} recordings")
    frames = [affect.heard(read_audio(root, path)) for path in paths]
    by_id = dict(zip(rows["utt_id"], frames, strict=True))
    clips = list(zip(rows["utt_id"], rows["corpus"], strict=True))
    return Sounds(clips, by_id, {utt_id: spans[utt_id] for utt_id in by_id})


def _said_again(root: Path, corpus: str, judged: Judgements) -> Sounds:
    """Hear what was rendered again of the sentences that were judged."""
    folder = root / "corpus" / corpus
    known = spans_by_utterance(read_table(folder / AGAIN, WORDS))
    spans = {name: found for name, found in known.items() if name.rsplit(".", 1)[0] in judged}
    names = track(spans, len(spans), "affect judge: hearing sentences rendered again")
    frames = {name: affect.heard(read_audio(folder, f"audio/{name}.wav")) for name in names}
    return Sounds([(name, corpus) for name in spans], frames, spans)


def _vad_table(vad: dict[str, np.ndarray]) -> pd.DataFrame:
    if not vad:
        return empty(WORD_VAD)
    return pd.concat(
        pd.DataFrame(vad_W3, columns=list(VAD)).assign(utt_id=u, word_index=range(len(vad_W3)))
        for u, vad_W3 in vad.items()
    )
