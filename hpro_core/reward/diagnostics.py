"""Diagnostics of a reward training: monitored values and gradient norms, never part of the loss.

Monitored values: the loss terms together with emotion similarity, symbol error rate and code
agreement are the values that the released reward function returns. The entropy and the
end-of-speech probabilities of the policy are ours.

Gradient norms of each term, before each stage and at intervals during it (ours): a term without
gradient has no effect on the policy, and one of the six terms of the released reward has none. A
term with a far larger gradient than the others determines the update alone.

Letters: B batch, J text position, L speech token, P = L + 1 position, V output class, D dimension.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from hpro_core.codec.model import CodecConfig, CodecOutput
from hpro_core.io import write_json
from hpro_core.policy.interface import END_OF_SPEECH
from hpro_core.speech import fsq
from hpro_core.train.batching import Batch, length_mask
from hpro_core.train.precision import at_least_float32
from hpro_core.train.terms import Mean, mean_of

NEGLIGIBLE_SHARE = 1e-6
"""A weighted term with at most this share of the gradient norms is reported as without effect."""

DOMINANT_SHARE = 0.95
"""A weighted term with a larger share is reported as dominating the objective."""

ZERO_KL_NATS = 1e-6
"""Below this KL the policy equals its reference, where the KL term has no gradient."""

Shares = dict[str, dict[str, float]]


@torch.no_grad()
def codec_diagnostics(
    codec_output: CodecOutput,
    content_BLD: Tensor,
    style_BLD: Tensor,
    target_BJ: Tensor,
    target_mask_BJ: Tensor,
    batch: Batch,
    config: CodecConfig,
) -> dict[str, Mean]:
    """Compare the codec's output for the policy's samples with recordings, labels and transcript.

    Args:
        codec_output: output of the codec for the policy's samples.
        content_BLD: discrete content codes of the recordings, on the grid, D = 4.
        style_BLD: discrete style codes of the recordings, on the grid, D = 3.
        target_BJ: target tokens of the text decoder, int64.
        target_mask_BJ: bool, true at real targets.
        batch: the recordings; each is repeated for each of its samples.
        config: the codec's configuration, for the numbers of levels.

    Returns:
        Means without gradient:
        code_agreement_content, code_agreement_style: see `code_agreement`.
        emotion_similarity: cosine of predicted and teacher emotion posterior, mean over utterances.
        symbol_error_rate: fraction of real text positions where the most probable token of the
            text decoder, which reads the true preceding tokens, differs from the target.
    """
    mask = batch.token_mask_BL
    predicted_B9 = at_least_float32(codec_output.emotion_B9).softmax(-1)
    wrong = codec_output.text_BJV.argmax(-1) != target_BJ
    return {
        "code_agreement_content": code_agreement(
            codec_output.content_BLD, content_BLD, config.content_levels, mask
        ),
        "code_agreement_style": code_agreement(
            codec_output.style_BLD, style_BLD, config.style_levels, mask
        ),
        "emotion_similarity": mean_of(
            torch.cosine_similarity(predicted_B9, batch.emotion_B9), "utterances"
        ),
        "symbol_error_rate": mean_of(wrong[target_mask_BJ].float(), "targets"),
    }


@torch.no_grad()
def policy_diagnostics(logits_BPV: Tensor, batch: Batch) -> dict[str, Mean]:
    """Entropy and end-of-speech probabilities of the policy.

    Args:
        logits_BPV: logits of the policy after its history; position t predicts token t, position
            `length` the end of speech.
        batch: the recordings.

    Returns:
        Means without gradient:
        entropy: entropy of the policy in nats, mean over real positions.
        stop_at_end, stop_before_end: see `stop_probabilities`.
    """
    at_end, before_end = stop_probabilities(logits_BPV, batch.token_lengths_B)
    return {
        "entropy": entropy(logits_BPV, length_mask(batch.token_lengths_B + 1, logits_BPV.shape[1])),
        "stop_at_end": at_end,
        "stop_before_end": before_end,
    }


def code_agreement(generated_BLD: Tensor, truth_BLD: Tensor, levels: int, mask_BL: Tensor) -> Mean:
    """Fraction of real frames whose rounded code is the recording's.

    Args:
        generated_BLD: codes of the sample before rounding, in [0, 1].
        truth_BLD: codes of the recording, on the grid.
        levels: levels per dimension.
        mask_BL: bool, true at real frames.
    """
    generated = fsq.to_indices(fsq.quantise(generated_BLD, levels), levels)
    agrees = (generated == fsq.to_indices(truth_BLD, levels))[mask_BL]
    return mean_of(agrees.float(), "frames")


def entropy(logits_BPV: Tensor, mask_BP: Tensor) -> Mean:
    """Entropy over all output classes in nats, mean over the positions where `mask_BP` is true."""
    log_p = at_least_float32(logits_BPV[mask_BP]).log_softmax(-1)
    return mean_of(-(log_p.exp() * log_p).sum(-1), "positions")


def stop_probabilities(logits_BPV: Tensor, lengths_B: Tensor) -> tuple[Mean, Mean]:
    """Probabilities that the policy ends speech at the recording's end and before it.

    They measure length drift: no reward depends on the end of speech, only the KL term constrains
    it. When the first value falls, generated speech gets too long; when the second rises, it is cut
    short.

    Args:
        logits_BPV: logits after the recording's history or the policy's own of the same length;
            position t predicts token t, position `length` the end.
        lengths_B: number of speech tokens of each recording, int64.

    Returns:
        Probability of the end right after the last token, and of an end anywhere before it,
        1 - prod over t < length of (1 - p_t(end)). Each is a mean over utterances.
    """
    logits = at_least_float32(logits_BPV)
    log_end_BP = logits[..., END_OF_SPEECH] - logits.logsumexp(-1)
    at_end_B = log_end_BP.gather(1, lengths_B[:, None])[:, 0].exp()
    log_continue_BP = torch.log1p(-log_end_BP.exp().clamp(max=1 - 1e-6))
    inside = length_mask(lengths_B, log_end_BP.shape[1])
    before_B = -torch.expm1((log_continue_BP * inside).sum(1))
    return mean_of(at_end_B, "utterances"), mean_of(before_B, "utterances")


def gradient_shares(
    terms: dict[str, Tensor], inputs: Iterable[Tensor], weights: Mapping[str, float]
) -> Shares:
    """Compute the gradient norm of each term on its own.

    Args:
        terms: scalar terms with their graph, which is retained.
        inputs: tensors to differentiate with respect to: the policy's weights, or its logits.
        weights: weight of each term.

    Returns:
        For each term its value, its weight, the L2 norm of its unweighted gradient, and its share:
        its weighted norm divided by the sum of all weighted norms (0 if the sum is 0).
    """
    tensors = list(inputs)
    norms = {}
    for name in weights:
        if not terms[name].requires_grad:
            norms[name] = 0.0
            continue
        gradients = torch.autograd.grad(terms[name], tensors, retain_graph=True, allow_unused=True)
        squares = [g.double().square().sum() for g in gradients if g is not None]
        norms[name] = float(torch.stack(squares).sum().sqrt()) if squares else 0.0
    total = sum(weights[name] * norms[name] for name in weights)
    return {
        name: {
            "value": float(terms[name].detach()),
            "weight": weights[name],
            "norm": norms[name],
            "share": weights[name] * norms[name] / total if total else 0.0,
        }
        for name in weights
    }


def logit_gradients(
    terms_at: Callable[[Tensor], dict[str, Tensor]],
    logits_BPV: Tensor,
    weights: Mapping[str, float],
) -> dict[str, float]:
    """Compute the norm of each weighted term's gradient with respect to the policy's logits.

    It is cheap enough to be logged during training: the backward pass covers the codec, not the
    policy.

    Args:
        terms_at: function from logits to the terms.
        logits_BPV: logits of the policy; they are detached.
        weights: weight of each term.

    Returns:
        `logit_gradient_<term>` for each term.
    """
    leaf = logits_BPV.detach().requires_grad_()
    with torch.enable_grad():
        shares = gradient_shares(terms_at(leaf), [leaf], weights)
    return {f"logit_gradient_{n}": s["weight"] * s["norm"] for n, s in shares.items()}


def warnings_about(shares: Shares) -> list[str]:
    """One warning for each term without effect or with a dominant gradient.

    Terms of weight 0 are not checked, nor is the KL term of a policy that equals its reference.

    Args:
        shares: output of `gradient_shares`.

    Returns:
        The warnings; empty if there is none.
    """
    checked = {
        name: share["share"]
        for name, share in shares.items()
        if share["weight"] and not (name == "kl" and abs(share["value"]) < ZERO_KL_NATS)
    }
    found = []
    for name, share in checked.items():
        if not share > NEGLIGIBLE_SHARE:
            found.append(
                f"the term {name} has no effect: its share of the gradient norms is {share:.2g}; "
                "check for a detached path, labels that are all equal, or a weight that is far too "
                "small"
            )
        if share > DOMINANT_SHARE and len(checked) > 1:
            found.append(
                f"the term {name} dominates the objective: its share of the gradient norms is "
                f"{share:.1%}; lower its weight"
            )
    return found


def write_report(shares: Shares, label: str, path: Path) -> list[str]:
    """Print the gradient norms with their warnings, and write both to a JSON file.

    Args:
        shares: output of `gradient_shares` at the policy's weights before the first step.
        label: name of the training in printed lines.
        path: the JSON file.

    Returns:
        The warnings.

    Raises:
        HproError: the file cannot be written.
    """
    warnings = warnings_about(shares)
    print(f"{label}: gradient norm of each term before the first step", flush=True)
    print(f"{'term':>6} {'value':>10} {'weight':>7} {'gradient':>10} {'share':>7}")
    for name, share in shares.items():
        print(
            f"{name:>6} {share['value']:10.4f} {share['weight']:7.2f} {share['norm']:10.3g} "
            f"{share['share']:7.1%}"
        )
    for warning in warnings:
        print(f"warning: {label}: {warning}", flush=True)
    write_json(path, {"terms": shares, "warnings": warnings})
    return warnings
