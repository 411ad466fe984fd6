"""Pinning: from the text of a query file to the text of one release.

It works on the text, not on a syntax tree, so that what is published keeps the author's layout and
comments, and runs in the BigQuery console as it is.
"""

from __future__ import annotations

import re

from sqlglot.dialects import BigQuery

from idc_indexer.errors import IndexerError

PRIOR = "idc_v1"
"""The dataset that stands, in a query file, for each release before the one that is built."""

_CURRENT = re.compile(r"\bidc_current(?=_clinical\b|\b)")
_PAST = re.compile(rf"\b{PRIOR}\b")


def pin(sql: str, release: int) -> str:
    """The text of a query for one IDC release.

    `idc_current` becomes `idc_vN`. A common table expression that reads `idc_v1` is written for one
    past release; it is repeated for releases 1 to N-1, joined by UNION ALL, with every `idc_v1` in
    it, in names and in literals, replaced. (BigQuery has no wildcard for datasets, and one statement
    cannot loop.)

    Args:
        release: the IDC release N, from 1.

    Raises:
        IndexerError: when the query reads past releases and there are none.
    """
    span = past_body(sql)
    if _PAST.search(sql if span is None else sql[: span[0]] + sql[span[1] :]):
        raise IndexerError(f"{PRIOR} is named outside of the one common table expression that stands for past releases")
    if span is not None:
        if release == 1:
            raise IndexerError(f"release {release} has no past releases, which the query reads")
        start, end = span
        body = sql[start:end].rstrip()
        union = "\n  UNION ALL" if body[:1].isspace() else "\n  UNION ALL\n"
        branches = (_PAST.sub(f"idc_v{past}", body) for past in range(1, release))
        sql = sql[:start] + union.join(branches) + sql[start + len(body) :]
    return _CURRENT.sub(f"idc_v{release}", sql)


def past_body(sql: str) -> tuple[int, int] | None:
    """Where the common table expression that reads `idc_v1` has its text, between the parentheses."""
    opened: list[int] = []
    for token in BigQuery().tokenize(sql):
        if token.token_type.name == "L_PAREN":
            opened.append(token.end + 1)
        elif token.token_type.name == "R_PAREN" and opened:
            start = opened.pop()
            if not opened and f".{PRIOR}." in sql[start : token.start]:
                return start, token.start
    return None
