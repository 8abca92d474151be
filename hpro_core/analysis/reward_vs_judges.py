"""Compare reward terms on dev with the judges' metrics for each reward training.

If a term falls on dev while the metric of the matching judge does not change, the policy improved
for the codec only. Ours; the paper reports the judges' metrics only.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from hpro_core.analysis.tables import markdown_table
from hpro_core.errors import HproError
from hpro_core.io import CURVES, check_type, read_csv_table, read_json

COLUMNS = ("system", "start", "seed", "term", "weight", "share", "before", "after")

JUDGED_BY = {"asr": "wer", "wvad": "wvad_ccc", "ser": "emo_sim"}
"""Reward term -> metric of the same property by independent models."""

TERM_NAMES = {
    "kl": "KL",
    "sp": "L_SP",
    "cp": "L_CP",
    "asr": "L_ASR",
    "wvad": "L_wVAD",
    "ser": "L_SER",
}


def read_terms(root: Path, starts: Mapping[str, str], seeds: Sequence[int]) -> pd.DataFrame:
    """Read the term values of every reward training; `starts`: variant -> its start policy.

    Returns:
        COLUMNS, one row per variant, seed and term: the weight in the objective (0: dropped but
        logged), the share of the gradient before the first step, the value on dev before training,
        and the value on dev of the kept policy.

    Raises:
        HproError: a training's files are missing or lack these values.
    """
    rows = []
    for system, start in starts.items():
        for seed in seeds:
            folder = root / "policy" / system / f"seed{seed}"
            gradients, before, after = _of_training(folder, system, seed)
            for term in TERM_NAMES:
                gradient = gradients[term]
                found = gradient["weight"], gradient["share"], before[term], after[term]
                rows.append([system, start, seed, term, *found])
    return pd.DataFrame(rows, columns=list(COLUMNS))


def trainings(terms: pd.DataFrame) -> list[tuple[str, str]]:
    """Return each variant and its start policy, once; `terms` is from `read_terms`."""
    pairs = zip(terms["system"], terms["start"], strict=True)
    return list(dict.fromkeys(pairs))


def changes(terms: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Change of each term on dev (after minus before): mean and standard deviation over seeds.

    Both are indexed by system and term; `terms` is from `read_terms`.
    """
    change = terms.assign(above=terms["after"] - terms["before"])
    by_term = change.groupby(["system", "term"], sort=False)["above"]
    return by_term.mean(), by_term.std()


def shares(terms: pd.DataFrame) -> str:
    """Markdown table of the gradient share of each term: one line per training, mean over seeds."""
    mean = terms.groupby(["system", "term"], sort=False)["share"].mean()
    rows = [
        [system, start, *(f"{mean[system, term]:.1%}" for term in TERM_NAMES)]
        for system, start in trainings(terms)
    ]
    return markdown_table(["training", "from", *TERM_NAMES.values()], rows)


def _of_training(
    folder: Path, system: str, seed: int
) -> tuple[dict[str, dict[str, float]], dict[str, float], dict[str, float]]:
    """Weight and gradient share of each term, and dev values before and after training."""
    again = f"delete {folder} and run Snakemake again"
    path = folder / "gradient_norms.json"
    stored = read_json(path, again).get("terms")
    gradients = check_type(stored, dict[str, dict[str, float]], f"{path}, terms", again)
    path = folder / "metrics.json"
    after = check_type(read_json(path, again).get("dev"), dict[str, float], f"{path}, dev", again)
    curves = read_csv_table(folder / "training.csv", CURVES, ("split", "term"), again)
    first = curves[(curves["split"] == "dev") & (curves["step"] == 0)]
    before = dict(zip(first["term"], first["value"], strict=True))
    complete = {
        term for term, gradient in gradients.items() if {"weight", "share"} <= gradient.keys()
    }
    tables = (complete, before, after)
    if missing := [term for term in TERM_NAMES if any(term not in table for table in tables)]:
        raise HproError(
            f"{folder}: no values of {', '.join(missing)} before and after training: {again}"
        )
    return gradients, before, after
