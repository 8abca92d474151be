"""Stages of judging: `hpro judge-train`, `hpro judge-recordings` and `hpro judge`.

They train the affect judge, measure the accuracy of the affect judges on recordings, and score one
system.
"""

import math
import tempfile
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from hpro_core import records
from hpro_core.align.pocketsphinx_aligner import PocketsphinxAligner
from hpro_core.analysis.scores import PROSODY_METRICS, ids_to_check, metric_summary, ratio
from hpro_core.constants import SPLITS
from hpro_core.corpus.audio import write_wav
from hpro_core.errors import HproError
from hpro_core.io import write_json
from hpro_core.judges import affect
from hpro_core.judges.accuracy import (
    Judgements,
    affect_accuracy,
    ceilings,
    quality_accuracy,
)
from hpro_core.judges.affect_training import Features, read_labels, train_judge
from hpro_core.judges.apply import (
    AffectJudges,
    AffectOutputs,
    Clip,
    JudgeFn,
    load_affect,
    load_quality_judges,
)
from hpro_core.judges.configured import affect_judge_identities, judge_identities, teacher_judges
from hpro_core.judges.panel import JudgePanel
from hpro_core.judges.provenance import JudgeProvenance, to_json
from hpro_core.judges.realignment import read_wav, realign, spans_by_utterance
from hpro_core.judges.word_prosody import agreement, spoken_words
from hpro_core.label.teachers import posterior_table, vad_table
from hpro_core.params import Compute, Evaluate
from hpro_core.progress import track
from hpro_core.synthesis.imported import without_audio
from hpro_core.tables import (
    EMOTION_POSTERIORS,
    SCORES,
    SYNTHESIS,
    UTTERANCES,
    WORD_VAD,
    WORDS,
    by_utterance,
    read_table,
    write_table,
)

RERENDERED_WORDS = "again_words.parquet"
"""Word times of the second renderings of a corpus (`corpus.controlled.ceilings`)."""

NOISE_SNR_DB = 10.0
"""Level of speech above the noise that the quality judges are graded with (ours)."""

MAX_SCALE_RECORDINGS = 300
"""Largest number of recordings for the scale of an unknown test set (ours): 40 give the same
accuracy (docs/judges.md)."""


def train(root: Path, settings: Evaluate, threads: int) -> None:
    """Train the affect judge on the `judge` split and write judge/{model.safetensors,config.json}.

    Raises:
        HproError: a table is missing, or the `judge` split lacks labels.
    """
    torch.set_num_threads(threads)
    utterances = read_table(root / "corpus" / "utterances.parquet", UTTERANCES)
    judge = train_judge(_features(root, utterances), read_labels(root, utterances), settings)
    affect.save(judge, root / "judge")


def judge_recordings(
    root: Path,
    settings: Evaluate,
    weights: Path,
    compute: Compute,
    work: Path,
    teachers: Set[str],
) -> None:
    """Run the affect judges on the recordings of `test`, and measure the accuracy of judges.

    Writes judge/recordings/{emotion_posteriors,word_vad}.parquet, which every system is compared
    with, judge/recordings/scales.json, the channel scales of test sets that the embedded judge was
    not trained on, and judge/metrics.json: accuracy against exact labels, floors and ceilings, and
    the scores of the quality judges on recordings with and without noise. The accuracy on an
    unknown test set is an entry of its own.

    Args:
        root: results folder of the run, with a trained judge unless both judges are published.
        settings: configured judges; seed of the floors.
        weights: folder of the downloaded weights.
        compute: number of CPU threads; device of the published judges.
        work: folder for the shards of the published judges.
        teachers: teachers of the run's labels, to record which judges are also teachers.

    Raises:
        HproError: a table is missing, or a judge's files are missing or do not fit.
    """
    torch.set_num_threads(compute.threads)
    utterances = read_table(root / "corpus" / "utterances.parquet", UTTERANCES)
    judges = load_affect(root, settings, compute)
    clips = _recordings(root, utterances)
    unknown = _with_scales(judges, root, utterances, {clip.corpus for clip in clips})
    judged = _of_words(judges.predict(clips, work / "recordings"))
    write_judgements(root / "judge" / "recordings", judged)
    labels = read_labels(root, utterances)
    by_set = {name: [(c.utt_id, c.corpus) for c in clips if c.corpus == name] for name in unknown}
    known = [(clip.utt_id, clip.corpus) for clip in clips if clip.corpus not in unknown]
    metrics = affect_accuracy(known, judged, labels, settings.seed)
    metrics["ceiling"] = {}
    for corpus in utterances["corpus"].unique():
        if (root / "corpus" / corpus / RERENDERED_WORDS).is_file():
            found = ceilings(judged, _rerendered(root, corpus, judged, judges, work))
            prosody = _prosody_ceilings(root, corpus, [c for c in clips if c.corpus == corpus])
            metrics["ceiling"][corpus] = {k: {**found[k], **prosody[k]} for k in found}
    metrics["quality"] = _quality(
        clips, load_quality_judges(settings, weights, compute), settings, work
    )
    if judges.embedded is not None:
        metrics = {"trained_on": judges.embedded.trained_on, **metrics}
    if unknown:
        metrics["unknown_sets"] = {
            name: {
                "scale_recordings": scale.recordings,
                "scale_splits": " and ".join(scale.splits),
                **affect_accuracy(by_set[name], judged, labels, settings.seed),
            }
            for name, scale in unknown.items()
        }
    provenance = JudgeProvenance(
        affect_judge_identities(root, settings), teacher_judges(settings, teachers)
    )
    write_json(root / "judge" / "metrics.json", {**metrics, **to_json(provenance)})


