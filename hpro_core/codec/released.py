"""Conversion of the authors' codec file, HD-Emo/model.pt, to a codec folder and back.

`state_dict_map` maps the names of the weights. Duplicates of a weight in the file must be equal.
Weights that the codec does not use must be listed there, and are left out.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hpro_core.codec import state_dict_map as n
from hpro_core.codec.compatibility import CORRECTED, Compatibility
from hpro_core.codec.model import CodecConfig, HdEmo
from hpro_core.codec.whisper import whisper_part
from hpro_core.constants import N_SPEECH_TOKENS
from hpro_core.errors import HproError
from hpro_core.io import sha256_of, write_pt
from hpro_core.train.checkpoint import save_model, state_dict_of

ORIGIN = "its authors (HD-Emo/model.pt)"
"""Origin of the file, for error messages."""

SIZED = {  # setting: the weight, and the dimension of its shape, that give the value
    "width": (n.TOKENS, 1),
    "heads": ("emotion_decoupler.encoders.0.self_attn.pos_bias_u", 0),
    "hidden": ("emotion_decoupler.encoders.0.feed_forward.w_1.weight", 0),
    "combiner_heads": ("combiner.encoders.0.self_attn.pos_bias_u", 0),
    "combiner_hidden": ("combiner.encoders.0.feed_forward.w_1.weight", 0),
    "content_dimensions": ("content_FSQ_affine_linear.weight", 0),
    "style_dimensions": ("emotion_FSQ_affine_linear.weight", 0),
    "text_vocabulary": (n.TEXT_EMBEDDING, 0),
    "text_width": (n.TEXT_EMBEDDING, 1),
    "text_hidden": (n.DECODER + "layers.0.fc1.weight", 0),
    "text_positions": (n.DECODER + "embed_positions.weight", 0),
}
COUNTED = {  # setting: prefix of the numbered layers
    "extractor_blocks": "emotion_decoupler.encoders.",
    "adapter_blocks": "emotion_adapter.encoders.",
    "combiner_blocks": "combiner.encoders.",
    "text_blocks": n.DECODER + "layers.",
}


@dataclass(frozen=True)
class UnstoredSettings:
    """Settings that the file does not store; the defaults are the released configuration.

    Attributes:
        content_levels: levels per content dimension.
        style_levels: levels per style dimension.
        emotion_heads: attention heads of the emotion head.
        text_heads: attention heads of the text decoder. None: one per 64 of its width, as in
            every Whisper.
    """

    content_levels: int = 6
    style_levels: int = 5
    emotion_heads: int = 16
    text_heads: int | None = None


def import_codec(source: Path, out: Path, unstored: UnstoredSettings) -> HdEmo:
    """Convert the authors' model.pt to a folder for `load_codec`.

    Args:
        source: the file.
        out: folder for model.safetensors and config.json, which records name and SHA-256 of the
            file.
        unstored: settings that the file does not store.

    Returns:
        The codec.

    Raises:
        HproError: see `state_dict_of` and `from_released`.
    """
    codec = from_released(state_dict_of(source, ORIGIN), str(source), unstored)
    provenance = {
        "file": source.name,
        "sha256": sha256_of(source),
        "format": "HD-EMO released codec",
    }
    save_model(out, codec, {"model": asdict(codec.config), "provenance": provenance})
    return codec


def export_codec(codec: HdEmo, out: Path, whisper: Path) -> None:
    """Write a codec as a model.pt that the authors' class loads strictly.

    Args:
        codec: a codec with the released class's form.
        out: the file.
        whisper: folder of the Whisper model whose decoder the codec started from. The class stores
            its encoder too, without using it.

    Raises:
        HproError: see `to_released` and `whisper_part`.
    """
    state = to_released(codec, whisper_part(whisper, "model.encoder."), str(whisper))
    write_pt(out, state)


def from_released(
    state: Mapping[str, Tensor],
    source: str,
    unstored: UnstoredSettings,
    compatibility: Compatibility = CORRECTED,
) -> HdEmo:
    """Build a codec from the weights of the released class; sizes are taken from the weights.

    Args:
        state: weights by their released names.
        source: origin of the weights, for error messages.
        unstored: settings that the weights do not give.
        compatibility: corrections of the released codec.

    Raises:
        HproError: a weight is missing, unknown, of another shape or not equal to its duplicate, or
            the codec is for another speech tokenizer. The message lists the names.
    """
    with torch.device("meta"):
        codec = HdEmo(_config(state, source, unstored), compatibility)
    shapes = {name: value.shape for name, value in codec.state_dict().items()}
    names = n.released_names(shapes)
    theirs = {names[ours]: shape for ours, shape in shapes.items()}
    same = {**n.copies(theirs), **n.unused_adapter_names(theirs)}
    _check_names(state, theirs.keys() | same.keys(), source)
    _check_shapes(state, {**theirs, **{a: theirs[b] for a, b in same.items()}}, source)
    _check_copies(state, n.copies(theirs), source)
    codec.to_empty(device="cpu")
    codec.load_state_dict({ours: state[name] for ours, name in names.items()})
    return codec


def to_released(
    codec: HdEmo, whisper_encoder: Mapping[str, Tensor], source: str
) -> dict[str, Tensor]:
    """Weights of a codec by their released names, with everything that the class stores.

    Args:
        codec: a codec with the released class's form.
        whisper_encoder: weights of Whisper's encoder, by the names of transformers.
        source: origin of the encoder, for error messages.

    Raises:
        HproError: the codec has a form that the class lacks, or the encoder is incomplete or has
            another width.
    """
    config = codec.config
    if config.memory_positions or config.factored_embedding or config.modulation != "released":
        raise HproError(
            f"the codec (modulation {config.modulation!r}) has memory_positions, "
            "factored_embedding or a modulation that the released class lacks: only a codec of the "
            "preset `released` can be exported"
        )
    wanted = n.whisper_encoder_names(n.layers_below(whisper_encoder, "layers."))
    missing = wanted - whisper_encoder.keys()
    if missing or len(whisper_encoder["layer_norm.weight"]) != config.text_width:
        raise HproError(
            f"{source} has no encoder of width {config.text_width} (missing: "
            f"{n.format_names(missing)}): "
            "give the folder of the Whisper model that the codec's text decoder started from"
        )
    weights = codec.state_dict()
    state = {name: weights[ours].cpu() for ours, name in n.released_names(weights).items()}
    same = {**n.copies(state), **n.unused_adapter_names(state)}
    encoder = {n.WHISPER_ENCODER + name: value for name, value in whisper_encoder.items()}
    return {**state, **{a: state[b] for a, b in same.items()}, **encoder}


def _config(state: Mapping[str, Tensor], source: str, unstored: UnstoredSettings) -> CodecConfig:
    silent = {w for w, dimension in SIZED.values() if w not in state or state[w].dim() <= dimension}
    if silent:
        raise HproError(
            f"{source} is no codec of the released class: it lacks {n.format_names(silent)}; use "
            "the authors' model.pt"
        )
    if len(state[n.TOKENS]) != N_SPEECH_TOKENS:
        raise HproError(
            f"{source} has {len(state[n.TOKENS])} speech tokens, not the {N_SPEECH_TOKENS} of "
            "CosyVoice2's tokenizer: use a codec for that tokenizer"
        )
    sizes: dict[str, Any] = {
        **{key: state[weight].shape[dimension] for key, (weight, dimension) in SIZED.items()},
        **{key: n.layers_below(state, prefix) for key, prefix in COUNTED.items()},
        **asdict(unstored),
        "word_edges": "truncate",  # as the weights were trained
    }
    sizes["text_heads"] = unstored.text_heads or max(1, sizes["text_width"] // 64)
    for heads, width in [("emotion_heads", "width"), ("text_heads", "text_width")]:
        if sizes[width] % sizes[heads]:
            raise HproError(
                f"{source}: {width} {sizes[width]} does not split into {sizes[heads]} heads: set "
                f"{heads} to the model's number of heads"
            )
    return CodecConfig(**sizes)


def _check_names(state: Mapping[str, Tensor], known: set[str], source: str) -> None:
    layers = n.layers_below(state, n.WHISPER_ENCODER + "layers.")
    known = known | {n.WHISPER_ENCODER + name for name in n.whisper_encoder_names(layers)}
    missing, unknown = known - state.keys(), state.keys() - known
    if missing or unknown:
        raise HproError(
            f"{source} is not as the released class saves it: missing {n.format_names(missing)}; "
            f"unknown {n.format_names(unknown)}; use the authors' model.pt"
        )


def _check_shapes(
    state: Mapping[str, Tensor], shapes: Mapping[str, torch.Size], source: str
) -> None:
    wrong = [
        f"{name} {list(state[name].shape)} instead of {list(shape)}"
        for name, shape in shapes.items()
        if state[name].shape != shape
    ]
    if wrong:
        raise HproError(
            f"{source} has other sizes than the released class: {n.format_names(wrong, 3)}; use "
            "the authors' model.pt"
        )


def _check_copies(state: Mapping[str, Tensor], same: Mapping[str, str], source: str) -> None:
    differing = [copy for copy, name in same.items() if not torch.equal(state[copy], state[name])]
    if differing:
        raise HproError(
            f"{source}: {n.format_names(differing)} differ from the weights that they duplicate: "
            "save the model again from the released class"
        )
