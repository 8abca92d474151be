"""Sentences of the controlled language, spoken by synthesisers, for the reader `csv`.

Run by `make data/raw/synthesisers/metadata.csv`. No model of this project was trained on these
voices: flite's are built from recordings of four people, espeak-ng's are formant synthesis. The
sentences are of the split `test`, on which nothing is trained, and every voice has its own.
"""

import csv
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from hpro_core.corpus.controlled.sentences import sentences

PER_VOICE = 12
SEED = 30
"""Of the sentences (ours). Other seeds: the default run (0), claims (1 to 3)."""


class Voice(NamedTuple):
    """A voice: its name as speaker, and the command that speaks a text to a file."""

    speaker: str
    command: Callable[[str, Path], list[str]]


def flite(name: str) -> Voice:
    """A voice of flite."""
    return Voice(
        f"flite_{name}", lambda text, path: ["flite", "-voice", name, "-o", str(path), "-t", text]
    )


def espeak(speaker: str, name: str) -> Voice:
    """A voice of espeak-ng: an accent, or one with a variant of formants and voicing."""
    return Voice(
        f"espeak_{speaker}", lambda text, path: ["espeak-ng", "-v", name, "-w", str(path), text]
    )


VOICES = (
    *map(flite, ("awb", "kal16", "rms", "slt")),  # kal16: kal at 16 kHz
    espeak("us", "en-us"),
    espeak("us_f3", "en-us+f3"),
    espeak("scotland_m7", "en-gb-scotland+m7"),
)


def rows() -> list[dict[str, str]]:
    """The rows of metadata.csv: PER_VOICE sentences for each voice, all of them different."""
    texts = [sentence.text for sentence in sentences("test", PER_VOICE * len(VOICES), SEED)]
    speakers = [voice.speaker for voice in VOICES for _ in range(PER_VOICE)]
    return [
        {
            "utterance": f"{speaker}_{index % PER_VOICE:02d}",
            "speaker": speaker,
            "text": text,
            "audio": f"audio/{speaker}_{index % PER_VOICE:02d}.wav",
        }
        for index, (speaker, text) in enumerate(zip(speakers, texts, strict=True))
    ]


def main() -> None:
    """Write the corpus to the folder that is the only argument."""
    out = Path(sys.argv[1])
    for program in ("flite", "espeak-ng"):
        if shutil.which(program) is None:
            sys.exit(f"synthesisers: {program} is needed: apt-get install {program}")
    (out / "audio").mkdir(parents=True, exist_ok=True)
    commands = {voice.speaker: voice.command for voice in VOICES}
    table = rows()
    for row in table:
        path = out / row["audio"]
        subprocess.run(commands[row["speaker"]](row["text"], path), check=True)
        if not path.is_file():  # flite ends with 0 also for an unknown voice
            sys.exit(f"synthesisers: {row['speaker']} wrote no {path}")
    with (out / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)


if __name__ == "__main__":
    main()
