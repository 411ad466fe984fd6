"""The command line: options, output, exit codes. A command parses, calls the library, prints.

Exit codes: 0 done, 1 could not, 2 usage, 3 a check ran and found problems. Results go to stdout,
everything else to stderr.
"""

from __future__ import annotations

import json
import math
import textwrap
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click
import platformdirs

import idc_indexer
from idc_indexer.errors import IndexerError, UsageError

Command = TypeVar("Command", bound=Callable[..., Any])

PUBLIC_EXPORT = "s3://idc-open-metadata/bigquery_export"
FOUND_PROBLEMS = 3


class _Failure(click.ClickException):
    """A library error as click shows it."""

    def __init__(self, error: IndexerError) -> None:
        super().__init__(str(error))
        self.exit_code = 2 if isinstance(error, UsageError) else 1  # type: ignore[misc]  # click means it to be set


class _Commands(click.Group):
    """The one place where the library's errors become messages and exit codes."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except IndexerError as error:
            if ctx.params.get("verbose"):
                traceback.print_exc()
            raise _Failure(error) from error


@click.group(
    cls=_Commands,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": "IDC_INDEXER",
        "max_content_width": 100,
    },
)
@click.option("-v", "--verbose", is_flag=True, help="Show a traceback when something goes wrong.")
@click.version_option(idc_indexer.__version__)
def main(verbose: bool) -> None:
    """Build and check the indices of NCI Imaging Data Commons."""


class _Hours(click.FloatRange):
    """A range that NaN is not in, which compares with nothing."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        hours = super().convert(value, param, ctx)
        return self.fail(f"{value} is no number of hours.", param, ctx) if math.isnan(hours) else hours


def _catalog_options(command: Command) -> Command:
    for name in ("schemas", "queries"):
        command = click.option(
            f"--{name}",
            multiple=True,
            type=click.Path(path_type=Path),
            show_envvar=True,
            help=f"Folder with {name} of indices of your own; may be repeated.",
        )(command)
    return command


def _json_option(command: Command) -> Command:
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(command)


def _engine_option(command: Command) -> Command:
    return click.option(
        "--engine",
        type=click.Choice(["duckdb", "bigquery"]),
        default="duckdb",
        show_default=True,
        show_envvar=True,
        help="Where the queries run.",
    )(command)


def _bigquery_options(command: Command) -> Command:
    """Options that only --engine bigquery heeds."""
    price = click.option(
        "--price-per-tib",
        type=click.FloatRange(0),
        default=6.25,  # https://cloud.google.com/bigquery/pricing#on_demand_pricing, location US
        show_default=True,
        show_envvar=True,
        help="Price of 2^40 bytes billed, in dollars, for estimates: BigQuery's on-demand rate.",
    )
    return _connection_options(price(command))


def _connection_options(command: Command) -> Command:
    """Options of whatever asks BigQuery."""
    command = click.option(
        "--location", default="US", show_default=True, show_envvar=True, help="Where BigQuery has the tables."
    )(command)
    return click.option(
        "--project", show_envvar=True, metavar="PROJECT", help="Google Cloud project that pays for BigQuery."
    )(command)


@main.command("list")
@_catalog_options
@_json_option
def list_indices(queries: tuple[Path, ...], schemas: tuple[Path, ...], as_json: bool) -> None:
    """List the indices: what their rows are, key, columns.

    \b
    Example:
      idc-indexer list
    """
    from idc_indexer.catalog import Catalog

    catalog = Catalog(queries, schemas)
    indices = {name: index.schema for name, index in catalog.indices.items()}
    tables = indices | {name: supplement.schema for name, supplement in catalog.supplements.items()}
    if as_json:
        _print_json({name: schema.to_document() for name, schema in tables.items()})
        return
    for name, schema in tables.items():
        where = "in the wheel" if schema.in_wheel else "beside the wheel"
        made = ", made from idc_index" if name in catalog.supplements else ""
        click.echo(f"{name}: {len(schema.columns)} columns, key {', '.join(schema.primary_key)}, {where}{made}")
        click.echo(textwrap.indent(textwrap.fill(schema.description, 96), "    "))


