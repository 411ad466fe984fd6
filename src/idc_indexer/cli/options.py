"""Options, each defined once. A decorator of several options hands the command one frozen dataclass.

Every option has a variable in the environment, `IDC_INDEXER_` and its name, which serves all commands.
"""

from __future__ import annotations

import functools
import math
import os
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import click

from idc_indexer.api.options import BigQuery, DuckDB, EngineOptions, OwnIndices
from idc_indexer.cli import completion
from idc_indexer.cli.output import Output

Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Command], Command]


class _Given(click.Parameter):
    """A parameter that refuses empty values and expands `~`, on the command line and in the environment alike.

    An empty path would mean the current folder, as in `--to "$TO"` without TO. A shell expands `~` only at the start
    of a word, not in `--cache-dir=~/cache` nor in the variables of a workflow. (An empty variable counts as not set:
    workflows cannot unset one.)
    """

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        if isinstance(value, str):
            value = self._given(ctx, value)
        elif isinstance(value, (list, tuple)):
            value = tuple(self._given(ctx, one) if isinstance(one, str) else one for one in value)
        return super().type_cast_value(ctx, value)

    def _given(self, ctx: click.Context, value: str) -> str:
        if not value.strip():
            raise click.BadParameter("the value is empty.", ctx, self)
        if value != "~" and not value.startswith(("~/", f"~{os.sep}")):
            return value
        expanded = os.path.expanduser(value)  # noqa: PTH111 -- it may be no path, and Path changes s3://
        if expanded == value:
            raise click.BadParameter(f"{value}: the system knows no home of this user.", ctx, self)
        return expanded


class Argument(_Given, click.Argument):
    """A positional argument."""


