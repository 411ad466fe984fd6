"""Queries that DuckDB runs on this machine: their batches, their errors, and Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import duckdb
import pyarrow as pa

from idc_indexer.duckdb_session import (
    connect,
    first_line,
    first_row,
    interruptible,
    lack_of_space,
    lacks_disk,
    quote_name,
)
from idc_indexer.engines.history import VERSION_ID, History, create_prior_rows
from idc_indexer.errors import IndexerError
from idc_indexer.sql import Split

BATCH_ROWS = 65_536
FEW_THREADS = 2
"""Threads of a query whose groups take much memory, at most. Each thread has groups of its own; with three or more,
DuckDB 2.0.1 spends most of the time on moving them to disk and back. idc_index of 58.8 million instances with 6 GB, on
two cores, takes 117 s of processor with two threads, 460 with three, 624 with four, and 133 with four and 12 GB."""
Result = TypeVar("Result")
Batches = Iterator[pa.RecordBatch]


@contextmanager
def explaining(name: str, damaged: Callable[[], tuple[str, str] | None] = lambda: None) -> Iterator[None]:
    """Turn DuckDB's errors into messages for the user.

    Args:
        damaged: finds the file that cannot be read, and what to do about it.
    """
    try:
        with interruptible():
            yield
    except (duckdb.Error, pa.ArrowException) as error:
        if lack := lack_of_space(name, error, "Raise --memory-limit or lower --threads."):
            raise lack from error
        if found := damaged():
            file, hint = found
            raise IndexerError(f"{name}: {file} is damaged: {first_line(error)}", hint) from error
        raise IndexerError(f"{name}: {first_line(error)}") from error


def batches(
    cursor: duckdb.DuckDBPyConnection,
    statements: Sequence[str],
    starts_again: Callable[[], object] = lambda: None,
    few_threads: bool = False,
) -> Batches:
    """The rows of the last of some statements; while a batch is in use, DuckDB computes the next.

    Statements that run out of memory before there are rows are started again with one thread, which needs less of it
    at a time. Whether two threads need too much at one moment is chance: of two million series, idc_index failed in all
    of 3 builds with `--memory-limit 1.5GB` and in none of 5 with 3GB, and with one thread in none of 6.

    Args:
        statements: they may run twice.
        starts_again: called before that.
        few_threads: use at most `FEW_THREADS`.
    """
    # The pool ends first, so that no query runs when the number of threads is restored.
    with ExitStack() as restored, ThreadPoolExecutor(1) as pool:
        if few_threads:
            restored.enter_context(_at_most(FEW_THREADS, cursor))
        try:
            reader, batch = wait_for(cursor, pool.submit(_start, cursor, statements))
        except duckdb.OutOfMemoryException as error:
            if _threads(cursor) == 1 or lacks_disk(error):
                raise
            starts_again()
            restored.enter_context(_at_most(1, cursor))
            reader, batch = wait_for(cursor, pool.submit(_start, cursor, statements))
        while batch is not None:
            following = pool.submit(next, reader, None)
            yield batch
            batch = wait_for(cursor, following)


def _start(
    cursor: duckdb.DuckDBPyConnection, statements: Sequence[str]
) -> tuple[pa.RecordBatchReader, pa.RecordBatch | None]:
    """A query, after the statements before it, and the first batch of its rows."""
    *first, query = statements
    for statement in first:
        cursor.execute(statement)
    reader = cursor.sql(query).to_arrow_reader(BATCH_ROWS)
    return reader, next(reader, None)


def _threads(cursor: duckdb.DuckDBPyConnection) -> int:
    (threads,) = first_row(cursor, "SELECT current_setting('threads')") or (1,)
    return int(threads)


@contextmanager
def _at_most(most: int, cursor: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Let DuckDB use no more threads than that, for all cursors."""
    # A cursor cannot set the number back while it has rows that nobody reads.
    with cursor.cursor() as settings:
        threads = _threads(settings)
        settings.execute(f"SET threads = {min(most, threads)}")
        try:
            yield
        finally:
            settings.execute(f"SET threads = {threads}")


def wait_for(cursor: duckdb.DuckDBPyConnection, future: Future[Result]) -> Result:
    """Wait for DuckDB, which runs in another thread so that Ctrl-C ends it.

    In the main thread DuckDB 2.0 notices Ctrl-C only at the end of the query, and 1.5 raises a RuntimeError.
    """
    try:
        while True:
            # On Windows, a wait without an end cannot be interrupted.
            if wait([future], timeout=1).done:
                return future.result()
    except KeyboardInterrupt:
        cursor.interrupt()
        raise


@contextmanager
def combined(
    name: str, query: Split, history: History, rows: Mapping[str, Batches], temporary: Path
) -> Iterator[Batches]:
    """Run the rest of a query that was split, over the rows of its parts and of a history.

    Args:
        name: the index, for messages.
        rows: of the parts, by name.
        temporary: folder for rows that do not fit in memory.

    Raises:
        IndexerError: a part has no rows, or as `History.refuse_others` and DuckDB say.
    """
    with explaining(name), connect(temporary=temporary) as connection:
        for part in query.parts:
            _store(connection, part.table, rows[part.name])
            if not part.of_prior and VERSION_ID in dict(part.statement.returns):
                history.refuse_others(connection, part.table)
        create_prior_rows(connection, history, [quote_name(part.table) for part in query.parts if part.of_prior])
        yield batches(connection, [query.sql])


def _store(connection: duckdb.DuckDBPyConnection, table: str, rows: Batches) -> None:
    """Store rows in a table. They are inserted batch by batch, so that their errors come through as they are."""
    to = f"CREATE TEMP TABLE {quote_name(table)} AS"
    for batch in rows:
        connection.register("batch", batch)
        connection.execute(f"{to} FROM batch")
        to = f"INSERT INTO {quote_name(table)}"
    if to.startswith("CREATE"):
        raise IndexerError(f"BigQuery returned no rows for {table}", "Look at the tables that `explain` lists.")
