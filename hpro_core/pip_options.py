"""The package index that pip is set up with: `pip config list`, read. Standard library only."""

import ast
import re

SECTIONS = ("global", "install", ":env:")
"""Of pip's configuration that `pip install` reads, from the weakest to the strongest."""


def pip_options(listed: str) -> dict[str, str]:
    """Options that `pip install` would use, of the output of `pip config list`.

    Args:
        listed: lines such as `global.index-url='https://...'`.

    Returns:
        Option -> value, several of them separated by spaces.
    """
    found: dict[str, dict[str, str]] = {section: {} for section in SECTIONS}
    for line in listed.splitlines():
        match = re.fullmatch(r"(global|install|:env:)\.([a-z-]+)=(['\"].*)", line)
        if match:
            section, option, value = match.groups()
            found[section][option] = " ".join(ast.literal_eval(value).split())
    return {option: value for part in found.values() for option, value in part.items() if value}