class Option(_Given, click.Option):
    """An option whose variable in the environment is named after it."""

    def __init__(self, *args: Any, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        name = max(self.opts, key=len).lstrip("-").replace("-", "_").upper()
        self.envvar = self.envvar or f"IDC_INDEXER_{name}"
        self.show_envvar = True


argument = functools.partial(click.argument, cls=Argument)
option = functools.partial(click.option, cls=Option)


class _Hours(click.FloatRange):
    """A range without NaN, which compares with nothing."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        hours = super().convert(value, param, ctx)
        return self.fail(f"{value} is no number of hours.", param, ctx) if math.isnan(hours) else hours


_UNITS = {"": 1, **{f"{p}B": 1000**n for n, p in enumerate(("", "K", "M", "G", "T"))}}
_UNITS |= {f"{p}IB": 1024**n for n, p in enumerate("KMGT", 1)}
_BYTES = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*([KMGT]?I?B|)", re.IGNORECASE | re.ASCII)


class Bytes(click.ParamType[int]):
    """A number of bytes, such as 20MB, 1.5 GB, 512MiB or 1000000."""

    name = "bytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = _BYTES.fullmatch(str(value).strip())
        if not found or found[2].upper() not in _UNITS:
            self.fail(f"{value!r} is no number of bytes: write it like 20MB, 1.5GB or 512MiB.", param, ctx)
        return int(float(found[1]) * _UNITS[found[2].upper()])


class Lines(click.ParamType[str]):
    """Text; a variable in the environment may have several lines, a value in each."""

    name = "text"

    def split_envvar_value(self, rv: str) -> list[str]:
        return rv.splitlines()


def gather(name: str, make: Callable[..., Any], *options: Callable[[Any], Any]) -> Decorator[Any]:
    """A decorator that adds options, and passes what `make` makes of their values to the command as `name`."""

    def decorate(command: Any) -> Any:
        @functools.wraps(command)
        def gathered(**values: Any) -> Any:
            made = make(**{key: values.pop(key) for key in keys})
            return command(**values, **{name: made})

        before = len(getattr(gathered, "__click_params__", ()))
        for one in reversed(options):
            one(gathered)
        added: list[click.Parameter] = gathered.__click_params__[before:]  # type: ignore[attr-defined]  # click sets it
        keys = [parameter.name for parameter in added]
        return gathered

    return decorate


cache_option = option(
    "--cache-dir",
    type=click.Path(path_type=Path),
    show_default="the user's cache folder",
    help="Folder for staged shards, extracts of prior releases and results of BigQuery, which later builds reuse.",
)

_ENGINE = {
    "engine": option(
        "--engine",
        type=click.Choice(["duckdb", "bigquery"]),
        default="duckdb",
        show_default=True,
        help="Where the queries run.",
    ),
    "source": option(
        "--source",
        default=DuckDB.source,
        show_default=True,
        shell_complete=completion.paths,
        help="Export to read: s3:// or gs:// or a folder that holds idc_vNN/<table>/*.parquet, or `sample`.",
    ),
    "cache_dir": cache_option,
    "memory_limit": option(
        "--memory-limit",
        default=DuckDB.memory_limit,
        show_default=True,
        metavar="BYTES",
        help="Memory that queries may take, such as 6GB.",
    ),
    "threads": option(
        "--threads",
        type=click.IntRange(1, 1024),
        help="Threads that queries use, at most; one per processor when not given.",
    ),
    "exclude_shard": option(
        "--exclude-shard",
        multiple=True,
        metavar="PATH",
        help="Shard not to read, such as idc_v25/dicom_all/000000005000.parquet; may be repeated.",
    ),
    "max_shard_age_gap": option(
        "--max-shard-age-gap",
        type=_Hours(0, 100_000),
        default=DuckDB.max_shard_age_gap,
        show_default=True,
        metavar="HOURS",
        help="How far apart in time the shards of one table may be.",
    ),
    "allow_row_count_mismatch": option(
        "--allow-row-count-mismatch",
        is_flag=True,
        help="Accept source tables with one row per instance whose numbers of rows differ.",
    ),
    "unproven": option(
        "--unproven",
        is_flag=True,
        help="Translate for DuckDB also SQL that no test has compared with GoogleSQL; the manifest lists it.",
    ),
    "offline": option("--offline", is_flag=True, help="Send no requests: build from what was staged before."),
    "project": option("--project", metavar="PROJECT", help="Google Cloud project that pays for BigQuery."),
    "location": option(
        "--location", default=BigQuery.location, show_default=True, help="Where BigQuery has the tables."
    ),
    "price_per_tib": option(
        "--price-per-tib",
        type=click.FloatRange(0),
        default=BigQuery.price_per_tib,
        show_default=True,
        help="Price of 2^40 bytes billed, in dollars, for estimates: BigQuery's on-demand rate.",
    ),
    "max_bytes_billed": option(
        "--max-bytes-billed",
        type=Bytes(),
        metavar="BYTES",
        help="What BigQuery may bill for the whole build, such as 500GB; a build that would bill more does not start.",
    ),
}


def engine_options(*names: str) -> Decorator[Any]:
    """--engine and those of its options that have these names, or all: the command gets one `engine`."""
    chosen = {"engine": _ENGINE["engine"]} | {name: _ENGINE[name] for name in names or _ENGINE}
    return gather("engine", _engine, *chosen.values())


def _engine(engine: str, **values: Any) -> EngineOptions:
    kind: type[EngineOptions] = DuckDB if engine == "duckdb" else BigQuery
    known = {field.name for field in fields(kind)}
    return kind(**{name: value for name, value in values.items() if name in known})


export_options = gather(
    "export",
    DuckDB,
    *(
        _ENGINE[name]
        for name in (
            *("source", "cache_dir", "memory_limit", "threads", "exclude_shard", "max_shard_age_gap"),
            "allow_row_count_mismatch",
        )
    ),
)

own_options = gather(
    "own",
    OwnIndices,
    *(
        option(
            f"--{name}",
            multiple=True,
            type=click.Path(path_type=Path),
            help=f"Folder with {name} of indices of your own; may be repeated.",
        )
        for name in ("queries", "schemas")
    ),
)


def output_options(json: str = "Print the result as JSON.", markdown: str = "") -> Decorator[Any]:
    """--json, and --markdown where it has help: the command gets one `output`."""
    forms = {"json": json} | ({"markdown": markdown} if markdown else {})
    return gather("output", Output, *(option(f"--{name}", is_flag=True, help=text) for name, text in forms.items()))


MARKDOWN = "Print the result as Markdown."

INDICES_VARIABLE = "IDC_INDEXER_INDICES"

indices_argument = argument(
    "indices",
    nargs=-1,
    metavar="[INDEX]...",
    envvar=INDICES_VARIABLE,
    shell_complete=completion.indices,
)


def idc_version_option(**attributes: Any) -> Decorator[Any]:
    """--idc-version."""
    return option("--idc-version", shell_complete=completion.idc_releases, **attributes)


def release_argument(command: Command) -> Command:
    """DIR, a release, and the digest by which one machine hands it to the next."""
    folder = click.Path(path_type=Path, exists=True, file_okay=False)
    return argument("release", type=folder, metavar="DIR", is_eager=True)(command)


def _check_manifest(ctx: click.Context, _: click.Parameter, manifest_sha256: str | None) -> None:
    if manifest_sha256:
        from idc_indexer.release.manifest import check_manifest

        check_manifest(ctx.params["release"], manifest_sha256)


manifest_option = option(
    "--manifest-sha256",
    metavar="SHA256",
    expose_value=False,
    callback=_check_manifest,
    help="Fail unless manifest.json has this SHA-256; it covers every other file.",
)

against_option = option(
    "--against",
    metavar="OLD",
    shell_complete=completion.paths,
    help="Prior release, in any form that `diff` takes.",
)

limits_option = option(
    "--limits", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Your own limits for changes."
)

published_option = option(
    "--published-at", metavar="URI", help="Where releases are published; by default, IDC's public address."
)

history_options = gather(
    "history",
    dict,
    option(
        "--history",
        metavar="RELEASE",
        help="Older release, in any form that `diff` takes, or `none`: take the rows of prior releases from its "
        "series_history instead of reading them.",
    ),
    published_option,
)

store_option = option(
    "--to",
    required=True,
    metavar="URI",
    shell_complete=completion.paths,
    help="Where releases are published: gs://bucket[/prefix], or a folder.",
)

dry_run_option = option("--dry-run", is_flag=True, help="Check everything, print what would be done, and stop.")

promotion_options = gather(
    "allowed",
    dict,
    option("--rollback", is_flag=True, help="Allow `current`, or a mirror, to move back to an older version."),
    option("--allow-withdrawn", is_flag=True, help="Allow a version that is withdrawn."),
    option("--replace-unrecorded", is_flag=True, help="Allow to lose files of `current` that no record explains."),
)
