"""The keyless engine: DuckDB over a Parquet export."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from rich.filesize import decimal

from idc_indexer.catalog import PinnedIndex
from idc_indexer.duckdb_session import connect, mistrust_statistics, quote_name, read_parquet
from idc_indexer.engines import QueryEstimate, TableFetch, row_counts
from idc_indexer.engines.history import VERSION_ID, History, create_prior_rows, describe
from idc_indexer.engines.local import BATCH_ROWS, batches, explaining, wait_for
from idc_indexer.engines.prior_extracts import PriorExtracts, ReleaseExtract, planned_disk
from idc_indexer.exports import Export, StagedExport, StagingPlan
from idc_indexer.progress import NullListener, ProgressListener
from idc_indexer.schema.source_tables import SourceTable
from idc_indexer.sql import Leaf, Translation, to_duckdb


@dataclass(frozen=True)
class _Query:
    """The query of an index for DuckDB, which reads the rows of prior releases from one table.

    Attributes:
        leaves: of the release that is built.
        extracts: of the prior releases that the history does not have.
        history: None if the index takes nothing from one.
    """

    translation: Translation
    leaves: list[Leaf]
    extracts: list[ReleaseExtract]
    history: History | None

    @property
    def tables(self) -> set[SourceTable]:
        """All tables that are read."""
        return {leaf.table for leaf in self.leaves}.union(*(one.tables for one in self.extracts))


@dataclass(frozen=True)
class _SharedRows:
    """The rows of a condition that several indices read of a source table: found once, and stored until the last.

    To find a few rows, DuckDB decodes all pages of nested columns. Of 58.8 million instances, sm_index and
    sm_instance_index take 39 s of processor with shared rows, which have 329 MB, and 60 s without.

    Attributes:
        readers: the indices, in the order in which they are built.
    """

    table: str
    condition: str
    readers: Sequence[str]

    @property
    def name(self) -> str:
        """The DuckDB table that has them. All cursors see it; what does not fit in memory goes to a temporary file."""
        return f"{self.table} WHERE {self.condition}"


class DuckDBEngine:
    """Runs queries over an export; the export's cache stores extracts of prior releases."""

    def __init__(
        self,
        export: Export,
        temporary: Path,
        threads: int | None = None,
        memory_limit: str | None = None,
        listener: ProgressListener | None = None,
        allow_row_count_mismatch: bool = False,
        unproven: bool = False,
    ) -> None:
        """Args:
        temporary: folder for rows that do not fit in memory; the caller removes it.
        listener: told how staging goes.
        allow_row_count_mismatch: accept tables with one row per instance whose numbers of rows differ.
        unproven: translate also what no test has compared with GoogleSQL.
        """
        self._unproven = unproven
        self._export = export
        self._listener = listener or NullListener()
        self._allowed = allow_row_count_mismatch
        self._connection = connect(threads, memory_limit, temporary)

    def plan(self, indices: Sequence[PinnedIndex], history: History | None = None) -> DuckDBPlan:
        """Check the export for all that the indices read, and print what staging will take."""
        tables = {leaf.table for index in indices for leaf in index.statement.leaves}
        if history:  # has some of the prior releases, which are not read
            tables = {table for table in tables if table.release in {index.release for index in indices}}
        queries = {}
        with self._export.listed_ahead(tables):  # while the queries are translated
            for index in indices:
                queries[index.name] = _query(index, history, self._unproven)
                for problem in queries[index.name].translation.unproven:
                    self._listener.message(f"{index.query_file}: {problem}: its rows may differ from those of BigQuery")
        extracts = PriorExtracts(self._export)
        missing = [one for one in _extracts(queries.values()) if not extracts.has(one)]
        leaves = [leaf for query in queries.values() for leaf in query.leaves]
        checked = self._export.plan([*leaves, *(leaf for one in missing for leaf in one.leaves)])
        current = checked.of({leaf.table for leaf in leaves})
        of_prior: dict[int, set[SourceTable]] = {}
        for one in missing:
            of_prior.setdefault(one.release, set()).update(one.tables)
        prior = {release: checked.of(of_release) for release, of_release in of_prior.items()}
        unread = self._export.count_rows(
            table for table in row_counts.instance_tables(current.tables) if table not in current.tables
        )
        plan = DuckDBPlan(
            self._export, self._connection, self._listener, queries, current, prior, extracts, unread, self._allowed
        )
        plan.check_rows({table: found.facts.rows for table, found in current.in_place.items()})
        self._announce(current, prior)
        return plan

    def _announce(self, current: StagingPlan, prior: Mapping[int, StagingPlan]) -> None:
        """Print what staging will take, and check that there is room."""
        total, disk = planned_disk([current, *prior.values()])
        if not total.fetch:
            return
        room = current.check_room(disk)
        releases = sum(plan.estimate.shards > 0 for plan in prior.values())
        also = f", including {releases} prior releases" if releases else ""
        self._listener.message(
            f"to stage: about {decimal(total.fetch)} of {total.shards:,} shards ({total.requests:,} requests){also}; "
            f"about {decimal(disk)} on disk, where {room}"
        )


