"""Data of the report's browser of sentences: an index, and one file per sentence.

A page opened from a disk may not read files, but may run scripts: the files beside the page are
JSON in a function call, `hproSentence({...})`, and the page loads that of a sentence when it is
chosen. The audio of some sentences is in the page itself.
"""

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from hpro_core.constants import EMOTIONS, SAMPLE_RATE_HZ, VAD
from hpro_core.errors import HproError
from hpro_core.io import read_wav, write_text
from hpro_core.judges.asr import WordErrorCounter
from hpro_core.judges.prosody import FRAME_RATE_HZ, contours
from hpro_core.report import reward_model
from hpro_core.report.figures import METRIC_NAMES, PERCENT
from hpro_core.report.samples import (
    MP3_URI,
    Sample,
    System,
    choose_sentences,
    rows_by_id,
    shared_sentences,
    system_sample,
)
from hpro_core.tables import EMOTION_POSTERIORS, UTTERANCES, WORD_VAD, read_table

FOLDER = "sentences"
"""Folder of the files beside the page."""

EMBEDDED_BYTES = 2_800_000
"""Most audio in the page itself, as base64 (ours: the page stays below 5 MB)."""

METRICS = ("wer", "wvad_ccc", "emo_sim", "dnsmos", "speaker_sim", "f0_corr", "energy_corr")
"""Metrics by which the browser orders sentences."""

_EVERY = 2  # frames of pitch and level are kept
CONTOUR_HZ = FRAME_RATE_HZ // _EVERY


@dataclass(frozen=True)
class Labels:
    """Where the labels of a run are from, in words for the page."""

    words: str  # of the words of real speech, such as "weak label"
    emotion: str  # of the emotion of real speech
    exact: Collection[str]  # test sets with exact labels

    def kind(self, test_set: str) -> str:
        """Describe the word labels of a test set."""
        return "exact label" if test_set in self.exact else self.words


@dataclass(frozen=True)
class Browser:
    """What the page itself holds of the sentences."""

    index: str  # JSON, safe inside <script>
    embedded: list[tuple[Sample, str]]  # sentences with audio in the page, and their JSON
    n: int  # all sentences
    chosen: int  # sentences that `report.samples` asks for


class Gap(NamedTuple):
    """A difference by which the browser orders sentences: of one system minus another."""

    name: str
    system: str
    baseline: str


class Orders(NamedTuple):
    """What the browser can order sentences by, beside the systems' own scores."""

    metrics: Sequence[str] = METRICS
    gaps: Sequence[Gap] = ()
    start: str = "hpro"  # system that is shown first


@dataclass(frozen=True)
class _Sources:
    """Tables of the run, by utt_id."""

    roots: Mapping[str, Path]  # results folder by system
    utterances: Mapping[str, Mapping[Any, Any]]
    label_vad: Mapping[str, list[list[float]]]
    emotions: Mapping[str, str]  # most probable emotion by the labels
    times: Mapping[str, Mapping[str, list[list[float]]]]  # of words, by system, then utt_id
    judged_vad: Mapping[str, Mapping[str, list[list[float]]]]  # by system, then utt_id
    reward_vad: Mapping[str, Mapping[str, list[list[float]]]]  # by system, then utt_id
    labels: Labels


def write_browser(
    root: Path,
    systems: Sequence[System],
    per_set: int,
    labels: Labels,
    external: Collection[str] = (),
    first_sets: Sequence[str] = (),
) -> Browser:
    """Write the file of each sentence; return the index and the sentences of the page itself.

    Systems of this project define the sentences; an external one that lacks a sentence is left out
    there.

    Args:
        root: results folder of the run; the files are in report/sentences.
        systems: all systems, in the order of the page.
        per_set: number of sentences per test set that have their audio in the page, as far as
            EMBEDDED_BYTES allows.
        labels: origin of the labels.
        external: names of systems that are not of this project.
        first_sets: test sets in the order of the page.

    Raises:
        HproError: a table or an audio file is missing, or the systems share no sentence.
    """
    own = [system for system in systems if system.name not in external]
    shared = shared_sentences(own or systems)
    sets = {u: str((own or list(systems))[0].synthesis[u]["corpus"]) for u in shared}
    ordered = sorted(shared, key=lambda u: (_place(sets[u], first_sets), u))
    sets = {utt_id: sets[utt_id] for utt_id in ordered}
    chosen = choose_sentences(ordered, sets, per_set)
    return write_sentences(root / "report", root, systems, ordered, chosen, labels, Orders())


