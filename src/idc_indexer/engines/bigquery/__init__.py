"""The engine for users with a Google Cloud project: queries run in BigQuery, where IDC's tables are.

It guarantees: no query runs before its price is known and within the limits; no query is billed twice; a result comes
complete and in order, or not at all. It was tested through Google's own clients against an emulator, not against the
real service.

With a history, the query of an index is split: BigQuery runs the parts that read tables, a job each, and DuckDB runs
the rest here, over the rows of these jobs and of the history.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.filesize import decimal

from idc_indexer.catalog import PinnedIndex
from idc_indexer.engines import QueryEstimate, TableFetch, row_counts
from idc_indexer.engines.history import History, describe
from idc_indexer.engines.local import combined
from idc_indexer.errors import IndexerError
from idc_indexer.files import temporary_folder
from idc_indexer.progress import NullListener, ProgressListener
from idc_indexer.schema.source_tables import PROJECT, SourceTable
from idc_indexer.sql import PRIOR_ROWS, Split, split, to_duckdb

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

    def plan(self, indices: Sequence[PinnedIndex], history: History | None = None) -> BigQueryPlan:
        """Look at the tables, and ask what each query will bill."""
        queries = {index.name: _query(index, history) for index in indices}
        planned = {job.name: job for query in queries.values() for job in query.jobs}
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
        for table in sorted({leaf.table for job in planned.values() for leaf in job.statement.leaves}):
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
            queries,
            tables,
            estimates,
            row_counts.document(mismatches, self._allowed),
        )
        for job in planned.values():
            if all(leaf.table in tables for leaf in job.statement.leaves):
                with noting(job.name):
                    estimates[job.name] = QueryEstimate() if plan.is_cached(job) else self._jobs.estimate(job)
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
class _JobsOfIndex:
    """How an index is computed.

    Attributes:
        jobs: the index; or the parts of its query, each as an index with a query of its own.
        split: the query in two steps, if the rows of prior releases come from `history`.
    """

    jobs: tuple[PinnedIndex, ...]
    split: Split | None = None
    history: History | None = None


def _query(index: PinnedIndex, history: History | None) -> _JobsOfIndex:
    # The first test is quick: most indices read no prior release, and one that DuckDB cannot run is none of them.
    if history is None or {leaf.table.release for leaf in index.statement.leaves} == {index.release}:
        return _JobsOfIndex((index,))
    known = history.known(to_duckdb(index.statement, index.query_file).prior_extracts)
    if not known:
        return _JobsOfIndex((index,))
    query = split(index.statement, index.query_file, known)
    # All indices with a history have the same template, so they share its job.
    names = {part.name: PRIOR_ROWS if part.of_prior else f"{index.name}_{part.name}" for part in query.parts}
    jobs = (replace(index, name=names[part.name], statement=part.statement) for part in query.parts)
    return _JobsOfIndex(tuple(jobs), query, history)


@dataclass(frozen=True)
class BigQueryPlan:
    """Queries that can run, and what they will bill.

    Attributes:
        queries: by index.
        job_estimates: by job.
    """

    project: str
    cache: ResultCache | None
    most_billed: int | None
    listener: ProgressListener
    jobs: Jobs
    results: Results
    queries: Mapping[str, _JobsOfIndex]
    tables: Mapping[SourceTable, _TableState]
    job_estimates: Mapping[str, QueryEstimate]
    row_counts: Mapping[str, Any]
    fetches: Mapping[str, TableFetch] = field(default_factory=dict)

    @property
    def estimates(self) -> Mapping[str, QueryEstimate]:
        """What BigQuery will bill, by index; a job of two indices is counted for the first of them."""
        found, left = {}, dict(self.job_estimates)
        for name, query in self.queries.items():
            of_index = [left.pop(job.name, QueryEstimate()) for job in query.jobs]
            found[name] = QueryEstimate(sum(one.processed for one in of_index), sum(one.tables for one in of_index))
        return found

    def fingerprint(self, index: PinnedIndex) -> str:
        """A digest of the versions of the tables, and of the history, that an index reads."""
        query = self.queries[index.name]
        versions = [self._versions(job) for job in query.jobs]
        digest = hashlib.sha256("\n".join(versions).encode()).hexdigest()
        return digest + (query.history.sha256 if query.history else "")

    def _versions(self, job: PinnedIndex) -> str:
        tables = sorted({leaf.table for leaf in job.statement.leaves})
        return json.dumps([(str(table), self.tables[table].version) for table in tables])

    def inputs(self, job: PinnedIndex) -> str:
        """A digest of all that a result depends on: the query, and the tables."""
        tables = hashlib.sha256(self._versions(job).encode()).hexdigest()
        return hashlib.sha256(f"{job.statement.text}\n{tables}".encode()).hexdigest()

    def is_cached(self, job: PinnedIndex) -> bool:
        """Whether the rows of a job are in the cache."""
        return self.cache is not None and self.cache.has(job, self.inputs(job))

    @contextmanager
    def running(self, indices: Sequence[PinnedIndex]) -> Iterator[BigQueryRun]:
        """Check the limit of the entire build; Ctrl-C in the block cancels the jobs."""
        jobs = {job.name: job for index in indices for job in self.queries[index.name].jobs}
        total = sum(self.job_estimates[name].billed for name in jobs)
        if self.most_billed is not None and total > self.most_billed:
            raise IndexerError(
                f"the build would bill {decimal(total)} ({total:,} bytes), and --max-bytes-billed is "
                f"{decimal(self.most_billed)} ({self.most_billed:,} bytes)",
                "Nothing was started. See what each index costs with --dry-run.",
            )
        try:
            with self.cache.folder.used() if self.cache else nullcontext():
                yield BigQueryRun(self, tuple(job for job in jobs.values() if not self.is_cached(job)))
            self.listener.message(f"BigQuery bills {decimal(self.jobs.billed)} for this build")
        except KeyboardInterrupt:
            self.jobs.cancel()
            raise
        # After any other error the jobs continue: they are billed anyway, and the next build finds them.


@dataclass(frozen=True)
class BigQueryRun:
    """Jobs of a build, a few at a time.

    Attributes:
        queue: the jobs that have to run, in order.
    """

    plan: BigQueryPlan
    queue: tuple[PinnedIndex, ...]

    def describe(self) -> dict[str, Any]:
        """`engine`, `source` and `history` of the manifest."""
        tables = {str(table): asdict(state.facts) for table, state in sorted(self.plan.tables.items())}
        return {
            "engine": {"name": "bigquery", "version": bigquery.__version__},
            "source": {"kind": "bigquery", "tables": tables, **self.plan.row_counts},
            **describe(query.history for query in self.plan.queries.values()),
        }

    @contextmanager
    def rows(self, index: PinnedIndex) -> Iterator[Iterator[pa.RecordBatch]]:
        """The rows of an index: of its job; or made here of those of its parts and the history."""
        query = self.plan.queries[index.name]
        if not (query.split and query.history):
            yield self._rows(query.jobs[0])
            return
        parts = dict(zip((part.name for part in query.split.parts), map(self._rows, query.jobs), strict=True))
        with (
            temporary_folder() as temporary,
            combined(index.name, query.split, query.history, parts, temporary) as batches,
        ):
            yield batches

    def _rows(self, job: PinnedIndex) -> Iterator[pa.RecordBatch]:
        """The rows of a job: from the cache, or of BigQuery."""
        plan, cache, inputs = self.plan, self.plan.cache, self.plan.inputs(job)
        if cache and plan.is_cached(job):
            plan.listener.message(f"{job.name}: reusing the rows of an earlier build of the same query and tables")
            yield from cache.rows(job)
            return
        for following in self._window(job):
            with explaining(plan.project, following.name):
                plan.jobs.begin(following, plan.inputs(following), plan.job_estimates[following.name].most)
        with explaining(plan.project, job.name):
            done, rows = plan.jobs.finished(job, inputs, plan.job_estimates[job.name].most)
        batches = self._explained(job.name, plan.results.batches(job.name, done, rows))
        yield from cache.storing(job, inputs, batches) if cache else batches

    def _explained(self, name: str, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        # Here and not around the block of `rows`: the writer would take errors of `requests` for errors of its file.
        with explaining(self.plan.project, name):
            yield from batches

    def _window(self, job: PinnedIndex) -> Sequence[PinnedIndex]:
        """A job and those after it, as many as may run at once."""
        if job not in self.queue:
            return (job,)
        place = self.queue.index(job)
        return self.queue[place : place + AT_ONCE]
