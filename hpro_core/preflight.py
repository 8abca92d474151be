"""`hpro preflight`: checks the external inputs of a run before the first job.

All checks are made and listed; a failed one names the action to take. Files are inspected, not
loaded: `hpro corpus check` reads a whole corpus, and the stages check each weight.
"""

import importlib.util
import shlex
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from hpro_core.align.mfa_models import Model, required_models
from hpro_core.align.mfa_program import ENVIRONMENT, program
from hpro_core.corpus.readers import csv_folder
from hpro_core.corpus.readers.about import LFS_POINTER
from hpro_core.corpus.readers.lssed import TRANSCRIPTS
from hpro_core.corpus.readers.registry import PUBLISHED, detect_reader
from hpro_core.corpus.recording import metadata_faults, summary
from hpro_core.corpus.walk import folders
from hpro_core.errors import HproError
from hpro_core.io import open_binary, safetensors_header, sha256_of
from hpro_core.judges.files import WHISPER_SHA256, all_affect_published, published_judge_files
from hpro_core.label.files import affect_models
from hpro_core.params import Params
from hpro_core.plan.cost_table import GIGA, estimate_costs
from hpro_core.plan.costs import PEAK_MEMORY_GB, POLICY_PARAMETERS
from hpro_core.pretrained.base import FILES, SUMS, read_checksums
from hpro_core.pretrained.weights import WeightFile, weight_files
from hpro_core.synthesis.external import files_by_sentence

Status = Literal["ok", "note", "FAIL"]

MEASURED_S = 8 * 6.0
"""Seconds of speech in the micro-batch for which the memory of a reward step was measured."""
AUDIO = (".wav", ".flac", ".mp3", ".ogg")
TOKENIZER = ("vocab.json", "merges.txt", "tokenizer_config.json")
MIN_BYTES = {"llm.pt": 2 * POLICY_PARAMETERS}
"""File -> size of its weights at 16 bits each, in bytes."""
PACKAGES = {"s3tokenizer": "s3tokenizer", "cosyvoice": "token2wav-cosyvoice"}
"""Module -> package, for CosyVoice2's tokenizer and decoder."""
LICENCES = {
    "CosyVoice2-0.5B": "Apache-2.0 (FunAudioLLM/CosyVoice): no restriction for a run",
    "the authors' codec": "Apache-2.0 (XXH333/HD-EMO): no restriction for a run",
    "Whisper": "MIT (openai/whisper): no restriction for a run",
    "audeering's model": "CC BY-NC-SA 4.0: no commercial use",
    "emotion2vec": "its own: read its model card",
    "WavLM": "that of microsoft/UniSpeech: read its model card",
    "NISQA": "weights CC BY-NC-SA 4.0: no commercial use",
}


@dataclass(frozen=True)
class Check:
    """One check: `finding` is the finding and, for a failure, the action to take."""

    status: Status
    what: str
    finding: str


def checks(settings: Params, weights: Path) -> list[Check]:
    """Make all checks of a run, in the order in which the run uses the inputs.

    `weights` is the folder of the judges' weights.
    """
    found = [*_corpora(settings), *_external(settings), *_judging(settings), *_models(settings)]
    found += [
        *_packages(settings),
        *_judges_weights(weights),
        *_aligner(settings),
        _disk(settings),
        _gpu(settings),
    ]
    return [*found, *_licences(settings)]


def format_checks(found: Sequence[Check]) -> Iterator[str]:
    """Yield a line for each check."""
    return (f"{check.status:<4}  {check.what}: {check.finding}" for check in found)


def _tried(what: str, examine: Callable[[], str], then: str = "") -> Check:
    """The check `what`: ok with the result of `examine`, failed if it raises an HproError."""
    try:
        return Check("ok", what, examine())
    except HproError as error:
        return Check("FAIL", what, str(error).removeprefix(f"{what} ") + then)


def _corpora(settings: Params) -> Iterator[Check]:
    for name, chosen in settings.corpus.sets.items():
        reader = chosen.texts or chosen.reader
        if reader != "controlled":
            yield _tried(f"corpus.sets.{name} ({reader})", partial(_corpus, reader, chosen.path))


def _external(settings: Params) -> Iterator[Check]:
    for name, folder in settings.external.items():
        yield _tried(f"external.{name}: {folder}", partial(_audio_of_system, Path(folder)))


def _audio_of_system(folder: Path) -> str:
    _, files = files_by_sentence(folder, ())
    return f"{len(files)} audio files"


