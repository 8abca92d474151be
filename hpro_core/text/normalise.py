"""Normalises published transcripts to spoken words: lower case, [a-z'], single blanks.

Alignment, phones, word error rates and the probes of a reward training share this normalisation. It
unifies characters, removes CosyVoice's marks, and writes numerals and abbreviations in words
(`hpro_core.text.numbers`). `transcript_problem` reports unsupported characters; none is dropped
silently.
"""

import html
import re
import unicodedata

from hpro_core.text.numbers import expand_numbers

COSYVOICE2_TAGS = (
    "<|im_start|>", "<|im_end|>", "<|endofprompt|>", "[breath]", "<strong>", "</strong>", "[noise]",
    "[laughter]", "[cough]", "[clucking]", "[accent]", "[quick_breath]", "<laughter>",
    "</laughter>", "[hissing]", "[sigh]", "[vocalized-noise]", "[lipsmack]", "[mn]",
)  # fmt: skip
"""Tokens that CosyVoice2 adds to Qwen2's, in the order of their ids. They are not words."""

APOSTROPHES = (
    "'`\u00b4\u02b9\u02bb\u02bc\u02bd\u02be\u02bf\u02c8\u02ca\u02cb\u0374\u0384\u055a\u05f3"
    "\u07f4\u07f5\u1fbd\u1fbf\u1fef\u1ffd\u1ffe\u2018\u2019\u201a\u201b\u2032\u2035\u275b\u275c"
    "\u275f\u02f4\ua78b\ua78c\uff07\uff40\u0091\u0092"
)
"""Characters typed for an apostrophe or a single quote; the last two are from Windows-1252."""

QUOTES = (
    '"\u00ab\u00bb\u02ba\u02dd\u02ee\u02f5\u02f6\u201c\u201d\u201e\u201f\u2033\u2036\u2039\u203a'
    "\u275d\u275e\u2760\u300c\u300d\u300e\u300f\u301d\u301e\u301f\uff02\u0093\u0094"
)
"""Characters typed for a double quote."""

HYPHENS = "-\u2010\u2011\u2043\u02d7\u2212\ufe63\uff0d"
"""Characters typed for a hyphen or a minus."""

EN_DASHES = "\u2013\u2012\u0096"
EM_DASHES = "\u2014\u2015\u2e3a\u2e3b\ufe58\u301c\uff5e\u0097"

_SIGNS = (
    dict.fromkeys(APOSTROPHES, "'")
    | dict.fromkeys(QUOTES, '"')
    | dict.fromkeys(HYPHENS, "-")
    | dict.fromkeys(EN_DASHES, "\u2013")
    | dict.fromkeys(EM_DASHES, "\u2014")
    | dict.fromkeys("\u2044\u2215", "/")
    | {"\u3002": ".", "\u3001": ",", "\u0085": "...", "\u00ba": "\u00b0"}
    | dict.fromkeys("\u2122\u2120", "")  # not spoken; NFKD would turn them into letters
    | {"æ": "ae", "œ": "oe", "ø": "o", "ß": "ss", "ł": "l", "đ": "d", "ð": "d", "þ": "th"}
    | {"Æ": "AE", "Œ": "OE", "Ø": "O", "ẞ": "SS", "Ł": "L", "Đ": "D", "Ð": "D", "Þ": "Th"}
    | {"ı": "i", "ħ": "h", "Ħ": "H", "ŧ": "t", "Ŧ": "T", "ŋ": "ng", "Ŋ": "Ng"}
)
_SIGN = str.maketrans(_SIGNS)
_MARK = re.compile("|".join(re.escape(mark) for mark in COSYVOICE2_TAGS))
_ENTITY = re.compile(r"&(?:#[0-9]{1,6}|#[xX][0-9a-fA-F]{1,5}|[a-zA-Z]{2,8});")
_NUMBER_SIGN = re.compile(r"№|\bN[\u00b0\u00ba](?=\s?[0-9])")
_VULGAR = re.compile(r"(?<=[0-9])(?=[\u00bc-\u00be\u2150-\u215e\u2189])")  # 1½ is not 11/2
_POWER = re.compile(r"(?<=[A-Za-z0-9])[\u00b2\u00b3]")
_POWERS = {"\u00b2": " squared", "\u00b3": " cubed"}
_SPLIT_OFF = re.compile(r"(?<!\s)\s+(?='(?:s|re|ll|ve|m|d)\b(?!')|n't\b)")
_UNKNOWN_MARK = re.compile(r"\[[^\[\]]{1,40}\]|<[^<>\s]{1,40}>|\{[^{}]{1,40}\}")
_NOT_READ = ("L", "N", "Mc", "Co", "Cn", "Cs")
_MISTAKEN = re.compile("[\u00a0-\u017f\u02c6\u02dc\u2010-\u2044\u20ac\u2122]+")
NAMED = 8
"""Number of characters of a transcript that a fault lists."""


