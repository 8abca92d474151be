"""MFA's quality figures of each alignment (alignment_analysis.csv), and a filter on them.

Two columns are used, with one value per utterance each. MFA's documentation describes them and
their limitations (user_guide/implementations/alignment_analysis):

- speech_log_likelihood: mean log-likelihood of the phones, without silence, after speaker
  adaptation. It measures the fit of the words, but depends on speaker and recording.
- phone_duration_deviation: the largest |z| among the utterance's phones, of the log-duration
  against that phone in the whole run. Zero if all words are unknown (`spn`).
"""

import math
from dataclasses import dataclass
from pathlib import Path

from hpro_core.errors import HproError
from hpro_core.io import csv_lines, read_text
from hpro_core.params import Align

ANALYSIS = "alignment_analysis.csv"
LOG_LIKELIHOOD = "speech_log_likelihood"
DEVIATION = "phone_duration_deviation"


@dataclass(frozen=True)
class Quality:
    """MFA's figures of one utterance; None if a value is missing."""

    log_likelihood: float | None  # mean of phones, about -55, higher is better; None: unknown words
    duration_deviation: float | None  # largest |z| of log-durations, about 2; lower is better


def read_analysis(path: Path) -> dict[str, Quality]:
    """Read the quality table that MFA writes beside its TextGrids.

    Returns:
        utt_id -> figures.

    Raises:
        HproError: the file or a column is missing, a value is not a number, or an utterance is a
            duplicate.
    """
    if not path.is_file():
        raise HproError(f"MFA wrote no {path.name}: use MFA 3.3.9 or later, and check its log")
    lines = csv_lines(read_text(path, "align again"), f"MFA's {path.name}")
    columns = next((cells for _, cells in lines), [])
    for column in ("file", LOG_LIKELIHOOD, DEVIATION):
        if column not in columns:
            there = ", ".join(columns)
            raise HproError(f"MFA's {path.name} has no column {column!r}; it has: {there}")
    found: dict[str, Quality] = {}
    for _, cells in lines:
        row = dict(zip(columns, cells, strict=True))
        if row["file"] in found:
            raise HproError(f"MFA's {path.name} has {row['file']!r} twice")
        log_likelihood = _number(row, LOG_LIKELIHOOD, path)
        found[row["file"]] = Quality(log_likelihood, _number(row, DEVIATION, path))
    return found


def refusal(quality: Quality, settings: Align) -> str:
    """Return why an utterance is rejected, with value and threshold; empty if it passes."""
    least, most = settings.mfa_min_log_likelihood, settings.mfa_max_duration_deviation
    if least is not None:
        value, limit = quality.log_likelihood, f"align.mfa_min_log_likelihood {least:g}"
        if value is None:
            return f"MFA gave no {LOG_LIKELIHOOD} ({limit})"
        if value < least:
            return f"MFA's {LOG_LIKELIHOOD} is too low ({value:.2f}, below {limit})"
    if most is not None:
        value, limit = quality.duration_deviation, f"align.mfa_max_duration_deviation {most:g}"
        if value is None:
            return f"MFA gave no {DEVIATION} ({limit})"
        if value > most:
            return f"MFA's {DEVIATION} is too high ({value:.2f}, above {limit})"
    return ""


def _number(row: dict[str, str], column: str, path: Path) -> float | None:
    text = row[column]
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        raise HproError(f"MFA's {path.name}: {column} of {row['file']!r} is {text!r}") from None
    return None if math.isnan(value) else value
