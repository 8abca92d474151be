"""Matches the intervals of a TextGrid with our words.

MFA splits, joins and renames words: "sparky's" may become "sparky" and "'s", "found 'em" becomes
"found'em", "1844" stays one word where we have three, and an unknown word may be `<unk>`.
"""

from dataclasses import replace
from difflib import SequenceMatcher

from hpro_core.align.textgrid import Interval

UNKNOWN = "<unk>"


def match_words(words: list[str], intervals: list[Interval]) -> list[Interval | None]:
    """Assign an interval to every word.

    Args:
        words: our words of the utterance, [a-z'].
        intervals: words of the TextGrid, without silences.

    Returns:
        One entry per word; intervals of a split word are merged. None if the TextGrid has no
        separate interval for the word.
    """
    matcher = SequenceMatcher(
        None, [_key(word) for word in words], [_key(i.label) for i in intervals], autojunk=False
    )
    found: list[Interval | None] = [None] * len(words)
    for _, first, last, start, end in matcher.get_opcodes():
        found[first:last] = _match_stretch(words[first:last], intervals[start:end])
    return found


def _match_stretch(words: list[str], intervals: list[Interval]) -> list[Interval | None]:
    """Match words in order, merging up to three intervals per word."""
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
    """The parts merged into one interval if they form the word, else None."""
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
    """Letters and digits only, since MFA treats apostrophes at word edges differently."""
    return "".join(ch for ch in label.lower() if ch.isalnum())
