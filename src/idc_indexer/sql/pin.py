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

from idc_indexer.errors import IndexerError

PRIOR_TEMPLATE = "idc_v1"
"""The dataset in a template, in place of each prior release. It is the first one, so that the query file itself
runs in the BigQuery console."""

_CURRENT = re.compile(r"\bidc_current(?=_clinical\b|\b)")
_TEMPLATE = re.compile(rf"\b{PRIOR_TEMPLATE}\b")


def pin(sql: str, release: int) -> str:
    """The text of a query for one IDC release.

    `idc_current` becomes `idc_vN`. The template for prior releases becomes a UNION ALL of N-1 copies; in each
    copy the number of its release replaces the 1 of `idc_v1`, in names and in literals.

    Args:
        release: the IDC release N, from 1.

    Raises:
        IndexerError: the query reads prior releases and N is 1, or it names `idc_v1` outside of the template.
    """
    span = _template(sql)
    if _TEMPLATE.search(sql if span is None else sql[: span[0]] + sql[span[1] :]):
        raise IndexerError(
            f"{PRIOR_TEMPLATE} stands for every prior release, and one common table expression has to read all of "
            "them: it is named outside of that one"
        )
    if span is not None:
        if release == 1:
            raise IndexerError("the query reads prior releases, and release 1 has none")
        start, end = span
        body = sql[start:end].rstrip()
        union = "\n  UNION ALL" if body[:1].isspace() else "\n  UNION ALL\n"
        copies = (_TEMPLATE.sub(f"idc_v{prior}", body) for prior in range(1, release))
        sql = sql[:start] + union.join(copies) + sql[start + len(body) :]
    return _CURRENT.sub(f"idc_v{release}", sql)


def _template(sql: str) -> tuple[int, int] | None:
    """Start and end of the template for prior releases, without its parentheses; None when there is none."""
    opened: list[int] = []
    for token in BigQuery().tokenize(sql):
        if token.token_type.name == "L_PAREN":
            opened.append(token.end + 1)
        elif token.token_type.name == "R_PAREN" and opened:
            start = opened.pop()
            if not opened and f".{PRIOR_TEMPLATE}." in sql[start : token.start]:
                return start, token.start
    return None
