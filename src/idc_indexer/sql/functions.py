"""The table of functions: what each takes and returns, which part of it is supported, and its form on DuckDB.

`types` checks the operands by the signature, `supported` calls the check, and `rewrites` puts the form in place of the
function. A form returns what GoogleSQL defines, or raises an error. Tests compare each with the reference evaluator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlglot import exp

from idc_indexer.sql import date_forms as dates
from idc_indexer.sql import number_forms as numbers
from idc_indexer.sql import text_forms as texts
from idc_indexer.sql.coercion import NUMBERS, Signature
from idc_indexer.sql.forms import Check, arguments, duckdb_sql, quoted


@dataclass(frozen=True)
class Function:
    """A function of GoogleSQL.

    Attributes:
        signature: what it takes and returns; None if `types` has a rule of its own for it.
        form: DuckDB SQL with `{argument}` for each argument, or a function that returns it; "" for sqlglot's own form.
        check: the part of it that is not supported.
        part: the part of it that is supported, for the page of supported constructs; "" for all of it.
        examples: columns over the table `t` of the tests; the page shows the first.
    """

    signature: Signature | None
    form: str | Callable[[exp.Expr], str] = ""
    check: Check | None = None
    part: str = ""
    examples: tuple[str, ...] = ()

    def duckdb(self, node: exp.Expr) -> str:
        """DuckDB SQL of a call."""
        return self.form(node) if callable(self.form) else self.form.format_map(arguments(node))


_STRING = {"this": "STRING", "expression": "STRING"}
_DATES = {"this": "DATE", "expression": "DATE"}


def _text(name: str, returns: str = "STRING", **takes: str) -> Signature:
    return Signature(name, {"this": "STRING", **takes}, returns)


FUNCTIONS: dict[type[exp.Expr], Function] = {
    exp.Upper: Function(
        _text("UPPER"),
        texts.case("UPPER", "ß", "SS", texts.NO_UPPER),
        part="An error for letters whose upper case is several letters, except ß.",
        examples=("UPPER(s)",),
    ),
    exp.Lower: Function(
        _text("LOWER"), texts.case("LOWER", "İ", "i̇", texts.NO_LOWER), part="An error for Σ.", examples=("LOWER(s)",)
    ),
    exp.Length: Function(_text("LENGTH", "INT64"), "LENGTH({this})", examples=("LENGTH(s)", "CHAR_LENGTH(s)")),
    exp.Trim: Function(
        _text("TRIM", expression="STRING"),
        texts.trim,
        examples=("TRIM(s)", "LTRIM(s)", "RTRIM(s)", "TRIM(s, r)", "LTRIM(s, 'ab')", "RTRIM(s, r)"),
    ),
    exp.Substring: Function(
        _text("SUBSTR", start="INT64", length="INT64"),
        texts.substr,
        examples=("SUBSTR(s, 2, 3)", "SUBSTR(s, n)", "SUBSTR(s, -2)", "SUBSTR(s, 0, 2)", "SUBSTR(s, n, ABS(id))"),
    ),
    exp.Left: Function(_text("LEFT", expression="INT64"), texts.side("LEFT"), examples=("LEFT(s, 2)", "LEFT(s, id)")),
    exp.Right: Function(
        _text("RIGHT", expression="INT64"), texts.side("RIGHT"), examples=("RIGHT(s, 2)", "RIGHT(s, id)")
    ),
    exp.Pad: Function(
        _text("LPAD", expression="INT64", fill_pattern="STRING"),
        "",
        texts.check_pad,
        part="The length and the pattern are literals.",
        examples=("LPAD(s, 5, '0')", "RPAD(s, 5)", "RPAD(s, 4, 'äb')"),
    ),
    exp.StartsWith: Function(
        Signature("STARTS_WITH", _STRING, "BOOL"), examples=("STARTS_WITH(s, 'a')", "STARTS_WITH(s, r)")
    ),
    exp.EndsWith: Function(Signature("ENDS_WITH", _STRING, "BOOL"), examples=("ENDS_WITH(s, 'b')", "ENDS_WITH(s, r)")),
    exp.StrPosition: Function(
        _text("STRPOS", "INT64", substr="STRING"),
        "STRPOS({this}, {substr})",
        lambda node: "INSTR" if node.args.get("position") or node.args.get("occurrence") else "",
        examples=("STRPOS(s, 'b')", "STRPOS(s, r)"),
    ),
    exp.DPipe: Function(Signature("||", _STRING, "STRING", null=False), examples=("s || '-' || r",)),
    exp.RegexpLike: Function(
        Signature("REGEXP_CONTAINS", _STRING, "BOOL"),
        lambda n: f"REGEXP_MATCHES({duckdb_sql(n.this)}, {quoted(n.expression.name)})",
        texts.check_pattern,
        part="The pattern is a literal.",
        examples=("REGEXP_CONTAINS(s, r'^[a-c]+$')", "REGEXP_CONTAINS(s, r'(?i)B|\\bx')"),
    ),
    exp.RegexpReplace: Function(
        Signature("REGEXP_REPLACE", {**_STRING, "replacement": "STRING"}, "STRING"),
        texts.regexp_replace,
        texts.check_pattern,
        part="The pattern and the replacement are literals.",
        examples=(
            "REGEXP_REPLACE(s, r'[^a-z]', '_')",
            "REGEXP_REPLACE(s, r'(a)(b)', r'\\2-\\1')",
            "REGEXP_REPLACE(s, '', '-')",
        ),
    ),
    exp.RegexpExtract: Function(
        Signature("REGEXP_EXTRACT", _STRING, "STRING"),
        texts.regexp_extract,
        texts.check_extract_pattern,
        part="The pattern is a literal; its group, if it has one, is in every match.",
        examples=("REGEXP_EXTRACT(s, r'b+')", "REGEXP_EXTRACT(r, r'^(\\w)')", "REGEXP_EXTRACT(s, r'x*')"),
    ),
    exp.Format: Function(
        None,
        texts.format,
        texts.check_format,
        part="The text is a literal with the verbs %d, %i, %s, %t, %f and %%; %f of numbers below 10^15.",
        examples=(
            "FORMAT('%05d|%s', id, s)",
            "FORMAT('%.2f%%', id / 7)",
            "FORMAT('%t %t %t', n, s, d)",
            'FORMAT("%\'d", n * 1000)',
        ),
    ),
    exp.Abs: Function(Signature("ABS", {"this": "T"}, "T", among=NUMBERS), examples=("ABS(n)", "ABS(f)")),
    exp.Floor: Function(
        Signature("FLOOR", {"this": "T"}, "FLOAT64", among=NUMBERS),
        "FLOOR(CAST({this} AS DOUBLE))",
        examples=("FLOOR(f)", "FLOOR(n)"),
    ),
    exp.Ceil: Function(
        Signature("CEIL", {"this": "T"}, "FLOAT64", among=NUMBERS),
        "CEIL(CAST({this} AS DOUBLE))",
        examples=("CEIL(f)", "CEILING(n)"),
    ),
    exp.Mod: Function(
        Signature("MOD", {"this": "INT64", "expression": "INT64"}, "INT64"),
        "CASE WHEN {expression} = 0 AND {this} IS NOT NULL THEN ERROR('MOD by zero') "
        "WHEN {expression} = -1 THEN {this} * 0 ELSE {this} % {expression} END",
        examples=("MOD(n, 3)", "MOD(n, -id)"),
    ),
    exp.IntDiv: Function(
        Signature("DIV", {"this": "INT64", "expression": "INT64"}, "INT64"),
        "CASE WHEN {expression} = 0 AND {this} IS NOT NULL THEN ERROR('DIV by zero') "
        "WHEN {expression} = -1 THEN -{this} ELSE {this} // {expression} END",
        examples=("DIV(n, 2)", "DIV(n, -id)"),
    ),
    exp.SafeDivide: Function(
        Signature("SAFE_DIVIDE", {"this": "T", "expression": "T"}, "FLOAT64", among=NUMBERS),
        "CASE WHEN {expression} <> 0 AND NOT (ISINF(CAST({this} AS DOUBLE) / {expression}) "
        "AND NOT ISINF(CAST({this} AS DOUBLE))) THEN CAST({this} AS DOUBLE) / {expression} END",
        examples=("SAFE_DIVIDE(n, id)", "SAFE_DIVIDE(f, g)", "SAFE_DIVIDE(1, 0)"),
    ),
    exp.Pow: Function(
        Signature("POW", {"this": "FLOAT64", "expression": "FLOAT64"}, "FLOAT64"),
        numbers.power,
        numbers.check_power,
        part="Of two whole literals with an exact result, or inside ROUND; an error if the result is too large.",
        examples=("POW(10, 6)", "ROUND(POW(IF(f BETWEEN -9 AND 9, f, NULL), 2), 3)", "ROUND(POWER(id, 0.5), 6)"),
    ),
    exp.Ln: Function(
        Signature("LN", {"this": "FLOAT64"}, "FLOAT64"),
        numbers.log,
        numbers.check_rounded,
        part="Inside ROUND.",
        examples=("ROUND(LN(id), 6)", "ROUND(LOG(id), 6)"),
    ),
    exp.Log: Function(
        Signature("LOG", {"this": "FLOAT64", "expression": "FLOAT64"}, "FLOAT64"),
        numbers.log,
        numbers.check_log,
        part="Inside ROUND; the base is a literal from 2.",
        examples=("ROUND(LOG(id, 2), 6)", "ROUND(LOG10(id), 6)"),
    ),
    exp.Least: Function(
        Signature("LEAST", {"this": "T", "expressions": "T"}, "T", without=("ARRAY", "STRUCT")),
        numbers.least,
        examples=("LEAST(n, id)", "LEAST(f, g)", "LEAST(s, r)", "LEAST(f, 1)"),
    ),
    exp.Extract: Function(
        None,
        dates.extract,
        dates.check_part(dates.PARTS | dates.TIME_PARTS),
        part=f"The parts {', '.join((*dates.PARTS, *dates.TIME_PARTS))}.",
        examples=(
            "EXTRACT(YEAR FROM d)",
            "EXTRACT(WEEK FROM d)",
            "EXTRACT(HOUR FROM ts)",
            "EXTRACT(SECOND FROM tm)",
            "EXTRACT(DATE FROM ts)",
        ),
    ),
    exp.DateDiff: Function(
        Signature("DATE_DIFF", _DATES, "INT64"),
        dates.date_diff,
        dates.check_part(dates.COUNTED),
        part=f"The parts {', '.join(dates.COUNTED)}.",
        examples=tuple(f"DATE_DIFF(d, DATE '2020-02-29', {part})" for part in ("DAY", "WEEK", "MONTH")),
    ),
    exp.DateTrunc: Function(
        Signature("DATE_TRUNC", {"this": "DATE"}, "DATE"),
        dates.date_trunc,
        dates.check_part(dates.TRUNCATED),
        part=f"The parts {', '.join(dates.TRUNCATED)}.",
        examples=("DATE_TRUNC(d, MONTH)", "DATE_TRUNC(d, ISOWEEK)"),
    ),
    exp.Date: Function(
        None,
        lambda node: f"CAST({dates.moment(node.this)} AS DATE)",
        dates.check_date,
        part="Of a DATETIME, a TIMESTAMP or a DATE.",
        examples=("DATE(ts)", "DATE(dt)"),
    ),
    exp.StrToDate: Function(
        _text("PARSE_DATE", "DATE"),
        dates.parse_date,
        dates.check_parse_date,
        part=f"The formats {', '.join(dates.DATE_FORMATS)}; years have four digits, months and days two.",
        examples=("PARSE_DATE('%Y%m%d', '20200229')", "PARSE_DATE('%m/%d/%Y', IF(id > 0, '02/29/2020', s))"),
    ),
    exp.CountIf: Function(
        Signature("COUNTIF", {"this": "BOOL"}, "INT64"),
        "COUNT(CASE WHEN {this} THEN 1 END)",
        numbers.check_no_distinct,
        examples=("COUNTIF(b)",),
    ),
    exp.LogicalOr: Function(
        Signature("LOGICAL_OR", {"this": "BOOL"}, "BOOL"),
        "BOOL_OR({this})",
        numbers.check_no_distinct,
        examples=("LOGICAL_OR(b)",),
    ),
    exp.LogicalAnd: Function(
        Signature("LOGICAL_AND", {"this": "BOOL"}, "BOOL"),
        "BOOL_AND({this})",
        numbers.check_no_distinct,
        examples=("LOGICAL_AND(b)",),
    ),
    exp.Avg: Function(
        Signature("AVG", {"this": "T"}, "FLOAT64", among=NUMBERS),
        numbers.AVG,
        numbers.check_avg,
        part="Of INT64; an error if the absolute values add up to more than 2^53.",
        examples=("AVG(IF(n < 9, n, NULL))",),
    ),
    exp.AnyValue: Function(
        Signature("ANY_VALUE", {"this": "T"}, "T"),
        numbers.ANY_VALUE,
        numbers.check_any_value,
        part="An error in a group with different values: BigQuery returns any of them.",
        examples=("ANY_VALUE(id > 0)",),
    ),
}
"""By class of the syntax tree."""
