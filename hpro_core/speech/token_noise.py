"""Noise on the ternary digits of speech tokens (ours). Letters: B batch, L token, K digit.

A policy's samples differ from recordings. A codec trained on recordings alone gives unreliable
rewards on samples, and a policy trained on recorded histories alone overfits to histories that it
does not see at inference (docs/log/index.md; RRPO, arXiv 2512.04552, also regularises the reward).
"""

from dataclasses import replace

import torch
from torch import Tensor

from hpro_core.train.batching import Batch

LEVELS, DIGITS = 3, 8
"""Levels and digits of a speech token: 3^8 = 6561, in the embedded tokenizer as in S3."""


def corrupt_tokens(tokens_BL: Tensor, max_fraction: float) -> Tensor:
    """Change random digits of tokens by one level up or down.

    Args:
        tokens_BL: tokens of recordings, int64.
        max_fraction: largest probability that a digit changes; each utterance draws its own
            probability uniformly between 0 and `max_fraction`.

    Returns:
        int64 (B, L) tokens.
    """
    shape = (*tokens_BL.shape, DIGITS)
    device = tokens_BL.device
    share_B11 = max_fraction * torch.rand(len(tokens_BL), 1, 1, device=device)
    changed_BLK = torch.rand(shape, device=device) < share_B11
    place_K = LEVELS ** torch.arange(DIGITS, device=device)
    digit_BLK = tokens_BL[..., None] // place_K % LEVELS
    step_BLK = 2 * torch.randint(0, 2, shape, device=device) - 1
    step_BLK = torch.where(digit_BLK == 1, step_BLK, 1 - digit_BLK)  # 0 and 2 have one neighbour
    return tokens_BL + (changed_BLK * step_BLK * place_K).sum(-1)


def with_noisy_history(batch: Batch, max_fraction: float) -> Batch:
    """Replace the policy's token history by corrupted tokens, see `corrupt_tokens`."""
    return replace(batch, history_BL=corrupt_tokens(batch.tokens_BL, max_fraction))
