"""Build and stage: from a source to a release folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from idc_indexer.api.options import AnyPath, BigQuery, DuckDB, EngineOptions, OwnIndices
from idc_indexer.engines import Engine
from idc_indexer.errors import UsageError
from idc_indexer.files import temporary_folder
from idc_indexer.progress import NullListener, ProgressListener
from idc_indexer.release.build import Plan, build, check_request, dry_run, incomplete, plan_build
from idc_indexer.release.gdc import GDC_URL, Gdc
from idc_indexer.release.manifest import PUBLISHED, Release, idc_version_of


@dataclass(frozen=True)
class BuildPlan:
    """A build that can start. `plan_release` makes it."""

    plan: Plan
    engine: Engine
    gdc: Gdc
    listener: ProgressListener
    price_per_tib: float | None

    def costs(self) -> Mapping[str, Mapping[str, float]]:
        """Check everything that a build checks before it starts, and estimate what BigQuery will bill.

        Returns:
            By index, and in `total`: bytes processed, bytes billed, price in dollars. Zero with DuckDB.

        Raises:
            IndexerError: the build would stop with this message.
        """
        estimates = dry_run(self.plan, self.engine)
        price = self.price_per_tib or 0
        costs: dict[str, Mapping[str, float]] = {name: one.to_document(price) for name, one in estimates.items()}
        keys = ("bytes_processed", "bytes_billed", "price_usd")
        return costs | {"total": {key: sum(cost[key] for cost in costs.values()) for key in keys}}

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
    csv: bool = False,
    force: bool = False,
    published_at: str | None = None,
    listener: ProgressListener | None = None,
) -> BuildPlan:
    """Decide what a build will do; `.costs()` checks it, `.build()` builds.

    Args: those of `build_release`.

    Raises:
        UsageError: an unknown index, a malformed version, a target that may not be replaced, no project.
        IndexerError: the source lacks the release, or an index cannot be built for it.
    """
    out = Path(out)
    if rebuild_of and not release_version:
        from idc_indexer.publish.release_source import read_release

        release_version = read_release(rebuild_of).release_version
    if release_version is None:
        raise UsageError(
            "Missing option '--release-version'", "Give it, or --rebuild-of URL to build a published one again."
        )
    if idc_version is None:
        idc_version = idc_version_of(release_version)
    catalog, listener = own.catalog(), listener or NullListener()
    check_request(catalog, indices, idc_version, release_version, out, force)
    # before the query is written out for each prior release
    worker = _engine(engine, idc_version, incomplete(out) / "spill", listener)
    plan = plan_build(
        *(catalog, indices, idc_version, release_version, out, force),
        gdc=bool(gdc_url),
        csv=csv,
        published_at=published_at or PUBLISHED,
    )
    price = engine.price_per_tib if isinstance(engine, BigQuery) else None
    return BuildPlan(plan, worker, Gdc(gdc_url or GDC_URL), listener, price)


def build_release(
    *indices: str,
    out: AnyPath,
    release_version: str | None = None,
    idc_version: int | None = None,
    rebuild_of: str | None = None,
    engine: EngineOptions = DuckDB(),
    own: OwnIndices = OwnIndices(),
    gdc_url: str | None = None,
    csv: bool = False,
    force: bool = False,
    published_at: str | None = None,
    listener: ProgressListener | None = None,
) -> Release:
    """Build a release. To continue an interrupted build, call it again.

    Args:
        indices: names of indices and derived tables; all when none is named, but gdc_idc_mapping only with `gdc_url`.
        out: folder that becomes the release.
        release_version: version of the data release, such as `25.0.5`.
        idc_version: IDC release, such as 25; the first number of `release_version` when None.
        rebuild_of: address of a published release, whose version is taken when `release_version` is None.
        engine: `DuckDB(...)` or `BigQuery(...)`.
        gdc_url: address of the GDC API; the public one when None.
        csv: write idc_index as `idc_index.csv.zip` too.
        force: replace the release that is at `out`, once the new one is complete.
        published_at: where the release will be published, for its descriptions; IDC's public address when None.
        listener: receives progress.

    Returns:
        The release: path, version, and for each index its files, digests and number of rows.

    Raises:
        UsageError: an unknown index, a malformed version, a target that may not be replaced, no project.
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
        csv=csv,
        force=force,
        published_at=published_at,
        listener=listener,
    ).build()


def _engine(options: EngineOptions, idc_version: int, temporary: Path, listener: ProgressListener) -> Engine:
    if isinstance(options, DuckDB):
        from idc_indexer.engines.duckdb import DuckDBEngine

        export = options.export()
        allowed = options.allow_row_count_mismatch
        engine = DuckDBEngine(export, temporary, options.threads, options.memory_limit, listener, allowed)
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
    dry_run: bool = False,
    listener: ProgressListener | None = None,
) -> None:
    """Download what the named indices, or all of them, read of an export, so that an offline build can follow.

    Args:
        idc_version: IDC release, such as 25.
        dry_run: check everything, tell the listener what would be downloaded, and stop.
        listener: receives progress.

    Raises:
        UsageError: an unknown index, or `source` is not the address of an export.
        IndexerError: the source lacks the release or a column, or cannot be read. What was staged is reused.
    """
    listener = listener or NullListener()
    chosen = own.catalog().select(set(indices))
    with temporary_folder() as temporary:
        worker = _engine(engine, idc_version, temporary, listener)
        pinned = [index.for_release(idc_version) for index in chosen]
        plan = worker.plan(pinned)
        if not dry_run:
            with plan.running(pinned):
                listener.message("all tables are staged")
