"""The engine for users with a Google Cloud project: queries run in BigQuery, where IDC's tables are.

It guarantees: no query runs before its price is known and within the limits; no query is billed twice; a result comes
complete and in order, or not at all. It was tested through Google's own clients against an emulator, not against the
real service.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.filesize import decimal

from idc_indexer.catalog import PinnedIndex
from idc_indexer.engines import QueryEstimate, TableFetch, row_counts
from idc_indexer.errors import IndexerError
from idc_indexer.progress import NullListener, ProgressListener
from idc_indexer.schema.source_tables import PROJECT, SourceTable

try:
    from google.api_core.exceptions import GoogleAPICallError
    from google.cloud import bigquery

    from idc_indexer.engines.bigquery.connection import Connection, connect, releases
    from idc_indexer.engines.bigquery.errors import explained, explaining, of_its_own
    from idc_indexer.engines.bigquery.jobs import Jobs
    from idc_indexer.engines.bigquery.result_cache import ResultCache
    from idc_indexer.engines.bigquery.results import Results
except ImportError as error:
    raise IndexerError(
        f"BigQuery needs Google's client libraries: {error}",
        "Install them into the environment of idc-indexer: "
        "pip install 'google-cloud-bigquery>=3.30' 'google-cloud-bigquery-storage>=2.27'.",
    ) from error

__all__ = ["BigQueryEngine", "Connection", "connect", "releases"]

AT_ONCE = 4
"""Jobs that run at the same time. More would hardly be faster (three large queries take most of a build), and all of
them would be billed even if the first fails."""


@dataclass(frozen=True)
class TableFacts:
    """What BigQuery says of a source table, for the manifest. Counts of rows and bytes."""

    rows: int
    bytes: int


class BigQueryEngine:
    """Runs queries as jobs of a project."""

    def __init__(
        self,
        connection: Connection,
        cache: Path | None = None,
        most_billed: int | None = None,
        listener: ProgressListener | None = None,
        allow_row_count_mismatch: bool = False,
    ) -> None:
        """Args:
        cache: folder of results for later builds; None caches none and reuses none.
        most_billed: bytes that one build may bill; no limit when None.
        listener: receives messages for the user.
        allow_row_count_mismatch: accept tables with one row per instance whose numbers of rows differ.
        """
        self._project = connection.project
        self._client = connection.client
        self._cache = ResultCache(cache) if cache else None
        self._most_billed = most_billed
        self._allowed = allow_row_count_mismatch
        self._listener = listener or NullListener()
        self._jobs = Jobs(connection.client, self._listener)
        self._results = Results(connection.storage, connection.project, self._listener)

    def plan(self, indices: Sequence[PinnedIndex]) -> BigQueryPlan:
        """Look at the tables, and ask what each query will bill."""
        problems: dict[str, None] = {}
        hints: dict[str, None] = {}

        @contextmanager
        def noting(context: str) -> Iterator[None]:
            with explaining(self._project, context):
                try:
                    yield
                except GoogleAPICallError as error:
                    if not of_its_own(error):
                        raise  # every other table and index would fail in the same way
                    said = explained(error, self._project, context)
                    problems[said.message] = hints[said.hint] = None

        tables: dict[SourceTable, _TableState] = {}
        for table in sorted({leaf.table for index in indices for leaf in index.statement.leaves}):
            with noting(f"table {table}"):
                tables[table] = self._look_at(table)
        estimates: dict[str, QueryEstimate] = {}
        mismatches = row_counts.mismatches({table: state.facts.rows for table, state in tables.items()})
        row_counts.warn(mismatches, self._listener)
        plan = BigQueryPlan(
            self._project,
            self._cache,
            self._most_billed,
            self._listener,
            self._jobs,
            self._results,
            tables,
            estimates,
            row_counts.document(mismatches, self._allowed),
        )
        for index in indices:
            if all(leaf.table in tables for leaf in index.statement.leaves):
                with noting(index.name):
                    estimates[index.name] = QueryEstimate() if plan.is_cached(index) else self._jobs.estimate(index)
        if problems:
            raise IndexerError("\n".join(problems), "\n".join(hint for hint in hints if hint))
        return plan

    def _look_at(self, table: SourceTable) -> _TableState:
        found = self._client.get_table(f"{PROJECT}.{table}", **self._jobs.options)
        facts = TableFacts(found.num_rows or 0, found.num_bytes or 0)  # a view has neither
        return _TableState(facts, f"{found.modified.isoformat() if found.modified else ''} {found.num_rows}")


@dataclass(frozen=True)
class _TableState:
    """A source table as it was when the build was planned; `version` changes when its rows do."""

    facts: TableFacts
    version: str


@dataclass(frozen=True)
class BigQueryPlan:
    """Queries that can run, and what they will bill."""

    project: str
    cache: ResultCache | None
    most_billed: int | None
    listener: ProgressListener
    jobs: Jobs
    results: Results
    tables: Mapping[SourceTable, _TableState]
    estimates: Mapping[str, QueryEstimate]
    row_counts: Mapping[str, Any]
    fetches: Mapping[str, TableFetch] = field(default_factory=dict)

    def fingerprint(self, index: PinnedIndex) -> str:
        """A digest of the versions of the tables that an index reads."""
        tables = sorted({leaf.table for leaf in index.statement.leaves})
        versions = [(str(table), self.tables[table].version) for table in tables]
        return hashlib.sha256(json.dumps(versions).encode()).hexdigest()

    def inputs(self, index: PinnedIndex) -> str:
        """A digest of all that a result depends on: the query, and the tables."""
        return hashlib.sha256(f"{index.statement.text}\n{self.fingerprint(index)}".encode()).hexdigest()

    def is_cached(self, index: PinnedIndex) -> bool:
        """Whether the rows of an index are in the cache."""
        return self.cache is not None and self.cache.has(index, self.inputs(index))

    @contextmanager
    def running(self, indices: Sequence[PinnedIndex]) -> Iterator[BigQueryRun]:
        """Check the limit of the entire build; Ctrl-C in the block cancels the jobs."""
        total = sum(self.estimates[index.name].billed for index in indices)
        if self.most_billed is not None and total > self.most_billed:
            raise IndexerError(
                f"the build would bill {decimal(total)} ({total:,} bytes), and --max-bytes-billed is "
                f"{decimal(self.most_billed)} ({self.most_billed:,} bytes)",
                "Nothing was started. See what each index costs with --dry-run.",
            )
        try:
            with self.cache.folder.used() if self.cache else nullcontext():
                yield BigQueryRun(self, tuple(index for index in indices if not self.is_cached(index)))
            self.listener.message(f"BigQuery bills {decimal(self.jobs.billed)} for this build")
        except KeyboardInterrupt:
            self.jobs.cancel()
            raise
        # After any other error the jobs continue: they are billed anyway, and the next build finds them.


@dataclass(frozen=True)
class BigQueryRun:
    """Jobs of a build, a few at a time.

    Attributes:
        queue: the indices whose queries have to run, in order.
    """

    plan: BigQueryPlan
    queue: tuple[PinnedIndex, ...]

    def describe(self) -> dict[str, Any]:
        """`engine` and `source` of the manifest."""
        tables = {str(table): asdict(state.facts) for table, state in sorted(self.plan.tables.items())}
        return {
            "engine": {"name": "bigquery", "version": bigquery.__version__},
            "source": {"kind": "bigquery", "tables": tables, **self.plan.row_counts},
        }

    @contextmanager
    def rows(self, index: PinnedIndex) -> Iterator[Iterator[pa.RecordBatch]]:
        """The rows of an index: from the cache, or of its job."""
        plan, cache, inputs = self.plan, self.plan.cache, self.plan.inputs(index)
        if cache and plan.is_cached(index):
            plan.listener.message(f"{index.name}: reusing the rows of an earlier build of the same query and tables")
            yield cache.rows(index)
            return
        for following in self._window(index):
            with explaining(plan.project, following.name):
                plan.jobs.begin(following, plan.inputs(following), plan.estimates[following.name].most)
        with explaining(plan.project, index.name):
            job, rows = plan.jobs.finished(index, inputs, plan.estimates[index.name].most)
        batches = self._explained(index.name, plan.results.batches(index.name, job, rows))
        yield cache.storing(index, inputs, batches) if cache else batches

    def _explained(self, name: str, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        # Here and not around the block of `rows`: the writer would take errors of `requests` for errors of its file.
        with explaining(self.plan.project, name):
            yield from batches

    def _window(self, index: PinnedIndex) -> Sequence[PinnedIndex]:
        """An index and those after it, as many as may run at once."""
        if index not in self.queue:
            return (index,)
        place = self.queue.index(index)
        return self.queue[place : place + AT_ONCE]
