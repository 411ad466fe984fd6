"""What later builds reuse on this machine: stage, cache."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from idc_indexer.cli import completion
from idc_indexer.cli.group import main
from idc_indexer.cli.options import (
    argument,
    cache_option,
    dry_run_option,
    export_options,
    history_options,
    idc_version_option,
    indices_argument,
    option,
    output_options,
    own_options,
)
from idc_indexer.cli.output import Output, note, size
from idc_indexer.cli.progress import show_progress
from idc_indexer.errors import UsageError

if TYPE_CHECKING:
    from idc_indexer.api.options import DuckDB, OwnIndices
    from idc_indexer.cache import CacheEntry


@main.command()
@indices_argument
@idc_version_option(type=click.IntRange(1), required=True, help="IDC release whose tables are staged, such as 25.")
@export_options
@own_options
@history_options
@dry_run_option
@output_options()
def stage(
    indices: tuple[str, ...],
    idc_version: int,
    export: DuckDB,
    own: OwnIndices,
    history: dict[str, Any],
    dry_run: bool,
    output: Output,
) -> None:
    """Download what a build reads, for `build --offline`.

    Of each shard, only the columns that the named indices need are downloaded, or those that all indices need; each
    only once. `build` does the same when it has to. To continue an interrupted download, run the same command again.

    \b
    Example:
      idc-indexer stage collections_index --idc-version 25
    """
    from idc_indexer.api.build import stage_export

    with show_progress() as listener:
        stage_export(
            *indices, idc_version=idc_version, engine=export, own=own, **history, dry_run=dry_run, listener=listener
        )
    done = {"idc_version": idc_version, "indices": list(indices), "dry_run": dry_run}
    line = "can be staged" if dry_run else "staged"
    output.show("Staging", [f"{', '.join(indices) or 'all indices'} of IDC release {idc_version}: {line}"], done)


@main.group(invoke_without_command=True)
@cache_option
@output_options()
@click.pass_context
def cache(context: click.Context, cache_dir: Path | None, output: Output) -> None:
    """Show the cache of this machine, or clear it.

    Prints a line for each table of each release with its shards, leaf columns and bytes; one for the extracts of prior
    releases; and one for the results of BigQuery.

    \b
    Example:
      idc-indexer cache
    """
    context.obj = cache_dir
    if context.invoked_subcommand is None:
        from idc_indexer.cache import Cache

        found = Cache.at(cache_dir)
        entries = [entry for entry in found.entries() if entry.shards]  # of prior releases, only the listing remains
        document = {"folder": str(found.root), "kept": [entry.to_document() for entry in entries]}
        output.show(f"Cache at {found.root}", [_entry_line(entry) for entry in entries], document)
        note(f"{found.root}: {size(sum(entry.bytes for entry in entries))}")


@cache.command()
@argument("names", nargs=-1, metavar="[RELEASE|TABLE]...", shell_complete=completion.cache_entries)
@option("--all", "everything", is_flag=True, help="Remove everything.")
@output_options()
@click.pass_obj
def remove(cache_dir: Path | None, names: tuple[str, ...], everything: bool, output: Output) -> None:
    """Remove a release, a table or results from the cache.

    Give a release (idc_v25), a table (idc_v25.dicom_all), `prior_extracts`, or `bigquery`. It is an error if another
    process uses them.

    \b
    Example:
      idc-indexer cache remove idc_v24 prior_extracts
    """
    if bool(names) == everything:
        raise UsageError("cache remove: nothing to remove is named", "Name releases or tables, or give --all.")
    from idc_indexer.cache import Cache

    removed = Cache.at(cache_dir).remove(list(names))
    lines = [f"removed {entry.name}: {size(entry.bytes)}" for entry in removed]
    output.show("Removed from the cache", lines, {"removed": [entry.to_document() for entry in removed]})


def _entry_line(entry: CacheEntry) -> str:
    of = f" of {entry.source}" if entry.source else ""
    leaves = f", {entry.leaves} leaf columns" if entry.leaves else ""
    return f"{entry.name}{of}: {entry.shards:,} {'shards' if entry.source else 'files'}{leaves}, {size(entry.bytes)}"