@main.command()
@click.argument("index")
@_engine_option
@click.option(
    "--idc-version", type=click.IntRange(0), default=0, help="IDC release; the newest, not pinned, when not given."
)
@_bigquery_options
@_catalog_options
@_json_option
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
    if index in catalog.supplements:
        raise UsageError(f"{index} has no query: it is made from idc_index", "See `idc-indexer explain idc_index`.")
    (chosen,) = catalog.select([index])
    pinned = chosen.at(idc_version)
    statements = [pinned.statement.text]
    if engine == "duckdb":
        translation = to_duckdb(pinned.statement, pinned.where)
        statements = [reduction.sql for reduction in translation.reductions] + [translation.sql]
    reads: dict[str, list[str]] = {}
    for leaf in sorted(pinned.statement.leaves, key=lambda leaf: (leaf.table, leaf.path)):
        reads.setdefault(str(leaf.table), []).append(leaf.path)
    costs = None
    if engine == "bigquery" and project:
        from idc_indexer.engines.bigquery import BigQueryEngine, connect

        asked = BigQueryEngine(connect(project, location))
        asked.prepare([pinned])
        costs = asked.estimates[index].to_document(price_per_tib)
    if as_json:
        document = {"index": index, "engine": engine, "sql": statements, "reads": reads}
        _print_json(document | ({"costs": costs} if costs else {}))
        return
    click.echo(";\n\n".join(statement.strip() for statement in statements))
    for table, columns in reads.items():
        click.echo(f"-- reads {table}:")
        click.echo(textwrap.fill(", ".join(columns), 96, initial_indent="--   ", subsequent_indent="--   "))
    if costs:
        click.echo(f"-- costs: {_cost(costs)}")


@main.command()
@_engine_option
@click.option(
    "--source", default=PUBLIC_EXPORT, show_default=True, show_envvar=True, help="Export to look at, with duckdb."
)
@_connection_options
@_json_option
def releases(engine: str, source: str, project: str | None, location: str, as_json: bool) -> None:
    """List the IDC releases that a source has.

    \b
    Example:
      idc-indexer releases --source sample
    """
    if engine == "bigquery":
        from idc_indexer.engines.bigquery import connect
        from idc_indexer.engines.bigquery import releases as of_bigquery

        found = of_bigquery(connect(_paying(project), location))
    else:
        from idc_indexer.exports import open_export

        found = open_export(source).releases()
    if not found:
        raise IndexerError("there is no IDC release", "Look at another --source.")
    if as_json:
        _print_json({"releases": found, "newest": found[-1]})
        return
    for release in found:
        click.echo(f"{release} (newest)" if release == found[-1] else str(release))


