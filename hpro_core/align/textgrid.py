"""Writes one TextGrid per utterance, and reads those of MFA (praatio)."""

from dataclasses import dataclass
from os import SEEK_END
from pathlib import Path

from praatio import textgrid as praatio_textgrid

from hpro_core.align.jobs import WordSpan
from hpro_core.errors import HproError
from hpro_core.io import open_binary

MAX_BYTES = 16 * 2**20
"""Largest TextGrid; one of 30 s of speech has about 30 kB."""

SILENCES = frozenset(("", "<eps>", "sil", "sp"))
"""Labels that are not words. MFA writes empty labels, `align_one` writes <eps> and sil."""
SPOKEN_NOISE = "spn"
"""MFA's phone for a word that its dictionary lacks."""


@dataclass(frozen=True)
class Interval:
    """A labelled stretch of a tier."""

    label: str  # as written, stripped of blanks
    start_s: float  # seconds
    end_s: float  # seconds
    is_spn: bool = False  # aligned as spoken noise: its pronunciation is unknown
    phones: tuple[str, ...] = ()  # phones of the word, if the TextGrid has them


def write_words(path: Path, spans: list[WordSpan], duration_s: float) -> None:
    """Write a long TextGrid with one tier `words`; silence has an empty label."""
    end_s = max(duration_s, spans[-1].end_s)
    grid = praatio_textgrid.Textgrid()
    entries = [(span.start_s, span.end_s, span.word) for span in spans]
    grid.addTier(praatio_textgrid.IntervalTier("words", entries, 0, end_s))
    grid.save(str(path), format="long_textgrid", includeBlankSpaces=True)


def read_words(path: Path) -> list[Interval]:
    """Read the words of a TextGrid, without the silences.

    Reads the tier `words`, or the only tier whose name ends in "- words" (MFA prefixes the speaker
    unless it is known to be the only one).

    Raises:
        HproError: the file is not a TextGrid, or has no such tier or several.
    """
    with open_binary(path, "align again") as file:
        if file.seek(0, SEEK_END) > MAX_BYTES:
            raise HproError(
                f"{path} is not a readable TextGrid: it has more than {MAX_BYTES} bytes"
            )
    try:
        grid = praatio_textgrid.openTextgrid(str(path), includeEmptyIntervals=False)
    except Exception as error:  # a parser of free text: praatio's own errors and any of Python's
        raise HproError(f"{path} is not a readable TextGrid: {error!r}") from error
    phones = _tier(grid, "phones", path)
    words = _tier(grid, "words", path, required=True)
    return [_interval(word, phones) for word in words if word.label.strip() not in SILENCES]


def _interval(word, phones: tuple) -> Interval:
    """An entry of the tier of words, with the phones that overlap it."""
    inside = tuple(p.label for p in phones if p.start < word.end and word.start < p.end)
    is_spn = SPOKEN_NOISE in inside
    return Interval(word.label.strip(), word.start, word.end, is_spn, inside)


def _tier(grid, kind: str, path: Path, required: bool = False) -> tuple:
    """The entries of the tier `kind` or "<speaker> - kind"; empty if an optional tier is absent."""
    names = [name for name in grid.tierNames if name == kind or name.endswith(f"- {kind}")]
    if len(names) > 1 or (required and not names):
        found = ", ".join(repr(name) for name in grid.tierNames)
        raise HproError(f"{path}: one tier {kind!r} is expected; found: {found}")
    return grid.getTier(names[0]).entries if names else ()
