"""Hypothesis strategies: the source tables that a statement reads, of any nesting, and GoogleSQL over a table."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import date, datetime, time, timezone
from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from idc_indexer.arrow import arrow_schema
from idc_indexer.fields import Field
from idc_indexer.sources import Table
from idc_indexer.sql import Leaf

Values = st.SearchStrategy[Any]
Texts = st.SearchStrategy[str]

TEXT = ["", "a", "b", "B", "ä", "a,b", "b:c", "it's", '"', "\\n", "%", " a", "\U0001f600", "\ufffd", "2", "12.0"]
SCALARS: dict[str, Values] = {
    "STRING": st.sampled_from(TEXT) | st.text(max_size=3),
    "INTEGER": st.integers(-3, 12),
    # not -0.0: DuckDB 1.x makes it 0.0 where it sorts
    "FLOAT": st.sampled_from([0.0, -0.5, 0.125, 0.375, 1.005, 2.675, 1e15, -1e-7, float("nan"), float("inf")]),
    "BOOLEAN": st.booleans(),
    "DATE": st.sampled_from([date(1, 1, 1), date(1969, 12, 31), date(2020, 2, 29), date(9999, 12, 31)]),
    "TIME": st.sampled_from([time(0), time(10, 11, 12, 100_000), time(23, 59, 59, 999_999)]),
    "DATETIME": st.sampled_from([datetime(1969, 12, 31, 23, 59), datetime(2020, 2, 29, 1, 2, 3, 4)]),
    "TIMESTAMP": st.sampled_from([datetime(2020, 2, 29, 1, 2, 3, 4, tzinfo=timezone.utc)]),
    "NUMERIC": st.sampled_from([Decimal("0.000000001"), Decimal(-12)]),
}


def columns_read(leaves: Iterable[Leaf]) -> dict[Table, tuple[Field, ...]]:
    """The columns of every table that has leaves, each with those fields that lie on the way to one."""
    paths: dict[Table, list[tuple[Field, ...]]] = {}
    for leaf in leaves:
        paths.setdefault(leaf.table, []).append(leaf.fields)
    return {table: _merged(found) for table, found in paths.items()}


def _merged(paths: list[tuple[Field, ...]]) -> tuple[Field, ...]:
    heads = {head.name: head for head, *_ in paths}
    below = {name: [path[1:] for path in paths if path[0].name == name and path[1:]] for name in heads}
    return tuple(replace(head, fields=_merged(below[name])) for name, head in heads.items())


def table_of(columns: Iterable[Field], rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """A source table with these rows; what a row does not mention is NULL."""
    return pa.Table.from_pylist(list(map(dict, rows)), arrow_schema(columns))


def values(field: Field, named: Mapping[str, Values]) -> Values:
    """What an export may hold in a column: NULL too, for an array as well, though never inside one."""
    if field.name in named:
        return named[field.name]
    one = record(field.fields, named) if field.type == "RECORD" else SCALARS[field.type]
    return st.none() | (st.lists(one, max_size=3) if field.mode == "REPEATED" else one)


def record(fields: Iterable[Field], named: Mapping[str, Values]) -> st.SearchStrategy[dict[str, Any]]:
    """A row, or one value of a record."""
    return st.fixed_dictionaries({field.name: values(field, named) for field in fields})


def rows_of(
    columns: Iterable[Field], named: Mapping[str, Values], key: str | None = None, most: int = 8
) -> st.SearchStrategy[pa.Table]:
    """A source table of one row or more, that holds each value of `key` once."""
    columns = tuple(columns)
    unique = (lambda row: row[key]) if key else None
    rows = st.lists(record(columns, named), min_size=1, max_size=most, unique_by=unique)
    return rows.map(lambda drawn: table_of(columns, drawn))


def stored(columns: Iterable[Field], rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Those rows as BigQuery stores them: [] in place of every array that is NULL."""
    return [{column.name: _stored(column, row[column.name]) for column in columns} for row in rows]


