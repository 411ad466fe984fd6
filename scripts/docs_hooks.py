"""Hooks of mkdocs: the README is the first page, the page of commands holds the help of each, and links to files that
are not pages become plain text.

On GitHub and in a checkout, the same links open the files themselves.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from idc_indexer.cli import main

TOP = Path(__file__).parents[1]
_LINK = re.compile(r"\[([^\]]+)\]\((?!https?://|#|mailto:)([^)#\s]*)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The text of a page; that of the first one is the README."""
    source = page.file.src_uri
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
