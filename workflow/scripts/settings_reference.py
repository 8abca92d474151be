"""Writes docs/settings.md and the JSON schema of params.yaml, which editors show.

Both have the meaning of every setting: its description in `hpro_core/params.py` and its comment in
params.yaml, with the origin of the default. Type and limits are those of `hpro_core/params.py`. Run
by `make docs` and `make schema`:

    python -m workflow.scripts.settings_reference
"""

import html
import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from hpro_core.params import Params

REPO = Path(__file__).parents[2]
PAGE = REPO / "docs/settings.md"
SCHEMA = REPO / "workflow/schemas/params.schema.json"
DRAFT = {"$schema": "https://json-schema.org/draft/2020-12/schema"}

HEAD = """# Settings

This page lists all settings: default, type and limits, meaning and origin of the default.
`make docs` writes it from `params.yaml` and `hpro_core/params.py`.

```
make run CONFIG=mine.yaml    # needs: mine.yaml, your differences from params.yaml
```

- An unknown key or a value outside its limits stops the run before the first job.
- A default in parentheses is not in `params.yaml`: it holds where the setting is absent.
- A comment of `params.yaml` such as "log 2026-11-23" names an entry of the [log](log/index.md).
"""


class Row(NamedTuple):
    """One line of a table."""

    key: str
    default: str
    kind: str
    meaning: str


class Comments:
    """The comments of a YAML file."""

    def __init__(self, text: str):
        """
        Args:
            text: the file.

        Raises:
            ValueError: a comment below one beside a value belongs neither to it nor to a key.
        """
        self.beside: dict[int, str] = {}
        """Line of a value -> the comment that begins beside it, continued below in that column."""
        self.own: dict[int, str] = {}
        """Line -> a comment that has the line to itself and continues no other."""
        ends: dict[int, int] = {}
        for token in yaml.scan(text):
            if token.start_mark.index < token.end_mark.index:
                ends[token.end_mark.line] = max(
                    ends.get(token.end_mark.line, 0), token.end_mark.column
                )
        open_line, open_column = -1, -1
        lines = text.splitlines()
        for number, line in enumerate(lines):
            column = line.find("#", ends.get(number, 0))
            if column < 0:
                open_column = -1
            elif number in ends:
                self.beside[number] = line[column + 1 :].strip()
                open_line, open_column = number, column
            elif column == open_column:
                self.beside[open_line] += " " + line[column + 1 :].strip()
            elif open_column >= 0 and column != next_column(lines[number + 1 :]):
                raise ValueError(
                    f"line {number + 1}: a comment that continues one beside a value begins in "
                    f"column {open_column + 1}, one of its own in the column of the next key"
                )
            else:
                self.own[number] = line[column + 1 :].strip()

    def above(self, line: int) -> str:
        """The comment on the lines directly above one."""
        lines: list[str] = []
        while (line := line - 1) in self.own:
            lines.insert(0, self.own[line])
        return " ".join(lines)


