"""The exception that the command line prints as a one-line message, and hints in messages."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

_BREAKS = re.compile(r"\s*[\n\r\t\v\f\x1c-\x1f\x85\u2028\u2029]\s*")


class HproError(Exception):
    """A problem that the user can correct: the message names the file, the value and the action.

    The message is always one line, also if it quotes a broken file.
    """

    def __init__(self, message: str):
        super().__init__(one_line(message))


def one_line(text: str) -> str:
    """Return a text as one line: line breaks and tabs become blanks."""
    return escaped(_BREAKS.sub(" ", text.strip()))


def escaped(text: str) -> str:
    """Return a text with control and other non-printable characters escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def did_you_mean(name: str, known: Iterable[object]) -> str:
    """Return "; did you mean x?" with the known name that is closest; "" if none is close."""
    close = get_close_matches(name, map(str, known), n=1)
    return f"; did you mean {close[0]}?" if close else ""
