"""Hierarchical progressive reward optimisation (paper section II-B): one module per reward level.

`gumbel` samples speech tokens. `frame`, `word` and `sentence` compute the rewards, `kl` the KL
term. `history` generates the context of a sample. `objective` weights the terms of a stage.
`rewarder` computes the terms of a batch, and `train` trains the policy.

Monitoring: `diagnostics` are logged with the terms. `gradient_norms` reports the gradient norm of
each term. `probe` synthesises and judges dev sentences during training; `selection` chooses the
checkpoint by these scores; `hacking` detects reward hacking.
"""
