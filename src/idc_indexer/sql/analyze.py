"""Finds the columns that a pinned statement reads and returns, without running it.

Names must be spelled as the schema documents spell them, `SeriesInstanceUID` and not `seriesinstanceuid`, although
BigQuery accepts both: a query is also documentation.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError, SqlglotError
from sqlglot.optimizer.qualify import qualify

from idc_indexer.errors import IndexerError, did_you_mean
from idc_indexer.schema.column import Column
from idc_indexer.schema.source_tables import PROJECT, SourceTable, SourceTables
from idc_indexer.sql.coercion import kind
from idc_indexer.sql.types import annotate

DIALECT = "bigquery, normalization_strategy=case_sensitive"


@dataclass(frozen=True)
class Leaf:
    """A leaf column that a statement reads.

    Attributes:
        fields: the column and, inside records, the fields that lead to the leaf. A record lists only the fields
            that the statement reads.
    """

    table: SourceTable
    fields: tuple[Column, ...]

    @property
    def path(self) -> str:
        """The dotted name, such as `AnnotationGroupSequence.GraphicType`."""
        return ".".join(field.name for field in self.fields)


@dataclass(frozen=True, eq=False)
class Statement:
    """A pinned statement with resolved names and typed expressions. Nobody changes its tree.

    Attributes:
        text: GoogleSQL, as written.
        tree: the syntax tree; every column has its table, and most expressions have a type.
        leaves: the leaf columns that it reads, each once.
        returns: name and GoogleSQL type of each output column; the type is UNKNOWN if sqlglot cannot infer it.
        order: the last ORDER BY, such as `["collection_id", "rank DESC"]`.
        type_errors: one message for each operand of a type that GoogleSQL does not accept, with its line.
    """

    text: str
    tree: exp.Query
    leaves: tuple[Leaf, ...]
    returns: tuple[tuple[str, str], ...]
    order: tuple[str, ...]
    type_errors: tuple[str, ...]


def analyze(sql: str, sources: SourceTables, context: str) -> Statement:
    """Resolve and type a pinned statement.

    Args:
        context: the query file, for messages.

    Raises:
        IndexerError: the text is not one GoogleSQL SELECT, or names a table or column that the release does not have.
    """
    with errors_for(context):
        tree = _parse(sql)
        named = _resolve(tree.copy(), sources, {})
        leaves = tuple(_leaves(named, sources))
        # The first pass finds the fields of records that the statement reads; the second needs them to infer types.
        records: dict[SourceTable, dict[str, Column]] = {}
        for leaf in leaves:
            columns = records.setdefault(leaf.table, {})
            columns[leaf.fields[0].name] = _merge(columns.get(leaf.fields[0].name), leaf.fields)
        nested = any(len(leaf.fields) > 1 for leaf in leaves)
        typed = _resolve(tree, sources, records) if nested else named
        type_errors = annotate(typed, _schema(typed, sources, records), DIALECT)
        names = [column.alias_or_name for column in typed.selects]
        if odd := {name for name in names if names.count(name) > 1 or name in ("*", "")}:
            raise IndexerError(f"output columns need a name each, and no name twice: {', '.join(sorted(odd))}")
    returns = tuple((column.alias_or_name, kind(column)) for column in typed.selects)
    order = typed.args.get("order")
    return Statement(sql, typed, leaves, returns, tuple(_order(order.expressions) if order else ()), type_errors)


@contextmanager
def errors_for(context: str, hint: str = "") -> Iterator[None]:
    """Name the query file in what sqlglot raises, and in the errors of this package.

    Args:
        hint: what to do about an error of sqlglot.

    Raises:
        IndexerError: also for expressions that are nested more deeply than Python's stack allows.
    """
    try:
        yield
    except SqlglotError as error:
        raise IndexerError(f"{context}: {error}", hint) from error
    except RecursionError as error:
        raise IndexerError(
            f"{context}: expressions are nested too deeply", "Divide them among common table expressions."
        ) from error
    except IndexerError as error:
        raise IndexerError(f"{context}: {error.message}", error.hint) from error


def _parse(sql: str) -> exp.Query:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # sqlglot compiles patterns of RE2, such as [[:alpha:]]
            statements = sqlglot.parse(sql, dialect=DIALECT)
    except ParseError as error:
        first = error.errors[0]
        raise IndexerError(f"not GoogleSQL: line {first['line']}, near {first['highlight']!r}") from error
    except SqlglotError as error:
        raise IndexerError(f"not GoogleSQL: {error}") from error
    if len(statements) != 1 or not isinstance(statements[0], exp.Query):
        raise IndexerError("must be exactly one SELECT statement")
    tree = statements[0]
    for node in tree.walk():
        node.comments = None
    if tree.args.get("kind"):
        raise IndexerError(f"SELECT AS {tree.args['kind']} returns no columns")
    expressions = {cte.alias for cte in tree.find_all(exp.CTE)}
    for table in tree.find_all(exp.Table):
        if not table.db and table.name not in expressions and not isinstance(table.this, exp.Func):
            raise IndexerError(
                f"table {table.name} is not one of IDC's",
                did_you_mean(table.name, expressions)
                + f"Give it its dataset, such as `{PROJECT}.idc_current.{table.name}`.",
            )
    for select in tree.find_all(exp.Select):
        _group_by_position(select)
        _reject_stars(select)
    return tree


def _reject_stars(select: exp.Select) -> None:
    """Reject `*` of a source table: its columns depend on the release, so a query has to name the ones it reads."""
    sources = (select.args.get("from_"), *select.args.get("joins", ()))
    if any(p.is_star for p in select.selects) and any(
        isinstance(source.this, exp.Table) and source.this.db for source in sources if source is not None
    ):
        raise IndexerError("* of a source table", "Name the columns.")


def _group_by_position(select: exp.Select) -> None:
    """Replace an alias in GROUP BY by its position.

    If it hides a column, GoogleSQL groups by the alias and DuckDB by the column.
    """
    names = [p.alias.lower() if isinstance(p, exp.Alias) and not _keeps_name(p) else "" for p in select.selects]
    group = select.args.get("group")
    for term in list(group.expressions) if group else ():
        if isinstance(term, exp.Column) and not term.table and term.name.lower() in names:
            position = exp.Literal.number(names.index(term.name.lower()) + 1)
            position.meta.update(term.this.meta)
            term.replace(position)


def _keeps_name(projection: exp.Alias) -> bool:
    return isinstance(projection.this, exp.Column) and projection.this.name == projection.alias


def tables_read(tree: exp.Expr) -> Iterator[tuple[exp.Table, SourceTable]]:
    """The source tables of a statement, each with its node in the tree."""
    for node in tree.find_all(exp.Table):
        if node.db:
            yield node, source_table(node)


def source_table(node: exp.Table) -> SourceTable:
    """The source table that a table of a statement is."""
    return SourceTable.parse(".".join(part.name for part in node.parts))


def source_of(column: exp.Column) -> SourceTable | None:
    """The source table that has a column, None for a derived column."""
    scope = column.find_ancestor(exp.Select)
    while scope is not None:
        for source in (scope.args.get("from_"), *scope.args.get("joins", ())):
            if source is not None and source.alias_or_name == column.table:
                table = source.this
                return source_table(table) if isinstance(table, exp.Table) and table.db else None
        scope = scope.find_ancestor(exp.Select)
    return None


def _schema(tree: exp.Expr, sources: SourceTables, records: dict[SourceTable, dict[str, Column]]) -> dict[str, Any]:
    """The types, as sqlglot takes them, of the columns whose names are in the statement."""
    mentioned = {node.name for node in tree.find_all(exp.Identifier)}
    datasets: dict[str, dict[str, dict[str, str]]] = {}
    for _, table in tables_read(tree):
        if table not in sources:
            raise IndexerError(
                f"table {table} is not known", did_you_mean(table.name, sources.tables) + _declare(table.family, "X")
            )
        # sqlglot takes no table without columns, and a query may misspell all of them
        columns = datasets.setdefault(table.dataset, {}).setdefault(table.name, {"_": "INT64"})
        for name in mentioned:
            field = records.get(table, {}).get(name) or _known(sources, table, name)
            if field is not None:
                columns[name] = field.googlesql if field.type != "RECORD" or field.fields else "ARRAY<STRUCT<x INT64>>"
    return {PROJECT: datasets}


def _known(sources: SourceTables, table: SourceTable, name: str) -> Column | None:
    """The column, or None: a name in the statement may belong to another table."""
    try:
        return sources.column(table, name)
    except IndexerError:
        return None


def _resolve(tree: exp.Query, sources: SourceTables, records: dict[SourceTable, dict[str, Column]]) -> exp.Query:
    schema = _schema(tree, sources, records)
    try:
        return qualify(tree, dialect=DIALECT, schema=schema, quote_identifiers=False)
    except SqlglotError as error:
        # If the column exists in another release, say so; sqlglot only says that it "could not be resolved".
        for _, table in tables_read(tree):
            for name in sorted({node.name for node in tree.find_all(exp.Column)}):
                sources.column(table, name)
        raise _unresolved(tree, sources, str(error)) from error


_UNRESOLVED = re.compile(r"(?:Column '|Unknown column: )(?P<name>\w+)(?:.* table: '(?P<table>\w+)')?")


def _unresolved(tree: exp.Query, sources: SourceTables, problem: str) -> IndexerError:
    """What to do about sqlglot's message that it cannot resolve a column."""
    found = _UNRESOLVED.search(problem)
    if found is None:
        return IndexerError(problem)
    name, alias = found["name"], found["table"]
    lines = (c.this.meta.get("line") for c in tree.find_all(exp.Column) if c.name == name)
    line = next((f"line {one}: " for one in lines if one), "")
    tables = [table for _, table in tables_read(tree)]
    if alias:
        known = [*(table.name for table in tables), *(node.alias for node in tree.find_all(exp.TableAlias, exp.Table))]
        return IndexerError(f"{line}no table is called {alias} here", did_you_mean(alias, filter(None, known)).strip())
    known = [column for table in tables for column in sources.names(table)]
    known += [node.alias for node in tree.find_all(exp.Alias) if node.alias != name]
    declare = _declare(tables[0].family, name) if tables else ""
    return IndexerError(f"{line}there is no column {name}", (did_you_mean(name, known) + declare).strip())


