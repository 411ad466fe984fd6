"""Runs one pinned statement on Google's evaluator and on DuckDB, as a build does, over the same tables.

For tests of single constructs, it has two small source tables, `t` and `o`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from datetime import date, datetime, time, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from idc_indexer.catalog import PinnedIndex
from idc_indexer.engines.duckdb import DuckDBEngine
from idc_indexer.errors import IndexerError
from idc_indexer.exports import open_export
from idc_indexer.schema.arrow import arrow_schema, arrow_type, conform
from idc_indexer.schema.column import Column
from idc_indexer.schema.source_tables import PROJECT, SourceTable, SourceTables
from idc_indexer.schema.table import Schema
from idc_indexer.sql import Statement, analyze, to_duckdb
from tests.emulators.googlesql import GoogleSQL
from tests.support.strategies import table_of

Tables = Mapping[SourceTable, pa.Table]
NOT_SUPPORTED = "is not supported on DuckDB"


def by_googlesql(statement: Statement, tables: Tables) -> pa.Table:
    """The rows that GoogleSQL defines."""
    named = {f"{PROJECT}.{table}": rows for table, rows in tables.items()}
    return GoogleSQL.get().evaluate(statement.text, named)


def by_duckdb(statement: Statement, tables: Tables, columns: tuple[Column, ...]) -> pa.Table:
    """The rows that a build reads from an export and hands to the Parquet writer."""
    release = max((table.release for table in tables), default=0)
    index = PinnedIndex("it", release, Schema("", "", columns, (), (), (), False), statement, "it.sql")
    with tempfile.TemporaryDirectory() as folder:
        for table, rows in tables.items():
            shard = Path(folder, table.dataset, table.name, "000000000000.parquet")
            shard.parent.mkdir(parents=True)
            pq.write_table(rows, shard, write_time_adjusted_to_utc=True)  # as BigQuery does
        export = open_export(folder, cache_dir=Path(folder, "cache"))
        engine = DuckDBEngine(export, Path(folder, "spill"), threads=2, allow_row_count_mismatch=True)
        with engine.plan([index]).running([index]) as run, run.rows(index) as batches:
            return pa.Table.from_batches([conform(b, columns, "it") for b in batches], arrow_schema(columns))


def assert_same(statement: Statement, tables: Tables, columns: tuple[Column, ...] | None = None) -> None:
    """Check that both engines return the same rows in the same order, with the expected names and types.

    Args:
        columns: the expected columns; those of the evaluator if not given.
    """
    expected = by_googlesql(statement, tables)
    columns = columns or tuple(map(_column, expected.schema))
    assert [(field.name, field.type) for field in expected.schema] == [(c.name, arrow_type(c)) for c in columns]
    # conform has one zero and one NaN. Compared as text, because NaN is not equal to itself.
    rows = [row for batch in expected.to_batches() for row in conform(batch, columns, "it").to_pylist()]
    assert repr(by_duckdb(statement, tables, columns).to_pylist()) == repr(rows)


def columns_of(statement: Statement, tables: Tables) -> tuple[Column, ...]:
    """The columns that a statement returns, as a schema document describes them."""
    empty = {table: rows.slice(0, 0) for table, rows in tables.items()}
    return tuple(map(_column, by_googlesql(statement, empty).schema))


def _column(field: pa.Field[Any]) -> Column:
    if pa.types.is_list(field.type):
        one = _column(field.type.value_field)
        return Column(field.name, one.type, "REPEATED", fields=one.fields)
    if pa.types.is_struct(field.type):
        return Column(field.name, "RECORD", fields=tuple(map(_column, field.type)))
    kinds = ("STRING", "INTEGER", "FLOAT", "BOOLEAN", "DATE", "TIME", "DATETIME", "TIMESTAMP", "NUMERIC")
    return next(one for kind in kinds if arrow_type(one := Column(field.name, kind)) == field.type)


NAN = float("nan")
T = SourceTable(25, False, "t")
O = SourceTable(25, False, "o")  # noqa: E741  # the other table
DECLARED: dict[str, Any] = {
    "idc_current.t": {
        "columns": [
            *({"name": name, "type": "INTEGER"} for name in ("id", "n")),
            *({"name": name, "type": "FLOAT"} for name in ("f", "g")),
            *({"name": name, "type": "STRING"} for name in ("s", "r")),
            {"name": "b", "type": "BOOLEAN"},
            {"name": "d", "type": "DATE"},
            {"name": "tm", "type": "TIME"},
            {"name": "dt", "type": "DATETIME"},
            {"name": "ts", "type": "TIMESTAMP"},
            {"name": "q", "type": "NUMERIC"},
            {"name": "xs", "type": "STRING", "mode": "REPEATED"},
            {"name": "ns", "type": "INTEGER", "mode": "REPEATED"},
            {
                "name": "rec",
                "type": "RECORD",
                "fields": [
                    {"name": "a", "type": "STRING"},
                    {"name": "c", "type": "INTEGER"},
                    {"name": "x", "type": "FLOAT"},
                ],
            },
            {
                "name": "recs",
                "type": "RECORD",
                "mode": "REPEATED",
                "fields": [
                    {"name": "a", "type": "STRING"},
                    {"name": "c", "type": "INTEGER"},
                    {"name": "x", "type": "FLOAT"},
                    {"name": "ws", "type": "STRING", "mode": "REPEATED"},
                    {"name": "deep", "type": "RECORD", "mode": "REPEATED", "fields": [{"name": "z", "type": "STRING"}]},
                ],
            },
        ]
    },
    "idc_current.o": {"columns": [{"name": "id", "type": "INTEGER"}, {"name": "w", "type": "STRING"}]},
}
COLUMNS = {
    table: tuple(Column.from_document(column) for column in DECLARED[table.family]["columns"]) for table in (T, O)
}
SOURCES = SourceTables((DECLARED,))
TABLES: Tables = {
    T: table_of(
        COLUMNS[T],
        [
            {
                "id": 1, "n": 3, "f": 2.675, "g": NAN, "s": "b", "r": "a", "b": True, "d": date(2020, 1, 2),
                "tm": time(10, 11, 12, 100_000), "dt": datetime(2020, 1, 2, 3, 4, 5), "q": Decimal("0.1"),
                "ts": datetime(2020, 1, 2, 3, 4, 5, 6, tzinfo=timezone.utc),
                "xs": ["x", "y"], "ns": [1, 2], "rec": {"a": "q", "c": 9, "x": NAN},
                "recs": [
                    {"a": "1", "c": 1, "x": NAN, "ws": ["z", "y"], "deep": [{"z": "z1"}, {"z": None}]},
                    {"a": None, "c": 2, "x": 0.5, "ws": None, "deep": None},
                ],
            },
            {"id": 2, "n": 7, "f": NAN, "g": NAN, "s": "", "r": "b", "b": False, "xs": [], "recs": []},
            {
                "id": 3, "n": -1, "f": 0.125, "g": 0.125, "s": None, "r": "ä", "d": date(1, 1, 1),
                "tm": time(0, 0, 0, 1), "dt": datetime(2020, 1, 2), "q": Decimal(3),
                "ts": datetime(2020, 1, 2, tzinfo=timezone.utc),
                "xs": ["a,b", "", "q"], "ns": [7], "rec": {"a": None, "c": 1, "x": 0.5},
                "recs": [{"a": "k", "c": None, "x": 1.5, "ws": [], "deep": [{"z": "d"}]}],
            },
            {
                "id": 4, "n": 3, "f": 1e308, "g": -1e308, "s": "B", "r": "B", "b": True, "d": date(9999, 12, 31),
                "tm": time(23, 59, 59), "ns": [],
            },
            {"id": 5, "g": 5.0, "s": "b", "r": "a,b"},
            {"id": 6, "n": 0, "f": -0.0, "g": 0.0, "s": "ab\nc", "r": "b%_", "b": False, "recs": [{"ws": ["", "b"]}]},
            {"id": 7, "n": 2**53 + 1, "f": 2.0**53, "g": float("inf"), "s": "äb", "r": "\U0001f600b"},
        ],
    ),
    O: table_of(COLUMNS[O], [{"id": 1, "w": "o1"}, {"id": 1, "w": None}, {"id": 7, "w": "o7"}]),
}  # fmt: skip


def named(sql: str) -> str:
    """The statement with the full names of the two tables instead of `t` and `o`."""
    return sql.replace("`t`", f"`{PROJECT}.{T}`").replace("`o`", f"`{PROJECT}.{O}`")


def statement(sql: str) -> Statement:
    """A statement over `t` and `o`."""
    return analyze(named(sql), SOURCES, "it.sql")


def tables_of(statement: Statement) -> Tables:
    """The tables among the two that a statement names."""
    return {table: rows for table, rows in TABLES.items() if f".{table}`" in statement.text}


def rejection(sql: str) -> str:
    """The error of analysis or translation of a statement over `t` and `o`, "" if there is none."""
    try:
        to_duckdb(statement(sql), "it.sql")
    except IndexerError as error:
        return str(error)
    return ""