def write_sentences(
    page: Path,
    root: Path,
    systems: Sequence[System],
    ordered: Sequence[str],
    chosen: Sequence[str],
    labels: Labels,
    orders: Orders,
) -> Browser:
    """Write the files of given sentences beside a page, as `write_browser` does.

    Args:
        page: folder of the page; the files are in sentences/ there.
        root: results folder with corpus, word times, labels and reward model.
        systems: systems in the order of the page, of one or several runs.
        ordered: utt_ids in the order of the page.
        chosen: those with their audio in the page, as far as EMBEDDED_BYTES allows.
        labels: origin of the labels.
        orders: metrics of the browser, and differences that it orders by.

    Raises:
        HproError: a table or an audio file is missing.
    """
    sources = _read_sources(root, ordered, systems, labels)
    embedded: list[tuple[Sample, str]] = []
    n_bytes = 0
    counter = WordErrorCounter()
    for utt_id in dict.fromkeys([*chosen, *ordered]):
        sample = _sample(sources, systems, utt_id, counter)
        size = sum(len(take.audio) for take in sample.systems)
        inside = utt_id in chosen and (not embedded or n_bytes + size <= EMBEDDED_BYTES)
        if inside:
            n_bytes += size
            embedded.append((sample, script_json(_sentence(sources, sample, audio=False))))
        else:
            content = _json(_sentence(sources, sample, audio=True))
            write_text(page / FOLDER / f"{utt_id}.js", f"hproSentence({content});\n")
    index = _index(sources, systems, ordered, [sample.utt_id for sample, _ in embedded], orders)
    return Browser(script_json(index), embedded, len(ordered), len(chosen))


def script_json(content: Any) -> str:
    """Encode as JSON that cannot end the <script> element that it is in."""
    return _json(content).replace("<", "\\u003c")


