"""Keys: unique, without NULL, and in the order that the schema states, checked while a table is written.

A key that repeats leaves the order of its rows open, so the same input would give another digest on each run. `verify`
finds that too, but on a release that took hours to build.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from idc_indexer.duckdb_session import bounded, first_line, first_row, interruptible, quote_name, read_parquet
from idc_indexer.errors import IndexerError
from idc_indexer.schema.table import Schema

HASH = "hash({})"
_FIX = "Fix the query (GROUP BY the key, ORDER BY as in the schema) or the schema (primary_key, order)."


class KeyCheck:
    """Checks the rows of one table as they pass.

    Two rows that follow each other show whether the order holds and, since the order ends with the key, whether a key
    repeats next to itself. A key that repeats elsewhere is possible if columns before it in the order differ:
    `finish` finds it in the written file.

    Measured on idc_index of release 25.0.5 (1,044,191 rows; the key is the last of four columns in the order), as a
    share of the time of writing: `add` 1 to 3 %, `finish` 6 to 16 %.
    """

    def __init__(self, schema: Schema, context: str) -> None:
        self._schema, self._context = schema, context
        self._last: pa.Table | None = None
        self._rows = 0

    def add(self, table: pa.Table) -> None:
        """Check the next rows.

        Raises:
            IndexerError: NULL in a key column, a repeated key, a row that is out of order.
        """
        for column in self._schema.primary_key:
            if nulls := table[column].null_count:
                raise IndexerError(f"{self._context}: {column} is part of the key and is NULL in {nulls} rows", _FIX)
        ordered = table.select(self._schema.order_columns)
        if self._last is not None:
            self._compare(pa.concat_tables([self._last, ordered.slice(0, 1)]).combine_chunks(), self._rows - 1)
        self._compare(ordered, self._rows)
        self._rows += table.num_rows
        self._last = ordered.slice(table.num_rows - 1)

    def _compare(self, table: pa.Table, start: int) -> None:
        """Compare each row with the next one. `start` is the number of rows before the table."""
        before, after = table.slice(0, table.num_rows - 1), table.slice(1)
        less: Any = pa.scalar(False)  # an array after the first term
        same: Any = pa.scalar(True)
        for term in self._schema.order:
            name = term.removesuffix(" DESC")
            a, b = (after, before) if term.endswith(" DESC") else (before, after)
            smaller, equal = _compared(a[name], b[name])
            less = pc.or_(less, pc.and_(same, smaller))
            same = pc.and_(same, equal)
        astray = pc.index(less, False).as_py() if table.num_rows > 1 else -1
        if astray < 0:
            return
        key = {name: after[name][astray].as_py() for name in self._schema.primary_key}
        if same[astray].as_py():
            raise _repeated(self._context, key.keys(), key.values())
        order = ", ".join(self._schema.order)
        row = {name: after[name][astray].as_py() for name in after.column_names}
        previous = {name: before[name][astray].as_py() for name in before.column_names}
        raise IndexerError(
            f"{self._context}: row {start + astray + 2} is not in the order {order}: "
            f"{_shown(row.values())} comes after {_shown(previous.values())}",
            _FIX,
        )

    def finish(self, path: Path) -> None:
        """Find keys that repeat without being neighbours.

        Raises:
            IndexerError: a repeated key.
        """
        if _adjoin(self._schema):
            return
        key, rows = self._schema.primary_key, read_parquet([str(path)])
        with interruptible(), bounded() as connection:
            try:
                if _hashes_differ(connection, rows, key):
                    return
                columns = ", ".join(map(quote_name, key))
                twice = f"SELECT {columns} FROM {rows} GROUP BY ALL HAVING count(*) > 1 ORDER BY ALL LIMIT 1"
                if found := first_row(connection, twice):
                    raise _repeated(self._context, key, found)
            except duckdb.Error as error:
                raise IndexerError(f"{self._context}: the keys cannot be compared: {first_line(error)}") from error


def hold(connection: duckdb.DuckDBPyConnection, path: Path, schema: Schema) -> bool:
    """Whether the rows of a file are in order and their keys unique, without NULL; no row is sorted for that.

    Returns:
        False also if that cannot be told: two keys have the same hash, or pages are damaged.
    """
    check = KeyCheck(schema, path.name)
    try:
        with pq.ParquetFile(path) as parquet_file:
            for batch in parquet_file.iter_batches(columns=schema.order_columns):
                check.add(pa.Table.from_batches([batch]))
    except (IndexerError, pa.ArrowException, OSError, ValueError, OverflowError, MemoryError):
        return False
    return _adjoin(schema) or _hashes_differ(connection, read_parquet([str(path)]), schema.primary_key)


def _adjoin(schema: Schema) -> bool:
    """Whether equal keys would be neighbours in the order."""
    key = schema.primary_key
    return set(schema.order_columns[: len(key)]) == set(key)


def _hashes_differ(connection: duckdb.DuckDBPyConnection, rows: str, key: Iterable[str]) -> bool:
    """Whether all keys have different hashes, and so are different.

    119 MB of memory for idc_index; grouping by the UIDs themselves takes 223 MB.
    """
    columns = ", ".join(map(quote_name, key))
    sql = f"SELECT count(*) - count(DISTINCT {HASH.format(columns)}) FROM {rows}"
    return first_row(connection, sql) == (0,)


def _compared(a: Any, b: Any) -> tuple[Any, Any]:
    """Where a < b and where a = b, as GoogleSQL orders values: NULL, then NaN, then numbers or text by code points."""
    if pa.types.is_floating(a.type):
        rank_a, rank_b = _rank(a), _rank(b)
        numbers = pc.equal(rank_a, pa.scalar(2))
        smaller, equal = pc.less(rank_a, rank_b), pc.equal(rank_a, rank_b)
        both = pc.and_(equal, numbers)
        smaller = pc.or_(smaller, pc.and_(both, pc.fill_null(pc.less(a, b), False)))
        return smaller, pc.and_(equal, pc.or_(pc.invert(numbers), pc.fill_null(pc.equal(a, b), True)))
    smaller, equal = pc.less(a, b), pc.equal(a, b)
    if not (a.null_count or b.null_count):
        return smaller, equal
    null_a, null_b = pc.is_null(a), pc.is_null(b)
    smaller = pc.or_(pc.fill_null(smaller, False), pc.and_(null_a, pc.invert(null_b)))
    return smaller, pc.or_(pc.fill_null(equal, False), pc.and_(null_a, null_b))


def _rank(values: Any) -> Any:
    """0 for NULL, 1 for NaN, 2 for a number."""
    return pc.if_else(pc.is_null(values), 0, pc.if_else(pc.fill_null(pc.is_nan(values), False), 1, 2))


def _repeated(context: str, key: Iterable[str], values: Iterable[Any]) -> IndexerError:
    return IndexerError(f"{context}: the key {', '.join(key)} is not unique: {_shown(values)} is there twice", _FIX)


def _shown(values: Iterable[Any]) -> str:
    return ", ".join("NULL" if value is None else str(value)[:100] for value in values)
