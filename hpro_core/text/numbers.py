"""Writes numerals, money, times and abbreviations as spoken words (ours).

Where several readings exist, one is used:

- 1100 to 1999 is a year ("nineteen oh five"), 1,250 and $1250 and 1250.5 a quantity, without "and".
- Seven digits and more are a quantity if they have commas or end in 000; otherwise they are read
  digit by digit, as is a number that begins with 0.
- $3.50 is "three dollars and fifty cents", $1.5m "one point five million dollars".
- 10:30 is "ten thirty", 10:05 "ten oh five", 10:00 "ten o'clock", 10:00 pm "ten p m".
- 1/2 is "one half", 2 1/2 "two and a half", 3/4 "three quarters".
- 1939-1945 is "nineteen thirty nine to nineteen forty five", 6'2" "six foot two".
- Units (km, lb) are not expanded.
"""

import functools
import re
from collections.abc import Callable, Iterable

Expansion = Callable[[re.Match[str]], str]

_PLAIN = r"(?<![0-9])(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?"
"""A number with or without thousands separators and decimals. It matches from the first digit only;
matching from the middle would take quadratic time."""
_ROMAN = r"X{0,3}(?:IX|IV|V?I{0,3})(?<=[IVX])"
_DOT = r"(?:\.(?!\s*[\"']*(?:$|\s[\"']*[A-Z])))?"
"""The point of an abbreviation, unless it also ends the sentence."""
_ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = (
    "", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
)  # fmt: skip
_UNITS = ((10**12, "trillion"), (10**9, "billion"), (10**6, "million"), (1000, "thousand"))
_ORDINALS = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth",
    "nine": "ninth", "twelve": "twelfth",
}  # fmt: skip

_ANYWHERE = {
    "e.g": "for example", "i.e": "that is", "etc": "et cetera", "vs": "versus", "mr": "mister",
    "mrs": "missus",
}  # fmt: skip
"""Expanded in any context, with or without a point."""
_BEFORE_NAMES = {
    "Dr": "doctor", "Drs": "doctors", "Prof": "professor", "Rev": "reverend", "Hon": "honorable",
    "Capt": "captain", "Lt": "lieutenant", "Sgt": "sergeant", "Col": "colonel", "Gen": "general",
    "Maj": "major", "Cpl": "corporal", "Cmdr": "commander", "Gov": "governor", "Sen": "senator",
    "Rep": "representative", "Pres": "president", "Mt": "mount", "Ft": "fort", "Fr": "father",
}  # fmt: skip
"""Expanded with a point before a capital letter."""
_BEHIND_NAMES = {
    "Jr": "junior", "Sr": "senior", "Esq": "esquire", "Co": "company", "Inc": "incorporated",
    "Ltd": "limited", "Corp": "corporation", "Bros": "brothers", "Ave": "avenue",
    "Blvd": "boulevard", "Rd": "road", "Dept": "department",
}  # fmt: skip
"""Expanded with a point."""
_MONTHS = {
    "Jan": "january", "Feb": "february", "Mar": "march", "Apr": "april", "Jun": "june",
    "Jul": "july", "Aug": "august", "Sep": "september", "Sept": "september", "Oct": "october",
    "Nov": "november", "Dec": "december",
}  # fmt: skip
"""Expanded with a point before a numeral."""
_RULERS = (
    "Alexander", "Benedict", "Catherine", "Charles", "Clement", "Edward", "Elizabeth", "Francis",
    "Frederick", "George", "Gregory", "Henry", "Innocent", "Ivan", "James", "John", "Leo", "Louis",
    "Mary", "Napoleon", "Nicholas", "Paul", "Peter", "Philip", "Pius", "Ramses", "Richard",
    "Robert", "William",
)  # fmt: skip
"""Names before a Roman numeral that is an ordinal: Henry the eighth."""
_NUMBERED = (
    "Act", "Book", "Chapter", "Class", "Episode", "Figure", "Level", "Part", "Phase", "Scene",
    "Section", "Title", "Type", "Vol", "Volume", "War",
)  # fmt: skip
"""Nouns before a Roman numeral that is a cardinal: Chapter nine."""
_CURRENCIES = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "€": ("euro", "euros", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "¥": ("yen", "yen", "", ""),
}
"""Singular, plural, and singular and plural of the hundredth part."""
_MAGNITUDES = {
    "hundred": "hundred", "thousand": "thousand", "million": "million", "billion": "billion",
    "trillion": "trillion", "k": "thousand", "m": "million", "mn": "million", "bn": "billion",
    "b": "billion", "tn": "trillion",
}  # fmt: skip
_PARTS = (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16, 20, 32, 64, 100)
"""Denominators that make a fraction; 9/11 and 24/7 are not fractions."""
_SYMBOLS = {"&": " and ", "%": " percent ", "+": " plus ", "@": " at "}


