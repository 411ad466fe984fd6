"""Verify: every claim of a release, checked against the files on disk.

A release describes itself, so no catalog is needed: the manifest says which files there are, a `_schema.json` describes
its Parquet, and idc_index says what the tables derived from it must hold. `CHECKS` is the list.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import duckdb

from idc_indexer import documents, files, parquet_footer
from idc_indexer.duckdb_session import bounded, errors_for, first_row, interruptible, quote_name, read_parquet
from idc_indexer.errors import IndexerError, UsageError
from idc_indexer.progress import Meter, NullListener, ProgressListener
from idc_indexer.release import derived, history, keys
from idc_indexer.release.derived import IDC_INDEX
from idc_indexer.release.descriptions import SUMS, describe, duckdb_file, sums
from idc_indexer.release.history import SERIES_HISTORY
from idc_indexer.release.manifest import (
    DUCKDB_FILE,
    LOCK,
    MANIFEST,
    REPORT,
    FileEntry,
    IndexEntry,
    Release,
    check_version,
    idc_version_of,
    parquet_name,
    schema_name,
    sidecar,
    sidecar_name,
    sql_name,
    zip_name,
)
from idc_indexer.release.parquet import VERSION_KEY
from idc_indexer.schema.arrow import file_schema
from idc_indexer.schema.table import Reference, Schema

_SOURCE_TABLE = re.compile(r"idc_v(?P<release>[1-9][0-9]{0,3})(?P<kind>(?:_clinical)?\.)(?P<table>\w+)")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and the file it is wrong in."""

    file: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}: {self.message}"


@dataclass
class _Findings:
    """A release while it is checked. Each check relies on what the earlier ones found in order.

    Attributes:
        connection: has a view, with the column `file_row_number`, of each table in `readable`.
        schemas: of the tables whose Parquet and `_schema.json` are the files that the manifest lists.
        readable: the names of those whose Parquet also has the columns, the rows and the version it should have.
    """

    release: Release
    connection: duckdb.DuckDBPyConnection
    problems: list[Problem] = field(default_factory=list)
    schemas: dict[str, Schema] = field(default_factory=dict)
    readable: set[str] = field(default_factory=set)

    def in_order(self, *names: str) -> bool:
        """Whether no check has found a problem in these files."""
        return not {problem.file for problem in self.problems} & set(names)


def verify(path: Path, listener: ProgressListener | None = None) -> list[Problem]:
    """Check a release: run all of `CHECKS`.

    It does not ask the GDC whether it has the cases of gdc_idc_mapping.

    Returns:
        Every problem found; empty when the release is valid.

    Raises:
        IndexerError: there is no release, or its manifest is malformed.
    """
    with interruptible(), bounded() as connection:
        found = _Findings(Release.open(path), connection)
        meter = Meter(listener or NullListener(), f"verifying {path.name or path}", "checks", len(CHECKS))
        for check in CHECKS:
            meter.add(_subject(check), done=0)
            for problem in check(found):
                found.problems.append(problem)
            meter.add()
    return found.problems


def _subject(check: Callable[[_Findings], Iterator[Problem]]) -> str:
    """What a check is about, in words."""
    return check.__name__.strip("_").replace("_", " ")


def open_valid(path: Path, listener: ProgressListener | None = None) -> Release:
    """The release at a path, verified.

    Raises:
        IndexerError: there is no release, or a problem with it.
    """
    if problems := verify(path, listener):
        raise IndexerError(
            f"{path}: {len(problems)} problems, the first in {problems[0].file}: {problems[0].message}",
            f"`idc-indexer verify {path}` lists all. A release with problems cannot be published or packed.",
        )
    return Release.open(path)


