"""From a source to a release on this machine: build, verify, wheel."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import click

from idc_indexer.cli.common import (
    FOUND_PROBLEMS,
    bigquery_options,
    catalog_options,
    engine_option,
    export_options,
    json_option,
    main,
    paying,
    print_costs,
    print_json,
)
from idc_indexer.cli.progress import progress


@main.command()
@click.argument("indices", nargs=-1, metavar="[INDEX]...")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder that becomes the release.")
@click.option(
    "--idc-version", type=click.IntRange(1), required=True, help="IDC release to build the indices of, such as 25."
)
@click.option("--release-version", required=True, help="Version of the data release, such as 25.0.5.")
@engine_option
@export_options
@click.option("--offline", is_flag=True, help="Ask the network for nothing: build from what was staged before.")
@click.option(
    "--gdc-url",
    envvar="IDC_INDEXER_GDC_URL",
    show_envvar=True,
    metavar="URL",
    help="Address of the GDC API, such as https://api.gdc.cancer.gov, which is taken when gdc_idc_mapping is named.",
)
@bigquery_options
@click.option(
    "--max-bytes-billed",
    type=click.IntRange(0),
    show_envvar=True,
    help="Bytes that BigQuery may bill for the whole build; beyond that it is not started.",
)
@click.option("--dry-run", is_flag=True, help="Check everything, show what BigQuery will bill, and stop.")
@click.option("--csv", is_flag=True, help="Write idc_index as idc_index.csv.zip too.")
@click.option("--force", is_flag=True, help="Replace the release that is at --out.")
@catalog_options
@json_option
def build(
    indices: tuple[str, ...],
    out: Path,
    idc_version: int,
    release_version: str,
    engine: str,
    source: str,
    cache_dir: Path,
    memory_limit: str,
    threads: int | None,
    leave_out: tuple[str, ...],
    batch_hours: float,
    offline: bool,
    gdc_url: str | None,
    project: str | None,
    location: str,
    price_per_tib: float,
    max_bytes_billed: int | None,
    dry_run: bool,
    csv: bool,
    force: bool,
    queries: tuple[Path, ...],
    schemas: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Build a release: the named indices, or all of them.

    «All» includes gdc_idc_mapping only with --gdc-url: it is the one table that comes from another service,
    and no other part of a build from files needs the network. Tables made from idc_index bring it along.

    An interrupted build goes on where it was when the same command is run again.

    \b
    Example:
      idc-indexer build --source sample --idc-version 25 --release-version 25.0.0 --out release
    """
    from idc_indexer.build import build as run
    from idc_indexer.build import check_request, incomplete, plan_build
    from idc_indexer.build import dry_run as check
    from idc_indexer.catalog import Catalog
    from idc_indexer.engines import Engine
    from idc_indexer.gdc import GDC_URL, Gdc

    gdc, shown = Gdc(gdc_url or GDC_URL), progress()
    catalog = Catalog(queries, schemas)
    check_request(catalog, indices, idc_version, release_version, out, force)
    worker: Engine
    if engine == "duckdb":
        from idc_indexer.engines.duckdb import DuckDBEngine
        from idc_indexer.exports import open_export

        export = open_export(source, leave_out, timedelta(hours=batch_hours), cache_dir, offline)
        worker = DuckDBEngine(export, incomplete(out) / "spill", threads, memory_limit, shown)
        estimates = {}
        export.require(idc_version)  # before the query is written out for each past release
    else:
        from idc_indexer.engines.bigquery import BigQueryEngine, connect

        worker = asked = BigQueryEngine(connect(paying(project), location), max_bytes_billed, shown.say)
        estimates = asked.estimates
    plan = plan_build(catalog, indices, idc_version, release_version, out, force, gdc=bool(gdc_url), csv=csv)
    if dry_run:
        check(plan, worker)
        print_costs({name: estimate.to_document(price_per_tib) for name, estimate in estimates.items()}, as_json)
        return
    with shown:
        release = run(plan, worker, shown.report, gdc)
    if not (indices or gdc_url):
        click.echo(f"without gdc_idc_mapping: for it, give --gdc-url {GDC_URL}", err=True)
    if as_json:
        print_json(json.loads(release.manifest()))
        return
    for entry in release.entries:
        data = entry.files[0]
        click.echo(f"{data.name}: {entry.rows:,} rows, {data.bytes:,} bytes, sha256 {data.sha256}")


@main.command()
@click.argument("release", type=click.Path(path_type=Path, exists=True, file_okay=False), metavar="DIR")
@json_option
def verify(release: Path, as_json: bool) -> None:
    """Check everything that the release in DIR promises.

    Prints one line for each problem and exits with 3 when there are any.

    \b
    Example:
      idc-indexer verify release
    """
    from idc_indexer.verify import verify as run

    problems = run(release)
    if as_json:
        print_json({"problems": [vars(problem) for problem in problems]})
    else:
        for problem in problems:
            click.echo(str(problem))
        if not problems:
            click.echo(f"{release}: whole")
    if problems:
        raise SystemExit(FOUND_PROBLEMS)


@main.command()
@click.argument("release", type=click.Path(path_type=Path, exists=True, file_okay=False), metavar="DIR")
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder of the wheel.")
@click.option("--leave-out", multiple=True, metavar="INDEX", help="Index to leave out; may be repeated.")
@click.option("--published", metavar="URL", help="Where releases are published, if not by IDC itself.")
def wheel(release: Path, out: Path, leave_out: tuple[str, ...], published: str | None) -> None:
    """Build the data wheel idc-index-data from the release in DIR, which is verified first.

    It carries the Parquet of the indices whose schema says so, and schemas and queries of all. PyPI takes no
    file over 100 MB, so a larger wheel is refused; the next release may be larger, so near that there is a warning.

    \b
    Example:
      idc-indexer wheel release --out dist
    """
    from idc_indexer.wheel import LIMIT, NEARLY, PUBLISHED, build_wheel

    made = build_wheel(release, out, leave_out, published or PUBLISHED)
    if (size := made.stat().st_size) > NEARLY:
        click.echo(f"{made.name} has {size / 1e6:.1f} MB; PyPI takes {LIMIT / 1e6:.0f} MB", err=True)
    click.echo(str(made))
