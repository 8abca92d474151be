"""Which interval of a TextGrid is which of our words.

MFA splits, joins and renames: "sparky's" may come back as "sparky" and "'s", "found 'em" as
"found'em", "1844" stays one word where we have three, an unknown word may be `<unk>`.
"""

from dataclasses import replace
from difflib import SequenceMatcher

from hpro_core.align.textgrid import Interval

UNKNOWN = "<unk>"


def match_words(words: list[str], intervals: list[Interval]) -> list[Interval | None]:
    """Give every word its interval.

    Args:
        words: our words of the utterance, [a-z'].
        intervals: words of the TextGrid, without silences.

    Returns:
        One entry per word; an interval that was split is put together again. None where the
        TextGrid has no boundary of its own for the word.
    """
    matcher = SequenceMatcher(
        None, [_key(word) for word in words], [_key(i.label) for i in intervals], autojunk=False
    )
    found: list[Interval | None] = [None] * len(words)
    for _, first, last, start, end in matcher.get_opcodes():
        found[first:last] = _match_stretch(words[first:last], intervals[start:end])
    return found


def _match_stretch(words: list[str], intervals: list[Interval]) -> list[Interval | None]:
    """Match one by one, joining intervals while they are the beginning of the word."""
    if len(words) == len(intervals):
        return [_accepted(word, [i]) for word, i in zip(words, intervals, strict=True)]
    found: list[Interval | None] = []
    at = 0
    for word in words:
        count = next((n for n in (1, 2, 3) if _accepted(word, intervals[at : at + n])), 0)
        found.append(_accepted(word, intervals[at : at + count]))
        at += count
    return found


def _accepted(word: str, parts: list[Interval]) -> Interval | None:
    """The parts as one interval if together they are the word, else None."""
    if not parts:
        return None
    is_unknown = len(parts) == 1 and parts[0].label == UNKNOWN
    if not is_unknown and _key("".join(part.label for part in parts)) != _key(word):
        return None
    return replace(
        parts[0],
        label=word,
        end_s=parts[-1].end_s,
        is_spn=any(part.is_spn for part in parts) or is_unknown,
        phones=tuple(phone for part in parts for phone in part.phones),
    )


def _key(label: str) -> str:
    """Letters and digits only: the two sides disagree about apostrophes at the edges."""
    return "".join(ch for ch in label.lower() if ch.isalnum())
