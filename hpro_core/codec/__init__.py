"""HD-Emo: the codec that separates speech tokens into content and style and computes the rewards.

Paper section II-A. `model` is the codec, `losses` its losses, `training` its training.
"""
