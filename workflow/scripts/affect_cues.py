"""What the judge's word V/A/D follows in real speech: loudness, pitch, rate, and minimal pairs.

    python -m workflow.scripts.affect_cues results/embedded acted

Prints two tables as Markdown (docs/judges.md), over the `test` recordings of a set of a finished
run. The first has rank correlations with cues of a word within its utterance. The second has pairs
of a recording and a copy that differs in one cue: how the mean of the words changes.
Letters: T samples, F frames, W words, 3 valence, arousal and dominance.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soxr

from hpro_core.constants import SAMPLE_RATE_HZ, VAD
from hpro_core.judges import affect
from hpro_core.judges.prosody import FRAME_RATE_HZ, contours
from hpro_core.judges.realignment import read_wav
from hpro_core.progress import track
from hpro_core.tables import UTTERANCES, WORDS, by_utterance, read_table

LEAST_WORDS = 5
"""Words of an utterance that a rank correlation needs (ours)."""
_WINDOW, _SEARCH = 640, 160  # samples: 40 ms, and 10 ms on either side

CUES = ("level", "pitch", "pitch range", "letters per second")


def stretched(audio_T: np.ndarray, factor: float) -> np.ndarray:
    """Change the tempo by waveform-similarity overlap-add (Verhelst and Roelands 1993).

    Args:
        audio_T: float (T,).
        factor: above 1 for faster speech.
    """
    half, fade = _WINDOW // 2, np.hanning(_WINDOW)
    padded_T = np.pad(audio_T, (0, 4 * _WINDOW))
    made_T = np.zeros(int(len(audio_T) / factor) + 2 * _WINDOW)
    weight_T = np.zeros_like(made_T)
    starts = np.arange(0, len(audio_T) - _WINDOW - _SEARCH, half * factor).astype(int)
    used = 0
    for index, start in enumerate(starts):
        if index:
            following = padded_T[used + half : used + half + _WINDOW]
            first = max(0, start - _SEARCH)
            near = padded_T[first : start + _SEARCH + _WINDOW]
            used = first + int(np.correlate(near, following, "valid").argmax())
        made_T[index * half : index * half + _WINDOW] += padded_T[used : used + _WINDOW] * fade
        weight_T[index * half : index * half + _WINDOW] += fade
    return (made_T / np.maximum(weight_T, 1e-3))[: len(starts) * half].astype(np.float32)


def raised(audio_T: np.ndarray, semitones: float) -> np.ndarray:
    """Raise pitch and formants at the same tempo."""
    factor = 2 ** (semitones / 12)
    slower_T = stretched(audio_T, 1 / factor)
    return soxr.resample(slower_T, SAMPLE_RATE_HZ, SAMPLE_RATE_HZ / factor).astype(np.float32)


def louder(audio_T: np.ndarray, decibels: float) -> np.ndarray:
    """Change the level."""
    return (audio_T * 10 ** (decibels / 20)).astype(np.float32)


PAIRS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "+6 dB": lambda audio_T: louder(audio_T, 6),
    "-6 dB": lambda audio_T: louder(audio_T, -6),
    "a quarter faster": lambda audio_T: stretched(audio_T, 1.25),
    "a fifth slower": lambda audio_T: stretched(audio_T, 0.8),
    "+3 semitones": lambda audio_T: raised(audio_T, 3),
    "-3 semitones": lambda audio_T: raised(audio_T, -3),
    "overlap-add alone": lambda audio_T: stretched(audio_T, 1.0),
}


def cues_of(audio_T: np.ndarray, words: list[str], spans_W2: np.ndarray) -> dict[str, np.ndarray]:
    """Cues of each word, (W,); NaN where a word has no voiced frames."""
    pitch_st_F, level_db_F = contours(audio_T)
    rows = []
    for word, (start_s, end_s) in zip(words, spans_W2, strict=True):
        frames = slice(
            int(start_s * FRAME_RATE_HZ), max(int(end_s * FRAME_RATE_HZ), int(start_s * 100) + 1)
        )
        level_db = 10 * np.log10(np.mean(10 ** (level_db_F[frames] / 10)))
        voiced = pitch_st_F[frames][~np.isnan(pitch_st_F[frames])]
        pitch = (voiced.mean(), np.ptp(voiced)) if len(voiced) > 2 else (np.nan, np.nan)
        rows.append((level_db, *pitch, len(word) / max(end_s - start_s, 0.05)))
    return dict(zip(CUES, np.array(rows).T, strict=True))


def rank_correlation(first_W: np.ndarray, second_W: np.ndarray) -> float | None:
    """Spearman's rank correlation; None with too few words that have both, or a constant."""
    both = ~np.isnan(first_W) & ~np.isnan(second_W)
    ranks = [np.argsort(np.argsort(values_W[both])) for values_W in (first_W, second_W)]
    if both.sum() < LEAST_WORDS:
        return None
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path, help="results/<run>")
    parser.add_argument("corpus", help="a set that the judge was trained on, or has a scale of")
    chosen = parser.parse_args()
    judge = affect.load(chosen.root / "judge")
    judge.scales = affect.read_scales(chosen.root / "judge" / "recordings" / affect.SCALES)
    utterances = read_table(chosen.root / "corpus" / "utterances.parquet", UTTERANCES)
    used = utterances[(utterances["corpus"] == chosen.corpus) & (utterances["split"] == "test")]
    timed = by_utterance(read_table(chosen.root / "align" / "words.parquet", WORDS))
    related: dict[tuple[str, str], list[float]] = defaultdict(list)
    changes: dict[str, list[np.ndarray]] = defaultdict(list)
    kept = [row for row in used.to_dict("records") if row["utt_id"] in timed]
    for row in track(kept, len(kept), "recordings"):
        words = timed[row["utt_id"]]
        spans_W2 = words[["start_s", "end_s"]].to_numpy(dtype=np.float64)

        def words_vad(audio_T: np.ndarray, spans_W2: np.ndarray) -> np.ndarray:
            spans = [(float(start_s), float(end_s)) for start_s, end_s in spans_W2]
            return judge.judge(chosen.corpus, affect.input_features(audio_T), spans)[1]

        audio_T = read_wav(chosen.root / row["audio"])
        vad_W3 = words_vad(audio_T, spans_W2)
        for cue, values_W in cues_of(audio_T, list(words["word"]), spans_W2).items():
            for index, dimension in enumerate(VAD):
                found = rank_correlation(vad_W3[:, index], values_W)
                if found is not None:
                    related[cue, dimension].append(found)
        for pair, change in PAIRS.items():
            copy_T = change(audio_T)
            moved_W3 = words_vad(copy_T, spans_W2 * len(copy_T) / len(audio_T))
            changes[pair].append(moved_W3.mean(axis=0) - vad_W3.mean(axis=0))
    counts = [len(found) for found in related.values()]
    print(f"{len(kept)} recordings, {min(counts)} to {max(counts)} of {LEAST_WORDS} words or more")
    print("| | " + " | ".join(VAD) + " |\n" + "|---" * (len(VAD) + 1) + "|")
    for cue in CUES:
        means = [f"{np.mean(related[cue, dimension]):.2f}" for dimension in VAD]
        print(f"| {cue} | " + " | ".join(means) + " |")
    print("\n| copy | " + " | ".join(f"{d}, rises in" for d in VAD) + " |")
    print("|---" * (len(VAD) + 1) + "|")
    for pair, differences in changes.items():
        moved_N3 = np.array(differences)
        cells = [
            f"{mean:+.3f}, {share:.0%}"
            for mean, share in zip(moved_N3.mean(axis=0), (moved_N3 > 0).mean(axis=0), strict=True)
        ]
        print(f"| {pair} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
