"""Every function of the table, on values at the edges of its domain, and statements of the kinds that IDC's tutorials
show: DuckDB returns the rows of the GoogleSQL reference evaluator.

Many expressions are columns of one statement, because a statement costs more than its columns.
"""

from __future__ import annotations

import itertools
import random
import re
import struct
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, time, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from sqlglot import exp

from idc_indexer.errors import IndexerError
from idc_indexer.schema.source_tables import PROJECT, SourceTables
from idc_indexer.sql import Statement, analyze, to_duckdb
from idc_indexer.sql.functions import FUNCTIONS
from idc_indexer.sql.text_forms import NO_LOWER, NO_UPPER
from tests.emulators.googlesql import GoogleSQLError
from tests.support.oracle import (
    COLUMNS,
    NAN,
    T,
    assert_same,
    by_duckdb,
    by_googlesql,
    columns_of,
    rejection,
    statement,
    tables_of,
)
from tests.support.strategies import Values, source_tables, table_of

GENERATE = (Phase.explicit, Phase.reuse, Phase.generate)
"""Without making a failure smaller, which takes minutes for statements of this size."""
AGGREGATES = (exp.CountIf, exp.LogicalOr, exp.LogicalAnd, exp.Avg, exp.AnyValue)
DATA = Path(__file__).parent / "data"
INFINITY = float("inf")
LARGEST, SMALLEST = 2**63 - 1, -(2**63)


def read(it: Statement, rows: Iterable[dict[str, Any]]) -> dict[Any, Any]:
    """The table `t` with the columns that a statement reads; each row gets an id."""
    names = {leaf.fields[0].name for leaf in it.leaves}
    columns = [column for column in COLUMNS[T] if column.name in names]
    numbered = ({**row, "id": row.get("id", place)} for place, row in enumerate(rows))
    return {T: table_of(columns, [{name: row.get(name) for name in names} for row in numbered])}


def check(expressions: Sequence[str], rows: Iterable[dict[str, Any]]) -> None:
    """Compare expressions over the columns of `t`."""
    it = statement(
        f"SELECT id, {', '.join(f'{one} AS k{n}' for n, one in enumerate(expressions))} FROM `t` ORDER BY id"
    )
    assert_same(it, read(it, rows))


# --- The examples of the table ------------------------------------------------------------------------------


def test_the_examples_of_every_function_return_the_same() -> None:
    """The page of supported constructs shows them."""
    examples = {cls: function.examples for cls, function in FUNCTIONS.items()}
    assert all(examples.values())
    check([one for cls, some in examples.items() for one in some if cls not in AGGREGATES], tables_of_t())
    aggregates = [one for cls in AGGREGATES for one in examples[cls]]
    it = statement(
        f"SELECT id, {', '.join(f'{a} AS k{n}' for n, a in enumerate(aggregates))} FROM `t` GROUP BY id ORDER BY id"
    )
    assert_same(it, tables_of(it))


def tables_of_t() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = tables_of(statement("SELECT id, n, s, r, f, g, b, d, tm, dt, ts, xs FROM `t`"))[
        T
    ].to_pylist()
    return rows


# --- Text ---------------------------------------------------------------------------------------------------

