"""Write docs/sql.md, the page of the SQL that DuckDB runs, from the tables of the translator.

python scripts/supported_sql.py [PAGE]
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from idc_indexer.sql.cast_forms import FORMS, PLAIN
from idc_indexer.sql.functions import FUNCTIONS
from idc_indexer.sql.supported import EQUIVALENTS
from idc_indexer.sql.types import SIGNATURES

PAGE = Path(__file__).parents[1] / "docs" / "sql.md"
TOP = """\
# SQL for people without an account

A build without an account translates GoogleSQL for DuckDB. It translates what this page lists: tests have compared it
with Google's reference evaluator, and DuckDB returns the same rows. Any other construct is an error that names its
line and, where there is one, what to write instead. `idc-indexer explain INDEX` shows the errors and the translation
without reading data. `--engine bigquery` runs all of GoogleSQL.

With `--unproven`, `explain` and `build` translate the rest too. Its rows may differ from those of BigQuery. The build
prints a warning for each such construct, the manifest lists them, and `verify` prints them.

Some functions have results in GoogleSQL that DuckDB does not reproduce. For those values a build stops with an error;
it never writes another value.

## Statements

- SELECT with DISTINCT, `* EXCEPT`, WHERE, GROUP BY (columns, positions, aliases, ALL), HAVING, QUALIFY and ORDER BY
  columns; WITH; subqueries, EXISTS and IN.
- INNER, LEFT, RIGHT, FULL and CROSS JOIN; UNNEST, also with LEFT JOIN and WITH OFFSET.
- UNION ALL, UNION DISTINCT, EXCEPT DISTINCT and INTERSECT DISTINCT.
- LIMIT of a literal, if ORDER BY has all columns, or all columns of GROUP BY: otherwise BigQuery may return any of
  the equal rows.
- Windows over columns: ROW_NUMBER, RANK and DENSE_RANK with ORDER BY; COUNT, COUNTIF, SUM, MIN, MAX, LOGICAL_AND
  and LOGICAL_OR without a frame and not of FLOAT64; LAG of the column of ORDER BY.
- ARRAY_AGG(x IGNORE NULLS ORDER BY y LIMIT n) and STRING_AGG(x, ',' ORDER BY y), both also with DISTINCT;
  ARRAY_AGG(x ORDER BY y LIMIT 1)[OFFSET(0)].
- Array indices that are literals: OFFSET, SAFE_OFFSET, ORDINAL, SAFE_ORDINAL.
"""


def page() -> str:
    """The text of the page."""
    return "\n".join([TOP, *_functions(), "", *_operators(), "", *_casts(), "", *_equivalents()]) + "\n"


def _functions() -> Iterator[str]:
    yield "## Functions\n"
    yield "CEILING, CHAR_LENGTH, LTRIM, RTRIM, LOG10, POWER, RPAD and SUBSTRING work as the functions like them.\n"
    yield "| function | example | supported part |"
    yield "|---|---|---|"
    rows = {(function.signature.name if function.signature else function.examples[0].partition("(")[0]): function
            for function in FUNCTIONS.values()}  # fmt: skip
    for name, function in sorted(rows.items()):
        yield f"| {_code(name)} | {_code(function.examples[0])} | {_cell(function.part)} |"


def _operators() -> Iterator[str]:
    yield "## Operators, and functions whose form DuckDB shares\n"
    others = {one.name for cls, one in SIGNATURES.items() if cls not in FUNCTIONS} - {"an array"}
    yield (
        ", ".join(
            map(_code, sorted({*others, "IF", "CASE", "IN", "IS", "COUNT", "EXISTS", "ARRAY_LENGTH"} - {"an array"}))
        )
        + "."
    )


def _casts() -> Iterator[str]:
    yield "## CAST and SAFE_CAST\n"
    yield "| from | to |"
    yield "|---|---|"
    pairs = {*FORMS, *PLAIN, ("STRING", "FLOAT64 (SAFE_CAST)")}
    for start in sorted({start for start, _ in pairs}):
        yield f"| {start} | {', '.join(sorted(to for one, to in pairs if one == start))} |"


def _equivalents() -> Iterator[str]:
    yield "## What to write instead\n"
    yield "| not supported | write |"
    yield "|---|---|"
    for problem, instead in EQUIVALENTS.items():
        yield f"| {_cell(problem)} | {_cell(instead)} |"


def _code(text: str) -> str:
    return f"`{_cell(text)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    (Path(sys.argv[1]) if sys.argv[1:] else PAGE).write_text(page(), encoding="utf-8")