def _manifest(found: _Findings) -> Iterator[Problem]:
    """The manifest against itself: each index once, with the files it should have; the version."""
    release = found.release
    names = [entry.name for entry in release.entries]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield Problem(MANIFEST, f"index {name} is there twice")
    try:
        check_version(release.release_version, release.idc_version)
    except UsageError as error:
        yield Problem(MANIFEST, error.message)
    for mismatch in release.about["source"].get("row_count_mismatches", ()):
        if not mismatch["accepted"]:
            counts = ", ".join(f"{table} has {rows:,}" for table, rows in mismatch["rows"].items())
            yield Problem(
                MANIFEST,
                f"source tables with one row per instance have different numbers of rows: {counts}; "
                "if the source is right, build with --allow-row-count-mismatch",
            )
    for entry in release.entries:
        digests = {file.name: file.sha256 for file in entry.files}
        if entry.expected != digests.keys():
            yield Problem(MANIFEST, f"index {entry.name} lists {sorted(digests)}")
        elif entry.query_sha256 != digests.get(sql_name(entry.name)):
            yield Problem(MANIFEST, f"the query of {entry.name} has two digests")
        elif entry.schema_sha256 != digests.get(schema_name(entry.name)):
            yield Problem(MANIFEST, f"the schema of {entry.name} has two digests")


def _sources(found: _Findings) -> Iterator[Problem]:
    """The source tables in the manifest: of the IDC release that the release is of.

    A table of prior releases is a source only when an index has a template for prior releases; then it is one in every
    prior release, or in every one after the last of the history. One of a single other release comes from a query that
    names it instead of `idc_current`.
    """
    try:
        ours = idc_version_of(found.release.release_version)
    except UsageError:
        return  # _manifest reports it
    releases: dict[str, set[int]] = {}
    known = found.release.about.get("history", {}).get("idc_version", 0)
    for name in found.release.about["source"]["tables"]:
        if match := _SOURCE_TABLE.fullmatch(name):
            releases.setdefault(match["kind"] + match["table"], set()).add(int(match["release"]))
        else:
            yield Problem(MANIFEST, f"source table {name} is not of an IDC release")
    for table, numbers in releases.items():
        others = numbers - {ours}
        if others and others not in (set(range(1, ours)), set(range(known + 1, ours))):
            names = ", ".join(f"idc_v{number}{table}" for number in sorted(others))
            yield Problem(MANIFEST, f"source tables of another IDC release than {ours}: {names}")


def _files(found: _Findings) -> Iterator[Problem]:
    """The manifest against the folder: sizes, digests, sidecars, files that it does not list."""
    folder = found.release.path
    for file in found.release.files:
        if problem := _file_problem(folder, file):
            yield Problem(file.name, problem)
        if file.name.endswith(".parquet"):
            beside = folder / sidecar_name(file.name)
            if beside.is_file() and beside.read_bytes() != sidecar(file.sha256, file.name):
                yield Problem(beside.name, "does not hold the digest that the manifest has")
    # `report` and `verify --accept` hold the lock while they verify
    listed = {MANIFEST, LOCK, *(file.name for file in found.release.files)}
    for path in sorted(folder.iterdir()):
        if path.name not in listed:
            yield Problem(path.name, "is not in the manifest")


def _file_problem(folder: Path, file: FileEntry) -> str:
    path = folder / file.name
    if not path.is_file():
        return "is missing"
    if (size := path.stat().st_size) != file.bytes:
        return f"has {size} bytes, in the manifest {file.bytes}"
    digest = files.sha256(path)
    return "" if digest == file.sha256 else f"has SHA-256 {digest}, in the manifest {file.sha256}"


def _schemas(found: _Findings) -> Iterator[Problem]:
    """Each `_schema.json` against its JSON Schema and against itself."""
    for entry in found.release.entries:
        name = schema_name(entry.name)
        if entry.schema_sha256 is None or not found.in_order(name, parquet_name(entry.name)):
            continue
        try:
            schema = Schema.from_document(documents.load(found.release.path / name, "artifact"))
        except IndexerError as error:
            yield Problem(name, error.message)
            continue
        if problem := schema.problem():
            yield Problem(name, problem)
        else:
            found.schemas[entry.name] = schema


def _reference_columns(found: _Findings) -> Iterator[Problem]:
    """References to columns that the other index does not have. No row can satisfy them, so `_rows` leaves them out."""
    for name, schema in found.schemas.items():
        for reference in schema.references:
            other = found.schemas.get(reference.index)
            if other and not {column.name for column in other.columns}.issuperset(reference.to):
                wrong = f"refers to {', '.join(reference.to)} of {reference.index}, which has no such columns"
                yield Problem(schema_name(name), wrong)
                references = tuple(r for r in found.schemas[name].references if r != reference)
                found.schemas[name] = replace(schema, references=references)


