"""Differentiable sampling of speech tokens (paper II-B; straight-through Gumbel-softmax).

Letters: B batch, L speech token, V output class, N speech-token class, C candidate, R redraw of the
noise, the first of which decides.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from hpro_core.constants import N_SPEECH_TOKENS
from hpro_core.engine.precision import at_least_float32
from hpro_core.engine.token_table import TokenMix
from hpro_core.policy.sampling import nucleus

SMALLEST = 1e-20
"""Keeps the double logarithm of the noise finite."""


def gumbel_noise(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Standard Gumbel noise, float32, on the generator's device."""
    uniform = torch.rand(shape, generator=generator, device=generator.device)
    return -torch.log((-torch.log(uniform.clamp(min=SMALLEST))).clamp(min=SMALLEST))


def noise_for(
    tokens_BL: Tensor,
    generator: torch.Generator,
    gumbel_rao_samples: int = 0,
    candidates: int = N_SPEECH_TOKENS,
) -> Tensor:
    """The noise of one sample of a batch, float32 (1 + `gumbel_rao_samples`, B, L, C).

    Drawn for the whole batch and handed to `sample`, so that a row has the same noise whether it
    is sampled with its batch, in a micro-batch, in another process or alone.
    """
    return gumbel_noise((1 + gumbel_rao_samples, *tokens_BL.shape, candidates), generator)


@dataclass(frozen=True)
class Candidates:
    """The speech tokens that can be drawn at each position."""

    logits_BLC: Tensor  # at least float32; a candidate of minus infinity is never drawn
    tokens_BLC: Tensor | None = None  # int64, the likeliest first; None: C is N, in their order

    def drawn(self, noise_BLC: Tensor) -> Tensor:
        """The speech tokens of the sample with this noise, int64 (B, L)."""
        best_BL = (self.logits_BLC + noise_BLC).argmax(-1)
        if self.tokens_BLC is None:
            return best_BL
        return self.tokens_BLC.gather(-1, best_BL[..., None])[..., 0]

    def repeated(self, times: int) -> "Candidates":
        """Those of the batch so many times, one after the other."""
        tokens_BLC = None if self.tokens_BLC is None else self.tokens_BLC.repeat(times, 1, 1)
        return Candidates(self.logits_BLC.repeat(times, 1, 1), tokens_BLC)


def within_nucleus(logits_BLV: Tensor, top_p: float, top_k: int) -> Candidates:
    """The speech tokens that a sample is drawn from.

    A policy speaks by drawing from the likeliest `top_k` within `top_p` of the probability (0.8 and
    25 in CosyVoice2). What is rewarded should be what it can say (ours; the paper does not say):
    samples from the whole distribution hold a rare token every few frames, which the codec has to
    read over, and of which the policy learns mostly to avoid it (docs/log/index.md). Few candidates
    also cost the least: neither noise nor softmax nor codec then sees the other 6536.

    Args:
        logits_BLV: the policy's, V at least N. The N speech tokens alone are candidates: end of
            speech and the other specials are cut off (ours; the codec knows no others).
        top_p: 1 leaves all of them.
        top_k: most candidates.

    Returns:
        The smaller of `top_k` and N; gradients pass to the logits of those within `top_p`.
    """
    logits_BLN = at_least_float32(logits_BLV[..., :N_SPEECH_TOKENS])
    size = logits_BLN.shape[-1]
    if top_k >= size and top_p >= 1:
        return Candidates(logits_BLN)
    with torch.no_grad():
        _, tokens_BLC, outside_BLC = nucleus(logits_BLN, top_p, min(top_k, size))
    if top_k >= size:
        outside_BLN = outside_BLC.scatter(-1, tokens_BLC, outside_BLC)
        return Candidates(logits_BLN.masked_fill(outside_BLN, -torch.inf))
    logits_BLC = logits_BLN.gather(-1, tokens_BLC).masked_fill(outside_BLC, -torch.inf)
    return Candidates(logits_BLC, tokens_BLC)


def sample(candidates: Candidates, temperature: float, noise_RBLC: Tensor) -> Tensor | TokenMix:
    """Draw one speech token per position, as one-hot rows that let gradients through.

    Forward, the rows are the one-hot of argmax(logits + noise), which does not depend on the
    temperature. Backward, they are softmax((logits + noise) / temperature), and if the noise is
    drawn more than once, the mean over all noise that would have drawn the same tokens: the same
    gradient on average, and steadier (Paulus et al. 2021, arXiv 2010.04838; ours, the paper has
    none). The codec reads the sample once, whatever R is.

    Args:
        candidates: from the policy's logits.
        temperature: tau; 2, 1 and 0.8 in stages I, II and III.
        noise_RBLC: standard Gumbel, see `noise_for`.

    Returns:
        Rows over the candidates, each one-hot, float32, or float64 as the logits are: (B, L, N) if
        these are all N, else a mix of few.
    """
    logits_BLC = candidates.logits_BLC
    perturbed_BLC = logits_BLC + noise_RBLC[0]
    drawn_BL1 = perturbed_BLC.argmax(-1, keepdim=True)
    redrawn = [_redrawn(logits_BLC, drawn_BL1, noise_BLC) for noise_BLC in noise_RBLC[1:]]
    softs = [(one / temperature).softmax(-1) for one in (perturbed_BLC, *redrawn)]
    soft = torch.stack(softs).mean(0) if redrawn else softs[0]
    hard = torch.zeros_like(soft).scatter(-1, drawn_BL1, 1.0)
    rows = hard + (soft - soft.detach())
    return rows if candidates.tokens_BLC is None else TokenMix(candidates.tokens_BLC, rows)


def _redrawn(logits_BLC: Tensor, drawn_BL1: Tensor, noise_BLC: Tensor) -> Tensor:
    """Logits with other noise, given that the drawn tokens stay the largest.

    The largest is Gumbel around the logarithm of the sum of all, whichever it is; the others are
    Gumbel around their logits, cut off at it (Maddison et al. 2014, arXiv 1411.0030). To gradients
    the noise is a constant, as it is where it was drawn once.
    """
    with torch.no_grad():
        top_BL1 = logits_BLC.logsumexp(-1, keepdim=True) + noise_BLC.gather(-1, drawn_BL1)
        below_BLC = -torch.logaddexp(-top_BL1, -(logits_BLC + noise_BLC))
        noise_BLC = below_BLC.scatter(-1, drawn_BL1, top_BL1) - logits_BLC
        noise_BLC = noise_BLC.masked_fill(logits_BLC.isinf(), 0.0)
    return logits_BLC + noise_BLC
