"""Costs of jobs, from measurements only.

Every unit cost names its source in the docs. Without a measurement the cost is None; it is shown as
such and excluded from sums. `bound` marks a cost whose measured job was larger or smaller: "<=" at
most this much, ">=" at least.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.judges.files import affect_judge_files, published_judge_files
from hpro_core.params import SEEDLESS, Params, Reward
from hpro_core.plan.jobs import Job
from hpro_core.plan.speech import Amount
from hpro_core.train.checkpoints import KEPT

Bound = Literal["", "<=", ">="]

MEASURED_BATCH_S = 8 * 6.0  # seconds of speech per step of `hpro benchmark` (docs/performance.md)
SFT_STEP_S = 0.104  # CosyVoice2's language model on an H100 (docs/performance.md)
REWARD_STEP_S = 0.270  # same; stage `sentence` with four samples and three Jacobi iterations
REWARD_SAMPLES, REWARD_JACOBI, REWARD_GUMBEL_RAO = 4, 3, 8  # settings of that step
CODEC_STEP_S = {"codec_content": 0.077, "codec_style": 0.101}  # same; preset `released`
PEAK_MEMORY_GB = 18.2  # peak memory of that reward step, the largest of all trainings
RENDER_S = 35 * 16 / 10_796  # core seconds per sentence (docs/log/index.md, the H100's 16 cores)
ALIGN_RATE = 42  # seconds of speech per core second, pocketsphinx (docs/alignment.md)
LABEL_RATE = 48.5 * 60 / 9.9  # same, weak teachers (docs/labels.md)
JUDGE_S = 0.97  # core seconds per clip (docs/judges.md)
CHECK_S = 0.25 + 0.14 + 0.17  # the part of JUDGE_S for the second ASR, DNSMOS and DistillMOS
JUDGE_TRAIN_S = 159 * 2 / (2_093 * 20)  # core seconds per recording and epoch (docs/judges.md)

POLICY_PARAMETERS = 505_803_812
CODEC_PARAMETERS = {"released": 236_713_259, "paper": 539_905_323}
"""Preset -> number of parameters; a test compares it with the classes."""
STORED_BYTES = 4  # per weight in model.safetensors and per optimiser moment in a checkpoint
WAV_BYTES_S = 2 * SAMPLE_RATE_HZ


class Hours(NamedTuple):
    """Hours of a core or of a GPU."""

    value: float
    bound: Bound = ""


NO_HOURS = Hours(0.0)


@dataclass(frozen=True)
class Cost:
    """Cost of all jobs of a rule. None: not measured, or the size of a corpus is unknown."""

    job: Job
    cpu: Hours | None = None  # of one core
    gpu: Hours | None = NO_HOURS  # of one H100
    stored: int | None = 0  # bytes that remain on disk, without tables and logs


def cost_of(job: Job, settings: Params, speech: Mapping[str, Amount | None]) -> Cost:
    """Return the cost of all jobs of a rule; `speech` is None for a corpus of unknown size."""
    match job.rule:
        case "corpus_read":
            return Cost(job, stored=_audio_bytes(settings, speech, rendered=False))
        case "corpus_render":
            n = _total("utterances", settings, speech, rendered=True)
            cpu = None if n is None else Hours(n * RENDER_S / 3600)
            return Cost(job, cpu, stored=_audio_bytes(settings, speech, rendered=True))
        case "align":
            hours = _split_hours(settings, speech)
            known = hours is not None and settings.align.backend == "pocketsphinx"
            return Cost(job, Hours((hours or 0.0) / ALIGN_RATE) if known else None)
        case "label":
            if {settings.label.emotion_teacher, settings.label.vad_teacher} != {"weak"}:
                return Cost(job, None, None)
            hours = _split_hours(settings, speech)
            return Cost(job, None if hours is None else Hours(hours / LABEL_RATE))
        case "codec_content" | "codec_style" | "sft" | "reward":
            return _training(job, settings, speech)
        case "codec_released":
            return Cost(job, stored=STORED_BYTES * CODEC_PARAMETERS["released"])
        case "judge_train":
            n = _total("judge", settings, speech, rendered=True)
            epochs = settings.evaluate.judge_epochs
            return Cost(job, None if n is None else Hours(n * epochs * JUDGE_TRAIN_S / 3600))
        case "synthesise":
            return Cost(job, None, None, _spoken_bytes(job, settings, speech))
        case "judge_recordings" if any(affect_judge_files(settings.evaluate)):
            return Cost(job, None, None)
        case "judge" if any(published_judge_files(settings.evaluate)):
            return Cost(job, None, None)
        case "judge":
            return Cost(job, _judging(job, settings, speech))
        case "tokenizer" | "vocoder" | "tokenize":
            return Cost(job, None, None)
    return Cost(job)


def systems(settings: Params) -> list[str]:
    """Return every system of this project that is a row of a table, once."""
    rows = [system for names in settings.tables.model_dump().values() for system in names]
    return [system for system in dict.fromkeys(rows) if system not in settings.external]


def policies(settings: Params) -> list[str]:
    """Return the trained policies: those that the tables name, and those that they start from.

    Empty if the tables name none.
    """
    wanted: list[str] = []
    for system in systems(settings):
        chain: list[str] = []
        while system not in (*SEEDLESS, "sft"):
            chain.append(system)
            system = settings.variants[system].start
        wanted += ["sft", *reversed(chain)] if system == "sft" else []
    return list(dict.fromkeys(wanted))


def rewarded(settings: Params) -> list[str]:
    """Return the policies that are trained by rewards."""
    return [name for name in policies(settings) if name != "sft"]


def checkpoint_bytes(settings: Params) -> int:
    """Return the bytes of the largest training's checkpoints: weights, two moments, EMA weights.

    Only full-size trainings count; checkpoints of embedded models are small.
    """
    sizes = [0]
    if settings.policy.preset == "cosyvoice2" and policies(settings):
        ema = settings.sft.ema or any(reward.ema for reward in reward_sections(settings))
        sizes.append(STORED_BYTES * POLICY_PARAMETERS * (4 if ema else 3))
    if settings.codec.preset in CODEC_PARAMETERS and not settings.codec.checkpoint:
        size = CODEC_PARAMETERS[settings.codec.preset]
        sizes.append(STORED_BYTES * size * (4 if settings.codec.ema else 3))
    return KEPT * max(sizes)


def reward_sections(settings: Params) -> list[Reward]:
    """Return the section `reward` as each reward training has it."""
    return [settings.variants[n].applied_to(settings.reward) for n in rewarded(settings)]


def reward_steps(settings: Params) -> int:
    """Return the number of steps of all reward trainings of one seed."""
    trained = [settings.variants[name] for name in rewarded(settings)]
    return sum(variant.stages * variant.applied_to(settings.reward).steps for variant in trained)


def _training(job: Job, settings: Params, speech: Mapping[str, Amount | None]) -> Cost:
    stored, step_s, steps, batch, bound = _training_size(job, settings)
    left_out = {
        "codec_content": settings.codec.content.leave_out,
        "codec_style": settings.codec.style.leave_out,
        "sft": settings.sft.leave_out,
        "reward": settings.reward.leave_out,
    }[job.rule]
    trained_on = [
        amount
        for name, amount in speech.items()
        if settings.corpus.sets[name].split in ("", "train") and name not in left_out
    ]
    if step_s is None or not trained_on or any(amount is None for amount in trained_on):
        return Cost(job, NO_HOURS, None, stored)
    known = [amount for amount in trained_on if amount is not None]
    mean_s = sum(a.hours for a in known) * 3600 / sum(a.utterances for a in known)
    # The measured batch does not saturate the GPU: cost grows at most linearly with the batch.
    times = batch * mean_s / MEASURED_BATCH_S
    hours = steps * step_s * max(times, 1.0) / 3600
    return Cost(job, NO_HOURS, Hours(hours, bound or ("<=" if times > 1 else "")), stored)


def _training_size(job: Job, settings: Params) -> tuple[int | None, float | None, int, int, Bound]:
    """Stored bytes, measured seconds per step, steps, utterances per batch, and the bound."""
    if job.rule in CODEC_STEP_S:
        codec = settings.codec
        size = CODEC_PARAMETERS.get(codec.preset)
        stored = None if size is None else STORED_BYTES * size
        step_s = CODEC_STEP_S[job.rule] if codec.preset == "released" else None
        stage = codec.content if job.rule == "codec_content" else codec.style
        return stored, step_s, stage.steps, codec.batch_size, ""
    full = settings.policy.preset == "cosyvoice2"
    stored = job.count * STORED_BYTES * POLICY_PARAMETERS if full else None
    if job.rule == "sft":
        steps = settings.sft.steps * len(settings.seeds)
        return stored, SFT_STEP_S if full else None, steps, settings.sft.batch_size, ""
    rewards = reward_sections(settings)
    most = (REWARD_SAMPLES, REWARD_JACOBI, REWARD_GUMBEL_RAO)
    used = [(r.samples, r.jacobi_iterations, r.gumbel_rao_samples) for r in rewards]
    measured = full and all(a <= b for own in used for a, b in zip(own, most, strict=True))
    steps = reward_steps(settings) * len(settings.seeds)
    step_s = REWARD_STEP_S if measured else None
    batches = {r.batch_size for r in rewards}
    exact = set(used) == {most} and len(batches) == 1
    batch = max(batches, default=settings.reward.batch_size)
    return stored, step_s, steps, batch, "" if exact else "<="


def _judging(job: Job, settings: Params, speech: Mapping[str, Amount | None]) -> Hours | None:
    clips = _total("test", settings, speech)
    if clips is None:
        return None
    checks = CHECK_S * (1 - 1 / settings.evaluate.check_every)
    # Measured with clips of 2.5 s and at most two windows of DNSMOS.
    bound: Bound = ">=" if settings.evaluate.dnsmos_windows > 2 or _mean_s(speech) > 5 else ""
    return Hours(job.count * clips * (JUDGE_S - checks) / 3600, bound)


def _mean_s(speech: Mapping[str, Amount | None]) -> float:
    tested = [a for a in speech.values() if a is not None and a.test]
    return sum(a.mean_s * a.test for a in tested) / max(1, sum(a.test for a in tested))


def _spoken_bytes(job: Job, settings: Params, speech: Mapping[str, Amount | None]) -> int | None:
    """Bytes of synthesised audio, if all systems match the duration of the recordings."""
    if any(amount is None for amount in speech.values()):
        return None
    seconds = sum(a.test * a.mean_s for a in speech.values() if a is not None)
    return round((job.count - ("recordings" in systems(settings))) * seconds * WAV_BYTES_S)


def _audio_bytes(
    settings: Params, speech: Mapping[str, Amount | None], rendered: bool
) -> int | None:
    hours = _total("hours", settings, speech, rendered)
    return None if hours is None else round(hours * 3600 * WAV_BYTES_S)


def _split_hours(settings: Params, speech: Mapping[str, Amount | None]) -> float | None:
    """Hours of what has a split: of a set that is all test, only its test utterances."""
    hours = _total("hours", settings, speech)
    if hours is None:
        return None
    tests = [a for name, a in speech.items() if a and settings.corpus.sets[name].split == "test"]
    return hours - sum(a.hours * (1 - a.test / a.utterances) for a in tests)


def _total(
    what: Literal["hours", "utterances", "test", "judge"],
    settings: Params,
    speech: Mapping[str, Amount | None],
    rendered: bool | None = None,
) -> float | None:
    """Sum over all corpora, the rendered ones or the others; None if one is unknown."""
    total = 0.0
    for name, amount in speech.items():
        if rendered is None or rendered == (settings.corpus.sets[name].reader == "controlled"):
            if amount is None:
                return None
            total += getattr(amount, what)
    return total
