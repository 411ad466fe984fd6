"""Rewrites the expressions for which sqlglot's translation or DuckDB would return something else than GoogleSQL.

Each rewrite changes the tree in place. DuckDB SQL generated from the new tree returns what GoogleSQL defines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sqlglot import exp

from idc_indexer.sql import gaps
from idc_indexer.sql.analyze import source_of, source_table
from idc_indexer.sql.cast_forms import FORMS, form, types
from idc_indexer.sql.coercion import kind
from idc_indexer.sql.forms import duckdb_sql, quoted
from idc_indexer.sql.functions import FUNCTIONS
from idc_indexer.sql.number_forms import ROUND_BOUND
from idc_indexer.sql.supported import NUMBER, may_be_nan, nan_agrees, null_if_empty


def rewrite(tree: exp.Expr) -> bool:
    """Rewrite a typed statement without unsupported constructs, from the inner expressions to the outer.

    Returns:
        Whether groups collect the numbers of their rows.
    """
    collects = gaps.mark(tree)
    _fill_arrays(tree)
    # UNNEST first: other rewrites parse text, and then a field of an element looks like a column of a table.
    first: dict[type[exp.Expr], Callable[[exp.Expr], None]] = {exp.Select: _rewrite_unnest}
    for rewrites in (first, _REWRITES):
        for node in reversed(list(tree.walk(bfs=False))):
            change = rewrites.get(type(node))
            if change is not None and UNPROVEN not in node.meta:
                change(node)
    return collects


UNPROVEN = "unproven"
"""Key of the metadata of a node that sqlglot translates without a rewrite, because it is not supported."""
_PATTERN = "pattern"
"""Key of a node's metadata: the regular expression that its text matches."""
_NUMBER_ON_DUCKDB = {
    ("FLOAT64", NUMBER["FLOAT64"]): "^ *[-+]?[.0-9eE][-+.0-9eE ]*$",  # without the texts that start with two signs
    ("INT64", NUMBER["INT64"]): NUMBER["INT64"],
}
"""By type and pattern: the pattern of the texts that DuckDB reads as the numbers that GoogleSQL reads."""


def _parse(sql: str) -> exp.Expr:
    return exp.maybe_parse(sql, dialect="duckdb")


def _put(node: exp.Expr, sql: str) -> None:
    """Replace an expression by DuckDB SQL, which keeps its type for the rewrites of what is around it."""
    new = _parse(sql)
    new.type = node.type
    node.replace(new)


def _fill_arrays(tree: exp.Expr) -> None:
    """Make an array of a source table empty where it is NULL, as in BigQuery; an export may hold either.

    Not where only its elements are read, of which both have none: DuckDB takes 0.86 to 0.97 of the processor time for
    the indices that read records.
    """
    for column in list(tree.find_all(exp.Column)):
        if kind(column).startswith("ARRAY") and source_of(column) and not _reads_elements(column.parent):
            filled = exp.Coalesce(this=column.copy(), expressions=[exp.Array()])
            filled.type = column.type
            column.replace(filled)


def _reads_elements(node: exp.Expr | None) -> bool:
    """Whether an expression around an array is the same for one that is NULL and one that is empty."""
    if isinstance(node, exp.Bracket):
        return bool(node.args.get("safe"))
    return isinstance(node, exp.Unnest) or (isinstance(node, exp.ArrayToString) and null_if_empty(node))


def _rewrite_function(node: exp.Expr) -> None:
    _put(node, FUNCTIONS[type(node)].duckdb(node))


def _rewrite_sum(node: exp.Expr) -> None:
    """DuckDB's sum has 128 bits, GoogleSQL's 64. With the cast, an overflow is an error on both engines."""
    if not isinstance(node.parent, exp.Window):  # else the cast is around the window
        node.replace(exp.cast(node.copy(), "BIGINT"))


def _rewrite_min(node: exp.Expr) -> None:
    """NaN is the smallest FLOAT64 in GoogleSQL and the largest in DuckDB; `-MAX(-x)` finds it as the smallest."""
    if sql := gaps.form(node):
        _put(node, sql)
    elif kind(node) == "FLOAT64":
        node.replace(exp.Neg(this=exp.Max(this=exp.Neg(this=exp.paren(node.this)))))


