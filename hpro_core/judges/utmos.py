"""Published naturalness judge: UTMOS22, strong learner (Saeki et al. 2022, arXiv 2204.02152).

Weights are the file utmos22_strong_step7459_v1.pt of tarepan/SpeechMOS, which holds the network of
sarulab-speech/UTMOS22 without the phone encoder: wav2vec2, embeddings of one data domain and one
listener, a BLSTM and a projection of each frame.
Letters: B 1, T samples, F frames, D features.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2Model

from hpro_core.judges.quality import ClipJudge, check_judge
from hpro_core.train.checkpoint import build_on_meta, check_fit, state_dict_of

ORIGIN = "utmos22_strong_step7459_v1.pt of tarepan/SpeechMOS"
HEAD_WIDTH = 64
"""Width of an attention head, as in wav2vec2-base: weights do not tell the number of heads."""

_STRIDES = (5, 2, 2, 2, 2, 2, 2)
_UNUSED = ("wav2vec2.mask_emb",)  # replaces masked frames in training
_NAMES = (
    (r"\.conv_layers\.(\d+)\.0\.", r".conv_layers.\1.conv."),
    (r"\.conv_layers\.0\.2\.", r".conv_layers.0.layer_norm."),
    (r"^wav2vec2\.layer_norm\.", "wav2vec2.feature_projection.layer_norm."),
    (r"\.post_extract_proj\.", ".feature_projection.projection."),
    (r"\.pos_conv\.0\.weight_g$", ".pos_conv_embed.conv.parametrizations.weight.original0"),
    (r"\.pos_conv\.0\.weight_v$", ".pos_conv_embed.conv.parametrizations.weight.original1"),
    (r"\.pos_conv\.0\.bias$", ".pos_conv_embed.conv.bias"),
    (r"\.self_attn_layer_norm\.", ".layer_norm."),
    (r"\.self_attn\.", ".attention."),
    (r"\.fc1\.", ".feed_forward.intermediate_dense."),
    (r"\.fc2\.", ".feed_forward.output_dense."),
)
"""Pattern in a name of fairseq's wav2vec2 -> the name in transformers'."""


class UtmosNetwork(nn.Module):
    """The strong learner, for one data domain and one listener."""

    def __init__(self, config: Wav2Vec2Config, domain: int, judge: int, hidden: int, wide: int):
        """
        Args:
            config: configuration of wav2vec2.
            domain: width of the embedding of the data domain.
            judge: width of the embedding of the listener.
            hidden: width of each direction of the BLSTM.
            wide: width of the hidden layer of the projection.
        """
        super().__init__()
        self.wav2vec2 = Wav2Vec2Model(config)
        self.domain_emb = nn.Parameter(torch.zeros(1, domain))
        self.judge_emb = nn.Parameter(torch.zeros(1, judge))
        width = config.hidden_size + domain + judge
        self.blstm = nn.LSTM(width, hidden, batch_first=True, bidirectional=True)
        self.projection = nn.Sequential(nn.Linear(2 * hidden, wide), nn.ReLU(), nn.Linear(wide, 1))

    def forward(self, samples_BT: Tensor) -> Tensor:
        """Predict the score of clips: float (B, T), 16 kHz -> float (B,), about 1 to 5."""
        frames_BFD = self.wav2vec2(samples_BT).last_hidden_state
        condition_1D = torch.cat([self.domain_emb, self.judge_emb], dim=1)
        condition_BFD = condition_1D.expand(*frames_BFD.shape[:2], -1)
        hidden_BFD, _ = self.blstm(torch.cat([frames_BFD, condition_BFD], dim=2))
        return self.projection(hidden_BFD).mean(dim=(1, 2)) * 2 + 3


class Utmos(ClipJudge):
    """Published judge that scores whole clips, one at a time, because padding changes a score."""

    def __init__(self, path: Path, device: torch.device):
        """Load the file of ORIGIN; the network runs in float32.

        Raises:
            HproError: the file is missing, broken or of another model.
        """
        super().__init__(path, ORIGIN)
        self._device = device
        self._network = _load(path).to(device).eval()
        check_judge(self._score, path, ORIGIN)

    @torch.inference_mode()
    def _score(self, audio_T: np.ndarray) -> float:
        return self._network(torch.from_numpy(audio_T)[None].to(self._device)).item()


def _load(path: Path) -> UtmosNetwork:
    """Build the network with the sizes of its weights and load them strictly."""
    stored = state_dict_of(path, ORIGIN)
    weights = {_renamed(name): w for name, w in stored.items() if name not in _UNUSED}
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    hint = f"use {ORIGIN}"

    def build() -> UtmosNetwork:
        return _network(shapes)

    sized = build_on_meta(build, path, hint)
    check_fit(sized, weights, f"{path} does not fit UTMOS22", hint)
    network = build()
    network.load_state_dict(weights, strict=True)
    return network


def _network(shapes: Mapping[str, Sequence[int]]) -> UtmosNetwork:
    """Network with the sizes of given weights."""
    convolutions = [
        shapes[f"wav2vec2.feature_extractor.conv_layers.{i}.conv.weight"]
        for i in range(len(_STRIDES))
    ]
    positions = shapes["wav2vec2.encoder.pos_conv_embed.conv.parametrizations.weight.original1"]
    layers = {name.split(".")[3] for name in shapes if name.startswith("wav2vec2.encoder.layers.")}
    dense = shapes["wav2vec2.encoder.layers.0.feed_forward.intermediate_dense.weight"]
    config = Wav2Vec2Config(
        hidden_size=dense[1],
        intermediate_size=dense[0],
        num_hidden_layers=len(layers),
        num_attention_heads=max(1, dense[1] // HEAD_WIDTH),
        conv_dim=[shape[0] for shape in convolutions],
        conv_kernel=[shape[2] for shape in convolutions],
        conv_stride=list(_STRIDES),
        num_conv_pos_embeddings=positions[2],
        num_conv_pos_embedding_groups=dense[1] // positions[1],
        mask_time_prob=0.0,
        mask_feature_prob=0.0,
    )
    return UtmosNetwork(
        config,
        domain=shapes["domain_emb"][1],
        judge=shapes["judge_emb"][1],
        hidden=shapes["blstm.weight_hh_l0"][1],
        wide=shapes["projection.0.weight"][0],
    )


def _renamed(name: str) -> str:
    """Name of a weight in this network."""
    for pattern, ours in _NAMES:
        name = re.sub(pattern, ours, name)
    return name
