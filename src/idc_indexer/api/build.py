"""Build and stage: from a source to a release folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from idc_indexer import files
from idc_indexer.api.history import find_history_for
from idc_indexer.api.options import AnyPath, BigQuery, DuckDB, EngineOptions, OwnIndices
from idc_indexer.engines import Engine
from idc_indexer.errors import UsageError
from idc_indexer.files import temporary_folder
from idc_indexer.progress import NullListener, ProgressListener
from idc_indexer.release.build import Plan, build, check_request, dry_run, incomplete, plan_build
from idc_indexer.release.derived import CSV, GDC
from idc_indexer.release.gdc import GDC_URL, Gdc
from idc_indexer.release.history import HISTORY_FILE, SERIES_HISTORY
from idc_indexer.release.manifest import PUBLISHED, Release, idc_version_of, other_writer
from idc_indexer.release.parquet import WRITER


@dataclass(frozen=True)
class DryRun:
    """What a build will take.

    Attributes:
        indices: with BigQuery, by index: bytes processed, bytes billed, price in dollars.
        tables: with DuckDB, by source table: shards to fetch, bytes over the network, bytes on disk; 0 of a table that
            is on this machine.
    """

    indices: Mapping[str, Mapping[str, float]]
    tables: Mapping[str, Mapping[str, int]]

    @property
    def total(self) -> Mapping[str, float]:
        """The sums over all indices, or over all tables."""
        found: list[Mapping[str, float]] = [*self.indices.values(), *self.tables.values()]
        return {key: sum(one[key] for one in found) for key in (found[0] if found else ())}

    def to_document(self) -> dict[str, Any]:
        """For --json."""
        return {key: value for key, value in vars(self).items() if value} | {"total": self.total}


@dataclass(frozen=True)
class BuildPlan:
    """A build that can start. `plan_release` makes it."""

    plan: Plan
    engine: Engine
    gdc: Gdc
    listener: ProgressListener
    price_per_tib: float | None

    def dry_run(self) -> DryRun:
        """Check everything that a build checks before it starts, and estimate what it will take.

        Raises:
            IndexerError: the build would stop with this message.
        """
        made = dry_run(self.plan, self.engine)
        if self.price_per_tib is None:
            return DryRun({}, {name: asdict(one) for name, one in made.fetches.items()})
        return DryRun({name: one.to_document(self.price_per_tib) for name, one in made.estimates.items()}, {})

    def build(self) -> Release:
        """Build the release.

        Raises:
            IndexerError: it could not be built; the target is as it was before.
        """
        return build(self.plan, self.engine, self.listener, self.gdc)


def plan_release(
    *indices: str,
    out: AnyPath,
    release_version: str | None = None,
    idc_version: int | None = None,
    rebuild_of: str | None = None,
    engine: EngineOptions = DuckDB(),
    own: OwnIndices = OwnIndices(),
    gdc_url: str | None = None,
    history: AnyPath | None = None,
    published_at: str | None = None,
    csv: bool = False,
    force: bool = False,
    listener: ProgressListener | None = None,
) -> BuildPlan:
    """Decide what a build will do; `.dry_run()` checks it, `.build()` builds.

    Args: those of `build_release`.

    Raises:
        UsageError: an unknown index, a malformed version, a target that may not be replaced, no project.
        IndexerError: the source lacks the release, an index cannot be built for it, or the history cannot be used.
    """
    out = Path(out)
    catalog, listener = own.catalog(), listener or NullListener()
    if rebuild_of:
        from idc_indexer.publish.release_source import read_release

        published = read_release(rebuild_of)
        release_version = release_version or published.release_version
        csv = csv or (not indices and CSV in {entry.name for entry in published.derived})
        left_out = {GDC} if not gdc_url else set()
        indices = _published_tables(published, indices, left_out | ({SERIES_HISTORY} if history is None else set()))
        if reason := other_writer(published, WRITER):
            listener.message(f"warning: {reason}")
    if release_version is None:
        raise UsageError(
            "Missing option '--release-version'", "Give it, or --rebuild-of URL to build a published one again."
        )
    if idc_version is None:
        idc_version = idc_version_of(release_version)
    record = _record(engine, out)
    check_request(catalog, indices, idc_version, release_version, out, force, record)
    # before the query is written out for each prior release
    worker = _engine(engine, idc_version, incomplete(out) / "spill", listener)
    plan = plan_build(
        *(catalog, indices, idc_version, release_version, out, force),
        gdc=bool(gdc_url),
        csv=csv,
        history=history is not None,
        record=record,
        published_at=published_at or PUBLISHED,
    )
    place = plan.incomplete / HISTORY_FILE
    sample = isinstance(engine, DuckDB) and engine.reads_sample
    found = find_history_for(plan.indices, history, published_at, catalog, place, listener, sample)
    plan = replace(plan, history=found)
    price = engine.price_per_tib if isinstance(engine, BigQuery) else None
    return BuildPlan(plan, worker, Gdc(gdc_url or GDC_URL), listener, price)


def _published_tables(published: Release, names: Sequence[str], left_out: Set[str]) -> tuple[str, ...]:
    """The tables to build again: these, or all that were published but those that take a service or a history."""
    tables = [entry.name for entry in published.entries if entry.name != CSV]
    if unknown := sorted(set(names) - set(tables)):
        raise UsageError(
            f"{published.release_version} was published without {', '.join(unknown)}", f"It has {', '.join(tables)}."
        )
    return tuple(names or (table for table in tables if table not in left_out))


def build_release(
    *indices: str,
    out: AnyPath,
    release_version: str | None = None,
    idc_version: int | None = None,
    rebuild_of: str | None = None,
    engine: EngineOptions = DuckDB(),
    own: OwnIndices = OwnIndices(),
    gdc_url: str | None = None,
    history: AnyPath | None = None,
    published_at: str | None = None,
    csv: bool = False,
    force: bool = False,
    listener: ProgressListener | None = None,
) -> Release:
    """Build a release. To continue an interrupted build, call it again.

    Args:
        indices: names of indices and derived tables; all when none is named, but gdc_idc_mapping only with `gdc_url`.
        out: folder that becomes the release.
        release_version: version of the data release, such as `25.0.5`.
        idc_version: IDC release, such as 25; the first number of `release_version` when None.
        rebuild_of: address of a published release: its tables are built, or those of them that are named, and its
            version is taken when `release_version` is None.
        engine: `DuckDB(...)` or `BigQuery(...)`.
        gdc_url: address of the GDC API; the public one when None.
        history: a release of an older IDC release, in any form that `diff_releases` takes, whose series_history has the
            rows of prior releases, so that they are not read; `"none"` to read them. With either, a build of all
            indices has series_history too.
        published_at: where versions such as `24.0.0` are published, and this one will be, which its descriptions say;
            at IDC when None.
        csv: write idc_index as `idc_index.csv.zip` too.
        force: replace the release that is at `out`, once the new one is complete.
        listener: receives progress.

    Returns:
        The release: path, version, and for each index its files, digests and number of rows.

    Raises:
        UsageError: an unknown index, one that `rebuild_of` does not have, a malformed version, a target that may not be
            replaced, no project.
        IndexerError: it could not be built; the target is as it was before.
    """
    return plan_release(
        *indices,
        out=out,
        release_version=release_version,
        idc_version=idc_version,
        rebuild_of=rebuild_of,
        engine=engine,
        own=own,
        gdc_url=gdc_url,
        history=history,
        published_at=published_at,
        csv=csv,
        force=force,
        listener=listener,
    ).build()


def _record(options: EngineOptions, out: Path) -> Path:
    """Where the cache has what a finished build at a target depended on."""
    from idc_indexer.cache import Cache

    cache = Cache.at(None if options.cache_dir is None else Path(options.cache_dir))
    return cache.builds / f"{sha256(str(files.absolute(out)).encode()).hexdigest()[:32]}.json"


def _engine(options: EngineOptions, idc_version: int, temporary: Path, listener: ProgressListener) -> Engine:
    if isinstance(options, DuckDB):
        from idc_indexer.engines.duckdb import DuckDBEngine

        export = options.export(listener)
        allowed = options.allow_row_count_mismatch
        engine = DuckDBEngine(
            export, temporary, options.threads, options.memory_limit, listener, allowed, options.unproven
        )
        export.require(idc_version)
        return engine
    connection = options.connect()
    from idc_indexer.cache import default_root
    from idc_indexer.engines.bigquery import BigQueryEngine

    cache_dir = default_root() if options.cache_dir is None else Path(options.cache_dir)
    allowed = options.allow_row_count_mismatch
    return BigQueryEngine(connection, cache_dir, options.max_bytes_billed, listener, allowed)


def stage_export(
    *indices: str,
    idc_version: int,
    engine: DuckDB = DuckDB(),
    own: OwnIndices = OwnIndices(),
    history: AnyPath | None = None,
    published_at: str | None = None,
    dry_run: bool = False,
    listener: ProgressListener | None = None,
) -> None:
    """Download what the named indices, or all of them, read of an export, so that an offline build can follow.

    Args:
        idc_version: IDC release, such as 25.
        history, published_at: as for `build_release`; prior releases that the history has are not downloaded.
        dry_run: check everything, tell the listener what would be downloaded, and stop.
        listener: receives progress.

    Raises:
        UsageError: an unknown index, or `source` is not the address of an export.
        IndexerError: the source lacks the release or a column, or cannot be read. What was staged is reused.
    """
    listener, catalog = listener or NullListener(), own.catalog()
    chosen = catalog.select(set(indices), () if history is None else {SERIES_HISTORY})
    with temporary_folder() as temporary:
        worker = _engine(engine, idc_version, temporary, listener)
        pinned = [index.for_release(idc_version) for index in chosen]
        place = temporary / HISTORY_FILE
        found = find_history_for(pinned, history, published_at, catalog, place, listener, engine.reads_sample)
        plan = worker.plan(pinned, found)
        if not dry_run:
            with plan.running(pinned):
                listener.message("all tables are staged")
