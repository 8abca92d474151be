"""Costs of jobs, from measurements only.

Every unit cost names its source in the docs. `bound` marks a cost whose measured job was larger or
smaller: "<=" at most this much, ">=" at least. A lower bound assumes that a larger model, batch or
corpus does not cost less than the measured one. Where nothing comparable was measured the cost is
None: it is shown as unknown and is in no sum.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.judges.files import affect_judge_files, published_judge_files
from hpro_core.params import SEEDLESS, Params, Reward, Sft
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
READ_S = 1 / 260  # seconds per MP3 clip (docs/scaling.md)
SPLIT_S = (22.5 - 10.5) / 900_000  # core seconds per utterance, without the start (same)
DATASET_S = (32 - 9) / 90_000  # same
GATHER_S = {"align_gather": 11e-6, "label_gather": 15e-6, "dataset_gather": 45e-6}  # same
TOKENIZE_S = 5.65e-3  # core seconds per clip, embedded tokenizer (docs/performance.md, encoding)
SYNTHESISE_S = 45.5e-3 + 10.9e-3  # core seconds per sentence, embedded (same: sampling, decoder)
SMALL_SFT_S, SMALL_SFT_BATCH = 1.025, 16  # core seconds per step, embedded (same, sft_step)
SMALL_REWARD_S = 2.319  # core seconds per step, embedded (same, reward_step)
SMALL_REWARD = (12, 4, 3, 8)  # its batch, samples, Jacobi iterations and Gumbel-Rao samples
START_S = 1.2  # seconds of a job that copies a model of the base (same, default run)

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
            read = _total("utterances", settings, speech, rendered=False)
            stored = _audio_bytes(settings, speech, rendered=False)
            return Cost(job, _at_least(read, READ_S), stored=stored)
        case "corpus_render":
            rendered = _total("utterances", settings, speech, rendered=True)
            cpu = None if rendered is None else Hours(rendered * RENDER_S / 3600)
            return Cost(job, cpu, stored=_audio_bytes(settings, speech, rendered=True))
        case "corpus_split":
            return Cost(job, _at_least(_total("utterances", settings, speech), SPLIT_S))
        case "dataset":
            return Cost(job, _at_least(_used_utterances(settings, speech), DATASET_S))
        case "align_gather" | "label_gather" | "dataset_gather":
            n = _used_utterances(settings, speech)
            return Cost(job, _at_least(n, GATHER_S[job.rule]))
        case "align":
            spoken = _split_hours(settings, speech)
            known = spoken is not None and settings.align.backend == "pocketsphinx"
            return Cost(job, Hours((spoken or 0.0) / ALIGN_RATE) if known else None)
        case "label":
            if {settings.label.emotion_teacher, settings.label.vad_teacher} != {"weak"}:
                return Cost(job, None, None)
            spoken = _split_hours(settings, speech)
            return Cost(job, None if spoken is None else Hours(spoken / LABEL_RATE))
        case "codec_content" | "codec_style" | "sft" | "reward":
            return _training(job, settings, speech)
        case "codec_released":
            return Cost(job, stored=STORED_BYTES * CODEC_PARAMETERS["released"])
        case "judge_train":
            judged = _total("judge", settings, speech, rendered=True)
            epochs = settings.evaluate.judge_epochs
            return Cost(
                job, None if judged is None else Hours(judged * epochs * JUDGE_TRAIN_S / 3600)
            )
        case "tokenize":
            gpu = NO_HOURS if settings.speech.preset == "embedded" else None
            return Cost(job, _at_least(_used_utterances(settings, speech), TOKENIZE_S), gpu)
        case "synthesise":
            return _synthesis(job, settings, speech)
        case "judge_recordings" if any(affect_judge_files(settings.evaluate)):
            return Cost(job, _checks(job, settings, speech), None)
        case "judge" if any(published_judge_files(settings.evaluate)):
            return Cost(job, _checks(job, settings, speech), None)
        case "judge_recordings":
            hours = _judging(job, settings, speech)
            return Cost(job, None if hours is None else Hours(hours.value, ">="))
        case "judge":
            return Cost(job, _judging(job, settings, speech))
        case "tokenizer" | "vocoder":
            return Cost(job, None, None)
        case "align_check" | "tables" | "report":
            return Cost(job, _at_least(job.count, START_S))
        case "base_tokenizer" | "base_vocoder" | "base_policy" | "base_codec" | "base_judge":
            return Cost(job, Hours(job.count * START_S / 3600))
    return Cost(job)


def _at_least(n: float | None, unit_s: float) -> Hours | None:
    """Lower bound from the cost of one unit; None if the number of units is unknown."""
    return None if n is None else Hours(n * unit_s / 3600, ">=")


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


class _Step(NamedTuple):
    """Measured cost of an optimiser step, and how the step of a job compares."""

    seconds: float
    bound: Bound


def _training(job: Job, settings: Params, speech: Mapping[str, Amount | None]) -> Cost:
    if job.rule in CODEC_STEP_S:
        return _codec_training(job, settings, speech)
    full = settings.policy.preset == "cosyvoice2"
    stored = job.count * STORED_BYTES * POLICY_PARAMETERS if full else None
    rewards = reward_sections(settings)
    if job.rule == "sft":
        section: Sft | Reward = settings.sft
        steps, batches = settings.sft.steps * len(settings.seeds), {settings.sft.batch_size}
    else:
        section = settings.reward
        steps = reward_steps(settings) * len(settings.seeds)
        batches = {r.batch_size for r in rewards} or {settings.reward.batch_size}
    if not full:
        step = _small_step(job, settings, rewards)
        return Cost(job, Hours(steps * step.seconds / 3600, step.bound), stored=stored)
    step = _Step(SFT_STEP_S, "") if job.rule == "sft" else _full_reward_step(rewards)
    gpu = _gpu_hours(step, steps, batches, _mean_trained_s(settings, speech, section.leave_out))
    return Cost(job, NO_HOURS, gpu, stored)


def _codec_training(job: Job, settings: Params, speech: Mapping[str, Amount | None]) -> Cost:
    codec = settings.codec
    size = CODEC_PARAMETERS.get(codec.preset)
    stage = codec.content if job.rule == "codec_content" else codec.style
    if size is None:  # an embedded codec was not measured, and the released one is larger
        return Cost(job, None, NO_HOURS, None)
    step = _Step(CODEC_STEP_S[job.rule], "" if codec.preset == "released" else ">=")
    mean_s = _mean_trained_s(settings, speech, stage.leave_out)
    hours = _gpu_hours(step, stage.steps, {codec.batch_size}, mean_s)
    return Cost(job, NO_HOURS, hours, STORED_BYTES * size)


def _small_step(job: Job, settings: Params, rewards: list[Reward]) -> _Step:
    """Cost of a step of the embedded policy on a core."""
    if job.rule == "sft":
        return _Step(SMALL_SFT_S, _bound({(settings.sft.batch_size,)}, (SMALL_SFT_BATCH,)) or "")
    sizes = {(r.batch_size, r.samples, r.jacobi_iterations, r.gumbel_rao_samples) for r in rewards}
    bound = _bound(sizes, SMALL_REWARD)
    if bound is not None:
        return _Step(SMALL_REWARD_S, bound)
    share = min(batch for batch, *_ in sizes) / SMALL_SFT_BATCH
    return _Step(SMALL_SFT_S * min(1.0, share), ">=")  # a reward step contains such a step


def _full_reward_step(rewards: list[Reward]) -> _Step:
    """Cost of a step of CosyVoice2's policy on a GPU, for the measured batch."""
    sizes = {(r.samples, r.jacobi_iterations, r.gumbel_rao_samples) for r in rewards}
    bound = _bound(sizes, (REWARD_SAMPLES, REWARD_JACOBI, REWARD_GUMBEL_RAO))
    if bound is None:
        return _Step(SFT_STEP_S, ">=")  # a reward step contains such a step
    if bound == "" and len({r.batch_size for r in rewards}) > 1:
        bound = "<="
    return _Step(REWARD_STEP_S, bound)


