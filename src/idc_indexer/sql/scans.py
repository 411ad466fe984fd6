"""Parts of a statement that read the same rows of a source table share one scan.

The rows are those of a condition such as `Modality = 'SM'`, which selects few instances. To find them, all pages of
nested columns are read and decoded; that takes most of the time. Of 7.5 million instances, the statement of sm_index
takes 0.67 of the processor time of before, that of rtstruct_index 0.55.
"""

from __future__ import annotations

from sqlglot import exp

from idc_indexer.sql.forms import duckdb_sql


def share(tree: exp.Query) -> None:
    """Put rows that several SELECTs of a statement for DuckDB read into a common table expression."""
    scans: dict[tuple[str, str], list[exp.Select]] = {}
    for select in tree.find_all(exp.Select):
        if condition := _condition(select):
            scans.setdefault((select.args["from_"].this.name, condition), []).append(select)
    repeated = {scan: selects for scan, selects in scans.items() if len(selects) > 1}
    shared = []
    for number, ((table, condition), selects) in enumerate(repeated.items(), start=1):
        name = exp.to_identifier(f"{table.replace('.', ' ')} {number}", quoted=True)  # a dot marks a source table
        rows = (
            exp.select("*")
            .from_(exp.Table(this=exp.to_identifier(table, quoted=True)))
            .where(condition, dialect="duckdb")
        )
        shared.append(exp.CTE(this=rows, alias=exp.TableAlias(this=name)))
        for select in selects:
            select.args["from_"].this.set("this", name.copy())
            select.set("where", None)
    if shared:
        with_ = tree.args.get("with_")
        tree.set("with_", exp.With(expressions=[*shared, *(with_.expressions if with_ else ())]))


def restrictions(tree: exp.Query) -> dict[str, str]:
    """The conditions of the rows that a statement for DuckDB reads.

    Returns:
        By source table, a condition over its columns that selects all rows which are read of it. Tables without one
        are left out. Statements that read the same rows have the same text.
    """
    found: dict[str, set[str]] = {}
    for table in tree.find_all(exp.Table):
        if "." in table.name and table.parent_select:
            found.setdefault(table.name, set()).add(_condition(table.parent_select))
    return {
        table: conditions.pop() for table, conditions in found.items() if len(conditions) == 1 and "" not in conditions
    }


def _condition(select: exp.Select) -> str:
    """The condition of a SELECT from a source table, if it compares its columns with literals and is all of WHERE."""
    source, where = select.args["from_"].this if select.args.get("from_") else None, select.args.get("where")
    if not isinstance(source, exp.Table) or "." not in source.name or where is None or select.args.get("joins"):
        return ""
    condition = where.this.copy()
    terms = list(condition.flatten()) if isinstance(condition, exp.And) else [condition]
    if not all(isinstance(term, (exp.EQ, exp.In)) and _of_literals(term) for term in terms):
        return ""
    for column in condition.find_all(exp.Column):
        if column.table not in ("", source.alias_or_name):  # of an outer row
            return ""
        column.set("table", None)
    return duckdb_sql(condition)


def _of_literals(term: exp.Expr) -> bool:
    """Whether it compares a column with literals: `x = 'a'` or `x IN ('a', 'b')`."""
    others = [term.expression] if isinstance(term, exp.EQ) else term.expressions
    return isinstance(term.this, exp.Column) and all(isinstance(one, exp.Literal) for one in others) and bool(others)
