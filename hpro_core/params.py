"""Typed sections of `params.yaml`: frozen, complete, and strict about unknown keys.

A stage reads its section from the whole `params.yaml` or from its key file, the extract that the
Snakefile writes (`results/<run>/params/<stage>.yaml`). Both have the section under its name.
"""

import pkgutil
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from copy import copy
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    create_model,
    field_validator,
    model_serializer,
    model_validator,
)

from hpro_core.errors import HproError, did_you_mean
from hpro_core.io import read_json, read_yaml

MAX_SYSTEM_CHARACTERS = 40
"""Longest name of an external system (ours)."""

SEEDLESS = ("recordings", "tokenrecon")
"""Ceiling systems: the recordings, and their resynthesis from their own speech tokens.

They do not depend on the policy seed and are synthesised and judged once, under the first seed.
"""


UserPath = Annotated[str, Field(pattern=r"^([^-{}<>\x00-\x1f][^{}<>\x00-\x1f]*)?$")]
"""Path of a file or folder of the user; "" for none.

Characters of Snakemake's wildcards and a leading "-" are excluded. Blanks and shell characters are
allowed, since the rules quote paths.
"""


class Section(BaseModel):
    """A part of `params.yaml`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Compute(Section):
    device: str = Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    bf16: bool
    threads: int = Field(
        default=1,
        ge=1,
        description="CPU threads of a process; the rules set it, and results do not depend on it",
    )


class Tracking(Section):
    """Section `tracking`; no result depends on it, and a change of it runs no job."""

    tracker: Literal["tensorboard", "dvclive", "wandb"] = Field(
        default="tensorboard", description="where trainings show curves and settings"
    )
    audio_every: int = Field(
        default=0,
        ge=0,
        description="steps after which `sft` and rewards speak dev sentences for the trackers",
    )
    audio_sentences: int = Field(default=3, ge=1, description="number of these sentences")
    profile: bool = Field(
        default=False, description="trace a few steps of each training with PyTorch's profiler"
    )


CorpusReader = Literal[
    "amazon_queen", "amazon_queen_scenes", "csv", "crema_d", "emov_db", "emovoice_db", "esd",
    "expresso", "iemocap", "librispeech", "libritts", "lssed", "msp_podcast", "ravdess",
]  # fmt: skip


class CorpusSet(Section):
    reader: Literal[CorpusReader, "controlled"] = Field(
        description="reader of the corpus (docs/corpora.md)"
    )
    path: UserPath = Field(description="folder or file of the corpus")
    split: Literal["", "train", "judge", "test"] = Field(
        default="",
        description="split of the whole set; empty: the corpus's own splits, or the fractions",
    )
    speakers: list[str] = Field(
        default=[], description="only these speakers of the corpus; empty: all of them"
    )
    leave_out_speakers: list[str] = Field(default=[], description="all speakers but these")
    texts: Literal[CorpusReader, ""] = Field(
        default="",
        description="for `controlled`: reader of the corpus at `path` whose sentences are "
        "rendered; empty: those of a grammar",
    )

    @model_validator(mode="after")
    def _speakers_are_of_a_corpus(self) -> "CorpusSet":
        if self.speakers and self.leave_out_speakers:
            raise ValueError("speakers and leave_out_speakers are both given: remove one of them")
        chosen = self.speakers or self.leave_out_speakers
        if chosen and self.reader == "controlled" and not self.texts:
            raise ValueError("the reader controlled has no speakers to choose: remove the list")
        return self

    @model_validator(mode="after")
    def _texts_are_rendered_for_training(self) -> "CorpusSet":
        if self.texts and self.reader != "controlled":
            raise ValueError(f"texts is for the reader controlled, not {self.reader}: remove it")
        if self.texts and self.split != "train":
            raise ValueError(
                "the texts of a corpus are rendered for training only: add split: train"
            )
        return self


class Splits(Section):
    dev_fraction: float = Field(gt=0, lt=1, description="fraction for dev")
    test_fraction: float = Field(gt=0, lt=1, description="fraction for test")
    judge_fraction: float = Field(gt=0, lt=1, description="fraction for judge")
    max_test_utterances: int = Field(ge=1)
    seed: int = Field(description="random seed")


class Corpus(Section):
    """Section `corpus`; the extract for one set has only that set, and no `splits`."""

    sets: dict[str, CorpusSet] = Field(min_length=1)
    min_duration_s: float = Field(gt=0, description="shortest duration of a clip that is used")
    max_duration_s: float = Field(
        gt=0, le=30, description="longest duration of a clip that is used"
    )
    max_rejected_fraction: float = Field(ge=0, le=1)
    splits: Splits | None = None

    @model_validator(mode="after")
    def _names_are_folders(self) -> "Corpus":
        for name in self.sets:
            if problem := _folder_problem(name, "shards"):
                raise ValueError(f"sets.{name}: {problem}")
        return self


class WholeCorpus(Corpus):
    splits: Splits


class Controlled(Section):
    train: int = Field(ge=10, description="utterances for train")
    dev: int = Field(ge=5, description="utterances for dev")
    test: int = Field(ge=5, description="utterances for test")
    judge: int = Field(ge=0, description="utterances for judge")
    drawn_voices: int = Field(
        default=0, ge=0, le=9999, description="further voices of train, with drawn timbres"
    )
    text_renderings: int = Field(
        default=1, ge=1, description="renderings of each sentence of a set with `texts`"
    )
    seed: int = Field(description="random seed")


class Align(Section):
    backend: Literal["pocketsphinx", "mfa"]
    mfa_acoustic_model: UserPath = Field(description="MFA's acoustic model")
    mfa_dictionary: UserPath = Field(description="MFA's pronunciation dictionary")
    mfa_g2p_model: UserPath = Field(description="MFA's model of unknown words")
    mfa_min_log_likelihood: float | None = Field(
        description="least log likelihood of an alignment by MFA that is kept; null: any"
    )
    mfa_max_duration_deviation: float | None = Field(
        gt=0, description="largest deviation of phone durations that is kept; null: any"
    )
    mfa_command: str
    max_rejected_fraction: float = Field(
        ge=0, le=1, description="largest fraction of utterances that may be rejected"
    )


class Label(Section):
    emotion_teacher: Literal["weak", "emotion2vec"] = "weak"
    emotion2vec: UserPath = ""
    vad_teacher: Literal["weak", "audeering"] = "weak"
    audeering: UserPath = ""
    window_words: int = Field(ge=0)
    temperature: float = Field(gt=0)
    batch_size: int = Field(default=32, ge=1)
    shard_utterances: int = Field(default=500, ge=1)


class Dataset(Section):
    policy_text: UserPath = Field(min_length=1)
    codec_text: UserPath = Field(min_length=1)
    max_rejected_fraction: float = Field(ge=0, le=1)


class Speech(Section):
    preset: Literal["embedded", "cosyvoice2"]
    path: UserPath
    steps: int = Field(ge=1, description="training steps")
    batch_size: int = Field(ge=1, description="crops per step")
    segment_s: float = Field(gt=0, description="length of a crop")
    learning_rate: float = Field(gt=0, description="learning rate")
    delta_weight: float = Field(ge=0)
    phone_weight: float = Field(ge=0)
    affect_weight: float = Field(ge=0)
    feature_matching_weight: float = Field(ge=0)
    tempo_spread: float = Field(ge=0, lt=1)
    voice_spread: float = Field(default=0.0, ge=0, lt=1)
    channel_spread: float = Field(default=0.0, ge=0, le=2)
    ema: float = Field(ge=0, lt=1)
    width: int = Field(ge=8, multiple_of=2)
    speaker_dim: int = Field(ge=1, description="size of the speaker vector")
    seed: int = Field(description="random seed")


class Vocoder(Section):
    method: Literal["istft", "griffin_lim"]
    steps: int = Field(ge=1, description="training steps")
    adversarial_from: int = Field(ge=1, description="first step with the discriminator")
    batch_size: int = Field(ge=2, description="crops per step")
    segment_s: float = Field(gt=0, description="length of a crop")
    learning_rate: float = Field(gt=0, description="learning rate")
    ema: float = Field(ge=0, lt=1, description="decay of the averaged weights, which are saved")
    seed: int = Field(description="random seed")


class CodecStage(Section):
    leave_out: list[str] = Field(default=[], description="corpora that this training leaves out")
    steps: int = Field(ge=1, description="training steps")


class Codec(Section):
    """Section `codec`; the extract for one stage has only that stage."""

    preset: Literal["embedded", "miniature", "released", "paper"]
    checkpoint: UserPath
    whisper: UserPath
    content: CodecStage | None = None
    style: CodecStage | None = None
    batch_size: int = Field(ge=1, description="utterances per step")
    learning_rate: float = Field(gt=0, description="learning rate")
    guided_attention_weight: float = Field(ge=0)
    token_noise: float = Field(ge=0, lt=1)
    decay_fraction: float = Field(ge=0, le=1)
    ema: float = Field(ge=0, lt=1, description="decay of the averaged weights, which are saved")
    seed: int = Field(description="random seed")


class WholeCodec(Codec):
    content: CodecStage
    style: CodecStage


class Policy(Section):
    preset: Literal["embedded", "miniature", "cosyvoice2"]
    path: UserPath = ""
    dropout: float = Field(ge=0, lt=1, description="dropout in training")


class Sft(Section):
    leave_out: list[str] = Field(default=[], description="corpora that this training leaves out")
    accumulate: int = Field(default=1, ge=1)
    checkpointing: bool = False
    steps: int = Field(ge=1, description="training steps")
    batch_size: int = Field(ge=1, description="utterances per step")
    learning_rate: float = Field(gt=0, description="learning rate")
    guided_attention_weight: float = Field(ge=0)
    emotion_weight: float = Field(ge=0)
    history_noise: float = Field(ge=0, lt=1)
    noise_warmup: float = Field(ge=0, le=1)
    clip_norm: float = Field(gt=0, description="largest norm of the gradient")
    decay_fraction: float = Field(
        ge=0,
        le=1,
        description="last fraction of the steps, in which the learning rate falls linearly to zero",
    )
    ema: float = Field(ge=0, lt=1, description="decay of the averaged weights, which are saved")


Weight = Annotated[float, Field(ge=0)]


class Weights(Section):
    """Lambdas of the reward objective (paper III-B); terms that a stage does not use are 0.

    Besides the paper's terms it may have those of `own_terms`.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Weight] = Field(init=False)

    kl: float = Field(ge=0, description="weight of the KL to the SFT policy")
    sp: float = Field(ge=0, description="weight of L_sp, style preference tokens")
    cp: float = Field(ge=0, description="weight of L_cp, content preference tokens")
    asr: float = Field(ge=0, description="weight of L_ASR")
    wvad: float = Field(ge=0, description="weight of L_wVAD")
    ser: float = Field(ge=0, description="weight of L_SER")

    @model_validator(mode="before")
    @classmethod
    def _terms_exist(cls, values: Any) -> Any:
        return _of_known_terms(values)