TEXTS = [
    *("", "a", "ab", "abc", "aab", "b\na", "a\n", "\r\n", " a ", "\ta\n", "\u00a0a\u3000", "x\u00a0y", "  x ", "a b"),
    *(
        "äb",
        "ä\u0301x",
        "e\u0301e\u0301",
        "\u0301",
        "\u0301a",
        "\U0001f600b\U0001f600",
        "İIiı",
        "Straße",
        "ſ",
        "\u212a",
    ),
    *("a\x00b", "x,y", "%", "_", "\\", "'", '"', "aaa", "abab", "0012", "-5", "zz\u200bz", "\\1", "$1", "1.2.840"),
    *("\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1eaa", "foo123bar45", "CT CHEST w/o", "LUNG^CT"),
]
PLACES = [SMALLEST, -(2**33), -5, -2, -1, 0, 1, 2, 3, 5, 2**31, 2**33, LARGEST, None]
OF_TEXT = [
    *("UPPER(s)", "LOWER(s)", "LENGTH(s)", "CHAR_LENGTH(r)", "TRIM(s)", "LTRIM(s)", "RTRIM(s)", "TRIM(s, r)"),
    *("LTRIM(s, r)", "RTRIM(s, r)", "TRIM(s, 'ab ')", "STARTS_WITH(s, r)", "ENDS_WITH(s, r)", "STRPOS(s, r)"),
    *("s || r", "s || '-' || r", "LPAD(s, 3)", "RPAD(s, 5, 'äb')", "LPAD(s, 0)", "FORMAT('%s|%t', s, r)"),
    *(
        "FORMAT('%5s|%-5s|%%', s, r)",
        "FORMAT('')",
        "FORMAT('it\\'s')",
        "s IS DISTINCT FROM r",
        "SPLIT(s, 'b')[ORDINAL(1)]",
    ),
    *(
        "LEAST(s, r)",
        "SAFE_CAST(s AS INT64)",
        "SAFE_CAST(s AS BOOL)",
        "SAFE_CAST(s AS DATE)",
        "ARRAY_LENGTH(SPLIT(s, 'a'))",
    ),
]
OF_PLACE = [
    *("SUBSTR(s, n)", "SUBSTR(s, n, 2)", "SUBSTR(s, 2, GREATEST(n, 0))", "SUBSTRING(s, n, 0)", "SUBSTR(s, -1, 5)"),
    *("SUBSTR(s, n, GREATEST(n, 0))", "LEFT(s, GREATEST(n, 0))", "RIGHT(s, GREATEST(n, 0))", "SUBSTR(s, -3)"),
]
PATTERNS = [
    *(
        "",
        "a",
        "^a",
        "a$",
        "b.a",
        "(?i)a",
        "(?i)k",
        "(?i)s",
        "[a-c]+",
        "\\d+",
        "\\w",
        "\\s",
        "\\bfoo",
        "x*",
        "^$",
        "a|b",
    ),
    *(
        "(?s).",
        "(?m)^a",
        "\\pL",
        "[[:alpha:]]",
        "[^a]",
        ".",
        "\\.",
        "^(?:CT|LUNG)",
        "\\D+$",
        "\\x{e9}",
        "[äé]",
        "b\\na",
    ),
    *("a{2}", "\\Aa", "a\\z", "\\Q.\\E", "(a+)+b", "(b)", "^(\\w+)\\d", "[(]", "\\(", "([a|b]+)c?"),
]


def test_functions_of_text() -> None:
    pairs = [{"s": s, "r": r} for s, r in zip(TEXTS, [*TEXTS[7:], *TEXTS[:7]], strict=True)]
    some = [{"s": s, "r": r} for s, r in itertools.product(TEXTS[:12], ["", "a", "ab", " ", "ä", None])]
    check(OF_TEXT, [*pairs, *some, {"s": "a"}, {"r": "a"}, {}])
    check(OF_PLACE, [{"s": s, "n": n} for s, n in itertools.product([*TEXTS[:6], *TEXTS[14:22], None], PLACES)])


def test_regular_expressions() -> None:
    columns = []
    for pattern in PATTERNS:
        columns += [f"REGEXP_CONTAINS(s, r'{pattern}')", f"REGEXP_REPLACE(s, r'{pattern}', r'[\\0]')"]
        columns.append(f"REGEXP_EXTRACT(s, r'{pattern}')")
    check(columns, [{"s": s} for s in [*TEXTS, None]])


def characters(first: int = 1, last: int = sys.maxunicode) -> Iterable[str]:
    return (chr(code) for code in range(first, last + 1) if not 0xD800 <= code <= 0xDFFF)


def refused(pattern: str) -> re.Pattern[str]:
    """A class of characters as Python writes it."""
    return re.compile(re.sub(r"\\x\{(\w+)\}", lambda found: chr(int(found[1], 16)), pattern))


def check_case(tried: Iterable[str]) -> None:
    for name, pattern in (("UPPER", NO_UPPER), ("LOWER", NO_LOWER)):
        check([f"{name}(s)"], [{"s": f"{c}a"} for c in tried if not refused(pattern).search(c)])


def test_upper_and_lower_of_every_letter() -> None:
    check_case([c for c in characters() if c.upper() != c or c.lower() != c])


