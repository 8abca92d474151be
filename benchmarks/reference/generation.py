"""Speech tokens of one utterance, the whole sequence read again for every new one (no cache)."""

from dataclasses import replace

import torch
from torch import Tensor

from hpro_core.policy.interface import END_OF_SPEECH
from hpro_core.policy.sampling import Sampling
from hpro_core.train.batching import Batch
from reference.policy import Policy


@torch.no_grad()
def generate(
    policy: Policy, batch: Batch, generator: torch.Generator, how: Sampling
) -> tuple[list[int], float]:
    """Draw until the end of speech or the longest length.

    Args:
        policy: of the base.
        batch: one utterance; its speech tokens are not read.
        generator: of the draws.
        how: method "nucleus" and limits.

    Returns:
        The tokens, and the smallest distance of a draw from an edge where another token begins.
    """
    symbols = int(batch.symbol_lengths_B[0])
    shortest, longest = int(symbols * how.min_ratio), max(1, int(symbols * how.max_ratio))
    tokens: list[int] = []
    margin = 1.0
    tables = policy.tables()
    while len(tokens) < longest:
        history_1L = torch.tensor([tokens], dtype=torch.long)
        lengths_1 = torch.tensor([len(tokens)])
        read = policy.read(replace(batch, history_BL=history_1L, token_lengths_B=lengths_1), tables)
        logits_V = read.logits_BPV[0, -1] / how.temperature
        logits_V[END_OF_SPEECH + 1 :] = -torch.inf
        if len(tokens) < shortest:
            logits_V[END_OF_SPEECH] = -torch.inf
        token, near = draw(logits_V.softmax(-1), float(torch.rand((), generator=generator)), how)
        margin = min(margin, near)
        if token == END_OF_SPEECH:
            break
        tokens.append(token)
    return tokens, margin


def draw(probability_V: Tensor, uniform: float, how: Sampling) -> tuple[int, float]:
    """The class at `uniform` of the nucleus' probability, and how near the next edge is."""
    ordered_V, class_V = probability_V.double().sort(descending=True)
    nucleus: list[tuple[int, float]] = []
    mass, margin = 0.0, 1.0
    for share, token in zip(
        ordered_V[: how.top_k].tolist(), class_V[: how.top_k].tolist(), strict=True
    ):
        margin = min(margin, abs(mass - how.top_p))
        if mass >= how.top_p:
            break
        nucleus.append((token, share))
        mass += share
    at = 0.0
    for rank, (token, share) in enumerate(nucleus):
        margin = min(margin, abs(uniform * mass - at) if rank else 1.0)
        at += share
        if at >= uniform * mass:
            return token, min(margin, at - uniform * mass if rank + 1 < len(nucleus) else 1.0)
    return nucleus[-1][0], margin
