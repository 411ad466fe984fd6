"""The changes that matter to users of IDC: series, collections, licences and buckets, from the two idc_index."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

import duckdb

from idc_indexer.diff.compare import ParquetView
from idc_indexer.diff.result import Group, IdcSummary, ValueChange

KEY = "SeriesInstanceUID"
_GROUPS = ("collection_id", "Modality", "analysis_result_id")
_COMPARED = ("license_short_name", "aws_bucket")
_NEEDED = (KEY, "collection_id", "Modality", "crdc_series_uuid", "series_size_MB")
_MB_PER_TB = 1_000_000


def summarize(connection: duckdb.DuckDBPyConnection, old: ParquetView, new: ParquetView) -> IdcSummary | None:
    """Summarize the changes; None if an input lacks the columns for it, or there is no series.

    One query counts series by all properties together, which gives a few thousand lines to add up.

    Args:
        connection: has the SQL table `pairs` of the two files, matched by series.
    """
    if not all(column in file.columns for column in _NEEDED for file in (old, new)):
        return None
    terms = []
    for column in (*_GROUPS, *_COMPARED):
        terms += [_column(old, column), _column(new, column)]
    uuids = f"{old.at('crdc_series_uuid')} IS DISTINCT FROM {new.at('crdc_series_uuid')}"
    lines = connection.execute(
        f"""SELECT
            CASE WHEN old_row IS NULL THEN 'added' WHEN new_row IS NULL THEN 'removed'
                WHEN {uuids} THEN 'revised' ELSE 'unchanged' END,
            {", ".join(terms)}, count(*),
            coalesce(sum({_size(old)}), 0), coalesce(sum({_size(new)}), 0)
        FROM pairs LEFT JOIN {old.view} ON {old.view}.row = old_row LEFT JOIN {new.view} ON {new.view}.row = new_row
        GROUP BY ALL"""
    ).fetchall()
    if not lines:
        return None
    collections, modalities = _groups(lines, 1), _groups(lines, 3)
    (total,) = _groups([(line[0], "all", "all", *line[3:]) for line in lines], 1)
    results = [
        {line[at] for line in lines if line[0] != absent} - {None} for at, absent in ((5, "added"), (6, "removed"))
    ]
    return IdcSummary(
        total,
        collections,
        modalities,
        tuple(group.name for group in collections if not group.old),
        tuple(group.name for group in collections if not group.new),
        tuple(sorted(results[1] - results[0])),
        tuple(sorted(results[0] - results[1])),
        *(
            _value_changes(lines, at) if all(column in file.columns for file in (old, new)) else None
            for column, at in zip(_COMPARED, (7, 9), strict=True)
        ),
    )


def _column(file: ParquetView, column: str) -> str:
    return file.at(column) if column in file.columns else "NULL"


def _size(file: ParquetView) -> str:
    # A sum of floats would depend on the order of the rows.
    return f"TRY_CAST({file.at('series_size_MB')} AS DECIMAL(18, 6))"


def _groups(lines: Iterable[Sequence[Any]], at: int) -> tuple[Group, ...]:
    """Series by the value at position `at` of a line (OLD) and the one after it (NEW), in the order of names."""
    counts: dict[str, dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    for line in lines:
        state, was, becomes = line[0], line[at] or "", line[at + 1] or ""
        series, old_mb, new_mb = line[-3:]
        counts[was if state == "removed" else becomes][state] += series
        if state != "added":
            counts[was]["old"] += series
            counts[was]["old_mb"] += old_mb
        if state != "removed":
            counts[becomes]["new"] += series
            counts[becomes]["new_mb"] += new_mb
    found = []
    for name, of in sorted(counts.items()):
        series = {key: int(of[key]) for key in ("old", "new", "added", "revised", "removed")}
        old_tb, new_tb = (round(float(of[key] / _MB_PER_TB), 12) for key in ("old_mb", "new_mb"))
        found.append(Group(name, **series, old_tb=old_tb, new_tb=new_tb))
    return tuple(found)


def _value_changes(lines: Iterable[Sequence[Any]], at: int) -> tuple[ValueChange, ...]:
    """Series that both inputs have, by old and new value, the largest number first."""
    counts: dict[tuple[str | None, str | None], int] = defaultdict(int)
    for line in lines:
        if line[0] in ("revised", "unchanged") and line[at] != line[at + 1]:
            counts[line[at], line[at + 1]] += line[-3]
    ordered = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
    return tuple(ValueChange(*values, series) for values, series in ordered)
