"""What there is: list, explain, releases."""

from __future__ import annotations

import textwrap
from pathlib import Path

import click

from idc_indexer.cli.github import set_outputs
from idc_indexer.cli.options import (
    PUBLIC_EXPORT,
    bigquery_options,
    catalog_options,
    connection_options,
    cost_line,
    engine_option,
    json_option,
    main,
    paying,
    print_json,
    show,
)
from idc_indexer.errors import IndexerError, UsageError


@main.command("list")
@catalog_options
@json_option
def list_indices(queries: tuple[Path, ...], schemas: tuple[Path, ...], as_json: bool) -> None:
    """List the indices: what their rows are, key, columns.

    \b
    Example:
      idc-indexer list
    """
    from idc_indexer.catalog import Catalog

    catalog = Catalog(queries, schemas)
    indices = {name: index.schema for name, index in catalog.indices.items()}
    tables = indices | {name: supplement.schema for name, supplement in catalog.derived.items()}
    if as_json:
        print_json({name: schema.to_document() for name, schema in tables.items()})
        return
    for name, schema in tables.items():
        where = "in the wheel" if schema.in_wheel else "beside the wheel"
        made = ", made from idc_index" if name in catalog.derived else ""
        click.echo(f"{name}: {len(schema.columns)} columns, key {', '.join(schema.primary_key)}, {where}{made}")
        click.echo(textwrap.indent(textwrap.fill(schema.description, 96), "    "))


@main.command()
@click.argument("index")
@engine_option
@click.option(
    "--idc-version", type=click.IntRange(0), default=0, help="IDC release; the newest, not pinned, when not given."
)
@bigquery_options
@catalog_options
@json_option
def explain(
    index: str,
    engine: str,
    idc_version: int,
    project: str | None,
    location: str,
    price_per_tib: float,
    queries: tuple[Path, ...],
    schemas: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Print the SQL of INDEX as it will run, and the columns that it reads.

    With --engine bigquery and --project, also what it will cost, which BigQuery is asked for.

    \b
    Example:
      idc-indexer explain collections_index --engine bigquery --idc-version 25
    """
    from idc_indexer.catalog import Catalog
    from idc_indexer.sql import to_duckdb

    catalog = Catalog(queries, schemas)
    if index in catalog.derived:
        raise UsageError(f"{index} has no query: it is made from idc_index", "See `idc-indexer explain idc_index`.")
    (chosen,) = catalog.select([index])
    pinned = chosen.for_release(idc_version)
    statements = [pinned.statement.text]
    if engine == "duckdb":
        translation = to_duckdb(pinned.statement, pinned.where)
        statements = [reduction.sql for reduction in translation.prior_extracts] + [translation.sql]
    reads: dict[str, list[str]] = {}
    for leaf in sorted(pinned.statement.leaves, key=lambda leaf: (leaf.table, leaf.path)):
        reads.setdefault(str(leaf.table), []).append(leaf.path)
    costs = None
    if engine == "bigquery" and project:
        from idc_indexer.engines.bigquery import BigQueryEngine, connect

        plan = BigQueryEngine(connect(project, location)).plan([pinned])
        costs = plan.estimates[index].to_document(price_per_tib)
    if as_json:
        document = {"index": index, "engine": engine, "sql": statements, "reads": reads}
        print_json(document | ({"costs": costs} if costs else {}))
        return
    click.echo(";\n\n".join(statement.strip() for statement in statements))
    for table, columns in reads.items():
        click.echo(f"-- reads {table}:")
        click.echo(textwrap.fill(", ".join(columns), 96, initial_indent="--   ", subsequent_indent="--   "))
    if costs:
        click.echo(f"-- costs: {cost_line(costs)}")


@main.command()
@engine_option
@click.option(
    "--source", default=PUBLIC_EXPORT, show_default=True, show_envvar=True, help="Export to look at, with duckdb."
)
@click.option(
    "--newer-than", metavar="URL", help="List only those newer than what is published at URL, such as .../current/...."
)
@connection_options
@json_option
def releases(
    engine: str, source: str, newer_than: str | None, project: str | None, location: str, as_json: bool
) -> None:
    """List the IDC releases that a source has.

    In a step of GitHub Actions, the newest of those listed is the output `newest`.

    \b
    Example:
      idc-indexer releases --source sample
    """
    if engine == "bigquery":
        from idc_indexer.engines.bigquery import connect
        from idc_indexer.engines.bigquery import releases as of_bigquery

        found = of_bigquery(connect(paying(project), location))
    else:
        from idc_indexer.exports import open_export

        found = open_export(source).releases()
    if not found:
        raise IndexerError("there is no IDC release", "Look at another --source.")
    if newer_than:
        from idc_indexer.publish.public_check import published

        last = published(newer_than)
        found = [release for release in found if release > last.idc_version]
    newest = found[-1] if found else None
    lines = [f"{release} (newest)" if release == newest else str(release) for release in found]
    if not found:
        lines = [f"none is newer than {last.idc_version}, which is published as {last.release_version}"]
    show("IDC releases", lines, {"releases": found, "newest": newest}, as_json)
    set_outputs(newest=newest or "")
