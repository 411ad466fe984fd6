"""A Parquet export of IDC's tables: what it holds, and the plan to read it.

The export is checked before anything of it is used. Tables that lie on this machine and have few columns are read in
place; all others are staged.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from idc_indexer import documents
from idc_indexer.cache import Cache
from idc_indexer.errors import IndexerError
from idc_indexer.exports.limits import StagingLimits
from idc_indexer.exports.listing import BATCH_WINDOW, STAGE_FIRST, Listing, folder_of
from idc_indexer.exports.location import Location, ObjectMeta, open_location
from idc_indexer.exports.plan import ExportTableFacts, StagingPlan, TableInPlace, remove_unused
from idc_indexer.exports.pruning.footer import check_names, leaf_paths, parse, read_footer
from idc_indexer.exports.retry import ATTEMPTS, Retrier
from idc_indexer.exports.shard_schemas import compare, leaf_types
from idc_indexer.exports.staging import TableStaging
from idc_indexer.schema.arrow import mismatch
from idc_indexer.schema.column import Column
from idc_indexer.schema.source_tables import SourceTable
from idc_indexer.sql import Leaf

SAMPLE = "sample"
NARROW = 500
"""A table in a folder that has at most this many leaf columns is read in place. Processor seconds of a build from 16
shards of 9,000 rows, in place and staged: of all indices of one release, with 2,008 leaf columns 9.2 and 4.7, with 600
6.5 and 4.0, with 300 6.3 and 4.0; of one index 1.6 and 1.5, 1.1 and 1.1, 1.2 and 1.1. Staging larger shards copies
gigabytes, which is not worth it for a narrow table."""


class Export(Listing):
    """An export, in a folder or a bucket."""

    def __init__(
        self,
        location: Location,
        cache: Cache,
        left_out: frozenset[str] = frozenset(),
        batch_window: timedelta = BATCH_WINDOW,
        offline: bool = False,
    ) -> None:
        super().__init__(location, cache, left_out, batch_window, offline and location.folder is None)
        self._limits = StagingLimits()

    @property
    def uri(self) -> str:
        """The address of the export, for messages."""
        return self.location.uri

    def describe(self) -> dict[str, str]:
        """What the manifest says of the source: the address of a public bucket, but no other address."""
        if self.location.folder:
            return {"kind": SAMPLE if self.uri == SAMPLE else "folder"}
        return {"kind": self.location.scheme, **({"uri": self.uri} if self.location.anonymous else {})}

    def plan(self, leaves: Iterable[Leaf]) -> StagingPlan:
        """Check that the export has all these leaf columns, as far as that can be known before staging.

        Of a table that is staged, this reads one footer; of one that is read in place, all.

        Raises:
            IndexerError: with a line for each table that is missing or empty, shard that is damaged or
                of another schema, and column that is missing or of another type.
        """
        wanted = _by_table(leaves)

        def check(table: SourceTable) -> tuple[TableInPlace | TableStaging | None, list[str], str]:
            try:
                return (*self._plan_table(table, wanted[table]), "")
            except IndexerError as error:
                return None, [error.message], error.hint

        found = self.location.retrier.each(check, sorted(wanted))
        if problems := [problem for _, of_table, _ in found for problem in of_table]:
            raise IndexerError("\n".join(problems), "\n".join(dict.fromkeys(hint for *_, hint in found if hint)))
        tables = {table: each for table, (each, *_) in zip(sorted(wanted), found, strict=True)}
        in_place = {table: each for table, each in tables.items() if isinstance(each, TableInPlace)}
        stagings = {table: each for table, each in tables.items() if isinstance(each, TableStaging)}
        estimates = {table: staging.estimate() for table, staging in stagings.items()}
        return StagingPlan(self.location, self.cache.root, in_place, stagings, self._facts, estimates, self.offline)

    def _plan_table(self, table: SourceTable, leaves: list[Leaf]) -> tuple[TableInPlace | TableStaging, list[str]]:
        """How a table will be read, and what is wrong with its columns."""
        shards = self.shards(table)
        if self.location.folder:
            schema = self._footer(shards[0]).schema.to_arrow_schema()
            if len(leaf_paths(schema)) <= NARROW:
                return self._in_place(table, leaves), self._columns(schema, table, leaves)
            self.save_listing(table)
        staging = self._staging(table, leaves)
        if self.offline and (missing := staging.missing()):
            raise IndexerError(
                f"{self.uri}: {len(missing)} of {len(shards)} shards of {table} are not staged with all columns",
                STAGE_FIRST,
            )
        return staging, self._columns(staging.schema(), table, leaves)

    def _staging(self, table: SourceTable, leaves: Iterable[Leaf]) -> TableStaging:
        paths = (leaf.path.lower() for leaf in leaves)
        return TableStaging(self.location, table, self.shards(table), self.cached(table), paths, self._limits)

    def _in_place(self, table: SourceTable, leaves: Iterable[Leaf]) -> TableInPlace:
        """A table that is read in place, after a check of the footers of all its shards."""
        shards, folder = self.shards(table), self.location.folder
        assert folder
        footers = self.location.retrier.each(self._footer, shards)
        # DuckDB reads top-level columns: all leaves of those are needed.
        columns = {leaf.fields[0].name.lower() for leaf in leaves}
        pairs = zip(shards, footers, strict=True)
        odd = {one.name: _types(footer) for one, footer in pairs if not footer.schema.equals(footers[0].schema)}
        first = _types(footers[0])
        needed = {path for types in (first, *odd.values()) for path in types if path.partition(".")[0] in columns}
        warning = compare(f"{self.uri}: {table}", (shards[0].name, first), odd, needed) if odd else ""
        paths = tuple((folder / shard.key).as_posix() for shard in shards)
        return TableInPlace(paths, self._facts(table, sum(footer.num_rows for footer in footers)), warning)

    def count_rows(self, tables: Iterable[SourceTable]) -> dict[SourceTable, int]:
        """Rows of tables in a folder, from the footers; without tables that the folder does not have.

        In a bucket, where each footer is a request, no table is counted.
        """
        rows: dict[SourceTable, int] = {}
        for table in tables if self.location.folder else ():
            with suppress(IndexerError):
                rows[table] = sum(
                    footer.num_rows for footer in self.location.retrier.each(self._footer, self.shards(table))
                )
        return rows

    def _footer(self, shard: ObjectMeta) -> pq.FileMetaData:
        name = f"{self.uri}/{shard.key}"
        metadata = parse(name, read_footer(partial(self.location.read, shard), name, shard.bytes).encoded)
        check_names(name, metadata)
        return metadata

    def _facts(self, table: SourceTable, rows: int) -> ExportTableFacts:
        if not rows:
            raise IndexerError(f"{self.uri}: table {table} is empty")
        shards = self.shards(table)
        left_out = tuple(sorted(name for name in self.left_out if name.startswith(f"{folder_of(table)}/")))
        return ExportTableFacts(rows, len(shards), sum(shard.bytes for shard in shards), left_out)

    def _columns(self, schema: pa.Schema, table: SourceTable, leaves: list[Leaf]) -> list[str]:
        """A line for each needed column that the table lacks, or that has another type than BigQuery's."""
        present = {column.name.lower(): column.type for column in schema}
        problems: dict[str, None] = {}
        for leaf in leaves:
            name = leaf.fields[0].name
            if name.lower() not in present:
                problems[f"{self.uri}: {table} has no column {name}"] = None
            elif problem := mismatch(present[name.lower()], _top_level(leaf.fields)):
                problems[f"{self.uri}: {table}: column {name} {problem}"] = None
        return list(problems)

    def discard(self, leaves: Iterable[Leaf]) -> None:
        """Remove the pruned shards of these tables that hold no other leaf columns, unless a process uses them."""
        for table, of_table in _by_table(leaves).items():
            if self.cached(table).files:
                staging = self._staging(table, of_table)
                remove_unused(staging.folder, staging.covered)


