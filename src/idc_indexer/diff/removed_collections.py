"""Rows that a table has lost because a collection was removed.

A person who accepts the removal of a collection accepts what follows from it: the regression checks leave these rows
out. They are found by series, or else by collection, or by an analysis result that only removed collections had.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import duckdb

from idc_indexer.diff.compare import ParquetView
from idc_indexer.diff.result import Loss

_KEYS = {"SeriesInstanceUID": "series", "collection_id": "collection", "analysis_result_id": "result"}
"""Columns of OLD by which a row belongs to a removed collection, and where the SQL table `removed` has its values."""


def forget_removed(connection: duckdb.DuckDBPyConnection) -> None:
    """No collection was removed, as far as is known."""
    connection.execute("CREATE OR REPLACE TEMP TABLE removed (collection VARCHAR, kind VARCHAR, value VARCHAR)")


def note_removed(connection: duckdb.DuckDBPyConnection, index: ParquetView, collections: Collection[str]) -> None:
    """Note the series and analysis results of removed collections.

    Args:
        index: idc_index of OLD.
    """
    forget_removed(connection)
    if not collections:
        return
    collection, series = index.at("collection_id"), index.at("SeriesInstanceUID")
    names = list(collections)
    insert = "INSERT INTO removed SELECT DISTINCT"
    connection.execute(f"{insert} name, 'collection', name FROM (SELECT unnest(?) AS name)", [names])
    connection.execute(
        f"{insert} {collection}, 'series', {series} FROM {index.view} WHERE list_contains(?, {collection})", [names]
    )
    if "analysis_result_id" in index.columns:
        result = index.at("analysis_result_id")
        connection.execute(
            f"""INSERT INTO removed SELECT min({collection}), 'result', {result} FROM {index.view}
            WHERE {result} IS NOT NULL GROUP BY {result} HAVING bool_and(list_contains(?, {collection}))""",
            [names],
        )


def removed_with(connection: duckdb.DuckDBPyConnection, old: ParquetView) -> Mapping[str, Loss]:
    """What a table has lost with each removed collection.

    Args:
        connection: has the SQL table `pairs` of the rows of the table.
        old: the table in OLD.
    """
    column = next((column for column in _KEYS if column in old.columns), None)
    if column is None or connection.execute("SELECT count(*) FROM removed").fetchall() == [(0,)]:
        return {}
    counts = ", ".join(f"count(*) FILTER ({old.at(name)} IS NULL)" for name in old.columns)
    found = connection.execute(
        f"""SELECT removed.collection, count(*), {counts} FROM pairs
        JOIN {old.view} ON {old.view}.row = old_row
        JOIN removed ON kind = '{_KEYS[column]}' AND value = {old.at(column)}
        WHERE new_row IS NULL GROUP BY ALL ORDER BY ALL"""
    ).fetchall()
    return {
        collection: Loss(rows, {name: n for name, n in zip(old.columns, nulls, strict=True) if n})
        for collection, rows, *nulls in found
    }
