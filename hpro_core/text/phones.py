"""Phone symbols of the embedded policy, with punctuation.

Pronunciations are from hibari's grapheme-to-phoneme rules (misaki alphabet, American English), one
word at a time and without context, so that a word always has the same phones. Primary stress is
merged with its vowel and secondary stress is dropped (ours: short sequences, a small alphabet).
"""

import functools
import re
from collections.abc import Callable, Iterator
from difflib import SequenceMatcher

from hpro_core.errors import HproError
from hpro_core.text.normalise import spoken_text

PADDING = 0
"""Id of padding."""

BOUNDARY = 1
"""Id of the blank between two words."""

_PUNCTUATION = (".", ",", "!", "?", ";")
_CONSONANTS = tuple("bdfhjklmnpstvwzðŋɡɹʃʒʤʧθT")  # T: the tapped t of American "water"
_VOWELS = tuple("AIOQWYaiuæɑɒɔəɛɜɪʊʌᵻɐᵊ")  # capitals are diphthongs: A as in "day", I as in "my"
_STRESS = "ˈ"

SYMBOLS = (
    "<pad>",
    " ",
    *_PUNCTUATION,
    *_CONSONANTS,
    *_VOWELS,
    *(_STRESS + vowel for vowel in _VOWELS),
)
"""Input symbols of the embedded policy, in the order of their ids."""

N_SYMBOLS = len(SYMBOLS)
"""Size of the text embedding."""

BEGIN_TEXT = N_SYMBOLS
"""Begin symbol of transcripts for the embedded codec's text decoder."""

END_TEXT = N_SYMBOLS + 1
"""End symbol of these transcripts."""

N_TRANSCRIPT_SYMBOLS = N_SYMBOLS + 2
"""Size of the embedded text decoder's vocabulary."""

WHISPER_SPECIAL_TOKENS = {50258, 50363, 50257}
"""Ids of begin, no-timestamps and end tokens in a Whisper of 51865 tokens; others differ."""

_ID = {symbol: index for index, symbol in enumerate(SYMBOLS)}
_CLEANED = str.maketrans({"y": "j", "ʀ": "ɹ"} | dict.fromkeys(".,!?;:'’\"“”‘—…-()1ˌː ", ""))
_TOKEN = re.compile(r"[a-z']*[a-z][a-z']*|\d+")


@functools.cache
def phones_of(word: str) -> tuple[str, ...]:
    """Return the phones of one normalised word (lower-case letters and apostrophes).

    Returns:
        Phones, each in `SYMBOLS`; a vowel with primary stress is one symbol.

    Raises:
        HproError: the word has no pronunciation, or one with an unknown phone.
    """
    phones = _split(_pronounce()(word).translate(_CLEANED))
    unknown = [phone for phone in phones if phone not in _ID]
    if unknown:
        raise HproError(f"word {word!r}: phone {unknown[0]!r} is not in text.phones.SYMBOLS")
    if not phones:
        raise HproError(f"word {word!r} has no pronunciation: spell it out in the transcript")
    return tuple(phones)


def phone_ids(word: str) -> tuple[int, ...]:
    """Return the ids of a normalised word's phones, indices of `SYMBOLS`; see `phones_of`."""
    return tuple(_ID[phone] for phone in phones_of(word))


def encode(text: str, words: str) -> tuple[list[int], list[int]]:
    """Encode an utterance as symbols: phones, punctuation after its word, a blank between words.

    Args:
        text: the transcript as published; only the punctuation of its `spoken_text` is used.
        words: its normalised words, separated by single blanks (column `words`).

    Returns:
        ids: symbol ids, 1..N_SYMBOLS - 1.
        word_index: for each symbol the position of its word in `words`; punctuation and the blank
            belong to the word before them.

    Raises:
        HproError: there are no words, or one has no phones.
    """
    word_list = words.split()
    if not word_list:
        raise HproError(f"text {text!r} has no words: give it a transcript")
    marks = _marks(spoken_text(text), word_list)
    ids: list[int] = []
    word_index: list[int] = []
    for index, (word, mark) in enumerate(zip(word_list, marks, strict=True)):
        symbols = list(phone_ids(word))
        if mark:
            symbols.append(_ID[mark])
        if index + 1 < len(word_list):
            symbols.append(BOUNDARY)
        ids += symbols
        word_index += [index] * len(symbols)
    return ids, word_index


def _marks(text: str, words: list[str]) -> list[str]:
    """The punctuation symbol after each word, or an empty string."""
    tokens = [token.strip("'") for token in _TOKEN.findall(text)]
    gaps = _TOKEN.split(text)[1:]
    marks = [""] * len(words)
    for token, word in _word_of_token(tokens, words):
        if word >= 0:
            marks[word] = _mark(gaps[token]) or marks[word]
    return marks


def _word_of_token(tokens: list[str], words: list[str]) -> Iterator[tuple[int, int]]:
    """Pair tokens of the text with words; numbers and abbreviations differ between the two."""
    matcher = SequenceMatcher(None, tokens, words, autojunk=False)
    for kind, token, token_end, word, word_end in matcher.get_opcodes():
        for offset in range(token_end - token):
            last = token + offset + 1 == token_end
            paired = word + offset if kind == "equal" else (word_end - 1 if last else -1)
            yield token + offset, paired


def _mark(gap: str) -> str:
    """The strongest mark between two words; dashes count as commas, colons as semicolons."""
    for mark, signs in (("?", "?"), ("!", "!"), (".", ".…"), (";", ";:"), (",", ",—–")):
        if any(sign in gap for sign in signs):
            return mark
    return "," if re.search(r"\s-|--|-\s", gap) else ""


def _split(phonemes: str) -> list[str]:
    """Characters, with the stress mark joined to the vowel after it and dropped elsewhere."""
    return re.findall(f"{_STRESS}[{''.join(_VOWELS)}]|[^{_STRESS}]", phonemes)


@functools.cache
def _pronounce() -> Callable[[str], str]:
    from hibari.g2p import G2P  # loads lexicons and numpy: only where text is encoded

    return G2P()
