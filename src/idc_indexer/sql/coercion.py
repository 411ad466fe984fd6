"""GoogleSQL's rules for converting an operand to the type of another one without a CAST.

https://cloud.google.com/bigquery/docs/reference/standard-sql/conversion_rules#coercion
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from itertools import combinations

from sqlglot import exp

UNKNOWN = "UNKNOWN"
NUMBERS = ("INT64", "FLOAT64")
"""The types of arithmetic; DuckDB's arithmetic of NUMERIC differs from GoogleSQL's."""

_COERCIONS = {"INT64": ("NUMERIC", "FLOAT64"), "NUMERIC": ("FLOAT64",), "DATE": ("DATETIME",)}
"""By type of an expression: the types that it is converted to."""

_DATE, _TIME = r"\d{4}-\d{1,2}-\d{1,2}", r"\d{1,2}:\d{1,2}:\d{1,2}(\.\d{1,6})?"
_TEMPORAL = {"DATE": _DATE, "DATETIME": f"{_DATE}([ T]{_TIME})?", "TIMESTAMP": f"{_DATE}([ T]{_TIME})?", "TIME": _TIME}
"""By type: the pattern of text that both engines convert to the same value."""

_LITERAL_COERCIONS = {"STRING": tuple(_TEMPORAL), "INT64": ("NUMERIC", "FLOAT64"), "FLOAT64": ("NUMERIC",)}
"""By type of a literal: the types that it is converted to."""

_PRECEDENCE = ("INT64", "NUMERIC", "FLOAT64", "DATE", "DATETIME")
"""If several types are common to some operands, the first of these is the result."""


def kind(node: exp.Expr) -> str:
    """The GoogleSQL type of an expression, UNKNOWN if it cannot be inferred."""
    if not node.type:
        return UNKNOWN
    return node.type.sql("bigquery", copy=False) if node.type.expressions else _plain(node.type.this)


@cache
def _plain(dtype: exp.DType) -> str:
    """The name of a type without parameters; to generate it each time took a tenth of the processor time of a plan."""
    return exp.DataType(this=dtype).sql("bigquery")


def spelled(node: exp.Expr) -> str:
    """The name of a function or construct, as the query spells it: POW, although sqlglot calls it POWER."""
    name = node.meta.get("bigquery_name")
    if name or not isinstance(node, exp.Func):
        return str(name or type(node).__name__).upper()
    return str(_NAMES.get(type(node)) or node.sql_name())


_NAMES: dict[type[exp.Expr], str] = {
    exp.Substring: "SUBSTR", exp.GroupConcat: "STRING_AGG", exp.TryCast: "SAFE_CAST", exp.Extract: "EXTRACT",
    exp.DPipe: "||", exp.SafeFunc: "SAFE.",
}  # fmt: skip
"""Names of constructs for which sqlglot forgets how the query spells them."""


@dataclass(frozen=True)
class Signature:
    """The types that an operator or a function takes and returns.

    Attributes:
        name: as in GoogleSQL.
        takes: by argument of the syntax tree: a type, or `T` for the common type of all arguments that are `T`.
        returns: a type, `T` or `ARRAY<T>`.
        among: the types that `T` may be; if empty, all but those in `without`.
        without: beginnings of types that `T` may not be.
        null: whether an argument may be the literal NULL.
        verb: between the name and two types, if `T` does not exist.
    """

    name: str
    takes: Mapping[str, str]
    returns: str
    among: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    null: bool = True
    verb: str = "mixes {} and {}"


@dataclass(frozen=True)
class Operand:
    """An operand with its type.

    Attributes:
        literal: for a literal, its type, `NULL`, or `[]` for an array without elements; else "".
    """

    node: exp.Expr
    type: str
    literal: str = ""

    @classmethod
    def of(cls, node: exp.Expr) -> Operand:
        """The operand that a typed expression is."""
        literal = _literal(node)
        type_ = kind(node) if literal in ("", "[]", "NULL") else literal
        # NULL is INT64, also if it is a column of a subquery.
        return cls(node, "INT64" if type_ == "NULL" else type_, literal)

    def becomes(self, type_: str) -> bool:
        """Whether GoogleSQL converts it to that type without a CAST."""
        if self.type == type_ or self.literal == "NULL":
            return True
        if self.literal == "[]":
            return type_.startswith("ARRAY<")
        return type_ in (_LITERAL_COERCIONS if self.literal else _COERCIONS).get(self.type, ())


def _literal(node: exp.Expr) -> str:
    node = node.unnest()
    if isinstance(node, exp.Null) or is_error(node):
        return "NULL"
    if isinstance(node, exp.Array) and not node.expressions:
        return "[]"
    number = node.this.unnest() if isinstance(node, exp.Neg) else node
    if isinstance(number, exp.Literal) and not number.is_string:
        return "INT64" if number.is_int else "FLOAT64"
    return "STRING" if isinstance(node, (exp.Literal, exp.RawString)) else ""


def is_error(node: exp.Expr) -> bool:
    """Whether an expression is ERROR(), which has every type, as NULL has."""
    return isinstance(node, exp.Anonymous) and node.name.upper() == "ERROR"


def common_type(operands: Sequence[Operand]) -> str | None:
    """The type that all operands become, UNKNOWN if a type is not known, None if there is no such type."""
    types = list(dict.fromkeys(one.type for one in operands if one.literal != "NULL")) or [operands[0].type]
    if any(UNKNOWN in one for one in types):
        return UNKNOWN
    place = {type_: number for number, type_ in enumerate(_PRECEDENCE)}
    types.sort(key=lambda one: place.get(one, -1))
    return next((type_ for type_ in types if all(one.becomes(type_) for one in operands)), None)


def in_conflict(operands: Sequence[Operand]) -> tuple[Operand, Operand]:
    """Two operands without a common type, of several that have none."""
    pairs = ((a, b) for a, b in combinations(operands, 2) if common_type([a, b]) is None)
    return next(pairs, (operands[0], operands[-1]))


def convert_literal(operand: Operand, type_: str) -> bool:
    """Give a literal the type that it is converted to, for `rewrites`; False if its text has no value of that type."""
    literal = operand.node.find(exp.Literal, exp.RawString)
    if operand.literal in ("", "NULL", "[]") or literal is None:
        return True
    if type_ in (*_TEMPORAL, "NUMERIC"):
        literal.type = exp.DataType.build(type_, dialect="bigquery")
    return type_ not in _TEMPORAL or _is_temporal(literal.name, type_)


def _is_temporal(text: str, type_: str) -> bool:
    if not re.fullmatch(_TEMPORAL[type_], text):
        return False
    day, _, time = text.replace("T", " ").partition(" ") if type_ != "TIME" else ("2000-1-1", "", text)
    try:
        datetime.strptime(day, "%Y-%m-%d")
        datetime.strptime(time.partition(".")[0] or "0:0:0", "%H:%M:%S")
    except ValueError:
        return False
    return not re.search(r":60\b", time)  # strptime takes leap seconds
