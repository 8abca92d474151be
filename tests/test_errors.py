"""The error that a user sees is one line, whatever a broken file put into it."""

import pytest

from hpro_core.errors import HproError, one_line


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("a.csv is broken: get it again", "a.csv is broken: get it again"),
        ("a.csv: \n  one\n  two\n", "a.csv: one two"),
        ("a\tb\r\nc\u2028d\x85e", "a b c d e"),
        ("red \x1b[31m, \x00, \udcff, \u200b", r"red \x1b[31m, \x00, \udcff, \u200b"),
        ("na\u00efve \u4e2d", "na\u00efve \u4e2d"),
    ],
)
def test_a_message_is_one_line_that_can_be_printed(message, shown):
    assert str(HproError(message)) == one_line(message) == shown
    assert shown.isprintable()
    shown.encode()