def _with_scales(
    judges: AffectJudges, root: Path, utterances: pd.DataFrame, test_sets: Set[str]
) -> dict[str, affect.Scale]:
    """Give the embedded judge the scales of test sets that it does not know, and write them.

    A scale is of the recordings in train and dev of the set, or in test if it has none there. Of
    many recordings MAX_SCALE_RECORDINGS are drawn.

    Returns:
        The scale of each unknown test set, sorted by name.
    """
    scales: dict[str, affect.Scale] = {}
    known = set(test_sets) if judges.embedded is None else set(judges.embedded.trained_on)
    for name in sorted(test_sets - known):
        own = utterances[utterances["corpus"] == name].sort_values("utt_id")
        rows = own[own["split"].isin(("train", "dev"))]
        rows = own[own["split"] == "test"] if rows.empty else rows
        rows = rows.sample(min(len(rows), MAX_SCALE_RECORDINGS), random_state=0)
        paths = track(rows["audio"], len(rows), f"affect judge: channel scale of {name}")
        frames = [affect.input_features(read_wav(root / path)) for path in paths]
        splits = [split for split in SPLITS if (rows["split"] == split).any()]
        scales[name] = affect.Scale(splits, len(rows), affect.scale_of(frames))
    if judges.embedded is not None:
        judges.embedded.scales = scales
    affect.write_scales(root / "judge" / "recordings" / affect.SCALES, scales)
    return scales


def write_judgements(
    folder: Path, judged: Mapping[str, tuple[np.ndarray, np.ndarray | None]]
) -> None:
    """Write the judged emotion of utterances, and the word affect of those with word times."""
    posteriors = posterior_table({u: posterior_9 for u, (posterior_9, _) in judged.items()})
    write_table(posteriors, folder / "emotion_posteriors.parquet", EMOTION_POSTERIORS)
    vad = vad_table({u: vad_W3 for u, (_, vad_W3) in judged.items() if vad_W3 is not None})
    write_table(vad, folder / "word_vad.parquet", WORD_VAD)


