"""Which source columns the values of an index come from, found in its query.

A value is *taken* from a source column if it is one of the column's values: chosen (MIN, COALESCE, IF, CASE), listed,
counted, joined to a text, split, rounded or read as a number. It is *computed* from the column if there is arithmetic
or a comparison on the way. Conditions decide which value is returned and are not followed: not those of IF and CASE,
nor WHERE, HAVING, join conditions or the ORDER BY of an aggregate.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from sqlglot import exp
from sqlglot.optimizer.scope import Scope, build_scope

from idc_indexer.sql import Statement

Path = tuple[str, ...]
"""A source column and the fields inside it."""

_COMPUTING = (exp.Binary, exp.Unary, exp.Between, exp.In, exp.Sqrt, exp.Acos, exp.Lag)
_NOT_COMPUTING = (exp.Dot, exp.Paren)  # of those classes, by sqlglot's reckoning


@dataclass(frozen=True)
class Origin:
    """Where a value comes from."""

    path: Path
    computed: bool


@dataclass(frozen=True)
class _Way:
    """What has been met between an output column and the expression that is looked at.

    Attributes:
        fields: the fields that are read of it.
        part: which part of a text that is split, by which separator: values that belong together travel as one text.
    """

    computed: bool = False
    fields: Path = ()
    part: tuple[str, int] | None = None


def origins(statement: Statement) -> dict[str, set[Origin]]:
    """Where each output column comes from; nothing for a constant and for COUNT(*)."""
    scope = build_scope(statement.tree)
    assert scope is not None
    return {name: set(_of_output(number, scope, _Way())) for number, (name, _) in enumerate(statement.returns)}


def _of(node: exp.Expr, scope: Scope, way: _Way) -> Iterator[Origin]:
    if isinstance(node, exp.Column):
        yield from _of_column(node, scope, way)
    elif isinstance(node, exp.Dot):
        yield from _of(node.this, scope, replace(way, fields=(node.name, *way.fields)))
    elif isinstance(node, exp.Bracket):
        split = node.this
        if isinstance(split, exp.Split):
            yield from _of(split.this, scope, replace(way, part=(split.expression.name, int(node.expressions[0].name))))
        else:
            yield from _of(node.this, scope, way)
    elif isinstance(node, exp.Concat) and way.part is not None:
        yield from _of_part(node, scope, way)
    else:
        computing = isinstance(node, _COMPUTING) and not isinstance(node, _NOT_COMPUTING)
        for child in _values(node):
            yield from _of(child, scope, replace(way, computed=way.computed or computing))


def _values(node: exp.Expr) -> list[exp.Expr]:
    """The operands from which the value of an expression comes."""
    if isinstance(node, exp.Case):
        return [*(branch.args["true"] for branch in node.args["ifs"]), *filter(None, [node.args.get("default")])]
    if isinstance(node, exp.If):
        chosen = [node.args["true"], *filter(None, [node.args.get("false")])]
        # IF(x IS NULL, x, y): the first is a NULL that has a type
        return chosen[1:] if node.this == exp.Is(this=chosen[0], expression=exp.Null()) else chosen
    if isinstance(node, (exp.Nullif, exp.Order, exp.RegexpExtract, exp.Window)):
        return [node.this]
    if isinstance(node, exp.Anonymous) and node.name == "ERROR":
        return []  # an error is no value
    assert not isinstance(node, exp.Query), "a subquery among the output columns: say here how it is followed"
    return [child for child in node.iter_expressions() if not isinstance(child, exp.DataType)]


def _of_part(concat: exp.Concat, scope: Scope, way: _Way) -> Iterator[Origin]:
    assert way.part is not None
    separator, wanted = way.part
    position = 0
    for child in concat.expressions:
        if isinstance(child, exp.Literal) and child.name == separator:
            position += 1
        elif position == wanted:
            yield from _of(child, scope, replace(way, part=None))


def _of_column(column: exp.Column, scope: Scope, way: _Way) -> Iterator[Origin]:
    source = scope.sources[column.table]
    if isinstance(source, exp.Table):
        yield Origin((column.name, *way.fields), way.computed)
    elif isinstance(source.expression, exp.Unnest):
        outer = source.parent
        assert outer is not None
        # An element of an array: its fields are read of the array.
        yield from _of(source.expression.expressions[0], outer, way)
    else:
        yield from _of_output(_query(source).named_selects.index(column.name), source, way)


def _of_output(number: int, scope: Scope, way: _Way) -> Iterator[Origin]:
    """Where a column comes from; the branches of a UNION agree on its number only, not on its name."""
    if scope.set_operation_scopes:
        for branch in scope.set_operation_scopes:
            yield from _of_output(number, branch, way)
    else:
        yield from _of(_query(scope).selects[number], scope, way)


def _query(scope: Scope) -> exp.Query:
    assert isinstance(scope.expression, exp.Query)
    return scope.expression