def open_export(
    source: str,
    left_out: Sequence[str] = (),
    batch_window: timedelta = BATCH_WINDOW,
    cache_dir: Path | None = None,
    offline: bool = False,
) -> Export:
    """The export that `--source` names. This makes no request.

    Args:
        source: `sample`, a folder, `s3://bucket/prefix` or `gs://bucket/prefix`.
        cache_dir: folder for staged shards; the user's cache folder when None.

    Raises:
        UsageError: `source` is none of these.
    """
    cache = Cache.at(cache_dir)
    retrier = Retrier(ATTEMPTS if "://" in source else 1)
    location = open_location(str(documents.bundled(SAMPLE)) if source == SAMPLE else source, retrier)
    if source == SAMPLE:
        # Its files have the time at which the toolkit was installed.
        location, batch_window = replace(location, uri=SAMPLE), timedelta.max
    return Export(location, cache, frozenset(left_out), batch_window, offline)


def _types(footer: pq.FileMetaData) -> dict[str, str]:
    return leaf_types(footer.schema.to_arrow_schema())


def _by_table(leaves: Iterable[Leaf]) -> dict[SourceTable, list[Leaf]]:
    wanted: dict[SourceTable, list[Leaf]] = {}
    for leaf in leaves:
        wanted.setdefault(leaf.table, []).append(leaf)
    return wanted


@functools.cache
def _top_level(leaf_fields: tuple[Column, ...]) -> Column:
    """The top-level column of a leaf, with the fields on the way to the leaf and no others."""
    head, *rest = leaf_fields
    nested = (_top_level(tuple(rest)),) if rest else ()
    return Column(head.name, head.type, head.mode, fields=nested)
