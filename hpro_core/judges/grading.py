"""Grade of the embedded affect judge: its emotion recall on a labelled corpus of real speech.

The grade decides whether affect columns of unknown test sets are shown (`affect.MIN_RECALL_GAIN`).
Letters: N clips, F frames, C channels, 9 emotions.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hpro_core.constants import EMOTIONS
from hpro_core.corpus.audio import decode_file
from hpro_core.corpus.readers import csv_folder
from hpro_core.corpus.recording import Recording
from hpro_core.errors import HproError
from hpro_core.io import read_json, write_checksums, write_json
from hpro_core.judges import affect
from hpro_core.pretrained.base import FILES, unpack_model
from hpro_core.progress import track
from hpro_core.train.checkpoint import CONFIG


def grade_base(base: Path, corpus: Path) -> affect.Grade:
    """Measure the grade of a base's judge and write it to judge/config.json and SHA256SUMS.

    Args:
        base: folder of the base.
        corpus: see `measure_grade`.

    Returns:
        The grade.

    Raises:
        HproError: a file of the base is missing or differs from SHA256SUMS, or `measure_grade`
            raises it.
    """
    with tempfile.TemporaryDirectory() as scratch:
        unpack_model(base, "judge", Path(scratch))
        grade = measure_grade(affect.load(Path(scratch, "judge")), corpus)
    path = base / "judge" / CONFIG
    write_json(path, read_json(path) | {"grade": grade.model_dump()})
    write_checksums(base, FILES)
    return grade


def measure_grade(judge: affect.AffectJudge, corpus: Path) -> affect.Grade:
    """Measure the emotion recall of a judge on a corpus, with the channel scale of the corpus.

    The judge chooses among the emotions of the labels.

    Args:
        judge: its `scales` are replaced.
        corpus: folder for the reader `csv`, with emotions, on which no model was trained. Its name
            is the name in the grade.

    Raises:
        HproError: the judge was trained on a corpus of that name, `labelled_recordings` raises it,
            audio is unusable, or the labels have fewer than two emotions.
    """
    if corpus.name in judge.trained_on:
        raise HproError(
            f"the affect judge was trained on {corpus.name}: grade it on another corpus"
        )
    recordings = labelled_recordings(corpus)
    emotions = [str(each.emotion) for each in recordings]
    if len(set(emotions)) < 2:
        raise HproError(f"{corpus}: a grade needs recordings of two emotions or more")
    shown = track(recordings, len(recordings), f"affect judge: recordings of {corpus.name}")
    frames = [affect.input_features(decode_file(each.audio)) for each in shown]
    judge.scales = {corpus.name: affect.Scale([], len(frames), affect.scale_of(frames))}
    found = recall(emotions, most_probable(judge, corpus.name, frames, sorted(set(emotions))))
    return affect.Grade(
        corpus=corpus.name,
        recordings=len(recordings),
        classes=len(set(emotions)),
        recall=round(found, 4),
    )


def labelled_recordings(corpus: Path) -> list[Recording]:
    """Read the recordings of a corpus for the reader `csv`, all of which have an emotion.

    Raises:
        HproError: a row is faulty or has no emotion.
    """
    found = list(csv_folder.read(corpus))
    recordings = [each for each in found if isinstance(each, Recording) and each.emotion]
    if len(recordings) < len(found):
        raise HproError(
            f"{corpus}: {len(found) - len(recordings)} of {len(found)} rows of metadata.csv are "
            "faulty or have no emotion"
        )
    return recordings


def most_probable(
    judge: affect.AffectJudge,
    test_set: str,
    frames: Sequence[np.ndarray],
    emotions: Sequence[str],
) -> list[str]:
    """Predict the most probable one of some emotions for each clip.

    Args:
        judge: it has a scale of `test_set`.
        test_set: name of the scale.
        frames: features of the clips from `affect.input_features`, float32 (F, C) each.
        emotions: names from EMOTIONS.
    """
    columns = [EMOTIONS.index(name) for name in emotions]
    posteriors = [judge.posterior(test_set, frames_FC) for frames_FC in frames]
    return [emotions[int(posterior_9[columns].argmax())] for posterior_9 in posteriors]


def recall(emotions: Sequence[str], predicted: Sequence[str]) -> float:
    """Unweighted average recall: mean over the emotions of the fraction that is predicted."""
    true_N, predicted_N = np.array(emotions), np.array(predicted)
    return float(np.mean([(predicted_N[true_N == e] == e).mean() for e in np.unique(true_N)]))
