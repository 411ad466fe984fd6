"""Translation of a typed GoogleSQL statement for DuckDB.

DuckDB has to return the rows that GoogleSQL defines. `supported` rejects each construct for which tests have not
shown that, and `rewrites` changes the expressions for which sqlglot or DuckDB return something else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from sqlglot import exp
from sqlglot.errors import ErrorLevel

from idc_indexer.errors import IndexerError
from idc_indexer.sql.analyze import Statement
from idc_indexer.sql.pin import PRIOR_TEMPLATE
from idc_indexer.sql.rewrites import rewrite
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
        prior_extracts: one for each prior release, in order; empty for most indices.
    """

    sql: str
    prior_extracts: tuple[PriorExtract, ...] = ()


PRIOR_ROWS = "prior_rows"

_TYPES_HINT = (
    "GoogleSQL does not convert between these types: write a literal of the other type, such as '5' or 5, or convert "
    "with CAST or SAFE_CAST."
)
_SUPPORTED_HINT = (
    "For DuckDB, the toolkit translates only constructs that tests have shown to return the same rows as on BigQuery. "
    "`--engine bigquery` runs any query."
)


@lru_cache(64)
def to_duckdb(statement: Statement, context: str) -> Translation:
    """Translate a statement.

    Args:
        context: the query file, for messages.

    Raises:
        IndexerError: naming each operand of a wrong type and each construct that is not supported, with its line.
    """
    rejected = list(unsupported(statement.tree))
    if not statement.type_errors and not rejected:
        rejected = list(untyped(statement.tree))
    if statement.type_errors or rejected:
        hints = [_TYPES_HINT] * bool(statement.type_errors) + [_SUPPORTED_HINT] * bool(rejected)
        problems = (f"{context}: {problem}" for problem in (*statement.type_errors, *rejected))
        raise IndexerError("\n".join(problems), " ".join(hints))
    tree = statement.tree.copy()
    template = next((cte for cte in tree.find_all(exp.CTE) if _reads_template(cte.this)), None)
    rewrite(tree)
    if template is None:
        return Translation(_sql(tree))
    extracts = [_sql(select) for select in _branches(template.this)]
    template.set("this", exp.select("*").from_(exp.to_identifier(PRIOR_ROWS, quoted=True)))
    return Translation(_sql(tree), tuple(PriorExtract(release, sql) for release, sql in enumerate(extracts, start=1)))


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