@dataclass(frozen=True)
class DuckDBPlan:
    """Indices that can be built from an export.

    Attributes:
        unread: rows of tables that no index reads, to compare with those of tables that are read.
    """

    export: Export
    connection: duckdb.DuckDBPyConnection
    listener: ProgressListener
    queries: Mapping[str, _Query]
    current: StagingPlan
    prior: dict[int, StagingPlan]
    extracts: PriorExtracts
    unread: Mapping[SourceTable, int]
    allow_row_count_mismatch: bool
    estimates: Mapping[str, QueryEstimate] = field(default_factory=dict)

    @property
    def fetches(self) -> Mapping[str, TableFetch]:
        """What will be staged, by source table. Nothing of a table that is staged, or read where it lies."""
        found = {}
        for plan in (self.current, *self.prior.values()):
            for table in plan.tables:
                one = plan.of([table]).estimate
                found[str(table)] = TableFetch(one.shards, one.fetch, one.disk)
        return dict(sorted(found.items()))

    def fingerprint(self, index: PinnedIndex) -> str:
        """A digest of the shards, and the history, that an index reads."""
        query = self.queries[index.name]
        return self.export.fingerprint(query.tables) + (query.history.sha256 if query.history else "")

    @contextmanager
    def running(self, indices: Sequence[PinnedIndex]) -> Iterator[DuckDBRun]:
        """Stage, and make the extracts of prior releases that are not cached."""
        extracts = _extracts(self.queries[index.name] for index in indices)
        _, most_disk = planned_disk([self.current, *self.prior.values()])
        with (
            self.extracts.made(extracts, self.prior, most_disk, self.listener, self._extract),
            self.current.stage(self.listener) as staged,
        ):
            mismatches = self.check_rows({table: staged.facts(table).rows for table in self.current.tables})
            row_counts.warn(mismatches, self.listener)
            # one query at a time uses the entire machine
            yield DuckDBRun(self, staged, mismatches, [index.name for index in indices])

    def check_rows(self, rows: Mapping[SourceTable, int]) -> list[row_counts.RowCountMismatch]:
        """Compare the tables with one row per instance.

        Raises:
            IndexerError: their numbers of rows differ in a folder, and that is not allowed.
        """
        found = row_counts.mismatches({**rows, **self.unread})
        if self.export.location.folder and not self.allow_row_count_mismatch:
            row_counts.refuse(found, self.export.uri)
        return found

    def _extract(self, one: ReleaseExtract, staged: StagedExport, path: Path) -> None:
        """Write the extract of a prior release."""
        with (
            explaining(one.index, lambda: staged.damaged(one.tables)),
            self.connection.cursor() as cursor,
            ThreadPoolExecutor(1) as pool,
        ):
            _create_views(cursor, _tables(staged, one.leaves))
            wait_for(cursor, pool.submit(_write, cursor, one.sql, path))