@pytest.mark.slow
def test_upper_and_lower_of_every_character() -> None:
    for first in range(0, sys.maxunicode, 2**16):
        check_case(list(characters(max(first, 1), min(first + 2**16 - 1, sys.maxunicode))))


@pytest.mark.slow
def test_trim_removes_every_white_space() -> None:
    for first in range(0, sys.maxunicode, 2**16):
        check(
            ["LENGTH(TRIM(s))"],
            [{"s": f"{c}x{c}"} for c in characters(max(first, 1), min(first + 2**16 - 1, sys.maxunicode))],
        )


# --- Numbers ------------------------------------------------------------------------------------------------


def numbers(seed: int, many: int) -> list[float | None]:
    draw = random.Random(seed)
    of_bits = [struct.unpack("d", struct.pack("Q", draw.getrandbits(64)))[0] for _ in range(many)]
    edges = [0.0, -0.0, 0.5, -0.5, 1.5, 2.5, -2.5, 1e308, -1e308, 5e-324, NAN, INFINITY, -INFINITY, 1.0, 1e15, 2.0**53]
    near = [0.125, 2.675, 1.005, 999999999999999.5, 0.045, -1e-7, 1000.0]
    return [*edges, *near, None, *of_bits, *(draw.uniform(-5, 5) for _ in range(many))]


WHOLE = [0, 1, -1, 2, 3, -7, 10, 12345, 2**31, 2**53 + 1, LARGEST, SMALLEST, SMALLEST + 1, None]
OF_FLOAT = [
    *("FLOOR(f)", "CEIL(f)", "ABS(f)", "SAFE_DIVIDE(f, g)", "LEAST(f, g)", "LEAST(f, 1)", "f = g", "f != g", "f < g"),
    *(
        "f <= g",
        "f > g",
        "f >= g",
        "f > 1",
        "f >= 0.5",
        "1 < f",
        "-0.5 <= g",
        "f IS DISTINCT FROM g",
        "n < f",
        "n != f",
    ),
    *(
        "f >= n",
        "SAFE_CAST(f AS INT64)",
        "ROUND(f)",
        "SAFE_DIVIDE(n, f)",
        "SAFE_DIVIDE(f, n)",
        "g IS NOT DISTINCT FROM f",
    ),
    *(
        "FORMAT('%f', IF(ABS(f) < 1e15, f, NULL))",
        "FORMAT('%.2f|%8.3f|%+.0f', IF(ABS(f) < 1e15, f, 0), 1.5, MOD(n, 999) / 7)",
    ),
    *("FORMAT('%f', IF(IS_NAN(f), f, 1))", "ROUND(LN(IF(f > 0, f, 1)), 6)", "ROUND(LOG(IF(f > 0, f, 1), 2), 6)"),
    *("ROUND(LOG10(IF(f > 0, f, 1)) * 10, 4)", "ROUND(POW(IF(f BETWEEN -9 AND 9, f, 1), 2) + 1, 3)"),
    "ROUND(POW(IF(f BETWEEN 0 AND 9, f, 1), 1.7), 6)",
]
OF_WHOLE = [
    *(
        "IF(id = 0, 0, MOD(n, id - 5))",
        "DIV(n, id + 1)",
        "SAFE_DIVIDE(n, id - 5)",
        "ABS(IF(n > -9223372036854775808, n, 0))",
    ),
    *(
        "FLOOR(n)",
        "CEIL(n)",
        "LEAST(n, id)",
        "CAST(n AS FLOAT64)",
        "CAST(n AS BOOL)",
        "FORMAT('%d|%05d|%+5d|%-6d|', n, n, id, n)",
    ),
    *(
        'FORMAT("%\'d", n)',
        "FORMAT('%i%t', n, n)",
        "n / POW(2, 10)",
        "ROUND(n, 1)",
        "POW(10, 15)",
        "POW(-2, 3)",
        "POW(0, 0)",
    ),
    *("n IS DISTINCT FROM id", "ROUND(POW(MOD(n, 10), 2), 2)", "CAST(n > 0 AS STRING)", "CAST(n > 0 AS INT64)"),
    *("FORMAT('%t', n > 0)", "SAFE_CAST(CAST(n AS STRING) AS INT64)", "CAST(CONCAT('+', CAST(id AS STRING)) AS INT64)"),
]