def _rewrite_max(node: exp.Expr) -> None:
    if sql := gaps.form(node):
        _put(node, sql)


_LITERAL_CASTS = {
    "DATE": "DATE", "DATETIME": "TIMESTAMP", "TIMESTAMP": "TIMESTAMPTZ", "TIME": "TIMETZ", "NUMERIC": "DECIMAL(38, 9)",
}  # fmt: skip


def _rewrite_literal(node: exp.Expr) -> None:
    """`0.1` is FLOAT64 in GoogleSQL and DECIMAL in DuckDB. With an exponent, it is DOUBLE in DuckDB.

    A literal that GoogleSQL converts to another type gets a CAST. In exports, TIME has a zone, as TIMESTAMP has.
    """
    type_ = kind(node)
    if type_ in _LITERAL_CASTS:
        midnight = " 00:00:00" if type_ == "TIMESTAMP" and ":" not in node.name else ""
        name = node.name + midnight + ("+00" if type_ in ("TIME", "TIMESTAMP") else "")
        text = exp.Literal.string(name) if node.is_string else exp.Literal.number(name)
        node.replace(exp.Cast(this=text, to=exp.DataType.build(_LITERAL_CASTS[type_], dialect="duckdb")))
        return
    if not node.is_string and "." in node.name and "e" not in node.name.lower():
        node.set("this", f"{node.name}e0")


def _rewrite_round(node: exp.Expr) -> None:
    """GoogleSQL rounds the exact binary value, half away from zero. DuckDB first computes `x * 10^n`, which is inexact.

    PRINTF rounds the exact value, but a tie to the even digit. A tie is an odd multiple of 2^-(n+1). This rewrite
    moves a tie to the next double away from zero, so that PRINTF rounds it away from zero too.
    """
    digits = int(node.args["decimals"].name) if node.args.get("decimals") else 0
    x = f"({duckdb_sql(node.this)})"
    if kind(node.this) == "INT64":
        x = f"CAST({x} AS DOUBLE)"
    whole, half = f"{x} * {2**digits}", f"{x} * {2 ** (digits + 1)}"
    tie = f"{whole} <> FLOOR({whole}) AND {half} = FLOOR({half})"
    exact = f"CASE WHEN ABS({x}) < {2 ** ROUND_BOUND[digits]} AND {tie} THEN NEXTAFTER({x}, 2 * {x}) ELSE {x} END"
    _put(node, f"CAST(PRINTF('%.{digits}f', {exact}) AS DOUBLE)")


def _rewrite_cast(node: exp.Expr) -> None:
    """GoogleSQL writes a TIME with 0, 3 or 6 digits of a second. In exports, a TIME has a zone, which is always UTC."""
    if kind(node.this) == "TIME":
        text = f"STRFTIME(DATE '2000-01-01' + CAST({duckdb_sql(node.this)} AS TIME), '%H:%M:%S.%f')"
        _put(node, rf"REGEXP_REPLACE({text}, '\.000000$|000$', '')")
    elif types(node) in FORMS:
        _put(node, form(node))


def _rewrite_try_cast(node: exp.Expr) -> None:
    """DuckDB reads +-1 and 1_000 as numbers, GoogleSQL does not. GoogleSQL reads 0x1p3, DuckDB does not: an error."""
    pattern = _NUMBER_ON_DUCKDB.get((types(node)[1], node.this.meta.get(_PATTERN, "")))
    if pattern:
        # Without a match this is '', which is no number. DuckDB calls a function, but not NULLIF or CASE, once for each
        # value of a dictionary: ct_index takes 0.65 of the time that it took with NULLIF, of 7.5 million instances.
        text = node.this.this.expressions[0]
        node.set("this", _parse(f"REGEXP_EXTRACT({duckdb_sql(text)}, {quoted(pattern)})"))
        return
    if types(node) in FORMS:
        _put(node, form(node))
        return
    x = duckdb_sql(node.this)
    # A regular expression takes ten times as long as the conversion, so only unusual text is matched.
    odd = f"CONTAINS({x}, '_') OR CONTAINS({x}, '+-') OR CONTAINS({x}, '0x') OR CONTAINS({x}, '0X')"
    hexadecimal = rf"REGEXP_MATCHES({x}, '^[\t-\r ]*[+-]?0[xX]')"
    wrong = rf"REGEXP_MATCHES({x}, '^[^(]*_|\+-')"
    node.set(
        "this",
        _parse(
            f"CASE WHEN {odd} THEN CASE WHEN {hexadecimal} THEN ERROR('hexadecimal number: ' || {x}) "
            f"WHEN NOT {wrong} THEN {x} END ELSE {x} END"
        ),
    )


