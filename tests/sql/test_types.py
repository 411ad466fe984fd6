"""Operands of every type in every supported operator, function and clause: the same ones are errors as in GoogleSQL.

The reference analyzer decides which statements are well typed. It accepts a little more than BigQuery, and more than
the toolkit translates: `ACCEPTED_MORE` has the messages for those.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idc_indexer.errors import IndexerError
from idc_indexer.schema.arrow import arrow_schema
from idc_indexer.schema.source_tables import PROJECT
from idc_indexer.sql import to_duckdb
from tests.emulators.googlesql import GoogleSQL
from tests.support.oracle import COLUMNS, assert_same, named, rejection, statement, tables_of
from tests.support.strategies import Texts, form

OPERANDS = [
    *("n", "f", "s", "b", "d", "tm", "dt", "ts", "q", "xs", "ns", "rec", "recs[SAFE_OFFSET(0)].c"),
    *("1", "-2", "2.5", "'a'", "'2020-01-02'", "'10:11:12'", "TRUE", "NULL", "ERROR('x')", "['a', NULL]", "[]"),
    *(
        "(SELECT NULL)",
        "IF(b, NULL, NULL)",
        "('5')",
        "(SELECT MAX(v) FROM UNNEST(ns) AS v)",
        "CONCAT('2020-01-02', '')",
    ),
]
EXPRESSIONS = [
    *(f"{{}} {operator} {{}}" for operator in ("=", "!=", "<", "<=", ">", ">=", "+", "-", "*", "AND", "OR")),
    *("{} / 4", "{} / NULLIF({}, 0)", "{} LIKE 'a%'", "NOT {}", "-{}", "{} IS TRUE", "{} IS NOT FALSE", "{} IS NULL"),
    *("{} BETWEEN {} AND {}", "{} IN ({}, {})", "{} IN UNNEST({})", "{} NOT IN UNNEST([{}])", "{} IN (SELECT {})"),
    *("CASE {} WHEN {} THEN 1 END", "CASE WHEN {} THEN 1 END", "CASE WHEN b THEN {} ELSE {} END", "IF(b, {}, {})"),
    *("IF({}, 1, 2)", "COALESCE({}, {})", "IFNULL({}, {})", "NULLIF({}, {})", "GREATEST({}, {})", "[{}, {}]"),
    *("CONCAT({}, {})", "REPLACE({}, {}, 'x')", "SPLIT({}, ',')", "REGEXP_EXTRACT({}, r'^ *[-+]?[0-9]+ *$')"),
    *("ARRAY_TO_STRING({}, ',')", "IS_NAN({})", "SQRT({})", "ROUND({}, 2)", "ROUND(ACOS({}), 2)", "ERROR({})"),
    *("UPPER({})", "LENGTH({})", "TRIM({}, {})", "SUBSTR({}, {})", "LEFT({}, 1)", "STARTS_WITH({}, {})", "{} || {}"),
    *("STRPOS({}, {})", "REGEXP_CONTAINS({}, 'a')", "REGEXP_REPLACE({}, 'a', 'b')", "ABS({})", "FLOOR({})", "CEIL({})"),
    *(
        "MOD({}, {})",
        "DIV({}, {})",
        "SAFE_DIVIDE({}, {})",
        "ROUND(POW({}, {}), 2)",
        "ROUND(LN({}), 2)",
        "LEAST({}, {})",
    ),
    *("EXTRACT(YEAR FROM {})", "EXTRACT(HOUR FROM {})", "DATE_DIFF({}, {}, DAY)", "DATE_TRUNC({}, MONTH)", "DATE({})"),
    *("PARSE_DATE('%Y', {})", "FORMAT('%d', {})", "FORMAT('%s', {})", "{} IS DISTINCT FROM {}", "ARRAY_LENGTH({})"),
    *("{}[OFFSET(0)]", "COALESCE({}, {}) > 1"),
    *("{}[SAFE_OFFSET(0)]", "SAFE_CAST({} AS FLOAT64)", "EXISTS(SELECT 1 FROM UNNEST(xs) AS x WHERE {})"),
    *("ARRAY(SELECT {} FROM UNNEST(ns) AS x ORDER BY x)", "(SELECT MAX({}) FROM UNNEST(ns) AS x)"),
]
AGGREGATES = [
    *("SUM({})", "MIN({})", "MAX({})", "COUNT(DISTINCT {})", "STRING_AGG({}, ',' ORDER BY n)"),
    *("ARRAY_AGG({} IGNORE NULLS ORDER BY n)", "ARRAY_AGG(DISTINCT {0} IGNORE NULLS ORDER BY {0})"),
    *("STRING_AGG(DISTINCT {0}, ',' ORDER BY {0})", "COUNTIF({})", "LOGICAL_OR({})", "AVG({})", "ANY_VALUE({})"),
]
CLAUSES = [
    "SELECT n FROM `t` WHERE {}",
    "SELECT MIN({}) AS k FROM `t` HAVING MIN({}) = MAX({})",
    "SELECT n FROM `t` GROUP BY n HAVING COUNT({}) = MAX({})",
    "SELECT a.n FROM `t` AS a JOIN `o` AS o ON {} = o.id",
    "SELECT a.n FROM `t` AS a JOIN `o` AS o ON {}",
    "SELECT k FROM `t` AS a JOIN (SELECT {} AS n, 1 AS k FROM `o`) AS o USING (n)",
    "SELECT {} AS k FROM `t` UNION ALL SELECT {} FROM `t`",
    "SELECT {} AS k FROM `t` UNION ALL SELECT NULL UNION ALL SELECT {} FROM `t`",
    "WITH p AS (SELECT {} AS x FROM `t`) SELECT x = {} AS k FROM p, `t`",
    "SELECT k FROM (SELECT {} AS k, n FROM `t`) WHERE k IN (SELECT {} FROM `t`)",
    "SELECT x FROM `t`, UNNEST({}) AS x",
    "SELECT k, ROW_NUMBER() OVER (PARTITION BY n ORDER BY k) AS m FROM (SELECT {} AS k, n FROM `t`)",
    "SELECT LAG(k) OVER (ORDER BY k) = {} AS m FROM (SELECT {} AS k FROM `t`), `t`",
]
ACCEPTED_MORE = (
    r"takes no (ARRAY|STRUCT)|"  # BigQuery has no order and equality of arrays
    r"(CONCAT|\|\|) takes STRING|"  # DuckDB writes numbers otherwise
    r"(MOD|DIV) takes INT64, not NUMERIC|(DATE_DIFF|DATE_TRUNC) takes DATE, not (DATETIME|TIMESTAMP|TIME)|"
    r"takes INT64 or FLOAT64, not (NUMERIC|DATE|DATETIME|TIMESTAMP|TIME)|"
    r"[-+] mixes (DATE|DATETIME|TIMESTAMP|INT64|STRING) and "  # days between dates
)


def errors(sql: str) -> tuple[bool, str]:
    """Whether GoogleSQL accepts a statement over `t` and `o`, and the toolkit's message, "" if it translates it."""
    tables = {f"{PROJECT}.{table}": arrow_schema(columns) for table, columns in COLUMNS.items()}
    return GoogleSQL.get().accepts(named(sql), tables), rejection(sql)


