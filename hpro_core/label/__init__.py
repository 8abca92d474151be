"""Labels: emotion posterior per utterance and V, A, D per word (docs/labels.md)."""
