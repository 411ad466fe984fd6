"""The keyless engine: DuckDB over a Parquet export."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import filelock
import pyarrow as pa

from idc_indexer.catalog import PinnedIndex
from idc_indexer.errors import IndexerError, UsageError
from idc_indexer.exports import Export, TableFacts
from idc_indexer.files import naming, partial
from idc_indexer.sources import Table
from idc_indexer.sql import Leaf, Reduction, Translation, to_duckdb
from idc_indexer.sql.translate import PAST_ROWS

BATCH_ROWS = 65_536
Result = TypeVar("Result")
_MEMORY = re.compile(r"(?=.*[1-9])[0-9]+(\.[0-9]+)? ?[KMGT]i?B", re.IGNORECASE)


def connect(
    threads: int | None = None, memory_limit: str | None = None, temporary: Path | None = None
) -> duckdb.DuckDBPyConnection:
    """A DuckDB in memory that fetches nothing from the network.

    Args:
        threads: as many as there are processors when None.
        memory_limit: such as `4GB`; what does not fit goes to `temporary`.

    Raises:
        UsageError: when DuckDB does not understand an option.
    """
    config: dict[str, Any] = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        # Only ORDER BY orders rows here; not keeping any other order lets DuckDB stream.
        "preserve_insertion_order": False,
    }
    if threads:
        config["threads"] = threads
    if memory_limit is not None:
        # Other texts, such as -1 or none, DuckDB takes for no limit at all.
        if not _MEMORY.fullmatch(memory_limit):
            raise UsageError(f"--memory-limit {memory_limit}: not an amount of memory", "Write it as 4GB or 800MB.")
        config["memory_limit"] = memory_limit
    if temporary:
        config["temp_directory"] = str(temporary)
    connection = duckdb.connect(config=config)
    # In a notebook, and in `python -c`, it would print its own on stdout.
    connection.execute("SET enable_progress_bar = false")
    return connection


@contextmanager
def interruptible() -> Iterator[None]:
    """Make Ctrl-C what it always is: DuckDB turns it into an exception of its own."""
    try:
        yield
    except (duckdb.InterruptException, RuntimeError) as error:
        if "interrupted" in str(error).lower():
            raise KeyboardInterrupt from error
        raise


class DuckDBEngine:
    """Runs queries over an export; results of past releases are kept in the cache."""

    def __init__(
        self,
        export: Export,
        cache: Path,
        temporary: Path,
        threads: int | None = None,
        memory_limit: str | None = None,
    ) -> None:
        """Args:
        cache: folder where the reductions of past releases are kept, for every later build.
        temporary: folder for what does not fit in memory; the caller removes it.
        """
        self._export = export
        self._cache = cache
        self._connection = connect(threads, memory_limit, temporary)
        self._facts: dict[Table, TableFacts] = {}
        self._translations: dict[str, Translation] = {}

    def describe(self) -> dict[str, Any]:
        tables = {
            str(table): {**asdict(facts), "left_out": list(facts.left_out)}
            for table, facts in sorted(self._facts.items())
        }
        return {
            "engine": {"name": "duckdb", "version": duckdb.__version__},
            "source": {"kind": self._export.kind, "tables": tables},
        }

    def fingerprint(self, index: PinnedIndex) -> str:
        return self._export.fingerprint({leaf.table for leaf in index.statement.leaves})

    def prepare(self, indices: Sequence[PinnedIndex]) -> None:
        leaves: list[Leaf] = []
        for index in indices:
            translation = to_duckdb(index.statement, index.where)
            self._translations[index.name] = translation
            kept = {reduction.release for reduction in translation.reductions if self._is_kept(index, reduction)}
            leaves += [leaf for leaf in index.statement.leaves if leaf.table.release not in kept]
        facts = self._export.check(leaves)
        # Past releases are read once, then kept: a manifest that listed them would tell first builds from later ones.
        self._facts = {table: facts[table] for table in facts if table.release == indices[0].release}

    def running(self, indices: Sequence[PinnedIndex]) -> AbstractContextManager[None]:  # noqa: ARG002
        return nullcontext()  # one query at a time takes the whole machine

    @contextmanager
    def rows(self, index: PinnedIndex) -> Iterator[Iterator[pa.RecordBatch]]:
        translation = self._translations[index.name]
        tables = {leaf.table for leaf in index.statement.leaves}
        with self._explaining(index.name, tables), self._connection.cursor() as cursor:
            # The statistics of a Parquet file pass over NaN; DuckDB skips rows by them, and computes MAX from them.
            blind = "statistics_propagation,filter_pushdown"
            floats = any(leaf.fields[-1].type == "FLOAT" for leaf in index.statement.leaves)
            cursor.execute(f"SET disabled_optimizers = '{blind if floats else ''}'")
            past = {reduction.release for reduction in translation.reductions}
            self._view(cursor, [leaf for leaf in index.statement.leaves if leaf.table.release not in past])
            if past:
                files = [str(self._reduce(index, reduction)) for reduction in translation.reductions]
                cursor.execute(f'CREATE OR REPLACE TEMP VIEW "{PAST_ROWS}" AS FROM {parquet(files)}')
            yield _batches(cursor, translation.sql)

    def _view(self, cursor: duckdb.DuckDBPyConnection, leaves: Sequence[Leaf]) -> None:
        """Make the tables known, with the columns that are read, in the types that BigQuery has them in."""
        columns: dict[Table, dict[str, str]] = {}
        for leaf in leaves:
            name = leaf.fields[0].name
            # BigQuery stores an empty array for NULL; an export may hold either.
            value = f'COALESCE("{name}", [])' if leaf.fields[0].mode == "REPEATED" else f'"{name}"'
            columns.setdefault(leaf.table, {})[name] = f'{value} AS "{name}"'
        for table, selected in columns.items():
            files = parquet(self._export.stage(table))
            cursor.execute(
                f'CREATE OR REPLACE TEMP VIEW "{table}" AS SELECT {", ".join(selected.values())} FROM {files}'
            )

    def _is_kept(self, index: PinnedIndex, reduction: Reduction) -> bool:
        try:
            return self._reduced(index, reduction).exists()
        except IndexerError:
            return False  # the past release is not there, or not whole: the check will say so, among all else

    def _reduced(self, index: PinnedIndex, reduction: Reduction) -> Path:
        """Where the reduction of a past release is kept: by its SQL and by what it reads."""
        tables = {leaf.table for leaf in _of_release(index, reduction.release)}
        key = hashlib.sha256(f"{reduction.sql}\n{self._export.fingerprint(tables)}".encode()).hexdigest()
        return self._cache / "reductions" / f"{index.name}-v{reduction.release}-{key[:32]}.parquet"

    def _reduce(self, index: PinnedIndex, reduction: Reduction) -> Path:
        path = self._reduced(index, reduction)
        with naming(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        # Of two builds that share the cache, one does the work and the other waits for it.
        with filelock.FileLock(path.parent / ".lock"):
            if not path.exists():
                with self._connection.cursor() as cursor, partial(path) as temporary:
                    self._view(cursor, _of_release(index, reduction.release))
                    copy = f"COPY ({reduction.sql}) TO {_quote(str(temporary))} (FORMAT parquet, COMPRESSION zstd)"
                    with ThreadPoolExecutor(1) as pool:
                        _wait(cursor, pool.submit(cursor.execute, copy))
        return path

    @contextmanager
    def _explaining(self, name: str, tables: set[Table]) -> Iterator[None]:
        """Turn what DuckDB says into a message for the user."""
        try:
            with interruptible():
                yield
        except duckdb.OutOfMemoryException as error:
            raise IndexerError(f"{name}: {first_line(error)}", "Raise --memory-limit or lower --threads.") from error
        except (duckdb.Error, pa.ArrowException) as error:
            if shard := self._export.broken(tables):
                raise IndexerError(
                    f"{name}: {shard} is damaged: {first_line(error)}", "Fetch that shard again."
                ) from error
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


def _of_release(index: PinnedIndex, release: int) -> list[Leaf]:
    return [leaf for leaf in index.statement.leaves if leaf.table.release == release]


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def parquet(paths: Sequence[str], options: str = "") -> str:
    """SQL for the rows of exactly these files, whatever characters are in their names.

    DuckDB takes `*`, `?` and `[` for patterns, and `name=value` folders for columns.
    """
    literal = ", ".join(_quote(re.sub(r"([*?\[])", r"[\1]", path)) for path in paths)
    return f"read_parquet([{literal}], hive_partitioning=false{options})"


def first_line(error: Exception) -> str:
    """What happened, without DuckDB's prefix and without the statement it repeats below."""
    line = str(error).split("\n", 1)[0]
    return line.removeprefix("Invalid Input Error: ")