@main.command()
@click.argument("indices", nargs=-1, metavar="[INDEX]...")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder that becomes the release.")
@click.option(
    "--idc-version", type=click.IntRange(1), required=True, help="IDC release to build the indices of, such as 25."
)
@click.option("--release-version", required=True, help="Version of the data release, such as 25.0.5.")
@_engine_option
@click.option(
    "--source",
    default=PUBLIC_EXPORT,
    show_default=True,
    show_envvar=True,
    help="Export to build from: a folder that holds idc_vNN/<table>/*.parquet, or «sample».",
)
@click.option(
    "--cache-dir",
    type=click.Path(path_type=Path),
    default=lambda: platformdirs.user_cache_path("idc-indexer"),
    show_default="the user's cache folder",
    show_envvar=True,
    help="Folder for what later builds use again.",
)
@click.option("--memory-limit", default="4GB", show_default=True, help="Memory that queries may take.")
@click.option(
    "--threads", type=click.IntRange(1, 1024), help="Threads that queries use; one per processor when not given."
)
@click.option(
    "--leave-out",
    multiple=True,
    metavar="PATH",
    help="Shard not to read, such as idc_v25/dicom_all/000000005000.parquet; may be repeated.",
)
@click.option(
    "--batch-hours",
    type=_Hours(0, 100_000),
    default=6.0,
    show_default=True,
    help="How far apart in time the shards of one table may be.",
)
@click.option(
    "--gdc-url",
    envvar="IDC_INDEXER_GDC_URL",
    show_envvar=True,
    metavar="URL",
    help="Address of the GDC API, such as https://api.gdc.cancer.gov, which is taken when gdc_idc_mapping is named.",
)
@_bigquery_options
@click.option(
    "--max-bytes-billed",
    type=click.IntRange(0),
    show_envvar=True,
    help="Bytes that BigQuery may bill for the whole build; beyond that it is not started.",
)
@click.option("--dry-run", is_flag=True, help="Check everything, show what BigQuery will bill, and stop.")
@click.option("--csv", is_flag=True, help="Write idc_index as idc_index.csv.zip too.")
@click.option("--force", is_flag=True, help="Replace the release that is at --out.")
@_catalog_options
@_json_option
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
    from idc_indexer.build import dry_run as check
    from idc_indexer.build import plan_build
    from idc_indexer.catalog import Catalog
    from idc_indexer.engines import Engine
    from idc_indexer.exports import open_export
    from idc_indexer.gdc import GDC_URL, Gdc

    export = open_export(source, leave_out, timedelta(hours=batch_hours), idc_version) if engine == "duckdb" else None
    gdc = Gdc(gdc_url or GDC_URL)
    plan = plan_build(
        Catalog(queries, schemas), indices, idc_version, release_version, out, force, gdc=bool(gdc_url), csv=csv
    )
    worker: Engine
    if export is not None:
        from idc_indexer.engines.duckdb import DuckDBEngine

        worker = DuckDBEngine(export, cache_dir, plan.incomplete / "spill", threads, memory_limit)
        estimates = {}
    else:
        from idc_indexer.engines.bigquery import BigQueryEngine, connect

        say = partial(click.echo, err=True)
        worker = asked = BigQueryEngine(connect(_paying(project), location), max_bytes_billed, say)
        estimates = asked.estimates
    if dry_run:
        check(plan, worker)
        _print_costs({name: estimate.to_document(price_per_tib) for name, estimate in estimates.items()}, as_json)
        return
    with _progress() as report:
        release = run(plan, worker, report, gdc)
    if not (indices or gdc_url):
        click.echo(f"without gdc_idc_mapping: for it, give --gdc-url {GDC_URL}", err=True)
    if as_json:
        _print_json(json.loads(release.manifest()))
        return
    for entry in release.entries:
        data = entry.files[0]
        click.echo(f"{data.name}: {entry.rows:,} rows, {data.bytes:,} bytes, sha256 {data.sha256}")


@main.command()
@click.argument("release", type=click.Path(path_type=Path, exists=True, file_okay=False), metavar="DIR")
@_json_option
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
        _print_json({"problems": [vars(problem) for problem in problems]})
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


def _store_option(command: Command) -> Command:
    return click.option(
        "--to", required=True, metavar="URI", help="Where releases are published: gs://bucket[/prefix], or a folder."
    )(command)


def _dry_run_option(command: Command) -> Command:
    return click.option("--dry-run", is_flag=True, help="Print what would be done; write nothing.")(command)


def _rollback_option(command: Command) -> Command:
    return click.option("--rollback", is_flag=True, help="Let current become older than it is.")(command)


