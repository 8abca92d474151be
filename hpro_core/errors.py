"""The one exception that the command line turns into a one-line message."""

import re

_BREAKS = re.compile(r"\s*[\n\r\t\v\f\x1c-\x1f\x85\u2028\u2029]\s*")


class HproError(Exception):
    """A problem that the user can mend: the message names the file, the value and the cure.

    The message is one line, whatever a broken file put into it.
    """

    def __init__(self, message: str):
        super().__init__(one_line(message))


def one_line(text: str) -> str:
    """A text that a terminal shows as one line: line breaks and tabs become blanks."""
    return escaped(_BREAKS.sub(" ", text.strip()))


def escaped(text: str) -> str:
    """A text in which characters that a terminal would obey or not show are escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
