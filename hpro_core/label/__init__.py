"""Emotion posteriors per utterance and valence, arousal, dominance per word (docs/labels.md)."""
