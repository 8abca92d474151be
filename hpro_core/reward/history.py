"""What the policy has read where its sample is rewarded: in the paper the recording, here its own.

Letters: B batch, L speech token, C candidate.

Under teacher forcing the history tells a small policy how the recording was spoken, and a reward
teaches it to go on like that; when it speaks for itself, that is to go on like whatever it happened
to begin with (docs/log/index.md). What it says by itself has other words at other times than the
recording, to which all terms compare. Jacobi sweeps (Song et al. 2021, arXiv 2002.03629) lie
between: every token is drawn again at once, from the policy that reads the last sweep's tokens.
After k sweeps with the same noise the first k tokens are what the policy says by itself, the others
are on the way there, and the timing is still the recording's.
"""

from dataclasses import replace

import torch
from torch import Tensor

from hpro_core.engine.batching import Batch
from hpro_core.engine.token_table import rows_kept
from hpro_core.policy.interface import SpeechPolicy
from hpro_core.reward.gumbel import within_nucleus


@torch.no_grad()
def own_history(
    policy: SpeechPolicy, batch: Batch, noise_BLC: Tensor, sweeps: int, top_p: float, top_k: int
) -> Batch:
    """The batch, its history spoken by the policy.

    The text and the reference are read once; every sweep reads its history behind them.

    Args:
        policy: in eval mode.
        batch: recordings, as tokens; the first sweep reads its history.
        noise_BLC: Gumbel noise of the sample that is rewarded: it continues the sweeps.
        sweeps: 0 leaves the history as it is (paper).
        top_p: see `gumbel.within_nucleus`.
        top_k: see there.
    """
    if not sweeps:
        return batch
    history_BL, mask_BL = batch.history_BL, batch.token_mask_BL
    with rows_kept(policy.modules()):
        first_BH, cache = policy.begin(batch, history_BL.shape[1])
        for _ in range(sweeps):
            cache.rewind()
            later_BLH = policy.read(history_BL[:, :-1], cache)  # the last token predicts the end
            logits_BLV = policy.logits(torch.cat([first_BH[:, None], later_BLH], dim=1))
            drawn_BL = within_nucleus(logits_BLV, top_p, top_k).drawn(noise_BLC)
            history_BL = torch.where(mask_BL, drawn_BL, batch.tokens_BL)
    return replace(batch, history_BL=history_BL)
