"""Noise on speech tokens, in the space of their digits. Letters: B batch, L token, K digit.

Ours. A policy's samples are not recordings. A codec that reads nothing else in training is easily
fooled by them as a reward, and a policy that reads nothing else before its next token relies on a
history that it will not have (docs/log/index.md; RRPO, arXiv 2512.04552, regularises the reward
too).
"""

from dataclasses import replace

import torch
from torch import Tensor

from hpro_core.engine.batching import Batch

LEVELS, DIGITS = 3, 8
"""Of speech tokens: 3^8 = 6561, ours as S3's."""


def corrupt_tokens(tokens_BL: Tensor, most: float) -> Tensor:
    """Tokens as a policy might have said them: some digits one level up or down.

    Args:
        tokens_BL: of recordings, int64.
        most: each utterance has a share of changed digits between 0 and this.
    """
    shape = (*tokens_BL.shape, DIGITS)
    device = tokens_BL.device
    share_B11 = most * torch.rand(len(tokens_BL), 1, 1, device=device)
    changed_BLK = torch.rand(shape, device=device) < share_B11
    place_K = LEVELS ** torch.arange(DIGITS, device=device)
    digit_BLK = tokens_BL[..., None] // place_K % LEVELS
    step_BLK = 2 * torch.randint(0, 2, shape, device=device) - 1
    step_BLK = torch.where(digit_BLK == 1, step_BLK, 1 - digit_BLK)  # the ends have one neighbour
    return tokens_BL + (changed_BLK * step_BLK * place_K).sum(-1)


def with_noisy_history(batch: Batch, most: float) -> Batch:
    """The batch with a corrupted token history for the policy, see `corrupt_tokens`."""
    return replace(batch, history_BL=corrupt_tokens(batch.tokens_BL, most))