@dataclass(frozen=True)
class DuckDBRun:
    """Queries over staged tables.

    Attributes:
        indices: those to build, in this order.
    """

    plan: DuckDBPlan
    staged: StagedExport
    mismatches: list[row_counts.RowCountMismatch]
    indices: Sequence[str]

    def describe(self) -> dict[str, Any]:
        """`engine`, `source` and `history` of the manifest."""
        tables = {}
        # Without prior releases, which only the first build reads: a later build must write the same manifest.
        for table in sorted({leaf.table for query in self.plan.queries.values() for leaf in query.leaves}):
            facts = asdict(self.staged.facts(table))
            tables[str(table)] = {**facts, "left_out": list(facts["left_out"])}
        unproven = {
            name: list(found) for name, query in self.plan.queries.items() if (found := query.translation.unproven)
        }
        return {
            "engine": {
                "name": "duckdb",
                "version": duckdb.__version__,
                **({"unproven": unproven} if unproven else {}),
            },
            "source": {
                **self.plan.export.describe(),
                "tables": tables,
                **row_counts.document(self.mismatches, self.plan.allow_row_count_mismatch),
            },
            **describe(query.history for query in self.plan.queries.values()),
        }

    @contextmanager
    def rows(self, index: PinnedIndex) -> Iterator[Iterator[pa.RecordBatch]]:
        """Run the query of an index."""
        query = self.plan.queries[index.name]
        leaves = index.statement.leaves
        with (
            explaining(index.name, lambda: self.staged.damaged({leaf.table for leaf in leaves})),
            self.plan.connection.cursor() as cursor,
        ):
            mistrust_statistics(cursor, any(leaf.fields[-1].type == "FLOAT" for leaf in leaves))
            tables = _tables(self.staged, query.leaves)
            shared = self._shared(index.name)
            for rows in shared:
                self._store(cursor, rows, anew=index.name == rows.readers[0])
                tables[rows.table] = f"FROM {quote_name(rows.name)}"
            _create_views(cursor, tables)
            self._prior_rows(cursor, query)
            again = f"{index.name}: out of memory with several threads; starting again with one"
            translation = query.translation
            yield batches(
                cursor,
                translation.statements,
                lambda: self.plan.listener.message(again),
                translation.large_groups,
            )
            for rows in shared:
                if index.name == rows.readers[-1]:
                    cursor.execute(f"DROP TABLE {quote_name(rows.name)}")

    def _shared(self, index: str) -> list[_SharedRows]:
        """The rows that an index and others of this run read."""
        of_each = {name: query.translation.restrictions for name, query in self.plan.queries.items()}
        found = [
            _SharedRows(table, condition, [name for name in self.indices if of_each[name].get(table) == condition])
            for table, condition in of_each[index].items()
        ]
        return [rows for rows in found if len(rows.readers) > 1]

    def _store(self, cursor: duckdb.DuckDBPyConnection, rows: _SharedRows, anew: bool) -> None:
        """Store rows that several indices read, with the columns of all of them, unless they are stored already.

        Args:
            anew: replace rows that are stored: an earlier run of this connection, which failed, may have left them.
        """
        leaves = [leaf for name in rows.readers for leaf in self.plan.queries[name].leaves]
        create = "CREATE OR REPLACE TABLE" if anew else "CREATE TABLE IF NOT EXISTS"
        selected = _tables(self.staged, leaves)[rows.table]
        sql = f"{create} {quote_name(rows.name)} AS FROM ({selected}) WHERE {rows.condition}"
        with ThreadPoolExecutor(1) as pool:
            wait_for(cursor, pool.submit(cursor.execute, sql))

    def _prior_rows(self, cursor: duckdb.DuckDBPyConnection, query: _Query) -> None:
        """Create the view of what the query reads of prior releases, if it does."""
        if query.history:
            for table in sorted({str(leaf.table) for leaf in query.leaves if leaf.path == VERSION_ID}):
                query.history.refuse_others(cursor, table)
        paths = [str(self.plan.extracts.path(one)) for one in query.extracts]
        if paths or query.history:
            create_prior_rows(cursor, query.history, [read_parquet(paths)] if paths else [])


def _tables(staged: StagedExport, leaves: Sequence[Leaf]) -> dict[str, str]:
    """SQL of each source table, by name: the columns that are read."""
    columns: dict[SourceTable, dict[str, None]] = {}
    for leaf in leaves:
        columns.setdefault(leaf.table, {})[quote_name(leaf.fields[0].name)] = None
    return {
        str(table): f"SELECT {', '.join(names)} FROM {read_parquet(staged.paths(table))}"
        for table, names in columns.items()
    }


def _create_views(cursor: duckdb.DuckDBPyConnection, tables: Mapping[str, str]) -> None:
    """Create a view of each table.

    Args:
        tables: their SQL, by name.
    """
    for name, sql in tables.items():
        cursor.execute(f"CREATE OR REPLACE TEMP VIEW {quote_name(name)} AS {sql}")


def _write(cursor: duckdb.DuckDBPyConnection, sql: str, path: Path) -> None:
    """Write the rows of a query; DuckDB's COPY would lock the file, for which some file systems have no locks."""
    reader = cursor.sql(sql).to_arrow_reader(BATCH_ROWS)
    with pq.ParquetWriter(path, reader.schema, compression="zstd") as writer:
        for batch in reader:
            writer.write_batch(batch)


def _query(index: PinnedIndex, history: History | None, unproven: bool) -> _Query:
    translation = to_duckdb(index.statement, index.query_file, unproven)
    known = history.known(translation.prior_extracts) if history else 0
    of_release: dict[int, list[Leaf]] = {}
    for leaf in index.statement.leaves:
        of_release.setdefault(leaf.table.release, []).append(leaf)
    extracts = [
        ReleaseExtract(index.name, one.release, one.sql, of_release.pop(one.release))
        for one in translation.prior_extracts
    ]
    leaves = [leaf for leaves in of_release.values() for leaf in leaves]
    known_history = history if known else None
    return _Query(translation, leaves, extracts[known:], known_history)


def _extracts(queries: Iterable[_Query]) -> list[ReleaseExtract]:
    """The extracts of several queries, each once."""
    return list({(one.release, one.sql): one for query in queries for one in query.extracts}.values())
