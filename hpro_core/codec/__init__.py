"""HD-Emo: the codec that splits speech tokens into content and style, and so serves as reward.

Paper section II-A. `model` is the codec, `losses` what trains it, `training` how.
"""
