"""Source tables with one row per instance have the same number of rows: any other number is reported, never ignored.

A copy of an export that broke off before its last shards has no gap in the numbers of its shards, and only this count
shows that rows are missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from idc_indexer.errors import IndexerError
from idc_indexer.progress import ProgressListener
from idc_indexer.schema.source_tables import SourceTable

INSTANCE_TABLES = ("auxiliary_metadata", "dicom_all", "dicom_metadata_curated")
OPTION = "--allow-row-count-mismatch"


@dataclass(frozen=True)
class RowCountMismatch:
    """Tables of one release that should have the same number of rows, and do not."""

    rows: Mapping[SourceTable, int]

    def __str__(self) -> str:
        counts = ", ".join(f"{table} has {rows:,}" for table, rows in self.rows.items())
        return f"tables with one row per instance have different numbers of rows: {counts}"


def instance_tables(tables: Iterable[SourceTable]) -> list[SourceTable]:
    """All tables with one row per instance, of the releases of which one of them is among the given tables."""
    releases = {table.release for table in tables if _is_counted(table)}
    return [SourceTable(release, False, name) for release in sorted(releases) for name in INSTANCE_TABLES]


def mismatches(rows: Mapping[SourceTable, int]) -> list[RowCountMismatch]:
    """Compare numbers of rows, by release. Other tables are ignored."""
    by_release: dict[int, dict[SourceTable, int]] = {}
    for table, count in sorted(rows.items()):
        if _is_counted(table):
            by_release.setdefault(table.release, {})[table] = count
    return [RowCountMismatch(counts) for counts in by_release.values() if len(set(counts.values())) > 1]


def refuse(found: Iterable[RowCountMismatch], source: str) -> None:
    """Raise an error for a folder, where a copy can break off.

    Raises:
        IndexerError: there is a mismatch.
    """
    if lines := [f"{source}: {one}" for one in found]:
        raise IndexerError(
            "\n".join(lines),
            f"Complete the copy of the smaller table. If the source itself differs, build with {OPTION}.",
        )


def warn(found: Iterable[RowCountMismatch], listener: ProgressListener) -> None:
    """Tell the listener."""
    for one in found:
        listener.message(f"warning: {one}")


def document(found: Iterable[RowCountMismatch], accepted: bool) -> dict[str, Any]:
    """What the manifest says of it, as a part of `source`: nothing if there is no mismatch."""
    listed = [{"rows": {str(table): rows for table, rows in one.rows.items()}, "accepted": accepted} for one in found]
    return {"row_count_mismatches": listed} if listed else {}


def _is_counted(table: SourceTable) -> bool:
    return table.name in INSTANCE_TABLES and not table.clinical