def _corpus(reader: str, folder: str) -> str:
    """Description of the content of a corpus folder; HproError if a check fails."""
    path = Path(folder)
    source = f": {PUBLISHED[reader].INFO.source}" if reader in PUBLISHED else ""
    if not folder or not path.exists():
        raise HproError(f"{folder!r} does not exist: set the path{source}")
    if path.is_file():
        _check_file(path)
        return f"{path}, {path.stat().st_size / GIGA:.2f} GB"
    if reader == "csv":
        found = list(csv_folder.read(path))
        if problems := metadata_faults(found):
            raise HproError(summary(problems))
        return f"{path}: {len(found)} utterances; `hpro corpus check {path}` decodes all of them"
    if reader not in PUBLISHED:
        _check_file(path / "metadata.csv")
        return f"{path} has a metadata.csv"
    patterns = PUBLISHED[reader].INFO.patterns
    if not any(next(path.glob(pattern), None) for pattern in patterns):
        raise HproError(
            f"{path} is not this corpus ({' or '.join(patterns)} not found); {_other(path)}{source}"
        )
    if reader == "lssed":
        _check_file(path / TRANSCRIPTS)
    for file in sorted(each for each in path.glob("[!.]*") if each.is_file()):
        _check_file(file)
    sound = _first_audio(path)
    if sound is None:
        raise HproError(f"{path} has no audio ({', '.join(AUDIO)}): extract the archives")
    _check_file(sound)
    return f"{path} is recognised; `hpro corpus check {path}` reads all of it"


def _other(path: Path) -> str:
    try:
        return f"it matches {detect_reader(path)}"
    except HproError:
        return "it matches no other reader"


def _first_audio(path: Path) -> Path | None:
    for _, entries in folders(path):
        for entry in entries:
            hidden = entry.name.startswith(".") or entry.is_dir()
            if entry.name.lower().endswith(AUDIO) and not hidden:
                return Path(entry.path)
    return None


def _judging(settings: Params) -> Iterator[Check]:
    """Checks of the judges' training data; `Params` checks the judge of a base."""
    sets = settings.corpus.sets
    if settings.base or all_affect_published(settings.evaluate):
        return
    rendered = {name: each.split for name, each in sets.items() if each.reader == "controlled"}
    n_judge, what = settings.controlled.judge, "exact labels for the affect judge"
    if any(split == "judge" or (not split and n_judge > 1) for split in rendered.values()):
        yield Check("ok", what, "from a controlled corpus")
    else:
        finding = "none: add {reader: controlled, path: '', split: judge} to corpus.sets and raise "
        yield Check("FAIL", what, f"{finding}controlled.judge")
    for name, split in rendered.items():
        if not split and not n_judge:
            what = f"recordings of {name} for the affect judge"
            finding = "none, so its affect would not be judged: raise controlled.judge"
            yield Check("FAIL", what, finding)
    tested = [name for name, each in sets.items() if not each.split and name not in rendered]
    if tested:
        finding = (
            "will be empty: the affect judge of the run is trained on rendered speech and not "
            "graded on real speech (docs/judges.md). For these columns set evaluate.emotion and "
            "evaluate.vad"
        )
        yield Check("note", f"wVAD-CCC and EMO-SIM on {', '.join(tested)}", finding)


def _models(settings: Params) -> Iterator[Check]:
    """Checks of the user's model files: inputs of rules, and files that are loaded with them."""
    for path in dict.fromkeys(_user_model_files(settings)):
        yield _tried(str(path), partial(_check_file, path))


def _user_model_files(settings: Params) -> Iterator[Path]:
    if settings.speech.preset == "cosyvoice2":
        for name in ("speech_tokenizer_v2.onnx", "campplus.onnx", "flow.pt", "hift.pt"):
            yield Path(settings.speech.path, name)
    if settings.policy.preset == "cosyvoice2":
        yield Path(settings.policy.path, "llm.pt")
        yield Path(settings.policy.path, "CosyVoice-BlankEN", "config.json")
    for folder in (settings.dataset.policy_text, settings.dataset.codec_text):
        if folder != "phones":
            yield from (Path(folder, name) for name in TOKENIZER)
    label = settings.label
    teachers = (label.emotion_teacher, label.vad_teacher)
    yield from affect_models(teachers, label.emotion2vec, label.audeering)
    yield from published_judge_files(settings.evaluate)
    if settings.codec.checkpoint:
        yield Path(settings.codec.checkpoint)
    elif settings.codec.whisper:
        yield from (Path(settings.codec.whisper, n) for n in ("config.json", "model.safetensors"))
    if settings.base:
        yield from (Path(settings.base, name) for name in (*FILES, SUMS))


