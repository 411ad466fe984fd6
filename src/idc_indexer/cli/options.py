"""What the commands share: the group they are in, how errors are shown, options, output."""

from __future__ import annotations

import io
import json
import math
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
import platformdirs

import idc_indexer
from idc_indexer.cli.github import as_markdown, summarize
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

    def main(self, *args: Any, **kwargs: Any) -> Any:
        for stream in (sys.stdout, sys.stderr):
            # On Windows, what is not a terminal gets a code page that lacks most letters.
            if isinstance(stream, io.TextIOWrapper) and not stream.isatty():
                stream.reconfigure(encoding="utf-8")
        return super().main(*args, **kwargs)

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


class Hours(click.FloatRange):
    """A range that NaN is not in, which compares with nothing."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        hours = super().convert(value, param, ctx)
        return self.fail(f"{value} is no number of hours.", param, ctx) if math.isnan(hours) else hours


def catalog_options(command: Command) -> Command:
    for name in ("schemas", "queries"):
        command = click.option(
            f"--{name}",
            multiple=True,
            type=click.Path(path_type=Path),
            show_envvar=True,
            help=f"Folder with {name} of indices of your own; may be repeated.",
        )(command)
    return command


def json_option(command: Command) -> Command:
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(command)


def cache_option(command: Command) -> Command:
    return click.option(
        "--cache-dir",
        type=click.Path(path_type=Path),
        default=lambda: platformdirs.user_cache_path("idc-indexer"),
        show_default="the user's cache folder",
        envvar="IDC_INDEXER_CACHE_DIR",
        show_envvar=True,
        help="Folder for what later builds use again: staged shards, extracts of prior releases, results of BigQuery.",
    )(command)


def export_options(command: Command) -> Command:
    """Options of whatever reads an export."""
    for option in (
        click.option(
            "--max-shard-age-gap",
            type=Hours(0, 100_000),
            default=6.0,
            show_default=True,
            help="How far apart in time the shards of one table may be.",
        ),
        click.option(
            "--exclude-shard",
            multiple=True,
            metavar="PATH",
            help="Shard not to read, such as idc_v25/dicom_all/000000005000.parquet; may be repeated.",
        ),
        click.option(
            "--threads",
            type=click.IntRange(1, 1024),
            help="Threads that queries use; one per processor when not given.",
        ),
        click.option("--memory-limit", default="6GB", show_default=True, help="Memory that queries may take."),
        cache_option,
        click.option(
            "--source",
            default=PUBLIC_EXPORT,
            show_default=True,
            show_envvar=True,
            help="Export to read: s3:// or gs:// or a folder that holds idc_vNN/<table>/*.parquet, or «sample».",
        ),
    ):
        command = option(command)
    return command


def markdown_option(command: Command) -> Command:
    return click.option("--markdown", "in_markdown", is_flag=True, help="Print the result as Markdown.")(command)


def release_argument(command: Command) -> Command:
    """DIR, a release, and the digest by which one is handed from one machine to the next."""
    command = click.option(
        "--manifest-sha256",
        metavar="SHA256",
        expose_value=False,
        callback=_expected,
        help="SHA-256 that manifest.json must have, which has those of all other files: it is this very release.",
    )(command)
    folder = click.Path(path_type=Path, exists=True, file_okay=False)
    return click.argument("release", type=folder, metavar="DIR", is_eager=True)(command)


def _expected(ctx: click.Context, _: click.Parameter, manifest_sha256: str | None) -> None:
    if manifest_sha256:
        from idc_indexer.release.manifest import check_manifest

        check_manifest(ctx.params["release"], manifest_sha256)


def published_option(command: Command) -> Command:
    return click.option(
        "--published-at",
        envvar="IDC_INDEXER_PUBLISHED_AT",
        show_envvar=True,
        metavar="URI",
        help="Where releases are published, if not by IDC itself.",
    )(command)


def engine_option(command: Command) -> Command:
    return click.option(
        "--engine",
        type=click.Choice(["duckdb", "bigquery"]),
        default="duckdb",
        show_default=True,
        show_envvar=True,
        help="Where the queries run.",
    )(command)


def bigquery_options(command: Command) -> Command:
    """Options that only --engine bigquery heeds."""
    price = click.option(
        "--price-per-tib",
        type=click.FloatRange(0),
        default=6.25,  # https://cloud.google.com/bigquery/pricing#on_demand_pricing, location US
        show_default=True,
        show_envvar=True,
        help="Price of 2^40 bytes billed, in dollars, for estimates: BigQuery's on-demand rate.",
    )
    return connection_options(price(command))


def connection_options(command: Command) -> Command:
    """Options of whatever asks BigQuery."""
    command = click.option(
        "--location", default="US", show_default=True, show_envvar=True, help="Where BigQuery has the tables."
    )(command)
    return click.option(
        "--project", show_envvar=True, metavar="PROJECT", help="Google Cloud project that pays for BigQuery."
    )(command)


def paying(project: str | None) -> str:
    if not project:
        raise UsageError(
            "BigQuery bills a Google Cloud project, and none is named", "Give yours with --project PROJECT."
        )
    return project


def show(
    title: str, lines: Sequence[str], document: Any = None, as_json: bool = False, in_markdown: bool = False
) -> None:
    """Print a result: its lines, or the document, or the lines as Markdown; and sum it up for GitHub.

    Args:
        title: what the lines are about, where they stand beside others.
    """
    markdown = as_markdown(title, lines)
    summarize(markdown)
    if as_json:
        print_json(document)
    elif in_markdown:
        click.echo(markdown, nl=False)
    else:
        for line in lines:
            click.echo(line)


def cost_line(cost: dict[str, float]) -> str:
    return f"{cost['bytes_billed']:,} bytes billed, ${cost['price_usd']:.4f}"


def print_json(document: Any) -> None:
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))
