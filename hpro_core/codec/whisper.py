"""Published Whisper models, whose decoder initialises the codec's text decoder.

The paper uses Whisper medium, the released codec Whisper small. A model is a folder as written by
transformers and published on Hugging Face: config.json and model.safetensors.
"""

from pathlib import Path

import torch
from torch import Tensor

from hpro_core.codec.state_dict_map import format_names
from hpro_core.codec.text_decoder import TextDecoder
from hpro_core.errors import HproError
from hpro_core.io import read_json, read_safetensors_torch

PUBLISHED = "give the folder of a Whisper model as published"
HINT = "use whisper-small for the preset `released`, whisper-medium for `paper`"


def load_whisper_decoder(folder: Path, text_decoder: TextDecoder) -> None:
    """Load the weights of a Whisper decoder into a text decoder; its affine layer stays unchanged.

    Args:
        folder: folder of the Whisper model.
        text_decoder: text decoder of a codec, of the same sizes.

    Raises:
        HproError: a file is missing or broken, or the Whisper model has another number of heads,
            other weights or other shapes. The message names them.
    """
    found = whisper_part(folder, "model.decoder.")
    heads = read_json(folder / "config.json", PUBLISHED).get("decoder_attention_heads")
    wanted = text_decoder.decoder.sizes.heads
    if heads != wanted:
        raise HproError(f"{folder} has {heads} decoder heads, the codec {wanted}: {HINT}")
    own = {name: value.shape for name, value in text_decoder.decoder.state_dict().items()}
    missing, unknown = own.keys() - found.keys(), found.keys() - own.keys()
    if missing or unknown:
        raise HproError(
            f"{folder} does not fit the codec: it lacks {format_names(missing)}; not in the codec: "
            f"{format_names(unknown)}: {HINT}"
        )
    for name, value in found.items():
        if value.shape != own[name]:
            raise HproError(
                f"{folder}: {name} is {list(value.shape)}, the codec's {list(own[name])}: {HINT}"
            )
    text_decoder.decoder.load_state_dict(found)


def whisper_part(folder: Path, prefix: str) -> dict[str, Tensor]:
    """Weights of one part of a Whisper model, float32, by their names without the prefix.

    Args:
        folder: folder of the Whisper model.
        prefix: prefix of the part, "model.encoder." or "model.decoder.".

    Raises:
        HproError: a file is missing or broken.
    """
    read_json(folder / "config.json", PUBLISHED)
    weights = read_safetensors_torch(folder / "model.safetensors", PUBLISHED, own=False)
    return {
        name.removeprefix(prefix): value.to(torch.float32)
        for name, value in weights.items()
        if name.startswith(prefix)
    }
