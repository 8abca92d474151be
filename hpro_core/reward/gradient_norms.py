"""Gradient norm of each term of an objective, before each stage and at intervals during it (ours).

A term without a gradient trains nothing (in the released reward one of six has none); a term whose
gradient is far larger than all others is the whole objective.

Letters: L speech token, P = L + 1 position, V output class.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor

from hpro_core.io import write_json
from hpro_core.reward.objective import TERMS, Objective

NEGLIGIBLE_SHARE = 1e-6
"""A weighted term with a smaller share of the gradient norms is reported as without effect."""

DOMINANT_SHARE = 0.95
"""A weighted term with a larger share is reported as dominating the objective."""

AT_REFERENCE_NATS = 1e-6
"""Below this KL the policy equals its reference, where the KL term has no gradient."""

Shares = dict[str, dict[str, float]]


def gradient_shares(
    terms: dict[str, Tensor], inputs: Iterable[Tensor], objective: Objective
) -> Shares:
    """Gradient norm of each term alone.

    Args:
        terms: of the objective, with their graph, which is kept.
        inputs: tensors of the gradients: the policy's weights, or its logits.
        objective: weights of the terms.

    Returns:
        For each term its value, its weight, the norm of its unweighted gradient, and the share of
        its weighted norm in the sum of all.
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
    """Norm of each weighted term's gradient at the policy's logits, to be logged.

    Cheap: the gradients go through the codec and not through the policy.

    Args:
        terms_at: terms of the objective at given logits.
        logits_BPV: of the policy.
        objective: weights of the terms.
    """
    leaf = logits_BPV.detach().requires_grad_()
    with torch.enable_grad():
        shares = gradient_shares(terms_at(leaf), [leaf], objective)
    return {f"logit_gradient_{n}": s["weight"] * s["norm"] for n, s in shares.items()}


def warnings_about(shares: Shares) -> list[str]:
    """What is wrong with an objective whose terms pull like this; nothing, if all is well.

    A term of weight 0 is not asked, nor is the KL of a policy that still is its reference.
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
                f"the term {name} is dead: its share of the gradient is {share:.2g}; look for a "
                "detached path, labels that are all alike, or a weight that is far too small"
            )
        if share > DOMINANT_SHARE and len(asked) > 1:
            found.append(
                f"the term {name} drowns the others: its share of the gradient is {share:.1%}; "
                "lower its weight"
            )
    return found


def write_report(shares: Shares, label: str, path: Path) -> list[str]:
    """Print the table and its warnings, and write both.

    Args:
        shares: of the terms, at the policy's weights, before any step.
        label: of the training.
        path: the JSON file.

    Returns:
        The warnings.
    """
    warnings = warnings_about(shares)
    print(f"{label}: how strongly each term pulls at the policy before the first step", flush=True)
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
