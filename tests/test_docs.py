"""The documentation as a site: what mkdocs, which `make docs` runs, does not check by itself."""

import copy
import json
import posixpath
import re
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml

from workflow.scripts.settings_reference import PAGE, SCHEMA, Comments, Reference, reference
from workflow.scripts.site_hooks import FETCHED, without_outside_links

REPO = Path(__file__).parents[1]
PAGES = sorted((REPO / "docs").rglob("*.md"))
DRAWINGS = sorted((REPO / "docs").rglob("*.svg"))


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


@pytest.mark.parametrize("drawing", DRAWINGS, ids=lambda drawing: drawing.name)
def test_a_drawing_fetches_nothing_and_has_a_light_and_a_dark_form(drawing: Path) -> None:
    text = drawing.read_text(encoding="utf-8")
    tags = {part.tag.rpartition("}")[2] for part in ElementTree.fromstring(text).iter()}
    assert "text" in tags
    assert not tags & {"script", "image", "use", "foreignObject", "a"}
    assert re.findall(r"@import|@font-face|href=|url\((?!#)", text) == []
    light, dark = (
        set(re.findall(r"--(\w+):", part))
        for part in text.split("@media (prefers-color-scheme: dark)")
    )
    assert light == dark >= set(re.findall(r"var\(--(\w+)\)", text))


def test_the_architecture_has_every_folder() -> None:
    folders = {path.parent.name for path in (REPO / "hpro_core").glob("*/__init__.py")}
    page = (REPO / "docs/architecture.md").read_text(encoding="utf-8")
    rows = page.split("## Folders")[1].split("## One reward step")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", rows, flags=re.M)) == folders
    drawing = (REPO / "docs/assets/data_flow.svg").read_text(encoding="utf-8")
    assert [name for name in folders if not re.search(rf"\b{name}\b", drawing)] == []


