"""The letters of a transcript, for its words and for its punctuation."""

import unicodedata

_LETTERS = str.maketrans(
    {"æ": "ae", "œ": "oe", "ø": "o", "ß": "ss", "ł": "l", "đ": "d", "ð": "d", "þ": "th"}
    | dict.fromkeys("\u2018\u2019\u02bc\u2032\u00b4`", "'")  # typed for an apostrophe
    | dict.fromkeys("\u00ad\u200b\u200c\u200d\ufeff", None)  # not seen: soft hyphen and such
)
"""What Unicode's own decomposition leaves as a sign that is no letter."""


def plain_letters(text: str) -> str:
    """Lower case without accents, ligatures as two letters, one kind of apostrophe."""
    plain = unicodedata.normalize("NFKD", text.lower().translate(_LETTERS))
    return "".join(sign for sign in plain if not unicodedata.combining(sign))