def _check_file(path: Path) -> str:
    """Size of a file; HproError if it is missing, empty, an LFS pointer, truncated or different."""
    if not path.is_file():
        raise HproError(f"{path} is missing: put it there, or correct the path in the settings")
    size = path.stat().st_size
    if size == 0:
        raise HproError(f"{path} is empty: get it again")
    with path.open("rb") as file:
        if file.read(len(LFS_POINTER)) == LFS_POINTER:
            raise HproError(f"{path} is a Git LFS pointer, not the file: run git lfs pull there")
    least = MIN_BYTES.get(path.name, 0)
    if size < least:
        raise HproError(
            f"{path} has {size:,} bytes, its weights alone take {least:,}: get it again"
        )
    if path.suffix == ".safetensors":
        _check_safetensors(path, size)
    known = _known_sha256(path)
    if known and (found := sha256_of(path)) != known:
        raise HproError(f"{path} has sha256 {found}, but {known} is expected: get it again")
    return f"{size / GIGA:.3f} GB" + (", sha256 as expected" if known else "")


def _check_safetensors(path: Path, size: int) -> None:
    """Compare the size of a .safetensors file with the end of its last weight in the header."""
    with open_binary(path, "get it again") as file:
        length = int.from_bytes(file.read(8), "little")
    entries = safetensors_header(path, "get it again")
    ends = [entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"]
    declared = 8 + length + max(ends, default=0)
    if size != declared:
        raise HproError(f"{path} has {size:,} bytes, header declares {declared:,}: get it again")


def _known_sha256(path: Path) -> str | None:
    """The expected hash of a file of Whisper, the speech tokenizer or a base; None if unknown."""
    if path.name in WHISPER_SHA256:
        return WHISPER_SHA256[path.name]
    if path.name == "speech_tokenizer_v2.onnx":
        from hpro_core.speech.cosyvoice2 import TOKENIZER_SHA256

        return TOKENIZER_SHA256
    for above in path.parents[:2]:
        if (above / SUMS).is_file() and path.name != SUMS:
            name = path.relative_to(above).as_posix()
            return read_checksums(above / SUMS).get(name)
    return None


def _packages(settings: Params) -> Iterator[Check]:
    if settings.speech.preset == "cosyvoice2":
        for module, package in PACKAGES.items():
            yield _package(module, package, "docs/cosyvoice2.md")
    if _uses_emotion2vec(settings):
        yield _package("funasr", "funasr", "docs/labels.md")


def _package(module: str, package: str, page: str) -> Check:
    if importlib.util.find_spec(module) is None:
        return Check("FAIL", f"package {package}", f"is not installed: see {page}")
    return Check("ok", f"package {package}", "is installed")


def _uses_emotion2vec(settings: Params) -> bool:
    """Whether emotion2vec is the teacher or a judge."""
    return "emotion2vec" in (settings.label.emotion_teacher, settings.evaluate.emotion)


def _judges_weights(folder: Path) -> Iterator[Check]:
    """Checks of the files of weights.csv by hash."""
    for path, digest in {each.path(folder): each.sha256 for each in weight_files()}.items():
        if not path.is_file():
            yield Check("FAIL", str(path), "is missing: run `hpro weights fetch`")
        else:
            examine = partial(_judges_file, path, digest)
            yield _tried(str(path), examine, "; then run `hpro weights fetch`")


def _judges_file(path: Path, digest: str) -> str:
    finding = _check_file(path)
    if (found := sha256_of(path)) != digest:
        raise HproError(f"{path} has sha256 {found}, but {digest} is expected: delete it")
    return f"{finding}, sha256 as expected"


def _aligner(settings: Params) -> Iterator[Check]:
    if settings.align.backend == "mfa":
        yield _mfa_command(settings.align.mfa_command)
        yield from map(_mfa_model, required_models(settings.align))


def _mfa_command(command: str) -> Check:
    what = "align.mfa_command"
    try:
        return Check("ok", what, shlex.join(program(command)))
    except HproError:
        if command != "mfa":
            finding = f"{command!r} is not on PATH: correct it, or set mfa and run with --use-conda"
            return Check("FAIL", what, finding)
        return Check(
            "note", what, "'mfa' is not on PATH: run Snakemake with --use-conda, which installs "
            f"it, or create the environment of {ENVIRONMENT} and set "
            "`conda run --no-capture-output -n mfa mfa`"
        )  # fmt: skip


def _mfa_model(model: Model) -> Check:
    try:
        return Check("ok", model.setting, str(model.path()))
    except HproError as error:
        if model.is_path or not model.name:
            return Check("FAIL", model.setting, str(error).removeprefix(f"{model.setting}: "))
        return Check(
            "note", model.setting, f"{model.name!r} is not downloaded yet ({model.downloaded}): "
            "the run downloads it, on the machine where Snakemake runs (rule align_models)"
        )  # fmt: skip


def _disk(settings: Params) -> Check:
    costs = estimate_costs(settings)
    folder = Path("results", settings.run)
    disk = next(path for path in (folder, *folder.parents) if path.exists())
    there = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    needed, free = max(0, costs.disk_bytes - there), shutil.disk_usage(disk).free
    unknown = [name for name, amount in costs.speech.items() if amount is None]
    finding = f"{free / GIGA:.0f} GB free, {needed / GIGA:.0f} GB more are needed (`hpro plan`)"
    if unknown:
        finding += f", without {', '.join(unknown)}, whose size is unknown"
    if free < needed:
        return Check("FAIL", "disk", f"{finding}: free some, or put results/ on a larger disk")
    return Check("ok", "disk", finding)


def _gpu(settings: Params) -> Check:
    if settings.policy.preset != "cosyvoice2":
        return Check("ok", "GPU", "not needed for the embedded models")
    needed = f"{PEAK_MEMORY_GB} GB at eight utterances of 6 s a micro-batch (docs/performance.md)"
    if settings.compute.device == "cpu":
        return Check("FAIL", "GPU", "compute.device is cpu: set it to auto for models of this size")
    name, memory_gb = _gpu_memory()
    if not name:
        return Check(
            "note", "GPU", f"none here, a reward step took {needed}: on a cluster run preflight in "
            "a job of the GPU partition"
        )  # fmt: skip
    if memory_gb < PEAK_MEMORY_GB:
        finding = f"{name} has {memory_gb:.0f} GB, a reward step took {needed}"
        rewards = [
            settings.reward,
            *(v.applied_to(settings.reward) for v in settings.variants.values()),
        ]
        at_once = max(reward.batch_size for reward in rewards) / settings.reward.accumulate
        if settings.reward.checkpointing or at_once * settings.corpus.max_duration_s < MEASURED_S:
            less = "with this reward.accumulate and reward.checkpointing it takes less"
            return Check("note", "GPU", f"{finding}; {less} (not measured)")
        return Check(
            "FAIL", "GPU", f"{finding}: raise reward.accumulate and sft.accumulate, set their "
            "checkpointing, or use a larger GPU"
        )  # fmt: skip
    return Check("ok", "GPU", f"{name}, {memory_gb:.0f} GB; a reward step took {needed}")


def _gpu_memory() -> tuple[str, float]:
    """Name and memory in GB of the first GPU; "" without a GPU."""
    import torch

    if not torch.cuda.is_available():
        return "", 0.0
    found = torch.cuda.get_device_properties(0)
    return found.name, found.total_memory / GIGA


def _licences(settings: Params) -> Iterator[Check]:
    """Notes on the licences of corpora and models; none of them fails."""
    for name, chosen in settings.corpus.sets.items():
        if chosen.reader in PUBLISHED:
            info = PUBLISHED[chosen.reader].INFO
            yield Check("note", f"licence of {name}", f"{info.title}: {info.licence}")
    models = {
        "CosyVoice2-0.5B": settings.policy.preset == "cosyvoice2",
        "the authors' codec": bool(settings.codec.checkpoint),
        "Whisper": bool(settings.codec.whisper) or settings.evaluate.asr == "whisper",
        "audeering's model": "audeering" in (settings.label.vad_teacher, settings.evaluate.vad),
        "emotion2vec": _uses_emotion2vec(settings),
        "WavLM": settings.evaluate.speaker == "wavlm",
        "NISQA": bool(settings.evaluate.nisqa),
    }
    for name, used in models.items():
        if used:
            yield Check("note", f"licence of {name}", LICENCES[name])
    if settings.align.backend == "mfa":
        finding = "see the page of each model that you downloaded"
        yield Check("note", "licence of MFA's model and dictionary", finding)
    for licence in dict.fromkeys(row.licence for row in weight_files()):
        yield Check("note", f"licence {licence}", _names(licence, weight_files()))


def _names(licence: str, rows: Sequence[WeightFile]) -> str:
    names = ", ".join(dict.fromkeys(row.name for row in rows if row.licence == licence))
    forbids = "no commercial use, no modified copies" if "NC-ND" in licence else ""
    return f"weights/{{{names}}}" + (f": {forbids}" if forbids else "")