def own_terms() -> list[str]:
    """Names of the reward terms besides the paper's: the modules of hpro_core/reward/terms."""
    spec = find_spec("hpro_core.reward.terms")
    assert spec is not None
    return sorted(module.name for module in pkgutil.iter_modules(spec.submodule_search_locations))


def _of_known_terms(values: Any) -> Any:
    """The values, if all their keys are reward terms."""
    known = [*Weights.model_fields, *own_terms()]
    for name in values if isinstance(values, dict) else ():
        if name not in known:
            hint = did_you_mean(str(name), known)
            raise ValueError(f"{name}: is no reward term ({', '.join(known)}){hint}")
    return values


class RewardStage(Section):
    temperature: float = Field(
        gt=0, description="temperature of the straight-through Gumbel-softmax"
    )
    weights: Weights = Field(description="weights of the terms of the objective")


class Reward(Section):
    """Section `reward`; the extract for a variant has only its stage."""

    leave_out: list[str] = Field(default=[], description="corpora that the rewards leave out")
    steps: int = Field(ge=1, description="training steps")
    batch_size: int = Field(ge=1, description="utterances per step, each with `samples`")
    learning_rate: float = Field(gt=0, description="learning rate")
    clip_norm: float = Field(gt=0, description="largest norm of the gradient")
    frame_norm: Literal["l1", "mse"] = Field(description="norm of L_sp and L_cp")
    kl_reduction: Literal["sum", "mean"] = Field(description="reduction of the KL")
    jacobi_iterations: int = Field(
        ge=0,
        description="Jacobi iterations from the recording's history to the policy's own",
    )
    samples: int = Field(default=1, ge=1, description="samples that a step averages over")
    gumbel_rao_samples: int = Field(
        default=0, ge=0, description="extra Gumbel draws for a less noisy gradient; 0: none"
    )
    top_p: float = Field(
        gt=0, le=1, description="probability of the nucleus that samples are drawn from"
    )
    top_k: int = Field(ge=1, description="largest number of tokens in that nucleus")
    decay_fraction: float = Field(
        ge=0,
        le=1,
        description="last fraction of the steps, in which the learning rate falls linearly to zero",
    )
    ema: float = Field(ge=0, lt=1, description="decay of the averaged weights, which are saved")
    accumulate: int = Field(default=1, ge=1)
    checkpointing: bool = False
    dev_evaluations: int = Field(
        default=3, ge=1, description="points of the dev curve after the initial one"
    )
    dev_sentences: int = Field(
        default=48, ge=1, description="approximate number of sentences per point of the dev curve"
    )
    probe_every: int = Field(default=0, ge=0, multiple_of=10)
    probe_sentences: int = Field(default=48, ge=1, description="dev sentences per evaluation")
    wer_margin: float = Field(default=0.01, ge=0)
    hacking_patience: int = Field(default=2, ge=0)
    hacking_tolerance: float = Field(default=0.08, ge=0)
    stop_on_hacking: bool = Field(
        default=False, description="end the training at detected reward hacking"
    )
    frame: RewardStage | None = None
    word: RewardStage | None = None
    sentence: RewardStage | None = None


