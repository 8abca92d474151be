"""Hierarchical progressive reward optimisation (paper section II-B), in the order of reading.

1. `losses`: the reward terms of the frame, word and sentence level, and the KL term.
   `terms` is the place of terms besides the paper's.
2. `sampling`: straight-through Gumbel-softmax over speech tokens, and the history before it.
3. `objective`: the weighted sum of the terms of a stage, and the models that compute it.
4. `train`: the training of one variant.
5. `diagnostics`: values and gradient norms that are logged with the terms.
6. `model_selection`: choice of the checkpoint by judges, and detection of reward hacking.
7. `probe`: synthesises dev sentences during the training and has them judged.
"""
