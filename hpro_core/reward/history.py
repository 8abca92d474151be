"""What the policy has read where its sample is rewarded: in the paper the recording, here its own.

Letters: B batch, L speech token, N speech-token class, K candidate.

Under teacher forcing the history tells a small policy how the recording was spoken, and a reward
teaches it to go on like that; when it speaks for itself, that is to go on like whatever it happened
to begin with (docs/log.md). What it says by itself has other words at other times than the
recording, to which all terms compare. Jacobi sweeps (Song et al. 2021, arXiv 2002.03629) lie
between: every token is drawn again at once, from the policy that reads the last sweep's tokens.
After k sweeps with the same noise the first k tokens are what the policy says by itself, the others
are on the way there, and the timing is still the recording's.
"""

from dataclasses import replace

import torch
from torch import Tensor

from hpro_core.constants import N_SPEECH_TOKENS
from hpro_core.engine.batching import Batch
from hpro_core.policy.interface import SpeechPolicy

TOP_P, TOP_K = 0.8, 25
"""The candidates of a sweep are those of CosyVoice2's sampling, as in `policy.sampling`."""


@torch.no_grad()
def own_history(policy: SpeechPolicy, batch: Batch, noise_BLN: Tensor, sweeps: int) -> Batch:
    """The batch, its history spoken by the policy.

    Args:
        policy: in eval mode.
        batch: recordings, as tokens; the first sweep reads its history.
        noise_BLN: Gumbel noise of the sample that is rewarded: it continues the sweeps.
        sweeps: 0 leaves the history as it is (paper).
    """
    for _ in range(sweeps):
        logits_BLN = policy(batch).logits_BLV[:, :-1, :N_SPEECH_TOKENS]
        said_BL = _drawn(logits_BLN.float(), noise_BLN)
        history_BL = torch.where(batch.token_mask_BL, said_BL, batch.tokens_BL)
        batch = replace(batch, history_BL=history_BL)
    return batch


def _drawn(logits_BLN: Tensor, noise_BLN: Tensor) -> Tensor:
    """One token per position from the likeliest TOP_K within TOP_P of the probability, (B, L)."""
    probability_BLK, index_BLK = logits_BLN.softmax(-1).topk(TOP_K, dim=-1)
    before_BLK = probability_BLK.cumsum(-1) - probability_BLK
    kept_BLK = probability_BLK.log().masked_fill(before_BLK >= TOP_P, -torch.inf)
    best_BL1 = (kept_BLK + noise_BLN.gather(-1, index_BLK)).argmax(-1, keepdim=True)
    return index_BLK.gather(-1, best_BL1)[..., 0]
