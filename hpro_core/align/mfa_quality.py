"""What MFA says about each alignment's quality (alignment_analysis.csv), and a filter on it.

Two of its columns are used, one value per utterance each. MFA's documentation explains them
(user_guide/implementations/alignment_analysis) and warns of both:

- speech_log_likelihood: the mean over the phones of their log-likelihood, without silence, after
  adaptation to the speaker. How well the words fit, but relative to speaker and recording.
- phone_duration_deviation: the largest |z| among the utterance's phones, of the logarithm of the
  duration against that phone in the whole run. Zero where all words are unknown (`spn`).
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
    """MFA's figures of one utterance; None where it gives none.

    Attributes:
        log_likelihood: mean per phone of speech, about -55; higher is better. An utterance of
            unknown words only has none.
        duration_deviation: largest |z| of a phone's log-duration, about 2; lower is better.
    """

    log_likelihood: float | None
    duration_deviation: float | None


def read_analysis(path: Path) -> dict[str, Quality]:
    """Read the file that MFA writes beside its TextGrids.

    Returns:
        utt_id -> figures.

    Raises:
        HproError: the file or a column is missing, a value is no number, or an utterance is twice.
    """
    if not path.is_file():
        raise HproError(f"MFA wrote no {path.name}: is it older than 3.3.9? See its log")
    lines = csv_lines(read_text(path, "align again"), f"MFA's {path.name}")
    columns = next((cells for _, cells in lines), [])
    for column in ("file", LOG_LIKELIHOOD, DEVIATION):
        if column not in columns:
            there = ", ".join(columns)
            raise HproError(f"MFA's {path.name} has no column {column!r} but: {there}")
    found: dict[str, Quality] = {}
    for _, cells in lines:
        row = dict(zip(columns, cells, strict=True))
        if row["file"] in found:
            raise HproError(f"MFA's {path.name} has {row['file']!r} twice")
        log_likelihood = _number(row, LOG_LIKELIHOOD, path)
        found[row["file"]] = Quality(log_likelihood, _number(row, DEVIATION, path))
    return found


def refusal(quality: Quality, settings: Align) -> str:
    """Why an utterance is rejected, with value and threshold; empty if it passes."""
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
