"""Hierarchical progressive reward optimisation (paper section II-B): one file per level.

`gumbel` samples, `frame`, `word` and `sentence` reward, `kl` regularises, `objective` weighs them
by stage, `optimisation` trains the policy.
"""
