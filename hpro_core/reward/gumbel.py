"""Differentiable sampling of speech tokens (paper II-B; straight-through Gumbel-softmax).

Letters: B batch, L speech token, V output class, N speech-token class.
"""

import torch
from torch import Tensor

from hpro_core.constants import N_SPEECH_TOKENS
from hpro_core.engine.precision import at_least_float32
from hpro_core.policy.sampling import nucleus

SMALLEST = 1e-20
"""Keeps the double logarithm of the noise finite."""


def gumbel_noise(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Standard Gumbel noise, float32, on the generator's device."""
    uniform = torch.rand(shape, generator=generator, device=generator.device)
    return -torch.log((-torch.log(uniform.clamp(min=SMALLEST))).clamp(min=SMALLEST))


def noise_for(tokens_BL: Tensor, generator: torch.Generator) -> Tensor:
    """The noise of one sample of a batch, float32 (B, L, 6561).

    Drawn for the whole batch and handed to `sample`, so that a row has the same noise whether it
    is sampled with its batch, in a micro-batch, in another process or alone.
    """
    return gumbel_noise((*tokens_BL.shape, N_SPEECH_TOKENS), generator)


def within_nucleus(logits_BLV: Tensor, top_p: float, top_k: int) -> Tensor:
    """The logits of the speech tokens that can be drawn; the others are minus infinity.

    A policy speaks by drawing from the likeliest `top_k` within `top_p` of the probability (0.8 and
    25 in CosyVoice2). What is rewarded should be what it can say (ours; the paper does not say):
    samples from the whole distribution hold a rare token every few frames, which the codec has to
    read over, and of which the policy learns mostly to avoid it (docs/log.md).

    Args:
        logits_BLV: the policy's, V at least N; only the N speech tokens are candidates.
        top_p: 1 leaves all of them.
        top_k: most candidates.

    Returns:
        (B, L, N), at least float32; gradients pass to the logits that are kept.
    """
    logits_BLN = at_least_float32(logits_BLV[..., :N_SPEECH_TOKENS])
    if top_p >= 1 and top_k >= N_SPEECH_TOKENS:
        return logits_BLN
    with torch.no_grad():
        _, index_BLK, outside_BLK = nucleus(logits_BLN, top_p, min(top_k, logits_BLN.shape[-1]))
        cut_BLN = torch.ones_like(logits_BLN, dtype=torch.bool)
        cut_BLN.scatter_(-1, index_BLK, outside_BLK)
    return logits_BLN.masked_fill(cut_BLN, -torch.inf)


def sample(logits_BLV: Tensor, temperature: float, noise_BLN: Tensor) -> Tensor:
    """Draw one speech token per position, as one-hot rows that let gradients through.

    Forward, the rows are the one-hot of argmax(logits + noise), which does not depend on the
    temperature. Backward, they are softmax((logits + noise) / temperature). Only the 6561 speech
    tokens can be drawn: end of speech and the other specials are cut off first (ours; the paper
    does not say, the codec knows no others). A logit of minus infinity is never drawn.

    Args:
        logits_BLV: the policy's, V at least N.
        temperature: tau; 2, 1 and 0.8 in stages I, II and III.
        noise_BLN: standard Gumbel; N is 6561 in training, see `noise_for`.

    Returns:
        (B, L, N), each row one-hot; float32, or float64 as the logits are.
    """
    perturbed = at_least_float32(logits_BLV[..., : noise_BLN.shape[-1]]) + noise_BLN
    soft = (perturbed / temperature).softmax(-1)
    hard = torch.zeros_like(soft).scatter(-1, perturbed.argmax(-1, keepdim=True), 1.0)
    return hard + (soft - soft.detach())
