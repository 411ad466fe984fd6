"""Diff: what is different between two releases, or in what else has indices, table by table.

Memory holds a few columns of the largest table, not its rows; what does not fit goes to temporary files.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import duckdb

from idc_indexer.diff import idc_summary as idc
from idc_indexer.diff.compare import compare, open_file
from idc_indexer.diff.inputs import DiffInput, InputTable, open_inputs, primary_key
from idc_indexer.diff.result import Change, ColumnDifference, Difference, IdcSummary, TableDifference
from idc_indexer.duckdb_session import connect, interruptible, mistrust_statistics
from idc_indexer.errors import UsageError
from idc_indexer.files import temporary_folder
from idc_indexer.release.derived import IDC_INDEX
from idc_indexer.schema.column import Column

__all__ = ["DiffInput", "Difference", "diff", "open_inputs"]

_MEMORY = "600MB"
"""What DuckDB may take: with it, two idc_index of a million rows are compared in less than 1 GB in all."""
_THREADS = 4
"""Each takes buffers of its own, and of a file of one row group, as IDC has published them, only one can read."""


def diff(old: DiffInput, new: DiffInput, names: Collection[str] = (), key: Sequence[str] = ()) -> Difference:
    """Compare two sides.

    Args:
        names: tables to compare; all when there are none.
        key: columns by which the rows of these tables are matched, instead of the key that the schemas state.

    Raises:
        UsageError: a table that neither side has.
        IndexerError: a file is damaged.
    """
    there = dict.fromkeys((*old.tables, *new.tables))
    if unknown := sorted(set(names) - there.keys()):
        raise UsageError(f"no side has a table {', '.join(unknown)}", f"There are: {', '.join(there)}.")
    found, summary = [], None
    with temporary_folder() as scratch:
        threads = min(_THREADS, os.cpu_count() or 1)
        with interruptible(), closing(connect(threads, _MEMORY, scratch)) as connection:
            mistrust_statistics(connection)
            for name in sorted(there):
                if not names or name in names:
                    if name in old.without or name in new.without:
                        table, of_idc = TableDifference(name, "unseen", "a data wheel never carries it"), None
                    else:
                        table, of_idc = _table(connection, name, old.tables.get(name), new.tables.get(name), key)
                    found.append(table)
                    summary = of_idc or summary
    return Difference(old.name, new.name, old.version, new.version, tuple(found), summary)


def _table(
    connection: duckdb.DuckDBPyConnection, name: str, old: InputTable | None, new: InputTable | None, key: Sequence[str]
) -> tuple[TableDifference, IdcSummary | None]:
    """What is different in a table; with it, of idc_index, what that means for IDC."""
    if old is None or new is None:
        return TableDifference(name, "added" if old is None else "removed"), None
    if old.sha256 and old.sha256 == new.sha256:
        return _described(TableDifference(name, "identical"), old, new), None
    if old.fetch is None or new.fetch is None:
        side = "OLD" if old.fetch is None else "NEW"
        return _described(TableDifference(name, "unseen", f"{side} does not carry its rows"), old, new), None
    files = [open_file(connection, side.fetch(), view) for side, view in ((old, "o"), (new, "n")) if side.fetch]
    chosen = tuple(key) or primary_key(name, new.schema) or primary_key(name, old.schema)
    if not key and any(column not in files[0].columns for column in chosen):
        chosen = primary_key(name, old.schema)
    difference = compare(connection, name, files[0], files[1], chosen)
    matched = name == IDC_INDEX and difference.state != "unmatched" and chosen == (idc.KEY,)
    summary = idc.summarize(connection, files[0], files[1]) if matched else None
    return _described(difference, old, new), summary


def _described(difference: TableDifference, old: InputTable, new: InputTable) -> TableDifference:
    """The difference, with what the schemas of both sides say."""
    if old.schema is None or new.schema is None:
        return difference
    keys = [tuple(document.get("primary_key", ())) for document in (old.schema, new.schema)]
    about = [document.get("table_description", "") for document in (old.schema, new.schema)]
    return replace(
        difference,
        key_change=Change(*keys) if all(keys) and keys[0] != keys[1] else None,
        description=Change(*about) if about[0] != about[1] else None,
        columns=tuple(_columns(difference, old.schema, new.schema)),
    )


def _columns(difference: TableDifference, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[ColumnDifference]:
    """Columns that differ in the files or, where those were not seen, in the schemas; and those described otherwise."""
    was, becomes = ({column["name"]: column for column in document["columns"]} for document in (old, new))
    found = {column.name: column for column in difference.columns}
    ordered = []
    for name in dict.fromkeys((*becomes, *was, *found)):
        before, after = was.get(name), becomes.get(name)
        column = found.get(name)
        if column is None and difference.rows is None:
            column = _promised(name, before, after)
        if before and after and before.get("description", "") != after.get("description", ""):
            column = replace(
                column or ColumnDifference(name, "kept"),
                description=Change(before.get("description", ""), after.get("description", "")),
            )
        if column is not None:
            ordered.append(column)
    return ordered


def _promised(name: str, old: dict[str, Any] | None, new: dict[str, Any] | None) -> ColumnDifference | None:
    """The difference of a column as the schemas have it."""
    # Other tools leave out the fields of a record.
    deep = all(column is None or column["type"] != "RECORD" or "fields" in column for column in (old, new))
    kinds = [column and Column.from_document(_known(column, deep)).googlesql for column in (old, new)]
    if kinds[0] == kinds[1]:
        return None
    state: Any = "added" if old is None else "removed" if new is None else "kept"
    return ColumnDifference(name, state, Change(*kinds))


def _known(column: Mapping[str, Any], deep: bool) -> dict[str, Any]:
    """What a type depends on, of a column that another tool may have described."""
    fields = {"fields": [_known(child, deep) for child in column.get("fields", ())]} if deep else {}
    return {key: column[key] for key in ("name", "type", "mode") if key in column} | fields
