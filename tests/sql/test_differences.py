"""Every known difference between GoogleSQL and DuckDB.

The topics are the rows of the two tables in the project's notes: wrong translations, and text that means something else
on each engine. For each topic, some statements return the same rows on both engines. The others are rejected, or are an
error on both engines.
"""

from __future__ import annotations

import re

import pytest

from idc_indexer.errors import IndexerError
from tests.emulators.googlesql import GoogleSQLError
from tests.support.oracle import assert_same, by_duckdb, by_googlesql, columns_of, rejection, statement, tables_of

SAME, ERROR = "means the same", "is an error"
INT = r"r'^ *[-+]?[0-9]+ *$'"
FLOAT = r"r'^[-+.0-9eE ]+$'"

# Statements over `t`, or the columns of one after its id, with the expected outcome: SAME, ERROR, or a fragment of the
# message.
TRANSLATION: dict[str, dict[str, str]] = {
    "ARRAY_AGG(x IGNORE NULLS)": {
        "SELECT ARRAY_AGG(s IGNORE NULLS ORDER BY id) AS k FROM `t`": SAME,
        "SELECT b, ARRAY_AGG(n IGNORE NULLS ORDER BY id DESC) AS k FROM `t` GROUP BY b ORDER BY b": SAME,
        "SELECT ARRAY_AGG(s ORDER BY id) AS k FROM `t` WHERE s IS NOT NULL": "ARRAY_AGG without IGNORE NULLS",
    },
    "UNNEST WITH OFFSET": {
        "SELECT id, x FROM `t`, UNNEST(xs) AS x WITH OFFSET AS p ORDER BY id, p DESC": SAME,
        "SELECT id, x FROM `t`, UNNEST(xs) AS x WITH OFFSET AS p WHERE p = 1 ORDER BY id": SAME,
        "SELECT id, p FROM `t`, UNNEST(xs) AS x WITH OFFSET AS p ORDER BY id, p": SAME,
    },
    "array index that is no literal": {
        "ns[SAFE_OFFSET(1)] AS k, ns[SAFE_ORDINAL(1)] AS m": SAME,
        "ns[SAFE_OFFSET(id)] AS k": "array index",
        "SELECT id, ns[OFFSET(n)] AS k FROM `t` WHERE id = 9 ORDER BY id": "array index",
    },
    "CAST AS INT": {
        "CAST('3000000000' AS INT64) AS k": SAME,
        "CAST('3000000000' AS INT) AS k": "CAST of STRING to INT ",
        f"SAFE_CAST(REGEXP_EXTRACT(s, {INT}) AS INT) AS k": "SAFE_CAST of STRING to INT ",
        f"SAFE_CAST(REGEXP_EXTRACT(s, {INT}) AS SMALLINT) AS k": "to SMALLINT",
        f"SAFE_CAST(REGEXP_EXTRACT(s, {FLOAT}) AS FLOAT) AS k": "to REAL",
    },
    "STRING_AGG(DISTINCT e ORDER BY e)": {
        "SELECT STRING_AGG(DISTINCT CAST(n AS STRING), ',' ORDER BY CAST(n AS STRING)) AS k FROM `t`": SAME,
        "SELECT STRING_AGG(DISTINCT CONCAT(s, r) ORDER BY CONCAT(s, r)) AS k FROM `t`": SAME,
    },
    "ROUND to digits that are no literal": {
        "ROUND(f, 2) AS k": SAME,
        "SELECT id, ROUND(f, n) AS k FROM `t` WHERE id = 1 ORDER BY id": "ROUND to digits",
    },
    "ARRAY_AGG(... LIMIT 1)": {
        "SELECT ARRAY_AGG(s IGNORE NULLS ORDER BY s, id)[SAFE_OFFSET(0)] AS k FROM `t`": SAME,
        "SELECT ARRAY_AGG(s IGNORE NULLS ORDER BY s LIMIT 1) AS k FROM `t`": SAME,
    },
    "ORDER BY the alias of a subquery": {
        "SELECT id, (SELECT COUNT(x) FROM UNNEST(ns) AS x) AS k FROM `t` ORDER BY k DESC, id": SAME,
        "SELECT id FROM `t` AS t ORDER BY (SELECT COUNT(x) FROM UNNEST(t.ns) AS x), id": "ORDER BY an expression",
    },
    "scripts": {
        "DECLARE x INT64; SELECT id FROM `t` ORDER BY id": "exactly one SELECT",
        "SET x = 1": "exactly one SELECT",
        "BEGIN SELECT id FROM `t` ORDER BY id; END": "not GoogleSQL|exactly one SELECT",
    },
    "FORMAT": {"FORMAT('%d', n) AS k": SAME, "FORMAT('%x', n) AS k": "FORMAT with %x"},
    "# comments": {
        "SELECT id, n # it's one\nFROM `t` -- another; no end\n/* and # no third */ ORDER BY id": SAME,
        "SELECT id, 1 + # 'half a string\nn AS k FROM `t` ORDER BY id": SAME,
    },
}
SAME_TEXT: dict[str, dict[str, str]] = {
    "ANY_VALUE": {
        "SELECT b, MIN(s) AS k FROM `t` GROUP BY b ORDER BY b": SAME,
        "SELECT id, ANY_VALUE(s) AS k, ANY_VALUE(f) AS m FROM `t` GROUP BY id ORDER BY id": SAME,
    },
    "SAFE_CAST of text to INT64": {
        f"SAFE_CAST(REGEXP_EXTRACT('12.0', {INT}) AS INT64) AS k": SAME,
        f"SAFE_CAST(REGEXP_EXTRACT('1e3', {INT}) AS INT64) AS k": SAME,
        f"SAFE_CAST(REGEXP_EXTRACT('1_000', {INT}) AS INT64) AS k": SAME,
        f"SAFE_CAST(REGEXP_EXTRACT(' +007 ', {INT}) AS INT64) AS k": SAME,
        "SAFE_CAST(s AS INT64) AS k": SAME,
        f"SAFE_CAST(REGEXP_EXTRACT(s, {FLOAT}) AS INT64) AS k": SAME,
        f"CAST(REGEXP_EXTRACT(s, {INT}) AS INT64) AS k": SAME,
    },
    "SAFE_CAST of text to BOOL": {"SAFE_CAST(s AS BOOL) AS k, SAFE_CAST(IF(b, 'True', 't') AS BOOL) AS m": SAME},
    "SUM of INT64": {
        "SELECT b, SUM(n) AS k, SUM(DISTINCT n) AS m FROM `t` GROUP BY b ORDER BY b": SAME,
        "SELECT SUM(id + 9223372036854775800) AS k FROM `t`": ERROR,
        "SELECT SUM(f) AS k FROM `t`": "SUM of FLOAT64",
    },
    "division by zero": {
        "id / NULLIF(n, 0) AS k, f / NULLIF(g, 0) AS m, f / 4 AS p": SAME,
        "id / NULLIF((SELECT COUNT(x) FROM UNNEST(ns) AS x), 0) AS k": SAME,
        "1 / 0 AS k": "division",
        "f / g AS k": "division",
        "f / NULLIF(g, 1) AS k": "division",
    },
    "ROUND": {
        "SELECT ROUND(2.675, 2) AS k, ROUND(1.115, 2) AS m, ROUND(0.615, 2) AS p, MIN(id) AS q FROM `t`": SAME,
        "ROUND(n, 1) AS k": SAME,
    },
    "decimal literals": {"0.1 + 0.2 AS k, n * .1 AS m, [0.1, 5.] AS p": SAME},
    "CAST of FLOAT64 to STRING": {
        "CAST(1.0 AS STRING) AS k": "CAST of FLOAT64 to STRING",
        "CAST(n AS STRING) AS k": SAME,
    },
    "CAST of TIME to STRING": {"CAST(tm AS STRING) AS k": SAME},
    "REGEXP_EXTRACT without a match": {
        f"REGEXP_EXTRACT(s, {FLOAT}) AS k, REGEXP_EXTRACT(' 1e3', {FLOAT}) AS m": SAME,
        "REGEXP_EXTRACT(s, 'x*') AS k": SAME,
    },
    "SUBSTR": {"SUBSTR(s, 0, 2) AS k": SAME},
    "order of NaN": {
        "SELECT id, f FROM `t` ORDER BY f, id": SAME,
        "SELECT id, g FROM `t` ORDER BY g DESC, id": SAME,
        "SELECT f, LAG(f) OVER (ORDER BY f) AS k FROM `t` ORDER BY f": SAME,
        "SELECT g, LAG(g) OVER (PARTITION BY b ORDER BY g) AS k FROM `t` WHERE g <= 5 ORDER BY g": SAME,
        "SELECT ARRAY_AGG(DISTINCT f IGNORE NULLS ORDER BY f) AS k FROM `t`": SAME,
        "SELECT id, f * 2 AS k FROM `t` WHERE id != 4 ORDER BY k, id": "ORDER BY FLOAT64",
        "ROW_NUMBER() OVER (ORDER BY f, id) AS k": "a window ordered by FLOAT64",
        "SELECT STRING_AGG(s, ',' ORDER BY f, id) AS k FROM `t`": "STRING_AGG with ORDER BY of FLOAT64",
    },
    "MIN and MAX of NaN": {
        "SELECT b, MIN(f) AS k, MAX(f) AS m, MIN(g) AS p, MAX(g) AS q FROM `t` GROUP BY b ORDER BY b": SAME,
        "(SELECT MAX(v.x) FROM UNNEST(recs) AS v) AS k, GREATEST(f, g, 1) AS m": SAME,
        "LEAST(f, g) AS k": SAME,
    },
    "comparisons of NaN": {
        "f = 0.125 AS k, f != 0.125 AS m, f < 1 AS p, f <= 1 AS q, NOT f <= 1 AS v": SAME,
        "0.125 = f AS k, 0.125 != f AS m, 1 > f AS p, 1 >= f AS q": SAME,
        "f BETWEEN -1e9 AND 3 AS k, f NOT BETWEEN 0 AND 3 AS m, NULLIF(f, 0) AS p": SAME,
        "IS_NAN(f) AS k, IS_NAN(rec.x) AS m, IF(IS_NAN(g), NULL, g) AS p": SAME,
        "f = g AS k, f != g AS m, f < g AS p, f <= g AS q, f > g AS v, f >= g AS w": SAME,
        "f > 1 AS k, f >= 1 AS m, 1 < f AS p, 1 <= f AS q, n <= f AS v, n != f AS w, -f > -1 AS x": SAME,
        **{
            f"{comparison} AS k": f"{name} of FLOAT64"
            for comparison, name in {
                "f BETWEEN g AND 1": "BETWEEN",
                "f BETWEEN 0 AND NULL": "BETWEEN", "1 BETWEEN f AND g": "BETWEEN", "n BETWEEN f AND g": "BETWEEN",
                "f IN (1, 2)": "IN", "NULLIF(f, g)": "NULLIF", "NULLIF(n, f)": "NULLIF", "NULLIF(n, 3.0)": "NULLIF",
                "CASE f WHEN 1 THEN 2 END": "CASE",
            }.items()
        },
        "ROW_NUMBER() OVER (PARTITION BY f ORDER BY id) AS k": "partitioned by FLOAT64",
    },
    "NaN as a group": {
        "SELECT f, COUNT(*) AS k FROM `t` GROUP BY f ORDER BY f": SAME,
        "SELECT DISTINCT g FROM `t` ORDER BY g": SAME,
        "SELECT COUNT(DISTINCT f) AS k, COUNT(DISTINCT g) AS m FROM `t`": SAME,
    },
    "order of NULL": {
        "SELECT n, s, id FROM `t` ORDER BY n, s DESC, id": SAME,
        "SELECT n, s, id FROM `t` ORDER BY n NULLS LAST, s DESC NULLS FIRST, id": SAME,
    },
    "order of text": {
        "SELECT r, MIN(id) AS k FROM `t` GROUP BY r ORDER BY r": SAME,
        "SELECT DISTINCT s FROM `t` ORDER BY s DESC": SAME,
        "SELECT MIN(r) AS k, MAX(r) AS m, GREATEST(MIN(s), MAX(r)) AS p FROM `t`": SAME,
    },
    "array index out of range": {
        "xs[SAFE_OFFSET(7)] AS k, recs[SAFE_OFFSET(1)].a AS m": SAME,
        "xs[OFFSET(7)] AS k": ERROR,
    },
    "NULL array in a result": {
        "xs, recs[SAFE_OFFSET(0)].ws AS k, IF(id > 1, ns, NULL) AS m": SAME,
        "SELECT b, ARRAY_AGG(d IGNORE NULLS ORDER BY id) AS k FROM `t` GROUP BY b ORDER BY b": SAME,
        "xs IS NULL AS k, 'q' IN UNNEST(xs) AS m, NULL IN UNNEST(xs) AS p": SAME,
        "ARRAY_TO_STRING(xs, '/') AS k, s NOT IN UNNEST(recs[SAFE_OFFSET(0)].ws) AS m": SAME,
        "ARRAY_TO_STRING(recs[SAFE_OFFSET(0)].ws, '/') AS k": "ARRAY_TO_STRING",
        "ARRAY_LENGTH(xs) AS k": SAME,
    },
    "errors beside AND and OR": {
        "SELECT id FROM `t` WHERE IF(id > 100, ERROR('never'), id = 2) ORDER BY id": SAME,
        "SELECT id FROM `t` WHERE b AND CASE WHEN id > 100 THEN ERROR(s) ELSE TRUE END ORDER BY id": SAME,
        "SELECT id FROM `t` WHERE id < 100 OR ERROR('never') IS NULL ORDER BY id": "ERROR inside OR",
        "SELECT id FROM `t` WHERE id > 100 AND ERROR('never') IS NULL ORDER BY id": "ERROR inside AND",
    },
    "the rest": {
        "7 / 2 AS k, CONCAT(s, r) AS m, SPLIT(r, ',') AS p": SAME,
        "ROUND(-0.5, 0) AS k, ROUND(2.5, 0) AS m, SAFE_CAST(s AS FLOAT64) AS p": SAME,
        "DIV(7, 2) AS k": SAME,
    },
}  # fmt: skip
CASES = [
    pytest.param(
        sql if sql.startswith(("SELECT", "DECLARE", "SET", "BEGIN")) else f"SELECT id, {sql} FROM `t` ORDER BY id",
        outcome,
        id=f"{topic}: {sql}",
    )
    for topics in (TRANSLATION, SAME_TEXT)
    for topic, statements in topics.items()
    for sql, outcome in statements.items()
]


@pytest.mark.parametrize(("sql", "outcome"), CASES)
def test_known_differences(sql: str, outcome: str) -> None:
    why = rejection(sql)
    if outcome not in (SAME, ERROR):
        assert re.search(outcome, why)
        return
    assert not why
    it = statement(sql)
    tables = tables_of(it)
    if outcome == SAME:
        assert_same(it, tables)
        return
    columns = columns_of(it, tables)
    with pytest.raises(GoogleSQLError):
        by_googlesql(it, tables)
    with pytest.raises(IndexerError):
        by_duckdb(it, tables, columns)