def disagreement(sql: str) -> str:
    """A statement that is an error for one of the two only, with both opinions; else ""."""
    accepted, why = errors(sql)
    typed_wrongly = "GoogleSQL does not convert" in why and not re.search(ACCEPTED_MORE, why)
    if accepted and typed_wrongly:
        return f"{sql}\n  accepted by GoogleSQL, and rejected: {why}"
    return "" if accepted or why else f"{sql}\n  translated, and not GoogleSQL"


def statements(operands: Texts) -> Texts:
    """A statement with operands of any types in one construct."""
    projected = [form(f"SELECT {one} AS k FROM `t`", *[operands] * 3) for one in (*EXPRESSIONS, *AGGREGATES)]
    return st.one_of(*projected, *(form(clause, *[operands] * 3) for clause in CLAUSES))


NESTED = st.one_of(
    st.sampled_from(OPERANDS), *(form(f"({one})", *[st.sampled_from(OPERANDS)] * 3) for one in EXPRESSIONS)
)


# The same statements in each run: a new disagreement should stop whoever searches for one, not a release.
@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.lists(statements(st.sampled_from(OPERANDS)) | statements(NESTED), min_size=20, max_size=20))
def test_the_same_operands_are_errors(tried: list[str]) -> None:
    found = "\n".join(filter(None, map(disagreement, tried)))
    assert not found, found


