"""What the rewards say of their own trainings, to be set beside what the judges say.

A term that falls on dev while the judge of the same thing hears no difference has pleased the codec
and nobody else. Ours; the paper shows the judges alone.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from hpro_core.errors import HproError
from hpro_core.io import CURVES, checked, read_csv_table, read_json

COLUMNS = ("system", "start", "seed", "term", "weight", "share", "before", "after")

JUDGED_BY = {"asr": "wer", "wvad": "wvad_ccc", "ser": "emo_sim"}
"""Terms and the metric that judges the same thing with other models."""

TERM_NAMES = {
    "kl": "KL",
    "sp": "L_SP",
    "cp": "L_CP",
    "asr": "L_ASR",
    "wvad": "L_wVAD",
    "ser": "L_SER",
}


def read(root: Path, starts: Mapping[str, str], seeds: Sequence[int]) -> pd.DataFrame:
    """Read what every reward training wrote of its terms.

    Args:
        root: results folder of the run.
        starts: names of the variants, each with the policy that its training started from.
        seeds: of the trainings.

    Returns:
        COLUMNS, a row per variant, seed and term: its weight in the objective (0: dropped, and
        logged all the same), its share of the gradient before the first step, and its value on dev
        before the training and of the policy that was kept.

    Raises:
        HproError: a training's files are missing or hold no such figures.
    """
    rows = []
    for system, start in starts.items():
        for seed in seeds:
            folder = root / "policy" / system / f"seed{seed}"
            pulls, before, after = _of_training(folder, system, seed)
            for term in TERM_NAMES:
                pull = pulls[term]
                found = pull["weight"], pull["share"], before[term], after[term]
                rows.append([system, start, seed, term, *found])
    return pd.DataFrame(rows, columns=list(COLUMNS))


def trainings(told: pd.DataFrame) -> list[tuple[str, str]]:
    """Every variant with the policy that it started from, once."""
    pairs = zip(told["system"], told["start"], strict=True)
    return list(dict.fromkeys(pairs))


def changes(told: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """By system and term: by how much trainings changed it on dev, mean and deviation of seeds."""
    above = told.assign(above=told["after"] - told["before"])
    by_term = above.groupby(["system", "term"], sort=False)["above"]
    return by_term.mean(), by_term.std()


def shares(told: pd.DataFrame) -> str:
    """How strongly the terms pull, for people: a line per training, mean over seeds."""
    mean = told.groupby(["system", "term"], sort=False)["share"].mean()
    lines = [
        "| training | from | " + " | ".join(TERM_NAMES.values()) + " |",
        "|---|---|" + "---|" * len(TERM_NAMES),
    ]
    for system, start in trainings(told):
        cells = [f"{mean[system, term]:.1%}" for term in TERM_NAMES]
        lines.append(f"| {system} | {start} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _of_training(
    folder: Path, system: str, seed: int
) -> tuple[dict[str, dict[str, float]], dict[str, float], dict[str, float]]:
    """Pulls of the terms, and their dev values before and after."""
    again = f"run `hpro reward {system} --seed {seed}` again"
    path = folder / "gradient_norms.json"
    terms = read_json(path, again).get("terms")
    pulls = checked(terms, dict[str, dict[str, float]], f"{path}, terms", again)
    path = folder / "metrics.json"
    after = checked(read_json(path, again).get("dev"), dict[str, float], f"{path}, dev", again)
    curves = read_csv_table(folder / "training.csv", CURVES, ("split", "term"), again)
    first = curves[(curves["split"] == "dev") & (curves["step"] == 0)]
    before = dict(zip(first["term"], first["value"], strict=True))
    whole = {term for term, pull in pulls.items() if {"weight", "share"} <= pull.keys()}
    tables = (whole, before, after)
    if missing := [term for term in TERM_NAMES if any(term not in table for table in tables)]:
        raise HproError(
            f"{folder}: no figures of {', '.join(missing)} before and after the training: {again}"
        )
    return pulls, before, after
