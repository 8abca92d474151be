"""The sentences of a comparison that can be listened to, by every system of every run."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from hpro_core.compare.differences import seed_pairs
from hpro_core.compare.runs import RECORDINGS, Run, Shared
from hpro_core.io import check_type
from hpro_core.report import listen
from hpro_core.report.limitations import label_kinds
from hpro_core.report.samples import System, by_turns, evenly_spaced, load_system

STYLES = ("s-sft", "s-hpro", "s-frame", "s-word", "s-other")
"""Classes of the colours of the runs, in order."""


def write_browser(
    runs: Sequence[Run],
    systems: Sequence[str],
    headline: str,
    shared: Shared,
    metrics: Sequence[str],
    out: Path,
    samples: int,
) -> listen.Browser:
    """Sentences by every system of every run, among them the best, median and worst difference."""
    ordered = [headline, *(name for name in systems if name not in (headline, RECORDINGS))]
    takes, gaps = [], []
    if RECORDINGS in systems:
        takes.append(load_system(runs[0].root, RECORDINGS, runs[0].seeds[0]))
    for name in ordered:
        of_runs = [
            _renamed(load_system(run.root, name, _first_seed(runs, run)), run, style, metrics)
            for run, style in zip(runs, styles(len(runs)), strict=True)
        ]
        takes += of_runs
        gaps += [
            listen.Gap(f"{name}: {run.name} − {runs[0].name}", other.name, of_runs[0].name)
            for run, other in zip(runs[1:], of_runs[1:], strict=True)
        ]
    by_name = {take.name: take for take in takes}
    chosen = _chosen_sentences(
        shared.test_sets,
        (by_name[gaps[0].system], by_name[gaps[0].baseline]),
        "wvad_ccc" if "wvad_ccc" in metrics else "wer",
        samples,
    )
    labels = _labels(runs[0], list(dict.fromkeys(shared.test_sets.values())))
    kept = [utt_id for utt_id in shared.test_sets if utt_id in set(chosen)]
    orders = listen.Orders(metrics, gaps)
    return listen.write_sentences(out, runs[0].root, takes, kept, chosen, labels, orders)


def _first_seed(runs: Sequence[Run], run: Run) -> int:
    """The seed of a run that is heard: that of the first pair with the first run."""
    first, other = seed_pairs(runs[0].seeds, run.seeds)[0]
    return first if run is runs[0] else other


def styles(n: int) -> list[str]:
    return [STYLES[min(place, len(STYLES) - 1)] for place in range(n)]


def _renamed(system: System, run: Run, style: str, metrics: Sequence[str]) -> System:
    """A system under its name on the page; without word affect if that cannot be compared."""
    vad = system.word_vad if "wvad_ccc" in metrics else None
    return dataclasses.replace(system, name=f"{system.name}, {run.name}", style=style, word_vad=vad)


def _chosen_sentences(
    test_sets: Mapping[str, str], pair: tuple[System, System], metric: str, n: int
) -> list[str]:
    """Up to `n` sentences per test set, evenly spaced from the lowest to the highest difference.

    By WER where the metric was not judged.
    """
    by_set = []
    for test_set in dict.fromkeys(test_sets.values()):
        ids = [utt_id for utt_id, name in test_sets.items() if name == test_set]
        for by in (metric, "wer"):
            gaps = {utt_id: listen.gap_of(*pair, utt_id, by) for utt_id in ids}
            if any(gap is not None for gap in gaps.values()):
                break
        compared = [(gap, utt_id) for utt_id, gap in gaps.items() if gap is not None]
        by_set.append(evenly_spaced([utt_id for _, utt_id in sorted(compared)], n))
    return by_turns(by_set)


def _labels(run: Run, test_sets: Sequence[str]) -> listen.Labels:
    label = check_type(run.settings.get("label"), dict, f"{run.root}, label")
    return label_kinds(run.root, test_sets, label["vad_teacher"], label["emotion_teacher"])