def expand_numbers(text: str) -> str:
    """Write numerals and abbreviations of a text in words; the function is idempotent.

    The text has ASCII punctuation and its capitals, as from `normalise.unify_characters`.
    """
    for pattern, reading in _RULES:
        text = pattern.sub(functools.partial(_spaced, reading), text)
    for symbol, words in _SYMBOLS.items():
        text = text.replace(symbol, words)
    return text


def spelled_number(digits: str) -> str:
    """Return a whole number without commas in words.

    1100 to 1999 are read as years. Numbers of seven and more digits that do not end in 000, and
    numbers that begin with 0, are read digit by digit.
    """
    is_code = len(digits) > 15 or (len(digits) > 6 and not digits.endswith("000"))
    if is_code or (len(digits) > 1 and digits[0] == "0"):
        return _digit_by_digit(digits)
    value = int(digits)
    if not 1100 <= value <= 1999:
        return quantity(value)
    century, rest = divmod(value, 100)
    if not rest:
        return f"{quantity(century)} hundred"
    return f"{quantity(century)} {_minutes(rest)}"


def quantity(value: int) -> str:
    """Return a whole number in words, without "and" and hyphens; 16 digits and more one by one."""
    if value >= 10**15:
        return _digit_by_digit(str(value))
    words: list[str] = []
    for unit, name in _UNITS:
        count, value = divmod(value, unit)
        words += [_below_thousand(count), name] if count else []
    return " ".join([*words, _below_thousand(value)] if value or not words else words)


