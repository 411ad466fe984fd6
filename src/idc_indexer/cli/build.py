"""From a source to a release on this machine: build."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from idc_indexer.cli.github import set_outputs
from idc_indexer.cli.group import main
from idc_indexer.cli.options import (
    MARKDOWN,
    dry_run_option,
    engine_options,
    gather,
    idc_version_option,
    indices_argument,
    option,
    output_options,
    own_options,
    published_option,
)
from idc_indexer.cli.output import Output, cost_line, note
from idc_indexer.cli.progress import show_progress

if TYPE_CHECKING:
    from idc_indexer.api.options import EngineOptions, OwnIndices

_target_options = gather(
    "target",
    dict,
    option("--out", type=click.Path(path_type=Path), required=True, help="Folder that becomes the release."),
    option("--release-version", help="Version of the data release, such as 25.0.5."),
    idc_version_option(
        type=click.IntRange(1), help="IDC release, such as 25; by default, the first number of --release-version."
    ),
    option(
        "--rebuild-of", metavar="URL", help="Rebuild the release published at URL: with its version, for a comparison."
    ),
    option(
        "--gdc-url",
        metavar="URL",
        help="Address of the GDC API, for gdc_idc_mapping; https://api.gdc.cancer.gov if that table is named.",
    ),
    option("--csv", is_flag=True, help="Write idc_index as idc_index.csv.zip too."),
    option("--force", is_flag=True, help="Replace the release at --out."),
    published_option,
)


@main.command()
@indices_argument
@_target_options
@engine_options()
@own_options
@dry_run_option
@output_options(markdown=MARKDOWN)
def build(
    indices: tuple[str, ...],
    target: dict[str, Any],
    engine: EngineOptions,
    own: OwnIndices,
    dry_run: bool,
    output: Output,
) -> None:
    """Build a release: the named indices, or all.

    Without names, gdc_idc_mapping is built only with --gdc-url: it needs the network, which no other index built from
    local files does. For tables made from idc_index, idc_index is built too.

    To continue an interrupted build, run the same command again.

    \b
    Example:
      idc-indexer build --source sample --idc-version 25 --release-version 25.0.0 --out release
    """
    from idc_indexer.api.build import plan_release

    with show_progress() as listener:
        plan = plan_release(*indices, **target, engine=engine, own=own, listener=listener)
        done = plan.costs() if dry_run else plan.build()
    if not (indices or target["gdc_url"] or dry_run):
        note("without gdc_idc_mapping: to build it, give --gdc-url https://api.gdc.cancer.gov")
    (_show_costs if dry_run else _show_release)(plan.plan.release_version, done, output)


def _show_costs(version: str, costs: Any, output: Output) -> None:
    document = {"indices": {name: cost for name, cost in costs.items() if name != "total"}, "total": costs["total"]}
    output.show(f"Cost of {version}", [f"{name}: {cost_line(cost)}" for name, cost in costs.items()], document)


def _show_release(version: str, release: Any, output: Output) -> None:
    data = [(entry.files[0], entry.rows) for entry in release.entries]
    lines = [f"{file.name}: {rows:,} rows, {file.bytes:,} bytes, sha256 {file.sha256}" for file, rows in data]
    output.show(f"Release {version}", lines, release.to_document())
    set_outputs(release_version=version, idc_version=release.idc_version, manifest_sha256=release.manifest_sha256)