class WholeReward(Reward):
    frame: RewardStage
    word: RewardStage
    sentence: RewardStage


SHARED = (
    "leave_out", "accumulate", "checkpointing", "probe_every", "probe_sentences", "wer_margin",
    "hacking_patience", "hacking_tolerance", "stop_on_hacking",
)  # fmt: skip
"""Settings of `reward` that no variant overrides.

Variants are compared, so they have the same data and the same choice of the checkpoint; how a batch
is computed (`accumulate`, `checkpointing`) does not change the result.
"""


def _without_defaults(schema: Any) -> None:
    """Remove default values from a JSON schema: Snakemake would set them in every variant."""
    for form in schema["properties"].values():
        form.pop("default", None)


class _Override(Section):
    """Settings that a variant replaces: any of `reward` but those of SHARED, and of its stage.

    All are optional. They have the types and limits of the section itself.
    """

    model_config = ConfigDict(json_schema_extra=_without_defaults)
    weights: dict[str, Weight] = Field(
        default={}, description="replaces weights of the stage; the others stay"
    )

    @model_serializer(mode="wrap")
    def _without_the_unset(self, values: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in values(self).items() if key in self.model_fields_set}

    @model_validator(mode="before")
    @classmethod
    def _may_differ(cls, values: Any) -> Any:
        for key in values if isinstance(values, dict) else ():
            if key in SHARED:
                raise ValueError(f"{key}: is the same for all variants: set reward.{key}")
        return values

    @field_validator("weights", mode="before")
    @classmethod
    def _terms_exist(cls, values: Any) -> Any:
        return _of_known_terms(values)