def _declare(family: str, column: str) -> str:
    """How to declare a column that IDC has and the toolkit does not know."""
    example = f'"sources": {{"{family}": {{"columns": [{{"name": "{column}", "type": "STRING"}}]}}}}'
    return f"If IDC has it, declare it in the schema of the index: {example}."


def _leaves(tree: exp.Expr, sources: SourceTables) -> Iterator[Leaf]:
    unnests = list(tree.find_all(exp.Unnest))
    # `x IN UNNEST(y)` has no alias, and neither has a column that names an output of the statement
    unnested = {node.alias: node for node in unnests if node.alias}
    found: dict[Leaf, None] = {}
    unnested_arrays: list[tuple[SourceTable, str]] = []
    for unnest in unnests:
        array = unnest.expressions[0]
        if array.find(exp.Column) and not isinstance(array, (exp.Column, exp.Dot, exp.Bracket, exp.Split)):
            raise IndexerError("UNNEST takes a column or SPLIT of one", "Choose between arrays after UNNEST.")
    for column in tree.find_all(exp.Column):
        path = _path(column, unnested)
        if path is None:
            continue
        table, fields = path[0], _fields(*path, sources)
        if fields[-1].type == "RECORD" and isinstance(_chain(column)[0].parent, exp.Unnest):
            # The statement reads the fields of the elements; those columns name them.
            unnested_arrays.append((table, ".".join(path[1])))
        else:
            found |= dict.fromkeys(_spread(table, fields))
    for table, array in unnested_arrays:
        if not any(leaf.table == table and leaf.path.startswith(f"{array}.") for leaf in found):
            raise IndexerError(f"reads no field of {array} of {table}", "Name one: only leaf columns can be read.")
    for _, table in tables_read(tree):
        if not any(leaf.table == table for leaf in found):
            raise IndexerError(f"reads no column of {table}", "Name one, such as COUNT(SOPInstanceUID).")
    yield from found


