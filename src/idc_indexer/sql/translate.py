"""Translation of a typed GoogleSQL statement for DuckDB.

DuckDB has to return the rows that GoogleSQL defines. `supported` rejects each construct for which tests have not
shown that, and `rewrites` changes the expressions for which sqlglot or DuckDB return something else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

from sqlglot import exp
from sqlglot.errors import ErrorLevel

from idc_indexer.errors import IndexerError
from idc_indexer.sql.analyze import Statement, errors_for, tables_read
from idc_indexer.sql.forms import duckdb_sql
from idc_indexer.sql.pin import PRIOR_TEMPLATE
from idc_indexer.sql.rewrites import UNPROVEN, rewrite
from idc_indexer.sql.scans import restrictions, share
from idc_indexer.sql.steps import take_steps
from idc_indexer.sql.supported import unsupported, untyped


@dataclass(frozen=True)
class PriorExtract:
    """The part of a query that reads one prior release.

    Attributes:
        release: the IDC release.
        sql: DuckDB SQL over its tables.
    """

    release: int
    sql: str


@dataclass(frozen=True)
class Translation:
    """A statement for DuckDB.

    A source table is named `"idc_vN.table"`, as one identifier. The rows of all prior extracts together are the
    table `PRIOR_ROWS`.

    Attributes:
        sql: DuckDB SQL.
        statements: the same, as DuckDB runs it: the last returns the rows, those before it make temporary tables.
        prior_extracts: one for each prior release, in order; empty for most indices.
        unproven: one message for each construct that is translated although it is not supported.
        restrictions: by source table, as `scans.restrictions` finds them.
        large_groups: whether its groups take much memory: those of an entire source table, or with the numbers of
            their rows.
    """

    sql: str
    statements: tuple[str, ...]
    prior_extracts: tuple[PriorExtract, ...] = ()
    unproven: tuple[str, ...] = ()
    restrictions: Mapping[str, str] = field(default_factory=dict)
    large_groups: bool = False


@dataclass(frozen=True)
class Part:
    """A common table expression that reads source tables and nothing else, as a statement of its own.

    Attributes:
        name: its name in the query.
        of_prior: whether it is the template, so that its rows are some of `PRIOR_ROWS`.
    """

    name: str
    statement: Statement
    of_prior: bool

    @property
    def table(self) -> str:
        """The table that stands for it in the rest of the query."""
        return _table(self.name)


@dataclass(frozen=True)
class Split:
    """A statement in two steps.

    Attributes:
        parts: in GoogleSQL, for the engine that has the source tables.
        sql: the rest, for DuckDB. It reads the table of each part, and in place of the template `PRIOR_ROWS`.
    """

    parts: tuple[Part, ...]
    sql: str


PRIOR_ROWS = "prior_rows"

_TYPES_HINT = (
    "GoogleSQL does not convert between these types: write a literal of the other type, such as '5' or 5, or convert "
    "with CAST or SAFE_CAST."
)
_SUPPORTED_HINT = (
    "For DuckDB, the toolkit translates only constructs that tests have shown to return the same rows as on BigQuery. "
    "`--engine bigquery` runs any query, and `--unproven` translates also the rest."
)


@lru_cache(64)
def to_duckdb(statement: Statement, context: str, unproven: bool = False) -> Translation:
    """Translate a statement.

    Args:
        context: the query file, for messages.
        unproven: leave to sqlglot what is not supported. The rows may differ from those of BigQuery.

    Raises:
        IndexerError: naming each operand of a wrong type and each construct that is not supported, with its line.
    """
    tree, rejected = _checked(statement, context, unproven)
    with errors_for(context, "Not even --unproven translates it."):
        translation = _translate(tree)
    return replace(translation, unproven=rejected)


def split(statement: Statement, context: str, known: int) -> Split:
    """Split a statement with a template into what reads source tables and the rest.

    Args:
        context: the query file, for messages.
        known: the last prior release whose rows need not be read. The part of the template reads only those after it.

    Raises:
        IndexerError: as `to_duckdb` does, or a source table is read outside of the parts.
    """
    tree, _ = _checked(statement, context)
    parts = []
    with errors_for(context):
        rewrite(tree)
        for cte, rewritten in zip(statement.tree.ctes, tree.ctes, strict=True):
            tables = [*cte.this.find_all(exp.Table)]
            if not tables or not all(table.db for table in tables):
                continue
            of_prior = _reads_template(cte.this)
            selects = [*_branches(cte.this)][known:] if of_prior else [cte.this]
            rewritten.set("this", _all_of(PRIOR_ROWS if of_prior else _table(cte.alias)))
            if selects:
                parts.append(Part(cte.alias, _part(statement, selects), of_prior))
        if outside := next((table for table in tree.find_all(exp.Table) if table.db), None):
            raise IndexerError(
                f"reads {outside.db}.{outside.name} outside of a common table expression that reads only it",
                "With a history, a query of prior releases may read source tables only there. Build without --history.",
            )
        return Split(tuple(parts), _sql(tree))


def _part(statement: Statement, selects: list[exp.Expr]) -> Statement:
    """A statement of some of the SELECTs of another."""
    read = {table for select in selects for _, table in tables_read(select)}
    leaves = tuple(leaf for leaf in statement.leaves if leaf.table in read)
    text = "\nUNION ALL\n".join(select.sql("bigquery", pretty=True) for select in selects)
    return replace(statement, text=text, leaves=leaves, order=())


def _checked(statement: Statement, context: str, unproven: bool = False) -> tuple[exp.Query, tuple[str, ...]]:
    """A copy of the tree, to rewrite, and the constructs in it that are not supported. Raises as `to_duckdb` does."""
    with errors_for(context):
        tree = statement.tree.copy()
        found = list(unsupported(tree))
        rejected = list(dict.fromkeys(problem for _, problem in found))
        if not statement.type_errors and not rejected:
            rejected = list(untyped(tree))
    if statement.type_errors or (rejected and not unproven):
        hints = [_TYPES_HINT] * bool(statement.type_errors) + [_SUPPORTED_HINT] * bool(rejected)
        problems = (f"{context}: {problem}" for problem in (*statement.type_errors, *rejected))
        raise IndexerError("\n".join(problems), " ".join(hints))
    for node, _ in found:
        node.meta[UNPROVEN] = True
    return tree, tuple(rejected)


def _translate(tree: exp.Query) -> Translation:
    template = next((cte for cte in tree.find_all(exp.CTE) if _reads_template(cte.this)), None)
    collects = rewrite(tree)
    if template is None:
        share(tree)
        sql, restricted = _sql(tree), restrictions(tree)
        steps = take_steps(tree)
        first = [f"CREATE OR REPLACE TEMP TABLE {duckdb_sql(cte.args['alias'])} AS {_sql(cte.this)}" for cte in steps]
        statements = (*first, _sql(tree)) if first else (sql,)
        return Translation(sql, statements, restrictions=restricted, large_groups=bool(first) or collects)
    extracts = [_sql(select) for select in _branches(template.this)]
    template.set("this", _all_of(PRIOR_ROWS))
    sql = _sql(tree)
    return Translation(sql, (sql,), tuple(PriorExtract(release, one) for release, one in enumerate(extracts, start=1)))


def _table(part: str) -> str:
    return f"{part} rows"  # no common table expression has a name with a space


def _all_of(table: str) -> exp.Select:
    return exp.select("*").from_(exp.to_identifier(table, quoted=True))


def _sql(tree: exp.Expr) -> str:
    return tree.sql("duckdb", pretty=True, identify=True, unsupported_level=ErrorLevel.RAISE)


def _reads_template(query: exp.Expr) -> bool:
    """Whether a query has the copies of the template, of which the first reads release 1."""
    return any(table.db == PRIOR_TEMPLATE for table in query.find_all(exp.Table))


def _branches(query: exp.Expr) -> Iterator[exp.Expr]:
    """The SELECTs of a UNION ALL, first to last."""
    if isinstance(query, exp.Union):
        yield from _branches(query.this)
        yield from _branches(query.expression)
    else:
        yield query
