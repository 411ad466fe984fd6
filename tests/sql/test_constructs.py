"""Every supported construct returns the same rows on both engines, and the message names any other construct.

The constructs are those of the project's notes on GoogleSQL and DuckDB, and others for which the engines differ.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from idc_indexer.errors import IndexerError
from idc_indexer.schema.source_tables import PROJECT
from idc_indexer.sql import to_duckdb
from tests.emulators.googlesql import GoogleSQL, GoogleSQLError
from tests.support.oracle import (
    COLUMNS,
    NAN,
    NOT_SUPPORTED,
    TABLES,
    T,
    assert_same,
    by_duckdb,
    by_googlesql,
    columns_of,
    named,
    rejection,
    statement,
    tables_of,
)
from tests.support.strategies import NO_NUMBERS, NUMBERS, columns_read, table_of

DATA = Path(__file__).parent / "data"


@pytest.mark.parametrize("sql", (DATA / "constructs_same.sql").read_text(encoding="utf-8").split(";\n"))
def test_same_rows(sql: str) -> None:
    it = statement(sql)
    assert_same(it, tables_of(it))


TIES = st.builds(lambda odd, power: (2 * odd + 1) / 2.0**power, st.integers(-(2**51), 2**51), st.integers(1, 8))


@settings(max_examples=25, deadline=None)
@example([2.0**46 + 0.125, 2.0**52 - 0.5, 2.0**39 + 2.0**-5, 2.0**33 - 2.0**-7, -1e23, 5e-324, float("-inf")])
@given(st.lists(st.floats() | st.floats(-10, 10).map(lambda x: round(x, 3)) | TIES, min_size=1, max_size=40))
def test_round_is_the_same_for_every_number(numbers: list[float]) -> None:
    it = statement(f"SELECT id, {', '.join(f'ROUND(f, {n}) AS r{n}' for n in range(7))} FROM `t` ORDER BY id")
    columns = [column for column in COLUMNS[T] if column.name in ("id", "f")]
    assert_same(it, {T: table_of(columns, [{"id": row, "f": number} for row, number in enumerate(numbers)])})


NUMBER_LIKE = st.text("0123456789+-.eE _xnaif,\t", max_size=8)


@settings(max_examples=10, deadline=None)
@example([*NUMBERS, *NO_NUMBERS])
@given(st.lists(NUMBER_LIKE | st.text(max_size=4), min_size=1, max_size=40))
def test_both_engines_read_text_as_the_same_number(texts: list[str]) -> None:
    patterns = r"r'^[-+.0-9eE ]+$'", r"r'^ *[-+]?[0-9]+ *$'"
    it = statement(
        f"SELECT id, SAFE_CAST(REGEXP_EXTRACT(s, {patterns[0]}) AS FLOAT64) AS k, "
        f"SAFE_CAST(REGEXP_EXTRACT(s, {patterns[1]}) AS INT64) AS m, "
        "SAFE_CAST(REPLACE(REPLACE(s, 'x', ''), 'X', '') AS FLOAT64) AS p FROM `t` ORDER BY id"
    )
    columns = [column for column in COLUMNS[T] if column.name in ("id", "s")]
    assert_same(it, {T: table_of(columns, [{"id": row, "s": text} for row, text in enumerate(texts)])})


REJECTED = {
    "SELECT FORMAT('%x', id) AS k FROM `t`": "FORMAT with %x .*; write the verbs",
    "SELECT FORMAT(s, id) AS k FROM `t`": "FORMAT of text that is not a literal",
    "SELECT FORMAT('%5t', id) AS k FROM `t`": "FORMAT with %5t",
    "SELECT FORMAT('%08.2f', f) AS k FROM `t`": "FORMAT with %08.2f",
    "SELECT pow(f, 2) AS k FROM `t`": "POW outside of ROUND",
    "SELECT POWER(f, 2) AS k FROM `t`": "POWER outside of ROUND",
    "SELECT ROUND(IF(POW(f, 2) > 1, 1.0, 2.0), 2) AS k FROM `t`": "POW outside of ROUND",
    "SELECT ROUND(LOG(f, 1.5), 2) AS k FROM `t`": "LOG to a base other than",
    "SELECT ROUND(LOG10(f) * n, 2) AS k FROM `t`": "LOG10 outside of ROUND",
    "SELECT EXP(f) AS k FROM `t`": "EXP",
    "SELECT AVG(f) AS k FROM `t`": "AVG of FLOAT64 .*; write AVG of an INT64",
    "SELECT AVG(DISTINCT n) AS k FROM `t`": "AVG with DISTINCT",
    "SELECT ANY_VALUE(rec) AS k FROM `t`": "ANY_VALUE of STRUCT",
    "SELECT ANY_VALUE(s HAVING MAX n) AS k FROM `t`": "HAVINGMAX",
    "SELECT REGEXP_CONTAINS(s, r) AS k FROM `t`": "REGEXP_CONTAINS of a pattern that is not a literal",
    "SELECT REGEXP_EXTRACT(s, '(b)?') AS k FROM `t`": "REGEXP_EXTRACT of a pattern with an optional group",
    "SELECT REGEXP_EXTRACT(s, '(a)|b') AS k FROM `t`": "REGEXP_EXTRACT of a pattern with an optional group",
    "SELECT REGEXP_EXTRACT(s, 'b', 2) AS k FROM `t`": "REGEXP_EXTRACT with anything but literals after the text",
    "SELECT REGEXP_REPLACE(s, 'b', r) AS k FROM `t`": "REGEXP_REPLACE with anything but",
    "SELECT LPAD(s, n) AS k FROM `t` WHERE id = 1": "LPAD of anything but",
    "SELECT INSTR(s, 'b', 2) AS k FROM `t`": "INSTR",
    "SELECT DATE_DIFF(d, d, WEEK(MONDAY)) AS k FROM `t`": r"DATE_DIFF with the part WEEK\(MONDAY\)",
    "SELECT DATE_TRUNC(d, ISOYEAR) AS k FROM `t`": "DATE_TRUNC with the part ISOYEAR",
    "SELECT PARSE_DATE('%b %Y', s) AS k FROM `t` WHERE id = 9": "PARSE_DATE with %b %Y",
    "SELECT SAFE.PARSE_DATE('%Y', s) AS k FROM `t`": r"SAFE\. is not supported on DuckDB; write SAFE_CAST",
    "SELECT DATE(2020, 1, 2) AS k, id FROM `t`": "DATE",
    "SELECT ARRAY_LENGTH(recs[SAFE_OFFSET(0)].ws) AS k FROM `t`": "ARRAY_LENGTH of anything but a column of a table",
    "SELECT ARRAY_LENGTH(x) AS k FROM (SELECT recs[SAFE_OFFSET(0)].ws AS x FROM `t`)": "ARRAY_LENGTH of anything but",
    "SELECT ARRAY_TO_STRING(x, ',') AS k FROM (SELECT recs[SAFE_OFFSET(0)].ws AS x FROM `t`)": "ARRAY_TO_STRING of any",
    "SELECT ARRAY_AGG(DISTINCT s ORDER BY s)[OFFSET(0)] AS k FROM `t`": "without IGNORE NULLS",
    "SELECT s, COUNT(*) AS m FROM `t` GROUP BY s ORDER BY m LIMIT 2": "LIMIT without ORDER BY all columns",
    "SELECT s FROM `t` ORDER BY s LIMIT 2 OFFSET 1": "OFFSET is not supported on DuckDB; write a window",
    "SELECT s FROM `t` UNION ALL SELECT r FROM `t` ORDER BY s LIMIT 2": "LIMIT",
    "SELECT f IN (1, 2) AS k, id FROM `t`": "IN of FLOAT64.*; write x = a OR x = b",
    "SELECT CAST(f AS STRING) AS k, id FROM `t`": r"CAST of FLOAT64 to STRING.*; write FORMAT",
    "SELECT SUM(n) OVER (ORDER BY id ROWS 1 PRECEDING) AS k FROM `t`": "a window with a frame",
    "SELECT MAX(f) OVER (PARTITION BY s) AS k FROM `t`": "MAX of DISTINCT or FLOAT64 values as a window",
    "SELECT LAG(id) OVER (ORDER BY id, n) AS k FROM `t`": "LAG as a window",
    "SELECT RANK() OVER (ORDER BY f) AS k FROM `t`": "a window ordered by FLOAT64",
    "SELECT AVG(n) OVER (PARTITION BY s) AS k FROM `t`": "AVG as a window",
    "SELECT STRING_AGG(s, ',' ORDER BY s LIMIT 1) AS k FROM `t`": "STRING_AGG",
    "SELECT STRING_AGG(DISTINCT s, ',') AS k FROM `t`": "STRING_AGG",  # in any order
    "SELECT id, ARRAY(SELECT x FROM UNNEST(xs) AS x) AS k FROM `t`": "ARRAY",  # in any order
    "SELECT xs[SAFE_OFFSET(-2)] AS k FROM `t`": "array index",
    "SELECT xs[SAFE_OFFSET(n)] AS k FROM `t`": "array index",
    "SELECT SUM(f) AS k FROM `t`": "SUM of FLOAT64",
    "SELECT n / id AS k FROM `t`": "division",
    "SELECT ROUND(f, n) AS k FROM `t` WHERE id = 1": "ROUND",
    "SELECT ROUND(f, -1) AS k FROM `t`": "ROUND",
    "SELECT CAST(f AS STRING) AS k FROM `t`": "CAST of FLOAT64 to STRING",
    "SELECT CAST(d AS STRING FORMAT 'YYYY') AS k FROM `t`": "CAST",
    "SELECT n, COUNT(*) AS k FROM `t` GROUP BY ROLLUP (n)": "ROLLUP",
    "SELECT id FROM `t` TABLESAMPLE SYSTEM (10 PERCENT)": "TABLESAMPLE",
    "SELECT id FROM `t` WHERE (n, id) IN ((3, 1))": "TUPLE",
    "SELECT id, CURRENT_DATE() AS k FROM `t`": "CURRENT_DATE",
    "SELECT id, RAND() AS k FROM `t`": "RAND",
    "SELECT FARM_FINGERPRINT(s) AS k FROM `t`": "FARM_FINGERPRINT",
    "SELECT SAFE.SUBSTR(s, 1) AS k FROM `t`": "SAFE|SUBSTR",
    "SELECT ROUND(f, 9) AS k FROM `t`": "ROUND",
    "SELECT ARRAY_TO_STRING(xs, ',', 'none') AS k FROM `t`": "ARRAY_TO_STRING",
    "SELECT ARRAY_TO_STRING(xs, s) AS k FROM `t`": "ARRAY_TO_STRING",
    "SELECT ARRAY_AGG(s IGNORE NULLS) AS k FROM `t`": "ARRAY_AGG without ORDER BY",
    "SELECT ARRAY_AGG(s ORDER BY id) AS k FROM `t` WHERE s != ''": "ARRAY_AGG without IGNORE NULLS",
    "SELECT ARRAY_AGG(n IGNORE NULLS ORDER BY f) AS k FROM `t`": "ARRAY_AGG with ORDER BY of FLOAT64",
    "SELECT ARRAY_AGG(DISTINCT s IGNORE NULLS ORDER BY s DESC) AS k FROM `t`": "ARRAY_AGG",
    "SELECT id, ROW_NUMBER() OVER () AS k FROM `t`": "a window",
    "SELECT id, ROW_NUMBER() OVER (ORDER BY f) AS k FROM `t`": "a window ordered by FLOAT64",
    "SELECT id, ACOS(0.5) AS k FROM `t` ORDER BY id": "ACOS outside of ROUND",
    "SELECT id, ROUND(ACOS(0.5) * 1e15, 6) AS k FROM `t` ORDER BY id": "ACOS outside of ROUND",
    "SELECT id, ROUND(ACOS(0.5) * 100 * 100, 6) AS k FROM `t` ORDER BY id": "ACOS outside of ROUND",
    "SELECT id, ROUND(ACOS(0.5) / 1e-9, 6) AS k FROM `t` ORDER BY id": "ACOS outside of ROUND",
    "SELECT id, ROUND(ACOS(0.5) * n, 6) AS k FROM `t` ORDER BY id": "ACOS outside of ROUND",
    "SELECT id, ROUND(IF(ACOS(0.5) < 1, 1.0, 2.0), 6) AS k FROM `t` ORDER BY id": "ACOS outside of ROUND",
    "SELECT id, r LIKE '%\\\\%' AS k FROM `t` ORDER BY id": "LIKE of anything but a literal without backslash",
    "SELECT id, s LIKE r AS k FROM `t` ORDER BY id": "LIKE of anything but a literal",
    "SELECT id, s LIKE ANY ('a%', 'b%') AS k FROM `t` ORDER BY id": "LIKE",
    "SELECT id, LAG(n) OVER (ORDER BY id) AS k FROM `t` ORDER BY id": "LAG of anything but the ascending ORDER BY",
    "SELECT id, LAG(id) OVER (ORDER BY id DESC) AS k FROM `t` ORDER BY id": "LAG of anything but",
    "SELECT id, LAG(id, 1) OVER (ORDER BY id) AS k FROM `t` ORDER BY id": "LAG of anything but",
    "SELECT id, LAG(id, 1, 0) OVER (ORDER BY id) AS k FROM `t` ORDER BY id": "LAG of anything but",
    "SELECT id, LEAD(id) OVER (ORDER BY id) AS k FROM `t` ORDER BY id": "a window other than|LEAD",
    "SELECT id, ROW_NUMBER() OVER (ORDER BY COALESCE(s, r), id) AS k FROM `t`": "a window over expressions",
    "SELECT id, ROW_NUMBER() OVER (PARTITION BY IF(b, s, ERROR(r)) ORDER BY id) AS k FROM `t`": "a window over expr",
}


@pytest.mark.parametrize("sql", REJECTED)
def test_rejected_although_it_is_googlesql(sql: str) -> None:
    assert GoogleSQL.get().analyze(named(sql), {f"{PROJECT}.{table}": rows.schema for table, rows in TABLES.items()})
    with pytest.raises(IndexerError, match=rf"(?m)^it\.sql: line 1: .*({REJECTED[sql]})"):
        to_duckdb(statement(sql), "it.sql")


@pytest.mark.parametrize("sql", (DATA / "constructs_silent.sql").read_text(encoding="utf-8").split(";\n"))
def test_same_rows_or_rejected(sql: str) -> None:
    """Statements that an older version translated wrongly, or that failed in the middle of a build."""
    if why := rejection(sql):
        assert re.search(f"{NOT_SUPPORTED}|alias|UNNEST|reads no", why)
    else:
        assert_same(it := statement(sql), tables_of(it))


def largest(table: pa.Table, name: str) -> list[float]:
    """The maxima in the statistics of a Parquet file, of the leaf columns whose path ends with a name."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    group: Any = pq.ParquetFile(pa.BufferReader(sink.getvalue())).metadata.row_group(0)
    leaves = map(group.column, range(group.num_columns))
    return [leaf.statistics.max for leaf in leaves if leaf.path_in_schema.endswith(name)]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT id FROM `t` WHERE f = 0.125 ORDER BY id",
        "SELECT id FROM `t` WHERE f != 0.125 ORDER BY id",
        "SELECT id FROM `t` WHERE NOT f = 0.125 ORDER BY id",
        "SELECT id FROM `t` WHERE f < 0.5 ORDER BY id",
        "SELECT id FROM `t` WHERE NOT f <= 1 ORDER BY id",
        "SELECT id FROM `t` WHERE NOT 1 >= f ORDER BY id",
        "SELECT id FROM `t` WHERE f BETWEEN 0 AND 0.5 ORDER BY id",
        "SELECT id FROM `t` WHERE f NOT BETWEEN 0 AND 0.5 ORDER BY id",
        "SELECT id FROM `t` WHERE COALESCE(NULLIF(f, 0.125), 0) = 0 ORDER BY id",
        "SELECT id, f = 0.125 AS k, f <= 0.125 AS m FROM `t` ORDER BY id",
        "SELECT id FROM `t` WHERE IS_NAN(f) ORDER BY id",
        "SELECT id FROM `t` WHERE NOT IS_NAN(f) ORDER BY id",
        "SELECT MIN(f) AS k, MAX(f) AS m, MAX(IF(IS_NAN(f), 1, 0)) AS p FROM `t`",
        "SELECT MAX(GREATEST(f, 0)) AS k, MIN(SQRT(f)) AS m FROM `t`",
        "SELECT f, LAG(f) OVER (ORDER BY f) AS k FROM `t` ORDER BY f",
        "SELECT ARRAY_AGG(DISTINCT f IGNORE NULLS ORDER BY f) AS k FROM `t`",
        "SELECT id FROM `t` WHERE f * 2 < 1.5 ORDER BY id",
        "SELECT id FROM `t` WHERE ROUND(f, 1) < 1 ORDER BY id",
        "SELECT id FROM `t` WHERE NOT rec.x <= 1 ORDER BY id",
        "SELECT MAX(rec.x) AS k, MIN(rec.x) AS m FROM `t`",
        "SELECT id FROM `t` WHERE IS_NAN(recs[SAFE_OFFSET(0)].x) ORDER BY id",
        "SELECT id, e.x FROM `t`, UNNEST(recs) AS e WHERE NOT e.x <= 1 ORDER BY id",
        "SELECT id, EXISTS(SELECT 1 FROM UNNEST(recs) AS e WHERE e.x BETWEEN 0 AND 1) AS k FROM `t` ORDER BY id",
        "SELECT id, (SELECT MAX(e.x) FROM UNNEST(recs) AS e) AS k FROM `t` ORDER BY id",
    ],
)
@pytest.mark.parametrize("numbers", [[0.125, NAN], [NAN, 0.125, None], [0.25, 0.5, NAN]], ids=str)
def test_nan_that_parquet_statistics_do_not_show(sql: str, numbers: list[float | None]) -> None:
    """Parquet statistics ignore NaN. By them, `f = 0.125` is true for all rows, and DuckDB would skip the filter."""
    rows = [{"id": n, "f": f, "rec": {"x": f}, "recs": [{"x": f}]} for n, f in enumerate(numbers)]
    it = statement(sql)
    ((_, columns),) = columns_read(it.leaves).items()
    table = table_of(columns, ({column.name: row[column.name] for column in columns} for row in rows))
    assert max(largest(table, ".x") + largest(table, "f")) < 1  # the statistics ignore NaN, or the test shows nothing
    assert_same(it, {T: table})


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT SUM(id + 9223372036854775800) AS k FROM `t`",
        "SELECT n + 9223372036854775807 AS k FROM `t`",
        "SELECT n * -3074457345618258604 AS k FROM `t`",
        "SELECT id, ['a', s] AS k FROM `t` ORDER BY id",
        "SELECT id, IF(id = 2, ERROR(CONCAT('bad ', r)), 'x') AS k FROM `t` ORDER BY id",
        "SELECT id, IF(id = 2, ERROR(NULL), 5) AS k FROM `t` ORDER BY id",
        "SELECT id FROM `t` WHERE IF(id = 3, ERROR(s), TRUE) ORDER BY id",
        "SELECT id, xs[OFFSET(0)] AS k FROM `t` WHERE id = 2 ORDER BY id",
        "SELECT id, xs[OFFSET(0)] AS k FROM `t` WHERE id = 5 ORDER BY id",
        "SELECT id, SQRT(n) AS k FROM `t` ORDER BY id",
        "SELECT id, ROUND(ACOS(f), 6) AS k FROM `t` ORDER BY id",
        "SELECT id, ROUND(ACOS(-n), 6) AS k FROM `t` ORDER BY id",
        "SELECT id, (SELECT w FROM `o` AS o WHERE o.id = a.id) AS k FROM `t` AS a ORDER BY id",
        pytest.param(
            "SELECT id, f * 10 AS k FROM `t` ORDER BY id",
            marks=pytest.mark.xfail(reason="an overflow of FLOAT64 is an error only for GoogleSQL"),
        ),
    ],
)
def test_an_error_on_one_engine_is_one_on_the_other(sql: str) -> None:
    assert not rejection(sql)
    it = statement(sql)
    tables = tables_of(it)
    columns = columns_of(it, tables)
    with pytest.raises(GoogleSQLError):
        by_googlesql(it, tables)
    with pytest.raises(IndexerError):
        by_duckdb(it, tables, columns)
