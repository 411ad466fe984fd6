"""From a source to a release on this machine: build, verify, wheel."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from idc_indexer.cli.github import set_outputs
from idc_indexer.cli.options import (
    FOUND_PROBLEMS,
    bigquery_options,
    catalog_options,
    cost_line,
    engine_option,
    export_options,
    json_option,
    main,
    markdown_option,
    paying,
    published_option,
    release_argument,
    show,
)
from idc_indexer.cli.progress import progress
from idc_indexer.errors import UsageError


@main.command()
@click.argument("indices", nargs=-1, metavar="[INDEX]...", envvar="IDC_INDEXER_BUILD_INDICES")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder that becomes the release.")
@click.option(
    "--idc-version",
    type=click.IntRange(1),
    help="IDC release to build the indices of, such as 25; the first number of --release-version when not given.",
)
@click.option("--release-version", help="Version of the data release, such as 25.0.5.")
@click.option(
    "--rebuild-of",
    metavar="URL",
    help="Build what is published at URL again: with its release version, to compare the two.",
)
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
@markdown_option
def build(
    indices: tuple[str, ...],
    out: Path,
    idc_version: int | None,
    release_version: str | None,
    rebuild_of: str | None,
    engine: str,
    source: str,
    cache_dir: Path,
    memory_limit: str,
    threads: int | None,
    exclude_shard: tuple[str, ...],
    max_shard_age_gap: float,
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
    in_markdown: bool,
) -> None:
    """Build a release: the named indices, or all of them.

    «All» includes gdc_idc_mapping only with --gdc-url: it is the one table that comes from another service,
    and no other part of a build from files needs the network. Tables made from idc_index bring it along.

    An interrupted build goes on where it was when the same command is run again.

    \b
    Example:
      idc-indexer build --source sample --idc-version 25 --release-version 25.0.0 --out release
    """
    from idc_indexer.catalog import Catalog
    from idc_indexer.engines import Engine
    from idc_indexer.files import sha256
    from idc_indexer.release.build import build as run
    from idc_indexer.release.build import check_request, incomplete, plan_build
    from idc_indexer.release.build import dry_run as check
    from idc_indexer.release.gdc import GDC_URL, Gdc
    from idc_indexer.release.manifest import MANIFEST, idc_version_of

    if rebuild_of:
        from idc_indexer.publish.public_check import published

        release_version = release_version or published(rebuild_of).release_version
    if release_version is None:
        raise UsageError(
            "Missing option '--release-version'", "Give it, or --rebuild-of URL to build a published one again."
        )
    if idc_version is None:
        idc_version = idc_version_of(release_version)
    gdc, shown = Gdc(gdc_url or GDC_URL), progress()
    catalog = Catalog(queries, schemas)
    check_request(catalog, indices, idc_version, release_version, out, force)
    worker: Engine
    if engine == "duckdb":
        from idc_indexer.engines.duckdb import DuckDBEngine
        from idc_indexer.exports import open_export

        export = open_export(source, exclude_shard, timedelta(hours=max_shard_age_gap), cache_dir, offline)
        worker = DuckDBEngine(export, incomplete(out) / "spill", threads, memory_limit, shown)
        export.require(idc_version)  # before the query is written out for each past release
    else:
        from idc_indexer.engines.bigquery import BigQueryEngine, connect

        worker = BigQueryEngine(connect(paying(project), location), cache_dir, max_bytes_billed, shown)
    plan = plan_build(catalog, indices, idc_version, release_version, out, force, gdc=bool(gdc_url), csv=csv)
    if dry_run:
        estimates = check(plan, worker)
        costs = {name: estimate.to_document(price_per_tib) for name, estimate in estimates.items()}
        keys = ("bytes_processed", "bytes_billed", "price_usd")
        total = {key: sum(cost[key] for cost in costs.values()) for key in keys}
        lines = [f"{name}: {cost_line(cost)}" for name, cost in (costs | {"total": total}).items()]
        show(f"Cost of {release_version}", lines, {"indices": costs, "total": total}, as_json, in_markdown)
        return
    with shown:
        release = run(plan, worker, shown, gdc)
    if not (indices or gdc_url):
        click.echo(f"without gdc_idc_mapping: for it, give --gdc-url {GDC_URL}", err=True)
    data = [(entry.files[0], entry.rows) for entry in release.entries]
    lines = [f"{file.name}: {rows:,} rows, {file.bytes:,} bytes, sha256 {file.sha256}" for file, rows in data]
    show(f"Release {release_version}", lines, release.to_document(), as_json, in_markdown)
    set_outputs(
        release_version=release_version, idc_version=idc_version, manifest_sha256=sha256(release.path / MANIFEST)
    )


@main.command()
@release_argument
@click.option(
    "--against", metavar="OLD", help="The release before, as `diff` takes it: look for what should not change."
)
@click.option(
    "--limits",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    show_envvar=True,
    help="File with your own limits of what may change.",
)
@click.option(
    "--accept",
    multiple=True,
    metavar="FINDING=REASON",
    help="Accept a finding of --against, such as rows:ct_index, for a reason that the manifest keeps; may be repeated, "
    "or have a line for each.",
)
@published_option
@json_option
def verify(
    release: Path,
    against: str | None,
    limits: Path | None,
    accept: tuple[str, ...],
    published_at: str | None,
    as_json: bool,
) -> None:
    """Check everything that the release in DIR promises.

    With --against, also what changed since the release before: indices, columns or collections that are gone,
    another type or key, rows that are fewer and NULLs that are more than the limits allow. Each finding has a name
    by which it can be accepted.
    Prints one line for each problem and exits with 3 when there are any.

    \b
    Example:
      idc-indexer verify release --against 25.0.5
    """
    from idc_indexer.files import sha256
    from idc_indexer.release.manifest import MANIFEST, release_lock
    from idc_indexer.release.verify import verify as run

    if not against and (accept or limits):
        raise UsageError("--accept and --limits are for what changed", "Give --against too.")
    if accept:
        click.get_current_context().with_resource(release_lock(release))  # until the command ends
    problems = run(release)
    document: dict[str, Any] = {"problems": [vars(problem) for problem in problems]}
    said = [str(problem) for problem in problems]
    bad = bool(problems)
    if against and problems:
        click.echo("what changed was not looked at: the release is not whole", err=True)
    elif against:
        from idc_indexer.diff import diff, open_inputs
        from idc_indexer.diff.regressions import check_regressions, load_limits
        from idc_indexer.publish.records import PUBLISHED

        allowed = load_limits(limits)
        with open_inputs(against, str(release), published_at or PUBLISHED) as sides:
            found = diff(*sides)
        findings = check_regressions(
            release, found, allowed, dict(one.partition("=")[::2] for one in "\n".join(accept).splitlines())
        )
        unseen = [table.name for table in found.tables if table.state == "unseen"]
        document |= {"findings": [vars(finding) for finding in findings], "not_compared": unseen}
        said += [
            f"{finding.name}: {finding.message}" + (f" (accepted: {finding.reason})" if finding.reason else "")
            for finding in findings
        ]
        bad = not all(finding.reason for finding in findings)
        if unseen:
            click.echo(f"not compared, for want of rows: {', '.join(unseen)}", err=True)
    if not bad:
        said.append(f"{release}: whole")
    show("Verification", said, document, as_json)
    # it changes with what was accepted
    set_outputs(manifest_sha256=sha256(release / MANIFEST))
    if bad:
        raise SystemExit(FOUND_PROBLEMS)


@main.command()
@release_argument
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder of the wheel.")
@click.option(
    "--exclude", multiple=True, metavar="INDEX", help="Index whose Parquet the wheel leaves out; may be repeated."
)
@published_option
def wheel(release: Path, out: Path, exclude: tuple[str, ...], published_at: str | None) -> None:
    """Build the data wheel idc-index-data from the release in DIR, which is verified first.

    It carries the Parquet of the indices whose schema says so, and schemas and queries of all. PyPI takes no
    file over 100 MB, so a larger wheel is refused; the next release may be larger, so near that there is a warning.

    \b
    Example:
      idc-indexer wheel release --out dist
    """
    from idc_indexer.publish.records import PUBLISHED
    from idc_indexer.publish.wheel import LIMIT, NEARLY, build_wheel

    made = build_wheel(release, out, exclude, published_at or PUBLISHED)
    if (size := made.stat().st_size) > NEARLY:
        click.echo(f"{made.name} has {size / 1e6:.1f} MB; PyPI takes {LIMIT / 1e6:.0f} MB", err=True)
    show("Data wheel", [str(made)])
