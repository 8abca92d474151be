"""What the policy reads and what the codec's text decoder writes.

The embedded models share the phones of `hpro_core.text.phones`. At full size the policy reads
CosyVoice2's text tokens (Qwen2's byte pairs and a few marks) and the codec writes Whisper's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hpro_core.errors import HproError
from hpro_core.text.normalise import COSYVOICE2_MARKS
from hpro_core.text.phones import BEGIN_TEXT, END_TEXT, encode

PHONES = "phones"


@dataclass(frozen=True)
class Frontend:
    """Both encodings of an utterance, each from its published text and its normalised words."""

    policy: Callable[[str, str], tuple[list[int], list[int]]]  # symbols; the word of each
    codec: Callable[[str, str], list[int]]  # transcript, its begin and end marked


def frontend(policy_text: str, codec_text: str) -> Frontend:
    """The encodings that the settings name.

    Args:
        policy_text: "phones", or the folder CosyVoice-BlankEN of a CosyVoice2 model.
        codec_text: "phones", or the folder of a Whisper model.

    Raises:
        HproError: a folder lacks the tokenizer's files.
    """
    return Frontend(
        policy=encode if policy_text == PHONES else _cosyvoice2(Path(policy_text)),
        codec=_phones if codec_text == PHONES else _whisper(Path(codec_text)),
    )


def _phones(text: str, words: str) -> list[int]:
    return [BEGIN_TEXT, *encode(text, words)[0], END_TEXT]


def _cosyvoice2(folder: Path) -> Callable[[str, str], tuple[list[int], list[int]]]:
    """Text tokens; which word each belongs to is not known, and nothing at full size asks."""
    from transformers import Qwen2Tokenizer  # three seconds, which no embedded job needs

    _require(folder, "vocab.json", "merges.txt", "tokenizer_config.json")
    tokenizer = Qwen2Tokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens(
        {
            "eos_token": "<|endoftext|>",
            "pad_token": "<|endoftext|>",
            "additional_special_tokens": list(COSYVOICE2_MARKS),
        }
    )

    def read(text: str, words: str) -> tuple[list[int], list[int]]:
        ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
        if not ids:
            raise HproError(f"text {text!r} has no tokens: give it a transcript")
        return ids, [0] * len(ids)

    return read


def _whisper(folder: Path) -> Callable[[str, str], list[int]]:
    """Whisper's tokens between its default prefix and its end mark (released codec)."""
    from transformers import WhisperTokenizer

    _require(folder, "vocab.json", "merges.txt", "tokenizer_config.json")
    tokenizer = WhisperTokenizer.from_pretrained(folder)

    def write(text: str, words: str) -> list[int]:
        return list(tokenizer(text)["input_ids"])

    return write


def _require(folder: Path, *names: str) -> None:
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise HproError(
            f"{folder} lacks {', '.join(missing)}: give the tokenizer's folder as it is published"
        )
