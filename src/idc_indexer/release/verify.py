"""Verify: every promise a release makes, checked on what is on disk.

A release describes itself, so no catalog is needed: what its `_schema.json` files promise is checked
against its Parquet files, its manifest against everything, and what is made from idc_index against that.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from idc_indexer import documents, files
from idc_indexer.duckdb_session import connect, first_line, interruptible, read_parquet
from idc_indexer.errors import IndexerError, UsageError
from idc_indexer.release import derived
from idc_indexer.release.derived import IDC_INDEX
from idc_indexer.release.manifest import (
    MANIFEST,
    IndexEntry,
    Release,
    check_version,
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


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and the file it is wrong in."""

    file: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}: {self.message}"


def verify(path: Path) -> list[Problem]:
    """Check a release.

    Checked are: the manifest against the files, their sizes and digests, files that nobody lists, sidecars,
    JSON Schemas, the embedded version, Arrow schemas, row counts, keys (unique, without NULL), order,
    references between the indices that are in the release, and whether its derived tables hold the rows of its
    idc_index. Whether the GDC has the cases of gdc_idc_mapping is not asked.

    Returns:
        Every problem found; empty when the release is whole.

    Raises:
        IndexerError: when there is no release at all.
    """
    release = Release.open(path)
    problems = [*_manifest(release), *_files(release)]
    damaged = {problem.file for problem in problems}
    tables = [entry for entry in release.entries if entry.schema_sha256 is not None]
    schemas = {}
    for entry in tables:
        if not damaged & {schema_name(entry.name), parquet_name(entry.name)}:
            try:
                document = documents.load(path / schema_name(entry.name), "artifact")
            except IndexerError as error:
                problems.append(Problem(schema_name(entry.name), error.message))
                continue
            schema = Schema.from_document(document)
            if problem := schema.problem():
                problems.append(Problem(schema_name(entry.name), problem))
            else:
                schemas[entry.name] = schema
    problems += _references(schemas)
    with interruptible(), connect() as connection:
        readable = {}
        for entry in tables:
            if entry.name in schemas:
                found = list(_parquet(release, entry, schemas[entry.name]))
                problems += found
                if not found:
                    readable[entry.name] = schemas[entry.name]
        for name in readable:
            rows = read_parquet([str(path / parquet_name(name))], ", file_row_number=true")
            connection.execute(f'CREATE VIEW "{name}" AS FROM {rows}')
        for name, schema in readable.items():
            try:
                problems += [Problem(parquet_name(name), said) for said in _rows(connection, name, schema, readable)]
            except duckdb.Error as error:
                problems.append(Problem(parquet_name(name), f"cannot be read: {first_line(error)}"))
        problems += _derived_tables(connection, release, readable.keys(), damaged)
    return problems


def open_valid(path: Path) -> Release:
    """The release at a path, verified.

    Raises:
        IndexerError: when there is no release, or a problem with it.
    """
    if problems := verify(path):
        raise IndexerError(
            f"{path}: {len(problems)} problems, the first in {problems[0].file}: {problems[0].message}",
            f"`idc-indexer verify {path}` shows all; only whole releases leave this machine.",
        )
    return Release.open(path)


def _references(schemas: dict[str, Schema]) -> Iterator[Problem]:
    """References to columns that the other index does not have; they are taken out, because nothing can obey them."""
    for name, schema in schemas.items():
        for reference in schema.references:
            other = schemas.get(reference.index)
            if other and not {column.name for column in other.columns}.issuperset(reference.to):
                wrong = f"refers to {', '.join(reference.to)} of {reference.index}, which has no such columns"
                yield Problem(schema_name(name), wrong)
                schemas[name] = replace(schema, references=tuple(r for r in schema.references if r != reference))


def _manifest(release: Release) -> Iterator[Problem]:
    """The manifest against itself."""
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


def _files(release: Release) -> Iterator[Problem]:
    """The manifest against the folder."""
    listed = {MANIFEST}
    for entry in release.entries:
        digests = {file.name: file.sha256 for file in entry.files}
        if entry.promised != digests.keys():
            yield Problem(MANIFEST, f"index {entry.name} lists {sorted(digests)}")
            continue
        if entry.query_sha256 != digests.get(sql_name(entry.name)):
            yield Problem(MANIFEST, f"the query of {entry.name} has two digests")
        if entry.schema_sha256 != digests.get(schema_name(entry.name)):
            yield Problem(MANIFEST, f"the schema of {entry.name} has two digests")
    for file in release.files:
        listed.add(file.name)
        path = release.path / file.name
        if not path.is_file():
            yield Problem(file.name, "is missing")
        elif path.stat().st_size != file.bytes:
            yield Problem(file.name, f"has {path.stat().st_size} bytes, in the manifest {file.bytes}")
        elif (digest := files.sha256(path)) != file.sha256:
            yield Problem(file.name, f"has SHA-256 {digest}, in the manifest {file.sha256}")
        if file.name.endswith(".parquet"):
            beside = release.path / sidecar_name(file.name)
            if beside.is_file() and beside.read_bytes() != sidecar(file.sha256, file.name):
                yield Problem(beside.name, "does not hold the digest that the manifest has")
    for path in sorted(release.path.iterdir()):
        if path.name not in listed:
            yield Problem(path.name, "is not in the manifest")