def check_numbers(seed: int, many: int) -> None:
    values = numbers(seed, many)
    others = [*numbers(seed + 1, 2)[:24], *values]
    check(OF_FLOAT, [{"f": f, "g": g, "n": n} for f, g, n in zip(values, others, itertools.cycle(WHOLE), strict=False)])
    edges = itertools.product(values[:24], values[:24])
    check(OF_FLOAT[:22], [{"f": f, "g": g, "n": 3} for f, g in edges])


def test_functions_of_numbers() -> None:
    check_numbers(1, 40)
    check(OF_WHOLE, [{"n": n, "id": place} for place, n in enumerate([*WHOLE, *WHOLE[::-1]], start=6)])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_functions_of_many_numbers(seed: int) -> None:
    check_numbers(seed * 2, 2000)


# --- Dates --------------------------------------------------------------------------------------------------

DAYS = [date(1, 1, 1), date(1, 1, 6), date(1, 1, 7), date(1, 12, 31), date(9999, 12, 31), date(2020, 2, 29), None]
DAYS += [
    date(1969, 12, 31),
    date(1970, 1, 1),
    date(1900, 2, 28),
    date(2000, 2, 29),
    date(2019, 12, 30),
    date(2026, 1, 4),
]
PARTS = ("YEAR", "QUARTER", "MONTH", "DAY", "DAYOFWEEK", "DAYOFYEAR", "ISOYEAR", "ISOWEEK", "WEEK")
OF_DAY = [
    *(f"EXTRACT({part} FROM d)" for part in PARTS),
    *(f"DATE_TRUNC(d, {part})" for part in ("YEAR", "QUARTER", "MONTH", "DAY", "ISOWEEK")),
    "DATE_TRUNC(IF(d < '0001-01-07', NULL, d), WEEK)",
    *(
        f"DATE_DIFF(d, DATE '2020-02-29', {part})"
        for part in ("DAY", "WEEK", "ISOWEEK", "MONTH", "QUARTER", "YEAR", "ISOYEAR")
    ),
    *(
        "DATE_DIFF(DATE '0001-01-01', d, WEEK)",
        "FORMAT('%t', d)",
        "CAST(d AS DATETIME)",
        "DATE(d)",
        "d IS DISTINCT FROM '2020-02-29'",
    ),
]
MOMENTS = [datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999_999), datetime(1969, 12, 31, 23, 59, 59, 999_999)]
MOMENTS += [datetime(2020, 2, 29, 1, 2, 3, 4), datetime(2020, 1, 1), datetime(1969, 12, 31, 23, 59, 59)]
OF_MOMENT = [
    *(f"EXTRACT({part} FROM {c})" for c in ("dt", "ts") for part in (*PARTS, "HOUR", "MINUTE", "SECOND", "DATE")),
    *(f"EXTRACT({part} FROM tm)" for part in ("HOUR", "MINUTE", "SECOND")),
    *(
        "DATE(ts)",
        "DATE(dt)",
        "CAST(ts AS DATE)",
        "CAST(dt AS DATE)",
        "CAST(ts AS DATETIME)",
        "ts",
        "CAST(tm AS STRING)",
    ),
]
PARSED = [
    *(
        "PARSE_DATE('%Y%m%d', '20200229')",
        "PARSE_DATE('%Y-%m-%d', CAST(d AS STRING))",
        "PARSE_DATE('%Y-%m-%d', '0001-01-01')",
    ),
    *("PARSE_DATE('%m/%d/%Y', '12/31/9999')", "PARSE_DATE('%d/%m/%Y', '31/12/1999')", "PARSE_DATE('%Y', '2020')"),
    *("PARSE_DATE('%Y%m', '202002')", "PARSE_DATE('%Y/%m/%d', '2020/02/29')", "PARSE_DATE('%Y%m%d', NULL)"),
]


