"""Forms of the functions of dates on DuckDB, and which part of them is supported."""

from __future__ import annotations

from sqlglot import exp

from idc_indexer.sql.coercion import kind, spelled
from idc_indexer.sql.forms import Check, duckdb_sql, quoted

PARTS = {
    "YEAR": "EXTRACT(YEAR FROM {x})", "QUARTER": "EXTRACT(QUARTER FROM {x})", "MONTH": "EXTRACT(MONTH FROM {x})",
    "DAY": "EXTRACT(DAY FROM {x})", "DAYOFWEEK": "(EXTRACT(DOW FROM {x}) + 1)", "DAYOFYEAR": "EXTRACT(DOY FROM {x})",
    "ISOYEAR": "EXTRACT(ISOYEAR FROM {x})", "ISOWEEK": "EXTRACT(WEEK FROM {x})",
    "WEEK": "((EXTRACT(DOY FROM {x}) + 6 - EXTRACT(DOW FROM {x})) // 7)", "DATE": "CAST({x} AS DATE)",
}  # fmt: skip
TIME_PARTS = {
    "HOUR": "EXTRACT(HOUR FROM {x})", "MINUTE": "EXTRACT(MINUTE FROM {x})",
    "SECOND": "(EXTRACT(MICROSECOND FROM {x}) // 1000000)",
}  # fmt: skip
PARTS_OF = {
    "DATE": PARTS.keys() - {"DATE"}, "TIME": TIME_PARTS.keys(),
    "DATETIME": PARTS.keys() | TIME_PARTS.keys(), "TIMESTAMP": PARTS.keys() | TIME_PARTS.keys(),
}  # fmt: skip
"""By type: the parts that EXTRACT takes from it."""

# Day 1 of year 1 is a Monday, so that weeks are counted from it.
_DAYS = "({x} - DATE '0001-01-01')"
COUNTED = {
    "DAY": _DAYS, "ISOWEEK": f"({_DAYS} // 7)", "WEEK": f"(({_DAYS} + 1) // 7)",
    "MONTH": "(EXTRACT(YEAR FROM {x}) * 12 + EXTRACT(MONTH FROM {x}))",
    "QUARTER": "(EXTRACT(YEAR FROM {x}) * 4 + EXTRACT(QUARTER FROM {x}))",
    "YEAR": "EXTRACT(YEAR FROM {x})", "ISOYEAR": "EXTRACT(ISOYEAR FROM {x})",
}  # fmt: skip
"""By part: the number of the day, week or month in which a date is."""
TRUNCATED = {
    **{part: f"CAST(DATE_TRUNC('{part}', {{x}}) AS DATE)" for part in ("YEAR", "QUARTER", "MONTH", "DAY")},
    "ISOWEEK": "CAST({x} - CAST((EXTRACT(ISODOW FROM {x}) - 1) AS INTEGER) AS DATE)",
    "WEEK": "CASE WHEN {x} < DATE '0001-01-07' THEN ERROR('DATE_TRUNC to a week before the year 1') "
    "ELSE CAST({x} - CAST(EXTRACT(DOW FROM {x}) AS INTEGER) AS DATE) END",
}
DATE_FORMATS = {
    "%Y%m%d": "^[0-9]{8}$", "%Y-%m-%d": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
    "%Y/%m/%d": "^[0-9]{4}/[0-9]{2}/[0-9]{2}$", "%m/%d/%Y": "^[0-9]{2}/[0-9]{2}/[0-9]{4}$",
    "%d/%m/%Y": "^[0-9]{2}/[0-9]{2}/[0-9]{4}$", "%Y": "^[0-9]{4}$", "%Y%m": "^[0-9]{6}$",
}  # fmt: skip


def date_part(node: exp.Expr) -> str:
    """The date part of a function, such as MONTH; the weeks of sqlglot's WeekStart begin on SUNDAY."""
    unit = node.args.get("unit") or node.this
    if isinstance(unit, exp.WeekStart):
        return "WEEK" if unit.this.name == "SUNDAY" else f"WEEK({unit.this.name})"
    return str(unit.name).upper()


def check_part(parts: dict[str, str]) -> Check:
    def check(node: exp.Expr) -> str:
        part = date_part(node)
        return "" if part in parts else f"{spelled(node)} with the part {part}"

    return check


def moment(node: exp.Expr) -> str:
    """A date or time without a zone. In exports, TIMESTAMP and TIME have one, which is always UTC."""
    x = duckdb_sql(node)
    casts = {"TIMESTAMP": f"(({x}) AT TIME ZONE 'UTC')", "TIME": f"CAST({x} AS TIME)"}
    return casts.get(kind(node), f"({x})")


def extract(node: exp.Expr) -> str:
    return (PARTS | TIME_PARTS)[date_part(node)].format(x=moment(node.expression))


def date_diff(node: exp.Expr) -> str:
    form = COUNTED[date_part(node)]
    later, earlier = (form.format(x=f"CAST({duckdb_sql(one)} AS DATE)") for one in (node.this, node.expression))
    return f"({later} - {earlier})"


def date_trunc(node: exp.Expr) -> str:
    return TRUNCATED[date_part(node)].format(x=f"CAST({duckdb_sql(node.this)} AS DATE)")


def check_date(node: exp.Expr) -> str:
    one = set(node.args) <= {"this"} or not any(v for k, v in node.args.items() if k != "this")
    return "" if one and kind(node.this) != "STRING" else "DATE of anything but one date or time"


def check_parse_date(node: exp.Expr) -> str:
    found = node.args["format"].name
    return "" if found in DATE_FORMATS else f"PARSE_DATE with {found or 'a format that is not a literal'}"


def parse_date(node: exp.Expr) -> str:
    x, form = f"({duckdb_sql(node.this)})", node.args["format"].name
    parsed = f"CAST(STRPTIME({x}, {quoted(form)}) AS DATE)"
    parsed = f"CASE WHEN EXTRACT(YEAR FROM {parsed}) > 0 THEN {parsed} ELSE ERROR('not a date: ' || {x}) END"
    wrong = f"NOT REGEXP_MATCHES({x}, {quoted(DATE_FORMATS[form])})"
    return (
        f"CASE WHEN {wrong} THEN ERROR('not a date of the form {form}: ' || {x}) WHEN {x} IS NOT NULL THEN {parsed} END"
    )
