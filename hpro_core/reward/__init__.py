"""Hierarchical progressive reward optimisation (paper section II-B): one file per level.

`gumbel` samples, `frame`, `word` and `sentence` reward, `kl` regularises, `objective` weighs them
by stage, `rewarder` computes them of a batch, `train` trains the policy.

HackingWatch it: `diagnostics` are logged beside the terms, `gradient_norms` asks whether every term pulls, `probe`
lets judges hear the policy now and then, `selection` chooses the checkpoint by that, and `hacking`
says when the reward is being hacked.
"""
