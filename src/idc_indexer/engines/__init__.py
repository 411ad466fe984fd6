"""Engines: they turn the query of an index into Arrow batches.

    plan = engine.plan(indices, history)  # everything that can be checked before a query runs
    plan.estimates, plan.fingerprint(index)
    with plan.running(indices) as run:    # the source tables are at hand
        run.rows(index), run.describe()

Each object has what is known once it exists, so that nothing can be asked too early.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from idc_indexer.catalog import PinnedIndex
from idc_indexer.engines.history import History

MEGABYTE, TEBIBYTE = 1 << 20, 1 << 40
LEAST_BILLED = 10 * MEGABYTE
"""For each table that a query reads. https://cloud.google.com/bigquery/pricing#on_demand_pricing"""


@dataclass(frozen=True)
class QueryEstimate:
    """What BigQuery will bill for a query.

    Attributes:
        processed: bytes that it reads, as a dry run says.
        tables: how many it reads.
    """

    processed: int = 0
    tables: int = 0

    @property
    def billed(self) -> int:
        """Bytes that will be billed: entire megabytes, and at least ten for each table."""
        return max(-(-self.processed // MEGABYTE) * MEGABYTE, LEAST_BILLED * self.tables)

    @property
    def most(self) -> int:
        """`maximum_bytes_billed` of the job: a fifth more, and room for ten megabytes of each small table."""
        return max(self.billed * 6 // 5, self.billed + LEAST_BILLED * (self.tables - 1))

    def to_document(self, price_per_tib: float) -> dict[str, float]:
        """Bytes, and what they cost at a price in dollars for 2^40 of them."""
        price = self.billed / TEBIBYTE * price_per_tib
        return {"bytes_processed": self.processed, "bytes_billed": self.billed, "price_usd": price}


@dataclass(frozen=True)
class TableFetch:
    """What of a source table has to come to this machine, as far as that can be estimated.

    Attributes:
        shards: to fetch.
        fetch: bytes over the network.
        disk: bytes in the cache folder.
    """

    shards: int
    fetch: int
    disk: int


class EngineRun(Protocol):
    """Queries that may run now."""

    def rows(self, index: PinnedIndex) -> AbstractContextManager[Iterator[pa.RecordBatch]]:
        """Run the query of an index; its rows come in the order of its ORDER BY.

        Raises:
            IndexerError: on entering or while reading.
        """

    def describe(self) -> dict[str, Any]:
        """`engine` and `source` of the manifest, and `history` if an index took rows from one."""


class EnginePlan(Protocol):
    """Indices that can be built."""

    @property
    def estimates(self) -> Mapping[str, QueryEstimate]:
        """What BigQuery will bill, by index; empty if the engine is not BigQuery."""

    @property
    def fetches(self) -> Mapping[str, TableFetch]:
        """What will be fetched, by source table; empty if the engine is BigQuery."""

    def fingerprint(self, index: PinnedIndex) -> str:
        """A digest that changes when the input of an index may have changed."""

    def running(self, indices: Sequence[PinnedIndex]) -> AbstractContextManager[EngineRun]:
        """Fetch what the planned indices read. The block asks for the rows of these indices, in this order, each once.

        An engine may start later queries early. Ctrl-C in the block ends all that still runs.

        Raises:
            IndexerError: together the queries exceed a limit, and none was started; or the source cannot be read.
        """


class Engine(Protocol):
    """Runs queries. All differences between engines are behind this method and the two objects that follow from it."""

    def plan(self, indices: Sequence[PinnedIndex], history: History | None = None) -> EnginePlan:
        """Check that all these indices can be built.

        Args:
            history: has the rows of prior releases; its file need not be there yet.

        Raises:
            IndexerError: with a line for each problem.
        """
