"""The documentation as a site: what mkdocs, which `make docs` runs, does not check by itself."""

import re
from pathlib import Path

import pytest
import yaml

from workflow.scripts.site_hooks import FETCHED, without_outside_links

REPO = Path(__file__).parents[1]
PAGES = sorted((REPO / "docs").rglob("*.md"))


@pytest.mark.parametrize(
    ("page", "link", "text"),
    [
        ("index.md", "[README](../README.md#result)", "`README.md`"),
        ("index.md", "[The base](../data/base/README.md)", "The base (`data/base/README.md`)"),
        ("log/index.md", "[method](../method.md#data)", "[method](../method.md#data)"),
        ("log/index.md", "[`Makefile`](../../Makefile)", "`Makefile`"),
        ("index.md", "![a picture](../report.png)", "![a picture](../report.png)"),
    ],
)
def test_links_to_files_outside_the_site_become_their_path(page: str, link: str, text: str) -> None:
    assert without_outside_links(f"See {link}.", page, REPO) == f"See {text}."


def test_a_link_to_a_missing_file_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    without_outside_links("[gone](../GONE.md)", "index.md", REPO)
    assert caplog.messages == ["index.md links to GONE.md, which does not exist"]


@pytest.mark.parametrize(
    ("html", "fetched"),
    [
        ('<script src="https://unpkg.com/shim"></script>', True),
        ('<link rel="stylesheet" href="//host/style.css">', True),
        ("@font-face{src:url(https://host/font.woff2)}", True),
        ('<pre class="mermaid"><code>', True),
        ('<a href="https://host/page">', False),
        ('<script src="assets/bundle.js"></script>', False),
    ],
)
def test_a_page_that_fetches_from_a_network_is_found(html: str, fetched: bool) -> None:
    assert bool(FETCHED.search(html)) is fetched


def test_the_site_has_the_order_of_the_index() -> None:
    nav = yaml.safe_load((REPO / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    pages = [page for part in nav[1:] for entries in part.values() for page in entries]
    index = (REPO / "docs/index.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[[^\]]+\]\(([^)]+)\)", index, flags=re.M)
    assert nav[0] == "index.md"
    assert [next(iter(page.values())) for page in pages] == [
        row for row in rows if not row.startswith("../")
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_paragraph_in_a_list_is_indented_by_four(page: Path) -> None:
    """With fewer blanks it ends the list on the site, though not on GitHub."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    assert re.findall(r"\n\n {1,3}(?=\S).*", text) == []
