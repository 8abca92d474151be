"""Transcripts as published -> words for alignment: lower case, [a-z'], single blanks."""

import re
import unicodedata

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
)
_TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety"
_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
_NUMBER = re.compile(r"(\d{1,3}(?:,\d{3})+|\d+)(?:(st|nd|rd|th|s)\b)?")
_SYMBOLS = {"&": " and ", "%": " percent ", "+": " plus ", "@": " at "}


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


def normalised_words(text: str) -> str:
    """The words that are spoken, for alignment and for word error rates (ours).

    Digits are spelled out (`spelled_number`; 1,250 is a quantity and 1250 a year; 5th is "fifth",
    1990s "nineteen nineties"), a point between digits is read "point", `& % + @` are read out,
    every other sign separates words; apostrophes stay inside words only ("don't", but "goin" for
    "goin'").

    Returns:
        Words of [a-z'] separated by one blank; empty if the transcript holds none.
    """
    plain = plain_letters(text)
    for symbol, reading in _SYMBOLS.items():
        plain = plain.replace(symbol, reading)
    plain = re.sub(r"(?<=\d)\.(?=\d)", " point ", plain)
    plain = _NUMBER.sub(lambda match: f" {_read_out(match[1], match[2] or '')} ", plain)
    plain = re.sub(r" '(?=s\b)", "'", plain)  # 1940's -> "nineteen forty's"
    words = (word.strip("'") for word in re.sub(r"[^a-z']+", " ", plain).split())
    return " ".join(word for word in words if word)


def spelled_number(digits: str) -> str:
    """A whole number in words (ours).

    0 to 999,999 as a number, except 1100 to 1999, read as a year ("nineteen forty-four" without
    the hyphen); longer numbers and numbers with a leading zero digit by digit.
    """
    value = int(digits)
    if value > 999_999 or (len(digits) > 1 and digits[0] == "0"):
        return " ".join(_ONES.split()[int(digit)] for digit in digits)
    if 1100 <= value <= 1999:
        return _year(value)
    thousands, rest = divmod(value, 1000)
    if not thousands:
        return _below_thousand(rest)
    return f"{_below_thousand(thousands)} thousand" + (f" {_below_thousand(rest)}" if rest else "")


def _read_out(number: str, suffix: str) -> str:
    """A number as it is written, with what may stand behind it: "st" and such, or "s"."""
    spelled = _with_commas(number) if "," in number else spelled_number(number)
    if not suffix:
        return spelled
    first, _, last = spelled.rpartition(" ")
    stem = last[:-1] + "ie" if last.endswith("y") else last
    if suffix == "s":
        last = stem + ("es" if last == "six" else "s")
    else:
        last = _ORDINALS.get(last, stem + "th")
    return f"{first} {last}"


def _with_commas(number: str) -> str:
    thousands, _, rest = number.rpartition(",")
    if "," in thousands:  # a million and more
        return spelled_number(number.replace(",", ""))
    below = f" {_below_thousand(int(rest))}" if int(rest) else ""
    return f"{_below_thousand(int(thousands))} thousand{below}"


def _year(value: int) -> str:
    century, rest = divmod(value, 100)
    if not rest:
        return f"{_below_thousand(century)} hundred"
    return f"{_below_thousand(century)} {'oh ' if rest < 10 else ''}{_below_thousand(rest)}"


def _below_thousand(value: int) -> str:
    hundreds, rest = divmod(value, 100)
    words = [_ONES.split()[hundreds], "hundred"] if hundreds else []
    if rest >= 20:
        words.append(_TENS.split()[rest // 10])
        rest %= 10
    if rest or not words:
        words.append(_ONES.split()[rest])
    return " ".join(words)