@main.command()
@click.argument("release", type=click.Path(path_type=Path, exists=True, file_okay=False), metavar="DIR")
@_store_option
@click.option("--promote", "also_promote", is_flag=True, help="Make it current too.")
@_rollback_option
@_dry_run_option
@_json_option
def publish(release: Path, to: str, also_promote: bool, rollback: bool, dry_run: bool, as_json: bool) -> None:
    """Publish the release in DIR as <version>/release_artifacts/, after verifying it.

    A published version never changes: what is there already with the same bytes is kept, with other bytes it is an
    error. What was interrupted is completed by the same command.

    \b
    Example:
      idc-indexer publish release --to published
    """
    from idc_indexer.publish import publish as run
    from idc_indexer.release import Release
    from idc_indexer.stores import open_store

    if rollback and not also_promote:
        raise UsageError("--rollback is for what becomes current", "Give --promote too.")
    store = open_store(to)
    steps = {"publish": run(release, store, dry_run=dry_run)}
    version = Release.open(release).release_version
    if also_promote and not dry_run:
        from idc_indexer.promote import promote

        steps["promote"] = promote(version, store, rollback=rollback)
    _print_steps(steps, version, dry_run, as_json)
    if also_promote and dry_run:
        click.echo("what --promote would do is known when the version is published", err=True)


@main.command()
@click.argument("version")
@_store_option
@_rollback_option
@_dry_run_option
@_json_option
def promote(version: str, to: str, rollback: bool, dry_run: bool, as_json: bool) -> None:
    """Make current/release_artifacts/ equal to the published VERSION.

    Readers find every file whole at every moment. What was interrupted is completed by the same command. An older
    version is the way back, with --rollback.

    \b
    Example:
      idc-indexer promote 25.0.0 --to published
    """
    from idc_indexer.promote import promote as run
    from idc_indexer.stores import open_store

    steps = {"promote": run(version, open_store(to), rollback=rollback, dry_run=dry_run)}
    _print_steps(steps, version, dry_run, as_json)


@main.command()
@_store_option
@_json_option
def status(to: str, as_json: bool) -> None:
    """Print the versions that are published, which of them is current, and whether all is whole.

    Exits with 3 when current is not equal to a published version, or a published version is damaged.

    \b
    Example:
      idc-indexer status --to published
    """
    from idc_indexer.status import status as run
    from idc_indexer.stores import open_store

    found = run(open_store(to))
    if as_json:
        _print_json(found.to_document())
    else:
        for version in found.versions:
            click.echo(f"{version.version}: {version.state}")
            for name, problem in version.problems.items():
                click.echo(f"    {name} {problem}")
        how = "unfinished: promote it again" if found.promoting else "not whole" if found.problems else "whole"
        click.echo(f"current: {found.current}, {how}" if found.current else "current: no version was promoted")
        for name, problem in found.problems.items():
            click.echo(f"    {name} {problem}")
    if not found.whole:
        raise SystemExit(FOUND_PROBLEMS)


@main.command()
@click.argument("url")
@click.option("--deep", is_flag=True, help="Download every file whole, and compare its SHA-256.")
@_json_option
def check(url: str, deep: bool, as_json: bool) -> None:
    """Check what is published at URL as its readers see it: over HTTP, without credentials.

    URL is the folder of the files, such as .../current/release_artifacts/. Every file of its manifest is asked
    for: public read, size, content type, cache headers, range requests, cross-origin requests; and what is small,
    or with --deep everything, is compared with its SHA-256.
    Prints one line for each problem and exits with 3 when there are any.

    \b
    Example:
      idc-indexer check https://storage.googleapis.com/idc-index-data-artifacts/current/release_artifacts/
    """
    from idc_indexer.check import check as run

    problems = run(url, deep)
    if as_json:
        _print_json({"problems": [vars(problem) for problem in problems]})
    else:
        for problem in problems:
            click.echo(str(problem))
        if not problems:
            click.echo(f"{url}: well")
    if problems:
        raise SystemExit(FOUND_PROBLEMS)


@main.group()
def bucket() -> None:
    """Set up a bucket for publishing."""


