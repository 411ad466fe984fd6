"""Open a release, and read its tables as Arrow or as relations of DuckDB."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from idc_indexer.api.options import AnyPath
from idc_indexer.duckdb_session import connect, read_parquet
from idc_indexer.errors import IndexerError, UsageError
from idc_indexer.publish.release_source import ReleaseSource, open_source
from idc_indexer.release.manifest import PUBLISHED


class ReleaseTables:
    """The tables of a release, usable until `open_release` ends. A table is downloaded when it is first read."""

    def __init__(self, source: ReleaseSource, connection: duckdb.DuckDBPyConnection) -> None:
        self._source = source
        self.connection = connection
        """Has a view of every table that `relation` was called for, so that SQL can join them."""

    @property
    def version(self) -> str | None:
        """The release version; None when the files do not say."""
        return self._source.version

    @property
    def names(self) -> list[str]:
        """Names of the tables whose rows can be read, in alphabetical order."""
        return sorted(filter(self._source.has_rows, self._source.tables))

    def path(self, table: str) -> Path:
        """The Parquet file of a table on this machine.

        Raises:
            UsageError: the release has no such table, or does not carry its rows.
            IndexerError: it cannot be downloaded.
        """
        if table not in self.names:
            raise UsageError(f"{self._source.name} has no table {table}", f"There are: {', '.join(self.names)}.")
        return self._source.fetch(table)

    def schema(self, table: str) -> dict[str, Any] | None:
        """The published `<table>_schema.json`: description, key, columns; None when there is none."""
        self.path(table)
        return self._source.schema(table)

    def arrow(self, table: str) -> pa.Table:
        """All rows of a table.

        Raises:
            IndexerError: as `path`, or the file is damaged.
        """
        path = self.path(table)
        try:
            return pq.read_table(path, partitioning=None)
        except (pa.ArrowException, OSError) as error:
            raise IndexerError(f"{path}: is damaged: {error}", "Download it again.") from error

    def relation(self, table: str) -> duckdb.DuckDBPyRelation:
        """A table as a relation of DuckDB, which reads rows lazily. SQL finds it under the name of the table.

        Raises:
            IndexerError: as `arrow`.
        """
        path = self.path(table)
        try:
            relation = self.connection.sql(f"FROM {read_parquet([str(path)])}")
            relation.create_view(table, replace=True)
        except duckdb.Error as error:
            raise IndexerError(f"{path}: is damaged: {error}", "Download it again.") from error
        return relation


@contextmanager
def open_release(source: AnyPath, *, published_at: str | None = None) -> Iterator[ReleaseTables]:
    """Open a release for reading. What was downloaded is removed at the end of the `with` block.

    Args:
        source: a release folder, a data wheel, a Parquet file, an address of published files, or a published version,
            such as `25.0.5` or `current`.
        published_at: where versions are published; at IDC when None.

    Raises:
        UsageError: an input of another kind.
        IndexerError: there is no release, or it cannot be read.
    """
    with open_source(str(source), published_at or PUBLISHED) as opened, connect() as connection:
        yield ReleaseTables(opened, connection)