def _rewrite_regexp_extract(node: exp.Expr) -> None:
    """Without a match, GoogleSQL returns NULL and DuckDB ''. The patterns of numbers match no empty text."""
    if node.expression.name not in NUMBER.values():
        _rewrite_function(node)
        return
    pattern = exp.Literal.string(node.expression.name)
    match = exp.Anonymous(this="REGEXP_EXTRACT", expressions=[node.this, pattern])
    found = exp.Nullif(this=match, expression=exp.Literal.string(""))
    found.meta[_PATTERN] = node.expression.name
    node.replace(found)


def _rewrite_array_to_string(node: exp.Expr) -> None:
    """For an array without values, DuckDB returns NULL and GoogleSQL ''."""
    if not null_if_empty(node):
        x = duckdb_sql(node.this)
        _put(node, f"CASE WHEN {x} IS NOT NULL THEN COALESCE({duckdb_sql(node)}, '') END")


def _distinct(value: exp.Expr) -> str:
    x = duckdb_sql(value)
    return f"LIST(DISTINCT {x}) FILTER(WHERE {x} IS NOT NULL)"


def _rewrite_group_concat(node: exp.Expr) -> None:
    """Sort the list of distinct values instead of ordering inside the aggregate, which is slower.

    Four such aggregates over 1.5 million rows in 1.0 million groups took 4.1 s before and 2.2 s after.
    """
    order = node.this
    if not isinstance(order, exp.Order) or not isinstance(order.this, exp.Distinct):
        return
    (value,), (term,) = order.this.expressions, order.expressions
    if term.this == value and not term.args.get("desc"):
        separator = duckdb_sql(node.args.get("separator") or exp.Literal.string(","))
        node.replace(_parse(f"ARRAY_TO_STRING(LIST_SORT({_distinct(value)}), {separator})"))


def _rewrite_comparison(node: exp.Expr) -> None:
    """A comparison with NaN is false, != is true, and with NULL it is NULL."""
    if nan_agrees(node):
        return
    a, b = f"({duckdb_sql(node.this)})", f"({duckdb_sql(node.expression)})"
    sides = [(node.this, a, b), (node.expression, b, a)]
    nan = [f"(ISNAN({one}) AND {other} IS NOT NULL)" for side, one, other in sides if may_be_nan(side)]
    found = "TRUE" if isinstance(node, exp.NEQ) else "FALSE"
    _put(node, f"CASE WHEN {' OR '.join(nan)} THEN {found} ELSE {duckdb_sql(node)} END")


def _rewrite_bracket(node: exp.Expr) -> None:
    """OFFSET and ORDINAL beyond the end of an array are an error in GoogleSQL and NULL in DuckDB."""
    if node.args.get("safe"):
        return
    array, place = duckdb_sql(node.this), int(node.expressions[0].name) + 1 - (node.args.get("offset") or 0)
    inside = f"LEN({array}) >= {place}" if place > 0 else "FALSE"
    wrong = f"ERROR('array index {node.expressions[0].name} is out of bounds')"
    _put(node, f"CASE WHEN {inside} THEN ({array})[{place}] WHEN {array} IS NOT NULL THEN {wrong} END")


def _rewrite_array_agg(node: exp.Expr) -> None:
    """DuckDB takes no LIMIT here: take the first elements. Distinct values are sorted afterwards, as in STRING_AGG."""
    if isinstance(node.parent, exp.IgnoreNulls):
        return  # with its parent
    aggregate = node.this if isinstance(node, exp.IgnoreNulls) else node
    limit = aggregate.this
    if isinstance(limit, exp.Limit):
        aggregate.set("this", limit.this)
    sql = _sorted_array(aggregate) if isinstance(aggregate.this.this, exp.Distinct) else ""
    if isinstance(limit, exp.Limit):
        sql = f"({sql or duckdb_sql(node)})[1:{limit.expression.name}]"
    if sql:
        _put(node, sql)


