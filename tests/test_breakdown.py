"""Tables by emotion and speaker, and confusion, against a count of the same scores."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hpro_core.analysis import tables
from hpro_core.analysis.breakdown import CONFUSION_COLUMNS, write_breakdowns
from hpro_core.analysis.scores import METRICS, ratio
from hpro_core.analysis.statistics import interval
from hpro_core.constants import EMOTIONS
from hpro_core.errors import HproError
from hpro_core.io import write_json
from hpro_core.judges.provenance import JudgeProvenance, to_json
from hpro_core.params import Evaluate, Tables
from hpro_core.tables import EMOTION_POSTERIORS, SCORES, UTTERANCES, empty, write_table
from tests.recorded import record
from tests.scores import quality_and_prosody

SETTINGS = Evaluate(
    judge_epochs=1,
    judge_learning_rate=1e-3,
    check_every=1,
    dnsmos_windows=1,
    bootstrap_samples=100,
    seed=0,
)
ROWS = Tables(comparison=["recordings", "sft"], progressive=["sft"], ablation=["sft"])
INTENDED = {"acted": [None] * 6, "controlled": ["sad", "sad", "happy", "happy", "happy", None]}
SPEAKERS = ["ann", "ann", "ben", "ben", "cleo", "cleo"]
IDS = [f"{test_set}_{i}" for test_set in INTENDED for i in range(6)]


def judged(seed: int) -> pd.DataFrame:
    """Emotion that the judge assigns to each utterance."""
    chosen = np.random.default_rng(seed).integers(0, 4, len(IDS))
    return pd.DataFrame({"utt_id": IDS, **dict.fromkeys(EMOTIONS, 0.05)}).assign(
        **{name: np.where(chosen == i, 0.6, 0.05) for i, name in enumerate(EMOTIONS)}
    )


def scores(seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "utt_id": IDS,
            "corpus": [utt_id.split("_")[0] for utt_id in IDS],
            "transcript": "",
            "n_errors": rng.integers(0, 4, 12),
            "n_words": rng.integers(4, 9, 12),
            "n_errors_check": rng.integers(0, 4, 12),
            "wvad_ccc": rng.uniform(-1, 1, 12),
            "emo_sim": rng.uniform(0, 1, 12),
            "dnsmos": rng.uniform(1, 5, 12),
            "speaker_sim": rng.uniform(0, 1, 12),
            **quality_and_prosody(12, rng),
        }
    )


def write_system(root: Path, system: str, seed: int, number: int) -> None:
    folder = root / "eval" / system / f"seed{seed}"
    write_table(scores(number), folder / "scores.parquet", SCORES)
    posteriors = judged(number)
    posteriors[list(EMOTIONS)] /= posteriors[list(EMOTIONS)].sum(axis=1).to_numpy()[:, None]
    write_table(posteriors, folder / "emotion_posteriors.parquet", EMOTION_POSTERIORS)
    names = ("scores.parquet", "emotion_posteriors.parquet")
    recorded_in(root, folder, system, seed, names)
    write_json(folder / "metrics.json", to_json(JudgeProvenance({"asr": "an ear"}, {})))


def recorded_in(root: Path, folder: Path, system: str, seed: int, names: tuple[str, ...]) -> None:
    """A record of several files of one command."""
    for name in names:
        record(root, folder / name, system, seed, f"judge-{name.split('.')[0]}")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    utterances = pd.DataFrame(
        {
            "utt_id": IDS,
            "corpus": [utt_id.split("_")[0] for utt_id in IDS],
            "speaker": SPEAKERS * 2,
            **dict.fromkeys(("text", "words", "audio", "group"), "x"),
            "duration_s": 1.0,
            "split": "test",
            "emotion": [emotion for own in INTENDED.values() for emotion in own],
            "label": None,
        }
    )
    write_table(utterances, tmp_path / "corpus/utterances.parquet", UTTERANCES)
    for number, (system, seed) in enumerate((("recordings", 0), ("sft", 0), ("sft", 1))):
        write_system(tmp_path, system, seed, number)
    return tmp_path


def judged_systems(root: Path) -> tables.Scores:
    return tables.read_scores(root, tables.systems_of(ROWS), [0, 1])


def test_rows_are_the_metrics_of_their_utterances(root: Path) -> None:
    write_breakdowns(root, judged_systems(root), [0, 1], SETTINGS)
    for what, groups in (("emotion", INTENDED), ("speaker", dict.fromkeys(INTENDED, SPEAKERS))):
        found = pd.read_csv(root / f"tables/by_{what}.csv")
        expected = []
        for system, seeds in (("recordings", [0]), ("sft", [1, 2])):
            for place, (test_set, names) in enumerate(groups.items()):
                for name in sorted({n for n in names if n}, key=names.index):
                    rows = [6 * place + i for i, other in enumerate(names) if other == name]
                    own = [scores(seed).iloc[rows] for seed in seeds]
                    values = [v for m in METRICS for v in interval(ratio(own, m), 100, 0)]
                    expected.append([system, test_set, name, len(rows), len(seeds), *values])
        first = ["system", "test_set", what, "n", "seeds"]
        columns = [*first, *tables.metric_columns(METRICS)]
        expected = pd.DataFrame(expected, columns=columns)
        by = ["system", "test_set", what]
        pd.testing.assert_frame_equal(
            found.sort_values(by).reset_index(drop=True),
            expected.sort_values(by).reset_index(drop=True),
        )


def test_confusion_counts_the_assigned_emotions(root: Path) -> None:
    write_breakdowns(root, judged_systems(root), [0, 1], SETTINGS, root / "elsewhere")
    found = pd.read_csv(root / "elsewhere/confusion.csv")
    assert tuple(found.columns) == CONFUSION_COLUMNS
    assert found["test_set"].unique().tolist() == ["controlled"]  # acted has no emotions
    assert found.loc[found["system"] == "sft", ["emotion", "n"]].to_numpy().tolist() == [
        ["happy", 6],
        ["sad", 4],
    ]
    for row in found.to_dict("records"):
        seeds = [0] if row["system"] == "recordings" else [1, 2]
        assigned = [
            EMOTIONS[np.random.default_rng(seed).integers(0, 4, 12)[6 + i]]
            for seed in seeds
            for i, emotion in enumerate(INTENDED["controlled"])
            if emotion == row["emotion"]
        ]
        assert {e: row[e] for e in EMOTIONS} == {e: assigned.count(e) for e in EMOTIONS}


def test_without_emotions_or_affect_the_tables_have_no_rows(root: Path) -> None:
    path = root / "corpus/utterances.parquet"
    write_table(pd.read_parquet(path).assign(emotion=None), path, UTTERANCES)
    for system, seed in (("recordings", 0), ("sft", 0), ("sft", 1)):
        folder = root / "eval" / system / f"seed{seed}"
        name = "emotion_posteriors.parquet"
        write_table(empty(EMOTION_POSTERIORS), folder / name, EMOTION_POSTERIORS)
        recorded_in(root, folder, system, seed, (name,))
    write_breakdowns(root, judged_systems(root), [0, 1], SETTINGS)
    for name in ("by_emotion", "confusion"):
        assert pd.read_csv(root / f"tables/{name}.csv").empty
    assert len(pd.read_csv(root / "tables/by_speaker.csv")) == 2 * 2 * 3


def test_posteriors_of_another_system_are_refused(root: Path) -> None:
    path = root / "eval/sft/seed1/emotion_posteriors.parquet"
    path.write_bytes((root / "eval/sft/seed0/emotion_posteriors.parquet").read_bytes())
    with pytest.raises(HproError, match=r"emotion_posteriors.parquet was changed after"):
        write_breakdowns(root, judged_systems(root), [0, 1], SETTINGS)
