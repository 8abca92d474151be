"""Parses the package index settings of `pip config list`. Standard library only."""

import ast
import re

SECTIONS = ("global", "install", ":env:")
"""Sections of pip's configuration that `pip install` reads, in order of increasing precedence."""


def pip_options(listed: str) -> dict[str, str]:
    """Return the options of `pip install` from the output of `pip config list`.

    Its lines are such as `global.index-url='https://...'`. Several values are separated by spaces.
    """
    found: dict[str, dict[str, str]] = {section: {} for section in SECTIONS}
    for line in listed.splitlines():
        match = re.fullmatch(r"(global|install|:env:)\.([a-z-]+)=(['\"].*)", line)
        if match:
            section, option, value = match.groups()
            found[section][option] = " ".join(ast.literal_eval(value).split())
    return {option: value for part in found.values() for option, value in part.items() if value}
