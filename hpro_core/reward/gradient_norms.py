"""Gradient norm of each term of an objective, before each stage and at intervals during it (ours).

A term without gradient has no effect on the policy: one of the six terms of the released reward has
none. A term with a far larger gradient than the others determines the update alone.

Letters: L speech token, P = L + 1 position, V output class.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor

from hpro_core.io import write_json
from hpro_core.reward.objective import TERMS, Objective

NEGLIGIBLE_SHARE = 1e-6
"""A weighted term with at most this share of the gradient norms is reported as without effect."""

DOMINANT_SHARE = 0.95
"""A weighted term with a larger share is reported as dominating the objective."""

AT_REFERENCE_NATS = 1e-6
"""Below this KL the policy equals its reference, where the KL term has no gradient."""

Shares = dict[str, dict[str, float]]


def gradient_shares(
    terms: dict[str, Tensor], inputs: Iterable[Tensor], objective: Objective
) -> Shares:
    """Compute the gradient norm of each term on its own.

    Args:
        terms: scalar terms of the objective with their graph, which is retained.
        inputs: tensors to differentiate with respect to: the policy's weights, or its logits.
        objective: weights of the terms.

    Returns:
        For each term its value, its weight, the L2 norm of its unweighted gradient, and its share:
        its weighted norm divided by the sum of all weighted norms (0 if the sum is 0).
    """
    pulled = list(inputs)
    norms = {}
    for name in TERMS:
        if not terms[name].requires_grad:
            norms[name] = 0.0
            continue
        gradients = torch.autograd.grad(terms[name], pulled, retain_graph=True, allow_unused=True)
        squares = [g.double().square().sum() for g in gradients if g is not None]
        norms[name] = float(torch.stack(squares).sum().sqrt()) if squares else 0.0
    total = sum(objective.weights[name] * norms[name] for name in TERMS)
    return {
        name: {
            "value": float(terms[name].detach()),
            "weight": objective.weights[name],
            "norm": norms[name],
            "share": objective.weights[name] * norms[name] / total if total else 0.0,
        }
        for name in TERMS
    }


def logit_gradients(
    terms_at: Callable[[Tensor], dict[str, Tensor]], logits_BPV: Tensor, objective: Objective
) -> dict[str, float]:
    """Compute the norm of each weighted term's gradient with respect to the policy's logits.

    It is cheap enough to be logged during training: the backward pass covers the codec, not the
    policy.

    Args:
        terms_at: function from logits to the terms of the objective.
        logits_BPV: logits of the policy; they are detached.
        objective: weights of the terms.

    Returns:
        `logit_gradient_<term>` for each term.
    """
    leaf = logits_BPV.detach().requires_grad_()
    with torch.enable_grad():
        shares = gradient_shares(terms_at(leaf), [leaf], objective)
    return {f"logit_gradient_{n}": s["weight"] * s["norm"] for n, s in shares.items()}


def warnings_about(shares: Shares) -> list[str]:
    """One warning for each term without effect or with a dominant gradient.

    Terms of weight 0 are not checked, nor is the KL term of a policy that equals its reference.

    Args:
        shares: output of `gradient_shares`.

    Returns:
        The warnings; empty if there is none.
    """
    asked = {
        name: share["share"]
        for name, share in shares.items()
        if share["weight"] and not (name == "kl" and abs(share["value"]) < AT_REFERENCE_NATS)
    }
    found = []
    for name, share in asked.items():
        if not share > NEGLIGIBLE_SHARE:
            found.append(
                f"the term {name} has no effect: its share of the gradient norms is {share:.2g}; "
                "check for a detached path, labels that are all equal, or a weight that is far too "
                "small"
            )
        if share > DOMINANT_SHARE and len(asked) > 1:
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
