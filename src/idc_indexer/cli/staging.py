"""What is kept of exports on this machine: stage, cache."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import click
from rich.filesize import decimal

from idc_indexer.cli.options import cache_option, catalog_options, export_options, json_option, main, print_json
from idc_indexer.cli.progress import progress
from idc_indexer.errors import UsageError


@main.command()
@click.argument("indices", nargs=-1, metavar="[INDEX]...")
@click.option(
    "--idc-version", type=click.IntRange(1), required=True, help="IDC release to stage the tables of, such as 25."
)
@export_options
@click.option("--dry-run", is_flag=True, help="Check everything, show what would be fetched, and stop.")
@catalog_options
def stage(
    indices: tuple[str, ...],
    idc_version: int,
    source: str,
    cache_dir: Path,
    memory_limit: str,
    threads: int | None,
    exclude_shard: tuple[str, ...],
    max_shard_age_gap: float,
    dry_run: bool,
    queries: tuple[Path, ...],
    schemas: tuple[Path, ...],
) -> None:
    """Fetch what the named indices, or all of them, read of an export, so that `build --offline` can follow.

    Of each shard only the needed columns are fetched, once. What was interrupted goes on where it was when the same
    command is run again. `build` does the same by itself.

    \b
    Example:
      idc-indexer stage collections_index --idc-version 25
    """
    import tempfile

    from idc_indexer.catalog import Catalog
    from idc_indexer.engines.duckdb import DuckDBEngine
    from idc_indexer.exports import open_export

    catalog = Catalog(queries, schemas)
    chosen = catalog.select(set(indices))
    export = open_export(source, exclude_shard, timedelta(hours=max_shard_age_gap), cache_dir)
    with tempfile.TemporaryDirectory() as temporary, progress() as shown:
        engine = DuckDBEngine(export, Path(temporary), threads, memory_limit, shown)
        export.require(idc_version)
        pinned = [index.for_release(idc_version) for index in chosen]
        plan = engine.plan(pinned)
        if dry_run:
            return
        with plan.running(pinned):
            shown.message("all is staged")


@main.group(invoke_without_command=True)
@cache_option
@json_option
@click.pass_context
def cache(context: click.Context, cache_dir: Path, as_json: bool) -> None:
    """Show what is kept for later builds, and remove it.

    Without a further command: a line for each table of each release, with shards, leaf columns and bytes, one for
    the prior_extracts of past releases, and one for results of BigQuery.

    \b
    Example:
      idc-indexer cache
    """
    if context.invoked_subcommand:
        context.obj = cache_dir
        return
    from idc_indexer.cache import Cache

    kept = [one for one in Cache(cache_dir).entries() if one.shards]  # of past releases, only the listing is
    if as_json:
        print_json({"folder": str(cache_dir), "kept": [one.to_document() for one in kept]})
        return
    for one in kept:
        of = f" of {one.source}" if one.source else ""
        leaves = f", {one.leaves} leaf columns" if one.leaves else ""
        click.echo(
            f"{one.name}{of}: {one.shards:,} {'shards' if one.source else 'files'}{leaves}, {decimal(one.bytes)}"
        )
    click.echo(f"{cache_dir}: {decimal(sum(one.bytes for one in kept))}", err=True)


@cache.command()
@click.argument("names", nargs=-1, metavar="[RELEASE|TABLE]...")
@click.option("--all", "everything", is_flag=True, help="Remove all that is kept.")
@click.pass_obj
def remove(cache_dir: Path, names: tuple[str, ...], everything: bool) -> None:
    """Remove a RELEASE (idc_v25), a TABLE (idc_v25.dicom_all), `prior_extracts`, or `bigquery` results from the cache.

    What another process uses is not removed; that is an error.

    \b
    Example:
      idc-indexer cache remove idc_v24 prior_extracts
    """
    from idc_indexer.cache import Cache

    if bool(names) == everything:
        raise UsageError("what is to be removed?", "Name releases or tables, or give --all.")
    for one in Cache(cache_dir).remove(list(names)):
        click.echo(f"removed {one.name}: {decimal(one.bytes)}")