@bucket.command("setup")
@click.option("--to", required=True, metavar="URI", help="The bucket: gs://bucket.")
@click.option("--apply", "apply_it", is_flag=True, help="Set what is missing; without it, it is only shown.")
@_json_option
def bucket_setup(to: str, apply_it: bool, as_json: bool) -> None:
    """Show, and with --apply set, what readers need: public read, cross-origin requests, uniform access.

    Nothing else is changed. Exits with 3 when something is missing and was not set.

    \b
    Example:
      idc-indexer bucket setup --to gs://idc-index-data-artifacts --apply
    """
    from idc_indexer.bucket import setup

    settings = setup(to, apply_it)
    if as_json:
        _print_json([vars(setting) for setting in settings])
    else:
        for setting in settings:
            state = "set" if setting.good else "set now" if apply_it else f"missing: {setting.change}"
            click.echo(f"{setting.name}: {state}")
    if not apply_it and not all(setting.good for setting in settings):
        raise SystemExit(FOUND_PROBLEMS)


def _print_steps(steps: dict[str, Any], version: str, dry_run: bool, as_json: bool) -> None:
    """What was done with each object, and in all."""
    if as_json:
        done = {command: [vars(step) for step in of] for command, of in steps.items()}
        _print_json({"version": version, "dry_run": dry_run, **done})
        return
    for command, of in steps.items():
        changed = [step for step in of if step.action != "keep"]
        for step in changed:
            click.echo(f"{step.action} {step.name}: {step.bytes:,} bytes")
        written = sum(step.bytes for step in changed if step.action != "remove")
        counts = {
            action: [step.action for step in of].count(action) for action in ("create", "replace", "remove", "keep")
        }
        summary = ", ".join(
            f"{count} to {action}" if dry_run else f"{action} {count}" for action, count in counts.items()
        )
        click.echo(f"{command} {version}{' (dry run)' if dry_run else ''}: {summary}; {written:,} bytes")


def _paying(project: str | None) -> str:
    if not project:
        raise UsageError(
            "BigQuery bills a Google Cloud project, and none is named", "Give yours with --project PROJECT."
        )
    return project


def _print_costs(costs: dict[str, dict[str, float]], as_json: bool) -> None:
    """What a build will cost: a line for each index, and the total. Nothing where the engine asks for no money."""
    total = {key: sum(cost[key] for cost in costs.values()) for key in ("bytes_processed", "bytes_billed", "price_usd")}
    if as_json:
        _print_json({"indices": costs, "total": total})
        return
    for name, cost in costs.items():
        click.echo(f"{name}: {_cost(cost)}")
    click.echo(f"total: {_cost(total)}")


def _cost(cost: dict[str, float]) -> str:
    return f"{cost['bytes_billed']:,} bytes billed, ${cost['price_usd']:.4f}"


def _print_json(document: Any) -> None:
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def _progress() -> AbstractContextManager[Callable[[str, str, int], None]]:
    """Progress on stderr: a live line on a terminal, one plain line a step elsewhere."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:

        def plain(index: str, step: str, rows: int) -> None:
            if step != "building" or not rows:
                click.echo(_step(index, step, rows), err=True)

        return nullcontext(plain)
    return _Live(console)


def _step(index: str, step: str, rows: int) -> str:
    return f"{step} {index}".strip() + (f": {rows:,} rows" if rows else "")


class _Live:
    """A spinner with what is going on; finished indices stay above it."""

    def __init__(self, console: Any) -> None:
        self._console = console
        self._status = console.status("starting")

    def __enter__(self) -> Callable[[str, str, int], None]:
        self._status.start()
        return self._report

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def _report(self, index: str, step: str, rows: int) -> None:
        if step in ("done", "kept"):
            self._console.print(_step(index, step, rows), highlight=False)
        else:
            self._status.update(_step(index, step, rows))
