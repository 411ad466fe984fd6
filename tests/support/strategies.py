"""Hypothesis strategies: the source tables that a statement reads, of any nesting, and GoogleSQL over a table."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import date, datetime, time, timezone
from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st
from pydicom.datadict import dictionary_VR, tag_for_keyword
from sqlglot import exp

from idc_indexer.schema.arrow import arrow_schema
from idc_indexer.schema.column import Column
from idc_indexer.schema.source_tables import SourceTable
from idc_indexer.sql import Leaf, Statement

Values = st.SearchStrategy[Any]
Texts = st.SearchStrategy[str]

TEXT = ["", "a", "b", "B", "ä", "a,b", "b:c", "it's", '"', "\\n", "%", " a", "\U0001f600", "\ufffd", "2", "12.0"]
SCALARS: dict[str, Values] = {
    "STRING": st.sampled_from(TEXT) | st.text(max_size=3),
    "INTEGER": st.integers(-3, 12),
    "FLOAT": st.sampled_from(
        [0.0, -0.0, -0.5, 0.125, 0.375, 1.005, 2.675, 1e15, -1e-7, float("nan"), float("inf"), float("-inf")]
    ),
    "BOOLEAN": st.booleans(),
    "DATE": st.sampled_from([date(1, 1, 1), date(1969, 12, 31), date(2020, 2, 29), date(9999, 12, 31)]),
    "TIME": st.sampled_from([time(0), time(10, 11, 12, 100_000), time(23, 59, 59, 999_999)]),
    "DATETIME": st.sampled_from([datetime(1969, 12, 31, 23, 59), datetime(2020, 2, 29, 1, 2, 3, 4)]),
    "TIMESTAMP": st.sampled_from([datetime(2020, 2, 29, 1, 2, 3, 4, tzinfo=timezone.utc)]),
    "NUMERIC": st.sampled_from([Decimal("0.000000001"), Decimal(-12)]),
}

NUMBERS = [
    *("0", "1", "2", "-0", "2.5", "-0.5", "0.1", "0.30000000000000004", "1.", ".5", "+3", "007", " 5 ", "1e3", "12.0"),
    *("5.e-2", "1E+2", "120", "9223372036854775807", "-9223372036854775808", "123456789012345678901234567890"),
]
NO_NUMBERS = [
    *("", " ", "abc", "nan", "NaN", "inf", "-inf", "1_000", "0x10", "+-1", "-+1", "1e+-5", "1,5", ".", "1e", "e5", "-"),
    *("- 5", "1 2", "1.2.3", "1e400", "-1e400", "1e-400", "9223372036854775808", "1\n", "\t1", "\u0663", "1\u00a0"),
    *("12.0", "1e3", "'1'", "1\\2"),
]


def mostly(usual: Values, other: Values = st.none(), odds: int = 5) -> Values:  # noqa: B008  # a strategy is a value
    """The usual `odds` times for each time of the other, which is what hypothesis simplifies to."""
    return st.integers(0, odds).flatmap(lambda drawn: usual if drawn else other)


NUMERIC = mostly(st.sampled_from(NUMBERS), st.sampled_from(NO_NUMBERS))
"""Text of a DICOM number, for both value representations, DS and IS: a DS is no IS and gets into one all the same."""


def is_numeric(name: str) -> bool:
    """Whether it is a DICOM attribute whose text is a number."""
    tag = tag_for_keyword(name)
    return tag is not None and dictionary_VR(tag) in ("DS", "IS")


def compared(statement: Statement) -> dict[str, Values]:
    """Values for the columns and fields by which a statement chooses its rows: nearly all are chosen."""
    texts: dict[str, list[str]] = {}
    for node in statement.tree.find_all(exp.EQ, exp.In):
        literals = [one.name for one in (*node.expressions, node.expression) if isinstance(one, exp.Literal)]
        if literals and isinstance(node.this, (exp.Column, exp.Dot)):
            texts.setdefault(node.this.name, []).extend(literals)
    return {name: mostly(st.sampled_from(found), st.none() | SCALARS["STRING"]) for name, found in texts.items()}


def columns_read(leaves: Iterable[Leaf]) -> dict[SourceTable, tuple[Column, ...]]:
    """The columns of every table that has leaves, each with those fields that lie on the way to one."""
    paths: dict[SourceTable, list[tuple[Column, ...]]] = {}
    for leaf in leaves:
        paths.setdefault(leaf.table, []).append(leaf.fields)
    return {table: _merged(found) for table, found in paths.items()}


def _merged(paths: list[tuple[Column, ...]]) -> tuple[Column, ...]:
    heads = {head.name: head for head, *_ in paths}
    below = {name: [path[1:] for path in paths if path[0].name == name and path[1:]] for name in heads}
    return tuple(replace(head, fields=_merged(below[name])) for name, head in heads.items())


def table_of(columns: Iterable[Column], rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """A source table with these rows; what a row does not mention is NULL."""
    return pa.Table.from_pylist(list(map(dict, rows)), arrow_schema(columns))


def values(field: Column, named: Mapping[str, Values]) -> Values:
    """What an export may hold in a column: NULL too, for an array as well, though never inside one."""
    if field.name in named:
        return named[field.name]
    one = record(field.fields, named) if field.type == "RECORD" else SCALARS[field.type]
    if field.type == "STRING" and is_numeric(field.name):
        one = NUMERIC
    if field.mode == "REPEATED":
        return mostly(st.lists(one, min_size=1, max_size=3), st.just([]) | st.none())
    return mostly(one)


def record(fields: Iterable[Column], named: Mapping[str, Values]) -> st.SearchStrategy[dict[str, Any]]:
    """A row, or one value of a record."""
    return st.fixed_dictionaries({field.name: values(field, named) for field in fields})


def rows_of(
    columns: Iterable[Column], named: Mapping[str, Values], key: Collection[str] = (), most: int = 8
) -> st.SearchStrategy[pa.Table]:
    """A source table of one row or more, that holds each combination of values of `key` once."""
    columns = tuple(columns)
    unique = (lambda row: tuple(row[name] for name in key)) if key else None
    rows = st.lists(record(columns, named), min_size=1, max_size=most, unique_by=unique)
    return rows.map(lambda drawn: table_of(columns, drawn))


def stored(columns: Iterable[Column], rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Those rows as an index holds them: [] in place of every array that is NULL, 0.0 in place of -0.0."""
    return [{column.name: _stored(column, row[column.name]) for column in columns} for row in rows]


