"""Pinning: from the text of a query file to the text for one IDC release.

Pinning edits the text, not a syntax tree, so that the published query keeps the author's layout and comments
and runs in the BigQuery console.

BigQuery has no wildcard for datasets, and one statement cannot loop. A query that reads every release before
the one that is built therefore has a template: a common table expression that reads the dataset
`PRIOR_TEMPLATE`. Pinning writes the template once for each prior release.
"""

from __future__ import annotations

import re

from sqlglot.dialects import BigQuery
from sqlglot.errors import TokenError
from sqlglot.tokenizer_core import Token

from idc_indexer.errors import IndexerError

PRIOR_TEMPLATE = "idc_v1"
"""The dataset in a template, in place of each prior release. It is the first one, so that the query file itself
runs in the BigQuery console."""

_FIXED = re.compile(r"\.\s*`?(?P<table>idc_v(?P<release>\d+)(?:_clinical)?`?\s*\.\s*`?\w+)")
"""A table of one release, after its project, with any of the ways to write backquotes."""
_CURRENT = re.compile(r"\bidc_current(?=_clinical\b|\b)")
_TEMPLATE = re.compile(rf"\b{PRIOR_TEMPLATE}\b")


def pin(sql: str, release: int, context: str) -> str:
    """The text of a query for one IDC release.

    `idc_current` becomes `idc_vN`. The template for prior releases becomes a UNION ALL of N-1 copies; in each copy the
    number of its release replaces the 1 of `idc_v1`, in names and in literals.

    A table of a fixed release is an error for every N, also for its own: otherwise a query would build for one
    release, and fail or read the wrong rows for the next.

    Args:
        release: the IDC release N, from 1; 0 only checks the query, and returns it as it is.
        context: the query file, for messages.

    Raises:
        IndexerError: the query reads a table of a fixed release, or reads prior releases and N is 1.
    """
    try:
        tokens = BigQuery().tokenize(sql)
    except TokenError as error:
        raise IndexerError(f"{context}: not GoogleSQL: {error}") from error
    span = _template(sql, tokens)
    _check_releases(_names(sql, tokens), span, context)
    if not release:
        return sql
    if span is not None:
        if release == 1:
            raise IndexerError(f"{context}: reads prior releases, and release 1 has none")
        start, end = span
        body = sql[start:end].rstrip()
        union = "\n  UNION ALL" if body[:1].isspace() else "\n  UNION ALL\n"
        copies = (_TEMPLATE.sub(f"idc_v{prior}", body) for prior in range(1, release))
        sql = sql[:start] + union.join(copies) + sql[start + len(body) :]
    return _CURRENT.sub(f"idc_v{release}", sql)


def _names(sql: str, tokens: list[Token]) -> str:
    """The query with a space for each character of a literal or a comment; positions stay the same."""
    names = ["\n" if character == "\n" else " " for character in sql]
    for token in tokens:
        if not token.token_type.name.endswith("STRING"):
            names[token.start : token.end + 1] = sql[token.start : token.end + 1]
    return "".join(names)


def _check_releases(names: str, template: tuple[int, int] | None, context: str) -> None:
    """Check that a query reads `idc_current`, and in its template the placeholder for prior releases."""
    start, end = template or (0, 0)
    for match in _FIXED.finditer(names):
        placeholder = match["release"] == PRIOR_TEMPLATE.removeprefix("idc_v") and start <= match.start() < end
        if not placeholder:
            line = names.count("\n", 0, match.start("table")) + 1
            table = re.sub(r"[`\s]", "", match["table"])
            raise IndexerError(
                f"{context}: line {line}: reads {table}, a table of IDC release {match['release']} only",
                "Write idc_current: a build replaces it by its own release. "
                f"Only one common table expression may read {PRIOR_TEMPLATE}, in place of every prior release.",
            )


def _template(sql: str, tokens: list[Token]) -> tuple[int, int] | None:
    """Start and end of the template for prior releases, without its parentheses; None when there is none."""
    opened: list[int] = []
    for token in tokens:
        if token.token_type.name == "L_PAREN":
            opened.append(token.end + 1)
        elif token.token_type.name == "R_PAREN" and opened:
            start = opened.pop()
            if not opened and f".{PRIOR_TEMPLATE}." in sql[start : token.start]:
                return start, token.start
    return None
