"""Distances between neighbours, `x - LAG(x) OVER (PARTITION BY k ORDER BY x)`, that only aggregates of `k` use.

A window sorts whole rows, with all their columns, by text. A sorted list of the numbers of each group gives the same
distances, and rows stay where they are. volume_geometry_index of 7.5 million instances takes 0.85 of the processor
time of the window with 6 GB.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlglot import exp

from idc_indexer.sql.coercion import kind
from idc_indexer.sql.forms import duckdb_sql

_OF = "gaps of"
"""Key of the metadata of an aggregate over distances: DuckDB SQL of the numbers."""


@dataclass(frozen=True)
class _Gap:
    """A distance in the select list of a query, and the names of what it is made of."""

    projection: exp.Alias
    number: str
    keys: frozenset[str]


def mark(tree: exp.Expr) -> bool:
    """Find the aggregates over distances, and take the windows out of the queries that they read.

    Returns:
        Whether there are any, so that each group collects its numbers.
    """
    if tree.find(exp.Lag) is None:
        return False  # to search the tree for each SELECT takes 0.2 s for the two queries of 24 prior releases
    found = False
    for select in list(tree.find_all(exp.Select)):
        rows = _only_source(select, tree)
        gap = _gap(rows) if rows is not None else None
        if gap is None or not _groups_by(select, gap.keys):
            continue
        uses = _uses(select, gap.projection.alias)
        if uses and all(uses):
            number = exp.column(exp.to_identifier(gap.number, quoted=True), table=select.args["from_"].alias_or_name)
            for aggregate in uses:
                assert aggregate is not None
                aggregate.meta[_OF] = duckdb_sql(number)
            gap.projection.pop()
            found = True
    return found


def form(aggregate: exp.Expr) -> str:
    """DuckDB SQL of an aggregate over distances, "" of any other.

    NaN comes before all numbers in GoogleSQL and after them in DuckDB, so that the numbers are negated.
    """
    x = aggregate.meta.get(_OF)
    if x is None:
        return ""
    if isinstance(aggregate.this, exp.If):
        # Rows without a distance: the first number, and those without a number.
        value = duckdb_sql(aggregate.this.args["true"])
        return f"GREATEST(ARG_MAX_NULL({value}, -{x}), MAX(CASE WHEN {x} IS NULL THEN {value} END))"
    ordered = f"LIST_REVERSE_SORT(LIST(-{x}) FILTER(WHERE {x} IS NOT NULL))"
    pairs = f"LIST_ZIP({ordered}[:-2], {ordered}[2:])"
    if isinstance(aggregate, exp.Max):
        return f"LIST_MAX([pair[1] - pair[2] FOR pair IN {pairs}])"
    return f"-LIST_MAX([-(pair[1] - pair[2]) FOR pair IN {pairs}])"


def _only_source(select: exp.Select, tree: exp.Expr) -> exp.Select | None:
    """The query whose rows a SELECT reads, if it reads all of them, nothing else, and is their only reader."""
    source = select.args["from_"].this if select.args.get("from_") else None
    if not isinstance(source, (exp.Table, exp.Subquery)) or select.args.get("joins") or select.args.get("where"):
        return None
    query: exp.Expr | None = source.this
    if isinstance(source, exp.Table):
        readers = [table for table in tree.find_all(exp.Table) if table.name.lower() == source.name.lower()]
        ctes = [cte.this for cte in tree.find_all(exp.CTE) if cte.alias.lower() == source.name.lower()]
        query = ctes[0] if not source.db and len(readers) == len(ctes) == 1 else None
    return query if isinstance(query, exp.Select) else None


def _gap(rows: exp.Select) -> _Gap | None:
    """The distance among the columns of a query, if it is the only one and its numbers and keys are columns too."""
    if {name for name, part in rows.args.items() if part} - {"expressions", "from_", "joins", "where", "with_"}:
        return None
    names = {one.unalias(): one.alias_or_name for one in rows.selects}
    found = [one for one in rows.selects if isinstance(one, exp.Alias) and one.find(exp.Window)]
    difference = found[0].this if len(found) == 1 else None
    if not isinstance(difference, exp.Sub) or not isinstance(difference.expression, exp.Window):
        return None
    number, window = difference.this, difference.expression
    columns = [number, *(window.args.get("partition_by") or ())]
    if not _is_lag(window, number) or not all(isinstance(one, exp.Column) and one in names for one in columns):
        return None
    return _Gap(found[0], names[number], frozenset(names[one] for one in columns[1:]))


def _is_lag(window: exp.Window, number: exp.Expr) -> bool:
    """Whether it is the FLOAT64 before, in ascending order."""
    terms = window.args["order"].expressions if window.args.get("order") else []
    plain = isinstance(window.this, exp.Lag) and not (window.args.get("spec") or window.this.args.get("offset"))
    ascending = [term.this for term in terms if not term.args.get("desc")] == [number] and len(terms) == 1
    return plain and ascending and window.this.this == number and kind(number) == "FLOAT64"


def _groups_by(select: exp.Select, keys: Iterable[str]) -> bool:
    group = select.args.get("group")
    if group is None or {name for name, part in group.args.items() if part} != {"expressions"}:
        return False
    columns = all(isinstance(one, exp.Column) and one.table for one in group.expressions)
    return columns and {one.name for one in group.expressions} == keys


def _uses(select: exp.Select, gap: str) -> list[exp.Expr | None]:
    """The aggregates over a distance, and None for each other use."""
    return [_aggregate(column) for column in select.find_all(exp.Column) if column.name == gap]


def _aggregate(column: exp.Column) -> exp.Expr | None:
    """MIN(gap), MAX(gap) or MAX(IF(gap IS NULL, x, NULL)) around a column."""
    test, value = column.parent, column.find_ancestor(exp.If)
    if isinstance(test, (exp.Min, exp.Max)):
        return test
    is_null = isinstance(test, exp.Is) and isinstance(test.expression, exp.Null)
    if not is_null or value is None or value.this is not test or not isinstance(value.args["true"], exp.Column):
        return None
    return value.parent if isinstance(value.args.get("false"), exp.Null) and isinstance(value.parent, exp.Max) else None