def test_the_architecture_names_modules_that_exist() -> None:
    page = (REPO / "docs/architecture.md").read_text(encoding="utf-8")
    drawings = "".join(drawing.read_text(encoding="utf-8") for drawing in DRAWINGS)
    named = re.findall(r"`(\w+)` \|.*\| `(\w+\.py)` \|", page)
    paths = {f"{folder}/{module}" for folder, module in named}
    paths |= set(re.findall(r">([\w/]+\.py)<", drawings))
    assert len(paths) > 15
    assert [path for path in sorted(paths) if not (REPO / "hpro_core" / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_paragraph_in_a_list_is_indented_by_four(page: Path) -> None:
    """With fewer blanks it ends the list on the site, though not on GitHub."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    assert re.findall(r"\n\n {1,3}(?=\S).*", text) == []


def test_links_and_mentions_of_pages_exist() -> None:
    """Of README, comments of settings, docstrings and pages, with the heading that they name."""
    listing = ["git", "ls-files", "*.md", "*.py", "*.smk", "*.sh", "*.yaml", "*.toml", "Makefile"]
    names = subprocess.run(listing, cwd=REPO, capture_output=True, text=True, check=True).stdout
    missing = []
    for name in names.split():
        text = (REPO / name).read_text(encoding="utf-8")
        targets = re.findall(r"(?<![\w/.])(docs/[\w/]+\.md(?:#[\w-]+)?)", text)
        if name.endswith(".md"):
            links = re.findall(r"\]\(([^():\s]*)\)", text)
            here = posixpath.dirname(name)
            targets += [
                name + link
                if link.startswith("#")
                else posixpath.normpath(posixpath.join(here, link))
                for link in links
            ]
        missing += [f"{name}: {target}" for target in targets if not exists(target)]
    assert missing == []


def exists(target: str) -> bool:
    """Whether a file or folder of the repository exists, and its heading where "#" names one."""
    path, _, anchor = target.partition("#")
    return (REPO / path).exists() and (not anchor or anchor in anchors(REPO / path))


def anchors(page: Path) -> set[str]:
    """Anchors of the headings of a page, as GitHub and the site write them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    titles = re.findall(r"^#+ (.+)$", text, flags=re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_every_entry_of_the_log_has_an_anchor_of_its_own() -> None:
    text = (REPO / "docs/log/index.md").read_text(encoding="utf-8")
    titles = re.findall(r"^## (\d{4}-\d{2}-\d{2}: .+|Next)$", text, flags=re.M)
    assert len(titles) == text.count("\n## ")
    assert len(set(titles)) == len(titles)
    assert len(anchors(REPO / "docs/log/index.md")) == len(titles) + 1


def test_the_settings_reference_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference().page(), "run `make docs`"


def test_the_schema_describes_every_setting() -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    forms = {"": schema, **schema["$defs"]}
    settings = {
        f"{name}.{key}": inner.get("description", "")
        for name, form in forms.items()
        for key, inner in form.get("properties", {}).items()
    }
    assert len(settings) > 190
    origins = re.compile(r"(paper|inferred|released code|CosyVoice2|ours|; )*")
    assert [name for name, text in settings.items() if origins.fullmatch(text)] == []


def test_the_settings_name_their_schema_for_editors() -> None:
    first = (REPO / "params.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert first == f"# yaml-language-server: $schema={SCHEMA.relative_to(REPO)}"


def test_comments_of_one_section_type_are_kept_where_they_agree() -> None:
    stage = {"type": "object", "properties": {"steps": {"type": "integer", "description": "n"}}}
    schema: dict = {
        "properties": {name: {"$ref": "#/$defs/Stage"} for name in ("one", "two")},
        "$defs": {"Stage": stage},
    }
    text = "one: {steps: 1}  # first\ntwo: {steps: 2}  # second\n"
    described = Reference(text, copy.deepcopy(schema)).described_schema()
    assert [described["properties"][name]["description"] for name in ("one", "two")] == [
        "first", "second",
    ]  # fmt: skip
    assert described["$defs"]["Stage"]["properties"]["steps"]["description"] == "n"
    described = Reference(text.replace("second", "first"), schema).described_schema()
    assert described["$defs"]["Stage"]["properties"]["steps"]["description"] == "n; first"


SETTINGS = """# head
one: "a#b"   # first
             # and on
two: 2
three:
  # of four
  four: 4  # last
"""


def test_comments_belong_to_the_line_that_they_are_beside() -> None:
    comments = Comments(SETTINGS)
    assert comments.beside == {1: "first and on", 6: "last"}
    assert comments.above(6) == "of four"


def test_a_comment_that_continues_none_and_is_above_no_key_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^line 3: a comment .* begins in column 14,"):
        Comments(SETTINGS.replace("             # and on", "            # and on"))


def test_a_setting_without_a_meaning_is_refused() -> None:
    kinds = {name: {"type": "string"} for name in ("one", "two")}
    four = {"type": "object", "properties": {"four": {"type": "integer", "minimum": 1}}}
    schema: dict = {"properties": {**kinds, "three": four}}
    with pytest.raises(ValueError, match=r"no comment: two$"):
        Reference(SETTINGS, schema).page()
    schema["properties"]["two"]["description"] = "the second"
    page = Reference(SETTINGS, schema).page()
    assert '| `one` | `"a#b"` | text | first and on |' in page
    assert "| `two` | `2` | text | the second |" in page
    assert "| `four` | `4` | integer, at least 1 | last |" in page


def test_every_test_that_the_list_of_faults_names_exists() -> None:
    text = (REPO / "docs/log/faults.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w/]+)(?:\.py)?::(test_\w+)`", text)
    assert len(named) > 60
    files = {"live": "workflow/test_live_run"}
    missing = [
        f"{file}::{test}"
        for file, test in named
        if f"def {test}(" not in (REPO / f"tests/{files.get(file, file)}.py").read_text("utf-8")
    ]
    assert missing == []
