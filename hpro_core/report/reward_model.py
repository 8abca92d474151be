"""Affect of words of the recordings, as the reward model sees it. Letters: L frames, W words."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hpro_core.tables import DATASET, read_table


def recordings_vad(root: Path, utt_ids: Sequence[str]) -> dict[str, list[list[float]]]:
    """Predict valence, arousal and dominance of words by the codec, from the recordings' tokens.

    Args:
        root: results folder of the run.
        utt_ids: test utterances.

    Returns:
        utt_id -> V, A, D of each word in [0, 1]; empty in a run without a codec. Utterances that
        are not in the dataset are left out.

    Raises:
        HproError: the codec or the dataset cannot be read.
    """
    folder = root / "codec" / "style"
    if not (folder / "config.json").is_file():
        return {}
    import torch

    from hpro_core.codec.training import load_codec
    from hpro_core.train.examples import spans_to_frames

    codec = load_codec(folder)
    test = read_table(root / "dataset" / "test.parquet", DATASET, {"utt_id": list(utt_ids)})
    found = {}
    for row in test.to_dict("records"):
        spans_s = np.stack([row["word_start_s"], row["word_end_s"]], axis=1)
        spans_W2 = spans_to_frames(spans_s, len(row["tokens"]), codec.config.word_edges)
        tokens_1L = torch.from_numpy(row["tokens"].astype(np.int64))[None]
        lengths_1 = torch.tensor([len(row["tokens"])])
        with torch.no_grad():
            style_1LH = codec.style_features(tokens_1L, lengths_1)
            features_1LH = codec.emotion_features(style_1LH, lengths_1)
            vad_1W3 = codec.word_vad_head(features_1LH, torch.from_numpy(spans_W2)[None])
        values = vad_1W3[0].double().numpy().round(3).tolist()
        found[str(row["utt_id"])] = values
    return found