def _chain(column: exp.Column) -> tuple[exp.Expr, tuple[str, ...]]:
    """The outermost expression that takes elements and fields of a column, and the names in it."""
    names = [column.name]
    node: exp.Expr = column
    while isinstance(node.parent, (exp.Dot, exp.Bracket)) and node.parent.this is node:
        node = node.parent
        if isinstance(node, exp.Dot):
            names.append(node.name)
    return node, tuple(names)


def _path(column: exp.Column, unnested: dict[str, exp.Unnest]) -> tuple[SourceTable, tuple[str, ...]] | None:
    """Source table, column and fields that an expression around a column reads; None for a derived column."""
    _, names = _chain(column)
    if (unnest := unnested.get(column.table)) is not None:
        if not unnest.expressions or column.name == getattr(unnest.args.get("offset"), "name", None):
            return None
        array = unnest.expressions[0].find(exp.Column)
        outer = _path(array, unnested) if array is not None else None
        return outer and (outer[0], outer[1] + names[1:])
    table = source_of(column)
    return (table, names) if table else None


def _fields(table: SourceTable, names: tuple[str, ...], sources: SourceTables) -> tuple[Column, ...]:
    """The column and the fields of records along a path."""
    field = sources.column(table, names[0])
    if field is None:
        raise IndexerError(f"{table} has no column {names[0]}")
    fields = [field]
    for name in names[1:]:
        child = sources.nested(table, fields[-1], name)
        if child is None:
            raise IndexerError(
                f"{table} has no field {name} in {'.'.join(f.name for f in fields)}",
                did_you_mean(name, [f.name for f in fields[-1].fields] or sources.names(table)).strip(),
            )
        fields.append(child)
    return tuple(fields)


