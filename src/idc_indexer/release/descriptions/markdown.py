"""Descriptions in Markdown, from the templates beside this module."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from rich.filesize import decimal

from idc_indexer.release.descriptions.description import Description, TableDescription
from idc_indexer.schema.column import Column


def render(template: str, description: Description, **more: Any) -> str:
    """The text that a template makes of a description, and of what else it needs."""
    names = {table.name for table in description.tables}
    return (
        _environment()
        .get_template(template)
        .render(description=description, release=description.release, names=names, **more)
    )


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(  # noqa: S701 -- Markdown, whose cells `_cell` escapes
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"cell": _cell, "size": decimal, "number": lambda n: f"{n:,}", "leaves": _leaves}
    return environment


def _cell(words: str) -> str:
    """Text in a cell of a table."""
    return " ".join(words.split()).replace("|", "\\|")


def _leaves(table: TableDescription) -> Iterator[tuple[str, Column]]:
    """Columns and the fields of records, with their paths, such as `sources.source_id`."""

    def walk(prefix: str, columns: tuple[Column, ...]) -> Iterator[tuple[str, Column]]:
        for column in columns:
            yield prefix + column.name, column
            yield from walk(f"{prefix}{column.name}.", column.fields)

    return walk("", table.schema.columns)