def _below_thousand(value: int) -> str:
    hundreds, rest = divmod(value, 100)
    words = [_ONES[hundreds], "hundred"] if hundreds else []
    if rest >= 20:
        words.append(_TENS[rest // 10])
        rest %= 10
    if rest or not words:
        words.append(_ONES[rest])
    return " ".join(words)


def _spaced(reading: Expansion, match: re.Match[str]) -> str:
    """A reading with blanks where it would touch a letter or digit."""
    words, text = reading(match), match.string
    if words == match[0]:
        return words
    before = " " if text[max(match.start() - 1, 0) : match.start()].isalnum() else ""
    after = " " if text[match.end() : match.end() + 1].isalnum() else ""
    return f"{before}{words}{after}"


def _digit_by_digit(digits: str) -> str:
    return " ".join(quantity(int(digit)) for digit in digits if digit.isdigit())


def _minutes(value: int) -> str:
    """Two digits of a year or a time."""
    return f"oh {quantity(value)}" if value < 10 else quantity(value)


def _ordinal(words: str) -> str:
    first, _, last = words.rpartition(" ")
    stem = last[:-1] + "ie" if last.endswith("y") else last
    return f"{first} {_ORDINALS.get(last, stem + 'th')}".strip()


def _plural(words: str) -> str:
    stem = words[:-1] + "ie" if words.endswith("y") else words
    return f"{stem}es" if words.endswith("six") else f"{stem}s"


def _decimal(number: str) -> str:
    """A number of `_PLAIN` as a quantity; decimals digit by digit."""
    whole, _, part = number.replace(",", "").partition(".")
    if (len(whole) > 1 and whole[0] == "0") or len(whole) > 15:
        words = _digit_by_digit(whole)
    else:
        words = quantity(int(whole)) if whole else ""
    return f"{words} point {_digit_by_digit(part)}".strip() if part else words


# --- readings: the words for a match of each rule -------------------------------------------------


def _number(match: re.Match[str]) -> str:
    """A numeral with an optional suffix: "st", "nd", "rd", "th" or "s"."""
    number, suffix = match[1], match[2]
    parts = number.split(".")
    if len(parts) > 2:  # a version, an address
        words = " point ".join(spelled_number(part) for part in parts)
    elif len(parts) == 2 or "," in number:
        words = _decimal(number)
    else:
        words = spelled_number(number)
    if not suffix:
        return words
    return _plural(words) if suffix == "s" else _ordinal(words)


def _money(match: re.Match[str]) -> str:
    sign, number, magnitude = match[1], match[2], match[3]
    one, many, cent, cents = _CURRENCIES[sign]
    if magnitude:
        return f"{_decimal(number)} {_MAGNITUDES[magnitude.lower()]} {many}"
    whole, _, part = number.replace(",", "").partition(".")
    if part and (len(part) != 2 or not cent):
        return f"{_decimal(number)} {many}"
    amounts = []
    if whole.strip("0") or not part.strip("0"):
        amounts.append(f"{_decimal(whole)} {one if whole.lstrip('0') == '1' else many}")
    if part.strip("0"):
        amounts.append(f"{quantity(int(part))} {cent if part == '01' else cents}")
    return " and ".join(amounts)


def _money_behind(match: re.Match[str]) -> str:
    """Amounts with the currency after the number: 5€, 50¢."""
    one, many, *_ = ("cent", "cents") if match[2] == "¢" else _CURRENCIES[match[2]]
    return f"{_decimal(match[1])} {one if match[1] == '1' else many}"


def _time(match: re.Match[str]) -> str:
    hour, minute, second, half = match.groups()
    words = [quantity(int(hour))]
    if int(minute) or second:
        words.append(_minutes(int(minute)))
    elif not half:
        words.append("o'clock" if 1 <= int(hour) <= 12 else "hundred")
    if second:
        words.append(_minutes(int(second)))
    return " ".join([*words, *([f"{half.lower()} m"] if half else [])])


def _fraction(match: re.Match[str]) -> str:
    whole, over, under = match[1], int(match[2]), int(match[3])
    if over >= under or under not in _PARTS:
        return match[0]
    part = {2: "half", 4: "quarter"}.get(under) or _ordinal(quantity(under))
    if over > 1:
        part = "halves" if under == 2 else f"{part}s"
    if not whole:
        return f"{quantity(over)} {part}"
    return f"{quantity(int(whole))} and {'a' if under == 2 else quantity(over)} {part}"


def _degrees(match: re.Match[str]) -> str:
    scale = {"C": " celsius", "F": " fahrenheit", None: ""}[match[2]]
    return f"{_decimal(match[1])} {'degree' if match[1] == '1' else 'degrees'}{scale}"


def _roman(numeral: str) -> int:
    values = [{"I": 1, "V": 5, "X": 10}[letter] for letter in numeral]
    following = [*values[1:], 0]
    return sum(
        -value if value < after else value for value, after in zip(values, following, strict=True)
    )


def _ruler(match: re.Match[str]) -> str:
    """Ordinals of rulers: Henry VIII, but not "Did Mary I met" or "Paul V. Smith"."""
    name, numeral = match[1], match[2]
    is_initial = len(numeral) == 1 and re.match(r"\.\s+[A-Z]", match.string[match.end() :])
    if is_initial or _is_pronoun(match):
        return match[0]
    return f"{name} the {_ordinal(quantity(_roman(numeral)))}"


def _numbered(match: re.Match[str]) -> str:
    """Cardinals after nouns: World War II, Chapter IV, but not "the Part I like"."""
    if match[1] != "World War" and _is_pronoun(match):
        return match[0]
    return f"{match[1]} {quantity(_roman(match[2]))}"


def _is_pronoun(match: re.Match[str]) -> bool:
    """Whether a Roman one is the pronoun I: a word other than "of" follows it."""
    return match[2] == "I" and bool(re.match(r"\s+(?!of\b)\w", match.string[match.end() :]))


def _one_of(names: Iterable[str]) -> str:
    return "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))


def _any_case(match: re.Match[str]) -> str:
    return _ANYWHERE[match[1].lower()]


_READINGS: tuple[tuple[str, Expansion], ...] = (
    (r"\b([Ee]\.g|[Ii]\.e)\b\.?", _any_case),
    (r"(?i)\b(mrs?|vs)\b\.?", _any_case),
    (rf"\b([Ee]tc)\b{_DOT}", _any_case),
    (r"\bPh\.?\s?D\b\.?", lambda match: "p h d"),
    (rf"\b({_one_of(_BEFORE_NAMES)})\.(?=\s+[\"']*[A-Z])", lambda m: _BEFORE_NAMES[m[1]]),
    (r"\bDr(?=\s+[A-Z])", lambda match: "doctor"),
    (rf"\b({_one_of(_BEHIND_NAMES)})\b(?=\.){_DOT}", lambda m: _BEHIND_NAMES[m[1]]),
    (rf"\b({_one_of(_MONTHS)})\.(?=\s?[0-9])", lambda match: _MONTHS[match[1]]),
    (r"\bSt\.?(?=\s+[A-Z])", lambda match: "saint"),
    (rf"(?<=\w )St(?=\.){_DOT}", lambda match: "street"),
    (r"\bNos?\.\s?(?=[0-9])|#\s?(?=[0-9])", lambda match: "number "),
    (rf"\b({_one_of(_RULERS)}) ({_ROMAN})\b", _ruler),
    (rf"\b(World War|{_one_of(_NUMBERED)}) ({_ROMAN})\b", _numbered),
    (r"(?<=[0-9])\s?\u2013\s?(?=[0-9$€£¥])", lambda match: " to "),
    (
        r"(?<![0-9-])((?:1[1-9]|20)[0-9]{2})-(?=(?:1[1-9]|20)[0-9]{2}\b(?!-))",
        lambda match: f"{match[1]} to ",
    ),
    (r"\b([1-9])'(?=(?:[0-9]|1[01])\b(?!'))", lambda match: f"{match[1]} foot "),
    (r"(?<=[0-9])'(?=[0-9])", lambda match: " "),
    (r"(?:(?<=\s)|^)-(?=\.?[0-9$€£¥])", lambda match: "minus "),
    (
        r"(?<![0-9:.,])([01]?[0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9]))?(?![0-9:])"
        rf"(?:\s?([AaPp])\.?[Mm]\b{_DOT})?",
        _time,
    ),
    (rf"(?<=[0-9])\s?([AaPp])\.?[Mm]\b{_DOT}", lambda match: f" {match[1].lower()} m"),
    (
        r"(?<![0-9-])(?:[0-9]{3}-)?[0-9]{3}-[0-9]{4}(?![0-9-])",
        lambda match: _digit_by_digit(match[0]),
    ),
    (rf"(?i)([$€£¥])\s?({_PLAIN})(?:\s?({_one_of(_MAGNITUDES)})\b)?", _money),
    (rf"({_PLAIN})\s?([€£¢]|\$(?![0-9]))", _money_behind),
    (
        r"(?<![0-9/.,])(?:([0-9]{1,3})[ -])?([1-9][0-9]?)/([1-9][0-9]{0,2})(?![0-9/])",
        _fraction,
    ),
    (rf"({_PLAIN})\s?\u00b0(?:\s?([CF])\b)?", _degrees),
    (
        r"([0-9]{1,3}(?:,[0-9]{3})+(?![0-9])(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)*"
        r"|(?<![\w.])\.[0-9]+)(?:(st|nd|rd|th|s)\b)?",
        _number,
    ),
)
"""Patterns in order of application; the last one matches every remaining numeral."""
_RULES = [(re.compile(pattern), reading) for pattern, reading in _READINGS]
