"""The facts in the report that no other description has: sizes, values, first rows, growth, collections."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq

from idc_indexer import parquet_footer
from idc_indexer.duckdb_session import bounded, errors_for, interruptible, mistrust_statistics, quote_name, read_parquet
from idc_indexer.errors import IndexerError
from idc_indexer.progress import Meter, NullListener, ProgressListener
from idc_indexer.release.derived import IDC_INDEX
from idc_indexer.release.descriptions.description import SERIES_MB, Description, terabytes
from idc_indexer.release.manifest import FileEntry, IndexEntry, Release, parquet_name, sql_name
from idc_indexer.schema.column import Column
from idc_indexer.schema.table import Schema

FEW = 12
"""Distinct values of a column up to which they are listed."""
FIRST_ROWS = 5
"""Rows of a table that are shown."""
MAX_CELL = 300
"""Characters of a value in these rows; a longer value is cut to one more."""
_LONGEST = 60


@dataclass(frozen=True)
class ColumnSummary:
    """A column: its description and its values.

    Attributes:
        bytes: compressed size.
        nulls, distinct: number of rows that are NULL, and of distinct values other than NULL.
        values: all in order, if they are few and short; else none.
    """

    field: Column
    bytes: int
    nulls: int
    distinct: int
    values: tuple[str, ...]

    @property
    def is_number(self) -> bool:
        """Whether a row has one number in it, or NULL."""
        return self.field.mode != "REPEATED" and self.field.type in ("INTEGER", "FLOAT", "NUMERIC")


@dataclass(frozen=True)
class TableSummary:
    """An index or a derived table. A zipped CSV has no columns, and no schema.

    Attributes:
        first_rows: a value for each column, as text: nested values as JSON, NULL as None.
    """

    entry: IndexEntry
    schema: Schema | None
    columns: tuple[ColumnSummary, ...] = ()
    query: str = ""
    first_rows: tuple[tuple[str | None, ...], ...] = ()

    @property
    def data(self) -> FileEntry:
        """The file with the rows."""
        return self.entry.files[0]


@dataclass(frozen=True)
class Growth:
    """An IDC release: the series of today that it added, which may be none, and all until then.

    Attributes:
        date: from `version_metadata_index`; empty if unknown.
    """

    release: int
    date: str
    series: int
    tb: float
    all_series: int
    all_tb: float


@dataclass(frozen=True)
class SeriesGroup:
    """Series of a collection or a modality."""

    name: str
    patients: int
    series: int
    tb: float


@dataclass(frozen=True)
class Collection(SeriesGroup):
    """A collection. What idc_index or collections_index lacks the columns for is empty.

    Attributes:
        title, cancers, organs: from collections_index.
        licences, dois: of its original images, not of analysis results.
        viewer: address of its first study in IDC's viewers.
    """

    title: str = ""
    cancers: str = ""
    organs: str = ""
    licences: tuple[str, ...] = ()
    dois: tuple[str, ...] = ()
    viewer: str = ""


@dataclass(frozen=True)
class ReleaseFacts:
    """All facts of a report. Those that idc_index lacks the columns for are empty."""

    description: Description
    tables: tuple[TableSummary, ...]
    growth: tuple[Growth, ...]
    collections: tuple[Collection, ...]
    modalities: tuple[SeriesGroup, ...]
    patients: int

    @property
    def release(self) -> Release:
        """The release that is described."""
        return self.description.release


def gather(description: Description, listener: ProgressListener | None = None) -> ReleaseFacts:
    """Read the facts of a valid release that its description lacks.

    Raises:
        IndexerError: a file is damaged in columns that `verify` does not read.
    """
    release = description.release
    schemas = {table.name: table.schema for table in description.tables}
    with interruptible(), bounded() as connection:
        mistrust_statistics(connection)
        meter = Meter(listener or NullListener(), "describing", "tables", len(release.entries))
        tables = tuple(_table(connection, release, entry, schemas.get(entry.name), meter) for entry in release.entries)
        columns = {table.entry.name: {column.field.name for column in table.columns} for table in tables}
        index = release.path / parquet_name(IDC_INDEX)
        with errors_for(str(index)):
            return _with_idc_index(connection, description, tables, columns)


def _with_idc_index(
    connection: duckdb.DuckDBPyConnection,
    description: Description,
    tables: tuple[TableSummary, ...],
    columns: Mapping[str, set[str]],
) -> ReleaseFacts:
    """The facts, with those of idc_index that its columns allow."""
    release, present = description.release, columns.get(IDC_INDEX, set())
    rows = read_parquet([str(release.path / parquet_name(IDC_INDEX))])
    growth: tuple[Growth, ...] = ()
    if {"series_init_idc_version", "series_size_MB"} <= present:
        growth = tuple(_growth(connection, rows, release.idc_version, description.dates))
    groups = {
        column: tuple(_groups(connection, rows, column)) if {column, "PatientID", "series_size_MB"} <= present else ()
        for column in ("collection_id", "Modality")
    }
    about = _about_collections(connection, rows, present) if groups["collection_id"] else {}
    titles = _titles(connection, release, columns)
    collections = tuple(
        Collection(**vars(group), **titles.get(group.name, {}), **about.get(group.name, {}))
        for group in groups["collection_id"]
    )
    patients = 0
    if {"collection_id", "PatientID"} <= present:
        ((patients,),) = connection.execute(f"SELECT count(DISTINCT (collection_id, PatientID)) FROM {rows}").fetchall()
    return ReleaseFacts(description, tables, growth, collections, groups["Modality"], patients)


def _table(
    connection: duckdb.DuckDBPyConnection, release: Release, entry: IndexEntry, schema: Schema | None, meter: Meter
) -> TableSummary:
    meter.add(entry.name)
    if schema is None:
        return TableSummary(entry, None)
    path = release.path / parquet_name(entry.name)
    sizes = _sizes(parquet_footer.read(path))
    rows = read_parquet([str(path)])
    with errors_for(str(path), "The pages of the file are damaged. Build the release again."):
        columns = tuple(_column(connection, rows, field, sizes.get(field.name, 0)) for field in schema.columns)
        first_rows = _first_rows(connection, path, schema.columns)
    query = _query(release.path / sql_name(entry.name)) if entry.query_sha256 else ""
    return TableSummary(entry, schema, columns, query, first_rows)


def _column(connection: duckdb.DuckDBPyConnection, rows: str, field: Column, size: int) -> ColumnSummary:
    name = quote_name(field.name)
    ((count, present, distinct),) = connection.execute(
        f"SELECT count(*), count({name}), count(DISTINCT {name}) FROM {rows}"
    ).fetchall()
    values: list[str] = []
    if 0 < distinct <= FEW and not field.fields and field.mode != "REPEATED":
        found = connection.execute(f"SELECT DISTINCT {name} FROM {rows} WHERE {name} IS NOT NULL ORDER BY 1").fetchall()
        values = [str(value) for (value,) in found]
    short = values if all(len(value) <= _LONGEST for value in values) else []
    return ColumnSummary(field, size, count - present, distinct, tuple(short))


def _first_rows(
    connection: duckdb.DuckDBPyConnection, path: Path, fields: Sequence[Column]
) -> tuple[tuple[str | None, ...], ...]:
    values = (
        f"to_json({name})" if field.fields or field.mode == "REPEATED" else name
        for field, name in ((field, quote_name(field.name)) for field in fields)
    )
    cells = ", ".join(f"left(CAST({value} AS VARCHAR), {MAX_CELL + 1})" for value in values)
    rows = read_parquet([str(path)], ", file_row_number=true")
    return tuple(
        connection.execute(f"SELECT {cells} FROM {rows} ORDER BY file_row_number LIMIT {FIRST_ROWS}").fetchall()
    )


def _query(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise IndexerError(f"{path}: is not UTF-8: {error}", "Build the release again.") from error


def _sizes(metadata: pq.FileMetaData) -> Mapping[str, int]:
    """Bytes of each column, compressed, with those of its fields."""
    sizes: dict[str, int] = {}
    for group in range(metadata.num_row_groups):
        for leaf in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(leaf)
            name = metadata.schema.column(leaf).path.split(".", 1)[0]
            sizes[name] = sizes.get(name, 0) + chunk.total_compressed_size
    return sizes


def _growth(
    connection: duckdb.DuckDBPyConnection, rows: str, newest: int, dates: Mapping[int, str]
) -> Iterator[Growth]:
    """The IDC releases from the first that added a series, without gaps, to the newest."""
    found = connection.execute(
        f"""SELECT series_init_idc_version, count(*), {SERIES_MB} FROM {rows}
        WHERE series_init_idc_version IS NOT NULL GROUP BY 1 ORDER BY 1"""
    ).fetchall()
    added = {release: (series, mb) for release, series, mb in found}
    releases = range(found[0][0], max(newest, found[-1][0]) + 1) if found else range(0)
    steps = [added.get(release, (0, 0)) for release in releases]
    until = accumulate(steps, lambda a, b: (a[0] + b[0], a[1] + b[1]))
    for release, (series, mb), (all_series, all_mb) in zip(releases, steps, until, strict=True):
        yield Growth(release, dates.get(release, ""), series, terabytes(mb), all_series, terabytes(all_mb))


def _titles(
    connection: duckdb.DuckDBPyConnection, release: Release, present: Mapping[str, set[str]]
) -> Mapping[str, Mapping[str, Any]]:
    """What collections_index says of each collection, by its identifier."""
    name, columns = "collections_index", ("collection_name", "cancer_types", "tumor_locations")
    if not {"collection_id", *columns} <= present.get(name, set()):
        return {}
    rows = read_parquet([str(release.path / parquet_name(name))])
    found = connection.execute(f"SELECT collection_id, {', '.join(columns)} FROM {rows}").fetchall()
    fields = ("title", "cancers", "organs")
    return {key: {field: text or "" for field, text in zip(fields, texts, strict=True)} for key, *texts in found}


def _about_collections(
    connection: duckdb.DuckDBPyConnection, rows: str, present: set[str]
) -> Mapping[str, Mapping[str, Any]]:
    """Licences, DOIs and the first study of each collection, by its identifier."""
    if not {"license_short_name", "source_DOI", "analysis_result_id", "StudyInstanceUID", "Modality"} <= present:
        return {}
    found = connection.execute(
        f"""WITH studies AS (
            SELECT collection_id, StudyInstanceUID, coalesce(bool_or(Modality = 'SM'), false) AS slides,
                list(DISTINCT license_short_name) FILTER (analysis_result_id IS NULL) AS licences,
                list(DISTINCT source_DOI) FILTER (analysis_result_id IS NULL) AS dois
            FROM {rows} GROUP BY 1, 2)
        SELECT coalesce(collection_id, ''), min(StudyInstanceUID), arg_min(slides, StudyInstanceUID),
            list_sort(list_distinct(flatten(list(licences)))), list_sort(list_distinct(flatten(list(dois))))
        FROM studies GROUP BY 1"""
    ).fetchall()
    return {
        name: {"licences": tuple(licences or ()), "dois": tuple(dois or ()), "viewer": _viewer(study or "", slides)}
        for name, study, slides, licences, dois in found
    }


def _viewer(study: str, slides: bool) -> str:
    """The address of a study in IDC's viewers, as the idc-index client forms it; empty if it is no UID."""
    if not re.fullmatch(r"[0-9.]{1,64}", study):
        return ""
    viewer = "https://viewer.imaging.datacommons.cancer.gov"
    return f"{viewer}/slim/studies/{study}" if slides else f"{viewer}/v3/viewer/?StudyInstanceUIDs={study}"


def _groups(connection: duckdb.DuckDBPyConnection, rows: str, column: str) -> Iterator[SeriesGroup]:
    """Series by the values of a column, the most series first."""
    found: Sequence[tuple[Any, ...]] = connection.execute(
        f"""SELECT coalesce({column}, ''), count(DISTINCT (collection_id, PatientID)), count(*) AS series, {SERIES_MB}
        FROM {rows} GROUP BY 1 ORDER BY series DESC, 1"""
    ).fetchall()
    for name, patients, series, mb in found:
        yield SeriesGroup(name, patients, series, terabytes(mb))