def _stored(field: Field, value: Any) -> Any:
    if field.mode == "REPEATED":
        return [_stored(replace(field, mode="NULLABLE"), item) for item in value or ()]
    return stored(field.fields, [value])[0] if field.type == "RECORD" and value is not None else value


def source_tables(
    leaves: Iterable[Leaf], named: Mapping[str, Values], keys: Mapping[str, Collection[str]]
) -> st.SearchStrategy[dict[Table, pa.Table]]:
    """Exports that hold what a statement reads.

    Args:
        named: what to draw for columns and fields of these names, instead of anything of their type.
        keys: what the key of a table may be called, by the name of the table.
    """

    def rows(table: Table, columns: tuple[Field, ...]) -> st.SearchStrategy[pa.Table]:
        key = next((column.name for column in columns if column.name in keys.get(table.name, ())), None)
        return rows_of(columns, named, key)

    return st.fixed_dictionaries({table: rows(table, columns) for table, columns in columns_read(leaves).items()})


def form(template: str, *parts: Texts) -> Texts:
    """The template with drawn texts in its places."""
    return st.tuples(*parts).map(lambda drawn: template.format(*drawn))


def expressions(depth: int) -> dict[str, Texts]:
    """GoogleSQL expressions, by type, over the columns of the table `t` in test_oracle."""
    atoms: dict[str, Texts] = {
        "INT64": st.sampled_from(["id", "n", "rec.c", "ns[SAFE_OFFSET(0)]", "(SELECT MAX(v) FROM UNNEST(ns) AS v)"]),
        "FLOAT64": st.sampled_from(["f", "2.5e-1", "(n / 8)", "(n * 0.1)", "ROUND(n / 1000, 2)"]),
        "STRING": st.sampled_from(
            [
                "s",
                "r",
                "rec.a",
                "xs[SAFE_OFFSET(1)]",
                "ARRAY_TO_STRING(xs, ',')",
                "CAST(n AS STRING)",
                "CAST(d AS STRING)",
            ]
        ),
        "BOOL": st.sampled_from(
            [
                "b",
                "(n = 7)",
                "(s IS NULL)",
                "(s IN UNNEST(xs))",
                "EXISTS(SELECT 1 FROM UNNEST(recs) AS v WHERE v.c = n)",
            ]
        ),
    }
    if not depth:
        return atoms
    inner = expressions(depth - 1)
    i, f, s, b = inner.values()
    deeper = {
        "INT64": form("({} - {} * 3)", i, i)
        | form("SAFE_CAST(REGEXP_EXTRACT({}, r'^ *[-+]?[0-9]+ *$') AS INT64)", s)
        | form("(SELECT COUNT(*) FROM UNNEST(recs) AS v WHERE v.a <= {})", s),
        "FLOAT64": form("({} - {} / 0.3)", f, f)
        | form("ROUND({} * 1.5, 1)", f)
        | form("({} + {})", i, f)
        | form("SAFE_CAST({} AS FLOAT64)", s),
        "STRING": form("CONCAT({}, 'it\\'s', {})", s, s)
        | form("REPLACE({}, {}, 'a')", s, s)
        | form("SPLIT({}, ',')[SAFE_OFFSET(0)]", s),
        "BOOL": form("({} AND {})", b, b) | form("({} OR NOT {})", b, b) | form("({} IS NOT FALSE)", b),
    }
    for kind, one in inner.items():
        deeper[kind] |= form("IF({}, {}, {})", b, one, one) | form("COALESCE({}, NULLIF({}, {}))", one, one, one)
        deeper[kind] |= form("CASE {} WHEN {} THEN {} WHEN {} THEN {} END", s, s, one, s, one)
        deeper["BOOL"] |= form("({} < {})", one, one) | form("({} >= {})", one, one) | form("({} != {})", one, one)
        deeper["BOOL"] |= form("({} BETWEEN {} AND {})", one, one, one) | form("({} IN ({}, NULL))", one, one)
    return {kind: atoms[kind] | deeper[kind] for kind in atoms}
