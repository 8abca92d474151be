"""Differentiable sampling of speech tokens (paper II-B; straight-through Gumbel-softmax).

Letters: B batch, L speech token, V output class, N speech-token class.
"""

import torch
from torch import Tensor

from hpro_core.constants import N_SPEECH_TOKENS

SMALLEST = 1e-20
"""Keeps the double logarithm of the noise finite."""


def gumbel_noise(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Standard Gumbel noise, float32, on the generator's device."""
    uniform = torch.rand(shape, generator=generator, device=generator.device)
    return -torch.log((-torch.log(uniform.clamp(min=SMALLEST))).clamp(min=SMALLEST))


def sample(logits_BLV: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """Draw one speech token per position, as one-hot rows that let gradients through.

    Forward, the rows are the one-hot of argmax(logits + noise), which does not depend on the
    temperature. Backward, they are softmax((logits + noise) / temperature). Only the 6561 speech
    tokens can be drawn: end of speech and the other specials are cut off first (ours; the paper
    does not say, the codec knows no others).

    Args:
        logits_BLV: the policy's, V at least 6561.
        temperature: tau; 2, 1 and 0.8 in stages I, II and III.
        generator: of the noise.

    Returns:
        float32 (B, L, 6561), each row one-hot.
    """
    logits = logits_BLV[..., :N_SPEECH_TOKENS].float()
    perturbed = logits + gumbel_noise(tuple(logits.shape), generator)
    soft = (perturbed / temperature).softmax(-1)
    hard = torch.zeros_like(soft).scatter(-1, perturbed.argmax(-1, keepdim=True), 1.0)
    return hard + (soft - soft.detach())
