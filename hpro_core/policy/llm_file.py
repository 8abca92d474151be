"""Reading and writing of CosyVoice2's `llm.pt` and reading of the Qwen folder beside it.

Names and shapes are those of upstream's Qwen2LM (FunAudioLLM/CosyVoice). Files are loaded strictly,
and upstream can load the written files strictly.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hpro_core.constants import N_SPEECH_TOKENS
from hpro_core.errors import HproError
from hpro_core.io import read_json, write_pt
from hpro_core.policy.cosyvoice2 import CosyVoice2Config, CosyVoice2LM
from hpro_core.policy.interface import N_OUTPUTS
from hpro_core.train.checkpoint import build_on_meta, check_magnitudes, sizes_of, state_dict_of

QWEN_FOLDER = "CosyVoice-BlankEN"
"""Folder beside llm.pt with the sizes and the tokenizer of Qwen2.5-0.5B, as CosyVoice2 ships it."""

_HINT = "use the file of the CosyVoice2 model"

_TEXT_TABLE = "llm.model.model.embed_tokens.weight"
_TEXT_HEAD = "llm.model.lm_head.weight"  # tied to the table; CosyVoice2 never uses its logits
_UPSTREAM = {
    "qwen.": "llm.model.model.",
    "special_embedding.": "llm_embedding.",
    "speech_embedding.": "speech_embedding.",
    "speech_head.": "llm_decoder.",
}
"""Prefixes of weight names here -> prefixes upstream."""


def read_llm(folder: Path, checkpointing: bool = False) -> CosyVoice2LM:
    """Load CosyVoice2's language model in eval mode.

    The folder is as published, with llm.pt and CosyVoice-BlankEN/config.json.

    Raises:
        HproError: a file is missing, contains code or belongs to CosyVoice 1 or 3, or a weight is
            missing, unexpected or of another shape.
    """
    config_path, path = folder / QWEN_FOLDER / "config.json", folder / "llm.pt"
    config = read_config(config_path)
    weights = state_dict_of(path, "the model folder CosyVoice2-0.5B")
    _check_version(weights, path)
    shapes = {name: value.shape for name, value in weights.items()}
    check_magnitudes(config_path, vars(config), shapes, _HINT)
    sized = build_on_meta(lambda: CosyVoice2LM(config), config_path, _HINT)
    _check_weights(weights, upstream_weights(sized), path)
    policy = CosyVoice2LM(config, checkpointing)
    ours = {theirs: ours for ours, theirs in _UPSTREAM.items()}
    own = {_renamed(name, ours): value for name, value in weights.items() if name != _TEXT_HEAD}
    policy.load_state_dict(own, strict=True)
    return policy.eval()


def write_llm(policy: CosyVoice2LM, path: Path) -> None:
    """Write an llm.pt atomically; it can replace upstream's own file."""
    weights = upstream_weights(policy)
    table = weights[_TEXT_TABLE].cpu().contiguous()  # stored once for both of its names
    stored = {
        name: table if name in (_TEXT_TABLE, _TEXT_HEAD) else value.cpu().contiguous()
        for name, value in weights.items()
    }
    write_pt(path, stored)


def upstream_weights(policy: CosyVoice2LM) -> dict[str, Tensor]:
    """Return the weights of a policy under upstream's names."""
    state = policy.state_dict()
    weights = {_renamed(name, _UPSTREAM): value.detach() for name, value in state.items()}
    return weights | {_TEXT_HEAD: weights[_TEXT_TABLE]}


def read_config(path: Path) -> CosyVoice2Config:
    """Read the sizes from the config.json of a Qwen2 folder.

    Raises:
        HproError: the file is missing, or describes a model that `CosyVoice2LM` cannot represent.
    """
    config = read_json(path, f"copy the folder {QWEN_FOLDER} of the CosyVoice2 model")
    _check_kind(config, path)
    stored = {**config, "rope_theta": _rope(config).get("rope_theta")}
    if missing := [theirs for theirs in _SIZES.values() if stored.get(theirs) is None]:
        raise HproError(f"{path} lacks {missing[0]!r}: {_HINT}")
    sizes = {ours: stored[theirs] for ours, theirs in _SIZES.items()}
    return sizes_of(path, sizes, CosyVoice2Config, _HINT)


