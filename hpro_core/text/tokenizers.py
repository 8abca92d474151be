"""Text tokenizers: input of the policy and output of the codec's text decoder.

The embedded models share the phones of `hpro_core.text.phones`. At full size the policy's input are
CosyVoice2's text tokens (Qwen2's byte pairs and a few marks), and the codec's output Whisper's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpro_core.errors import HproError
from hpro_core.io import check_type, read_json, read_text, reason_of
from hpro_core.text.normalise import COSYVOICE2_TAGS
from hpro_core.text.phones import BEGIN_TEXT, END_TEXT, encode

PHONES = "phones"

_HINT = "use the tokenizer's folder as published"
_OPTIONAL = ("added_tokens.json", "special_tokens_map.json", "tokenizer.json")
"""Optional files."""


@dataclass(frozen=True)
class Frontend:
    """Both encoders of an utterance, functions of its published text and normalised words."""

    policy: Callable[[str, str], tuple[list[int], list[int]]]  # symbols, word index of each symbol
    codec: Callable[[str, str], list[int]]  # transcript with begin and end symbols


def load_frontend(policy_text: str, codec_text: str) -> Frontend:
    """Return the encoders that the settings name.

    Args:
        policy_text: "phones", or the folder CosyVoice-BlankEN of a CosyVoice2 model.
        codec_text: "phones", or the folder of a Whisper model.
    """
    return Frontend(
        policy=encode if policy_text == PHONES else _cosyvoice2(Path(policy_text)),
        codec=_phones if codec_text == PHONES else _whisper(Path(codec_text)),
    )


def _phones(text: str, words: str) -> list[int]:
    return [BEGIN_TEXT, *encode(text, words)[0], END_TEXT]


def _cosyvoice2(folder: Path) -> Callable[[str, str], tuple[list[int], list[int]]]:
    """Encoder to text tokens. Word indices are all 0: they are unknown and unused at full size."""
    from transformers import Qwen2Tokenizer  # three seconds, which no embedded job needs

    tokenizer = _published(folder, Qwen2Tokenizer.from_pretrained)
    end = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    tokenizer.add_special_tokens({**end, "additional_special_tokens": list(COSYVOICE2_TAGS)})

    def read(text: str, words: str) -> tuple[list[int], list[int]]:
        ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
        if not ids:
            raise HproError(f"text {text!r} has no tokens: give it a transcript")
        return ids, [0] * len(ids)

    return read


def _whisper(folder: Path) -> Callable[[str, str], list[int]]:
    """Encoder to Whisper's tokens with its default prefix and end token (released codec)."""
    from transformers import WhisperTokenizer

    tokenizer = _published(folder, WhisperTokenizer.from_pretrained)

    def write(text: str, words: str) -> list[int]:
        return list(tokenizer(text)["input_ids"])

    return write


def _published(folder: Path, load: Callable[[Path], Any]) -> Any:
    """Load a tokenizer of transformers after a check of its files.

    Raises:
        HproError: a file is missing or broken, or the files do not form a tokenizer.
    """
    files = ("vocab.json", "merges.txt", "tokenizer_config.json")
    if missing := [name for name in files if not (folder / name).exists()]:
        raise HproError(f"{folder} lacks {', '.join(missing)}: {_HINT}")
    _check_byte_pairs(folder)
    for name in ("tokenizer_config.json", *filter(lambda n: (folder / n).exists(), _OPTIONAL)):
        content = read_json(folder / name, _HINT)
        if name == "added_tokens.json":
            check_type(content, dict[str, int], str(folder / name), _HINT)
    try:
        tokenizer = load(folder)
        tokenizer("A text.")
    except Exception as error:  # wrong values in these files lead to exceptions of many types
        raise HproError(f"{folder} holds no tokenizer ({reason_of(error)}): {_HINT}") from error
    return tokenizer


def _check_byte_pairs(folder: Path) -> None:
    """Compare merges and vocabulary; a mismatch makes the tokenizers package panic."""
    path = folder / "vocab.json"
    vocabulary = check_type(read_json(path, _HINT), dict[str, int], str(path), _HINT)
    path = folder / "merges.txt"
    for number, line in enumerate(read_text(path, _HINT).split("\n"), 1):
        if not line.strip() or line.startswith("#version"):
            continue
        pair = line.rstrip("\r").split(" ")
        if len(pair) != 2 or not {*pair, "".join(pair)} <= vocabulary.keys():
            raise HproError(
                f"{path}, line {number}: {line[:60]!r} is not a token pair of vocab.json: {_HINT}"
            )