def _sorted_array(aggregate: exp.Expr) -> str:
    """The distinct values. NaN comes first in GoogleSQL, so that numbers are negated and sorted in descending order."""
    (value,) = aggregate.this.this.expressions
    if kind(value) == "FLOAT64":
        return f"[-x FOR x IN LIST_REVERSE_SORT({_distinct(exp.Neg(this=exp.paren(value)))})]"
    return f"LIST_SORT({_distinct(value)})"


def _rewrite_sqrt(node: exp.Expr) -> None:
    """For a negative number, GoogleSQL raises an error and DuckDB 2 returns NaN."""
    x = duckdb_sql(node.this)
    _put(node, f"CASE WHEN ({x}) < 0 THEN ERROR('SQRT of a negative number') ELSE SQRT({x}) END")


def _rewrite_acos(node: exp.Expr) -> None:
    """For a number outside -1 to 1, GoogleSQL raises an error. NaN is not an error, but DuckDB sorts it above 1."""
    x = duckdb_sql(node.this)
    beyond = f"({x}) < -1 OR (({x}) > 1 AND NOT ISNAN({x}))"
    _put(node, f"CASE WHEN {beyond} THEN ERROR('ACOS of a number beyond 1') ELSE ACOS({x}) END")


def _rewrite_window(node: exp.Expr) -> None:
    """NaN comes after NULL and before all numbers, so the window sorts the negated numbers in descending order.

    A first term for NaN, as in `_rewrite_ordered`, would take twice as long for 40 million rows.
    """
    order = node.args.get("order")
    for term in order.expressions if order is not None else ():
        if kind(term.this) == "FLOAT64":
            term.set("this", exp.Neg(this=exp.paren(term.this)))
            term.set("desc", True)
            term.set("nulls_first", True)
    if isinstance(node.this, exp.Sum):
        node.replace(exp.cast(node.copy(), "BIGINT"))


def _rewrite_error(node: exp.Expr) -> None:
    """For ERROR(NULL), DuckDB returns NULL and GoogleSQL raises an error."""
    if node.name.upper() == "ERROR":
        message = node.expressions[0].copy()
        node.set("expressions", [exp.Coalesce(this=message, expressions=[exp.Literal.string("NULL")])])


def _rewrite_offset(node: exp.Expr) -> None:
    """On DuckDB, the offset of UNNEST starts at 1. ORDER BY does not care."""
    offset, select = node.args.get("offset"), node.find_ancestor(exp.Select)
    if not isinstance(offset, exp.Expr) or select is None:
        return
    for use in list(select.find_all(exp.Column)):
        if use.name == offset.name and use.table == node.alias and not isinstance(use.parent, exp.Ordered):
            use.replace(exp.paren(exp.Sub(this=use.copy(), expression=exp.Literal.number(1))))


def _rewrite_unnest(node: exp.Expr) -> None:
    """Unnest in the select list instead of a join: a chain of subqueries, each of which unnests one array.

    For a join with a dependent UNNEST, DuckDB hashes the columns that it depends on, with their arrays. seg_index of
    120,000 series with 60 segments each took 86 s and 4.2 GB as joins and takes 23 s and 1.7 GB now. sm_index of
    60,000 series took 63 s and takes 9 s.
    """
    assert isinstance(node, exp.Select)
    joins: list[exp.Join] = node.args.get("joins") or []
    base = node.args["from_"].this if "from_" in node.args else None
    if not joins or not isinstance(base, (exp.Table, exp.Subquery)) or not all(map(_is_plain_unnest, joins)):
        return
    if any(part.find(exp.Query) for part in _parts(node)):
        return  # correct but slow: the names in subqueries would have to be resolved again
    name = base.alias_or_name
    own = {join.this.alias for join in joins}
    where = node.args.get("where")
    early, late = _partition(where.this if where else None, own)
    source: exp.Table | exp.Subquery = base
    for number, join in enumerate(joins):
        array = join.this.expressions[0]
        if join.side == "LEFT":
            some = exp.GT(this=exp.Anonymous(this="LEN", expressions=[array.copy()]), expression=exp.Literal.number(0))
            array = exp.case().when(some, array).else_(_parse("[NULL]"))
        one = exp.Anonymous(this="UNNEST", expressions=[array])
        level = exp.select("*", exp.alias_(one, _element(join.this), quoted=True)).from_(source)
        if not number and early:
            level = level.where(*early)
        source = level.subquery(name)
    node.set("from_", exp.From(this=source))
    node.set("joins", None)
    node.set("where", exp.Where(this=exp.and_(*late)) if late else None)
    elements = {join.this.alias: _element(join.this) for join in joins}
    for column in list(node.find_all(exp.Column)):
        if column.table in elements:
            column.replace(exp.column(exp.to_identifier(elements[column.table], quoted=True), table=name))


