"""The sentences of a comparison that can be listened to, by every system of every run."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from hpro_core.compare.differences import seed_pairs
from hpro_core.compare.runs import RECORDINGS, Run, Shared
from hpro_core.io import read_text
from hpro_core.records import SUMS
from hpro_core.report import listen
from hpro_core.report.limitations import label_kinds
from hpro_core.report.samples import System, by_turns, evenly_spaced, load_system

STYLES = ("s-sft", "s-hpro", "s-frame", "s-word", "s-other")
"""Classes of the colours of the runs, in order."""


def write_browser(
    runs: Sequence[Run],
    systems: Sequence[str],
    shared: Shared,
    metrics: Sequence[str],
    out: Path,
    samples: int,
) -> listen.Browser:
    """Write sentences by every system of every run, from the lowest to the highest difference.

    A system whose audio is the same in all runs is there once.

    Args:
        runs: two or more runs.
        systems: systems in the order of the page; the first one chooses the sentences.
        shared: sentences that all runs have.
        metrics: metrics that can be compared.
        out: folder of the page.
        samples: number of sentences per test set.
    """
    takes: list[System] = []
    gaps: list[listen.Gap] = []
    for name in systems:
        of_runs = [load_system(run.root, name, _shown_seed(runs[0], run)) for run in runs]
        if _same_audio(of_runs):
            takes.append(of_runs[0])
            continue
        of_runs = [
            _renamed(system, run, style, metrics)
            for system, run, style in zip(of_runs, runs, styles(len(runs)), strict=True)
        ]
        takes += of_runs
        gaps += [
            listen.Gap(f"{name}: {run.name} − {runs[0].name}", system.name, of_runs[0].name)
            for run, system in zip(runs[1:], of_runs[1:], strict=True)
        ]
    chosen = _chosen_sentences(
        shared.test_sets,
        {take.name: take for take in takes},
        gaps[:1],
        "wvad_ccc" if "wvad_ccc" in metrics else "wer",
        samples,
    )
    labels = _labels(runs[0], list(dict.fromkeys(shared.test_sets.values())))
    shown = frozenset(chosen)
    kept = [utt_id for utt_id in shared.test_sets if utt_id in shown]
    orders = listen.Orders(metrics, gaps, gaps[0].system if gaps else systems[0])
    return listen.write_sentences(out, runs[0].root, takes, kept, chosen, labels, orders)


def _same_audio(of_runs: Sequence[System]) -> bool:
    """Whether the audio of a system is the same in all runs; the recordings are."""
    paths = [each.root / "eval" / each.name / f"seed{each.seed}" / SUMS for each in of_runs]
    return of_runs[0].name == RECORDINGS or len({read_text(path) for path in paths}) == 1


def _shown_seed(first: Run, run: Run) -> int:
    """The seed of a run whose audio is shown: that of its first pair with the first run."""
    return seed_pairs(first.seeds, run.seeds)[0][1]


def styles(n: int) -> list[str]:
    return [STYLES[min(place, len(STYLES) - 1)] for place in range(n)]


def _renamed(system: System, run: Run, style: str, metrics: Sequence[str]) -> System:
    """A system under its name on the page; without word affect if that cannot be compared."""
    vad = system.word_vad if "wvad_ccc" in metrics else None
    return dataclasses.replace(system, name=f"{system.name}, {run.name}", style=style, word_vad=vad)


def _chosen_sentences(
    test_sets: Mapping[str, str],
    takes: Mapping[str, System],
    gaps: Sequence[listen.Gap],
    metric: str,
    n: int,
) -> list[str]:
    """Up to `n` sentences per test set, evenly spaced from the lowest to the highest difference.

    By WER where the metric was not judged; in the order of their ids where nothing differs.
    """
    by_set = []
    for test_set in dict.fromkeys(test_sets.values()):
        ids = [utt_id for utt_id, name in test_sets.items() if name == test_set]
        for gap, by in ((gap, by) for gap in gaps for by in (metric, "wer")):
            pair = takes[gap.system], takes[gap.baseline]
            found = {utt_id: listen.gap_of(*pair, utt_id, by) for utt_id in ids}
            known = sorted((value, u) for u, value in found.items() if value is not None)
            if known:
                ids = [utt_id for _, utt_id in known]
                break
        by_set.append(evenly_spaced(ids, n))
    return by_turns(by_set)


def _labels(run: Run, test_sets: Sequence[str]) -> listen.Labels:
    teachers = [run.setting("label", f"{what}_teacher", str) for what in ("vad", "emotion")]
    return label_kinds(run.root, test_sets, teachers[0], teachers[1])
