"""What every training has in common: batches, the loop, checkpoints, curves."""
