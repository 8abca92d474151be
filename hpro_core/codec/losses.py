"""The losses that train the codec and, with the codec frozen, reward the policy.

Letters: B batch, T frame, W word, D dimension, C class, J text position. All are computed in
float32 (float64 when given it), are zero-safe (finite on constant input) and do not change when
padding is added.
"""

import torch
from torch import Tensor
from torch.nn import functional

from hpro_core.engine.precision import at_least_float32

CCC_EPSILON = 1e-8
"""Keeps the concordance finite where truth and prediction are constant and equal (released)."""


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the values where the mask is true, over all leading dimensions and the trailing ones.

    Args:
        values: (*mask.shape, ...).
        mask: bool; at least one true.
    """
    return values[mask].mean()


def concordance(truth_BWD: Tensor, predicted_BWD: Tensor, mask_BW: Tensor) -> Tensor:
    """Concordance correlation over the words of each utterance (paper II-A).

    CCC = 2 cov / (var + var' + (mean - mean')^2), written with covariances, so that the gradient
    stays finite when all predictions are equal (the released form takes a square root of zero).

    Args:
        truth_BWD: labels.
        predicted_BWD: predictions.
        mask_BW: true where there is a word; at least two in each row for a meaningful value.

    Returns:
        (B, D) in [-1, 1].
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


def word_vad_loss(truth_BW3: Tensor, predicted_BW3: Tensor, mask_BW: Tensor) -> Tensor:
    """L_wVAD: sum over V, A, D of 1 - CCC per utterance, mean over utterances (paper II-A).

    An utterance of one word has no correlation: it gives the squared error instead, and one without
    words nothing (released code).

    Args:
        truth_BW3: labels in [0, 1].
        predicted_BW3: predictions.
        mask_BW: true where there is a word.

    Raises:
        ValueError: no utterance of the batch has a word.
    """
    words_B = mask_BW.sum(1)
    if not bool((words_B > 0).any()):
        raise ValueError("no utterance of the batch has a word: the word loss is not defined")
    ccc_B = (1 - concordance(truth_BW3, predicted_BW3, mask_BW)).sum(-1)
    difference = at_least_float32(truth_BW3) - at_least_float32(predicted_BW3)
    squared = difference.square() * mask_BW[..., None]
    mse_B = squared.sum((1, 2)) / (3 * words_B.clamp(min=1))
    return torch.where(words_B >= 2, ccc_B, mse_B)[words_B > 0].mean()


def soft_cross_entropy(logits_BC: Tensor, target_BC: Tensor) -> Tensor:
    """L_SER = -sum_i p_i log q_i, mean over utterances (paper II-A).

    Args:
        logits_BC: the emotion head's.
        target_BC: posterior of the teacher; rows sum to one.
    """
    return -(target_BC * at_least_float32(logits_BC).log_softmax(-1)).sum(-1).mean()


def text_cross_entropy(logits_BJC: Tensor, target_BJ: Tensor, mask_BJ: Tensor) -> Tensor:
    """L_ASR = -log P(y_j | y_<j, T_c), mean over the real targets of the batch (paper II-A).

    Args:
        logits_BJC: the text decoder's.
        target_BJ: the text, one step ahead.
        mask_BJ: true at real targets, the end symbol included.
    """
    return functional.cross_entropy(at_least_float32(logits_BJC[mask_BJ]), target_BJ[mask_BJ])


def token_cross_entropy(logits_BTC: Tensor, tokens_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """L_rec: cross-entropy of the rebuilt speech tokens, mean over real frames (paper II-A)."""
    return functional.cross_entropy(at_least_float32(logits_BTC[mask_BT]), tokens_BT[mask_BT])


def covered_words(spans_BW2: Tensor) -> Tensor:
    """Which words count, bool (B, W): those with a frame; padding, (0, 0), has none (released).

    Args:
        spans_BW2: first and one-past-last frame of each word, int64.
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