class Reference:
    """The tables of a settings file."""

    def __init__(self, settings: str, schema: dict[str, Any]):
        self.text = settings
        self.comments = Comments(settings)
        self.schema = schema
        self.root: Any = yaml.compose(settings)

    def page(self) -> str:
        """The whole page.

        Raises:
            ValueError: a setting has neither a description nor a comment.
        """
        plain, sections = [], []
        for key, value in self.root.value:
            form = self.resolved(self.schema["properties"][key.value])
            if isinstance(value, yaml.MappingNode):
                sections.append((key, value, form))
            else:
                plain.append((key, value))
        top = yaml.MappingNode(self.root.tag, plain, flow_style=False)
        known = {key.value: self.schema["properties"][key.value] for key, _ in plain}
        rows = [*self.rows(top, {"properties": known})]
        parts = [HEAD, self.origins(), "## Whole run\n", table(rows)]
        for key, value, form in sections:
            about = self.schema["properties"][key.value].get("description", "")
            notes = [about, self.beside(key, value), *self.notes(value)]
            parts += [f"## {key.value}\n", *(f"{sentence(note)}\n" for note in notes if note)]
            found = [*self.rows(value, form)]
            parts.append(table(found))
            rows += [row._replace(key=f"{key.value}.{row.key}") for row in found]
        if lacking := [row.key for row in rows if row.kind and not row.meaning]:
            raise ValueError(f"no description and no comment: {', '.join(lacking)}")
        return "\n".join(parts)

    def described_schema(self) -> dict[str, Any]:
        """The schema, with description and comment of every setting as its description.

        A section type that several settings share has the comments that all of them have.
        """
        found: dict[int, tuple[dict[str, Any], set[str]]] = {}
        self._collect(self.root, self.schema, "", found)
        for form, comments in found.values():
            shared = comments.pop() if len(comments) == 1 else ""
            if text := "; ".join(filter(None, [form.get("description", ""), shared])):
                form["description"] = text
        return DRAFT | self.schema

    def _collect(
        self,
        node: yaml.MappingNode,
        form: dict[str, Any],
        inherited: str,
        found: dict[int, tuple[dict[str, Any], set[str]]],
    ) -> None:
        """Collect the comments of each setting of a mapping, by the identity of its schema."""
        for key, value in node.value:
            inner = form.get("properties", {}).get(key.value)
            if inner is not None:
                comment = inherited if node.flow_style else self.beside(key, value)
                found.setdefault(id(inner), (inner, set()))[1].add(comment)
                if isinstance(value, yaml.MappingNode):
                    self._collect(value, self.resolved(inner), comment, found)

    def origins(self) -> str:
        """The tags of origins that the head of the file explains, as a list."""
        head = self.text.split("\n\n")[0]
        tags = re.findall(r"^#   (\S+(?: \S+)*)  +(.+(?:\n# {5,}\S.*)*)", head, flags=re.M)
        lines = [f"- {tag}: {' '.join(text.replace('#', ' ').split())}" for tag, text in tags]
        return "\n".join(["Origins of values:\n", *lines, ""])

    def rows(
        self, node: yaml.MappingNode, form: dict[str, Any], prefix: str = "", inherited: str = ""
    ) -> Iterator[Row]:
        """Lines of a mapping and of the mappings in it.

        Args:
            node: of params.yaml.
            form: its schema.
            prefix: of the keys, such as "splits.".
            inherited: comment beside the mapping, of keys that are on the same line.
        """
        for key, value in node.value:
            name = f"{prefix}{key.value}"
            inner = form.get("properties", {}).get(key.value) or form["additionalProperties"]
            inner = self.resolved(inner)
            comment = inherited if node.flow_style else self.beside(key, value)
            named = "additionalProperties" in inner and "properties" not in inner
            if not isinstance(value, yaml.MappingNode) or "properties" not in form:
                yield self.row(name, self.source(value), inner, comment)
            elif named or not value.flow_style:
                yield Row(name, "", "section", meaning(inner, comment))
                yield from self.rows(value, inner, f"{name}.")
            else:
                yield from self.rows(value, inner, f"{name}.", comment)
        present = {key.value for key, _ in node.value}
        for key, inner in form.get("properties", {}).items():
            if key not in present:
                yield self.row(f"{prefix}{key}", absent(inner), self.resolved(inner), "")
        if "additionalProperties" in form and "properties" not in form:
            entry = self.resolved(form["additionalProperties"])
            for key, inner in entry.get("properties", {}).items():
                name = f"{prefix}NAME.{key}"
                if self.resolved(inner).get("type") == "object":
                    yield Row(name, "", "section", meaning(inner, ""))
                else:
                    yield self.row(name, absent(inner), self.resolved(inner), "")

    def row(self, name: str, default: str, form: dict[str, Any], comment: str) -> Row:
        shown = "" if form.get("type") == "object" else self.kind(form)
        text = "" if form.get("type") == "object" else form.get("description", "")
        return Row(name, default, shown, meaning({"description": text}, comment))

    def resolved(self, form: dict[str, Any]) -> dict[str, Any]:
        """A schema in place of the reference to it."""
        if "$ref" not in form:
            return form
        return self.schema["$defs"][form["$ref"].rsplit("/", 1)[1]]

    def kind(self, form: dict[str, Any]) -> str:
        """Type and limits, in words."""
        if "anyOf" in form:
            return " or ".join(self.kind(choice) for choice in form["anyOf"])
        if "enum" in form:
            return ", ".join(code(json.dumps(value).strip('"') or '""') for value in form["enum"])
        limits = [f"{words} {form[key]:g}" for key, words in LIMITS.items() if key in form]
        match form["type"]:
            case "array":
                some = " (one or more)" if form.get("minItems") else ""
                return f"list{some} of: {self.kind(form['items'])}"
            case "string" if PATH in form.get("pattern", ""):
                return "path" if form.get("minLength") else 'path or `""`'
            case "string":
                return f"text like {code(form['pattern'])}" if "pattern" in form else "text"
            case "boolean":
                return "`true`, `false`"
            case "null":
                return "`null`"
            case kind:
                return ", ".join([kind, *limits])

    def beside(self, key: yaml.Node, value: yaml.Node) -> str:
        """The comment beside a key, and the one beside the end of its value."""
        lines = [key.start_mark.line]
        if not isinstance(value, yaml.MappingNode) or value.flow_style:
            lines.append(value.end_mark.line)
        return "; ".join(self.comments.beside.get(line, "") for line in dict.fromkeys(lines)
                         if line in self.comments.beside)  # fmt: skip

    def notes(self, section: yaml.MappingNode) -> Iterator[str]:
        """Comments above the keys of a section."""
        for key, _ in section.value:
            yield self.comments.above(key.start_mark.line)

    def source(self, value: yaml.Node) -> str:
        """A value as the file writes it, as code."""
        return code(" ".join(self.text[value.start_mark.index : value.end_mark.index].split()))


