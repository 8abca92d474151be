"""Training a policy by reward: one stage of HPRO, or all terms from the start for an ablation.

The algorithm of the paper's section II-B: teacher-forced logits, straight-through Gumbel sample,
frozen codec, weighted terms, Adam on the language model alone, moments fresh at each stage.
"""

from pathlib import Path

import torch
from torch import Tensor

from hpro_core.codec.training import load_codec
from hpro_core.engine.batching import Batch, Example, Sampler, sequential_batches
from hpro_core.engine.checkpoint import write_json
from hpro_core.engine.training import Loop, autocast, device_of, fit, mean_terms, set_threads
from hpro_core.params import Compute, Reward, Variant
from hpro_core.policy.model import SpeechLM
from hpro_core.policy.sft import load_policy, save_policy
from hpro_core.reward.objective import TERMS, Objective, objective_of, reward_terms


def train_reward(
    name: str,
    variant: Variant,
    settings: Reward,
    compute: Compute,
    start: Path,
    sft: Path,
    codec_folder: Path,
    train: list[Example],
    dev: list[Example],
    seed: int,
    out: Path,
    work: Path,
    identity: str,
    profile: bool = False,
) -> None:
    """Train one variant and write its policy to `out`.

    Args:
        name: of the variant.
        variant: its stage, start and dropped terms.
        settings: of the reward stages.
        compute: threads, device, precision.
        start: folder of the policy to start from.
        sft: folder of the SFT policy, the reference of the KL term.
        codec_folder: the trained codec.
        train: recordings to learn from.
        dev: recordings for the dev curve.
        seed: of the batches and the noise.
        out: gets the policy, training.csv and metrics.json.
        work: for the resumable checkpoint.
        identity: see `Loop`.
        profile: write a trace.
    """
    set_threads(compute.threads)
    device = device_of(compute.device)
    policy = load_policy(start).to(device)
    reference = load_policy(sft).to(device).requires_grad_(False)
    codec = load_codec(codec_folder).to(device)
    objective = objective_of(variant, settings)
    sampler = Sampler(train, settings.batch_size, seed)
    dev_batches = [b.to(device) for b in sequential_batches(dev, settings.batch_size)]
    noise = torch.Generator(device)

    def terms(batch: Batch) -> dict[str, Tensor]:
        # The policy's dropout stays off: its KL to the reference is then zero at the start, and
        # what the codec rewards is the sample and not the mask.
        policy.eval()
        with autocast(device, compute.bf16):
            return reward_terms(policy, reference, codec, batch, objective, noise)

    def train_terms(batch: Batch) -> dict[str, Tensor]:
        noise.manual_seed(torch.initial_seed())  # seeded per step by the loop
        return terms(batch)

    def dev_terms() -> dict[str, float]:
        noise.manual_seed(0)  # the same noise every time, so that the points of a curve compare
        return mean_terms(terms, dev_batches)

    noise.manual_seed(seed)
    first = terms(sampler.batch_at(1).to(device))
    shares = gradient_shares(policy, first, objective)
    loop = Loop(
        label=f"{name} ({variant.stage}), seed {seed}",
        steps=settings.steps,
        seed=seed,
        clip_norm=settings.clip_norm,
        log_every=10,
        dev_every=max(1, settings.steps // 3),
        checkpoint_every=50,
        identity=identity,
    )
    optimiser = torch.optim.Adam(policy.parameters(), lr=settings.learning_rate)
    dev_end = fit(
        policy,
        optimiser,
        train_terms,
        lambda step: sampler.batch_at(step).to(device),
        dev_terms,
        loop,
        out,
        work,
        profile,
    )
    write_json(out / "metrics.json", {"dev": dev_end, "gradient_shares": shares})
    save_policy(out, policy, variant=name, seed=seed, weights=objective.weights)


def gradient_shares(
    policy: SpeechLM, terms: dict[str, Tensor], objective: Objective
) -> dict[str, dict[str, float]]:
    """How strongly each term alone pulls at the policy's weights, before any step.

    A dead term has norm 0; the share says which term drowns the others. The KL term of a policy
    that starts at its reference is at its minimum: its norm is rightly 0.

    Returns:
        For each term its weight, the norm of its unweighted gradient, and the share of its weighted
        norm in the sum of all.
    """
    weights = list(policy.parameters())
    norms = {}
    for name in TERMS:
        gradients = torch.autograd.grad(terms[name], weights, retain_graph=True, allow_unused=True)
        squares = [g.float().square().sum() for g in gradients if g is not None]
        norms[name] = float(torch.stack(squares).sum().sqrt())
    weighted = {name: objective.weights[name] * norms[name] for name in TERMS}
    total = sum(weighted.values())
    return {
        name: {
            "weight": objective.weights[name],
            "norm": norms[name],
            "share": weighted[name] / total,
        }
        for name in TERMS
    }