def check_dates(seed: int, many: int) -> None:
    draw = random.Random(seed)
    days = [*DAYS, *(date.fromordinal(draw.randrange(1, date.max.toordinal())) for _ in range(many))]
    check([*OF_DAY, *PARSED], [{"d": day} for day in days])
    seconds = (timedelta(draw.randrange(3_652_058), draw.randrange(86_400), draw.randrange(10**6)) for _ in range(many))
    moments = [*MOMENTS, *(datetime(1, 1, 1) + one for one in seconds)]
    rows = [{"dt": one, "ts": one.replace(tzinfo=timezone.utc), "tm": one.time()} for one in moments]
    check(OF_MOMENT, [*rows, {"tm": time(0)}, {}])


def test_functions_of_dates() -> None:
    check_dates(1, 40)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_functions_of_many_dates(seed: int) -> None:
    check_dates(seed, 2000)


# --- Aggregates and windows, on generated rows --------------------------------------------------------------

GROUPED = (
    "SELECT s, COUNTIF(b) AS k, LOGICAL_OR(b) AS m, LOGICAL_AND(b) AS p, AVG(n) AS q, ROUND(AVG(n + 1), 3) AS v, "
    "ANY_VALUE(UPPER(s)) AS w, ARRAY_AGG(n IGNORE NULLS ORDER BY n LIMIT 2) AS x, COUNT(DISTINCT r) AS y, "
    "ARRAY_AGG(r ORDER BY n DESC, id LIMIT 1)[OFFSET(0)] AS z, STRING_AGG(DISTINCT r, '/' ORDER BY r) AS a, "
    "ARRAY_LENGTH(ARRAY_AGG(DISTINCT r IGNORE NULLS ORDER BY r LIMIT 3)) AS b, MAX(f > 1) AS c FROM `t` "
    "GROUP BY s HAVING k >= 0 ORDER BY s"
)
ALIASED = (
    "SELECT COALESCE(LOWER(s), r) AS s, MOD(n, 3) AS r, COUNT(*) AS k FROM `t` GROUP BY s, r HAVING COUNT(*) > 0 "
    "ORDER BY k DESC, s, r LIMIT 3"
)
WINDOWS = (
    "SELECT id, s, COUNT(*) OVER (PARTITION BY s) AS k, SUM(n) OVER (PARTITION BY s ORDER BY n) AS m, "
    "RANK() OVER (PARTITION BY b ORDER BY n DESC, s) AS p, DENSE_RANK() OVER (ORDER BY s) AS q, "
    "MAX(s) OVER (PARTITION BY b ORDER BY n) AS v, COUNTIF(b) OVER (ORDER BY s, n) AS w, MIN(n) OVER () AS x, "
    "LOGICAL_AND(b) OVER (PARTITION BY s) AS y, COUNT(r) OVER (ORDER BY n DESC) AS z FROM `t` WHERE id >= 0 "
    "QUALIFY ROW_NUMBER() OVER (PARTITION BY s ORDER BY id) <= 2 ORDER BY id"
)
SETS = (
    "SELECT s AS k FROM `t` UNION DISTINCT (SELECT r FROM `t` EXCEPT DISTINCT SELECT UPPER(s) FROM `t`) ORDER BY k",
    "SELECT f AS k, s FROM `t` INTERSECT DISTINCT SELECT g, r FROM `t` ORDER BY k, s",
    "SELECT id, x, p FROM `t`, UNNEST(xs) AS x WITH OFFSET AS p WHERE p BETWEEN 1 AND 2 ORDER BY id, p, x",
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "n": st.none() | st.integers(-5, 5) | st.integers(-(2**40), 2**40),
            "s": st.sampled_from([None, "", "a", "b", "ä", "A"]),
            "r": st.sampled_from([None, "", "a", "b", "\U0001f600"]),
            "b": st.none() | st.booleans(),
            "f": st.sampled_from([None, 0.5, NAN, -0.0, 2.0]),
            "g": st.sampled_from([None, 0.5, NAN, 0.0]),
            "xs": st.none() | st.lists(st.sampled_from(["a", "b", ""]), max_size=4),
        }
    ),
    min_size=1,
    max_size=12,
)


def check_statements(rows: list[dict[str, Any]]) -> None:
    for sql in (GROUPED, ALIASED, WINDOWS, *SETS):
        it = statement(sql)
        assert_same(it, read(it, rows))


