"""Names of the weights in the released codec class and in ours.

The class is `AdaptiveSpeechTokenCodec` (XXH333/HD-EMO, cosyvoice/codec/token_codec.py). Modules of
both have the same function under their names. Its state dict has duplicates: the Whisper decoder
twice, and Whisper's output layer, which equals the embedding, two more times. It also has unused
weights: a whole Whisper encoder, and `emotion_encoder`, an adapter that the class never calls.
"""

import re
from collections.abc import Collection, Iterable

PARTS = {  # ours: theirs
    "embedding": "speech_token_embedding",
    "style_extractor": "emotion_decoupler",
    "content_extractor": "content_decoupler",
    "emotion_adapter": "emotion_adapter",
    "content_adapter": "content_adapter",
    "modulation_adapter": "modulation_adapter",
    "combiner": "combiner",
    "emotion_head.queries": "emotion_query_embedding.weight",
    "emotion_head.attention": "emotion_score_encoder",
    "emotion_head.mlp": "global_emotion_head",
    "word_vad_head.frame": "word_pre_pool_net",
    "word_vad_head.word": "word_post_pool_net",
    "text_decoder.affine": "whisper_affine_layer",
    "text_decoder.decoder": "content_token_encoder.whisper_decoder",
    "to_content_code": "content_FSQ_affine_linear",
    "to_style_code": "emotion_FSQ_affine_linear",
    "from_content_code": "content_token_affine_linear",
    "from_style_code": "emotion_token_affine_linear",
    "modulation": "modulation_layer",
    "to_tokens": "output_affine_linear",
}
IN_ENCODER = {  # ours: theirs
    "input": "embed.out",
    "norm": "after_norm",
    "blocks": "encoders",
    "attention": "self_attn",
    "norm_attention": "norm_mha",
    "norm_feed_forward": "norm_ff",
    "w_1": "feed_forward.w_1",
    "w_2": "feed_forward.w_2",
}
IN_COMBINER = {**IN_ENCODER, "norm_attention": "norm1", "norm_feed_forward": "norm2"}
INNER = {
    "combiner": IN_COMBINER,
    **dict.fromkeys(("style_extractor", "content_extractor"), IN_ENCODER),
    **dict.fromkeys(("emotion_adapter", "content_adapter", "modulation_adapter"), IN_ENCODER),
}

TOKENS = "speech_token_embedding.weight"
DECODER = "content_token_encoder.whisper_decoder."
WHISPER = "content_token_encoder.whisper_model."
TEXT_EMBEDDING = DECODER + "embed_tokens.weight"
WHISPER_ENCODER = WHISPER + "model.encoder."
ADAPTER, UNUSED_ADAPTER = "emotion_adapter.", "emotion_encoder."


def released_names(ours: Iterable[str]) -> dict[str, str]:
    """Map each of our weight names to the released one.

    Args:
        ours: names in the state dict of `HdEmo`.

    Returns:
        The released name by our name.
    """
    names = {}
    for name in ours:
        part = next(part for part in PARTS if name == part or name.startswith(part + "."))
        rest = name.removeprefix(part).split(".")[1:]
        inner = INNER.get(part, {})
        names[name] = ".".join([PARTS[part], *(inner.get(word, word) for word in rest)])
    return names


def copies(theirs: Iterable[str]) -> dict[str, str]:
    """Map the released names of duplicates to the name of the weight that they duplicate.

    Args:
        theirs: released names of the codec's weights.
    """
    decoder = [name for name in theirs if name.startswith(DECODER)]
    outputs = ("content_token_encoder.proj_out.weight", WHISPER + "proj_out.weight")
    return {
        **{WHISPER + "model.decoder." + name.removeprefix(DECODER): name for name in decoder},
        **dict.fromkeys(outputs, TEXT_EMBEDDING),
    }


def unused_adapter_names(theirs: Iterable[str]) -> dict[str, str]:
    """Map the released names of the unused adapter to those of `emotion_adapter`, of equal shape.

    Args:
        theirs: released names of the codec's weights.
    """
    twins = [name for name in theirs if name.startswith(ADAPTER)]
    return {UNUSED_ADAPTER + name.removeprefix(ADAPTER): name for name in twins}


def whisper_encoder_names(layers: int) -> set[str]:
    """All weight names of a Whisper encoder with this number of layers, as in transformers."""
    both = ("weight", "bias")
    outside = {f"{part}.{kind}" for part in ("conv1", "conv2", "layer_norm") for kind in both}
    parts = [
        *(f"self_attn.{part}_proj" for part in ("q", "v", "out")),
        *("self_attn_layer_norm", "fc1", "fc2", "final_layer_norm"),
    ]
    inside = {f"{part}.{kind}" for part in parts for kind in both} | {"self_attn.k_proj.weight"}
    numbered = {f"layers.{layer}.{name}" for layer in range(layers) for name in inside}
    return outside | numbered | {"embed_positions.weight"}


def layers_below(names: Iterable[str], prefix: str) -> int:
    """Number of numbered layers below a prefix: the highest number plus one; 0 if there is none."""
    found = (re.match(re.escape(prefix) + r"(\d+)\.", name) for name in names)
    return 1 + max((int(match[1]) for match in found if match), default=-1)


def format_names(names: Collection[str], limit: int = 6) -> str:
    """Names for a one-line message: the first `limit` in sorted order and the number of others."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return (", ".join(sorted(names)[:limit]) or "nothing") + more
