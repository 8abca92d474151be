"""HTML pages in one file each: jinja2 templates with the style and scripts inside."""

from pathlib import Path
from typing import Any

import jinja2

DOCUMENT = Path(__file__).with_name("document.html")
"""Template that all pages extend: it has the blocks `meta`, `title` and `body`."""


def environment(folder: Path, style: str, **globals_: Any) -> jinja2.Environment:
    """Return the environment of the templates of a folder; values are escaped.

    Args:
        folder: the templates, and the files of `asset`.
        style: name of the style sheet, in this folder.
        globals_: other names that its templates use. `asset(name)` is the text of a file of the
            folder.
    """
    loaders = [jinja2.FileSystemLoader(folder), jinja2.FileSystemLoader(DOCUMENT.parent)]
    made = jinja2.Environment(
        loader=jinja2.ChoiceLoader(loaders),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    def asset(name: str) -> str:
        return (folder / name).read_text(encoding="utf-8")

    made.globals.update(asset=asset, style=style, **globals_)
    return made
