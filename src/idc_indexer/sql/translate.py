"""Translation of a typed GoogleSQL statement for DuckDB.

What a user is promised is what GoogleSQL says: `supported` refuses what is not proven to return the same
rows on both engines, `rewrites` mends what sqlglot's own translation or DuckDB do differently.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlglot import exp
from sqlglot.errors import ErrorLevel

from idc_indexer.errors import IndexerError
from idc_indexer.sql.analyze import Statement
from idc_indexer.sql.pin import PRIOR
from idc_indexer.sql.rewrites import rewrite
from idc_indexer.sql.supported import unsupported


@dataclass(frozen=True)
class PriorExtract:
    """What the query takes from one past release.

    Attributes:
        release: that release.
        sql: DuckDB SQL over its tables.
    """

    release: int
    sql: str


@dataclass(frozen=True)
class Translation:
    """A statement for DuckDB.

    Tables are named `"idc_vN.table"`, one identifier each; what the prior_extracts return is read,
    all releases together, from the table `PRIOR_ROWS`.

    Attributes:
        sql: DuckDB SQL.
        prior_extracts: one for each past release, in order; empty for most indices.
    """

    sql: str
    prior_extracts: tuple[PriorExtract, ...] = ()


PRIOR_ROWS = "past_rows"


def to_duckdb(statement: Statement, where: str) -> Translation:
    """Translate, or refuse.

    Args:
        where: the query file, for messages.

    Raises:
        IndexerError: naming each construct that is not proven and its line.
    """
    refused = list(unsupported(statement.tree))
    if refused:
        raise IndexerError(
            "\n".join(f"{where}: {problem}" for problem in refused),
            "Only constructs that are proven to give the same rows on BigQuery and DuckDB are translated; "
            "`--engine bigquery` runs any query.",
        )
    tree = statement.tree.copy()
    past = next((cte for cte in tree.find_all(exp.CTE) if _reads_past(cte.this)), None)
    rewrite(tree)
    if past is None:
        return Translation(_sql(tree))
    branches = [_sql(select) for select in _branches(past.this)]
    past.set("this", exp.select("*").from_(exp.to_identifier(PRIOR_ROWS, quoted=True)))
    prior_extracts = tuple(PriorExtract(number, sql) for number, sql in enumerate(branches, start=1))
    return Translation(_sql(tree), prior_extracts)


def _sql(tree: exp.Expr) -> str:
    return tree.sql("duckdb", pretty=True, identify=True, unsupported_level=ErrorLevel.RAISE)


def _reads_past(query: exp.Expr) -> bool:
    return any(table.db == PRIOR for table in query.find_all(exp.Table))


def _branches(query: exp.Expr) -> Iterator[exp.Expr]:
    """The SELECTs of a UNION ALL, first to last."""
    if isinstance(query, exp.Union):
        yield from _branches(query.this)
        yield from _branches(query.expression)
    else:
        yield query