def _footers(found: _Findings) -> Iterator[Problem]:
    """The footer of each Parquet file: version, columns, row count."""
    for entry in found.release.entries:
        if entry.name not in found.schemas:
            continue
        name = parquet_name(entry.name)
        problems = list(_footer_problems(found.release, entry, found.schemas[entry.name])) or _view(found, entry.name)
        yield from (Problem(name, problem) for problem in problems)
        if not problems:
            found.readable.add(entry.name)


def _view(found: _Findings, table: str) -> list[str]:
    """Make the view of a table; a problem if DuckDB cannot read the footer."""
    name = parquet_name(table)
    rows = read_parquet([str(found.release.path / name)], ", file_row_number=true")
    try:
        with errors_for(name):
            found.connection.execute(f"CREATE OR REPLACE VIEW {quote_name(table)} AS FROM {rows}")
    except IndexerError as error:
        return [error.message.removeprefix(f"{name}: ")]
    return []


def _footer_problems(release: Release, entry: IndexEntry, schema: Schema) -> Iterator[str]:
    name = parquet_name(entry.name)
    try:
        footer = parquet_footer.read(release.path / name)
    except IndexerError as error:
        yield f"is not Parquet: {error.message.removeprefix(f'{release.path / name}: ')}"
        return
    present = footer.schema.to_arrow_schema()
    version = (footer.metadata or {}).get(VERSION_KEY, b"").decode(errors="replace")
    if version != release.release_version:
        yield f"carries version {version!r}, the release is {release.release_version}"
    expected = file_schema(schema.columns, derived=entry.query_sha256 is None)
    if not present.equals(expected):
        different = [f"{a} instead of {b}" for a, b in zip(present, expected, strict=False) if not a.equals(b)]
        counts = f"{len(present)} columns instead of {len(expected)}"
        yield f"has other columns than {schema_name(entry.name)}: {', '.join(different) or counts}"
    listed = {entry.rows, *(file.rows for file in entry.files if file.name == name)}
    for count in listed - {footer.num_rows}:
        yield f"has {footer.num_rows} rows, in the manifest {count}"
    if not footer.num_rows:
        yield "is empty"


def _rows(found: _Findings) -> Iterator[Problem]:
    """The rows of each index: keys without NULL and unique, the order, references to other indices of the release."""
    for table in sorted(found.readable):
        name = parquet_name(table)
        try:
            with errors_for(name):
                for check in (_null_keys, _repeated_keys_or_order, _broken_references):
                    yield from (Problem(name, problem) for problem in check(found, table))
        except IndexerError as error:
            yield Problem(name, error.message.removeprefix(f"{name}: "))


def _null_keys(found: _Findings, name: str) -> Iterator[str]:
    for column in found.schemas[name].primary_key:
        null = f"SELECT count(*) FROM {quote_name(name)} WHERE {quote_name(column)} IS NULL"
        nulls = first_row(found.connection, null)
        if nulls and nulls[0]:
            yield f"{column} is part of the key and is NULL in {nulls[0]} rows"


def _repeated_keys_or_order(found: _Findings, name: str) -> Iterator[str]:
    """Where a key repeats, the order is not total, so only one of the two is reported."""
    schema = found.schemas[name]
    if keys.hold(found.connection, found.release.path / parquet_name(name), schema):
        return  # the queries below, which find what is wrong, group and sort all rows
    table, key = quote_name(name), _columns(schema.primary_key)
    repeated = f"SELECT count(*) OVER (), {key} FROM {table} GROUP BY {key} HAVING count(*) > 1 ORDER BY {key} LIMIT 1"
    if twice := first_row(found.connection, repeated):
        yield f"{twice[0]} keys are there more than once, such as {_values(twice[1:])}"
        return
    order = ", ".join(f"{quote_name(term.removesuffix(' DESC'))}{_direction(term)}" for term in schema.order)
    astray = f"""
        SELECT row + 1, {key}
        FROM (SELECT {key}, file_row_number AS row, row_number() OVER (ORDER BY {order}) - 1 AS place FROM {table})
        WHERE row <> place ORDER BY row LIMIT 1
    """
    if row := first_row(found.connection, astray):
        yield f"is not in the order {', '.join(schema.order)}: first at row {row[0]}, {_values(row[1:])}"