def every_pair() -> Iterable[str]:
    """Each construct with each pair of operands; a third operand is the first once more."""
    for construct in (*EXPRESSIONS, *AGGREGATES, *CLAUSES):
        sql = construct if construct in CLAUSES else f"SELECT {construct} AS k FROM `t`"
        holes = construct.count("{}") or 1
        for operands in itertools.product(OPERANDS, repeat=min(holes, 2)):
            yield sql.format(*operands, operands[0])


@pytest.mark.slow
def test_the_same_operands_are_errors_in_every_pair() -> None:
    found = "\n".join(filter(None, map(disagreement, every_pair())))
    assert not found, found


# --- Messages -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT id\nFROM `t`\nWHERE s = 5", "line 3: = compares STRING with INT64: s = 5"),
        ("SELECT id\nFROM `t`\nWHERE n > '5'", "line 3: > compares INT64 with STRING: n > '5'"),
        (
            "SELECT id,\n  t.n BETWEEN 1 AND '2' AS k FROM `t` AS t",
            "line 2: BETWEEN compares INT64 with STRING: t.n BE",
        ),
        ("SELECT id, n IN (1, 'a') AS k FROM `t`", "line 1: IN compares INT64 with STRING: n IN (1, 'a')"),
        ("SELECT n IN UNNEST(xs) AS k FROM `t`", "line 1: IN compares INT64 with STRING: n IN UNNEST(xs)"),
        ("SELECT id FROM `t` WHERE id IN (SELECT w FROM `o`)", "line 1: IN compares INT64 with STRING: id IN (SELECT"),
        ("SELECT CASE s WHEN 1 THEN 'a' END AS k FROM `t`", "line 1: CASE compares STRING with INT64: CASE s WHEN"),
        ("SELECT IF(b, n, s) AS k FROM `t`", "line 1: IF mixes INT64 and STRING: IF(b, n, s)"),
        ("SELECT COALESCE(n, f, s) AS k FROM `t`", "line 1: COALESCE mixes INT64 and STRING: COALESCE(n, f, s)"),
        ("SELECT REPLACE(s, 1, 'x') AS k FROM `t`", "line 1: REPLACE takes STRING, not INT64: REPLACE(s, 1, 'x')"),
        ("SELECT n + b AS k FROM `t`", r"line 1: + mixes INT64 and BOOL: n + b"),
        ("SELECT id FROM `t` WHERE b AND n", "line 1: AND takes BOOL, not INT64: n"),
        ("SELECT id FROM `t` WHERE s", "line 1: WHERE takes BOOL, not STRING: s"),
        ("SELECT a.id FROM `t` AS a JOIN `o` AS o ON a.s = o.id", "line 1: = compares STRING with INT64: a.s = o.id"),
        ("SELECT 1 AS k FROM `t` AS a\nJOIN (SELECT w AS id FROM `o`) AS o USING (id)", "= compares INT64 with STRING"),
        (
            "SELECT id, s AS k FROM `t` UNION ALL\nSELECT id, n FROM `t`",
            "line 2: UNION ALL has STRING and INT64 as col",
        ),
        ("SELECT id, s AS k FROM `t` UNION ALL SELECT id FROM `t`", "UNION ALL of 2 columns and 1"),
        ("SELECT [n, s] AS k FROM `t`", "line 1: an array mixes INT64 and STRING: [n, s]"),
        ("SELECT id FROM `t` WHERE d > 'May'", "line 1: not a DATE: 'May'"),
        ("SELECT id FROM `t` WHERE d = '2021-02-29'", "line 1: not a DATE: '2021-02-29'"),
        ("SELECT id FROM `t` WHERE n != NULL", "line 1: != takes no literal NULL"),
        ("SELECT 9223372036854775808 AS k, id FROM `t`", "line 1: not in the range of INT64: 9223372036854775808"),
        (
            "SELECT id FROM `t` AS a WHERE EXISTS (SELECT 1 FROM `o` AS o WHERE o.w = a.id)",
            "compares STRING with INT64",
        ),
        ("SELECT id, s AS k FROM `t` ORDER BY 1 IN UNNEST(k)", "line 1: UNNEST takes an array, not STRING: UNNEST(k)"),
    ],
)
def test_message(sql: str, message: str) -> None:
    assert re.search(rf"^it\.sql: .*{re.escape(message)}", rejection(sql))