_SIZES = {
    "width": "hidden_size",
    "blocks": "num_hidden_layers",
    "heads": "num_attention_heads",
    "key_heads": "num_key_value_heads",
    "hidden": "intermediate_size",
    "vocabulary": "vocab_size",
    "rope_theta": "rope_theta",
    "norm_eps": "rms_norm_eps",
}
"""Sizes here -> keys of Qwen2's config.json."""


def _rope(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the mapping with the rotary base, as transformers 5 or 4 writes it."""
    found = config.get("rope_parameters")
    return found if isinstance(found, dict) and found else config


def _check_kind(config: Mapping[str, Any], path: Path) -> None:
    """Reject a configuration whose weights would load but compute something else."""
    wanted: dict[str, tuple[Any, Any]] = {
        "model_type": (config.get("model_type"), "qwen2"),
        "hidden_act": (config.get("hidden_act", "silu"), "silu"),
        "tie_word_embeddings": (config.get("tie_word_embeddings"), True),
        "use_sliding_window": (config.get("use_sliding_window", False), False),
        "rope_type": (_rope(config).get("rope_type", "default"), "default"),
        "rope_scaling": (config.get("rope_scaling"), None),
    }
    for name, (found, expected) in wanted.items():
        if found != expected:
            raise HproError(
                f"{path}: {name} is {found!r}, but CosyVoice2's Qwen2 has {expected!r}: {_HINT}"
            )


def _check_version(weights: Mapping[str, Tensor], path: Path) -> None:
    """Reject files of CosyVoice 1 and 3 by name, which is clearer than a list of weight names."""
    if any(name.startswith(("text_encoder.", "text_encoder_affine_layer.")) for name in weights):
        raise HproError(f"{path} is of CosyVoice 1: use the llm.pt of CosyVoice2-0.5B")
    if "llm_embedding.weight" not in weights and "speech_embedding.weight" in weights:
        raise HproError(f"{path} is of CosyVoice 3: use the llm.pt of CosyVoice2-0.5B")
    table = weights.get("speech_embedding.weight")
    if table is not None and len(table) != N_OUTPUTS:
        raise HproError(
            f"{path} has {len(table) - 3} speech tokens, but {N_SPEECH_TOKENS} are expected: "
            "use the llm.pt of CosyVoice2-0.5B"
        )


def _check_weights(
    weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path
) -> None:
    missing, unknown = expected.keys() - weights.keys(), weights.keys() - expected.keys()
    wrong = [
        f"{what} {min(names)} ({len(names)} such names)"
        for what, names in (("lacks", missing), ("has the unknown", unknown))
        if names
    ]
    if wrong:
        raise HproError(
            f"{path} {' and '.join(wrong)}: it is not an llm.pt of CosyVoice2, or does not belong "
            f"to this {QWEN_FOLDER}; after a training with a wrapper or adapters, save the merged "
            "model only"
        )
    for name, value in expected.items():
        if weights[name].shape != value.shape:
            raise HproError(
                f"{path}: {name} has shape {tuple(weights[name].shape)}, but "
                f"{QWEN_FOLDER}/config.json gives {tuple(value.shape)}: use files of one model"
            )
    if not torch.equal(weights[_TEXT_HEAD], weights[_TEXT_TABLE]):
        raise HproError(
            f"{path}: {_TEXT_HEAD} differs from {_TEXT_TABLE}, but Qwen2 ties them and upstream "
            "may load either: copy the trained one over the other"
        )


def _renamed(name: str, prefixes: Mapping[str, str]) -> str:
    for old, new in prefixes.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    raise ValueError(f"no new name for {name}")
