"""Diff: the differences between two releases, table by table.

An input can be anything that `publish.release_source` opens. Memory holds a few columns of the largest table, not its
rows; the rest goes to temporary files.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import duckdb

from idc_indexer.diff import idc_summary as idc
from idc_indexer.diff.compare import ParquetView, compare, open_file
from idc_indexer.diff.inputs import DiffInput, InputTable, open_inputs, primary_key
from idc_indexer.diff.removed_collections import forget_removed, note_removed, removed_with
from idc_indexer.diff.result import Change, ColumnDifference, Difference, IdcSummary, TableDifference
from idc_indexer.diff.views import compare_views
from idc_indexer.duckdb_session import bounded, interruptible, mistrust_statistics
from idc_indexer.errors import UsageError
from idc_indexer.progress import Meter, NullListener, ProgressListener
from idc_indexer.release.derived import IDC_INDEX
from idc_indexer.schema.column import Column

__all__ = ["DiffInput", "Difference", "diff", "open_inputs"]


def diff(
    old: DiffInput,
    new: DiffInput,
    names: Collection[str] = (),
    key: Sequence[str] = (),
    listener: ProgressListener | None = None,
) -> Difference:
    """Compare two inputs.

    Args:
        names: tables to compare; all if empty.
        key: columns that match the rows of these tables, instead of the key in their schemas.
        listener: hears which table is compared.

    Raises:
        UsageError: a table that neither input has.
        IndexerError: a file is damaged.
    """
    tables = dict.fromkeys((*old.tables, *new.tables))
    if unknown := sorted(set(names) - tables.keys()):
        raise UsageError(f"neither input has a table {', '.join(unknown)}", f"There are: {', '.join(tables)}.")
    found, summary = [], None
    # idc_index says which collections were removed, which explains rows that other tables have lost.
    chosen = sorted(set(names) or tables, key=lambda name: (name != IDC_INDEX, name))
    meter = Meter(listener or NullListener(), "comparing", "tables", len(chosen))
    with interruptible(), bounded() as connection:
        mistrust_statistics(connection)
        forget_removed(connection)
        for name in chosen:
            meter.add(name, done=0)
            table, of_idc = _table(connection, name, old, new, key)
            found.append(table)
            summary = of_idc or summary
            meter.add(name)
    withdrawn = {name: why for name, why in ((old.name, old.withdrawn), (new.name, new.withdrawn)) if why}
    found.sort(key=lambda table: table.name)
    views = {} if names else compare_views(old, new, found)
    return Difference(old.name, new.name, old.version, new.version, tuple(found), summary, withdrawn, views)


def _table(
    connection: duckdb.DuckDBPyConnection, name: str, old: DiffInput, new: DiffInput, key: Sequence[str]
) -> tuple[TableDifference, IdcSummary | None]:
    """The difference of a table and, for idc_index, its summary for IDC."""
    if name in old.excluded or name in new.excluded:
        return TableDifference(name, "unavailable", "a data wheel never has this table"), None
    before, after = old.tables.get(name), new.tables.get(name)
    if before is None or after is None:
        return TableDifference(name, "added" if before is None else "removed"), None
    if before.sha256 and before.sha256 == after.sha256:
        return _with_schemas(TableDifference(name, "identical"), before, after), None
    if before.fetch is None or after.fetch is None:
        reason = f"{'OLD' if before.fetch is None else 'NEW'} does not have its rows"
        return _with_schemas(TableDifference(name, "unavailable", reason), before, after), None
    files = open_file(connection, before.fetch(), "o"), open_file(connection, after.fetch(), "n")
    chosen = tuple(key) or _key(before, after, files[0])
    difference = compare(connection, name, *files, chosen)
    if difference.state != "unmatched" and name != IDC_INDEX:
        difference = replace(difference, removed_with=removed_with(connection, files[0]))
    matched = name == IDC_INDEX and difference.state != "unmatched" and chosen == (idc.KEY,)
    summary = idc.summarize(connection, *files) if matched else None
    if summary:
        note_removed(connection, files[0], summary.removed_collections)
        difference = replace(difference, removed_with=removed_with(connection, files[0]))
    return _with_schemas(difference, before, after), summary


def _key(old: InputTable, new: InputTable, file: ParquetView) -> tuple[str, ...]:
    """The key of NEW if OLD has its columns, else that of OLD."""
    keys = [primary_key(table.name, table.schema) for table in (new, old)]
    return keys[0] if keys[0] and all(column in file.columns for column in keys[0]) else keys[1]


def _with_schemas(difference: TableDifference, old: InputTable, new: InputTable) -> TableDifference:
    """The difference, with the changes of keys and descriptions in the schemas."""
    if old.schema is None or new.schema is None:
        return difference
    keys = [tuple(document.get("primary_key", ())) for document in (old.schema, new.schema)]
    described = [document.get("table_description", "") for document in (old.schema, new.schema)]
    return replace(
        difference,
        key_change=Change(*keys) if all(keys) and keys[0] != keys[1] else None,
        description=Change(*described) if described[0] != described[1] else None,
        columns=tuple(_columns(difference, old.schema, new.schema)),
    )


def _columns(difference: TableDifference, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[ColumnDifference]:
    """Columns that differ in the files (in the schemas, if those were not read) or have another description."""
    before, after = ({column["name"]: column for column in document["columns"]} for document in (old, new))
    found = {column.name: column for column in difference.columns}
    ordered = []
    for name in dict.fromkeys((*after, *before, *found)):
        was, becomes = before.get(name), after.get(name)
        column = found.get(name)
        if column is None and difference.rows is None:
            column = _in_schemas(name, was, becomes)
        if was and becomes and was.get("description", "") != becomes.get("description", ""):
            column = replace(
                column or ColumnDifference(name, "shared"),
                description=Change(was.get("description", ""), becomes.get("description", "")),
            )
        if column is not None:
            ordered.append(column)
    return ordered


def _in_schemas(name: str, old: dict[str, Any] | None, new: dict[str, Any] | None) -> ColumnDifference | None:
    """The difference of a column between the two schemas."""
    # Schemas of other tools do not list the fields of a record.
    deep = all(column is None or column["type"] != "RECORD" or "fields" in column for column in (old, new))
    kinds = [column and Column.from_document(_type_only(column, deep)).googlesql for column in (old, new)]
    if kinds[0] == kinds[1]:
        return None
    state: Any = "added" if old is None else "removed" if new is None else "shared"
    return ColumnDifference(name, state, Change(*kinds))


def _type_only(column: Mapping[str, Any], deep: bool) -> dict[str, Any]:
    """The part of a column's description that decides its type; another tool may have written it."""
    fields = {"fields": [_type_only(child, deep) for child in column.get("fields", ())]} if deep else {}
    return {key: column[key] for key in ("name", "type", "mode") if key in column} | fields
