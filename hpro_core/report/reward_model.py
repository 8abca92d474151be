"""Affect of words as the reward model predicts it. Letters: L frames, W words."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

Spoken = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""utt_id -> speech tokens, int (L,), and start and end of each word in seconds, (W, 2)."""


def word_vad(folder: Path, systems: Mapping[str, Spoken]) -> dict[str, dict[str, list]]:
    """Predict valence, arousal and dominance of words by the codec, from speech tokens.

    Args:
        folder: model of the codec's second stage, codec/style.
        systems: the utterances of each system.

    Returns:
        system -> utt_id -> V, A, D of each word in [0, 1]; empty in a run without a codec.

    Raises:
        HproError: the codec cannot be read.
    """
    if not (folder / "config.json").is_file():
        return {}
    import torch

    from hpro_core.codec.training import load_codec
    from hpro_core.train.examples import spans_to_frames

    codec = load_codec(folder)
    found: dict[str, dict[str, list]] = {system: {} for system in systems}
    for system, spoken in systems.items():
        for utt_id, (tokens_L, spans_s) in spoken.items():
            spans_W2 = spans_to_frames(spans_s, len(tokens_L), codec.config.word_edges)
            tokens_1L = torch.from_numpy(tokens_L.astype(np.int64))[None]
            lengths_1 = torch.tensor([len(tokens_L)])
            with torch.no_grad():
                style_1LH = codec.style_features(tokens_1L, lengths_1)
                features_1LH = codec.emotion_features(style_1LH, lengths_1)
                vad_1W3 = codec.word_vad_head(features_1LH, torch.from_numpy(spans_W2)[None])
            found[system][utt_id] = vad_1W3[0].double().numpy().round(3).tolist()
    return found
