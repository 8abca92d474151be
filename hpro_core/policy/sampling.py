"""Speech tokens from the policy, one after the other, a batch at a time with a key-value cache.

Letters as in `interface`; K candidate.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hpro_core.engine.batching import Batch
from hpro_core.engine.token_table import rows_kept
from hpro_core.policy.interface import END_OF_SPEECH, SpeechPolicy

Method = Literal["nucleus", "ras", "greedy"]


_WORTH_COPYING = 0.8
"""Rows that ended leave the cache when no larger share still speaks (ours): that copies it."""


@dataclass(frozen=True)
class Sampling:
    """How a token is drawn, and how long an utterance may become."""

    method: Method  # nucleus; ras, which avoids repeats (VALL-E 2, CosyVoice2); the likeliest
    top_p: float  # keep the likeliest tokens up to this share of probability ...
    top_k: int  # ... and at most so many (CosyVoice2: 0.8 and 25)
    temperature: float  # of the softmax; 1 leaves it
    min_ratio: float  # shortest length in tokens per text symbol
    max_ratio: float  # longest length in tokens per text symbol
    window: int = 10  # ras: tokens that count as recent (CosyVoice2) ...
    tau: float = 0.1  # ... and the share of them that makes a repeat (CosyVoice2)


@dataclass(frozen=True)
class Sampled:
    """Speech tokens of one utterance."""

    tokens: Tensor  # int64 (L,)
    stopped: bool  # false: the longest allowed length came before an end symbol


@torch.no_grad()
def sample(
    policy: SpeechPolicy,
    batch: Batch,
    generators: list[torch.Generator],
    how: Sampling,
    prompt: Batch | None = None,
) -> list[Sampled]:
    """Speak the texts of a batch.

    Each row has its own random numbers, so an utterance sounds the same whatever it is batched with
    (up to rounding).

    Args:
        policy: in eval mode.
        batch: texts and reference embeddings; its speech tokens are not read.
        generators: one per row.
        how: method and limits; a class that may not come yet has no probability (upstream draws
            until another comes, which never ends where nothing else is in the nucleus).
        prompt: reference utterances; see `SpeechPolicy.begin`. They do not count as repeats, and
            their texts do not count in the limits.
    """
    rows = len(generators)
    shortest_B = (batch.symbol_lengths_B * how.min_ratio).long()
    longest = (batch.symbol_lengths_B * how.max_ratio).long().clamp(min=1).tolist()
    tokens: list[list[int]] = [[] for _ in range(rows)]
    stopped, ended = [False] * rows, [False] * rows
    cached = list(range(rows))  # as they lie in the cache: all that speak, and some that ended
    with rows_kept(policy.modules()):
        hidden, cache = policy.begin(batch, max(longest), prompt)
        for step in range(max(longest)):
            logits = policy.logits(hidden).float() / how.temperature
            logits[:, END_OF_SPEECH + 1 :] = -torch.inf
            logits[shortest_B > step, END_OF_SPEECH] = -torch.inf
            rngs, past = [generators[row] for row in cached], [tokens[row] for row in cached]
            drawn = _draw(logits, rngs, how, past)
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
            if len(kept) <= _WORTH_COPYING * len(cached):
                places = torch.tensor(kept, device=drawn.device)
                drawn, shortest_B = drawn[places], shortest_B[places]
                cached = [cached[place] for place in kept]
                cache.keep(places)
            hidden = policy.read(drawn[:, None], cache)[:, 0]
    return [
        Sampled(torch.tensor(row, dtype=torch.int64), done)
        for row, done in zip(tokens, stopped, strict=True)
    ]


def _draw(
    logits_BV: Tensor, generators: list[torch.Generator], how: Sampling, past: list[list[int]]
) -> Tensor:
    """One class per row, (B,), given the tokens that each row has so far."""
    if how.method == "greedy":
        return logits_BV.argmax(-1)
    drawn_B = _nucleus_draw(logits_BV, generators, how.top_p, how.top_k)
    if how.method == "nucleus":
        return drawn_B
    for row, token in enumerate(drawn_B.tolist()):
        if past[row][-how.window :].count(token) >= how.tau * how.window:
            drawn_B[row] = _full_draw(logits_BV[row], generators[row])
    return drawn_B


def nucleus(logits: Tensor, top_p: float, top_k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The likeliest `top_k` classes, and which of them lie beyond `top_p` of the probability.

    Args:
        logits: (..., V).
        top_p: a class is outside if those likelier than it already hold so much.
        top_k: number of classes; K is the smaller of it and V.

    Returns:
        Probabilities, falling, their classes, and true for those outside, each (..., K).
    """
    probability, index = logits.softmax(-1).topk(min(top_k, logits.shape[-1]), dim=-1)
    return probability, index, probability.cumsum(-1) - probability >= top_p


def _nucleus_draw(
    logits_BV: Tensor, generators: list[torch.Generator], top_p: float, top_k: int
) -> Tensor:
    """One class per row from the likeliest `top_k` within `top_p` of the probability, (B,)."""
    probability_BK, index_BK, outside_BK = nucleus(logits_BV, top_p, top_k)
    kept_BK = probability_BK.masked_fill(outside_BK, 0.0)
    uniform_B = torch.stack(
        [torch.rand((), generator=g, device=logits_BV.device) for g in generators]
    )
    cumulative_BK = kept_BK.cumsum(-1)
    position_B = (cumulative_BK < uniform_B[:, None] * cumulative_BK[:, -1:]).sum(-1)
    return index_BK.gather(1, position_B.clamp(max=index_BK.shape[1] - 1)[:, None])[:, 0]


def _full_draw(logits_V: Tensor, generator: torch.Generator) -> Tensor:
    """One class from the whole distribution, a scalar."""
    cumulative_V = logits_V.softmax(-1).cumsum(-1)
    uniform = torch.rand((), generator=generator, device=logits_V.device)
    return (cumulative_V < uniform * cumulative_V[-1]).sum().clamp(max=len(logits_V) - 1)
