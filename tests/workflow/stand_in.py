#!/usr/bin/env -S python3 -S
"""A fast `hpro` for tests of the workflow: writes what a command writes, made of hashes.

The content of an output is a hash of the command, its settings, the code of its room without
comments, and the files that the real command reads. So two result folders are equal exactly when
nothing in them is stale. Training curves get a random line, as real TensorBoard files do.

While there is a file `hold/<command>`, the command waits, after it has made `hold/<command>.waits`.
"""

import hashlib
import os
import sys
import time
from itertools import pairwise
from pathlib import Path

ROOMS = {
    "corpus-read": "corpus", "corpus-render": "corpus", "corpus-split": "corpus",
    "align": "align", "align-check": "align",
    "label": "label", "tokenizer": "speech", "tokenize": "speech", "vocoder": "speech",
    "dataset": "dataset.py",
    "codec-content": "codec", "codec-style": "codec", "sft": "policy", "reward": "reward",
    "synthesise": "synthesis", "judge-train": "judges", "judge-recordings": "judges",
    "judge": "judges", "tables": "analysis", "report": "report", "base-take": "pretrained",
}  # fmt: skip
PLACES = {
    "tokenizer": "speech/tokenizer", "vocoder": "speech/vocoder", "codec": "codec/style",
    "policy": "policy/base", "judge": "judge",
}  # fmt: skip
"""Where a run keeps the models of a base."""


def main() -> None:
    command, *rest = sys.argv[1:]
    if (hold := Path("hold", command)).exists():
        partial = hold.with_suffix(".partial")
        partial.write_text(str(os.getpid()))
        partial.rename(hold.with_suffix(".waits"))  # so that nobody reads half of it
    while hold.exists():
        time.sleep(0.02)
    options = dict(pairwise(rest))
    name = rest[0] if rest and not rest[0].startswith("--") else ""
    root, seed = Path(options["--root"]), options.get("--seed", "0")
    read, written = files_of(command, name, seed, root, options)
    digest = hashlib.sha256(f"{command} {name} {seed}".encode())
    if "--params" in options:
        digest.update(settings_of(Path(options["--params"])).encode())
    digest.update(code_of(ROOMS[command]).encode())
    for path in sorted(read):
        digest.update(path.read_bytes())
    for path in written:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content_of(path, digest.hexdigest(), judged(root)))
    recorded = (path for path in written if path.suffix != ".wav" and not is_summary(path))
    for folder in {path.parent for path in recorded}:
        (folder / f"record_{command}.json").write_text(digest.hexdigest())
    if any(path.name == "training.csv" for path in written):
        board = written[0].parent / "tensorboard"
        board.mkdir(parents=True, exist_ok=True)
        (board / "events").write_bytes(os.urandom(8))
    with Path("logs/made").open("ab", buffering=0) as done:
        done.write(f"{command} {name}".strip().encode() + b"\n")


