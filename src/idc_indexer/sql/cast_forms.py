"""Casts that are supported: their forms on DuckDB, by the types from and to which they convert."""

from __future__ import annotations

from sqlglot import exp

from idc_indexer.sql.coercion import kind
from idc_indexer.sql.forms import duckdb_sql

_SPACE = r"[\t-\r ]*"
_INTEGER = f"^{_SPACE}[-+]?[0-9]+{_SPACE}$"
_HEXADECIMAL = f"^{_SPACE}[-+]?0[xX][0-9a-fA-F]"
_DATE = "^[0-9]{{4}}-[0-9]{{1,2}}-[0-9]{{1,2}}$"

# {x} is the value, {wrong} what follows for text without a value: NULL, or an error.
FORMS = {
    ("INT64", "FLOAT64"): "CAST({x} AS DOUBLE)",
    ("INT64", "BOOL"): "({x} <> 0)",
    ("BOOL", "INT64"): "CAST({x} AS BIGINT)",
    ("BOOL", "STRING"): "CAST({x} AS TEXT)",
    ("FLOAT64", "INT64"): "{cast}(ROUND({x}) AS BIGINT)",
    ("DATETIME", "DATE"): "CAST({x} AS DATE)",
    ("TIMESTAMP", "DATE"): "CAST({x} AT TIME ZONE 'UTC' AS DATE)",
    ("TIMESTAMP", "DATETIME"): "({x} AT TIME ZONE 'UTC')",
    ("DATE", "DATETIME"): "CAST({x} AS TIMESTAMP)",
    ("STRING", "BOOL"): "CASE LOWER({x}) WHEN 'true' THEN TRUE WHEN 'false' THEN FALSE ELSE {wrong} END",
    ("STRING", "DATE"): "{cast}(CASE WHEN REGEXP_MATCHES({x}, '" + _DATE + "') AND NOT STARTS_WITH({x}, '0000') "
    "THEN {x} ELSE {wrong} END AS DATE)",
    ("STRING", "INT64"): "{cast}(CASE WHEN REGEXP_MATCHES({x}, '" + _INTEGER + "') THEN {x} "
    "WHEN REGEXP_MATCHES({x}, '" + _HEXADECIMAL + "') THEN ERROR('hexadecimal number: ' || {x}) "
    "ELSE {wrong} END AS BIGINT)",
}
PLAIN = {("DATE", "STRING"), ("TIME", "STRING"), ("INT64", "STRING")}
"""Casts that sqlglot translates, or `rewrites`."""

_TYPES = {
    "BIGINT": "INT64", "DOUBLE": "FLOAT64", "TEXT": "STRING", "BOOLEAN": "BOOL", "TIMESTAMP": "DATETIME",
    "TIMESTAMPTZ": "TIMESTAMP",
}  # fmt: skip


def types(node: exp.Expr) -> tuple[str, str]:
    """The types that a cast converts from and to. INT and SMALLINT are INT64 in BigQuery and narrower in DuckDB."""
    to = node.args["to"].sql("duckdb")
    return kind(node.this), _TYPES.get(to, to)


def form(node: exp.Expr) -> str:
    """DuckDB SQL of a CAST or SAFE_CAST."""
    x = f"({duckdb_sql(node.this)})"
    safe = isinstance(node, exp.TryCast)
    wrong = "NULL" if safe else f"CASE WHEN {x} IS NOT NULL THEN ERROR('CAST of text without a value: ' || {x}) END"
    return FORMS[types(node)].format(x=x, wrong=wrong, cast="TRY_CAST" if safe else "CAST")
