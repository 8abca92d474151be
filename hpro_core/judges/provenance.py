"""Judge provenance: the models that judged a system, as recorded in its metrics.json.

Scores of different judges are never compared.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hpro_core.errors import HproError
from hpro_core.io import check_type, read_json

JUDGES, TEACHER_JUDGES, AFFECT_NOTES = "judges", "judged_by_teachers", "affect_notes"
"""Keys of metrics.json; the last one only if there is a note."""

_KEYS = (JUDGES, TEACHER_JUDGES, AFFECT_NOTES)


@dataclass(frozen=True)
class JudgeProvenance:
    """Models that judged a system."""

    judges: Mapping[str, str]  # model name and SHA-256, by what the model judges
    teacher_judges: Mapping[str, str]  # metric -> judge that made the rewards' labels too
    affect_notes: Mapping[str, str] = field(default_factory=dict)
    """Test set that the affect judge was not trained on -> how, or why not, it judged the set."""


def to_json(provenance: JudgeProvenance) -> dict[str, dict[str, str]]:
    """Convert to the entries of metrics.json."""
    found = {JUDGES: dict(provenance.judges), TEACHER_JUDGES: dict(provenance.teacher_judges)}
    if provenance.affect_notes:
        found[AFFECT_NOTES] = dict(provenance.affect_notes)
    return found


def read_provenance(path: Path) -> JudgeProvenance:
    """Read the judges of a system from its metrics.json.

    Raises:
        HproError: the file is missing or does not name the judges.
    """
    found = read_json(path)
    if JUDGES not in found or TEACHER_JUDGES not in found:
        raise HproError(
            f"{path} does not name the judges: run `hpro judge` again for this system and seed"
        )
    again = "run `hpro judge` again for this system and seed"
    found.setdefault(AFFECT_NOTES, {})
    names = (check_type(found[key], dict[str, str], f"{path}, {key}", again) for key in _KEYS)
    return JudgeProvenance(*names)


def common_provenance(paths: Sequence[Path]) -> JudgeProvenance:
    """Read the judges of at least one system from its metrics.json; they are the same for all.

    Raises:
        HproError: different models judged the systems, or a file does not name them.
    """
    first, *others = [read_provenance(path) for path in paths]
    for path, provenance in zip(paths[1:], others, strict=True):
        if provenance != first:
            raise HproError(
                f"{path} and {paths[0]} are of different judges "
                f"({_difference(provenance, first)}): run `hpro judge` again for the outdated one"
            )
    return first


def independence_warnings(provenance: JudgeProvenance, names: Mapping[str, str]) -> list[str]:
    """Return one warning sentence for each judge that is not independent; `names` are of metrics.

    Every table shows these sentences next to its values.
    """
    return [
        f"{names[metric]} is not independent here: {judge} judged it and also made the labels that "
        "the rewards are trained on (docs/judges.md)."
        for metric, judge in provenance.teacher_judges.items()
    ]


def _difference(one: JudgeProvenance, other: JudgeProvenance) -> str:
    for key in sorted(one.judges.keys() | other.judges.keys()):
        if one.judges.get(key) != other.judges.get(key):
            return f"{key}: {one.judges.get(key)}, and {other.judges.get(key)}"
    if one.affect_notes != other.affect_notes:
        return f"affect: {dict(one.affect_notes)}, and {dict(other.affect_notes)}"
    return (
        f"judges that were teachers: {dict(one.teacher_judges)}, and {dict(other.teacher_judges)}"
    )
