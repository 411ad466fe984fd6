"""The two inputs of a comparison: which tables they have, and what is known about each before its rows are read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from idc_indexer import documents
from idc_indexer.errors import UsageError
from idc_indexer.progress import ProgressListener
from idc_indexer.publish.release_source import ReleaseSource, bundled_schemas, check_given, open_source
from idc_indexer.release.manifest import DUCKDB_FILE, PUBLISHED


@dataclass(frozen=True)
class InputTable:
    """A table of an input.

    Attributes:
        schema: its `_schema.json`, of this toolkit or of another; None if it has none.
        sha256: of its Parquet; None if that is unknown before the Parquet is downloaded.
        fetch: returns the Parquet on this machine; None if the input has no rows of this table.
    """

    name: str
    schema: Mapping[str, Any] | None
    sha256: str | None
    fetch: Callable[[], Path] | None


@dataclass(frozen=True)
class InputViews:
    """The idc.duckdb of an input: its SHA-256, empty if unknown, and what returns the file on this machine."""

    sha256: str
    fetch: Callable[[], Path]


@dataclass(frozen=True)
class DiffInput:
    """One of the two inputs of a comparison.

    Attributes:
        name: as the user gave it.
        version: of the release; None if it is unknown.
        excluded: tables that this kind of input never has, even if the release has them.
        withdrawn: why the release is withdrawn; empty if it is not.
        views: None if the input has no idc.duckdb.
    """

    name: str
    version: str | None
    tables: Mapping[str, InputTable]
    excluded: Collection[str] = ()
    withdrawn: str = ""
    views: InputViews | None = None


@contextmanager
def open_inputs(
    old: str, new: str, published_at: str = PUBLISHED, listener: ProgressListener | None = None
) -> Iterator[tuple[DiffInput, DiffInput]]:
    """Open both inputs. What is unpacked or downloaded for them is removed at the end.

    Two single Parquet files are one table, which has the name of the new one. If only one input is a single file, the
    table of its name is compared.

    Args:
        old, new: as `open_source` takes them.
        published_at: where versions are published: a URL, `gs://bucket[/prefix]` or a folder.
        listener: hears of downloads, and of requests that are sent again.

    Raises:
        UsageError: an input is nothing that can be opened, or lacks the table of a single file.
        IndexerError: an input does not exist, cannot be read, or has no tables.
    """
    for given in (old, new):
        check_given(given)  # a typing mistake is told before anything is downloaded
    with open_source(old, published_at, listener) as before, open_source(new, published_at, listener) as after:
        if before.table and after.table:
            yield _two_files(before, after)
        else:
            yield _only(_input(before), after.table, new), _only(_input(after), before.table, old)


def primary_key(name: str, schema: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The key of a table: of its own schema, or else of the bundled schema of that name."""
    for document in (schema, _bundled(name)):
        if document and document.get("primary_key"):
            return tuple(document["primary_key"])
    return ()


def _two_files(before: ReleaseSource, after: ReleaseSource) -> tuple[DiffInput, DiffInput]:
    """Two single Parquet files: both are the table that the new one is named after."""
    old, new = _input(before), _input(after)
    ((name, table),) = old.tables.items()
    (other,) = new.tables
    schema = table.schema or _bundled(name)
    return replace(old, tables={other: replace(table, name=other, schema=schema)}), new


def _only(given: DiffInput, table: str | None, single: str) -> DiffInput:
    """An input with the one table of the single file that it is compared with, if it is."""
    if table is None:
        return given
    if table not in given.tables:
        raise UsageError(
            f"{given.name} has no table {table}, the name of {single}", "Rename the file to <table>.parquet."
        )
    return replace(given, tables={table: given.tables[table]})


def _input(source: ReleaseSource) -> DiffInput:
    tables = {name: _table(source, name) for name in source.tables}
    return DiffInput(source.name, source.version, tables, source.excluded, source.withdrawn, _views(source))


def _views(source: ReleaseSource) -> InputViews | None:
    if DUCKDB_FILE not in source.file_names:
        return None
    listed = source.manifest.descriptions if source.manifest else ()
    sha256 = next((file.sha256 for file in listed if file.name == DUCKDB_FILE), "")
    return InputViews(sha256, lambda: source.files.fetch(DUCKDB_FILE))


def _table(source: ReleaseSource, name: str) -> InputTable:
    fetch = (lambda: source.fetch(name)) if source.has_rows(name) else None
    return InputTable(name, source.schema(name), source.sha256(name), fetch)


def _bundled(name: str) -> Mapping[str, Any] | None:
    path = bundled_schemas().get(name)
    document: Mapping[str, Any] | None = documents.load(path, "index") if path else None
    return document
