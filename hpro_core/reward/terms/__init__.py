"""Reward terms besides the paper's: each module of this package is one, with the module's name.

A module defines `loss(sampled: losses.RewardSample) -> Mean`. It is computed in a stage whose
`weights` name it. CONTRIBUTING.md has an example.
"""

from collections.abc import Callable
from importlib import import_module

from hpro_core.reward.losses import RewardSample
from hpro_core.train.terms import Mean


def own_term(name: str) -> Callable[[RewardSample], Mean]:
    """The function of a term.

    Args:
        name: name of its module; `params.own_terms` lists them.
    """
    loss: Callable[[RewardSample], Mean] = import_module(f"{__name__}.{name}").loss
    return loss
