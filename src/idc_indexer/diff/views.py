"""What differs in idc.duckdb and in no table: the address that its views read, their columns and comments.

Its bytes depend on the version of DuckDB, so they are not compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from idc_indexer.diff.inputs import DiffInput
from idc_indexer.diff.result import Change, TableDifference
from idc_indexer.release.descriptions import duckdb_file


def compare_views(old: DiffInput, new: DiffInput, tables: Sequence[TableDifference]) -> Mapping[str, Change]:
    """Compare the files of both inputs.

    Args:
        tables: the differences that are known already.

    Returns:
        The changes by name, as `duckdb_file.facts` has it; none if an input lacks the file.

    Raises:
        IndexerError: a file cannot be fetched, or is damaged.
    """
    if old.views is None or new.views is None or (old.views.sha256 and old.views.sha256 == new.views.sha256):
        return {}
    before, after = (duckdb_file.facts(views.fetch()) for views in (old.views, new.views))
    told = {name for table in tables for name in _told(table, {**before, **after})}
    return {
        name: Change(before.get(name), after.get(name))
        for name in sorted({**before, **after})
        if before.get(name) != after.get(name) and name not in told
    }


def _told(table: TableDifference, facts: Mapping[str, str]) -> Iterator[str]:
    """The names of the facts whose change the difference of a table tells."""
    view, comment = duckdb_file.fact_of(table.name), duckdb_file.comment_of(table.name)
    if table.state in ("added", "removed"):
        yield from (name for name in facts if name in (view, comment) or name.startswith(f"{comment}."))
    if table.description:
        yield comment
    for column in table.columns:
        if column.type:
            yield view
        if column.description or column.state != "shared":
            yield f"{comment}.{column.name}"
