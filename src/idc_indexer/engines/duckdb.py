"""The keyless engine: DuckDB over a Parquet export."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import pyarrow as pa
from rich.filesize import decimal

from idc_indexer import files
from idc_indexer.catalog import PinnedIndex
from idc_indexer.duckdb_session import connect, first_line, interruptible, mistrust_statistics, quote, read_parquet
from idc_indexer.errors import IndexerError
from idc_indexer.exports import Export, together
from idc_indexer.progress import NullListener, ProgressListener
from idc_indexer.schema.source_tables import SourceTable
from idc_indexer.sql import PRIOR_ROWS, Leaf, to_duckdb

BATCH_ROWS = 65_536
Result = TypeVar("Result")


@dataclass(frozen=True)
class _Query:
    """An index as DuckDB makes it, once what it takes from past releases is reduced."""

    sql: str
    leaves: list[Leaf]
    past: list[_PriorRelease]


@dataclass(frozen=True)
class _PriorRelease:
    """What an index takes from one past release: the query that reduces it, and the leaf columns that this reads."""

    index: str
    release: int
    sql: str
    leaves: list[Leaf]


class DuckDBEngine:
    """Runs queries over an export; results of past releases are kept in the cache."""

    def __init__(
        self,
        export: Export,
        temporary: Path,
        threads: int | None = None,
        memory_limit: str | None = None,
        listener: ProgressListener | None = None,
    ) -> None:
        """Args:
        export: what is queried; in its cache the prior_extracts of past releases are kept, for every later build.
        temporary: folder for what does not fit in memory; the caller removes it.
        listener: who is told how staging goes.
        """
        self._export = export
        self._reductions = export.cache.prior_extracts
        self._listener = listener or NullListener()
        self._connection = connect(threads, memory_limit, temporary)
        self._queries: dict[str, _Query] = {}
        self._disk: dict[int, int] = {}
        self._most_disk = 0

    def describe(self) -> dict[str, Any]:
        tables = {}
        # Past releases are read once: a manifest that listed them would tell first builds from later ones.
        for table in sorted({leaf.table for leaf in self._leaves()}):
            facts = asdict(self._export.facts(table))
            tables[str(table)] = {**facts, "left_out": list(facts["left_out"])}
        return {
            "engine": {"name": "duckdb", "version": duckdb.__version__},
            "source": {**self._export.describe(), "tables": tables},
        }

    def fingerprint(self, index: PinnedIndex) -> str:
        return self._export.fingerprint({leaf.table for leaf in index.statement.leaves})

    def prepare(self, indices: Sequence[PinnedIndex]) -> None:
        self._queries = {}
        for index in indices:
            self._queries[index.name] = _query(index)
            self._export.list_ahead({leaf.table for leaf in index.statement.leaves})
        past = [one for query in self._queries.values() for one in query.past if not self._is_kept(one)]
        self._export.check([*self._leaves(), *(leaf for one in past for leaf in one.leaves)])
        self._announce(past)

    def _leaves(self) -> list[Leaf]:
        """What is read of the releases that are built."""
        return [leaf for query in self._queries.values() for leaf in query.leaves]

    def _announce(self, past: Iterable[_PriorRelease]) -> None:
        """Say what staging will take, and see that there is room."""
        current = self._export.estimate({leaf.table for leaf in self._leaves()})
        tables: dict[int, set[SourceTable]] = {}
        for one in past:
            tables.setdefault(one.release, set()).update(leaf.table for leaf in one.leaves)
        before = {release: self._export.estimate(of_release) for release, of_release in tables.items()}
        self._disk = {release: need.disk for release, need in before.items()}
        # Past releases come and go, as many at a time as find room where the largest need does.
        self._most_disk = max(need.disk for need in (current, *before.values()))
        total = sum(before.values(), current)
        if not total.fetch:
            return
        room = self._export.check_room(self._most_disk)
        releases = sum(need.shards > 0 for need in before.values())
        also = f", {releases} past releases among them" if releases else ""
        self._listener.message(
            f"to stage: about {decimal(total.fetch)} of {total.shards:,} shards{also}; "
            f"about {decimal(self._most_disk)} on disk, where {room}"
        )

    @contextmanager
    def running(self, indices: Sequence[PinnedIndex]) -> Iterator[None]:
        with ExitStack() as stack:
            past = [one for index in indices for one in self._queries[index.name].past]
            if past:
                stack.enter_context(self._reductions.used())
            for some in together(past, lambda one: self._disk.get(one.release, 0), self._most_disk):
                self._reduce(some)
            stack.enter_context(self._export.staged(self._leaves(), self._listener))
            yield  # one query at a time takes the whole machine

    @contextmanager
    def rows(self, index: PinnedIndex) -> Iterator[Iterator[pa.RecordBatch]]:
        query = self._queries[index.name]
        tables = {leaf.table for leaf in index.statement.leaves}
        with self._explaining(index.name, tables), self._connection.cursor() as cursor:
            mistrust_statistics(cursor, any(leaf.fields[-1].type == "FLOAT" for leaf in index.statement.leaves))
            self._view(cursor, query.leaves)
            if query.past:
                paths = [str(self._reduced(one)) for one in query.past]
                cursor.execute(f'CREATE OR REPLACE TEMP VIEW "{PRIOR_ROWS}" AS FROM {read_parquet(paths)}')
            yield _batches(cursor, query.sql)

    def _view(self, cursor: duckdb.DuckDBPyConnection, leaves: Sequence[Leaf]) -> None:
        """Make the tables known, with the columns that are read, in the types that BigQuery has them in."""
        columns: dict[SourceTable, dict[str, str]] = {}
        for leaf in leaves:
            name = leaf.fields[0].name
            # BigQuery stores an empty array for NULL; an export may hold either.
            value = f'COALESCE("{name}", [])' if leaf.fields[0].mode == "REPEATED" else f'"{name}"'
            columns.setdefault(leaf.table, {})[name] = f'{value} AS "{name}"'
        for table, selected in columns.items():
            rows = read_parquet(self._export.paths(table))
            cursor.execute(
                f'CREATE OR REPLACE TEMP VIEW "{table}" AS SELECT {", ".join(selected.values())} FROM {rows}'
            )

    def _is_kept(self, past: _PriorRelease) -> bool:
        try:
            return self._reduced(past).exists()
        except IndexerError:
            return False  # the past release is not there, or not whole: the check will say so, among all else

    def _reduced(self, past: _PriorRelease) -> Path:
        """Where the reduction of a past release is kept: by its SQL and by what it reads."""
        tables = {leaf.table for leaf in past.leaves}
        key = hashlib.sha256(f"{past.sql}\n{self._export.fingerprint(tables)}".encode()).hexdigest()
        return self._reductions.path / f"{past.index}-v{past.release}-{key[:32]}.parquet"

    def _reduce(self, past: Sequence[_PriorRelease]) -> None:
        """Have the prior_extracts of past releases; what was staged for them is not kept any longer."""
        what = f"waiting for another process, which reduces release {past[0].release}"
        # Of two builds that share the cache, one does the work and the other waits for it.
        with self._reductions.written(lambda: self._listener.message(what)):
            lacking = [one for one in past if not self._reduced(one).exists()]
            with self._export.staged([leaf for one in lacking for leaf in one.leaves], self._listener):
                for one in lacking:
                    with self._explaining(one.index, {leaf.table for leaf in one.leaves}):
                        self._write(one)
        self._export.discard(leaf for one in past for leaf in one.leaves)

    def _write(self, past: _PriorRelease) -> None:
        """Write what is kept of a past release, which is staged."""
        with self._connection.cursor() as cursor, files.atomic_path(self._reduced(past)) as temporary:
            self._view(cursor, past.leaves)
            copy = f"COPY ({past.sql}) TO {quote(str(temporary))} (FORMAT parquet, COMPRESSION zstd)"
            with ThreadPoolExecutor(1) as pool:
                _wait(cursor, pool.submit(cursor.execute, copy))

    @contextmanager
    def _explaining(self, name: str, tables: set[SourceTable]) -> Iterator[None]:
        """Turn what DuckDB says into a message for the user."""
        try:
            with interruptible():
                yield
        except duckdb.OutOfMemoryException as error:
            raise IndexerError(f"{name}: {first_line(error)}", "Raise --memory-limit or lower --threads.") from error
        except (duckdb.Error, pa.ArrowException) as error:
            if broken := self._export.broken(tables):
                shard, hint = broken
                raise IndexerError(f"{name}: {shard} is damaged: {first_line(error)}", hint) from error
            raise IndexerError(f"{name}: {first_line(error)}") from error


def _batches(cursor: duckdb.DuckDBPyConnection, sql: str) -> Iterator[pa.RecordBatch]:
    """The rows of a query; while a batch is in use, DuckDB works at the next."""
    with ThreadPoolExecutor(1) as pool:
        reader = _wait(cursor, pool.submit(lambda: cursor.sql(sql).to_arrow_reader(BATCH_ROWS)))
        following = pool.submit(next, reader, None)
        while (batch := _wait(cursor, following)) is not None:
            following = pool.submit(next, reader, None)
            yield batch


def _wait(cursor: duckdb.DuckDBPyConnection, future: Future[Result]) -> Result:
    """The result of something that DuckDB does in another thread, so that Ctrl-C ends it.

    By itself, DuckDB 2.0 notices Ctrl-C when the query is at its end, and 1.5 turns it into a RuntimeError.
    """
    try:
        while True:
            # On Windows, a wait without an end cannot be interrupted.
            if wait([future], timeout=1).done:
                return future.result()
    except KeyboardInterrupt:
        cursor.interrupt()
        raise


def _query(index: PinnedIndex) -> _Query:
    translation = to_duckdb(index.statement, index.query_file)
    of_release: dict[int, list[Leaf]] = {}
    for leaf in index.statement.leaves:
        of_release.setdefault(leaf.table.release, []).append(leaf)
    past = [
        _PriorRelease(index.name, one.release, one.sql, of_release.pop(one.release))
        for one in translation.prior_extracts
    ]
    return _Query(translation.sql, [leaf for leaves in of_release.values() for leaf in leaves], past)
