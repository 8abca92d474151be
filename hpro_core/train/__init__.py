"""Shared training code: batches, the training loop, checkpoints, curves."""
