"""Batched autoregressive sampling of speech tokens from a policy, with a key-value cache.

Letters as in `interface`; K candidate.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hpro_core.policy.interface import END_OF_SPEECH, SpeechPolicy
from hpro_core.speech.token_table import cached_rows
from hpro_core.train.batching import Batch

Method = Literal["nucleus", "ras", "greedy"]


_COPY_BELOW_FRACTION = 0.8
"""Fraction of active rows at which finished rows leave the cache; this copies the cache (ours)."""


@dataclass(frozen=True)
class Sampling:
    """Sampling method and length limits."""

    method: Method  # nucleus; ras: repetition-aware (VALL-E 2, CosyVoice2); greedy: most likely
    top_p: float  # nucleus, ras: cumulative probability of the kept tokens (CosyVoice2: 0.8)
    top_k: int  # nucleus, ras: largest number of kept tokens (CosyVoice2: 25)
    temperature: float  # of the softmax; 1: unchanged
    min_ratio: float  # shortest length in tokens per text symbol
    max_ratio: float  # longest length in tokens per text symbol
    window: int = 10  # ras: number of recent tokens (CosyVoice2)
    tau: float = 0.1  # ras: fraction of the window from which a token is a repeat (CosyVoice2)


@dataclass(frozen=True)
class GeneratedTokens:
    """Sampled speech tokens of one utterance."""

    tokens: Tensor  # int64 (L,)
    stopped: bool  # whether the end symbol was drawn; false: cut at the longest allowed length


@torch.no_grad()
def sample(
    policy: SpeechPolicy,
    batch: Batch,
    generators: list[torch.Generator],
    sampling: Sampling,
    prompt: Batch | None = None,
) -> list[GeneratedTokens]:
    """Sample speech tokens for the texts of a batch.

    Each row has its own random generator, so an utterance does not depend on the other rows, up to
    rounding. A class that is not allowed at a step has probability 0. Upstream redraws it instead,
    which never ends if the nucleus holds nothing else.

    Args:
        policy: policy in eval mode.
        batch: texts and reference embeddings; its speech tokens are not used.
        generators: random generator of each row, on the device of the policy.
        sampling: sampling method and length limits.
        prompt: reference utterances, see `SpeechPolicy.begin`. Their tokens do not count as
            repeats, and their texts do not count in the length limits.

    Returns:
        Tokens of each row, without the end symbol.
    """
    rows = len(generators)
    shortest_B = (batch.symbol_lengths_B * sampling.min_ratio).long()
    longest = (batch.symbol_lengths_B * sampling.max_ratio).long().clamp(min=1).tolist()
    tokens: list[list[int]] = [[] for _ in range(rows)]
    stopped, ended = [False] * rows, [False] * rows
    cached = list(range(rows))  # batch row of each cache row: the active and some finished ones
    with cached_rows(policy.modules()):
        hidden, cache = policy.begin(batch, max(longest), prompt)
        for step in range(max(longest)):
            logits = policy.logits(hidden).float() / sampling.temperature
            logits[:, END_OF_SPEECH + 1 :] = -torch.inf
            logits[shortest_B > step, END_OF_SPEECH] = -torch.inf
            rngs, history = [generators[row] for row in cached], [tokens[row] for row in cached]
            drawn = _draw(logits, rngs, sampling, history)
            for row, token in zip(cached, drawn.tolist(), strict=True):
                if ended[row]:
                    continue
                stopped[row] = token == END_OF_SPEECH
                if not stopped[row]:
                    tokens[row].append(token)
                ended[row] = stopped[row] or len(tokens[row]) == longest[row]
            kept = [place for place, row in enumerate(cached) if not ended[row]]
            if not kept:
                break
            if len(kept) <= _COPY_BELOW_FRACTION * len(cached):
                places = torch.tensor(kept, device=drawn.device)
                drawn, shortest_B = drawn[places], shortest_B[places]
                cached = [cached[place] for place in kept]
                cache.select_rows(places)
            hidden = policy.read(drawn[:, None], cache)[:, 0]
    return [
        GeneratedTokens(torch.tensor(row, dtype=torch.int64), done)
        for row, done in zip(tokens, stopped, strict=True)
    ]


def _draw(
    logits_BV: Tensor,
    generators: list[torch.Generator],
    sampling: Sampling,
    history: list[list[int]],
) -> Tensor:
    """Draw one class per row, int64 (B,), given the tokens of each row so far."""
    if sampling.method == "greedy":
        return logits_BV.argmax(-1)
    drawn_B = _nucleus_draw(logits_BV, generators, sampling.top_p, sampling.top_k)
    if sampling.method == "nucleus":
        return drawn_B
    for row, token in enumerate(drawn_B.tolist()):
        if history[row][-sampling.window :].count(token) >= sampling.tau * sampling.window:
            drawn_B[row] = _full_draw(logits_BV[row], generators[row])
    return drawn_B


def nucleus(logits: Tensor, top_p: float, top_k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the `top_k` most likely classes and mark those outside the `top_p` nucleus.

    Args:
        logits: (..., V).
        top_p: a class is outside if the more likely classes have at least this total probability.
        top_k: number of classes; K is the smaller of it and V.

    Returns:
        Probabilities in descending order, int64 classes, and a bool mask that is true outside the
        nucleus, each (..., K).
    """
    probability, index = logits.softmax(-1).topk(min(top_k, logits.shape[-1]), dim=-1)
    return probability, index, probability.cumsum(-1) - probability >= top_p


def _nucleus_draw(
    logits_BV: Tensor, generators: list[torch.Generator], top_p: float, top_k: int
) -> Tensor:
    """Draw one class per row from the nucleus, int64 (B,)."""
    probability_BK, index_BK, outside_BK = nucleus(logits_BV, top_p, top_k)
    kept_BK = probability_BK.masked_fill(outside_BK, 0.0)
    uniform_B = torch.stack(
        [torch.rand((), generator=g, device=logits_BV.device) for g in generators]
    )
    cumulative_BK = kept_BK.cumsum(-1)
    position_B = (cumulative_BK < uniform_B[:, None] * cumulative_BK[:, -1:]).sum(-1)
    return index_BK.gather(1, position_B.clamp(max=index_BK.shape[1] - 1)[:, None])[:, 0]


def _full_draw(logits_V: Tensor, generator: torch.Generator) -> Tensor:
    """Draw one class from the whole distribution, an int64 scalar."""
    cumulative_V = logits_V.softmax(-1).cumsum(-1)
    uniform = torch.rand((), generator=generator, device=logits_V.device)
    return (cumulative_V < uniform * cumulative_V[-1]).sum().clamp(max=len(logits_V) - 1)
