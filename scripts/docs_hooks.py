"""Hooks of mkdocs: the README is the first page, the page of commands holds the help of each, each index has a page of
the data dictionary, and links to files that are not pages become plain text.

On GitHub and in a checkout, the same links open the files themselves.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

import click
from mkdocs.structure.files import File

import idc_indexer
from idc_indexer.catalog import Catalog
from idc_indexer.cli import main
from idc_indexer.schema.column import Column
from idc_indexer.schema.table import Schema

TOP = Path(__file__).parents[1]
DICTIONARY = "Data dictionary"
_EDITED = {"index.md": "README.md"}
"""Files that pages are made from, where those are not in docs/."""
_LINK = re.compile(r"\[([^\]]+)\]\((?!https?://|#|mailto:)([^)#\s]*)(#[^)\s]*)?\)")


def on_config(config: Any) -> Any:
    """Name the repository, in a workflow its own, and put the pages of the dictionary in the navigation."""
    server, repository = (os.environ.get(f"GITHUB_{name}") for name in ("SERVER_URL", "REPOSITORY"))
    config.repo_url = f"{server}/{repository}" if server and repository else idc_indexer.REPOSITORY
    config.repo_name = "Repository"
    config.edit_uri = "edit/main/docs/"
    (pages,) = (entry[DICTIONARY] for entry in config.nav if DICTIONARY in entry)
    pages += [{name: f"tables/{name}.md"} for name in Catalog().schemas]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages of the dictionary."""
    for name, schema in Catalog().schemas.items():
        page = File.generated(config, f"tables/{name}.md", content=table_page(name, schema))
        folder = "schemas" if (TOP / "schemas" / f"{name}.json").exists() else "schemas/derived"
        _EDITED[page.src_uri] = f"{folder}/{name}.json"
        files.append(page)
    return files


def on_pre_page(page: Any, config: Any, **_: Any) -> Any:
    """Let the edit link of a page that is made from another file lead to that file."""
    if page.file.src_uri in _EDITED:
        page.edit_url = f"{config.repo_url}/edit/main/{_EDITED[page.file.src_uri]}"
    return page


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The text of a page; that of the first one is the README."""
    source = page.file.src_uri
    if page.file.generated_by:
        return markdown
    if source == "index.md":
        return links_between_pages((TOP / "README.md").read_text(encoding="utf-8"), TOP / "README.md", source)
    if source == "commands.md":
        markdown += "".join(f"\n## {name}\n\n```text\n{text}\n```\n" for name, text in helps(main, "idc-indexer"))
    return links_between_pages(markdown, TOP / "docs" / source, source)


def helps(command: click.Command, name: str, parent: click.Context | None = None) -> Iterator[tuple[str, str]]:
    """The name and the `--help` of a command, then of its subcommands."""
    context = click.Context(command, parent, name.rpartition(" ")[2], terminal_width=80, **command.context_settings)
    yield name, command.get_help(context)
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            yield from helps(command.commands[below], f"{name} {below}", context)


def links_between_pages(markdown: str, file: Path, page: str) -> str:
    """Rewrite the links of a page: those to pages are relative to it, those to other files become plain text.

    Args:
        file: where the text lies; its links are relative to that.
        page: its place in docs/, such as `decisions/promotion.md`.

    Raises:
        FileNotFoundError: the target of a link does not exist.
    """
    docs = TOP / "docs"

    def change(link: re.Match[str]) -> str:
        text, path, anchor = link[1], link[2], link[3] or ""
        target = (file.parent / path).resolve(strict=True)
        if target == TOP / "README.md":
            target = docs / "index.md"
        if target.suffix == ".md" and target.is_relative_to(docs):
            return f"[{text}]({Path(os.path.relpath(target, (docs / page).parent)).as_posix()}{anchor})"
        return text

    return _LINK.sub(change, markdown)


def table_page(name: str, schema: Schema) -> str:
    """The page of an index in the data dictionary."""
    references = [
        f"<code>{', '.join(one.columns)}</code> joins <code>{', '.join(one.to)}</code> of "
        f"<a href='../{one.index}/'>{one.index}</a>"
        for one in schema.references
    ]
    facts = [
        f"One row for each: {escape(schema.row)}",
        f"Key: <code>{', '.join(schema.primary_key)}</code>",
        f"Order: <code>{', '.join(schema.order)}</code>",
        *references,
        f"In the data wheel: {'yes' if schema.in_wheel else 'no'}",
    ]
    rows = "\n".join(
        f"<tr id='{path}'><td><code>{path}</code></td><td><code>{escape(kind)}</code></td><td>{escape(text)}</td></tr>"
        for path, kind, text in column_rows(schema.columns)
    )
    parts = [
        f"# {name}",
        f"<p>{escape(schema.description)}</p>",
        "<ul>" + "".join(f"<li>{fact}</li>" for fact in facts) + "</ul>",
        "## Columns",
        f"<table>\n<thead><tr><th>Column</th><th>Type</th><th>Description</th></tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>",
        "## Examples",
        *(f"{title}\n\n```sql\n{query}\n```" for title, query in examples(name)),
    ]
    query = TOP / "queries" / f"{name}.sql"
    if query.exists():
        parts += ["## Query", f"```sql\n{query.read_text(encoding='utf-8').strip()}\n```"]
    else:
        parts += ["## Query", "None: a build makes this table from [idc_index](idc_index.md)."]
    return "\n\n".join(parts) + "\n"


def column_rows(columns: Sequence[Column], above: str = "") -> Iterator[tuple[str, str, str]]:
    """Path, type and description of each column, and of the fields in it."""
    for column in columns:
        kind = ("ARRAY of " if column.mode == "REPEATED" else "") + ("STRUCT" if column.fields else column.type)
        since = f" Since IDC release {column.since}." if column.since > 1 else ""
        yield above + column.name, kind, column.description + since
        yield from column_rows(column.fields, f"{above}{column.name}.")


def examples(name: str) -> Iterator[tuple[str, str]]:
    """The queries in docs/examples/, each with the sentence above it."""
    text = (TOP / "docs" / "examples" / f"{name}.sql").read_text(encoding="utf-8")
    for example in text.strip().split("\n\n"):
        title, _, query = example.partition("\n")
        yield title.removeprefix("-- "), query