def _optional(fields: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found = {}
    for name, field in fields:
        optional = copy(field)
        optional.default = None  # never read: `Variant.applied_to` takes what is set
        found[name] = (field.annotation, optional)
    return found


if TYPE_CHECKING:
    Override = _Override
else:
    _STAGES = ("frame", "word", "sentence")
    _REPLACED = {n: f for n, f in Reward.model_fields.items() if n not in (*SHARED, *_STAGES)}
    _REPLACED["temperature"] = RewardStage.model_fields["temperature"]
    Override = create_model(
        "Override", __base__=_Override, __doc__=_Override.__doc__, **_optional(_REPLACED.items())
    )


class Variant(Section):
    """A policy trained by rewards: one stage, started from another variant or from `sft`."""

    start: str = Field(description="`sft`, or the variant whose policy the training starts from")
    stage: Literal["frame", "word", "sentence"] = Field(
        description="reward stage: its weights and temperature"
    )
    drop: list[Literal["kl", "sp", "cp", "asr", "wvad", "ser"]] = Field(
        default=[], description="terms whose weight is set to 0"
    )
    temperature: float | None = Field(
        default=None, gt=0, description="replaces the temperature of the stage"
    )
    stages: int = Field(
        default=1, ge=1, description="the training has `reward.steps` times this number of steps"
    )
    override: Override = Field(
        default_factory=Override,
        description="settings of `reward` and of the stage that this variant replaces",
    )

    @model_validator(mode="after")
    def _each_setting_once(self) -> "Variant":
        if self.temperature is not None and "temperature" in self.override.model_fields_set:
            raise ValueError("override.temperature: the variant has a temperature too: remove one")
        for term in self.drop:
            if term in self.override.weights:
                raise ValueError(f"override.weights.{term}: drop has it too: remove one")
        return self

    def applied_to(self, reward: Reward) -> Reward:
        """The section `reward` as this variant trains with it.

        Args:
            reward: the section as in `params.yaml`.

        Returns:
            The section with the values of `override`; the weights and the temperature of the
            variant's stage are the variant's, weight 0 for the terms in `drop`.

        Raises:
            HproError: the section lacks the variant's stage.
        """
        stage = require_section(reward, self.stage, RewardStage)
        own = self.override.model_dump()
        dropped = dict.fromkeys(self.drop, 0.0)
        weights = stage.weights.model_dump() | own.pop("weights", {}) | dropped
        temperature = stage.temperature if self.temperature is None else self.temperature
        changed = {"temperature": own.pop("temperature", temperature), "weights": weights}
        return type(reward).model_validate(reward.model_dump() | own | {self.stage: changed})


class Synthesis(Section):
    method: Literal["nucleus", "ras", "greedy"] = Field(description="sampling method")
    window: int = Field(ge=1)
    tau: float = Field(gt=0, le=1)
    top_p: float = Field(gt=0, le=1, description="probability of the nucleus")
    top_k: int = Field(ge=1, description="largest number of tokens in the nucleus")
    temperature: float = Field(gt=0, description="sampling temperature")
    min_ratio: float = Field(ge=0)
    max_ratio: float = Field(gt=0)
    batch_size: int = Field(ge=1, description="sentences per batch")
    seed: int = Field(description="random seed")

    @model_validator(mode="after")
    def _sentences_can_end(self) -> "Synthesis":
        if self.min_ratio >= self.max_ratio:
            raise ValueError(f"min_ratio: {self.min_ratio} is not below max_ratio {self.max_ratio}")
        return self


class Audio(Section):
    """What a training speaks for its trackers; from `tracking` and `synthesis`."""

    every: int = Field(ge=1)
    sentences: int = Field(ge=1)
    synthesis: Synthesis


class Tables(Section):
    """Systems that are rows of each table; a run trains and judges all of them."""

    comparison: list[str] = Field(
        min_length=1, description="systems in the rows of the table `comparison`"
    )
    progressive: list[str] = Field(
        min_length=1, description="systems in the rows of the table `progressive`"
    )
    ablation: list[str] = Field(
        min_length=1, description="systems in the rows of the table `ablation`"
    )


class Evaluate(Section):
    asr: Literal["embedded", "whisper"] = "embedded"
    whisper: UserPath = ""
    emotion: Literal["embedded", "emotion2vec"] = "embedded"
    emotion2vec: UserPath = ""
    vad: Literal["embedded", "audeering"] = "embedded"
    audeering: UserPath = ""
    speaker: Literal["embedded", "wavlm"] = "embedded"
    wavlm: UserPath = ""
    utmos: UserPath = ""
    nisqa: UserPath = ""
    scoreq: UserPath = ""
    batch_size: int = Field(default=8, ge=1)
    asr_windows_s: list[int] = Field(
        default=[20, 30], description="lengths in seconds that the embedded ASR pads audio to"
    )
    judge_epochs: int = Field(ge=1)
    judge_learning_rate: float = Field(
        gt=0, description="learning rate of the affect judge's training"
    )
    check_every: int = Field(ge=1)
    dnsmos_windows: int = Field(
        ge=1, description="windows of an utterance that DNSMOS averages over"
    )
    bootstrap_samples: int = Field(ge=1)
    seed: int = Field(description="random seed")

    @field_validator("asr_windows_s")
    @classmethod
    def _end_with_whispers_own(cls, windows_s: list[int]) -> list[int]:
        if windows_s != sorted(set(windows_s)) or windows_s[:1] < [1] or windows_s[-1] != 30:
            raise ValueError(f"{windows_s}: ascending seconds are expected, the last of them 30")
        return windows_s


class Claims(Section):
    min_seeds: int = Field(ge=2, description="least number of seeds")
    bootstrap_samples: int = Field(ge=1)
    wer_margin: float = Field(ge=0)
    seed: int = Field(description="random seed")


class Report(Section):
    samples: int = Field(ge=1)


PUBLISHED_MODELS = {
    "whisper": "the file large-v3.pt of openai-whisper",
    "emotion2vec": "the folder emotion2vec_plus_large",
    "audeering": "the folder wav2vec2-large-robust-12-ft-emotion-msp-dim",
    "wavlm": "the folder wavlm-base-plus-sv",
}
"""Teacher or judge -> what the setting of its name holds."""


class Params(Section):
    """The whole of `params.yaml`."""

    run: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    seeds: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)
    base: UserPath
    shards: int = Field(ge=1, le=99_999)
    compute: Compute = Field(description="device and precision of trainings and judges")
    tracking: Tracking = Field(
        default=Tracking(), description="how trainings are shown; results do not depend on it"
    )
    corpus: WholeCorpus = Field(description="corpora and their splits")
    controlled: Controlled
    align: Align = Field(description="word boundaries")
    label: Label
    speech: Speech
    vocoder: Vocoder
    dataset: Dataset = Field(description="texts that the models are given")
    codec: WholeCodec
    policy: Policy = Field(description="language model over speech tokens, which the rewards train")
    sft: Sft = Field(description="supervised fine-tuning, from which the rewards start")
    reward: WholeReward = Field(description="reward optimisation of the policy, in three stages")
    variants: dict[str, Variant]
    synthesis: Synthesis = Field(description="sampling of the test sentences")
    tables: Tables
    external: dict[str, Annotated[UserPath, Field(min_length=1)]] = {}
    evaluate: Evaluate
    claims: Claims
    report: Report = Field(description="the report of a run")

    @model_validator(mode="after")
    def _names_exist(self) -> "Params":
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: {self.seeds} has a duplicate")
        for name, variant in self.variants.items():
            if name in ("sft", *SEEDLESS):
                raise ValueError(f"variants.{name}: the name is reserved, choose another name")
            if problem := _folder_problem(name, "base"):
                raise ValueError(f"variants.{name}: {problem}")
            reward = variant.applied_to(self.reward)
            weights = require_section(reward, variant.stage, RewardStage).weights.model_dump()
            if not any(weights[term] for term in weights if term != "kl"):
                key = "drop" if variant.drop else "override.weights"
                raise ValueError(f"variants.{name}.{key}: no reward of its stage is left")
            seen = [name]
            while (start := self.variants[seen[-1]].start) != "sft":
                if start not in self.variants:
                    known = ["sft", *self.variants]
                    raise ValueError(
                        f"variants.{seen[-1]}.start: no policy {start!r} ({', '.join(known)})"
                        f"{did_you_mean(start, known)}"
                    )
                if start in seen:
                    circle = " from ".join([*seen, start])
                    raise ValueError(f"variants.{name}.start: circular, {circle}")
                seen.append(start)
        for name in self.external:
            if problem := _external_problem(name, self.variants):
                raise ValueError(f"external.{name}: {problem}")
        systems = [*SEEDLESS, "sft", *self.variants, *self.external]
        for table, rows in self.tables.model_dump().items():
            for row in rows:
                if row not in systems:
                    raise ValueError(
                        f"tables.{table}: no system {row!r} ({', '.join(systems)})"
                        f"{did_you_mean(row, systems)}"
                    )
        return self

    @model_validator(mode="after")
    def _corpora_exist(self) -> "Params":
        left_out = {
            "codec.content": self.codec.content.leave_out,
            "codec.style": self.codec.style.leave_out,
            "sft": self.sft.leave_out,
            "reward": self.reward.leave_out,
        }
        for section, names in left_out.items():
            for name in names:
                if name not in self.corpus.sets:
                    raise ValueError(
                        f"{section}.leave_out: corpus.sets has no {name!r} "
                        f"({', '.join(self.corpus.sets)}): correct or remove the name"
                        f"{did_you_mean(name, self.corpus.sets)}"
                    )
        return self

    @model_validator(mode="after")
    def _models_fit_each_other(self) -> "Params":
        for problem in self._contradictions():
            raise ValueError(problem)
        return self

    def _contradictions(self) -> Iterator[str]:
        """Yield what is wrong between settings; each text begins with the setting to change."""
        if self.align.backend == "mfa" and not self.align.mfa_acoustic_model and self.shards > 1:
            yield "align.mfa_acoustic_model: with several shards each would train one: name one"
        label, judges = self.label, self.evaluate
        for section, models in (
            ("label", (label.emotion_teacher, label.vad_teacher)),
            ("evaluate", (judges.asr, judges.emotion, judges.vad, judges.speaker)),
        ):
            for model in models:
                if model in PUBLISHED_MODELS and not getattr(getattr(self, section), model):
                    yield f"{section}.{model}: name {PUBLISHED_MODELS[model]}"
        embedded = (self.speech.preset, self.codec.preset, self.policy.preset)
        if self.base and (embedded != ("embedded",) * 3 or self.codec.checkpoint):
            yield "base: its models are embedded ones: set it to '' for CosyVoice2 or HD-Emo"
        yield from self._policy_contradictions()
        yield from self._codec_contradictions()
        yield from self._judge_contradictions()
        if self.speech.preset == "cosyvoice2" and not self.speech.path:
            yield "speech.path: name the folder CosyVoice2-0.5B"
        trainings: dict[str, Reward] = {"reward.probe_every": self.reward}
        for name, variant in self.variants.items():
            trainings[f"variants.{name}.override.steps"] = variant.applied_to(self.reward)
        for key, reward in trainings.items():
            probes = reward.steps // (reward.probe_every or 1)
            if reward.probe_every and probes < reward.hacking_patience:
                yield (
                    f"{key}: {probes} probes in {reward.steps} steps, but hacking_patience is "
                    f"{reward.hacking_patience}: probe more often, or raise reward.steps"
                )

    def _policy_contradictions(self) -> Iterator[str]:
        phones = self.dataset.policy_text == "phones"
        if self.policy.preset != "cosyvoice2":
            if not phones:
                yield "dataset.policy_text: set phones for this policy.preset"
            return
        if not self.policy.path:
            yield "policy.path: name the folder CosyVoice2-0.5B"
        if self.speech.preset != "cosyvoice2":
            yield "speech.preset: set cosyvoice2 for policy.preset cosyvoice2"
        if phones:
            yield "dataset.policy_text: name the folder CosyVoice-BlankEN of policy.path"
        if self.policy.dropout:
            yield "policy.dropout: set 0.0 for cosyvoice2, which has no dropout"
        if self.sft.guided_attention_weight or self.sft.emotion_weight:
            yield (
                "sft.guided_attention_weight, sft.emotion_weight: set 0.0 for policy.preset "
                "cosyvoice2"
            )
        if self.synthesis.max_ratio < 10:
            yield (
                f"synthesis.max_ratio: {self.synthesis.max_ratio} speech tokens per text token "
                "truncate sentences, since cosyvoice2 uses about six: set 20.0 as upstream"
            )

    def _codec_contradictions(self) -> Iterator[str]:
        phones, preset = self.dataset.codec_text == "phones", self.codec.preset
        if preset in ("embedded", "miniature") and not self.codec.checkpoint:
            if self.codec.whisper:
                yield f"codec.whisper: codec.preset {preset} trains from scratch: leave it empty"
            if not phones:
                yield f"dataset.codec_text: set phones for codec.preset {preset}"
            return
        if self.codec.checkpoint and self.speech.preset != "cosyvoice2":
            yield "speech.preset: set cosyvoice2 for the authors' codec"
        if phones:
            yield "dataset.codec_text: this codec uses Whisper's tokens: name a Whisper folder"
        if self.codec.guided_attention_weight:
            yield "codec.guided_attention_weight: guided attention needs phones: set 0.0"

    def _judge_contradictions(self) -> Iterator[str]:
        if not self.reward.probe_every:
            return
        if self.base:
            judge_sets, whose = _judge_training_sets(Path(self.base)), "the judge of the base"
        else:
            sets = self.corpus.sets.items()
            judge_sets = [name for name, chosen in sets if chosen.reader == "controlled"]
            whose = "the judge of the run"
        if judge_sets is None:
            return
        left_out = self.reward.leave_out
        rewarded = [
            name
            for name, chosen in self.corpus.sets.items()
            if chosen.split in ("", "train") and name not in left_out
        ]
        if not any(name in judge_sets and not self.corpus.sets[name].split for name in rewarded):
            yield (
                f"reward.probe_every: {whose} knows {', '.join(judge_sets) or 'no corpus'}, and "
                "the dev sentences of the rewards are of none of them "
                f"({', '.join(rewarded) or 'they have no set'}): set it to 0"
            )