def _parts(select: exp.Select) -> Iterator[exp.Expr]:
    """The expressions of a SELECT, without what it selects from."""
    for name, part in select.args.items():
        if name not in ("from_", "with_"):
            yield from (one for one in (part if isinstance(part, list) else [part]) if isinstance(one, exp.Expr))


def _is_plain_unnest(join: exp.Expr) -> bool:
    unnest = join.this
    return isinstance(unnest, exp.Unnest) and not unnest.args.get("offset") and join.args.get("on") is None


def _element(unnest: exp.Expr) -> str:
    """A name for the elements of an array; no column has this name, because of its dot."""
    return f"{unnest.alias}.{unnest.args['alias'].columns[0].name}"


def _partition(condition: exp.Expr | None, own: set[str]) -> tuple[list[exp.Expr], list[exp.Expr]]:
    """The terms of a condition without columns of the tables `own`, and the other terms."""
    early: list[exp.Expr] = []
    late: list[exp.Expr] = []
    for term in condition.flatten() if isinstance(condition, exp.And) else [condition] if condition else []:
        needs = any(column.table in own for column in term.find_all(exp.Column))
        (late if needs else early).append(term.copy())
    return early, late


def _rewrite_ordered(node: exp.Expr) -> None:
    """GoogleSQL sorts NaN before all numbers, DuckDB after them. A first term puts it after NULL."""
    select = node.parent.parent if node.parent else None
    if not isinstance(select, exp.Select) or not isinstance(node.this, exp.Column):
        return
    value = next((p.this for p in select.selects if isinstance(p, exp.Alias) and p.alias == node.this.name), node.this)
    if kind(value) == "FLOAT64" and isinstance(value, exp.Column):
        x = duckdb_sql(value)
        place = exp.Ordered(this=_parse(f"CASE WHEN {x} IS NULL THEN 0 WHEN ISNAN({x}) THEN 1 ELSE 2 END"))
        place.set("desc", node.args.get("desc"))
        node.replace([place, node.copy()])


def _rewrite_table(node: exp.Expr) -> None:
    assert isinstance(node, exp.Table)
    if node.db:
        name = exp.to_identifier(str(source_table(node)), quoted=True)
        node.replace(exp.Table(this=name, alias=node.args.get("alias")))


_REWRITES: dict[type[exp.Expr], Callable[[exp.Expr], None]] = {
    **{cls: _rewrite_function for cls, function in FUNCTIONS.items() if function.form},
    exp.Sum: _rewrite_sum,
    exp.Min: _rewrite_min,
    exp.Max: _rewrite_max,
    exp.Literal: _rewrite_literal,
    exp.Round: _rewrite_round,
    exp.Cast: _rewrite_cast,
    exp.TryCast: _rewrite_try_cast,
    exp.RegexpExtract: _rewrite_regexp_extract,
    exp.ArrayToString: _rewrite_array_to_string,
    exp.GroupConcat: _rewrite_group_concat,
    exp.IgnoreNulls: _rewrite_array_agg,
    exp.ArrayAgg: _rewrite_array_agg,
    exp.Bracket: _rewrite_bracket,
    exp.Unnest: _rewrite_offset,
    exp.ArraySize: lambda node: _put(node, f"LEN({duckdb_sql(node.this)})"),
    **dict.fromkeys((exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE), _rewrite_comparison),
    exp.Sqrt: _rewrite_sqrt,
    exp.Acos: _rewrite_acos,
    exp.Window: _rewrite_window,
    exp.Anonymous: _rewrite_error,
    exp.Ordered: _rewrite_ordered,
    exp.Table: _rewrite_table,
}
