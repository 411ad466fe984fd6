"""Output: results on stdout, as lines, JSON or Markdown, and in the summary of GitHub Actions; notes on stderr."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import click

from idc_indexer.cli.github import as_markdown, summarize
from idc_indexer.errors import UsageError, printable


@dataclass(frozen=True)
class Output:
    """The form in which a command prints its result: lines unless JSON or Markdown is wanted."""

    json: bool = False
    markdown: bool = False

    def __post_init__(self) -> None:
        if self.json and self.markdown:
            raise UsageError("--json and --markdown exclude each other", "Give one of them.")

    def show(self, title: str, lines: Sequence[str], document: Any = None, markdown: str = "") -> None:
        """Print a result, and add it to the summary of the workflow run.

        Args:
            title: heading of the lines in Markdown.
            document: what --json prints.
            markdown: what --markdown prints and the summary shows, instead of the lines in a block.
        """
        lines = [printable(line, lines=False) for line in lines]
        markdown = printable(markdown or as_markdown(printable(title, lines=False), lines))
        summarize(markdown)
        if self.json:
            print_json(document)
        elif self.markdown:
            click.echo(markdown, nl=False)
        else:
            for line in lines:
                echo(line)


def echo(line: str) -> None:
    """Print a line of the result."""
    click.echo(printable(line, lines=False))


def note(line: str) -> None:
    """Print a line that is not part of the result."""
    click.echo(printable(line, lines=False), err=True)


def print_json(document: Any) -> None:
    """Print a document as JSON."""
    click.echo(printable(json.dumps(document, indent=2, ensure_ascii=False)))


_MANY = 4
"""So many files with the same problem become one line."""
_NUMBERS = re.compile(r"\b[0-9a-f]{64}\b|\d[\d,]*")


def aggregated(problems: Iterable[tuple[str, str]]) -> list[str]:
    """A line for each problem of a file, such as `a.parquet: is missing`; one for many files with the same cause.

    Args:
        problems: names of files and messages. Messages that differ in numbers have the same cause.
    """
    causes: dict[str, list[tuple[str, str]]] = {}
    for name, message in problems:
        causes.setdefault(_NUMBERS.sub("0", message), []).append((name, message))
    lines = []
    for found in causes.values():
        name, message = found[0]
        if len(found) < _MANY:
            lines += [f"{name}: {message}" for name, message in found]
        else:
            lines.append(f"{len(found)} files, such as {name}: {message}")
    return lines


def size(count: int) -> str:
    """A number of bytes for people, such as `12.3 MB`."""
    from rich.filesize import decimal

    return decimal(count)


def cost_line(cost: Any) -> str:
    """What BigQuery bills, in words."""
    return f"{size(cost['bytes_billed'])} billed, ${cost['price_usd']:.4f}"
