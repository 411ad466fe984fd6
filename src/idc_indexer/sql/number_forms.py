"""Forms of the functions of numbers and of aggregates on DuckDB, and which part of them is supported."""

from __future__ import annotations

from sqlglot import exp

from idc_indexer.sql.coercion import kind, spelled
from idc_indexer.sql.forms import arguments, duckdb_sql, number

# By number of digits: below 2^bound, neighbouring doubles are at most 10^-digits apart.
ROUND_BOUND = (52, 49, 46, 43, 39, 36, 33, 29, 26)
_SPARE_BITS = 20
"""How much closer neighbours must be for a last bit that differs not to change the rounded number."""
FACTOR = 100
"""The largest factor that an inexact number may have before ROUND: enough for degrees."""

_AROUND = (exp.Paren, exp.If, exp.Case, exp.Coalesce, exp.Mul, exp.Add, exp.Sub)


def _rounded(node: exp.Expr) -> exp.Round | None:
    """The ROUND around an expression whose last bit differs between machines; None if it is not rounded."""
    factor = 1.0
    while isinstance(node.parent, _AROUND):
        child, node = node, node.parent
        if isinstance(node, exp.Mul):
            other = node.expression if node.this is child else node.this
            factor *= abs(value) if (value := number(other)) is not None else float("inf")
        if isinstance(node, (exp.If, exp.Case)) and child.arg_key not in ("true", "false", "default", "ifs"):
            return None
    return node.parent if isinstance(node.parent, exp.Round) and factor <= FACTOR else None


def check_rounded(node: exp.Expr) -> str:
    """The last bit depends on the machine's library. ROUND removes the difference, unless a large factor is first."""
    return "" if _rounded(node) is not None else f"{spelled(node)} outside of ROUND"


_MOST_POWER = 1100
"""A double has an exponent up to 1023."""


def exact_power(node: exp.Expr) -> float | None:
    """The value of POW of two literals if no double is closer, such as 1000.0 for POW(10, 3)."""
    base, power = number(node.this), number(node.expression)
    if base is None or power is None or base % 1 or power % 1 or not 0 <= power <= _MOST_POWER:
        return None
    value = int(base) ** int(power)
    return float(value) if abs(value) < 2**1023 and int(float(value)) == value else None


def check_power(node: exp.Expr) -> str:
    return "" if exact_power(node) is not None else check_rounded(node)


def power(node: exp.Expr) -> str:
    if (value := exact_power(node)) is not None:
        return f"{value!r}e0" if "e" not in repr(value) else repr(value)
    outer = _rounded(node)
    assert outer is not None
    digits = outer.args.get("decimals")
    most = 2 ** (ROUND_BOUND[int(digits.name) if digits is not None else 0] - _SPARE_BITS)
    power = "POW(CAST({this} AS DOUBLE), CAST({expression} AS DOUBLE))".format_map(arguments(node))
    wrong = f"ABS({power}) >= {most} OR (ISNAN({power}) AND NOT ISNAN({arguments(node)['this']}::DOUBLE))"
    return f"CASE WHEN {wrong} THEN ERROR('POW of a number beyond {most}, or without a result') ELSE {power} END"


LEAST_BASE = 2
"""The base of LOG may not be close to 1, for the logarithm would be large."""


def check_log(node: exp.Expr) -> str:
    base = number(node.this)
    if base is None or base < LEAST_BASE:
        return f"{spelled(node)} to a base other than a literal from 2"
    return check_rounded(node)


def log(node: exp.Expr) -> str:
    if isinstance(node, exp.Ln):
        return _logarithm(node.this, "LN({x})")
    ten = spelled(node) == "LOG10"
    return _logarithm(node.expression, "LOG10({x})" if ten else f"LN({{x}}) / LN({duckdb_sql(node.this)})")


def _logarithm(value: exp.Expr, form: str) -> str:
    x = f"CAST({duckdb_sql(value)} AS DOUBLE)"
    return f"CASE WHEN {x} <= 0 THEN ERROR('a logarithm of zero or less') ELSE {form.format(x=x)} END"


def least(node: exp.Expr) -> str:
    """NaN is smaller than all numbers in GoogleSQL and larger in DuckDB."""
    values = [f"({duckdb_sql(one)})" for one in (node.this, *node.expressions)]
    present = " AND ".join(f"{one} IS NOT NULL" for one in values)
    least = f"LEAST({', '.join(values)})"
    if kind(node) == "FLOAT64":
        least = f"-GREATEST({', '.join(f'-{one}' for one in values)})"
    return f"CASE WHEN {present} THEN {least} END"


def check_no_distinct(node: exp.Expr) -> str:
    return f"{spelled(node)} with DISTINCT" if isinstance(node.this, exp.Distinct) else ""


def check_avg(node: exp.Expr) -> str:
    # A sum of FLOAT64 depends on the order of the rows, which depends on the threads.
    return check_no_distinct(node) or ("" if kind(node.this) == "INT64" else f"AVG of {kind(node.this)}")


def check_any_value(node: exp.Expr) -> str:
    nested = kind(node.this).startswith(("ARRAY", "STRUCT"))
    return f"ANY_VALUE of {kind(node.this)}" if nested else check_no_distinct(node)


AVG = (
    "CASE WHEN SUM(ABS(CAST({this} AS HUGEINT))) > 9007199254740992 THEN ERROR('AVG of a sum beyond 2^53') "
    "ELSE CAST(SUM({this}) AS DOUBLE) / NULLIF(COUNT({this}), 0) END"
)
"""Below 2^53, sums are exact in every order; beyond, GoogleSQL does not say which digits are lost."""
ANY_VALUE = (
    "CASE WHEN MIN({this}) IS NOT DISTINCT FROM MAX({this}) AND COUNT({this}) IN (0, COUNT(*)) THEN MIN({this}) "
    "ELSE ERROR('ANY_VALUE of different values: BigQuery returns any of them. Write MIN or MAX') END"
)
"""BigQuery may return each value of the group, so that only a group of equal values has one result."""
