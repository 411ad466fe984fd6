"""The oracle itself: does ``tests.emulators.googlesql`` carry types, values and errors across unharmed?"""

from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import wasmtime

from tests.emulators import googlesql
from tests.emulators.googlesql import GoogleSQL, GoogleSQLError

NESTED = pa.list_(pa.struct([("code", pa.string()), ("values", pa.list_(pa.struct([("n", pa.int64())])))]))
TYPES: dict[str, pa.DataType] = {
    "text": pa.string(),
    "bytes": pa.binary(),
    "flag": pa.bool_(),
    "count": pa.int64(),
    "ratio": pa.float64(),
    "price": pa.decimal128(38, 9),
    "day": pa.date32(),
    "hour": pa.time64("us"),
    "local": pa.timestamp("us"),
    "instant": pa.timestamp("us", tz="UTC"),
    "words": pa.list_(pa.string()),
    "nested": NESTED,
}
EVERY_TYPE = pa.schema(TYPES)
ROWS: list[dict[str, Any]] = [
    {
        "text": "Öl\x00\U0001f600",
        "bytes": b"\x00\xff",
        "flag": True,
        "count": -(2**63),
        "ratio": -0.1,
        "price": Decimal("-12345678901234567890123456789.123456789"),
        "day": date(1, 1, 1),
        "hour": time(23, 59, 59, 999999),
        "local": datetime(9999, 12, 31, 23, 59, 59, 999999),
        "instant": datetime(1, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
        "words": ["a", ""],
        "nested": [{"code": "x", "values": [{"n": 1}, {"n": None}]}, {"code": None, "values": []}],
    },
    {
        "text": "",
        "bytes": b"",
        "flag": False,
        "count": 2**63 - 1,
        "ratio": float("inf"),
        "price": Decimal("0.000000001"),
        "day": date(9999, 12, 31),
        "hour": time(0),
        "local": datetime(1969, 12, 31, 23, 59, 59, 1),
        "instant": datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=UTC),
        "words": [],
        "nested": [],
    },
    {field.name: [] if pa.types.is_list(field.type) else None for field in EVERY_TYPE},
]


def row(sql: str) -> dict[str, Any]:
    (only,) = GoogleSQL.get().evaluate(sql, {}).to_pylist()
    return dict(only)


def test_every_type_goes_in_and_comes_out() -> None:
    table = pa.Table.from_pylist(ROWS, EVERY_TYPE)
    result = GoogleSQL.get().evaluate("SELECT * FROM `a-b.c_v25.d` ORDER BY day DESC", {"a-b.c_v25.d": table})
    assert result.schema == EVERY_TYPE
    assert result.to_pylist() == [ROWS[1], ROWS[0], ROWS[2]]


def test_values_mean_in_sql_what_they_mean_in_python() -> None:
    table = pa.Table.from_pylist(ROWS[:1], EVERY_TYPE)
    sql = """
        SELECT CAST(hour AS STRING) AS hour, CAST(day AS STRING) AS day, CAST(local AS STRING) AS local,
               CAST(instant AS STRING) AS instant, CAST(price AS STRING) AS price, LENGTH(text) AS length,
               nested[OFFSET(0)].values[OFFSET(0)].n AS n, nested[OFFSET(1)].code IS NULL AS no_code
        FROM t
    """
    assert GoogleSQL.get().evaluate(sql, {"t": table}).to_pylist() == [
        {
            "hour": "23:59:59.999999",
            "day": "0001-01-01",
            "local": "9999-12-31 23:59:59.999999",
            "instant": "0001-01-01 00:00:00.000001+00",
            "price": "-12345678901234567890123456789.123456789",
            "length": 4,
            "n": 1,
            "no_code": True,
        }
    ]