def _folder_problem(name: str, taken: str) -> str | None:
    """The reason why a name is not usable as a folder beside `taken`, and in rules; else None."""
    if name == taken:
        return "is already a folder of the run, choose another name"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        return "use letters, digits, '_' and '-' only, a letter or digit first"
    return None


def _external_problem(name: str, variants: Collection[str] = ()) -> str | None:
    """The reason why a name is not usable for an external system; else None."""
    if name in ("sft", *SEEDLESS, *variants):
        return "a system of this project has that name"
    if len(name) > MAX_SYSTEM_CHARACTERS:
        return f"the name has more than {MAX_SYSTEM_CHARACTERS} characters"
    return _folder_problem(name, "base")


def check_external_names(names: Iterable[str]) -> None:
    """Check the names of external systems without the rest of the settings.

    Raises:
        HproError: a name is not usable.
    """
    for name in names:
        if problem := _external_problem(name):
            raise HproError(f"external.{name}: {problem}")


def _judge_training_sets(base: Path) -> list[str] | None:
    """Test sets that a base's judge was trained on; None if its file does not list them.

    Preflight and the job that unpacks the judge refuse such a file by its hash.
    """
    try:
        names = read_json(base / "judge" / "config.json").get("trained_on")
    except HproError:
        return None
    return [str(name) for name in names] if isinstance(names, dict) else None


