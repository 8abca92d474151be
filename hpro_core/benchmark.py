"""Measures one step of each training at the paper's size: time, memory and FLOPs.

Sizes are those of CosyVoice2's language model (Qwen2.5-0.5B) and the released codec. Weights and
batch are random; the cost of a step does not depend on their values.
"""

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hpro_core.codec.model import PRESETS, CodecConfig, HdEmo
from hpro_core.codec.training import content_terms, style_terms
from hpro_core.constants import EMOTIONS, N_SPEECH_TOKENS, TOKEN_RATE_HZ, VAD
from hpro_core.params import Reward, Variant
from hpro_core.policy.cosyvoice2 import CosyVoice2Config, CosyVoice2LM
from hpro_core.policy.sft import sft_terms
from hpro_core.reward.objective import draw_noise, objective_of, reward_terms
from hpro_core.train.batching import Batch, Example, collate
from hpro_core.train.loop import autocast, device_of, set_threads
from hpro_core.train.terms import Terms

Training = Literal["sft", "codec_content", "codec_style", "frame", "word", "sentence"]
TRAININGS: tuple[Training, ...] = get_args(Training)

PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "4090": 165e12}
"""GPU name -> dense bfloat16 peak in FLOP/s, from data sheets; other GPUs get no MFU."""

CLIP_NORM = 5.0
_TEXT_TOKENS, _WORDS = 24, 16  # typical of six seconds of English


@dataclass(frozen=True)
class Workload:
    """Model sizes and batch of a measurement."""

    policy: CosyVoice2Config
    codec: CodecConfig
    utterances: int = 8
    duration_s: float = 6.0


FULL_SIZE = Workload(CosyVoice2Config(), CodecConfig(**PRESETS["released"]))


@dataclass(frozen=True)
class Cost:
    """Measured cost of one optimiser step."""

    training: str
    device: str
    utterances: int
    duration_s: float
    trained_parameters: int
    first_loss: float
    last_loss: float
    seconds_per_step: float  # the fastest of the steps after the first
    peak_memory_gb: float  # of the GPU; of the whole process without one
    tflop_per_step: float  # matrix products of forward and backward pass
    tflop_per_s: float
    mfu: float | None  # model FLOPs utilisation; None if the device's peak is unknown


def measure(training: Training, workload: Workload, reward: Reward, device: str, threads: int,
            steps: int = 3, checkpointing: bool = False) -> Cost:  # fmt: skip
    """Run some steps of a training on a synthetic batch and return their cost.

    `steps` are timed, after one warm-up step. `reward` gives weights and temperatures, `device` is
    "auto", "cpu" or "cuda", and `checkpointing` is activation checkpointing of the policy.
    """
    set_threads(threads)
    where = device_of(device)
    torch.manual_seed(0)
    model, terms = _training(training, workload, reward, where, checkpointing)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(trained, lr=1e-5)
    batch = random_batch(workload).to(where)

    def step() -> float:
        with autocast(where, True):
            loss = terms(batch)["loss"]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, CLIP_NORM)
        optimiser.step()
        return float(loss.detach())

    with FlopCounterMode(display=False) as counter:
        losses = [step()]
    seconds = []
    for _ in range(steps):
        begin = time.perf_counter()
        losses.append(step())  # float(loss) synchronises with the GPU
        seconds.append(time.perf_counter() - begin)
    name = torch.cuda.get_device_name(where) if where.type == "cuda" else f"CPU, {threads} threads"
    rate = counter.get_total_flops() / min(seconds)
    peak = next((flops for gpu, flops in PEAK_FLOPS.items() if gpu in name), None)
    return Cost(
        training=training,
        device=name,
        utterances=workload.utterances,
        duration_s=workload.duration_s,
        trained_parameters=sum(p.numel() for p in trained),
        first_loss=losses[0],
        last_loss=losses[-1],
        seconds_per_step=min(seconds),
        peak_memory_gb=_peak_memory_gb(where),
        tflop_per_step=counter.get_total_flops() / 1e12,
        tflop_per_s=rate / 1e12,
        mfu=None if peak is None else rate / peak,
    )


def random_batch(workload: Workload) -> Batch:
    """Return a batch of utterances with random tokens and labels and evenly spaced words."""
    rng = np.random.default_rng(0)
    n_tokens = round(workload.duration_s * TOKEN_RATE_HZ)
    edges = np.linspace(0.1, workload.duration_s - 0.1, _WORDS + 1)

    def example(index: int) -> Example:
        return Example(
            utt_id=f"made_up_{index}",
            corpus="made_up",
            speaker="made_up",
            text="",
            words=("word",) * _WORDS,
            symbols=rng.integers(0, workload.policy.vocabulary, _TEXT_TOKENS),
            symbol_word=np.zeros(_TEXT_TOKENS, dtype=np.int64),
            transcript=rng.integers(0, workload.codec.text_vocabulary, _TEXT_TOKENS + 3),
            tokens=rng.integers(0, N_SPEECH_TOKENS, n_tokens),
            speaker_embedding=np.zeros(1, dtype=np.float32),
            emotion=rng.dirichlet(np.ones(len(EMOTIONS))).astype(np.float32),
            spans_s=np.stack([edges[:-1], edges[1:]], axis=1),
            vad=rng.random((_WORDS, len(VAD))).astype(np.float32),
        )

    examples = [example(index) for index in range(workload.utterances)]
    return collate(examples, [e.speaker_embedding for e in examples])


def _training(
    training: Training, workload: Workload, reward: Reward, device: torch.device,
    checkpointing: bool,
) -> tuple[nn.Module, Callable[[Batch], Terms]]:  # fmt: skip
    """The trained model, and a function that returns the terms of its loss."""
    if training == "codec_content" or training == "codec_style":
        codec = HdEmo(workload.codec).to(device).train()
        if training == "codec_content":
            codec.requires_grad_(False)
            nn.ModuleList(codec.content_parts()).requires_grad_(True)
            return codec, lambda batch: content_terms(codec, batch, 0.0)
        codec.freeze(codec.frozen_parts())
        return codec, lambda batch: style_terms(codec, batch)
    policy = CosyVoice2LM(workload.policy, checkpointing).to(device)
    if training == "sft":
        policy.train()
        return policy, lambda batch: sft_terms(policy, batch, 0.0, 0.0)
    policy.eval()
    codec = HdEmo(workload.codec).to(device)
    codec.freeze(list(codec.children()))
    codec.eval()
    with torch.device(device):
        reference = CosyVoice2LM(workload.policy).eval().requires_grad_(False)
    reference.load_state_dict(policy.state_dict())
    objective = objective_of(Variant(start="sft", stage=training), reward)
    generator = torch.Generator(device).manual_seed(0)

    def terms(batch: Batch) -> Terms:
        noise = draw_noise(batch, generator, objective).noise_KRBLC
        return reward_terms(policy, reference, codec, batch, objective, noise)

    return policy, terms


def _peak_memory_gb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
