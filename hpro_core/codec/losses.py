"""Losses that train the codec and, with the codec frozen, reward the policy.

Letters: B batch, T frame, W word, D dimension, C class, J text position. (T and C are L and V in
`reward.losses`.)

All are computed in float32 (float64 for float64 input), are finite on constant input, and do not
change when padding is added. Each loss is a `Mean`: the sum over its items and their number.
"""

import torch
from torch import Tensor

from hpro_core.train.precision import at_least_float32
from hpro_core.train.terms import Mean, cross_entropy, mean_of

CCC_EPSILON = 1e-8
"""Keeps the CCC finite where truth and prediction are constant and equal (released code)."""


def concordance(truth_BWD: Tensor, predicted_BWD: Tensor, mask_BW: Tensor) -> Tensor:
    """Concordance correlation coefficient (CCC) over the words of each utterance (paper II-A).

    CCC = 2 cov / (var + var' + (mean - mean')^2). It is computed from covariances, so that the
    gradient stays finite when all predictions are equal; the released form has a square root of
    zero there.

    Args:
        truth_BWD: labels.
        predicted_BWD: predictions.
        mask_BW: bool, true at real words; a row needs two for a meaningful value.

    Returns:
        (B, D) in [-1, 1]. Gradients reach both inputs.
    """
    mask = mask_BW[..., None].float()
    count = mask.sum(1).clamp(min=1)
    truth, predicted = at_least_float32(truth_BWD) * mask, at_least_float32(predicted_BWD) * mask
    mean_t, mean_p = truth.sum(1) / count, predicted.sum(1) / count
    centred_t = (truth - mean_t[:, None]) * mask
    centred_p = (predicted - mean_p[:, None]) * mask
    unbiased = (count - 1).clamp(min=1)
    covariance = (centred_t * centred_p).sum(1) / unbiased
    variance = (centred_t.square().sum(1) + centred_p.square().sum(1)) / unbiased
    return 2 * covariance / (variance + (mean_t - mean_p).square() + CCC_EPSILON)


def word_vad_loss(truth_BW3: Tensor, predicted_BW3: Tensor, mask_BW: Tensor) -> Mean:
    """L_wVAD: sum over V, A, D of 1 - CCC per utterance, mean over utterances (paper II-A).

    CCC needs two words. An utterance of one word contributes its squared error instead, mean over
    V, A, D; an utterance without words is left out of the mean (released code).

    Args:
        truth_BW3: labels in [0, 1].
        predicted_BW3: predictions.
        mask_BW: bool, true at real words.

    Returns:
        Mean over utterances with words; gradients reach both inputs.

    Raises:
        ValueError: no utterance of the batch has a word.
    """
    words_B = mask_BW.sum(1)
    if not bool((words_B > 0).any()):
        raise ValueError("no utterance of the batch has a word: L_wVAD is undefined")
    ccc_B = (1 - concordance(truth_BW3, predicted_BW3, mask_BW)).sum(-1)
    difference = at_least_float32(truth_BW3) - at_least_float32(predicted_BW3)
    squared = difference.square() * mask_BW[..., None]
    mse_B = squared.sum((1, 2)) / (3 * words_B.clamp(min=1))
    losses_B = torch.where(words_B >= 2, ccc_B, mse_B)
    return mean_of(losses_B[words_B > 0], "utterances_with_words")


def soft_cross_entropy(logits_BC: Tensor, target_BC: Tensor) -> Mean:
    """L_SER = -sum_i p_i log q_i, mean over utterances (paper II-A).

    Args:
        logits_BC: logits of the emotion head.
        target_BC: posterior of the emotion teacher; rows sum to one.

    Returns:
        Mean over utterances; gradients reach `logits_BC`.
    """
    losses_B = -(target_BC * at_least_float32(logits_BC).log_softmax(-1)).sum(-1)
    return mean_of(losses_B, "utterances")


def text_cross_entropy(logits_BJC: Tensor, target_BJ: Tensor, mask_BJ: Tensor) -> Mean:
    """L_ASR = -log P(y_j | y_<j, T_c), mean over the real targets of the batch (paper II-A).

    Args:
        logits_BJC: logits of the text decoder.
        target_BJ: the text shifted by one token, int64.
        mask_BJ: bool, true at real targets, the end symbol included.

    Returns:
        Mean over real targets; gradients reach `logits_BJC`.
    """
    return cross_entropy(logits_BJC[mask_BJ], target_BJ[mask_BJ], "targets")


def token_cross_entropy(logits_BTC: Tensor, tokens_BT: Tensor, mask_BT: Tensor) -> Mean:
    """L_rec: cross-entropy of the reconstructed speech tokens, mean over real frames (paper II-A).

    Args:
        logits_BTC: logits over speech tokens.
        tokens_BT: the speech tokens, int64.
        mask_BT: bool, true at real frames.

    Returns:
        Mean over real frames; gradients reach `logits_BTC`.
    """
    return cross_entropy(logits_BTC[mask_BT], tokens_BT[mask_BT], "frames")


def covered_words(spans_BW2: Tensor) -> Tensor:
    """Words that cover at least one frame, bool (B, W) (released code).

    Args:
        spans_BW2: first and one-past-last frame of each word, int64; padding is (0, 0) and covers
            none.
    """
    return spans_BW2[..., 1] > spans_BW2[..., 0]


def pool_words(features_BTD: Tensor, spans_BW2: Tensor) -> Tensor:
    """Average the frames that each word covers (paper II-A, wVAD head).

    Args:
        features_BTD: frame features.
        spans_BW2: first and one-past-last frame of each word, int64; padding is (0, 0).

    Returns:
        (B, W, D); zero where the span is empty. Gradients reach `features_BTD` only.
    """
    frame_T = torch.arange(features_BTD.shape[1], device=features_BTD.device)
    inside_BWT = (frame_T >= spans_BW2[..., :1]) & (frame_T < spans_BW2[..., 1:])
    inside = inside_BWT.to(features_BTD)
    return inside @ features_BTD / inside.sum(-1, keepdim=True).clamp(min=1)