RENAMED = {
    "redraws": "gumbel_rao_samples",
    "history_sweeps": "jacobi_iterations",
    "guide_weight": "guided_attention_weight",
    "feature_weight": "feature_matching_weight",
    "max_rejected_share": "max_rejected_fraction",
    "dev_share": "dev_fraction",
    "test_share": "test_fraction",
    "judge_share": "judge_fraction",
    "decay_share": "decay_fraction",
    "dev_looks": "dev_evaluations",
}
"""Former name of a setting -> its current name."""

SectionT = TypeVar("SectionT", bound=Section)


def flattened(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested settings by their names with dots, such as "reward.word.temperature"."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def read_section(path: str | Path, name: str, kind: type[SectionT]) -> SectionT:
    """Read one section of `params.yaml`, or of a stage's own extract of it.

    Raises:
        HproError: the file is missing or not YAML, the section is absent, a key is unknown, or a
            value has the wrong type; the message names the key.
    """
    settings = read_yaml(Path(path))
    if name not in settings:
        raise HproError(f"{path}: section {name!r} is missing")
    return validate_section(settings[name], kind, path, name)


def read_compute(path: str | Path, threads: int) -> Compute:
    """Read the section `compute`, with the number of threads from the command line.

    Raises:
        HproError: as `read_section`.
    """
    return read_section(path, "compute", Compute).model_copy(update={"threads": threads})


def read_audio(text: str) -> Audio:
    """Read the option --dev-audio of a training, JSON.

    Raises:
        HproError: it is not JSON of an `Audio`.
    """
    try:
        return Audio.model_validate_json(text)
    except ValidationError as error:
        key, problem = problem_of(error, kind=Audio)
        raise HproError(": ".join(filter(None, ["--dev-audio", key, problem]))) from error


PlainT = TypeVar("PlainT")


def read_plain(path: str | Path, name: str, kind: type[PlainT]) -> PlainT:
    """Read a setting outside of sections (`run`, `seeds`, `base`, `shards`, `external`).

    Raises:
        HproError: the setting is missing or wrong.
    """
    settings = read_yaml(Path(path))
    if name not in settings:
        raise HproError(f"{path}: setting {name!r} is missing")
    annotation: Any = Params.model_fields[name].rebuild_annotation()
    check = TypeAdapter(annotation, config=ConfigDict(strict=True))
    try:
        found = check.validate_python(settings[name])
    except ValidationError as error:
        raise HproError(f"{path}: {name}: {problem_of(error)[1]}") from error
    assert isinstance(found, kind)
    return found


def read_variant(path: str | Path, name: str) -> Variant:
    """Read one entry of the section `variants`; the error for an unknown one lists them."""
    variants = read_yaml(Path(path)).get("variants", {})
    if name not in variants:
        known = ", ".join(sorted(variants))
        raise HproError(
            f"{path}: no variant {name!r} (known: {known}); add it under variants:"
            f"{did_you_mean(name, variants)}"
        )
    return validate_section(variants[name], Variant, path, f"variants.{name}")


def read_variants(path: str | Path) -> dict[str, Variant]:
    """Read the whole section `variants`."""
    return {name: read_variant(path, name) for name in read_yaml(Path(path)).get("variants", {})}


def require_section(section: Section, name: str, kind: type[SectionT]) -> SectionT:
    """Return an optional part of a section, and refuse an extract of `params.yaml` without it."""
    found = getattr(section, name)
    if not isinstance(found, kind):
        raise HproError(f"{type(section).__name__.lower()}.{name} is missing in the settings")
    return found


def validate_section(
    values: Any, kind: type[SectionT], path: str | Path, name: str = ""
) -> SectionT:
    """Check values of a file against a section type.

    `name` is the dotted name of the section in the file, empty for the whole file.

    Raises:
        HproError: a setting is unknown, missing or wrong; the message names the first one and its
            value.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        key, problem = problem_of(error, name, kind)
        raise HproError(": ".join(filter(None, [str(path), key, problem]))) from error


def problem_of(
    error: ValidationError, name: str = "", kind: type[Section] = Params
) -> tuple[str, str]:
    """Return the dotted name of the first wrong setting, and its problem.

    The name is empty if settings contradict each other; the text then begins with a setting.
    `name` is the dotted name of the section that was checked, empty for the whole file; `kind` is
    its type.
    """
    # A misspelt setting is also reported as missing; the misspelling is more informative.
    first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    place = ".".join(str(part) for part in (name, *first["loc"]) if part != "")
    return place, _cure(first, kind)


def _cure(problem: Any, kind: type[Section]) -> str:
    message = problem["msg"]
    hint = ""
    match problem["type"]:
        case "extra_forbidden":
            *section, name = problem["loc"]
            if new := RENAMED.get(str(name)):
                return f"is now called {new}: rename it"
            hint = did_you_mean(str(name), _settings_in(kind, section))
            return f"is not a setting{hint or '; correct a misspelling or remove it'}"
        case "missing":
            return "is missing; copy it from the params.yaml that the project ships"
        case "value_error":
            return message.removeprefix("Value error, ")
        case "string_pattern_mismatch" if "{}<>" in message:
            return (
                "a path must not contain { } < > or a line break, or begin with '-': rename "
                f"it, not {problem['input']!r}"
            )
        case "literal_error":
            known = re.findall(r"'([^']*)'", problem["ctx"]["expected"])
            hint = did_you_mean(str(problem["input"]), known)
    return f"{message[0].lower()}{message[1:]}, not {problem['input']!r}{hint}"


def _settings_in(kind: Any, place: Iterable[Any]) -> list[str]:
    """Names of the settings in a section, whose place is relative to a section of type `kind`."""
    for part in place:
        kind = kind.model_fields[part].annotation if _is_section(kind) else get_args(kind)[-1]
        if get_origin(kind) is not dict:  # a section or None
            kind = next(filter(_is_section, get_args(kind)), kind)
    return list(kind.model_fields) if _is_section(kind) else []


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)
