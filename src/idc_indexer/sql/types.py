"""Types of expressions, and which operands GoogleSQL accepts.

DuckDB converts types on its own, also where GoogleSQL raises an error: `SeriesNumber = 5` compares text with a number.
`annotate` infers the type of each expression of the supported subset and reports each operand of a wrong type. Tests
compare it with the GoogleSQL reference analyzer.

    annotate(tree, ...) -> ("line 3: = compares STRING with INT64: SeriesNumber = 5",)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from sqlglot import exp
from sqlglot.dialects import BigQuery
from sqlglot.optimizer.annotate_types import annotate_types

from idc_indexer.sql.coercion import (
    NUMBERS,
    UNKNOWN,
    Operand,
    Signature,
    common_type,
    convert_literal,
    in_conflict,
    is_error,
    kind,
)
from idc_indexer.sql.date_forms import PARTS_OF, date_part
from idc_indexer.sql.forms import text_of
from idc_indexer.sql.functions import FUNCTIONS
from idc_indexer.sql.text_forms import VERB_TYPES, verbs


def at_line(node: exp.Expr) -> str:
    """`line N: ` of an expression, "" if it has no line."""
    line = _line(node)
    return f"line {line}: " if line else ""


def _line(node: exp.Expr) -> int:
    """The line of the first name, literal or function in an expression or else around it; 0 if there is none."""
    around: exp.Expr | None = node
    while around is not None:
        for part in around.walk(bfs=False):
            if "line" in part.meta:
                return int(part.meta["line"])
        around = around.parent
    return 0


def annotate(tree: exp.Query, schema: Mapping[str, Any], dialect: str) -> tuple[str, ...]:
    """Set the type of each expression of a statement with resolved names.

    Args:
        schema: the source tables, as sqlglot takes them.

    Returns:
        One message for each operand that GoogleSQL does not accept, with its line. It is complete for a statement of
        the supported subset only.
    """
    checker = _Checker()
    rules: dict[type[exp.Expr], _Rule] = {cls: partial(_check, signature) for cls, signature in SIGNATURES.items()}
    metadata = {
        **BigQuery.EXPRESSION_METADATA,
        **{cls: {"annotator": partial(checker.apply, rule)} for cls, rule in (rules | _RULES).items()},
    }
    annotate_types(tree, schema=dict(schema), expression_metadata=metadata, dialect=dialect)
    return tuple(sorted(checker.problems, key=checker.problems.__getitem__))


_Rule = Callable[["_Checker", exp.Expr], str]
"""Reports wrong operands of a node and returns its type, or "" for the type that sqlglot infers."""


class _Checker:
    """Infers types and collects problems."""

    annotator: Any

    def __init__(self) -> None:
        self.problems: dict[str, int] = {}
        """Each message, with its line."""
        self._types: dict[str, exp.DataType] = {}

    def apply(self, rule: _Rule, annotator: Any, node: exp.Expr) -> None:
        """Set the type that a rule finds; sqlglot calls this for each node, after its children."""
        self.annotator = annotator
        type_ = rule(self, node)
        default = BigQuery.EXPRESSION_METADATA.get(type(node), {})
        if type_:
            annotator._set_type(node, self.data_type(type_))
        elif "annotator" in default:
            default["annotator"](annotator, node)
        else:
            annotator._set_type(node, default.get("returns", exp.DType.UNKNOWN))

    def data_type(self, type_: str) -> exp.DataType | exp.DType:
        """A type as sqlglot has it."""
        if type_ in (UNKNOWN, "NULL"):
            return exp.DType[type_]
        return self._types.get(type_) or exp.DataType.build(type_, dialect="bigquery")

    def report(self, node: exp.Expr, problem: str) -> None:
        self.problems[f"{at_line(node)}{problem}: {_text(node)}"] = _line(node)

    def operands(self, node: exp.Expr, names: Iterable[str]) -> list[Operand]:
        """The operands in some arguments of a node."""
        found: list[Operand] = []
        for name in names:
            value = node.args.get(name)
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, exp.Expr):
                    found.append(self.operand(one))
        return found

    def operand(self, node: exp.Expr) -> Operand:
        while isinstance(node, (exp.Order, exp.Distinct)):  # inside of an aggregate
            node = node.this or node.expressions[0]
        operand = Operand.of(node)
        if node.type is not None:
            self._types.setdefault(kind(node), node.type)
        return operand

    def expect(self, node: exp.Expr, name: str, operand: Operand, type_: str) -> None:
        """Report an operand that does not become a type."""
        if UNKNOWN in operand.type:
            return
        if operand.becomes(type_):
            self._convert(operand, type_)
        else:
            self.report(operand.node if type_ == "BOOL" else node, f"{name} takes {type_}, not {operand.type}")

    def common(self, node: exp.Expr, signature: Signature, operands: list[Operand]) -> str:
        """The type that all operands become; UNKNOWN after a report that there is none."""
        type_ = common_type(operands)
        if type_ is None:
            first, second = in_conflict(operands)
            self.report(node, f"{signature.name} {signature.verb.format(first.type, second.type)}")
            return UNKNOWN
        if signature.among and type_ not in (*signature.among, UNKNOWN):
            self.report(node, f"{signature.name} takes {' or '.join(signature.among)}, not {type_}")
        elif type_.startswith(signature.without):
            self.report(node, f"{signature.name} takes no {type_}")
        for operand in operands:
            self._convert(operand, type_)
        return type_

    def _convert(self, operand: Operand, type_: str) -> None:
        if not convert_literal(operand, type_):
            self.report(operand.node, f"not a {type_}")


def _text(node: exp.Expr, most: int = 80) -> str:
    """GoogleSQL of an expression, without the names of tables that the author left out."""
    copy = node.copy()
    for column in copy.find_all(exp.Column):
        table = column.args.get("table")
        if table is not None and "line" not in table.meta:
            column.set("table", None)
    text = " ".join(copy.sql("bigquery").split())
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _check(signature: Signature, checker: _Checker, node: exp.Expr) -> str:
    """The rule for a signature."""
    common: list[Operand] = []
    for name, type_ in signature.takes.items():
        for operand in checker.operands(node, [name]):
            if not signature.null and isinstance(operand.node.unnest(), exp.Null):
                checker.report(node, f"{signature.name} takes no literal NULL")
            elif type_ == "T":
                common.append(operand)
            else:
                checker.expect(node, signature.name, operand, type_)
    if "T" not in signature.takes.values():
        return signature.returns
    type_ = checker.common(node, signature, common) if common else UNKNOWN
    if type_ == UNKNOWN and signature.returns in ("T", "ARRAY<T>"):
        return UNKNOWN
    return {"T": type_, "ARRAY<T>": f"ARRAY<{type_}>"}.get(signature.returns, signature.returns)


def _if(checker: _Checker, node: exp.Expr) -> str:
    if node.arg_key == "ifs":
        return kind(node.args["true"])  # _case checks the WHENs of a CASE
    return _check(Signature("IF", {"this": "BOOL", "true": "T", "false": "T"}, "T"), checker, node)


def _case(checker: _Checker, node: exp.Expr) -> str:
    whens = [checker.operand(one.this) for one in node.args["ifs"]]
    if node.this is None:
        for when in whens:
            checker.expect(node, "CASE WHEN", when, "BOOL")
    else:
        checker.common(
            node, Signature("CASE", {}, "", without=("ARRAY",), verb=_COMPARES), [checker.operand(node.this), *whens]
        )
    branches = [checker.operand(one.args["true"]) for one in node.args["ifs"]]
    return checker.common(node, Signature("CASE", {}, ""), [*branches, *checker.operands(node, ["default"])])


def _in(checker: _Checker, node: exp.Expr) -> str:
    signature = Signature("IN", {}, "", without=("ARRAY",), verb=_COMPARES)
    query, unnest = node.args.get("query"), node.args.get("unnest")
    operands = checker.operands(node, ["this", "expressions"])
    if isinstance(query, exp.Expr):
        operands += [checker.operand(one) for one in _selects(checker, query)]
        operands = [Operand(one.node, one.type) for one in operands]  # no literal is converted
    elif isinstance(unnest, exp.Unnest):
        array = checker.operand(unnest.expressions[0].unnest())
        elements = [checker.operand(one) for one in array.node.expressions] if isinstance(array.node, exp.Array) else []
        if all(one.literal for one in elements) and any(one.literal != "NULL" for one in elements):
            operands += elements
        elif array.literal == "[]":
            pass
        elif array.type.startswith("ARRAY<"):
            element = Operand(array.node, array.type[len("ARRAY<") : -1])
            if operands[0].becomes(element.type):
                operands.append(element)
            else:
                checker.report(node, f"IN compares {operands[0].type} with {element.type}")
                return "BOOL"
    checker.common(node, signature, operands)
    return "BOOL"


def _selects(checker: _Checker, query: exp.Expr) -> list[exp.Expr]:
    """The one column of a subquery that is an operand."""
    selects: list[exp.Expr] = query.unnest().selects  # type: ignore[attr-defined]
    if len(selects) > 1 and query.unnest().args.get("kind") != "STRUCT":
        checker.report(query, f"a subquery in an expression returns one column, not {len(selects)}")
    return selects[:1]


def _is(checker: _Checker, node: exp.Expr) -> str:
    if isinstance(node.expression, exp.Boolean):
        checker.expect(node, "IS", checker.operand(node.this), "BOOL")
    return "BOOL"


def _error(checker: _Checker, node: exp.Expr) -> str:
    if not is_error(node):
        return UNKNOWN
    for operand in map(checker.operand, node.expressions):
        checker.expect(node, "ERROR", operand, "STRING")
    return "NULL"


def _cast(checker: _Checker, node: exp.Expr) -> str:
    """A literal is converted before the query runs, so that its text is checked."""
    (operand,), to = checker.operands(node, ["this"]), node.args["to"].sql("bigquery")
    if operand.literal == "STRING" and operand.becomes(to):
        checker.expect(node, "CAST", operand, to)
    return ""


def _extract(checker: _Checker, node: exp.Expr) -> str:
    (operand,), part = checker.operands(node, ["expression"]), date_part(node)
    if part not in PARTS_OF.get(operand.type, ()) and UNKNOWN not in operand.type:
        checker.report(node, f"EXTRACT takes no {part} from {operand.type}")
    return "DATE" if part == "DATE" else "INT64"


def _date(checker: _Checker, node: exp.Expr) -> str:
    for operand in checker.operands(node, ["this"]):
        if operand.type in ("DATE", "DATETIME", "TIMESTAMP", "STRING", UNKNOWN):
            continue
        checker.report(node, f"DATE takes DATETIME or TIMESTAMP, not {operand.type}")
    return "DATE"


def _format(checker: _Checker, node: exp.Expr) -> str:
    if text_of(node.this) is None:
        return "STRING"
    values = checker.operands(node, ["expressions"])
    wanted = [verb for _, verb in verbs(node) if verb not in ("", "%")]
    if len(values) != len(wanted):
        checker.report(node, f"FORMAT of {len(wanted)} values, not {len(values)}")
    for verb, value in zip(wanted, values, strict=False):
        types = VERB_TYPES.get(verb, ())
        if types and value.literal != "NULL" and value.type not in (*types, UNKNOWN):
            checker.report(node, f"FORMAT %{verb} takes {' or '.join(types)}, not {value.type}")
    return "STRING"


def _qualify(checker: _Checker, node: exp.Expr) -> str:
    """GoogleSQL takes QUALIFY only with a window, and after one of three clauses."""
    select = node.parent
    if not any(select and select.args.get(clause) for clause in ("where", "group", "having")):
        checker.report(node, "QUALIFY without WHERE, GROUP BY or HAVING (write WHERE TRUE)")
    if not (node.find(exp.Window) or any(one.find(exp.Window) for one in getattr(select, "selects", ()))):
        checker.report(node, "QUALIFY without a window")
    return _condition("QUALIFY", "this", checker, node)


def _condition(name: str, argument: str, checker: _Checker, node: exp.Expr) -> str:
    for operand in checker.operands(node, [argument]):
        checker.expect(node, name, operand, "BOOL")
    return ""


def _array(checker: _Checker, node: exp.Expr) -> str:
    if not node.expressions:
        return "ARRAY<INT64>"
    query = node.expressions[0]
    if not isinstance(query, (exp.Select, exp.SetOperation)):
        return _check(_ARRAY, checker, node)
    for column in _selects(checker, query):
        if kind(column).startswith("ARRAY"):
            checker.report(column, f"an array takes no {kind(column)}")
    return ""


def _group(checker: _Checker, node: exp.Expr) -> str:
    for term in node.expressions:
        if term.find(exp.AggFunc, exp.Window) and not term.find(exp.Query):
            checker.report(term, "GROUP BY an aggregate")
    return ""


def _ordered(checker: _Checker, node: exp.Expr) -> str:
    type_ = checker.operand(node.this).type
    if type_.startswith(_NESTED):
        checker.report(node.this, f"ORDER BY takes no {type_}")
    return type_


def _need_array(name: str, checker: _Checker, node: exp.Expr) -> str:
    operand = checker.operand(node.expressions[0] if isinstance(node, exp.Unnest) else node.this)
    if not operand.type.startswith(("ARRAY<", UNKNOWN)):
        checker.report(node, f"{name} takes an array, not {operand.type}")
    if isinstance(node, exp.Bracket):
        for index in checker.operands(node, ["expressions"]):
            checker.expect(node, name, index, "INT64")
    return ""


def _number(checker: _Checker, node: exp.Expr) -> str:
    if not node.is_string and node.is_int and int(node.name) >= 2**63 + isinstance(node.parent, exp.Neg):
        checker.report(node, "not in the range of INT64")
    return ""


def _subquery(checker: _Checker, node: exp.Expr) -> str:
    if isinstance(node.parent, (exp.Condition, exp.Alias)) and node.arg_key != "query":
        _selects(checker, node)
    return ""


def _union(checker: _Checker, node: exp.Expr) -> str:
    """The outermost UNION: its columns have the types that all its SELECTs have in common."""
    outer = node.parent
    while isinstance(outer, exp.Subquery):
        outer = outer.parent
    if isinstance(outer, exp.SetOperation):
        return ""
    name = f"{node.key.upper()} {'DISTINCT' if node.args.get('distinct') else 'ALL'}"
    if mixed := next((one for one in node.find_all(exp.SetOperation) if _is_mixed(one)), None):
        checker.report(mixed, "different set operations need parentheses")
    queries = [query.selects for query in _branches(node)]
    if different := next((one for one in queries if len(one) != len(queries[0])), None):
        checker.report(different[0], f"{name} of {len(queries[0])} columns and {len(different)}")
        return ""
    types = []
    for number, columns in enumerate(zip(*queries, strict=True), start=1):
        operands = [checker.operand(column.unalias()) for column in columns]
        verb = f"has {{}} and {{}} as column {number}"
        column = columns[-1].unalias()
        type_ = checker.common(column, Signature(name, {}, "", verb=verb), operands)
        if type_ not in (*_FROM_INT64, UNKNOWN) and any(is_error(one.node.unnest()) for one in operands):
            checker.report(column, f"{name} {verb.format(type_, 'INT64')}")  # ERROR() is INT64 there
        checker.annotator._set_type(columns[0], checker.data_type(type_))
        types.append((columns[0].alias_or_name, checker.data_type(type_)))
    checker.annotator._setop_column_types[id(node)] = types
    return ""


def _is_mixed(node: exp.Expr) -> bool:
    kinds = {(type(one), one.args.get("distinct")) for one in (node, node.this) if isinstance(one, exp.SetOperation)}
    return len(kinds) > 1


def _branches(query: exp.Expr) -> Iterator[exp.Query]:
    """The SELECTs of a UNION."""
    query = query.unnest()
    if isinstance(query, exp.SetOperation):
        yield from _branches(query.this)
        yield from _branches(query.expression)
    elif isinstance(query, exp.Query):
        yield query


_NESTED = ("ARRAY", "STRUCT")
_FROM_INT64 = ("INT64", "FLOAT64", "NUMERIC", "STRING", "BOOL")
_COMPARES = "compares {} with {}"
_TWO = {"this": "T", "expression": "T"}
_ANY = {"this": "T", "expressions": "T"}
_ARRAY = Signature("an array", {"expressions": "T"}, "ARRAY<T>", without=("ARRAY",))


def _equality(name: str) -> Signature:
    return Signature(name, _TWO, "BOOL", without=("ARRAY",), null=False, verb=_COMPARES)


def _order(name: str) -> Signature:
    return Signature(name, _TWO, "BOOL", without=_NESTED, null=False, verb=_COMPARES)


def _arithmetic(name: str, returns: str = "T") -> Signature:
    return Signature(name, _TWO, returns, among=NUMBERS, null=False)


SIGNATURES: dict[type[exp.Expr], Signature] = {
    exp.EQ: _equality("="),
    exp.NEQ: _equality("!="),
    exp.LT: _order("<"),
    exp.LTE: _order("<="),
    exp.GT: _order(">"),
    exp.GTE: _order(">="),
    exp.Between: Signature("BETWEEN", {"this": "T", "low": "T", "high": "T"}, "BOOL", without=_NESTED, verb=_COMPARES),
    exp.Nullif: Signature("NULLIF", _TWO, "T", without=("ARRAY",), verb=_COMPARES),
    exp.Coalesce: Signature("COALESCE", _ANY, "T"),
    exp.Greatest: Signature("GREATEST", _ANY, "T", without=_NESTED),
    exp.And: Signature("AND", {"this": "BOOL", "expression": "BOOL"}, "BOOL"),
    exp.Or: Signature("OR", {"this": "BOOL", "expression": "BOOL"}, "BOOL"),
    exp.Not: Signature("NOT", {"this": "BOOL"}, "BOOL", null=False),
    exp.Like: Signature("LIKE", {"this": "STRING", "expression": "STRING"}, "BOOL", null=False),
    exp.Add: _arithmetic("+"),
    exp.Sub: _arithmetic("-"),
    exp.Mul: _arithmetic("*"),
    exp.Div: _arithmetic("/", "FLOAT64"),
    exp.Neg: Signature("-", {"this": "T"}, "T", among=NUMBERS, null=False),
    exp.Round: Signature("ROUND", {"this": "T", "decimals": "INT64"}, "FLOAT64", among=NUMBERS),
    exp.Sqrt: Signature("SQRT", {"this": "T"}, "FLOAT64", among=NUMBERS),
    exp.Acos: Signature("ACOS", {"this": "FLOAT64"}, "FLOAT64"),
    exp.IsNan: Signature("IS_NAN", {"this": "FLOAT64"}, "BOOL"),
    exp.Concat: Signature("CONCAT", {"expressions": "STRING"}, "STRING"),
    exp.Replace: Signature("REPLACE", {"this": "STRING", "expression": "STRING", "replacement": "STRING"}, "STRING"),
    exp.Split: Signature("SPLIT", {"this": "STRING", "expression": "STRING"}, "ARRAY<STRING>"),
    exp.ArrayToString: Signature("ARRAY_TO_STRING", {"this": "ARRAY<STRING>", "expression": "STRING"}, "STRING"),
    exp.GroupConcat: Signature("STRING_AGG", {"this": "STRING", "separator": "STRING"}, "STRING"),
    exp.ArrayAgg: Signature("ARRAY_AGG", {"this": "T"}, "ARRAY<T>", without=("ARRAY",)),
    exp.Sum: Signature("SUM", {"this": "T"}, "T", among=NUMBERS),
    exp.Min: Signature("MIN", {"this": "T"}, "T", without=_NESTED),
    exp.Max: Signature("MAX", {"this": "T"}, "T", without=_NESTED),
    exp.NullSafeEQ: Signature("IS NOT DISTINCT FROM", _TWO, "BOOL", without=_NESTED, verb=_COMPARES),
    exp.NullSafeNEQ: Signature("IS DISTINCT FROM", _TWO, "BOOL", without=_NESTED, verb=_COMPARES),
    **{cls: function.signature for cls, function in FUNCTIONS.items() if function.signature},
}
_RULES: dict[type[exp.Expr], _Rule] = {
    exp.If: _if,
    exp.Case: _case,
    exp.In: _in,
    exp.Is: _is,
    exp.Anonymous: _error,
    exp.Array: _array,
    exp.Ordered: _ordered,
    exp.Bracket: partial(_need_array, "an index"),
    exp.ArraySize: partial(_need_array, "ARRAY_LENGTH"),
    exp.Unnest: partial(_need_array, "UNNEST"),
    exp.Literal: _number,
    exp.Subquery: _subquery,
    exp.Union: _union,
    exp.Except: _union,
    exp.Intersect: _union,
    exp.Group: _group,
    exp.Where: partial(_condition, "WHERE", "this"),
    exp.Having: partial(_condition, "HAVING", "this"),
    exp.Join: partial(_condition, "ON", "on"),
    exp.Qualify: _qualify,
    exp.Cast: _cast,
    exp.Extract: _extract,
    exp.Date: _date,
    exp.Format: _format,
}
