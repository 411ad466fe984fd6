"""What mkdocs does beside its own: the README is the first page, the page of commands has the help of each, and links
to files that are no pages lose their link.

On GitHub, and in a checkout, the same links lead to the files themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from idc_indexer.cli import main

TOP = Path(__file__).parents[1]
_LINK = re.compile(r"\[([^\]]+)\]\((?!https?://|#|mailto:)([^)#\s]*)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """A page as it is in docs/; the first one is the README."""
    source = page.file.src_uri
    if source == "index.md":
        return without_files((TOP / "README.md").read_text(encoding="utf-8"), TOP)
    if source == "commands.md":
        markdown += "".join(f"\n## {name}\n\n```text\n{text}\n```\n" for name, text in helps(main, "idc-indexer"))
    return without_files(markdown, TOP / "docs" / Path(source).parent)


def helps(command: click.Command, name: str, parent: click.Context | None = None) -> Iterator[tuple[str, str]]:
    """The name of a command and of all below it, and what `--help` says."""
    context = click.Context(command, parent, name.rpartition(" ")[2], terminal_width=80, **command.context_settings)
    yield name, command.get_help(context)
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            yield from helps(command.commands[below], f"{name} {below}", context)


def without_files(markdown: str, folder: Path) -> str:
    """Links of a text that lies in a folder: to pages as seen from docs/, and none to other files.

    Raises:
        FileNotFoundError: a link leads nowhere.
    """

    def change(link: re.Match[str]) -> str:
        text, path, anchor = link[1], link[2], link[3] or ""
        target = (folder / path).resolve(strict=True)
        if target == TOP / "README.md":
            return f"[{text}](index.md{anchor})"
        if target.parent == TOP / "docs" and target.suffix == ".md":
            return f"[{text}]({target.name}{anchor})"
        return text

    return _LINK.sub(change, markdown)
