"""Simulated raters of a listening test, and the files that the page would save for them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import norm
from typer.testing import CliRunner

from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.corpus.audio import write_wav
from hpro_core.listening.answers import COLUMNS
from hpro_core.listening.commands import app
from hpro_core.listening.design import FORMAT, Design


@dataclass(frozen=True)
class Population:
    """Latent ratings: the system's level, plus normal deviations with these deviations.

    A rating is the latent value, rounded and clipped to 1 to 5.
    """

    levels: Mapping[str, float]
    rater: float = 0.5
    item: float = 0.4
    rater_system: float = 0.2
    item_system: float = 0.3
    noise: float = 0.7

    def true_mean(self, system: str) -> float:
        """Expected rating of a system over all raters and items."""
        spread = np.linalg.norm(
            [self.rater, self.item, self.rater_system, self.item_system, self.noise]
        )
        return 1 + float(norm.sf(np.arange(1.5, 5), self.levels[system], spread).sum())


class Deviations:
    """Deviations of raters and items, drawn once each."""

    def __init__(self, population: Population, generator: np.random.Generator) -> None:
        self._population, self._generator = population, generator
        self._drawn: dict[tuple, float] = {}

    def _of(self, spread: float, *key: object) -> float:
        if key not in self._drawn:
            self._drawn[key] = spread * self._generator.normal()
        return self._drawn[key]

    def latent(self, part: str, rater: int, utt_id: str, system: str) -> float:
        """Latent rating, with new noise at each call."""
        of = self._population
        return (
            of.levels[system]
            + self._of(of.rater, part, rater)
            + self._of(of.item, part, utt_id)
            + self._of(of.rater_system, part, rater, system)
            + self._of(of.item_system, part, utt_id, system)
            + of.noise * self._generator.normal()
        )


def rated(latent: np.ndarray) -> np.ndarray:
    """Ratings of latent values."""
    return np.clip(np.floor(latent + 0.5), 1, 5)


def answers_of(design: Design, rater: int, drawn: Deviations, attentive: bool = True) -> list[dict]:
    """Rows of the answers of a simulated rater."""
    rows = []
    for number, (part, clips) in enumerate(design.trials_of(rater), start=1):
        known = [design.clips[clip] for clip in clips]
        expected = design.expected(part, clips)
        if expected is not None:
            wrong = {"1": "2", "a": "b", "b": "a"}.get(expected, "1")
            answer = expected if attentive else wrong
        else:
            latent = [drawn.latent(part, rater, clip.utt_id, clip.system) for clip in known]
            if part == "preference":
                gap = latent[1] - latent[0]
                answer = "none" if abs(gap) < 0.3 else "ab"[int(gap > 0)]
            else:
                answer = str(int(rated(np.array(latent[0]))))
        rows.append({
            "trial": number, "part": part, "clip": clips[0], "clip_b": "".join(clips[1:]),
            "answer": answer, "plays": len(clips), "seconds": 4.2,
        })  # fmt: skip
    return rows


def write_csv(path: Path, design: Design, rater: int, rows: list[dict], session: str = "") -> Path:
    """Write answers as the page saves them in CSV."""
    head = {"test": design.test, "rater": rater, "session": session or f"{rater:016x}"}
    lines = [COLUMNS, *([str({**head, **row}[name]) for name in COLUMNS] for row in rows)]
    path.write_text(
        "".join(f"{','.join(line)}\r\n" for line in lines), encoding="utf-8", newline=""
    )
    return path


def write_json(path: Path, design: Design, rater: int, rows: list[dict], session: str = "") -> Path:
    """Write answers as the page saves them in JSON."""
    content = {
        "format": FORMAT, "test": design.test, "rater": rater,
        "session": session or f"{rater:016x}", "started": "2026-11-30T12:00:00.000Z",
        "saved": "2026-11-30T12:30:00.000Z", "answers": rows,
    }  # fmt: skip
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def spoken_folders(folder: Path, n_sentences: int) -> Path:
    """Write short audio of two systems, recordings, and their list with emotions."""
    generator = np.random.default_rng(0)
    rows = ["utterance,text,recording,emotion,test_set"]
    emotions = ("happy", "sad", "")
    for number in range(n_sentences):
        name = f"s{number:02d}"
        rows.append(
            f"{name},Sentence number {number}.,recordings/{name}.wav,"
            f"{emotions[number % 3]},{'first' if number % 2 else 'second'}"
        )
        for place, system in enumerate(("recordings", "one", "two")):
            (folder / system).mkdir(parents=True, exist_ok=True)
            time_T = np.arange(4800 + 320 * number) / SAMPLE_RATE_HZ
            tone_T = np.sin(2 * np.pi * (140 + 40 * place + number) * time_T)
            noise_T = generator.normal(size=len(time_T))
            write_wav(folder / system / f"{name}.wav", 0.2 * tone_T + 0.03 * noise_T)
    (folder / "list.csv").write_text("\n".join(rows) + "\n")
    return folder


def built(folder: Path, out: Path, *options: str) -> Path:
    """Build a listening test of `spoken_folders` by its command; returns its folder."""
    arguments = ["build", str(out), "--list", str(folder / "list.csv"), *options]
    for system in ("one", "two"):
        arguments += ["--audio", str(folder / system)]
    done = CliRunner().invoke(app, arguments)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return out
