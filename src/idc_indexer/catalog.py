"""The catalog of all indices.

An index is two files: `queries/<name>.sql` and `schemas/<name>.json`. If older releases have the same facts under
other names, `queries/<name>.until_vNN.sql` is the query for releases up to NN.

A derived table has a schema, `schemas/derived/<name>.json`, but no query: `idc_indexer.release.derived` makes it from
idc_index of the same release.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from idc_indexer import documents
from idc_indexer.errors import IndexerError, UsageError
from idc_indexer.schema.column import in_release
from idc_indexer.schema.source_tables import SourceTables
from idc_indexer.schema.table import Schema
from idc_indexer.sql import Statement, analyze, pin

_QUERY_FILE = re.compile(r"(?P<name>[a-z][a-z0-9_]*?)(?:\.until_v(?P<until>[1-9][0-9]*))?\.sql")


@dataclass(frozen=True)
class Query:
    """A query file and the last IDC release that it is for; None if it is for the newest."""

    path: Path
    until: int | None


@dataclass(frozen=True)
class Index:
    """An index: its schema and its queries."""

    name: str
    path: Path
    schema: Schema
    queries: tuple[Query, ...]
    declared: Mapping[str, Any]

    def for_release(self, release: int) -> PinnedIndex:
        """The schema and the pinned query for one IDC release; 0 means the newest, with the query as it is in its file.

        Raises:
            IndexerError: the query is not one GoogleSQL SELECT, reads a table or column that the release does not
                have, or returns other columns than the schema has; the message names the query file.
        """
        query = next(q for q in self.queries if q.until is None or 0 < release <= q.until)
        query_file = query.path.name
        try:
            text = query.path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise IndexerError(f"{query.path}: cannot be read: {error}", "A query file is text in UTF-8.") from error
        columns = in_release(self.schema.columns, release)
        schema = Schema(**{**vars(self.schema), "columns": columns})
        try:
            statement = _analyzed(text, release, json.dumps(self.declared), query_file)
        except IndexerError as error:
            if release:
                raise IndexerError(
                    f"{self.name} cannot be built for IDC release {release}: {error.message}", error.hint
                ) from error
            raise
        _check_columns(statement, schema, query_file)
        return PinnedIndex(self.name, release, schema, statement, query_file)


@dataclass(frozen=True)
class DerivedTable:
    """A table that the toolkit makes from idc_index of the same release."""

    name: str
    schema: Schema


@dataclass(frozen=True)
class PinnedIndex:
    """An index for one IDC release.

    Attributes:
        query_file: the name of the query file, for messages.
    """

    name: str
    release: int
    schema: Schema
    statement: Statement
    query_file: str


@lru_cache(64)
def _analyzed(text: str, release: int, declared: str, context: str) -> Statement:
    """The pinned statement. A process that builds a release several times analyses each query once.

    Args:
        declared: JSON of the columns that the schema document declares.
    """
    return analyze(pin(text, release, context), SourceTables((json.loads(declared),)), context)


def _check_columns(statement: Statement, schema: Schema, context: str) -> None:
    """Check that a query returns the columns of the schema, in its order."""
    returned = [name for name, _ in statement.returns]
    expected = [column.name for column in schema.columns]
    if returned != expected:
        pairs = enumerate(zip(returned, expected, strict=False), start=1)
        different = next(
            (f"column {number} is {a}, in the schema {b}" for number, (a, b) in pairs if a != b),
            f"{len(returned)} columns, in the schema {len(expected)}",
        )
        raise IndexerError(f"{context}: returns other columns than the schema has: {different}")
    for (name, kind), column in zip(statement.returns, schema.columns, strict=True):
        if kind not in ("UNKNOWN", column.googlesql):
            raise IndexerError(f"{context}: column {name} is {kind}, in the schema {column.googlesql}")
    if statement.order != schema.order:
        raise IndexerError(
            f"{context}: ends with ORDER BY {', '.join(statement.order) or 'nothing'}, "
            f"in the schema the order is {', '.join(schema.order)}"
        )


class Catalog:
    """All indices, of the toolkit and of the user's folders, and the derived tables, by name."""

    def __init__(self, queries: Sequence[Path] = (), schemas: Sequence[Path] = ()) -> None:
        """Find the indices.

        Args:
            queries, schemas: the user's folders. A file in them replaces a bundled file of the same name; `replaced`
                has the names of those indices.

        Raises:
            IndexerError: a query has no schema, a schema has no query, or a file is malformed.
        """
        schema_files: dict[str, Path] = {}
        query_files: dict[str, list[Query]] = {}
        self.replaced: set[str] = set()
        for folder in (documents.bundled("schemas"), *schemas):
            of_folder = {p.stem: p for p in _files(folder, "*.json")}
            self.replaced |= schema_files.keys() & of_folder.keys()
            schema_files |= of_folder
        for folder in (documents.bundled("queries"), *queries):
            found: dict[str, list[Query]] = {}
            for path in _files(folder, "*.sql"):
                match = _QUERY_FILE.fullmatch(path.name)
                if match is None:
                    raise IndexerError(f"{path}: a query file is named <index>.sql or <index>.until_vNN.sql")
                until = int(match["until"]) if match["until"] else None
                found.setdefault(match["name"], []).append(Query(path, until))
            self.replaced |= query_files.keys() & found.keys()
            query_files |= found
        for name in sorted(query_files.keys() ^ schema_files.keys()):
            present, missing = ("a query", "schema") if name in query_files else ("a schema", "query")
            raise IndexerError(f"index {name} has {present} and no {missing}", "Give both --queries and --schemas.")
        paths = _files(documents.bundled("schemas") / "derived", "*.json")
        self.derived = {p.stem: DerivedTable(p.stem, Schema.from_document(documents.load(p, "index"))) for p in paths}
        if taken := sorted(query_files.keys() & self.derived.keys()):
            raise IndexerError(f"index {taken[0]} has the name of a table that is made from idc_index", "Rename it.")
        self.indices = {name: _index(name, schema_files[name], query_files[name]) for name in sorted(schema_files)}

    @property
    def schemas(self) -> dict[str, Schema]:
        """The schemas of all indices, then of the derived tables, by name."""
        indices = {name: index.schema for name, index in self.indices.items()}
        return indices | {name: table.schema for name, table in self.derived.items()}

    def select(self, names: Iterable[str] = ()) -> list[Index]:
        """The indices with those names, in the order of the catalog; without names, all of them.

        Raises:
            UsageError: there is no index of that name.
        """
        wanted = set(names)
        unknown = sorted(wanted - self.indices.keys())
        if unknown:
            raise UsageError(
                f"no index is called {', '.join(unknown)}",
                f"There are: {', '.join((*self.indices, *self.derived))}.",
            )
        return [index for name, index in self.indices.items() if not wanted or name in wanted]


def _files(folder: Path, pattern: str) -> list[Path]:
    if not folder.is_dir():
        raise UsageError(f"{folder}: not a folder")
    return sorted(folder.glob(pattern))


def _index(name: str, path: Path, queries: list[Query]) -> Index:
    document = documents.load(path, "index")
    declared = document.pop("sources", {})
    documents.validate(declared, "source_tables", f"{path}: sources")
    schema = Schema.from_document(document)
    if problem := schema.problem():
        raise IndexerError(f"{path}: {problem}")
    if all(query.until is not None for query in queries):
        raise IndexerError(f"index {name} has no query for the newest release", f"Add {name}.sql.")
    queries.sort(key=lambda query: (query.until is None, query.until))
    return Index(name, path, schema, tuple(queries), declared)
