"""Hierarchical progressive reward optimisation (paper section II-B): one file per level.

`gumbel` samples, `frame`, `word` and `sentence` reward, `kl` regularises, `objective` weighs them
by stage, `rewarder` computes the terms of a batch, `train` trains the policy.

Monitoring: `diagnostics` are logged beside the terms; `gradient_norms` reports the gradient norm of
each term; `probe` synthesises dev sentences and judges them during training; `selection` chooses
the checkpoint from these scores; `hacking` detects reward hacking.
"""
