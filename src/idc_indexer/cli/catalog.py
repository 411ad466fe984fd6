"""Which indices and IDC releases there are: list, explain, releases."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from idc_indexer.cli import completion
from idc_indexer.cli.github import set_outputs
from idc_indexer.cli.group import main
from idc_indexer.cli.options import (
    argument,
    engine_options,
    history_options,
    idc_version_option,
    indices_argument,
    option,
    output_options,
    own_options,
)
from idc_indexer.cli.output import Output, cost_line
from idc_indexer.cli.progress import show_progress

if TYPE_CHECKING:
    from idc_indexer.api.catalog import AvailableReleases, Explanation
    from idc_indexer.api.options import EngineOptions, OwnIndices
    from idc_indexer.catalog import Catalog
    from idc_indexer.schema.table import Schema


@main.command("list")
@indices_argument
@own_options
@output_options()
def list_indices(indices: tuple[str, ...], own: OwnIndices, output: Output) -> None:
    """List the indices, or describe the named ones.

    Without names, prints one line for each index. Of named indices, prints key, order, references and columns.
    --json has all of that in both cases.

    \b
    Example:
      idc-indexer list ct_index
    """
    from idc_indexer.api.catalog import list_indices

    catalog = list_indices(own)
    schemas = {name: catalog.schema(name) for name in indices} or catalog.schemas
    lines = _table(catalog) if not indices else (line for name in schemas for line in _details(name, schemas[name]))
    output.show("Indices", [*lines], {name: schema.to_document() for name, schema in schemas.items()})


def _table(catalog: Catalog) -> Iterator[str]:
    """A line for each index, and its heading."""
    cells = [("index", "columns", "wheel", "one row for each")]
    for name, schema in catalog.schemas.items():
        made = " (made from idc_index)" if name in catalog.derived else " (on request)" if schema.on_request else ""
        cells.append((name, str(len(schema.columns)), "yes" if schema.in_wheel else "no", schema.row + made))
    longest = max(len(name) for name, *_ in cells)
    for name, columns, wheel, row in cells:
        yield f"{name:{longest}}  {columns:>7}  {wheel:5}  {row}"


def _details(name: str, schema: Schema) -> Iterator[str]:
    """What is known of an index."""
    yield f"{name}: one row for each {schema.row}"
    yield from _wrapped(schema.description)
    yield f"key: {', '.join(schema.primary_key)}"
    yield f"order: {', '.join(schema.order)}"
    for reference in schema.references:
        yield f"reference: {', '.join(reference.columns)} to {', '.join(reference.to)} of {reference.index}"
    yield f"in the data wheel: {'yes' if schema.in_wheel else 'no'}"
    for column in schema.columns:
        yield f"column {column.name}: {column.googlesql}"
        yield from _wrapped(column.description)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 96, initial_indent="    ", subsequent_indent="    ")


@main.command()
@argument("index", shell_complete=completion.indices)
@idc_version_option(type=click.IntRange(0), default=0, help="IDC release; without it, the newest, and not pinned.")
@engine_options("project", "location", "price_per_tib", "unproven")
@own_options
@history_options
@output_options()
def explain(
    index: str, idc_version: int, engine: EngineOptions, own: OwnIndices, history: dict[str, Any], output: Output
) -> None:
    """Show the SQL of INDEX and the columns that it reads.

    With --engine bigquery and --project, BigQuery also estimates the costs.

    \b
    Example:
      idc-indexer explain collections_index --engine bigquery --idc-version 25
    """
    from idc_indexer.api.catalog import explain_index

    explanation = explain_index(index, idc_version=idc_version, engine=engine, own=own, **history)
    output.show(f"Query of {index}", [*_explanation_lines(explanation)], explanation.to_document())


def _explanation_lines(explanation: Explanation) -> Iterator[str]:
    yield from ";\n\n".join(statement.strip() for statement in explanation.sql).split("\n")
    for table, columns in explanation.reads.items():
        yield f"-- reads {table}:"
        yield from textwrap.wrap(", ".join(columns), 96, initial_indent="--   ", subsequent_indent="--   ")
    yield from (f"-- not proven: {problem}" for problem in explanation.unproven or ())
    if explanation.costs:
        yield f"-- costs: {cost_line(explanation.costs)}"


@main.command()
@engine_options("source", "project", "location")
@option("--newer-than", metavar="URL", help="List only releases newer than the one published at URL.")
@output_options()
def releases(engine: EngineOptions, newer_than: str | None, output: Output) -> None:
    """List the IDC releases of a source.

    In a step of GitHub Actions, the newest of those listed is the output `newest`.

    \b
    Example:
      idc-indexer releases --source sample
    """
    from idc_indexer.api.catalog import list_releases

    with show_progress() as listener:
        found = list_releases(engine=engine, newer_than=newer_than, listener=listener)
    output.show("IDC releases", _release_lines(found), {"releases": found.releases, "newest": found.newest})
    set_outputs(newest=found.newest or "")


def _release_lines(found: AvailableReleases) -> list[str]:
    if not found.releases:
        return [f"none is newer than {found.published_idc}, which is published as {found.published}"]
    return [f"{release} (newest)" if release == found.newest else str(release) for release in found.releases]
