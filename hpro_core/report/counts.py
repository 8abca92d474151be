"""Numbers of utterances that each stage reads, keeps and rejects, with the reasons."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from hpro_core.constants import SPLITS
from hpro_core.corpus.splits import STAGE as SPLIT_STAGE
from hpro_core.tables import REJECTED, TRAINING_SPLITS, UTTERANCES, count_rows, distinct, read_table


class StageCount(NamedTuple):
    """Utterance counts of one stage."""

    stage: str
    entered: int
    kept: int
    rejected: int
    reasons: list[tuple[str, int]]  # most frequent first

    @property
    def adds_up(self) -> bool:
        return self.entered == self.kept + self.rejected


def stage_counts(root: Path) -> list[StageCount]:
    """Count the utterances of reading, splitting, alignment and dataset.

    Raises:
        HproError: a table of one of these stages is missing.
    """
    utterances = read_table(root / "corpus" / "utterances.parquet", UTTERANCES)
    counts = [_read_count(root, name) for name in dict.fromkeys(utterances["corpus"])]
    corpora = read_table(root / "corpus" / "rejected.parquet", REJECTED)
    unsplit = corpora[corpora["stage"] == SPLIT_STAGE] if len(corpora) else corpora
    counts.append(_count("split", sum(c.kept for c in counts), len(utterances), unsplit))
    counts.append(_align_count(root, utterances))
    used = sum(count_rows(root / f"dataset/{split}.parquet") for split in TRAINING_SPLITS)
    unused = read_table(root / "dataset" / "rejected.parquet", REJECTED)
    entered = int(utterances["split"].isin(TRAINING_SPLITS).sum())
    counts.append(_count("dataset", entered, used, unused))
    return counts


def _align_count(root: Path, utterances: pd.DataFrame) -> StageCount:
    """Counts of alignment; a run that uses the judge of a base does not align the split `judge`."""
    aligned = distinct(root / "align" / "words.parquet", "utt_id")
    lost = read_table(root / "align" / "rejected.parquet", REJECTED)
    judge = set(utterances.loc[utterances["split"] == "judge", "utt_id"])
    left_out = judge if not judge & (aligned | set(lost["utt_id"])) else set()
    stage = "align, without the split judge" if left_out else "align"
    return _count(stage, len(utterances) - len(left_out), len(aligned), lost)


def split_counts(root: Path) -> pd.DataFrame:
    """Tabulate corpus, split, utterances, minutes, speakers."""
    utterances = read_table(root / "corpus" / "utterances.parquet", UTTERANCES)
    rows = []
    for (corpus, split), part in utterances.groupby(["corpus", "split"], sort=False):
        minutes = part["duration_s"].sum() / 60
        rows.append((corpus, split, len(part), minutes, part["speaker"].nunique()))
    table = pd.DataFrame(rows, columns=["corpus", "split", "utterances", "minutes", "speakers"])
    order = {split: i for i, split in enumerate(SPLITS)}
    return table.sort_values(["corpus", "split"], key=lambda c: c.map(order).fillna(0))


def _read_count(root: Path, name: str) -> StageCount:
    folder = root / "corpus" / name
    kept = count_rows(folder / "utterances.parquet")
    lost = read_table(folder / "rejected.parquet", REJECTED)
    return _count(f"read {name}", kept + len(lost), kept, lost)


def _count(stage: str, entered: int, kept: int, lost: pd.DataFrame) -> StageCount:
    reasons = Counter(lost.get("reason", []))
    return StageCount(stage, entered, kept, len(lost), reasons.most_common())