@settings(max_examples=1, deadline=None, phases=GENERATE)
@given(ROWS)
def test_aggregates_windows_and_sets(rows: list[dict[str, Any]]) -> None:
    check_statements(rows)


@pytest.mark.slow
@settings(max_examples=100, deadline=None, phases=GENERATE)
@given(ROWS)
def test_aggregates_windows_and_sets_of_many_rows(rows: list[dict[str, Any]]) -> None:
    check_statements(rows)


TEXT = st.text(st.characters(codec="utf-8").filter(lambda c: not refused(NO_UPPER).search(c) and c != "Σ"), max_size=6)


@pytest.mark.slow
@settings(max_examples=200, deadline=None, phases=GENERATE)
@given(st.lists(st.tuples(TEXT, TEXT), min_size=20, max_size=60))
def test_functions_of_any_text(pairs: list[tuple[str, str]]) -> None:
    check([*OF_TEXT, *OF_PLACE], [{"s": s, "r": r, "n": len(r) - 3} for s, r in pairs])


# --- Errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "on_duckdb"),
    [
        ("MOD(n, 0)", "MOD by zero"),
        ("DIV(n, id - 1)", "DIV by zero"),
        ("SUBSTR(s, 1, -id)", "SUBSTR of a negative length"),
        ("LEFT(s, -1)", "LEFT of a negative length"),
        ("ROUND(LN(n), 2)", "a logarithm of zero or less"),
        ("ROUND(LOG10(0), 2)", "a logarithm of zero or less"),
        ("ABS(-9223372036854775807 - id)", "[Oo]verflow|out of range"),
        ("PARSE_DATE('%Y%m%d', r)", "not a date of the form %Y%m%d: a"),
        ("PARSE_DATE('%Y%m%d', '20210229')", "2021"),
        ("PARSE_DATE('%Y%m%d', '00000101')", "not a date"),
        ("DATE_TRUNC(IF(id = 1, DATE '0001-01-06', d), WEEK)", "before the year 1"),
        ("CAST(r AS INT64)", "CAST of text without a value: a"),
        ("CAST(r AS BOOL)", "CAST of text without a value: a"),
        ("CAST(r AS DATE)", "CAST of text without a value: a"),
        ("CAST(g AS INT64)", "."),
        ("SPLIT(r, ',')[OFFSET(1)]", "array index 1 is out of bounds"),
        ("SPLIT(r, ',')[ORDINAL(0)]", "array index 0 is out of bounds"),
        ("REGEXP_REPLACE(s, '(', 'x')", "missing"),
        ("REGEXP_REPLACE(s, 'b', r'\\2')", "Rewrite schema"),
    ],
)
def test_an_error_of_a_function_is_one_on_both(column: str, on_duckdb: str) -> None:
    it = statement(f"SELECT id, {column} AS k FROM `t` ORDER BY id")
    tables = tables_of(it)
    columns = columns_of(it, tables)
    with pytest.raises(GoogleSQLError):
        by_googlesql(it, tables)
    with pytest.raises(IndexerError, match=on_duckdb):
        by_duckdb(it, tables, columns)


@pytest.mark.parametrize(
    ("column", "on_duckdb"),
    [
        ("UPPER(CONCAT(r, '\\ufb00'))", "UPPER of a letter without one other case"),
        ("LOWER('ΑΣ')", "LOWER of a letter without one other case"),
        ("SAFE_CAST('0x1f' AS INT64)", "hexadecimal number: 0x1f"),
        ("FORMAT('%.1f', 1e15 * id)", "FORMAT of a number beyond"),
        ("ROUND(POW(10 * id, 12), 6)", "POW of a number beyond"),
        ("PARSE_DATE('%Y-%m-%d', '2020-1-2')", "not a date of the form"),
    ],
)
def test_what_may_differ_is_an_error_on_duckdb(column: str, on_duckdb: str) -> None:
    """Such a value has a result in GoogleSQL: a build stops, and never writes another one."""
    it = statement(f"SELECT id, {column} AS k FROM `t` ORDER BY id")
    tables = tables_of(it)
    assert by_googlesql(it, tables).num_rows
    with pytest.raises(IndexerError, match=on_duckdb):
        by_duckdb(it, tables, columns_of(it, tables))