def judge(
    root: Path,
    system: str,
    seed: int,
    settings: Evaluate,
    weights: Path,
    compute: Compute,
    work: Path,
    teachers: Set[str],
) -> None:
    """Score the synthesis of a system.

    Reads eval/<system>/seed<k>/synthesis.parquet. Writes scores.parquet, emotion_posteriors.parquet
    (judged emotion of utterances), words.parquet and word_vad.parquet (times and judged affect of
    the words of utterances where the aligner found them) and metrics.json to the same folder.

    Args:
        root: results folder of the run.
        system: recordings, tokenrecon or a variant.
        seed: policy seed.
        settings: configured judges, resamples of the intervals, fraction of utterances for DNSMOS
            and the second recogniser.
        weights: folder of the downloaded weights.
        compute: number of CPU threads; device of the published judges.
        work: folder for the shards of the published judges, for this system and seed only.
        teachers: teachers of the run's labels, to record which judges are also teachers.

    Raises:
        HproError: the system was not synthesised, a judge is not trained or not available, or audio
            is unusable.
    """
    torch.set_num_threads(compute.threads)
    folder = root / "eval" / system / f"seed{seed}"
    records.check(root, folder / "synthesis.parquet", system, seed)
    provenance = JudgeProvenance(
        judge_identities(root, settings), teacher_judges(settings, teachers)
    )
    panel = JudgePanel(root, settings, weights, compute, work)
    score(panel, folder, system, seed, settings, provenance)


