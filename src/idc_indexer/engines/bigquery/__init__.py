"""The engine for whoever has a Google Cloud project: queries run in BigQuery, where the data lives.

What it promises: nothing is paid for before its price is known and within the limits; nothing is paid for twice;
a result comes whole and in order, or not at all. It was tried against a server for tests only, through Google's own
clients, not against the real service.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from idc_indexer.catalog import PinnedIndex
from idc_indexer.errors import IndexerError
from idc_indexer.progress import NullListener, ProgressListener
from idc_indexer.schema.source_tables import PROJECT, SourceTable

try:
    from google.api_core.exceptions import GoogleAPICallError
    from google.cloud import bigquery

    from idc_indexer.engines.bigquery.connection import Connection, connect, releases
    from idc_indexer.engines.bigquery.errors import explained, explaining, of_its_own
    from idc_indexer.engines.bigquery.jobs import NOTHING, Estimate, Jobs
    from idc_indexer.engines.bigquery.result_cache import ResultCache
    from idc_indexer.engines.bigquery.results import Results
except ImportError as error:
    raise IndexerError(
        f"BigQuery needs Google's client libraries: {error}", "Install them: pip install 'idc-indexer[bigquery]'."
    ) from error

__all__ = ["BigQueryEngine", "Connection", "Estimate", "connect", "releases"]

AT_ONCE = 4
"""Jobs that run at the same time. More would finish little sooner (most of a build is three large queries), and
would all be running, and be paid for, when the first shows that something is wrong."""


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
    ) -> None:
        """Args:
        cache: folder where results are kept for later builds; without it, none is kept or used again.
        most_billed: bytes that one build may bill; no limit when None.
        listener: receives messages for the user
        """
        self._project = connection.project
        self._client = connection.client
        self._kept = ResultCache(cache) if cache else None
        self._most_billed = most_billed
        listener = listener or NullListener()
        self._listener = listener
        self._jobs = Jobs(connection.client, listener)
        self._results = Results(connection.storage, connection.project, listener)
        self._facts: dict[SourceTable, TableFacts] = {}
        self._versions: dict[SourceTable, str] = {}
        self._following: tuple[PinnedIndex, ...] = ()
        self.estimates: dict[str, Estimate] = {}
        """By index, complete after `prepare`."""

    def describe(self) -> dict[str, Any]:
        tables = {str(table): asdict(facts) for table, facts in sorted(self._facts.items())}
        return {
            "engine": {"name": "bigquery", "version": bigquery.__version__},
            "source": {"kind": "bigquery", "tables": tables},
        }

    def fingerprint(self, index: PinnedIndex) -> str:
        tables = sorted({leaf.table for leaf in index.statement.leaves})
        versions = [(str(table), self._versions[table]) for table in tables]
        return hashlib.sha256(json.dumps(versions).encode()).hexdigest()

    def prepare(self, indices: Sequence[PinnedIndex]) -> None:
        problems: dict[str, None] = {}
        hints: dict[str, None] = {}

        @contextmanager
        def noting(where: str) -> Iterator[None]:
            with explaining(self._project, where):
                try:
                    yield
                except GoogleAPICallError as error:
                    if not of_its_own(error):
                        raise  # it would be said again for every table and every index
                    said = explained(error, self._project, where)
                    problems[said.message] = hints[said.hint] = None

        for table in sorted({leaf.table for index in indices for leaf in index.statement.leaves}):
            with noting(f"table {table}"):
                self._look_at(table)
        for index in indices:
            if all(leaf.table in self._facts for leaf in index.statement.leaves):
                with noting(index.name):
                    kept = self._has_kept(index)
                    self.estimates[index.name] = NOTHING if kept else self._jobs.estimate(index)
        if problems:
            raise IndexerError("\n".join(problems), "\n".join(hint for hint in hints if hint))

    def _look_at(self, table: SourceTable) -> None:
        found = self._client.get_table(f"{PROJECT}.{table}", **self._jobs.options)
        self._facts[table] = TableFacts(found.num_rows or 0, found.num_bytes or 0)  # a view has neither
        self._versions[table] = f"{found.modified.isoformat() if found.modified else ''} {found.num_rows}"

    @contextmanager
    def running(self, indices: Sequence[PinnedIndex]) -> Iterator[None]:
        total = sum(self.estimates[index.name].billed for index in indices)
        if self._most_billed is not None and total > self._most_billed:
            raise IndexerError(
                f"the build would bill {total:,} bytes, and --max-bytes-billed is {self._most_billed:,}",
                "Nothing was started. See what each index costs with --dry-run.",
            )
        try:
            with self._kept.folder.used() if self._kept else nullcontext():
                self._following = tuple(index for index in indices if not self._has_kept(index))
                yield
        except KeyboardInterrupt:
            self._jobs.cancel()
            raise
        # After any other error what runs goes on: it is paid for, and the next build finds it.

    @contextmanager
    def rows(self, index: PinnedIndex) -> Iterator[Iterator[pa.RecordBatch]]:
        if self._kept and self._has_kept(index):
            self._listener.message(f"{index.name}: reusing the rows of an earlier build of the same query and tables")
            yield self._kept.rows(index)
            return
        for following in self._window(index):
            with explaining(self._project, following.name):
                self._jobs.begin(following, self._inputs(following), self.estimates[following.name].most)
        with explaining(self._project, index.name):
            job, rows = self._jobs.finished(index, self._inputs(index), self.estimates[index.name].most)
        batches = self._explained(index.name, self._results.batches(index.name, job, rows))
        yield self._kept.keeping(index, self._inputs(index), batches) if self._kept else batches

    def _has_kept(self, index: PinnedIndex) -> bool:
        return self._kept is not None and self._kept.has(index, self._inputs(index))

    def _inputs(self, index: PinnedIndex) -> str:
        """A digest of all that a result depends on: the query, and the tables."""
        return hashlib.sha256(f"{index.statement.text}\n{self.fingerprint(index)}".encode()).hexdigest()

    def _explained(self, name: str, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        # Here, not around the block above: the writer would take errors of `requests` for errors of its file.
        with explaining(self._project, name):
            yield from batches

    def _window(self, index: PinnedIndex) -> Sequence[PinnedIndex]:
        """An index and those after it, as many as may run at once."""
        if index not in self._following:
            return (index,)
        place = self._following.index(index)
        return self._following[place : place + AT_ONCE]