def files_of(
    command: str, name: str, seed: str, root: Path, options: dict[str, str]
) -> tuple[list[Path], list[Path]]:
    """What a command reads and writes."""
    splits = [root / f"dataset/{split}.parquet" for split in ("train", "dev", "test")]
    mapped = [path.with_suffix(".arrow") for path in splits]
    utterances = root / "corpus/utterances.parquet"
    words = root / "align/words.parquet"
    labels = [root / "label/emotion_posteriors.parquet", root / "label/word_vad.parquet"]
    recordings = list(root.glob("corpus/*/audio/*.wav"))
    truth = list(root.glob("corpus/*/truth_*.parquet"))
    tokenizer = root / "speech/tokenizer/model.safetensors"
    tokens = root / "speech/speech_tokens.parquet"
    vocoder = root / "speech/vocoder/model.safetensors"
    policy = root / f"policy/{name}/seed{seed}"
    spoken = root / f"eval/{name}/seed{seed}"
    judge = root / "judge"
    recorded = [judge / "recordings" / label.name for label in labels]
    match command:
        case "corpus-read" | "corpus-render":
            folder = root / "corpus" / name
            tables = ["utterances.parquet", "rejected.parquet"]
            raw = []
            if command == "corpus-render":
                tables += [f"truth_{kind}.parquet" for kind in ("words", "vad", "emotion")]
                tables.append("again_words.parquet")
            else:
                raw = [p for p in Path("data/raw").rglob("*") if p.is_file()]
            clips = [folder / f"audio/{name}_{i}.wav" for i in range(2)]
            return raw, [*(folder / table for table in tables), *clips]
        case "base-take":
            base = Path(options["--base"])
            return [*model(base / name), base / "SHA256SUMS"], model(root / PLACES[name])
        case "corpus-split":
            made = [utterances, root / "corpus/rejected.parquet"]
            return list(root.glob("corpus/*/utterances.parquet")), made
        case "align":
            made = [words, root / "align/rejected.parquet", root / "align/textgrids/a.TextGrid"]
            return [utterances, *recordings], made
        case "align-check":
            return [utterances, words, *truth], [root / "align/accuracy.json"]
        case "label":
            return [utterances, words, *recordings, *truth], labels
        case "tokenizer":
            return [utterances, words, *recordings], trained(tokenizer.parent)
        case "tokenize":
            return [utterances, *recordings, tokenizer], [tokens]
        case "vocoder":
            return [utterances, *recordings, tokenizer, tokens], trained(vocoder.parent)
        case "dataset":
            made = [*splits, *mapped, root / "dataset/rejected.parquet"]
            return [utterances, words, *labels, tokens], made
        case "codec-content":
            return [*splits[:2], *mapped[:2]], trained(root / "codec/content")
        case "codec-style":
            content = root / "codec/content/model.safetensors"
            return [*splits[:2], *mapped[:2], content], trained(root / "codec/style")
        case "sft":
            policy = root / f"policy/sft/seed{seed}"
            start = [Path(options["--start"]) / "model.safetensors"] if "--start" in options else []
            return [*splits[:2], *mapped[:2], *start], [*trained(policy), policy / "metrics.json"]
        case "reward":
            start = start_of(Path(options["--params"]))
            models = [root / "codec/style/model.safetensors"]
            models += [root / f"policy/{p}/seed{seed}/model.safetensors" for p in ("sft", start)]
            made = [*trained(policy), policy / "metrics.json", policy / "gradient_norms.json"]
            return [*splits[:2], *mapped[:2], *models], made
        case "synthesise":
            made = [spoken / "synthesis.parquet", spoken / "tokens.parquet"]
            if name == "recordings":
                return [splits[2], mapped[2], *recordings], made
            models = [tokenizer, vocoder]
            models += [] if name == "tokenrecon" else [policy / "model.safetensors"]
            made += [spoken / "audio/a.wav", spoken / "audio/b.wav"]
            return [splits[2], splits[0], mapped[2], mapped[0], *models], made
        case "judge-train":
            return [utterances, words, *truth, *recordings], model(judge)
        case "judge-recordings":
            read = [*model(judge), utterances, words, *truth, *recordings]
            return read, [judge / "metrics.json", judge / "recordings/scales.json", *recorded]
        case "judge":
            clips = list(spoken.glob("audio/*.wav"))
            heard = [*model(judge), *recorded, words, spoken / "synthesis.parquet", *clips]
            tables = ("scores", "emotion_posteriors", "word_vad", "words")
            made = [spoken / f"{name}.parquet" for name in tables]
            return [*heard, *recordings], [*made, spoken / "metrics.json"]
        case "tables":
            names = ("comparison", "progressive", "ablation")
            out = Path(options.get("--out", root / "tables"))
            made = [out / f"{n}.{kind}" for n in names for kind in ("csv", "md")]
            made += [out / f"metrics/acted/{path.parts[-3]}.json" for path in judged(root)]
            made += [out / f"{n}.csv" for n in ("differences", "by_emotion", "by_speaker")]
            return [*judged(root), utterances], [*made, out / "confusion.csv"]
        case "report":
            curves = [root / "codec/style/training.csv", *root.glob("tables/*.csv")]
            read = [*judged(root), *curves, *labels, *splits, utterances, words]
            return read, [root / "report/index.html", root / "report/sentences/a.js"]
    raise SystemExit(f"stand-in: unknown command {command}")


def content_of(path: Path, digest: str, systems: list[Path]) -> str:
    """The hash; where DVC reads numbers, also one, in the form of the real file."""
    if is_summary(path):
        made = path.parents[3] / f"eval/{path.stem}/seed0/metrics.json"
        digest = hashlib.sha256(made.read_bytes()).hexdigest()
    value = int(digest[:8], 16) / 16**8
    if is_summary(path):
        return f'{{"wer": {value}}}\n'
    match path.name:
        case "metrics.json":
            figures = f'{{"acted": {{"wer": {{"value": {value}}}}}}}'
            return f'{{"made": "{digest}", "test_sets": {figures}}}\n'
        case "training.csv":
            return f"step,split,term,value,made\n0,dev,loss,{value},{digest}\n"
        case "comparison.csv" | "progressive.csv" | "ablation.csv":
            metrics = ("wer", "wvad_ccc", "emo_sim", "dnsmos")
            columns = [f"{metric}{end}" for metric in metrics for end in ("", "_lo", "_hi")]
            figures = ",".join(str(value) for _ in columns)
            rows = [f"{p.parts[-3]},acted,{figures},{digest}" for p in systems]
            return "\n".join([f"system,test_set,{','.join(columns)},made", *rows]) + "\n"
    return f"{path.name} {digest}\n"


def is_summary(path: Path) -> bool:
    """Whether a file is of tables/metrics, which DVC reads as a whole."""
    return path.parts[-3] == "metrics"


def trained(folder: Path) -> list[Path]:
    return [*model(folder), folder / "training.csv"]


def model(folder: Path) -> list[Path]:
    return [folder / name for name in ("model.safetensors", "config.json")]


def judged(root: Path) -> list[Path]:
    """Of the systems in every default table; more may lie there."""
    systems = ("recordings", "tokenrecon", "sft", "frame", "word", "hpro", "diffro", "joint")
    return [root / f"eval/{system}/seed0/metrics.json" for system in systems]


def settings_of(key: Path) -> str:
    """The settings in a key file, without what it says of code and shell line."""
    kept, skipping = [], False
    for line in key.read_text().splitlines():
        if not line.startswith((" ", "-")):
            skipping = line == "depends_on:"
        if not skipping:
            kept.append(line)
    return "\n".join(kept)


def start_of(key: Path) -> str:
    lines = key.read_text().splitlines()
    return next(x.split(":")[1].strip() for x in lines if x.strip().startswith("start:"))


def code_of(room: str) -> str:
    """The source of a room without whole-line comments."""
    package = Path(__file__).resolve().parents[2] / "hpro_core" / room
    files = [package] if package.is_file() else sorted(package.rglob("*.py"))
    lines = [line for file in files for line in file.read_text().splitlines()]
    return "\n".join(line for line in lines if not line.lstrip().startswith("#"))


main()