def normalised_words(text: str) -> str:
    """Return the spoken words of a transcript.

    They are `spoken_text` without punctuation. Apostrophes are kept inside words only ("don't", but
    "goin" for "goin'").

    Returns:
        Words of [a-z'] separated by one blank; empty if the transcript has none.
    """
    words = (word.strip("'") for word in re.sub(r"[^a-z']+", " ", spoken_text(text)).split())
    return " ".join(word for word in words if word)


def spoken_text(text: str) -> str:
    """Return a transcript as it is read aloud, with punctuation, in lower case.

    Characters are unified, CosyVoice's marks are removed, and numerals, money, times and
    abbreviations are written in words. The function is idempotent.
    """
    return _SPLIT_OFF.sub("", expand_numbers(unify_characters(text)).lower())


def unify_characters(text: str) -> str:
    """Return a transcript with unified characters; capitals and numerals are kept.

    Typographic apostrophes, quotes and hyphens become ASCII. Accents and invisible characters are
    removed. Ligatures and compatibility letters (a mathematical bold H) become plain letters. HTML
    entities become their character. Marks of CosyVoice become blanks.
    """
    text = _NUMBER_SIGN.sub(" number ", _without_marks(text))
    text = _POWER.sub(lambda power: _POWERS[power[0]], _VULGAR.sub(" ", text))
    plain = text.translate(_SIGN)
    if plain.isascii():
        return plain
    plain = unicodedata.normalize("NFKD", plain).translate(_SIGN)
    return "".join(sign for sign in plain if unicodedata.category(sign) not in ("Mn", "Me", "Cf"))


def transcript_problem(text: str) -> str:
    """Return why a transcript cannot be used; empty if it can.

    Any character without an English reading is a problem: a Cyrillic letter that resembles a Latin
    one would split its word in two.
    """
    if unread := unread_characters(text):
        named = ", ".join(repr(sign) for sign in unread[:NAMED])
        more = " .." if len(unread) > NAMED else ""
        return f"transcript with unsupported characters: {named}{more}"
    if mistaken := _wrongly_decoded(text):
        return f"transcript with UTF-8 decoded in another encoding: {mistaken!r}"
    return "" if normalised_words(text) else "transcript without words"


def unread_characters(text: str) -> list[str]:
    """Return the distinct characters without an English reading, in order of occurrence.

    These are letters and digits of other scripts, private and unassigned characters, control
    characters, and U+FFFD. Emoji and other symbols are allowed and not spoken.
    """
    whole = unicodedata.normalize("NFC", _without_marks(text))
    return [sign for sign in dict.fromkeys(whole) if _is_unread(sign)]


def unknown_tags(text: str) -> list[str]:
    """Return bracketed text that resembles a mark but is not a known one; it is read as words."""
    return _UNKNOWN_MARK.findall(_without_marks(text))


def _without_marks(text: str) -> str:
    """A transcript with HTML entities decoded and without CosyVoice's marks."""
    return _MARK.sub(" ", _ENTITY.sub(lambda entity: html.unescape(entity[0]), text))


def _is_unread(sign: str) -> bool:
    if sign.isascii():
        return unicodedata.category(sign) == "Cc" and not sign.isspace()
    return any(
        plain == "\ufffd"
        or (not plain.isascii() and unicodedata.category(plain).startswith(_NOT_READ))
        or (unicodedata.category(plain) == "Cc" and not plain.isspace())
        for plain in unify_characters(sign)
    )


def _wrongly_decoded(text: str) -> str:
    """The first UTF-8 sequence decoded as Windows-1252 or Latin-1 ("canâ€™t"); else empty."""
    for found in _MISTAKEN.finditer(text):
        for encoding in ("cp1252", "latin-1"):
            try:
                text_as_meant = found[0].encode(encoding).decode("utf-8")
            except UnicodeError:
                continue
            if _MISTAKEN.fullmatch(text_as_meant):
                return found[0]
    return ""
