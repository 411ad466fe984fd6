"""What the forms of functions on DuckDB are made of: SQL of arguments, and the values of literals."""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

Check = Callable[[exp.Expr], str]
"""Names the unsupported construct that a node is, "" if the node is supported."""


def duckdb_sql(node: exp.Expr) -> str:
    """DuckDB SQL of an expression, with every name in quotes, because DuckDB reserves other words."""
    return node.sql("duckdb", identify=True)


def arguments(node: exp.Expr) -> dict[str, str]:
    """DuckDB SQL of each argument of a call, in parentheses."""
    return {name: f"({duckdb_sql(one)})" for name, one in node.args.items() if isinstance(one, exp.Expr)}


def quoted(text: str) -> str:
    """A literal of DuckDB."""
    return duckdb_sql(exp.Literal.string(text))


def is_number(node: exp.Expr) -> bool:
    """Whether it is a number, with or without a sign."""
    node = node.this if isinstance(node, exp.Neg) else node
    return isinstance(node, exp.Literal) and not node.is_string


def number(node: exp.Expr | None) -> float | None:
    """The value of a number, None if it is another expression."""
    if node is None or not is_number(node):
        return None
    return -float(node.this.name) if isinstance(node, exp.Neg) else float(node.name)


def text_of(node: exp.Expr | None) -> str | None:
    """The text of a literal, None if it is another expression."""
    is_text = isinstance(node, exp.RawString) or (isinstance(node, exp.Literal) and node.is_string)
    return node.name if is_text and node is not None else None