@pytest.mark.parametrize("values", [["a", "b"], ["a", None]])
def test_any_value_of_different_values_is_an_error(values: list[str | None]) -> None:
    it = statement("SELECT b, ANY_VALUE(s) AS k FROM `t` GROUP BY b ORDER BY b")
    tables = read(it, [{"b": True, "s": one} for one in values])
    with pytest.raises(IndexerError, match="ANY_VALUE of different values"):
        by_duckdb(it, tables, columns_of(it, tables))


def test_avg_of_sums_that_a_double_does_not_hold_is_an_error() -> None:
    it = statement("SELECT AVG(n) AS k FROM `t`")
    tables = read(it, [{"n": 2**53}, {"n": -(2**53)}])
    with pytest.raises(IndexerError, match=r"AVG of a sum beyond 2\^53"):
        by_duckdb(it, tables, columns_of(it, tables))


# --- Statements of the kinds that IDC's tutorials show ------------------------------------------------------

SOURCES = SourceTables()
TUTORIALS = (DATA / "tutorials.sql").read_text(encoding="utf-8").split(";\n")
NOT_DETERMINISTIC = {"STRING_AGG without ORDER BY": "ORDER BY x", "SUM of FLOAT64": "SUM of an INT64"}
"""Constructs whose result BigQuery does not define either, with what the message says to write."""


def of_tutorial(sql: str) -> Statement:
    return analyze(re.sub(r"`(\w+)`", rf"`{PROJECT}.idc_v25.\1`", sql), SOURCES, "it.sql")


def test_statements_of_the_tutorials_are_translated() -> None:
    refused = []
    for sql in TUTORIALS:
        try:
            to_duckdb(of_tutorial(sql), "it.sql")
        except IndexerError as error:
            refused.append(str(error))
    assert len(TUTORIALS) - len(refused) == 27
    for message, (construct, instead) in zip(refused, NOT_DETERMINISTIC.items(), strict=True):
        assert construct in message
        assert instead in message


PLAIN: dict[str, Values] = {
    "Modality": st.sampled_from(["CT", "MR", "SEG", "SM", "PT"]),
    "SliceThickness": st.sampled_from(["1", "2.5", "x", ""]),
    "PatientAge": st.sampled_from(["063Y", "012M", "7Y", ""]),
    "gcs_url": st.sampled_from(["gs://idc/u/i.dcm", "gs://idc/v/j.dcm"]),
    "Manufacturer": st.sampled_from(["SIEMENS", "Siemens Healthineers", "GE"]),
    "instance_size": st.integers(0, 10**9),
    "SeriesInstanceUID": st.sampled_from(["1.2", "1.3"]),
    "collection_id": st.sampled_from(["nlst", "lidc_idri"]),
}


def _comparing(it: Statement) -> Callable[[dict[Any, Any]], None]:
    def compare(tables: dict[Any, Any]) -> None:
        assert_same(it, tables)

    return compare


@pytest.mark.parametrize("part", range(3))
def test_statements_of_the_tutorials_return_the_same_rows(part: int) -> None:
    for sql in TUTORIALS[part:27:3]:
        it = of_tutorial(sql)

        compare = given(source_tables(it.leaves, PLAIN, {}))(_comparing(it))
        settings(max_examples=1, deadline=None, phases=GENERATE)(compare)()


# --- What is not supported, on request ----------------------------------------------------------------------


def test_unproven_translates_the_rest() -> None:
    sql = "SELECT id,\n  EXP(id) AS k,\n  UPPER(s) AS m FROM `t` ORDER BY id"
    assert "line 2: EXP is not supported on DuckDB" in rejection(sql)
    translation = to_duckdb(statement(sql), "it.sql", unproven=True)
    assert translation.unproven == ("line 2: EXP is not supported on DuckDB",)
    assert "EXP(" in translation.sql
    assert to_duckdb(statement("SELECT id FROM `t`"), "it.sql", unproven=True).unproven == ()


def test_unproven_accepts_no_wrong_types() -> None:
    with pytest.raises(IndexerError, match="= compares INT64 with STRING"):
        to_duckdb(statement("SELECT EXP(f) AS k, n = 'x' AS m FROM `t`"), "it.sql", unproven=True)
