"""A short reward training whose batches are cut: alone, in micro-batches, or in several processes.

`accelerate launch ... -m tests.rank_training OUT` runs it as several; the test in test_optimisation
compares what is left in OUT.
"""

import os
import sys
from pathlib import Path

import torch
from torch import nn

from hpro_core import params as p
from hpro_core.codec.training import make_codec
from hpro_core.policy.sft import make_policy
from hpro_core.reward.objective import TERMS, Objective, Rewarder
from hpro_core.train.batching import Sampler
from hpro_core.train.checkpoint import save_model
from hpro_core.train.distributed import Ranks, is_main_process
from hpro_core.train.loop import Loop, clear, fit
from hpro_core.train.model_selection import ModelSelection
from tests.conftest import make_example

STEPS = 4
POLICY = p.Policy(preset="miniature", dropout=0.1)


def train(out: Path, accumulate: int = 1) -> nn.Module:
    """Four steps of plain gradient descent on eight ragged utterances; the weights go to `out`."""
    examples = [make_example(i, 24 + 5 * i, n_words=3 + i % 3) for i in range(8)]
    torch.manual_seed(0)
    codec = make_codec("miniature").eval()
    codec.freeze(list(codec.children()))
    reference = make_policy(POLICY, examples).eval()
    torch.manual_seed(100 + int(os.environ.get("RANK", "0")))  # the first process's weights count
    policy = make_policy(POLICY, examples).eval()
    reference.requires_grad_(False)
    objective = Objective(dict(zip(TERMS, (0.02, 2.0, 1.0, 5.0, 1.0, 0.5), strict=True)), 0.8, "l1")
    rewarder = Rewarder(policy, reference, codec, objective, torch.device("cpu"), bf16=False)
    sampler = Sampler(examples, 8, seed=0)
    heard = [sampler.batch_at(1)]
    model_selection = ModelSelection(
        every=2,
        evaluate=lambda: {"reward": rewarder.reward_over(heard)},
        choose=lambda history: max(history, key=lambda step: history[step]["reward"]),
    )
    loop = Loop(
        "cut", STEPS, 0, out, out / "work", clip_norm=1e6, accumulate=accumulate, log_every=1,
        dev_every=2, checkpoint_every=2, grad_norm_every=2,
    )  # fmt: skip
    fit(
        policy,
        torch.optim.SGD(policy.parameters(), lr=0.05),
        rewarder.terms,
        lambda step: rewarder.draw_noise(sampler.batch_at(step), torch.initial_seed()),
        lambda: rewarder.mean_over(heard),
        loop,
        model_selection=model_selection,
        grad_norm_fn=rewarder.gradient_norms_at_logits,
    )
    if is_main_process():
        save_model(out, policy, {"kept": model_selection.kept_step})
        clear(out / "work")
    return policy


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(Path(sys.argv[1]))
    ranks = Ranks.init_distributed(torch.device("cpu"))
    print(f"process {ranks.index} of {ranks.count}", flush=True)
