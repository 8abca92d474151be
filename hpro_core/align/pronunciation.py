"""Pronunciations in pocketsphinx's phones for words that its dictionary lacks (ours).

The output of hibari's grapheme-to-phoneme rules (misaki alphabet, as in text.phones) is mapped
phone by phone to ARPAbet without stress. A word without such an output is spelled by a table of
letters, an approximation that suffices for a word between known neighbours.
"""

from hpro_core.errors import HproError
from hpro_core.text.phones import phones_of

_OF_PHONE = {
    **{"b": "B", "d": "D", "f": "F", "h": "HH", "j": "Y", "k": "K", "l": "L", "m": "M", "n": "N"},
    **{"p": "P", "s": "S", "t": "T", "v": "V", "w": "W", "z": "Z", "ð": "DH", "ŋ": "NG"},
    **{"ɡ": "G", "ɹ": "R", "ʃ": "SH", "ʒ": "ZH", "ʤ": "JH", "ʧ": "CH", "θ": "TH", "T": "T"},
    **{"A": "EY", "I": "AY", "O": "OW", "Q": "OW", "W": "AW", "Y": "OY", "a": "AE", "i": "IY"},
    **{"u": "UW", "æ": "AE", "ɑ": "AA", "ɒ": "AA", "ɔ": "AO", "ə": "AH", "ɛ": "EH", "ɜ": "ER"},
    **{"ɪ": "IH", "ʊ": "UH", "ʌ": "AH", "ᵻ": "IH", "ɐ": "AH", "ᵊ": "AH"},
}
"""misaki phone without stress -> ARPAbet phone of pocketsphinx's en-us model."""

_OF_LETTER = {
    **{"a": "AE", "b": "B", "c": "K", "d": "D", "e": "EH", "f": "F", "g": "G", "h": "HH"},
    **{"i": "IH", "j": "JH", "k": "K", "l": "L", "m": "M", "n": "N", "o": "AA", "p": "P"},
    **{"q": "K", "r": "R", "s": "S", "t": "T", "u": "AH", "v": "V", "w": "W", "x": "K S"},
    **{"y": "IY", "z": "Z", "'": ""},
}
"""Letter -> its most common phone; doubled letters count once."""

_STRESS = "ˈ"


def arpabet_of(word: str) -> str:
    """Return the pronunciation of a word in the phones of pocketsphinx's en-us model.

    Args:
        word: lower-case letters and apostrophes, with at least one letter.

    Returns:
        Phones separated by blanks, at least one.
    """
    try:
        phones = phones_of(word)
    except HproError:
        return spelled(word)
    return " ".join(_merged([_OF_PHONE[phone.removeprefix(_STRESS)] for phone in phones]))


def spelled(word: str) -> str:
    """Return a pronunciation letter by letter, for words without a better one."""
    single = [letter for i, letter in enumerate(word) if i == 0 or letter != word[i - 1]]
    return " ".join(_OF_LETTER[letter] for letter in single if _OF_LETTER[letter])


def _merged(phones: list[str]) -> list[str]:
    """Phones with ER followed by R merged into ER, as in ARPAbet."""
    return [p for i, p in enumerate(phones) if not (p == "R" and i > 0 and phones[i - 1] == "ER")]
