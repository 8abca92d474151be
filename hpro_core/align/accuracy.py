"""Accuracy of our word boundaries against a reference: MFA's TextGrids, or exact times."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from hpro_core.align.matching import match_words
from hpro_core.align.textgrid import Interval, read_words
from hpro_core.errors import HproError
from hpro_core.io import read_zip_members
from hpro_core.tables import by_utterance

LIMITS_MS = (20, 60, 100)
_ROUNDING_MS = 0.01  # 60.000000001 ms is 60 ms

_MAX_BYTES = 2**30
"""Largest total size of the TextGrids in an archive."""


def summary(pairs_N4: np.ndarray, reference: str, **counts: int) -> dict:
    """Return the accuracy figures of one set.

    Args:
        pairs_N4: our start and end of each word and those of the reference, in seconds.
        reference: description of the reference, for the output.
        counts: numbers of left-out items, by reason.

    Returns:
        n_words, n_boundaries (a start and an end per word), the median absolute difference in ms,
        the fraction of boundaries within 20, 60 and 100 ms, `counts` and `reference`.
    """
    differences_ms = np.abs(pairs_N4[:, :2] - pairs_N4[:, 2:]).ravel() * 1000
    within = {
        f"within_{limit}ms": round(float(np.mean(differences_ms <= limit + _ROUNDING_MS)), 4)
        for limit in LIMITS_MS
    }
    return {
        "n_words": len(pairs_N4),
        "n_boundaries": len(differences_ms),
        "median_ms": round(float(np.median(differences_ms)), 2),
        **within,
        **counts,
        "reference": reference,
    }


def compare_words(words: pd.DataFrame, truth: pd.DataFrame) -> tuple[np.ndarray, dict]:
    """Compare our `words` table with that of the reference, on the utterances of ours.

    Returns:
        Pairs as for `summary`, and the number of reference utterances that are not aligned.

    Raises:
        HproError: no utterance of the reference is aligned, or the tables have different words for
            an utterance.
    """
    ours = words[words["utt_id"].isin(truth["utt_id"])]
    if ours.empty:
        raise HproError(
            f"no utterance with exact times is aligned (first: {truth['utt_id'].iloc[0]}): check "
            "align/rejected.parquet, or leave out its set"
        )
    both = ours.merge(truth, on=["utt_id", "word_index"], suffixes=("", "_reference"), how="left")
    wrong = both[both["word"] != both["word_reference"]]
    if len(wrong):
        row = wrong.iloc[0]
        raise HproError(
            f"{row.utt_id}, word {row.word_index}: aligned as {row.word!r}, but the reference has "
            f"{row.word_reference!r}: run the corpus stage and the alignment again"
        )
    columns = ["start_s", "end_s", "start_s_reference", "end_s_reference"]
    missing = truth["utt_id"].nunique() - ours["utt_id"].nunique()
    counts = {"n_utterances": ours["utt_id"].nunique(), "n_utterances_not_aligned": missing}
    return both[columns].to_numpy(), counts


def compare_textgrids(
    words: pd.DataFrame, reference_zip: Path, prefix: str
) -> tuple[np.ndarray, dict]:
    """Compare with a zip of TextGrids on the utterances that are in both.

    Args:
        words: our `words` table.
        reference_zip: zip of */<original id>.TextGrid.
        prefix: prefix of our utt_ids before the original id.

    Returns:
        Pairs as for `summary`, and the numbers of utterances and words without a counterpart.
        Words that the reference joined with a neighbour or normalised differently ("1844") have
        none.

    Raises:
        HproError: the zip cannot be read, or contains no utterance of ours.
    """
    ours = by_utterance(words)
    pairs: list[tuple[float, ...]] = []
    counts = {"n_utterances": 0, "n_utterances_not_aligned": 0, "n_words_unmatched": 0}
    for original_id, intervals in _textgrids(reference_zip):
        rows = ours.get(prefix + original_id)
        if rows is None:
            counts["n_utterances_not_aligned"] += 1
            continue
        counts["n_utterances"] += 1
        found = match_words(list(rows["word"]), intervals)
        counts["n_words_unmatched"] += found.count(None)
        times = rows[["start_s", "end_s"]].to_numpy()
        pairs += [
            (start_s, end_s, interval.start_s, interval.end_s)
            for (start_s, end_s), interval in zip(times, found, strict=True)
            if interval is not None
        ]
    if not pairs:
        raise HproError(
            f"{reference_zip} has no TextGrid of an aligned utterance: name its files "
            f"<id>.TextGrid, where our utt_id is {prefix}<id>"
        )
    return np.array(pairs), counts


def _textgrids(reference_zip: Path) -> Iterator[tuple[str, list[Interval]]]:
    """Yield original id and words of each TextGrid in a zip, sorted by id."""
    hint = "download the archive again, or leave it out"
    members = read_zip_members(reference_zip, None, _MAX_BYTES, hint)
    grids = {name: raw for name, raw in members.items() if name.endswith(".TextGrid")}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "one.TextGrid")
        for name in sorted(grids, key=lambda name: Path(name).stem):
            path.write_bytes(grids[name])
            try:
                intervals = read_words(path)
            except HproError as error:
                reason = str(error).replace(str(path), name)
                raise HproError(f"{reference_zip}: {reason}") from error
            yield Path(name).stem, intervals