def _parquet(release: Release, entry: IndexEntry, schema: Schema) -> Iterator[Problem]:
    """What the footer of a Parquet file says."""
    name = parquet_name(entry.name)
    try:
        footer = pq.read_metadata(release.path / name)
    except (pa.ArrowException, OSError) as error:
        yield Problem(name, f"is not Parquet: {first_line(error)}")
        return
    version = (footer.metadata or {}).get(VERSION_KEY, b"").decode(errors="replace")
    if version != release.release_version:
        yield Problem(name, f"carries version {version!r}, the release is {release.release_version}")
    present, promised = footer.schema.to_arrow_schema(), file_schema(schema.columns)
    if not present.equals(promised):
        different = [f"{a} instead of {b}" for a, b in zip(present, promised, strict=False) if not a.equals(b)]
        counts = f"{len(present)} columns instead of {len(promised)}"
        yield Problem(name, f"has other columns than {schema_name(entry.name)}: {', '.join(different) or counts}")
    listed = {entry.rows, *(file.rows for file in entry.files if file.name == name)}
    for count in listed - {footer.num_rows}:
        yield Problem(name, f"has {footer.num_rows} rows, in the manifest {count}")
    if not footer.num_rows:
        yield Problem(name, "is empty")


def _rows(connection: duckdb.DuckDBPyConnection, name: str, schema: Schema, others: dict[str, Schema]) -> Iterator[str]:
    """What the rows of an index must obey."""

    def first(sql: str, *parameters: Any) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = connection.execute(sql, parameters).fetchone()
        return row

    key = _columns(schema.primary_key)
    for column in schema.primary_key:
        nulls = first(f'SELECT count(*) FROM "{name}" WHERE "{column}" IS NULL')
        if nulls and nulls[0]:
            yield f"{column} is part of the key and is NULL in {nulls[0]} rows"
    twice = first(
        f"""SELECT count(*) OVER (), {key} FROM "{name}" GROUP BY {key} HAVING count(*) > 1 ORDER BY {key} LIMIT 1"""
    )
    if twice:
        yield f"{twice[0]} keys are there more than once, such as {_values(twice[1:])}"
    order = ", ".join(f'"{term.removesuffix(" DESC")}"{_direction(term)}' for term in schema.order)
    astray = first(f"""
        SELECT row + 1, {key}
        FROM (
            SELECT {key}, file_row_number AS row, row_number() OVER (ORDER BY {order}) - 1 AS place FROM "{name}"
        )
        WHERE row <> place ORDER BY row LIMIT 1
    """)
    if astray and not twice:
        yield f"is not in the order {', '.join(schema.order)}: first at row {astray[0]}, {_values(astray[1:])}"
    for reference in schema.references:
        if reference.index in others:
            missing = first(_dangling(name, reference), list(reference.unless))
            if missing:
                yield (
                    f"{', '.join(reference.columns)} of {missing[0]} rows is not in {reference.index}, "
                    f"such as {_values(missing[1:])}"
                )


def _dangling(name: str, reference: Reference) -> str:
    """SQL for how many rows refer to nothing, and the columns of one; its parameter is a list of exceptions."""
    columns = _columns(reference.columns)
    pairs = zip(reference.columns, reference.to, strict=True)
    joined = " AND ".join(f'"{reference.index}"."{to}" = "{name}"."{column}"' for column, to in pairs)
    given = " AND ".join(f'"{column}" IS NOT NULL' for column in reference.columns)
    return f"""
        SELECT count(*) OVER (), {columns} FROM "{name}"
        WHERE {given} AND NOT list_contains(?, "{reference.columns[0]}"::VARCHAR)
            AND NOT EXISTS (SELECT 1 FROM "{reference.index}" WHERE {joined})
        ORDER BY {columns} LIMIT 1
    """


def _derived_tables(
    connection: duckdb.DuckDBPyConnection, release: Release, readable: Collection[str], damaged: Collection[str]
) -> Iterator[Problem]:
    """What is made from idc_index against it, as far as both can be read."""
    made_from = IDC_INDEX in {entry.name for entry in release.indices}
    for entry in release.derived:
        table = entry.schema_sha256 is not None
        file = parquet_name(entry.name) if table else zip_name(entry.name)
        messages: Iterable[str] = ()
        if not made_from:
            messages = [f"is made from {IDC_INDEX}, which the release does not have"]
        elif IDC_INDEX in readable and entry.name in readable:
            messages = derived.table_problems(connection, entry.name)
        elif IDC_INDEX in readable and not table and file not in damaged:
            messages = derived.csv_problems(connection, release.path / file, entry.rows)
        for message in messages:
            yield Problem(file, message)


def _columns(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _direction(term: str) -> str:
    # GoogleSQL's default: NULLs first when ascending, last when descending
    return " DESC NULLS LAST" if term.endswith(" DESC") else " ASC NULLS FIRST"


def _values(row: Sequence[Any]) -> str:
    return ", ".join(map(str, row))