def _spread(table: SourceTable, fields: tuple[Column, ...]) -> Iterator[Leaf]:
    """The leaves under a path: the column itself, or all leaves of a declared record."""
    if fields[-1].type != "RECORD":
        yield Leaf(table, fields)
        return
    if not fields[-1].fields:
        path = ".".join(field.name for field in fields)
        raise IndexerError(f"reads all of {path} of {table}", "Name its fields: only leaf columns can be read.")
    for child in fields[-1].fields:
        if child.exists_in(table.release):
            yield from _spread(table, (*fields, child))


def _merge(record: Column | None, path: tuple[Column, ...]) -> Column:
    """A record with its fields and those of one more path."""
    head, *rest = path
    fields = record.fields if record is not None else ()
    if rest:
        known = {field.name: field for field in fields}
        known[rest[0].name] = _merge(known.get(rest[0].name), tuple(rest))
        fields = tuple(known.values())
    return Column(head.name, head.type, head.mode, fields=fields)


def _order(terms: list[exp.Expr]) -> Iterator[str]:
    for term in terms:
        of_output = isinstance(term.this, exp.Column) and not term.this.table
        default_nulls = bool(term.args.get("nulls_first")) != bool(term.args.get("desc"))
        if of_output and default_nulls:
            yield term.this.name + (" DESC" if term.args.get("desc") else "")
        else:
            yield term.sql(DIALECT)