def score(
    panel: JudgePanel,
    folder: Path,
    system: str,
    seed: int,
    settings: Evaluate,
    provenance: JudgeProvenance,
    sentences: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Score the synthesis in a folder and write the outputs of `judge` to it.

    Args:
        panel: the judges.
        folder: eval/<system>/seed<k>, with synthesis.parquet.
        system: name of the system.
        seed: policy seed.
        settings: as for `judge`.
        provenance: the judges; the panel adds its notes on unknown test sets.
        sentences: columns utt_id and corpus of all test sentences, among which those for the
            slowest judges are chosen; by default those of the synthesis and of its import.

    Returns:
        The SCORES table.

    Raises:
        HproError: there is no utterance, or audio is unusable.
    """
    synthesis = read_table(folder / "synthesis.parquet", SYNTHESIS)
    if synthesis.empty:
        raise HproError(
            f"{folder / 'synthesis.parquet'} has no utterances: run `hpro synthesise` again"
        )
    rows = [{str(k): v for k, v in row.items()} for row in synthesis.to_dict("records")]
    if sentences is None:
        lacking = pd.DataFrame(without_audio(folder).items(), columns=["utt_id", "corpus"])
        sentences = pd.concat([synthesis[["utt_id", "corpus"]], lacking], ignore_index=True)
    scores, judged, words = panel.scores(rows, ids_to_check(sentences, settings))
    write_table(scores, folder / "scores.parquet", SCORES)
    write_judgements(folder, judged)
    write_table(words, folder / "words.parquet", WORDS)
    report = {
        "system": system,
        "seed": seed,
        **to_json(replace(provenance, affect_notes=panel.affect_notes)),
        "test_sets": metric_summary(scores, settings),
    }
    write_json(folder / "metrics.json", report)
    return scores


def _features(root: Path, utterances: pd.DataFrame) -> Features:
    """Features and word times of every aligned recording of the split `judge`."""
    spans = spans_by_utterance(read_table(root / "align" / "words.parquet", WORDS))
    used = (utterances["split"] == "judge") & utterances["utt_id"].isin(list(spans))
    rows = utterances.loc[used, ["utt_id", "corpus", "audio"]]
    if rows.empty:
        raise HproError(f"{root}: the split 'judge' has no aligned utterance")
    paths = track(rows["audio"], len(rows), "affect judge: features of recordings")
    frames = [affect.input_features(read_wav(root / path)) for path in paths]
    by_id = dict(zip(rows["utt_id"], frames, strict=True))
    clips = list(zip(rows["utt_id"], rows["corpus"], strict=True))
    return Features(clips, by_id, {utt_id: spans[utt_id] for utt_id in by_id})


def _recordings(root: Path, utterances: pd.DataFrame) -> list[Clip]:
    """Every aligned recording of `test`."""
    rows = utterances[utterances["split"] == "test"].to_dict("records")
    chosen = {row["utt_id"]: (row["corpus"], root / row["audio"]) for row in rows}
    words = read_table(root / "align" / "words.parquet", WORDS, only={"utt_id": chosen.keys()})
    clips = _clips(words, chosen)
    if not clips:
        raise HproError(f"{root}: the split 'test' has no aligned utterance")
    return clips


def _rerendered(
    root: Path, corpus: str, judged: Judgements, judges: AffectJudges, work: Path
) -> Judgements:
    """Outputs of the judges on the second renderings of a corpus."""
    folder = root / "corpus" / corpus
    words = read_table(folder / RERENDERED_WORDS, WORDS)
    names = [name for name in sorted(set(words["utt_id"])) if name.rsplit(".", 1)[0] in judged]
    chosen = {name: (corpus, folder / "audio" / f"{name}.wav") for name in names}
    return _of_words(judges.predict(_clips(words, chosen), work / f"again_{corpus}"))


def _prosody_ceilings(
    root: Path, corpus: str, recordings: Sequence[Clip]
) -> dict[str, dict[str, float]]:
    """By kind of re-rendering: its PROSODY_METRICS, aligned as syntheses are."""
    folder, aligner = root / "corpus" / corpus, PocketsphinxAligner()
    rerendered = set(read_table(folder / RERENDERED_WORDS, WORDS)["utt_id"])
    rows: dict[str, list[dict]] = {}
    for clip in track(recordings, len(recordings), f"judges: prosody of re-rendered {corpus}"):
        recorded = spoken_words(read_wav(clip.audio), clip.spans_s, clip.words)
        for name in sorted(n for n in rerendered if n.rsplit(".", 1)[0] == clip.utt_id):
            audio_T = read_wav(folder / "audio" / f"{name}.wav")
            spans = realign(aligner, audio_T, clip.words)
            again = spans and spoken_words(audio_T, np.array(spans), clip.words)
            row = {**agreement(recorded, again or None), "n_words": len(clip.words)}
            rows.setdefault(name.rsplit(".", 1)[1], []).append(row)
    values = {
        kind: {m: ratio([pd.DataFrame(found)], m).value for m in PROSODY_METRICS}
        for kind, found in rows.items()
    }
    return {
        kind: {m: v for m, v in own.items() if not math.isnan(v)} for kind, own in values.items()
    }


def _quality(
    clips: Sequence[Clip], judges: Mapping[str, JudgeFn], settings: Evaluate, work: Path
) -> dict[str, dict]:
    """By test set: number of recordings that are judged in every system, and their quality scores.

    The scores with noise show whether a judge finds a degradation that everybody hears.
    """
    names = pd.DataFrame({"utt_id": [c.utt_id for c in clips], "corpus": [c.corpus for c in clips]})
    checked = ids_to_check(names, settings)
    found = {}
    for corpus in sorted(set(names["corpus"])):
        chosen = [c for c in clips if c.corpus == corpus and c.utt_id in checked]
        with tempfile.TemporaryDirectory() as folder:
            noisy = [_with_noise(clip, Path(folder)) for clip in chosen]
            scores = [
                {
                    name: judge(part, work / f"{name}_{corpus}_{kind}")
                    for name, judge in judges.items()
                }
                for kind, part in (("recordings", chosen), ("noisy", noisy))
            ]
        found[corpus] = {"n": len(chosen), **quality_accuracy(*scores)}
    return found


def _with_noise(clip: Clip, folder: Path) -> Clip:
    """A copy of a clip in `folder`, with white noise at NOISE_SNR_DB."""
    audio_T = read_wav(clip.audio)
    level = np.sqrt(np.mean(audio_T**2)) * 10 ** (-NOISE_SNR_DB / 20)
    noise_T = np.random.default_rng(0).normal(0.0, level, len(audio_T))
    path = folder / f"{clip.utt_id}.wav"
    write_wav(path, np.clip(audio_T + noise_T, -1.0, 1.0).astype(np.float32))
    return replace(clip, audio=path)


def _clips(words: pd.DataFrame, chosen: dict[str, tuple[str, Path]]) -> list[Clip]:
    """Clips of the chosen utterances in a WORDS table; `chosen`: utt_id -> test set and file."""
    timed = by_utterance(words)
    return [
        Clip(
            utt_id=utt_id,
            speaker="",  # not used
            text="",
            words=tuple(timed[utt_id]["word"]),
            spans_s=timed[utt_id][["start_s", "end_s"]].to_numpy(),
            audio=path,
            corpus=corpus,
        )
        for utt_id, (corpus, path) in chosen.items()
        if utt_id in timed
    ]


def _of_words(judged: AffectOutputs) -> Judgements:
    """Keep the clips that have word times."""
    return {u: (found[0], found[1]) for u, found in judged.items() if found[1] is not None}