def test_analyze_names_and_types_the_columns() -> None:
    sql = "SELECT nested, text AS a, 1 / 2 AS b, DATE '2026-01-01' AS c, [1] AS d, price FROM t"
    assert GoogleSQL.get().analyze(sql, {"t": EVERY_TYPE}) == [
        ("nested", "ARRAY<STRUCT<code STRING, values ARRAY<STRUCT<n INT64>>>>"),
        ("a", "STRING"),
        ("b", "FLOAT64"),
        ("c", "DATE"),
        ("d", "ARRAY<INT64>"),
        ("price", "NUMERIC"),
    ]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT\n  missing FROM t", r"Unrecognized name: missing \[at 2:3\]"),
        ("SELECT text +\n 1 FROM t", r"No matching signature .* \[at 1:8\]"),
        ("SELECT 1;\nSELECT 2", r"Syntax error: .* \[at 2:1\]"),
        ("SELECT 1 FROM\nnowhere", r"Table not found: nowhere \[at 2:1\]"),
        ("DROP TABLE t", r"Statement not supported: DropStatement \[at 1:1\]"),
        # Google's language has these, BigQuery has not.
        ("SELECT COUNT(*) FILTER (WHERE flag) FROM t", r"\[at 1:24\]"),
        ("SELECT ARRAY_TRANSFORM(words, w -> w) FROM t", r"Lambda is not supported \[at 1:31\]"),
    ],
)
def test_an_invalid_query_is_refused_with_line_and_column(sql: str, message: str) -> None:
    with pytest.raises(GoogleSQLError, match=f"(?s){message}"):
        GoogleSQL.get().analyze(sql, {"t": EVERY_TYPE})
    with pytest.raises(GoogleSQLError, match=f"(?s){message}"):
        GoogleSQL.get().evaluate(sql, {"t": EVERY_TYPE.empty_table()})


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("ERROR('no such series')", "no such series"),
        ("1 / 0", "division by zero"),
        ("9223372036854775807 + n", "int64 overflow"),
        ("[1][OFFSET(n)]", "out of bounds"),
        ("[n, NULL]", "Array cannot have a null element"),
    ],
)
def test_a_failing_query_raises(expression: str, message: str) -> None:
    with pytest.raises(GoogleSQLError, match=message):
        row(f"SELECT {expression} AS x FROM (SELECT 1 AS n)")


def test_arrays_are_never_null_but_sql_can_tell() -> None:
    sql = """
        SELECT a, a IS NULL AS a_is_null, STRUCT(a) AS s, [STRUCT(a)] AS l, CAST(NULL AS DATE) AS n
        FROM (SELECT CAST(NULL AS ARRAY<INT64>) AS a)
    """
    assert row(sql) == {"a": [], "a_is_null": True, "s": {"a": []}, "l": [{"a": []}], "n": None}
    stored = pa.table({"words": pa.array([None], pa.list_(pa.string()))})
    result = GoogleSQL.get().evaluate("SELECT words IS NULL AS x, ARRAY_LENGTH(words) AS n FROM t", {"t": stored})
    assert result.to_pylist() == [{"x": False, "n": 0}]


def test_it_computes_as_bigquery_documents() -> None:
    assert row("SELECT ROUND(2.675, 2) AS x") == {"x": 2.67}
    assert row("SELECT CAST(TIME '10:11:12.100' AS STRING) AS x") == {"x": "10:11:12.100"}
    assert row("SELECT EXTRACT(HOUR FROM TIMESTAMP '2026-01-01 00:30:00') AS x") == {"x": 0}
    assert row("SELECT EXTRACT(HOUR FROM TIMESTAMP '2026-01-01 00:00:00 America/New_York') AS x") == {"x": 5}


def test_a_result_without_rows_keeps_its_types() -> None:
    result = GoogleSQL.get().evaluate("SELECT * FROM t WHERE FALSE", {"t": EVERY_TYPE.empty_table()})
    assert result.schema == EVERY_TYPE
    assert result.num_rows == 0


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(TypeError, match="int32"):
        GoogleSQL.get().analyze("SELECT 1", {"t": pa.schema([("a", pa.int32())])})
    with pytest.raises(TypeError, match="JSON"):
        GoogleSQL.get().evaluate("SELECT JSON '1' AS a", {})


def test_the_compiled_module_is_cached_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (source := tmp_path / "empty.wasm").write_bytes(b"\0asm\1\0\0\0")
    monkeypatch.setattr(googlesql, "get_wasm_path", lambda: source)
    engine = wasmtime.Engine()
    googlesql.compiled(engine, tmp_path / "cache")
    (file,) = (tmp_path / "cache").glob("*.bin")
    made = file.stat().st_mtime_ns
    googlesql.compiled(engine, tmp_path / "cache")
    assert file.stat().st_mtime_ns == made
    file.write_bytes(b"damaged")
    googlesql.compiled(engine, tmp_path / "cache")
    wasmtime.Module.deserialize_file(engine, str(file))
    assert sorted(file.parent.iterdir()) == [file, file.with_name(f"{file.name}.lock")]
