"""Speech tokens from the policy, one after the other, a batch at a time with a key-value cache."""

from dataclasses import dataclass

import torch
from torch import Tensor

from hpro_core.constants import N_SPEECH_TOKENS
from hpro_core.engine.batching import Batch
from hpro_core.policy.model import END_OF_SPEECH, SpeechLM


@dataclass(frozen=True)
class Sampled:
    """Speech tokens of one utterance."""

    tokens: Tensor  # int64 (L,)
    stopped: bool  # false: the longest allowed length came before an end symbol


@torch.no_grad()
def sample(
    policy: SpeechLM,
    batch: Batch,
    generators: list[torch.Generator],
    top_p: float,
    top_k: int,
    temperature: float,
    min_ratio: float,
    max_ratio: float,
) -> list[Sampled]:
    """Speak the texts of a batch.

    Each row has its own random numbers, so an utterance sounds the same whatever it is batched with
    (up to rounding).

    Args:
        policy: in eval mode.
        batch: texts and references; its speech tokens are not read.
        generators: one per row.
        top_p: keep the likeliest tokens up to this share of probability ...
        top_k: ... and at most so many (CosyVoice2: 0.8 and 25).
        temperature: of the softmax; 1 leaves it.
        min_ratio: shortest length in tokens per text symbol.
        max_ratio: longest length in tokens per text symbol.
    """
    rows = len(generators)
    shortest = (batch.symbol_lengths_B * min_ratio).long()
    longest = (batch.symbol_lengths_B * max_ratio).long().clamp(min=1)
    tokens: list[list[int]] = [[] for _ in range(rows)]
    stopped = [False] * rows
    hidden, cache = policy.begin(batch)
    running = set(range(rows))
    for step in range(int(longest.max())):
        logits = policy.logits(hidden).float() / temperature
        logits[:, END_OF_SPEECH + 1 :] = -torch.inf
        logits[shortest > step, END_OF_SPEECH] = -torch.inf
        drawn = _nucleus_draw(logits, generators, top_p, top_k)
        for row in sorted(running):
            token = int(drawn[row])
            if token == END_OF_SPEECH:
                stopped[row] = True
                running.discard(row)
                continue
            tokens[row].append(token)
            if len(tokens[row]) >= int(longest[row]):
                running.discard(row)
        if not running:
            break
        hidden = policy.advance(drawn.clamp(max=N_SPEECH_TOKENS - 1), cache)
    return [
        Sampled(torch.tensor(row, dtype=torch.int64), done)
        for row, done in zip(tokens, stopped, strict=True)
    ]


def _nucleus_draw(
    logits_BV: Tensor, generators: list[torch.Generator], top_p: float, top_k: int
) -> Tensor:
    """One class per row from the likeliest `top_k` within `top_p` of the probability, (B,)."""
    probability_BK, index_BK = logits_BV.softmax(-1).topk(top_k, dim=-1)
    before_BK = probability_BK.cumsum(-1) - probability_BK
    kept_BK = probability_BK.masked_fill(before_BK >= top_p, 0.0)
    uniform_B = torch.stack(
        [torch.rand((), generator=g, device=logits_BV.device) for g in generators]
    )
    cumulative_BK = kept_BK.cumsum(-1)
    position_B = (cumulative_BK < uniform_B[:, None] * cumulative_BK[:, -1:]).sum(-1)
    return index_BK.gather(1, position_B.clamp(max=top_k - 1)[:, None])[:, 0]
