"""Hooks of mkdocs.yml: links to files outside docs/ become text; no page fetches from a network.

A warning of a hook fails `mkdocs build --strict`.
"""

import logging
import posixpath
import re
from pathlib import Path
from typing import Any

log = logging.getLogger("mkdocs.hooks")

LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]+)\]\((?P<path>\.\./[^)#\s]+)(?:#[^)]*)?\)")
"""A Markdown link to a file in a folder above."""
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|audio|video)\b[^>]*\bsrc=["']?(?:https?:)?//[^\s"'>]+"""
    r"""|<link\b[^>]*\bhref=["']?(?:https?:)?//[^\s"'>]+"""
    r"""|url\(["']?(?:https?:)?//[^\s"')]+|@import ["'](?:https?:)?//[^"']+"""
    r"""|class="mermaid"""
)
"""What makes a browser fetch a file from another host; the theme fetches its code for Mermaid."""


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """MkDocs calls it with the Markdown of each page."""
    docs = Path(config.docs_dir)
    return without_outside_links(markdown, page.file.src_uri, docs.parent, docs.name)


def on_post_build(config: Any) -> None:
    """MkDocs calls it after the site is written."""
    site = Path(config.site_dir)
    for path in sorted([*site.rglob("*.html"), *site.rglob("*.css")]):
        for found in FETCHED.findall(path.read_text(encoding="utf-8")):
            log.warning("%s fetches a file from a network: %s", path.relative_to(site), found)


def without_outside_links(markdown: str, page: str, repo: Path, docs: str = "docs") -> str:
    """Replace links to files outside the documentation by the path of the file.

    Args:
        markdown: text of a page.
        page: its path below `docs`, such as "log/index.md".
        repo: the repository. A link to a file that it lacks is a warning.
        docs: its folder with the documentation.

    Returns:
        the text. "[The base](../data/base/README.md)" becomes "The base (`data/base/README.md`)";
        the path stands alone where the text of the link is the path or the name of the file.
    """

    def path_for_link(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(docs, posixpath.dirname(page), link["path"]))
        if target.startswith(f"{docs}/"):
            return link[0]
        if not (repo / target).exists():
            log.warning("%s links to %s, which does not exist", page, target)
        file = Path(target)
        named = link["text"].strip("`") in (target, file.name, file.stem)
        return f"`{target}`" if named else f"{link['text']} (`{target}`)"

    return LINK.sub(path_for_link, markdown)
