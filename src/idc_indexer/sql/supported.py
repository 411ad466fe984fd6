"""The subset of GoogleSQL that is translated for DuckDB.

A construct is supported if tests compare it with the GoogleSQL reference evaluator and DuckDB returns the same rows,
with the changes in `rewrites`. `unsupported` names any other construct and its line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sqlglot import exp

from idc_indexer.sql.analyze import source_of
from idc_indexer.sql.cast_forms import FORMS, PLAIN, types
from idc_indexer.sql.coercion import UNKNOWN, kind, spelled
from idc_indexer.sql.forms import Check, is_number
from idc_indexer.sql.functions import FUNCTIONS
from idc_indexer.sql.number_forms import ROUND_BOUND, check_rounded, exact_power
from idc_indexer.sql.types import at_line

STRUCTURE = (
    exp.Select, exp.From, exp.Join, exp.Where, exp.Group, exp.Having, exp.Order, exp.Ordered, exp.With, exp.CTE,
    exp.Subquery, exp.Union, exp.Except, exp.Intersect, exp.Table, exp.TableAlias, exp.Column, exp.Identifier,
    exp.Alias, exp.Star, exp.Distinct, exp.Qualify, exp.Limit, exp.WindowSpec, exp.Var, exp.WeekStart,
    exp.Literal, exp.RawString, exp.Null, exp.Boolean, exp.Paren, exp.DataType, exp.DataTypeParam, exp.Dot,
)  # fmt: skip
EXPRESSIONS = (
    exp.And, exp.Or, exp.Not, exp.Is, exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.In, exp.Between,
    exp.Case, exp.If, exp.Coalesce, exp.Nullif, exp.Concat, exp.Replace, exp.Split, exp.Like,
    exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Neg, exp.Round, exp.Sqrt, exp.Acos, exp.Greatest, exp.IsNan,
    exp.Cast, exp.TryCast,
    exp.Bracket, exp.Unnest, exp.Array, exp.ArrayToString, exp.ArraySize, exp.Exists,
    exp.Count, exp.Sum, exp.Min, exp.Max, exp.GroupConcat, exp.ArrayAgg, exp.IgnoreNulls,
    exp.Window, exp.RowNumber, exp.Lag, exp.Rank, exp.DenseRank, exp.NullSafeEQ, exp.NullSafeNEQ,
)  # fmt: skip
SUPPORTED = frozenset((*STRUCTURE, *EXPRESSIONS, *FUNCTIONS))
ANONYMOUS = frozenset({"ERROR"})
"""Supported functions for which sqlglot has no class."""

NUMBER = {"FLOAT64": "^[-+.0-9eE ]+$", "INT64": "^ *[-+]?[0-9]+ *$"}
"""By type: the pattern of text that both engines read as the same number, or both do not read."""


EQUIVALENTS = {
    "APPROX_COUNT_DISTINCT": "COUNT(DISTINCT x)",
    "ARRAY_AGG with": "ARRAY_AGG(x IGNORE NULLS ORDER BY x)",
    "ARRAY_AGG(DISTINCT x) with": "ARRAY_AGG(DISTINCT x IGNORE NULLS ORDER BY x)",
    "ARRAY_CONCAT_AGG": "UNNEST in FROM, and ARRAY_AGG(x IGNORE NULLS ORDER BY x)",
    "BETWEEN of FLOAT64": "x >= a AND x <= b",
    "CASE of FLOAT64": "CASE WHEN x = a THEN ...",
    "CAST of FLOAT64 to STRING": "FORMAT('%.3f', x)",
    "CAST of STRING to FLOAT64": "SAFE_CAST",
    "CONTAINS_SUBSTR": "STRPOS(LOWER(x), 'text') > 0",
    "CURRENT_": "a literal: the same build has the same result on every day",
    "EXTRACT with": "DATE_DIFF or DATE_TRUNC",
    "FORMAT with": "the verbs %d, %s, %t and %.2f",
    "IN of FLOAT64": "x = a OR x = b",
    "INSTR": "STRPOS(x, 'text')",
    "LIKE of": "STARTS_WITH, ENDS_WITH, STRPOS or REGEXP_CONTAINS",
    "NULLIF of FLOAT64": "IF(x = a, NULL, x)",
    "OFFSET": "a window with ROW_NUMBER and QUALIFY",
    "PIVOT": "COUNTIF(x = 'a') AS a, and so on",
    "REGEXP_EXTRACT_ALL": "SPLIT, or REGEXP_EXTRACT for each part",
    "REGEXP_SUBSTR": "REGEXP_EXTRACT",
    "SAFE.": "SAFE_CAST, SAFE_DIVIDE, or IF around the operand",
    "STRING_AGG without": "STRING_AGG(x, ',' ORDER BY x), with DISTINCT or without",
    "SUM of FLOAT64": "SUM of an INT64: a sum of FLOAT64 depends on the order of the rows",
    "AVG of FLOAT64": "AVG of an INT64: a sum of FLOAT64 depends on the order of the rows",
    "TABLESAMPLE": "WHERE",
    "division by": "SAFE_DIVIDE(a, b) or a / NULLIF(b, 0)",
}
"""By the beginning of what is not supported: what to write instead."""


def unsupported(tree: exp.Expr) -> Iterator[tuple[exp.Expr, str]]:
    """Each unsupported construct in a typed statement, and a message with its line."""
    for node in tree.walk(bfs=False):
        if problem := _problem(node):
            yield node, f"{at_line(node)}{problem} is not supported on DuckDB" + _instead(problem)


def _instead(problem: str) -> str:
    if problem.endswith("outside of ROUND"):
        return "; write ROUND(..., 6)"
    if re.search(r"CAST of .* to (INT|SMALLINT|TINYINT)$", problem):
        return "; write INT64"
    return next((f"; write {text}" for start, text in EQUIVALENTS.items() if problem.startswith(start)), "")


def untyped(tree: exp.Expr) -> Iterator[str]:
    """One message for each expression whose type could not be inferred, so that its operands were not checked."""
    for node in tree.walk(bfs=False):
        part = isinstance(node, (exp.Var, exp.WeekStart))  # of a date, such as MONTH
        if isinstance(node, (exp.Condition, exp.Alias)) and UNKNOWN in kind(node) and not part:
            yield f"{at_line(node)}the type of {node.sql('bigquery')} cannot be inferred: it is not supported on DuckDB"


def _problem(node: exp.Expr) -> str:
    """The name of an unsupported construct, "" if the node is supported."""
    name = spelled(node)
    if isinstance(node, exp.Anonymous):
        return _check_error(node) if node.name.upper() in ANONYMOUS else f"function {node.name}"
    if type(node) not in SUPPORTED:
        return name
    check = _CHECKS.get(type(node))
    return check(node) if check else ""


def _check_error(node: exp.Expr) -> str:
    """DuckDB skips an operand of AND or OR that it does not need. GoogleSQL may evaluate it and raise the error."""
    chooser = node.find_ancestor(exp.And, exp.Or, exp.If, exp.Case, exp.Coalesce, exp.Query)
    return f"ERROR inside {chooser.key.upper()}" if isinstance(chooser, (exp.And, exp.Or)) else ""


def _check_sum(node: exp.Expr) -> str:
    # A sum of FLOAT64 depends on the order of the rows, which depends on the threads.
    return "" if kind(node.this) == "INT64" else f"SUM of {kind(node.this)}"


def _check_cast(node: exp.Expr) -> str:
    pair = types(node)
    if node.args.get("format"):
        return "CAST with FORMAT"
    literal = isinstance(node.this, exp.Literal) and pair[1] in ("DATE", "DATETIME", "TIMESTAMP", "TIME")
    return "" if literal or pair in PLAIN or pair in FORMS else f"CAST of {pair[0]} to {pair[1]}"


def _check_try_cast(node: exp.Expr) -> str:
    pair = types(node)
    return "" if pair in FORMS or pair == ("STRING", "FLOAT64") else f"SAFE_CAST of {pair[0]} to {pair[1]}"


def _check_div(node: exp.Expr) -> str:
    divisor = node.expression
    if isinstance(divisor, exp.Literal) and divisor.is_number and float(divisor.name):
        return ""
    if isinstance(divisor, exp.Pow) and exact_power(divisor):
        return ""
    zero_is_null = isinstance(divisor, exp.Nullif) and divisor.expression == exp.Literal.number(0)
    return "" if zero_is_null else "division by anything but a literal or NULLIF(..., 0)"


def _check_round(node: exp.Expr) -> str:
    digits = node.args.get("decimals")
    if digits is None:
        return ""
    literal = isinstance(digits, exp.Literal) and digits.is_int and int(digits.name) < len(ROUND_BOUND)
    return "" if literal else f"ROUND to digits that are not a literal from 0 to {len(ROUND_BOUND) - 1}"


def _check_comparison(node: exp.Expr) -> str:
    records = any(kind(one).startswith("STRUCT") for one in (node.this, node.expression))
    return f"{node.key.upper()} of records" if records else ""


def may_be_nan(node: exp.Expr) -> bool:
    """Whether a value of it may be NaN: of a FLOAT64 that is not written as a number."""
    return kind(node) == "FLOAT64" and not is_number(node)


def nan_agrees(node: exp.Expr) -> bool:
    """Whether both engines compare NaN alike. In DuckDB, it is equal to itself and larger than all numbers.

    In GoogleSQL, no comparison with NaN is true. If the other operand is a number, some comparisons are false for a
    value that is larger than all numbers.
    """
    if not (may_be_nan(node.this) or may_be_nan(node.expression)):
        return True
    agree = (exp.EQ, exp.NEQ, exp.LT, exp.LTE) if is_number(node.expression) else (exp.EQ, exp.NEQ, exp.GT, exp.GTE)
    return isinstance(node, agree) and (is_number(node.expression) or is_number(node.this))


def _check_equality(node: exp.Expr) -> str:
    """BETWEEN, IN, NULLIF and CASE x WHEN compare too: see `nan_agrees`."""
    if node.this is None:
        return ""
    others = [node.args[name] for name in _COMPARED_WITH.get(type(node), ())]
    kinds = [kind(operand) for operand in (node.this, *others)]
    if "FLOAT64" in kinds:
        numbers = kinds[0] == "FLOAT64" and others and all(map(is_number, others))
        return "" if numbers else f"{node.key.upper()} of FLOAT64"
    return f"{node.key.upper()} of records" if kinds[0].startswith("STRUCT") else ""


# IN and CASE test for equality: an INT64 is not equal to NaN on either engine.
_COMPARED_WITH: dict[type[exp.Expr], tuple[str, ...]] = {exp.Between: ("low", "high"), exp.Nullif: ("expression",)}


def _check_extreme(node: exp.Expr) -> str:
    return "" if kind(node.this) != "UNKNOWN" else f"{node.key.upper()} of an expression of unknown type"


def _check_split(node: exp.Expr) -> str:
    return "" if isinstance(node.expression, exp.Literal) else "SPLIT by anything but a literal"


def _check_ordered(node: exp.Expr) -> str:
    """If an alias hides a column, an expression over it means the alias in GoogleSQL and the column in DuckDB."""
    select = node.parent.parent if node.parent else None
    if not isinstance(select, (exp.Select, exp.Union)):
        return ""  # in an aggregate or a window: they have their own checks
    for projection in select.selects:
        rewritten = isinstance(select, exp.Select) and isinstance(projection.unalias(), exp.Column)
        if projection.alias_or_name == node.this.name and kind(projection) == "FLOAT64" and not rewritten:
            return "ORDER BY FLOAT64 that is not a column"
    if not isinstance(node.this, exp.Column):
        return "ORDER BY an expression (select it, and order by its name)"
    hidden = isinstance(select.parent, exp.Array) and not node.this.table
    return "ORDER BY an alias inside ARRAY(SELECT ...)" if hidden else ""


def _check_bracket(node: exp.Expr) -> str:
    literal = all(isinstance(index, exp.Literal) for index in node.expressions)
    return "" if literal else "an array index that is not a literal"


def _check_array_to_string(node: exp.Expr) -> str:
    if node.args.get("null") is not None or not isinstance(node.expression, exp.Literal):
        return "ARRAY_TO_STRING with anything but an array and a literal"
    # NULLIF(..., '') makes both the '' of BigQuery and the NULL of DuckDB NULL.
    same = null_if_empty(node) or _is_same_array(node.this)
    return "" if same else "ARRAY_TO_STRING of anything but a column of a table, unless in NULLIF(..., ''),"


def _check_array_length(node: exp.Expr) -> str:
    return "" if _is_same_array(node.this) else "ARRAY_LENGTH of anything but a column of a table"


def _is_same_array(node: exp.Expr) -> bool:
    """Whether an array is NULL on both engines, or on neither.

    In an export, an array inside a record may be NULL. BigQuery has an empty one there.
    """
    if isinstance(node, exp.Column):
        return source_of(node) is not None
    return isinstance(node, (exp.Split, exp.IgnoreNulls))


def _check_set_operation(node: exp.Expr) -> str:
    return "" if node.args.get("distinct") else f"{spelled(node)} ALL"


def null_if_empty(node: exp.Expr) -> bool:
    """Whether an expression is the first argument of `NULLIF(..., '')`."""
    parent = node.parent
    return isinstance(parent, exp.Nullif) and parent.this is node and parent.expression == exp.Literal.string("")


def _check_array_agg(node: exp.Expr) -> str:
    order = node.this.this if isinstance(node.this, exp.Limit) else node.this
    if not isinstance(node.parent, (exp.IgnoreNulls, exp.Bracket)):
        return "ARRAY_AGG without IGNORE NULLS"
    if not isinstance(order, exp.Order):
        return "ARRAY_AGG without ORDER BY"
    if isinstance(order.this, exp.Distinct) and not isinstance(node.parent, exp.IgnoreNulls):
        return "ARRAY_AGG(DISTINCT x) without IGNORE NULLS"
    if isinstance(order.this, exp.Distinct):
        (term,) = order.expressions
        same = term.this == order.this.expressions[0] and not term.args.get("desc")
        return "" if same else "ARRAY_AGG(DISTINCT x) with another ORDER BY than x"
    ordered = [kind(term.this) for term in order.expressions]
    return "ARRAY_AGG with ORDER BY of FLOAT64" if "FLOAT64" in ordered else ""


def _check_group_concat(node: exp.Expr) -> str:
    # Without ORDER BY, the result depends on the order of the rows, which depends on the threads.
    if not isinstance(node.this, exp.Order):
        return "STRING_AGG without ORDER BY"
    ordered = [kind(term.this) for term in node.this.expressions]
    return "STRING_AGG with ORDER BY of FLOAT64" if "FLOAT64" in ordered else ""


def _check_like(node: exp.Expr) -> str:
    pattern = node.expression
    plain = isinstance(pattern, exp.Literal) and pattern.is_string and "\\" not in pattern.name
    return "" if plain else "LIKE of anything but a literal without backslash"


def _check_limit(node: exp.Expr) -> str:
    """Which of equal rows are left out is open, so that ORDER BY has to tell all rows apart."""
    query = node.parent
    if isinstance(query, exp.ArrayAgg):
        return "" if isinstance(node.expression, exp.Literal) else "LIMIT of anything but a literal"
    if not isinstance(query, exp.Select) or not isinstance(node.expression, exp.Literal):
        return "LIMIT of anything but a literal after a SELECT"
    order, group = query.args.get("order"), query.args.get("group")
    ordered = {term.this.name for term in order.expressions} if order else set()
    keys = [p for p in query.selects if not group or p.unalias() in group.expressions]
    complete = {p.alias_or_name for p in keys} <= ordered and (not group or len(keys) == len(group.expressions))
    return "" if complete else "LIMIT without ORDER BY all columns, or all columns of GROUP BY,"


def _check_array(node: exp.Expr) -> str:
    ordered = all(query.args.get("order") for query in node.expressions if isinstance(query, exp.Select))
    return "" if ordered else "ARRAY(SELECT ...) without ORDER BY"


def _check_ignore_nulls(node: exp.Expr) -> str:
    return "" if isinstance(node.this, exp.ArrayAgg) else f"{node.this.sql_name()} with IGNORE NULLS"


_WINDOWED = (exp.Count, exp.Sum, exp.Min, exp.Max, exp.CountIf, exp.LogicalOr, exp.LogicalAnd)
"""Aggregates with one result for each row of the partition, or for each row and its equals in ORDER BY."""


def _check_window(node: exp.Expr) -> str:
    order = node.args.get("order")
    terms = order.expressions if order is not None else []
    parts = node.args.get("partition_by") or []
    if not all(isinstance(one, (exp.Column, exp.Dot)) for one in (*parts, *(term.this for term in terms))):
        return "a window over expressions (select them in a subquery)"  # DuckDB takes none that may raise an error
    if node.args.get("spec") is not None or node.args.get("alias") is not None:
        return "a window with a frame or a name"
    if "FLOAT64" in map(kind, parts):
        return "a window partitioned by FLOAT64"  # not GoogleSQL either
    return _check_window_function(node, terms)


def _check_window_function(node: exp.Expr, terms: list[exp.Expr]) -> str:
    ordered = [kind(term.this) for term in terms]
    if isinstance(node.this, exp.Lag) and len(terms) == 1:
        # The order of equal rows is not defined. LAG returns the same only for the value that orders the rows.
        same = terms[0].this == node.this.this and not terms[0].args.get("desc")
        return "" if same and not node.this.args.get("offset") else "LAG of anything but the ascending ORDER BY"
    if isinstance(node.this, (exp.RowNumber, exp.Rank, exp.DenseRank)) and terms:
        return "a window ordered by FLOAT64" if "FLOAT64" in ordered else ""
    if isinstance(node.this, _WINDOWED):
        return _check_windowed(node.this, ordered)
    return f"{spelled(node.this)} as a window"


def _check_windowed(node: exp.Expr, ordered: list[str]) -> str:
    if "FLOAT64" in ordered:
        return "a window ordered by FLOAT64"
    if isinstance(node.this, exp.Distinct) or kind(node.this) == "FLOAT64":
        return f"{spelled(node)} of DISTINCT or FLOAT64 values as a window"
    return ""


_CHECKS: dict[type[exp.Expr], Check] = {
    **{cls: function.check for cls, function in FUNCTIONS.items() if function.check},
    exp.Sum: _check_sum,
    exp.EQ: _check_comparison,
    exp.NEQ: _check_comparison,
    exp.LT: _check_comparison,
    exp.LTE: _check_comparison,
    exp.GT: _check_comparison,
    exp.GTE: _check_comparison,
    exp.Between: _check_equality,
    exp.In: _check_equality,
    exp.Nullif: _check_equality,
    exp.Case: _check_equality,
    exp.Min: _check_extreme,
    exp.Max: _check_extreme,
    exp.Split: _check_split,
    exp.Ordered: _check_ordered,
    exp.Cast: _check_cast,
    exp.TryCast: _check_try_cast,
    exp.Div: _check_div,
    exp.Acos: check_rounded,
    exp.Like: _check_like,
    exp.Round: _check_round,
    exp.Bracket: _check_bracket,
    exp.ArrayToString: _check_array_to_string,
    exp.Array: _check_array,
    exp.ArraySize: _check_array_length,
    exp.Except: _check_set_operation,
    exp.Intersect: _check_set_operation,
    exp.Limit: _check_limit,
    exp.ArrayAgg: _check_array_agg,
    exp.GroupConcat: _check_group_concat,
    exp.IgnoreNulls: _check_ignore_nulls,
    exp.Window: _check_window,
}