def _json(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _read_sources(
    root: Path, utt_ids: Sequence[str], systems: Iterable[System], labels: Labels
) -> _Sources:
    only = {"utt_id": list(utt_ids)}
    utterances = rows_by_id(root / "corpus" / "utterances.parquet", UTTERANCES, only)
    if unknown := [utt_id for utt_id in utt_ids if utt_id not in utterances]:
        raise HproError(
            f"corpus/utterances.parquet lacks {unknown[0]}, which was judged: run "
            "`hpro synthesise` and `hpro judge` again"
        )
    edges = ("start_s", "end_s")
    times = {s.name: _by_word(s.words, edges) for s in systems if s.words is not None}
    label_vad = read_table(root / "label" / "word_vad.parquet", WORD_VAD, only)
    emotions = read_table(root / "label" / "emotion_posteriors.parquet", EMOTION_POSTERIORS, only)
    names = np.array(EMOTIONS)[emotions[list(EMOTIONS)].to_numpy(float).argmax(axis=1)]
    return _Sources(
        roots={system.name: system.root for system in systems},
        utterances=utterances,
        label_vad=_by_word(label_vad, VAD),
        emotions=dict(zip(emotions["utt_id"], names.tolist(), strict=True)),
        times=times,
        judged_vad={s.name: _by_word(s.word_vad, VAD) for s in systems if s.word_vad is not None},
        reward_vad=_reward_vad(systems, times),
        labels=labels,
    )


def _reward_vad(
    systems: Iterable[System], times: Mapping[str, Mapping[str, list[list[float]]]]
) -> dict[str, dict[str, list[list[float]]]]:
    """Affect of words by each run's reward model, of utterances with tokens and word times."""
    by_run: dict[Path, dict[str, reward_model.Spoken]] = {}
    for system in systems:
        if system.tokens is not None and system.name in times:
            found = times[system.name]
            by_run.setdefault(system.root, {})[system.name] = {
                utt_id: (tokens, np.array(found[utt_id]))
                for utt_id, tokens in system.tokens[["utt_id", "tokens"]].itertuples(index=False)
                if utt_id in found
            }
    vad: dict[str, dict[str, list[list[float]]]] = {}
    for root, spoken in by_run.items():
        vad |= reward_model.word_vad(root / "codec" / "style", spoken)
    return vad


def _by_word(table: pd.DataFrame, columns: Sequence[str]) -> dict[str, list[list[float]]]:
    """utt_id -> the columns of each word, rounded to milliseconds or thousandths."""
    ordered = table.sort_values(["utt_id", "word_index"])
    values = ordered[list(columns)].to_numpy(float).round(3).tolist()
    found: dict[str, list[list[float]]] = {}
    for utt_id, row in zip(ordered["utt_id"], values, strict=True):
        found.setdefault(utt_id, []).append(row)
    return found


def _sample(
    sources: _Sources, systems: Sequence[System], utt_id: str, counter: WordErrorCounter
) -> Sample:
    utterance = sources.utterances[utt_id]
    reference = counter.count(utterance["text"], utterance["text"]).transcript
    return Sample(
        utt_id=utt_id,
        corpus=utterance["corpus"],
        speaker=utterance["speaker"],
        text=utterance["text"],
        systems=[
            system_sample(system, utt_id, reference)
            for system in systems
            if utt_id in system.scores
        ],
    )


def _sentence(sources: _Sources, sample: Sample, audio: bool) -> dict[str, Any]:
    """The content of a sentence's file; without the audio if the page has it."""
    utterance = sources.utterances[sample.utt_id]
    takes = []
    for take in sample.systems:
        content: dict[str, Any] = {
            "system": take.system,
            "diff": take.word_diff,
            "errors": take.n_errors,
            "times": sources.times.get(take.system, {}).get(sample.utt_id),
            "vad": sources.judged_vad.get(take.system, {}).get(sample.utt_id),
            "reward": sources.reward_vad.get(take.system, {}).get(sample.utt_id),
            **_contours(sources.roots[take.system] / take.path),
        }
        if audio:
            content["audio"] = take.audio.removeprefix(MP3_URI)
        takes.append(content)
    return {
        "id": sample.utt_id,
        "words": utterance["words"].split(),
        "label": sources.label_vad.get(sample.utt_id),
        "labelKind": sources.labels.kind(sample.corpus),
        "takes": takes,
    }


def _contours(path: Path) -> dict[str, list[int | None]]:
    """F0 in Hz (null: unvoiced) and level in dB of full scale, CONTOUR_HZ values per second."""
    found = contours(read_wav(path, SAMPLE_RATE_HZ, "run `hpro synthesise` again"))
    pitch = 100 * 2 ** (found.pitch_st_F[::_EVERY] / 12)
    return {
        "f0": [None if math.isnan(value) else round(value) for value in pitch.tolist()],
        "level": [round(value) for value in found.level_db_F[::_EVERY].tolist()],
    }


def _index(
    sources: _Sources,
    systems: Sequence[System],
    ordered: Sequence[str],
    embedded: Sequence[str],
    orders: Orders,
) -> dict[str, Any]:
    return {
        "systems": [{"name": system.name, "style": system.style} for system in systems],
        "gaps": [gap.name for gap in orders.gaps],
        "start": orders.start,
        "metrics": [
            {
                "key": metric,
                "name": METRIC_NAMES[metric].rstrip(" ↓↑"),
                "lower": METRIC_NAMES[metric].endswith("↓"),
                "percent": metric in PERCENT,
            }
            for metric in orders.metrics
        ],
        "contourHz": CONTOUR_HZ,
        "folder": FOLDER,
        "embedded": list(embedded),
        "sentences": [_entry(sources, systems, utt_id, orders) for utt_id in ordered],
    }


def _entry(
    sources: _Sources, systems: Sequence[System], utt_id: str, orders: Orders
) -> dict[str, Any]:
    utterance = sources.utterances[utt_id]
    by_name = {system.name: system for system in systems}
    own = utterance["emotion"]
    of_corpus = isinstance(own, str)
    return {
        "id": utt_id,
        "set": utterance["corpus"],
        "speaker": utterance["speaker"],
        "text": utterance["text"],
        "emotion": own if of_corpus else sources.emotions.get(utt_id, ""),
        "emotionKind": "intended" if of_corpus else sources.labels.emotion,
        "scores": [
            [
                *(score(system.scores.get(utt_id), metric) for system in systems),
                *(
                    gap_of(by_name[gap.system], by_name[gap.baseline], utt_id, metric)
                    for gap in orders.gaps
                ),
            ]
            for metric in orders.metrics
        ],
    }


def gap_of(system: System, baseline: System, utt_id: str, metric: str) -> float | None:
    """Difference of two systems in a metric of one utterance; None if either was not judged."""
    own, other = (score(each.scores.get(utt_id), metric) for each in (system, baseline))
    return None if own is None or other is None else round(own - other, 3)


def score(row: Mapping[Any, Any] | None, metric: str) -> float | None:
    """A metric of one utterance, rounded to thousandths; None if it was not judged."""
    if row is None:
        return None
    value = row["n_errors"] / row["n_words"] if metric == "wer" else row[metric]
    return None if value is None or pd.isna(value) else round(float(value), 3)


def _place(name: str, order: Sequence[str]) -> int:
    return list(order).index(name) if name in order else len(order)