LIMITS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
    "multipleOf": "multiple of",
}
"""Keyword of JSON schema -> in words."""
PATH = "{}<>"
"""In the pattern of `hpro_core.params.UserPath` alone."""


def next_column(lines: list[str]) -> int:
    """Column of the first line with a key or value; -1 without one."""
    texts = ((line, line.lstrip()) for line in lines)
    found = (len(line) - len(text) for line, text in texts if text and not text.startswith("#"))
    return next(found, -1)


def absent(form: dict[str, Any]) -> str:
    """The default of a setting that params.yaml does not have, in parentheses."""
    return f"({code(json.dumps(form['default']))})" if "default" in form else ""


def meaning(form: dict[str, Any], comment: str) -> str:
    """Description and comment, with links to pages."""
    return linked("; ".join(filter(None, [form.get("description", ""), comment])))


def linked(text: str) -> str:
    """A comment as Markdown, with its mentions of pages as links."""
    return re.sub(r"docs/([\w/]+\.md)(#[\w-]+)?", r"[\1](\1\2)", text.replace("<", "&lt;"))


def sentence(note: str) -> str:
    """A comment as a paragraph."""
    text = f"{linked(note[:1].upper() + note[1:]).rstrip('.')}."
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def code(text: str) -> str:
    """A text as code, in a table too: GitHub and the site read "\\|" in code differently."""
    if "|" in text:
        return f"<code>{html.escape(text, quote=False).replace('|', '&#124;')}</code>"
    return f"`{text}`"


def table(rows: list[Row]) -> str:
    """Rows as Markdown."""
    lines = [
        "| setting | default | type, limits | meaning; origin of the default |",
        "|---|---|---|---|",
    ]
    for row in rows:
        cells = [code(row.key), *(cell.replace("|", "\\|") for cell in row[1:])]
        lines.append(" ".join(f"| {cell}".rstrip() for cell in cells) + " |")
    return "\n".join([*lines, ""])


def reference() -> Reference:
    """The settings of this repository."""
    return Reference((REPO / "params.yaml").read_text(encoding="utf-8"), Params.model_json_schema())


if __name__ == "__main__":
    PAGE.write_text(reference().page(), encoding="utf-8")
    text = json.dumps(reference().described_schema(), indent=2)
    SCHEMA.write_text(f"{text}\n", encoding="utf-8")
