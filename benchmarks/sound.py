"""Quality of each part of the way from speech tokens to audio (docs/speech_tokens.md).

Judges recordings, the vocoders on the recordings' own mel frames, and tokens decoded to audio:
`python benchmarks/sound.py results/embedded --split dev --clips 24`.

DNSMOS and DistillMOS predict mean opinion scores, 1 to 5. WER is that of Whisper tiny.en. The
speaker embedding of `tokenrecon` is that of another utterance of the speaker, the same in every
run. Times are those of one thread.
"""

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.judges import asr, distillmos, dnsmos
from hpro_core.speech.crops import read_audio
from hpro_core.speech.decoder import TokenDecoder
from hpro_core.speech.sound_crops import token_files
from hpro_core.tables import SPEECH_TOKENS, UTTERANCES, read_table

Clip = Mapping[str, Any]
"""A row of UTTERANCES with its samples `audio_T`, its `tokens` and the `reference` embedding."""
MOST_WINDOWS = 3  # of DNSMOS


def clips_of(root: Path, split: str, per_corpus: int) -> list[Clip]:
    """Choose utterances of each corpus, evenly spaced in the order of their names.

    Speakers with a single utterance in the split are left out, for they have no reference.
    """
    rows = read_table(root / "corpus/utterances.parquet", UTTERANCES, only={"split": [split]})
    tokens = pd.concat([read_table(path, SPEECH_TOKENS) for path in token_files(root)])
    rows = rows.merge(tokens, on="utt_id", validate="one_to_one").sort_values("utt_id")
    chosen: list[Clip] = []
    for _, among in rows.groupby("corpus"):
        among = among[among.groupby("speaker")["utt_id"].transform("size") > 1]
        places = np.linspace(0, len(among) - 1, min(per_corpus, len(among))).round().astype(int)
        for row in among.iloc[places].to_dict("records"):
            own = (among["speaker"] == row["speaker"]) & (among["utt_id"] != row["utt_id"])
            others = among.loc[own, "speaker_embedding"]
            reference = np.asarray(others.iloc[len(chosen) % len(others)], dtype=np.float32)
            audio_T = read_audio(root / row["audio"])
            chosen.append({**row, "audio_T": audio_T, "reference": reference})
    return chosen


def systems_of(root: Path) -> dict[str, Callable[[Clip], np.ndarray]]:
    """Functions from a clip to audio, float32 (T,)."""
    decoder = TokenDecoder.load(root / "speech/tokenizer")
    griffin_lim = TokenDecoder(decoder.tokenizer)

    def copied(of: TokenDecoder, clip: Clip) -> np.ndarray:
        mel_FM = of.frontend.analyse(torch.from_numpy(clip["audio_T"]))
        return of.audio(mel_FM).numpy()

    def decoded(of: TokenDecoder, clip: Clip) -> np.ndarray:
        return of.decode([clip["tokens"]], [clip["reference"]])[0]

    found: dict[str, Callable[[Clip], np.ndarray]] = {
        "recordings": lambda clip: clip["audio_T"],
        "own mel, Griffin-Lim": lambda clip: copied(griffin_lim, clip),
        "tokenrecon, Griffin-Lim": lambda clip: decoded(griffin_lim, clip),
    }
    if decoder.vocoder is not None:
        found["own mel, vocoder"] = lambda clip: copied(decoder, clip)
        found["tokenrecon, vocoder"] = lambda clip: decoded(decoder, clip)
    return found


class Judges:
    """The judges of quality and words, on one thread."""

    def __init__(self, weights: Path):
        self._dnsmos = dnsmos.Dnsmos(weights / "dnsmos", threads=1)
        self._distillmos = distillmos.load_distillmos(weights / "distillmos")
        self._asr = asr.WhisperASR(weights / "whisper_tiny_en", threads=1)
        self._counter = asr.WordErrorCounter()

    def scores(self, clip: Clip, audio_T: np.ndarray) -> dict[str, float]:
        """Scores of one clip; word errors as counts."""
        errors = self._counter.count(clip["text"], self._asr.transcribe(audio_T))
        return {
            "dnsmos": self._dnsmos.score(audio_T, MOST_WINDOWS).ovrl,
            "distillmos": distillmos.score(self._distillmos, audio_T),
            "n_errors": errors.n_errors,
            "n_words": errors.n_words,
        }


def measured(root: Path, split: str, per_corpus: int, weights: Path) -> pd.DataFrame:
    """Mean scores of every system and corpus."""
    judges, clips = Judges(weights), clips_of(root, split, per_corpus)
    rows = []
    for name, system in systems_of(root).items():
        system(clips[0])  # the first call allocates
        for clip in clips:
            before = time.process_time()
            audio_T = system(clip)
            seconds = time.process_time() - before
            timed = {"seconds": seconds, "length_s": len(audio_T) / SAMPLE_RATE_HZ}
            named = {"system": name, "corpus": clip["corpus"]}
            rows.append(named | timed | judges.scores(clip, audio_T))
        print(f"{name}: {len(clips)} clips", flush=True)
    by = pd.DataFrame(rows).groupby(["corpus", "system"], sort=False)
    sums = by[["seconds", "length_s", "n_errors", "n_words"]].sum()
    means = by[["dnsmos", "distillmos"]].mean()
    return pd.DataFrame(
        {
            "clips": by.size(),
            "dnsmos": means["dnsmos"].round(2),
            "distillmos": means["distillmos"].round(2),
            "wer_percent": (100 * sums["n_errors"] / sums["n_words"]).round(1),
            "real_time_factor": (sums["seconds"] / sums["length_s"]).round(3),
        }
    ).reset_index()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path, help="results folder of a run")
    parser.add_argument("--split", default="dev", help="dev for choices, test for a table")
    parser.add_argument("--clips", type=int, default=24, help="clips per corpus")
    parser.add_argument("--weights", type=Path, default=Path("weights"))
    parser.add_argument("--csv", type=Path, help="file to write besides")
    options = parser.parse_args()
    torch.set_num_threads(1)
    table = measured(options.root, options.split, options.clips, options.weights)
    print(table.to_string(index=False))
    if options.csv is not None:
        table.to_csv(options.csv, index=False)


if __name__ == "__main__":
    main()
