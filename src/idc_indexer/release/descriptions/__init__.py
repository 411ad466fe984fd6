"""The files that describe a release to people and programs that never saw this toolkit.

`idc.duckdb` has a view of each published table, `croissant.json` describes the tables for machine learning tools,
`data-dictionary.md` describes them for people and language models, `SHA256SUMS` has all digests. All of them come from
one `Description`, so they cannot contradict each other. The same release gives the same bytes, with the same version of
DuckDB.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import duckdb

from idc_indexer import documents, files
from idc_indexer.duckdb_session import connect, errors_for, interruptible, read_parquet
from idc_indexer.release.derived import IDC_INDEX
from idc_indexer.release.descriptions import croissant, dictionary, duckdb_file
from idc_indexer.release.descriptions.description import (
    SERIES_MB,
    Description,
    LicenseShare,
    TableDescription,
    terabytes,
)
from idc_indexer.release.manifest import (
    CROISSANT,
    DICTIONARY,
    DUCKDB_FILE,
    FileEntry,
    Release,
    file_entry,
    parquet_name,
    public_address,
    schema_name,
    sidecar,
)
from idc_indexer.schema.table import Schema

SUMS = "SHA256SUMS"
_VERSIONS = "version_metadata_index"


def describe(release: Release, published: str, connection: duckdb.DuckDBPyConnection | None = None) -> Description:
    """What a description of a release needs, read from its schemas and tables.

    Args:
        release: its tables and schemas are complete.
        published: where releases are published, in the form of `--published-at`.
        connection: reads the tables; a new one if None, which takes 17 ms to open.

    Raises:
        IndexerError: a file is damaged.
    """
    address = public_address(published, release.release_version)
    tables = tuple(
        TableDescription(
            entry,
            Schema.from_document(documents.load(release.path / schema_name(entry.name), "artifact")),
            address + parquet_name(entry.name),
        )
        for entry in release.entries
        if entry.schema_sha256 is not None
    )
    with interruptible(), nullcontext(connection) if connection else connect() as reading:
        dates, licenses = _dates(reading, release, tables), _licenses(reading, release, tables)
    return Description(release, address, dates, tables, licenses)


def _has(tables: tuple[TableDescription, ...], name: str, *columns: str) -> bool:
    return any(table.name == name and {*columns} <= {one.name for one in table.schema.columns} for table in tables)


def _dates(
    connection: duckdb.DuckDBPyConnection, release: Release, tables: tuple[TableDescription, ...]
) -> dict[int, str]:
    """When IDC published each of its releases, as YYYY-MM-DD."""
    if not _has(tables, _VERSIONS, "idc_version", "version_timestamp"):
        return {}
    path = release.path / parquet_name(_VERSIONS)
    sql = f"SELECT idc_version, version_timestamp[:10] AS day FROM {read_parquet([str(path)])} WHERE day <> ''"
    with errors_for(str(path)):
        return dict(connection.execute(sql).fetchall())


def _licenses(
    connection: duckdb.DuckDBPyConnection, release: Release, tables: tuple[TableDescription, ...]
) -> tuple[LicenseShare, ...]:
    """The licences of the series, the one of most series first."""
    if not _has(tables, IDC_INDEX, "license_short_name", "series_size_MB"):
        return ()
    path = release.path / parquet_name(IDC_INDEX)
    sql = f"""SELECT license_short_name, count(*) AS series, {SERIES_MB}
        FROM {read_parquet([str(path)])} WHERE license_short_name IS NOT NULL GROUP BY 1 ORDER BY series DESC, 1"""
    with errors_for(str(path)):
        rows = connection.execute(sql).fetchall()
    return tuple(LicenseShare(name, series, terabytes(mb)) for name, series, mb in rows)


def write_descriptions(release: Release, published: str) -> Release:
    """Write all descriptions into the folder of a release.

    Args:
        published: as for `describe`.

    Returns:
        The release with its descriptions, for the manifest.
    """
    with connect() as connection:
        description = describe(release, published, connection)
        views = duckdb_file.content(description, connection)
    contents = {
        DUCKDB_FILE: views,
        CROISSANT: croissant.document(description),
        DICTIONARY: dictionary.text(description).encode(),
    }
    entries = [file_entry(name, content) for name, content in contents.items()]
    contents[SUMS] = sums([*release.files, *entries])
    for name, content in contents.items():
        files.write_atomic(release.path / name, content)
    return replace(
        release,
        idc_release_date=description.date,
        published_at=published,
        descriptions=(*entries, file_entry(SUMS, contents[SUMS])),
    )


def sums(entries: list[FileEntry]) -> bytes:
    """The content of SHA256SUMS: all files but itself, the manifest, and the report, which may come later."""
    return b"".join(sidecar(one.sha256, one.name) for one in sorted(entries, key=lambda one: one.name))