def _bound(used: Iterable[tuple[int, ...]], measured: tuple[int, ...]) -> Bound | None:
    """How jobs compare with the measured one; None if they are larger in one size and smaller."""
    pairs = [(own, size) for sizes in used for own, size in zip(sizes, measured, strict=True)]
    if all(own == size for own, size in pairs):
        return ""
    if all(own <= size for own, size in pairs):
        return "<="
    return ">=" if all(own >= size for own, size in pairs) else None


def _mean_trained_s(
    settings: Params, speech: Mapping[str, Amount | None], left_out: Collection[str]
) -> float | None:
    """Mean duration of the utterances of a training; None if a corpus has an unknown size."""
    trained_on = [
        amount
        for name, amount in speech.items()
        if settings.corpus.sets[name].split in ("", "train") and name not in left_out
    ]
    known = [amount for amount in trained_on if amount is not None]
    if not known or len(known) < len(trained_on):
        return None
    return sum(a.hours for a in known) * 3600 / sum(a.utterances for a in known)


def _gpu_hours(step: _Step, steps: int, batches: set[int], mean_s: float | None) -> Hours | None:
    """Hours of a training whose batches differ from the measured one.

    The measured batch does not saturate the GPU: cost grows at most linearly with the batch. A
    lower bound assumes that a larger batch costs as much.
    """
    if mean_s is None:
        return None
    if step.bound == ">=":
        times = min(1.0, min(batches) * mean_s / MEASURED_BATCH_S)
        return Hours(steps * step.seconds * times / 3600, ">=")
    times = max(batches) * mean_s / MEASURED_BATCH_S
    hours = steps * step.seconds * max(times, 1.0) / 3600
    return Hours(hours, step.bound or ("<=" if times > 1 else ""))


def _synthesis(job: Job, settings: Params, speech: Mapping[str, Amount | None]) -> Cost:
    sentences = _total("test", settings, speech)
    spoken = job.count - ("recordings" in systems(settings))
    cpu = _at_least(None if sentences is None else spoken * sentences, SYNTHESISE_S)
    embedded = (settings.policy.preset, settings.speech.preset) == ("embedded", "embedded")
    gpu = NO_HOURS if embedded else None
    return Cost(job, cpu, gpu, _spoken_bytes(job, settings, speech))


def _checks(job: Job, settings: Params, speech: Mapping[str, Amount | None]) -> Hours | None:
    """Lower bound of judging with published judges: the second recogniser, DNSMOS, DistillMOS."""
    clips = _total("test", settings, speech)
    every = settings.evaluate.check_every
    return _at_least(None if clips is None else job.count * clips / every, CHECK_S)


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


def _used_utterances(settings: Params, speech: Mapping[str, Amount | None]) -> int | None:
    """Number of utterances for training, dev and test; None if a corpus has an unknown size."""
    if any(amount is None for amount in speech.values()):
        return None
    return sum(
        a.test if settings.corpus.sets[name].split == "test" else a.utterances - a.judge
        for name, a in speech.items()
        if a is not None
    )


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