def test_each_wrong_operand_and_unsupported_construct_is_named() -> None:
    with pytest.raises(IndexerError) as caught:
        to_duckdb(statement("SELECT n = s AS k,\n  n IN ('x') AS m,\n  exp(f) AS p, EXP(f) AS q FROM `t`"), "q.sql")
    assert caught.value.message.splitlines() == [
        "q.sql: line 1: = compares INT64 with STRING: n = s",
        "q.sql: line 2: IN compares INT64 with STRING: n IN ('x')",
        "q.sql: line 3: EXP is not supported on DuckDB",
    ]
    assert "CAST" in caught.value.hint
    assert "--engine bigquery" in caught.value.hint


# --- What is converted has the same value on both engines -----------------------------------------------------


@pytest.mark.parametrize(
    "columns",
    [
        "d = '2020-1-2' AS k, d BETWEEN '0001-01-01' AND '2021-1-1' AS m, d IN ('2020-01-02', NULL) AS p, d = dt AS v",
        "dt > '2020-1-2' AS k, dt = '2020-01-02 3:04:5.0' AS m, NULLIF(dt, '2020-01-02T03:04:05') AS p",
        "ts = '2020-01-02' AS k, ts <= '2020-1-2 03:04:05.000006' AS m, ts IN ('2020-01-02T00:00:00') AS p",
        "tm = '10:11:12.1' AS k, tm > '0:0:0' AS m, tm BETWEEN '10:11:12' AND '11:00:00' AS p",
        "COALESCE(d, '2020-1-5') AS k, IF(b, '2020-1-5', d) AS m, GREATEST(d, '2020-1-5') AS p, IF(b, d, dt) AS v",
        "CASE d WHEN '2020-1-2' THEN 1 END AS k, CASE WHEN b THEN '2020-1-2' ELSE d END AS m, COALESCE(dt, d) AS p",
        "q = 0.1 AS k, q = n AS m, q < 1.5 AS p, COALESCE(q, 1.5) AS v, COALESCE(q, n) AS w, COALESCE(q, f) AS x",
        "IF(b, n, f) AS k, COALESCE(n, 0.5) AS m, GREATEST(n, f, 1) AS p, n + f AS v, n / 2 AS w, SQRT(id) AS x",
        "COALESCE(xs, []) AS k, IF(b, xs, NULL) AS m, n IN UNNEST([]) AS p, d IN UNNEST(['2020-01-02']) AS v",
    ],
)
def test_converted_operands_have_the_same_value(columns: str) -> None:
    it = statement(f"SELECT id, {columns} FROM `t` WHERE id != 4 ORDER BY id")
    assert_same(it, tables_of(it))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT d AS k FROM `t` UNION ALL SELECT '2020-1-2' ORDER BY k",
        "SELECT '2020-1-2' AS k UNION ALL SELECT d FROM `t` ORDER BY k",
        "SELECT NULL AS k UNION ALL SELECT NULL UNION ALL SELECT s FROM `t` ORDER BY k",
        "WITH p AS (SELECT n AS x FROM `t` UNION ALL SELECT f FROM `t`) SELECT MAX(COALESCE(x, 0.5)) AS k FROM p",
    ],
)
def test_a_union_has_the_common_types_of_its_selects(sql: str) -> None:
    it = statement(sql)
    assert_same(it, tables_of(it))
    assert {kind for _, kind in it.returns} <= {"DATE", "STRING", "FLOAT64"}
