"""`idc.duckdb`: a view of each published table, which anyone can attach without downloading the tables.

    ATTACH 'https://storage.googleapis.com/idc-index-data-artifacts/current/release_artifacts/idc.duckdb' AS idc;
    SELECT Modality, count(*) FROM idc.idc_index GROUP BY 1;

The views name the addresses of a version, never of `current`: who has attached the file keeps reading one release.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any

import duckdb
from fsspec import AbstractFileSystem

from idc_indexer import files
from idc_indexer.duckdb_session import connect, errors_for, interruptible, quote, quote_name
from idc_indexer.release.descriptions.description import Description, TableDescription
from idc_indexer.release.manifest import ARTIFACTS, DUCKDB_FILE

STORAGE_VERSION = "v1.0.0"
"""The oldest DuckDB that can attach the file."""
RELEASE = "release"
_READ = re.compile(rf"read_parquet\(\W*'(https?://[^']+)/[^/']+/{ARTIFACTS}/[^/']+'")
_RELEASE_COLUMNS = {
    "release_version": ("VARCHAR", "Version of the release, such as 25.0.5."),
    "idc_version": ("BIGINT", "Number of the IDC release."),
    "idc_release_date": ("DATE", "Date of the IDC release; NULL if the release does not hold it."),
    "file": ("VARCHAR", "Name of a file of the release."),
    "url": ("VARCHAR", "Public address of the file."),
    "rows": ("BIGINT", "Number of rows of a Parquet file; NULL for other files."),
    "bytes": ("BIGINT", "Size of the file in bytes."),
    "sha256": ("VARCHAR", "SHA-256 of the file, in hexadecimal."),
}


def content(description: Description, connection: duckdb.DuckDBPyConnection) -> bytes:
    """The file.

    Raises:
        IndexerError: a table of the release cannot be read.
    """
    with interruptible(), _published(description, connection) as path, errors_for(DUCKDB_FILE):
        connection.execute(f"ATTACH {quote(str(path))} AS made (STORAGE_VERSION {quote(STORAGE_VERSION)})")
        for table in description.tables:
            _create_view(connection, table)
        _create_release_view(connection, description)
        connection.execute("DETACH made")  # writes it
        return path.read_bytes()


def problems(description: Description, path: Path, connection: duckdb.DuckDBPyConnection) -> Iterator[str]:
    """What is wrong with the file: a view that is missing or reads other columns, facts that are not the manifest's.

    Raises:
        IndexerError: DuckDB cannot read it.
    """
    with interruptible(), _published(description, connection) as copy, errors_for(str(path)):
        shutil.copyfile(path, copy)
        connection.execute(f"ATTACH {quote(str(copy))} AS made (READ_ONLY)")
        views = dict(_rows(connection, "SELECT view_name, sql FROM duckdb_views() WHERE database_name = 'made'"))
        if different := views.keys() ^ {RELEASE, *(table.name for table in description.tables)}:
            yield f"has other views than the release has tables: {', '.join(sorted(different))}"
        for table in description.tables:
            if table.name not in views:
                continue
            if quote(table.url) not in views[table.name]:
                yield f"its view {table.name} does not read {table.url}"
                continue
            described = _rows(connection, f"DESCRIBE made.{quote_name(table.name)}")
            if [row[0] for row in described] != [column.name for column in table.schema.columns]:
                yield f"its view {table.name} has other columns than the table"
        if RELEASE in views and _rows(connection, f"FROM made.{RELEASE}") != _release_rows(description):
            yield f"its view {RELEASE} does not hold what the manifest has"


def facts(path: Path) -> dict[str, str]:
    """What the file says of the tables, but not of one version, by name.

    Returns:
        `address`: the addresses of releases that the views read, without the version. `view T`: the columns of the view
        of a table and their types. `comment of T`, `comment of T.C`: of a view and of a column.

    Raises:
        IndexerError: DuckDB cannot read it.
    """
    with interruptible(), files.temporary_folder() as scratch, connect() as connection, errors_for(str(path)):
        shutil.copyfile(path, scratch / DUCKDB_FILE)
        connection.execute(f"ATTACH {quote(str(scratch / DUCKDB_FILE))} AS made (READ_ONLY)")
        views = _rows(connection, "SELECT view_name, comment, sql FROM duckdb_views() WHERE database_name = 'made'")
        columns = _rows(
            connection,
            """SELECT table_name, column_name, data_type, comment FROM duckdb_columns() WHERE database_name = 'made'
            ORDER BY table_name, column_index""",
        )
    addresses = {match[1] for _, _, sql in views for match in _READ.finditer(sql)}
    found = {"address": ", ".join(sorted(addresses))}
    for view, comment, _ in views:
        names = [f"{name} {kind}" for table, name, kind, _ in columns if table == view]
        found |= {fact_of(view): ", ".join(names), comment_of(view): comment or ""}
    return found | {f"{comment_of(table)}.{name}": comment or "" for table, name, _, comment in columns}


def fact_of(table: str) -> str:
    """The name of the fact about the columns of a view."""
    return f"view {table}"


def comment_of(table: str) -> str:
    """The name of the fact about the comment on a view."""
    return f"comment of {table}"


def _rows(connection: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = connection.execute(sql).fetchall()
    return found


def _create_view(connection: duckdb.DuckDBPyConnection, table: TableDescription) -> None:
    view = f"made.{quote_name(table.name)}"
    connection.execute(f"CREATE VIEW {view} AS FROM read_parquet({quote(table.url)})")
    connection.execute(f"COMMENT ON VIEW {view} IS {quote(table.schema.description)}")
    for column in table.schema.columns:
        name = f"{view}.{quote_name(column.name)}"
        connection.execute(f"COMMENT ON COLUMN {name} IS {quote(column.description)}")


def _create_release_view(connection: duckdb.DuckDBPyConnection, description: Description) -> None:
    """Create the view of the facts of the release: as a table they would take a block of 262 kB of their own."""
    view = f"made.{RELEASE}"
    rows = ", ".join(f"({', '.join(map(_literal, row))})" for row in _release_rows(description))
    columns = ", ".join(f"CAST({name} AS {kind}) AS {name}" for name, (kind, _) in _RELEASE_COLUMNS.items())
    values = f"(VALUES {rows}) AS facts({', '.join(_RELEASE_COLUMNS)})"
    connection.execute(f"CREATE VIEW {view} AS SELECT {columns} FROM {values}")
    connection.execute(f"COMMENT ON VIEW {view} IS 'One row for each file of the release that the views read.'")
    for name, (_, comment) in _RELEASE_COLUMNS.items():
        connection.execute(f"COMMENT ON COLUMN {view}.{name} IS {quote(comment)}")


def _literal(value: Any) -> str:
    if value is None:
        return "NULL"
    return str(value) if isinstance(value, int) else quote(str(value))


def _release_rows(description: Description) -> list[tuple[Any, ...]]:
    release = description.release
    date = datetime.strptime(description.date, "%Y-%m-%d").date() if description.date else None
    about = (release.release_version, release.idc_version, date)
    return [
        (*about, file.name, description.address + file.name, file.rows, file.bytes, file.sha256)
        for entry in release.entries
        for file in entry.files
    ]


@contextmanager
def _published(description: Description, connection: duckdb.DuckDBPyConnection) -> Iterator[Path]:
    """A place for idc.duckdb, while the connection finds the files of the release at their future public addresses.

    CREATE VIEW opens the file that it names, and nothing is there before the release is published. ATTACH takes `?` and
    `~` in a path for more than characters, so the place is in a temporary folder.
    """
    with files.temporary_folder() as scratch, ExitStack() as opened:
        release_files = _ReleaseFiles(description.release.path, opened)
        connection.register_filesystem(release_files)
        try:
            yield scratch / DUCKDB_FILE
        finally:
            with suppress(duckdb.Error):  # it may have failed for good, of which the error is on its way
                connection.execute("DETACH DATABASE IF EXISTS made")
            connection.unregister_filesystem(release_files.protocol[0])


class _ReleaseFiles(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """The files of a release folder, whatever the address in front of their names.

    DuckDB closes no file that it opens here, so `opened` does.
    """

    protocol = ("http", "https")
    cachable = False

    def __init__(self, folder: Path, opened: ExitStack) -> None:
        super().__init__()
        self._folder, self._opened = folder, opened

    def _local(self, url: str) -> Path:
        return files.local_file(self._folder, url.rpartition("/")[2])

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        return {"name": path, "type": "file", "size": self._local(path).stat().st_size}

    def modified(self, path: str) -> datetime:  # noqa: ARG002 -- DuckDB asks; nothing depends on it
        return datetime.fromtimestamp(0, timezone.utc)

    def _open(self, path: str, **_: Any) -> IO[bytes]:
        return self._opened.enter_context(self._local(path).open("rb"))
