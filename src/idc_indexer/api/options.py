"""Where a build reads from, and with what: options that several functions share. The defaults are here, once."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from idc_indexer.errors import UsageError
from idc_indexer.progress import ProgressListener, Retries

if TYPE_CHECKING:
    from idc_indexer.catalog import Catalog
    from idc_indexer.engines.bigquery import Connection
    from idc_indexer.exports import Export

SETUP_CHECKS = ("source", "store", "rights", "address", "pypi")
"""What `check_setup` checks."""
AnyPath: TypeAlias = str | os.PathLike[str]


@dataclass(frozen=True, kw_only=True)
class DuckDB:
    """Run queries with DuckDB over a Parquet export. No account is needed.

    Attributes:
        source: `s3://` or `gs://` or a folder that holds `idc_vNN/<table>/*.parquet`, or `sample`.
        exclude_shard: shards not to read, such as `idc_v25/dicom_all/000000005000.parquet`.
        max_shard_age_gap: how far apart in time the shards of one table may be, in hours.
        cache_dir: folder for staged shards and extracts of prior releases; the user's cache folder when None.
        memory_limit: memory that queries may take, such as `6GB`.
        threads: threads that queries use; one per processor when None.
        offline: send no requests; build from what was staged before.
        allow_row_count_mismatch: accept tables with one row per instance whose numbers of rows differ.
        unproven: translate also the SQL that no test has compared with GoogleSQL; the manifest lists it.
    """

    source: str = "s3://idc-open-metadata/bigquery_export"
    exclude_shard: tuple[str, ...] = ()
    max_shard_age_gap: float = 6.0
    cache_dir: AnyPath | None = None
    memory_limit: str = "6GB"
    threads: int | None = None
    offline: bool = False
    allow_row_count_mismatch: bool = False
    unproven: bool = False

    @property
    def reads_sample(self) -> bool:
        """Whether the source is the bundled sample."""
        return os.fspath(self.source) == "sample"

    def export(self, listener: ProgressListener | None) -> Export:
        """The export. It sends no request yet.

        Args:
            listener: hears of requests that are sent again.

        Raises:
            UsageError: `source` is not the address of an export.
        """
        from datetime import timedelta

        from idc_indexer.exports import open_export

        cache_dir = None if self.cache_dir is None else Path(self.cache_dir)
        window = timedelta(hours=self.max_shard_age_gap)
        export = open_export(os.fspath(self.source), self.exclude_shard, window, cache_dir, self.offline)
        export.location.retrier.told = Retries(listener)
        return export


@dataclass(frozen=True, kw_only=True)
class BigQuery:
    """Run queries in BigQuery, which bills a Google Cloud project.

    Attributes:
        project: the project that pays.
        location: where BigQuery has the tables.
        cache_dir: folder for results, which later builds reuse; the user's cache folder when None.
        price_per_tib: price of 2^40 bytes billed, in dollars, for estimates.
        max_bytes_billed: bytes that one build may bill; no limit when None.
        allow_row_count_mismatch: accept tables with one row per instance whose numbers of rows differ.
    """

    project: str | None = None
    location: str = "US"
    cache_dir: AnyPath | None = None
    price_per_tib: float = 6.25  # https://cloud.google.com/bigquery/pricing#on_demand_pricing, location US
    max_bytes_billed: int | None = None
    allow_row_count_mismatch: bool = False

    def connect(self) -> Connection:
        """A connection to BigQuery.

        Raises:
            UsageError: no project is named.
            IndexerError: Google's client libraries are not installed, or find no credentials.
        """
        if not self.project:
            raise UsageError(
                "BigQuery bills a Google Cloud project, and none is named", "Give yours with --project PROJECT."
            )
        from idc_indexer.engines.bigquery import connect

        return connect(self.project, self.location)


EngineOptions: TypeAlias = DuckDB | BigQuery


@dataclass(frozen=True, kw_only=True)
class OwnIndices:
    """Folders with queries and schemas of your own indices, in addition to those of the toolkit."""

    queries: tuple[AnyPath, ...] = ()
    schemas: tuple[AnyPath, ...] = ()

    def catalog(self) -> Catalog:
        """All indices: the toolkit's and these.

        Raises:
            IndexerError: a query without a schema, a schema without a query, or one that is malformed.
        """
        from idc_indexer.catalog import Catalog

        return Catalog([Path(path) for path in self.queries], [Path(path) for path in self.schemas])