def _stored(field: Column, value: Any) -> Any:
    if field.mode == "REPEATED":
        return [_stored(replace(field, mode="NULLABLE"), item) for item in value or ()]
    if isinstance(value, float):
        return value + 0.0
    return stored(field.fields, [value])[0] if field.type == "RECORD" and value is not None else value


def source_tables(
    leaves: Iterable[Leaf], named: Mapping[str, Values], keys: Mapping[str, Collection[str]]
) -> st.SearchStrategy[dict[SourceTable, pa.Table]]:
    """Exports that hold what a statement reads.

    Args:
        named: what to draw for columns and fields of these names, instead of anything of their type.
        keys: what the columns of the key of a table may be called, by the name of the table.
    """

    def rows(table: SourceTable, columns: tuple[Column, ...]) -> st.SearchStrategy[pa.Table]:
        key = [column.name for column in columns if column.name in keys.get(table.name, ())]
        return rows_of(columns, named, key)

    return st.fixed_dictionaries({table: rows(table, columns) for table, columns in columns_read(leaves).items()})


def form(template: str, *parts: Texts) -> Texts:
    """The template with drawn texts in its places."""
    return st.tuples(*parts).map(lambda drawn: template.format(*drawn))


def expressions(depth: int) -> dict[str, Texts]:
    """GoogleSQL expressions, by type, over the columns of the table `t` in test_oracle."""
    atoms: dict[str, Texts] = {
        "INT64": st.sampled_from(["id", "n", "rec.c", "ns[SAFE_OFFSET(0)]", "(SELECT MAX(v) FROM UNNEST(ns) AS v)"]),
        "FLOAT64": st.sampled_from(
            [
                "f",
                "rec.x",
                "2.5e-1",
                "(n / 8)",
                "(n * 0.1)",
                "ROUND(n / 1000, 2)",
                "(SELECT MAX(v.x) FROM UNNEST(recs) AS v)",
            ]
        ),
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
                "EXISTS(SELECT 1 FROM UNNEST(recs) AS v WHERE v.x <= 1)",
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
        | form("SAFE_CAST({} AS FLOAT64)", s)
        | form("({} / NULLIF({}, 0))", i, i)
        | form("SQRT(GREATEST({}, 0))", f)
        | form("ROUND(ACOS(IF({0} BETWEEN -1 AND 1, {0}, NULL)) * 57.3, 6)", f),
        "STRING": form("CONCAT({}, 'it\\'s', {})", s, s)
        | form("REPLACE({}, {}, 'a')", s, s)
        | form("SPLIT({}, ',')[SAFE_OFFSET(0)]", s),
        "BOOL": form("({} AND {})", b, b)
        | form("({} OR NOT {})", b, b)
        | form("({} IS NOT FALSE)", b)
        | form("({} LIKE {})", s, st.sampled_from(["'%'", "'_'", "'%b%'", "'_:%'", "''", "'it\\'s'"]))
        | form("IS_NAN({})", f)
        | form("({} {} {})", f, st.sampled_from(["<", "<=", "=", "!=", ">"]), st.sampled_from(["0", "-0.5", "1e15"]))
        | form("({} NOT BETWEEN -0.5 AND 2.675)", f),
    }
    for kind, one in inner.items():
        deeper[kind] |= form("IF({}, {}, {})", b, one, one) | form("COALESCE({}, NULLIF({}, {}))", one, one, one)
        deeper[kind] |= form("GREATEST({}, {})", one, one)
        deeper[kind] |= form("CASE {} WHEN {} THEN {} WHEN {} THEN {} END", s, s, one, s, one)
        deeper["BOOL"] |= form("({} < {})", one, one) | form("({} >= {})", one, one) | form("({} != {})", one, one)
        deeper["BOOL"] |= form("({} BETWEEN {} AND {})", one, one, one) | form("({} IN ({}, NULL))", one, one)
    return {kind: atoms[kind] | deeper[kind] for kind in atoms}
