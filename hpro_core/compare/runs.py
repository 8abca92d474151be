"""Runs to compare: their folders, settings, systems, scores and test sentences."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from hpro_core.analysis.tables import Scores, read_scores
from hpro_core.errors import HproError, did_you_mean
from hpro_core.io import check_type, read_text, read_yaml
from hpro_core.judges.provenance import JudgeProvenance, common_provenance
from hpro_core.params import SEEDLESS
from hpro_core.records import SUMS
from hpro_core.tables import UTTERANCES, read_table

RESULTS = Path("results")
"""Folder of the runs, in the folder of the project."""

RECORDINGS = "recordings"

SETTINGS = "params/report.yaml"
"""Key file of a run that has all of its settings."""

DEPENDS_ON = "depends_on"
"""Section of a key file that holds no settings."""

STAGES = {
    "corpus": "corpus/utterances.parquet",
    "align": "align/words.parquet",
    "label": "label/emotion_posteriors.parquet",
    "speech": "speech/speech_tokens.parquet",
    "dataset": "dataset/test.parquet",
    "judge": "judge/metrics.json",
}
"""Stage -> a file that it makes, in the order of the workflow; policy and eval follow."""

_JUDGED = ("synthesis.parquet", "scores.parquet", "metrics.json")
_NEEDED = ("corpus", "align", "label")


SettingT = TypeVar("SettingT")


@dataclass(frozen=True)
class Run:
    """A finished run."""

    name: str
    root: Path
    settings: Mapping[str, Any]
    code: Mapping[str, str]  # key file -> hash of the code of its command
    seeds: Sequence[int]
    external: Sequence[str]
    systems: Sequence[str]  # judged ones, those of the tables first

    def is_policy(self, system: str) -> bool:
        """Whether a system is a policy of this project, with training seeds."""
        return system not in SEEDLESS and system not in self.external

    def setting(self, section: str, name: str, kind: type[SettingT]) -> SettingT:
        """Return one setting of a section.

        Raises:
            HproError: the run has no such setting, or it is of another type.
        """
        where = f"{self.root / SETTINGS}, {section}.{name}"
        found = check_type(self.settings.get(section, {}), dict, where)
        return check_type(found.get(name), kind, where)

    def scores(self, systems: Sequence[str]) -> Scores:
        """Read the scores of some systems, one table per seed.

        Raises:
            HproError: as `read_scores`.
        """
        return read_scores(self.root, systems, self.seeds, self.external)

    def provenance(self, systems: Sequence[str]) -> JudgeProvenance:
        """Read the judges of some systems.

        Raises:
            HproError: different models judged the systems of the run.
        """
        return common_provenance([
            self.root / "eval" / system / f"seed{seed}" / "metrics.json"
            for system in systems
            for seed in (self.seeds if self.is_policy(system) else self.seeds[:1])
        ])  # fmt: skip


def named_runs(given: Sequence[str]) -> dict[str, Path]:
    """Parse runs of the form RUN or NAME=RUN, where RUN is a folder or a name below results/.

    Returns:
        Name, by default that of the folder -> results folder.

    Raises:
        HproError: there are fewer than two, a run is missing or given twice, or a name is a
            duplicate or not usable.
    """
    if len(given) < 2:
        raise HproError("name two runs or more, such as: hpro compare embedded other")
    found: dict[str, Path] = {}
    for text in given:
        before, equals, after = text.partition("=")
        root = _folder(text if not after or os.path.isdir(text) else after)
        name = (
            before
            if equals and after and not os.path.isdir(text)
            else Path(os.path.abspath(root)).name
        )
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
            raise HproError(
                f"{text}: {name!r} is not usable as the name of a run (letters, digits, '_', '.', "
                "'-'): give NAME=RUN"
            )
        for other, path in found.items():
            if path.resolve() == root.resolve():
                raise HproError(f"{other} and {text} are the same run: name two runs")
        if name in found:
            raise HproError(
                f"{found[name]} and {root} are both named {name!r}: give them names, such as "
                f"before={found[name]} after={root}"
            )
        found[name] = root
    return found


def _folder(text: str) -> Path:
    """The results folder that a person named."""
    if "/" not in text and text not in ("", ".", ".."):
        path = RESULTS / text
        if path.is_dir() or not os.path.isdir(text):
            if not path.is_dir():
                known = sorted(p.name for p in RESULTS.glob("*") if (p / "params").is_dir())
                raise HproError(
                    f"no run {text!r} in {RESULTS}/ ({', '.join(known) or 'none'})"
                    f"{did_you_mean(text, known)}"
                )
            return path
    if not text or not os.path.isdir(text):
        raise HproError(f"{text!r} is not a folder: name a run of {RESULTS}/, or its folder")
    return Path(text)


def read_run(name: str, root: Path) -> Run:
    """Read what is known about a run.

    Raises:
        HproError: the run is not finished; the message names the stage and its command.
    """
    again = "run `snakemake --cores all` with the settings of this run"
    path = root / SETTINGS
    if not path.is_file():
        raise HproError(f"{path} does not exist, which has the settings of the run: {again}")
    settings = read_yaml(path, again)
    settings.pop(DEPENDS_ON, None)
    seeds = check_type(settings.get("seeds"), list[int], f"{path}, seeds", again)
    external = check_type(settings.get("external", {}), dict[str, str], f"{path}, external", again)
    tables = check_type(settings.get("tables"), dict[str, list[str]], f"{path}, tables", again)
    if not seeds:
        raise HproError(f"{path} has no seeds: {again}")
    named = dict.fromkeys([*(name for rows in tables.values() for name in rows), *external])
    run = Run(name, root, settings, _code(root), seeds, list(external), list(named))
    _check_finished(run)
    more = sorted(path.name for path in (root / "eval").iterdir() if path.name not in named)
    judged = [system for system in more if not list(_missing(run, system))]
    return Run(name, root, settings, run.code, seeds, list(external), [*named, *judged])


def _code(root: Path) -> dict[str, str]:
    """Hash of the code by key file."""
    found = {}
    for path in sorted((root / "params").glob("*.yaml")):
        depends_on = read_yaml(path).get(DEPENDS_ON)
        code = depends_on.get("code") if isinstance(depends_on, dict) else None
        if isinstance(code, str):
            found[path.stem] = code
    return found


def _missing(run: Run, system: str) -> Iterable[str]:
    """Yield the files of a system that the evaluation has not made, relative to the run."""
    for seed in run.seeds if run.is_policy(system) else run.seeds[:1]:
        for file in _JUDGED:
            name = f"eval/{system}/seed{seed}/{file}"
            if not (run.root / name).is_file():
                yield name


def _check_finished(run: Run) -> None:
    """Refuse a run that lacks scores of a system of its tables, or what they are shown with."""
    lacking = [STAGES[stage] for stage in _NEEDED if not (run.root / STAGES[stage]).is_file()]
    lacking += [name for system in run.systems for name in _missing(run, system)]
    if not lacking:
        return
    files = [
        *STAGES.items(),
        *(
            ("policy", f"policy/{system}/seed{seed}/model.safetensors")
            for system in run.systems
            if run.is_policy(system)
            for seed in run.seeds
        ),
        *(("eval", name) for name in lacking if name.startswith("eval/")),
    ]
    stage, name = next((s, name) for s, name in files if not (run.root / name).is_file())
    raise HproError(
        f"{run.root} is not finished: the stage {stage} has not made {name}: run "
        f"`snakemake --cores all -- phase_{stage}` with the settings of this run, then "
        "`snakemake --cores all`"
    )


@dataclass(frozen=True)
class Shared:
    """Test sentences that all runs have."""

    test_sets: Mapping[str, str]  # utt_id, sorted -> test set
    n_own: Mapping[str, int]  # run -> number of its test sentences
    n_other: int  # ids of all runs whose text or recording is not the same in all


def shared_sentences(runs: Sequence[Run], scores: Sequence[Scores]) -> Shared:
    """Find the sentences that all runs have: the same id, test set, text and recording.

    Args:
        runs: at least one run.
        scores: their scores, for the same systems.

    Raises:
        HproError: there is none.
    """
    of_runs = [_sentences(run, own) for run, own in zip(runs, scores, strict=True)]
    ids = sorted(set.intersection(*(set(each) for each in of_runs)))
    same = [utt_id for utt_id in ids if len({each[utt_id] for each in of_runs}) == 1]
    n_own = {run.name: len(each) for run, each in zip(runs, of_runs, strict=True)}
    if not same:
        sizes = ", ".join(f"{run.root} has {n_own[run.name]}" for run in runs)
        raise HproError(
            f"the runs have no test sentence in common ({sizes}; {len(ids)} have the same id, but "
            "another text or recording): compare runs with the same corpora and corpus.splits"
        )
    return Shared(
        test_sets={utt_id: of_runs[0][utt_id][0] for utt_id in same},
        n_own=n_own,
        n_other=len(ids) - len(same),
    )


def _sentences(run: Run, scores: Scores) -> dict[str, tuple[str, str, str]]:
    """utt_id -> test set, text, and SHA-256 of the recording ("" if it is not known)."""
    judged = sorted({utt_id for tables in scores.values() for utt_id in tables[0]["utt_id"]})
    path = run.root / "corpus" / "utterances.parquet"
    table = read_table(path, UTTERANCES, {"utt_id": judged})
    sums = _recordings(run.root)
    return {
        str(row["utt_id"]): (row["corpus"], row["text"], sums.get(row["audio"], ""))
        for row in table.to_dict("records")
    }


def _recordings(root: Path) -> dict[str, str]:
    """SHA-256 of each recording, by its path in the run, as the lists beside them say."""
    found = {}
    for sums in sorted(root.glob(f"corpus/*/{SUMS}")):
        folder = (sums.parent / "audio").relative_to(root).as_posix()
        for line in read_text(sums).splitlines():
            digest, _, name = line.partition("  ")
            found[f"{folder}/{name.removeprefix('./')}"] = digest
    return found