def _broken_references(found: _Findings, name: str) -> Iterator[str]:
    for reference in found.schemas[name].references:
        if reference.index not in found.readable:
            continue
        if missing := first_row(found.connection, _dangling(name, reference), list(reference.unless)):
            yield (
                f"{', '.join(reference.columns)} of {missing[0]} rows is not in {reference.index}, "
                f"such as {_values(missing[1:])}"
            )


def _dangling(name: str, reference: Reference) -> str:
    """SQL for how many rows refer to nothing, and the columns of one; its parameter is a list of exceptions."""
    table, other, columns = quote_name(name), quote_name(reference.index), _columns(reference.columns)
    pairs = [(quote_name(a), quote_name(b)) for a, b in zip(reference.columns, reference.to, strict=True)]
    joined = " AND ".join(f"other.{to} = referring.{column}" for column, to in pairs)
    given = " AND ".join(f"{column} IS NOT NULL" for column, _ in pairs)
    # With NOT EXISTS, DuckDB keeps the keys of `other` in memory, and not those of the smaller table.
    return f"""
        SELECT count(*) OVER (), {columns}
        FROM (FROM {table} WHERE {given} AND NOT list_contains(?, {pairs[0][0]}::VARCHAR)) AS referring
        ANTI JOIN {other} AS other ON {joined}
        ORDER BY {columns} LIMIT 1
    """


def _derived_tables(found: _Findings) -> Iterator[Problem]:
    """Derived tables and the CSV against idc_index, as far as both can be read."""
    has_idc_index = IDC_INDEX in {entry.name for entry in found.release.indices}
    for entry in found.release.derived:
        file = zip_name(entry.name) if entry.schema_sha256 is None else parquet_name(entry.name)
        if not has_idc_index:
            yield Problem(file, f"is derived from {IDC_INDEX}, which the release does not have")
        elif IDC_INDEX in found.readable:
            yield from (Problem(file, problem) for problem in _derived_problems(found, entry, file))


def _derived_problems(found: _Findings, entry: IndexEntry, file: str) -> Iterator[str]:
    if entry.name in found.readable:
        yield from derived.table_problems(found.connection, entry.name)
    elif entry.schema_sha256 is None and found.in_order(file):
        yield from derived.csv_problems(found.connection, found.release.path / file, entry.rows)


def _history(found: _Findings) -> Iterator[Problem]:
    """series_history against idc_index and prior_versions_index, as far as they can be read."""
    if SERIES_HISTORY in found.readable:
        for problem in history.problems(found.connection, found.release.idc_version, found.readable):
            yield Problem(parquet_name(SERIES_HISTORY), problem)


def _descriptions(found: _Findings) -> Iterator[Problem]:
    """SHA256SUMS against the manifest; the views and facts of idc.duckdb against the tables."""
    release = found.release
    present = {file.name for file in release.descriptions}
    if SUMS in present and found.in_order(SUMS):
        listed = [file for file in release.files if file.name not in (SUMS, REPORT)]
        if (release.path / SUMS).read_bytes() != sums(listed):
            yield Problem(SUMS, "does not hold the digests that the manifest has")
    tables = {entry.name for entry in release.entries if entry.schema_sha256 is not None}
    if DUCKDB_FILE in present and found.in_order(DUCKDB_FILE) and tables <= found.readable:
        try:
            description = describe(release, release.published_at, found.connection)
            problems = list(duckdb_file.problems(description, release.path / DUCKDB_FILE, found.connection))
        except IndexerError as error:
            problems = [error.message]
        yield from (Problem(DUCKDB_FILE, problem) for problem in problems)


CHECKS: tuple[Callable[[_Findings], Iterator[Problem]], ...] = (
    _manifest,
    _sources,
    _files,
    _schemas,
    _reference_columns,
    _footers,
    _rows,
    _derived_tables,
    _history,
    _descriptions,
)


def _columns(names: Sequence[str]) -> str:
    return ", ".join(map(quote_name, names))


def _direction(term: str) -> str:
    # GoogleSQL's default: NULLs first when ascending, last when descending
    return " DESC NULLS LAST" if term.endswith(" DESC") else " ASC NULLS FIRST"


def _values(row: Sequence[Any]) -> str:
    return ", ".join(map(str, row))
