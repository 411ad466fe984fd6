"""A Parquet export of IDC's tables: whether it can be trusted, and its way to this machine.

Nothing is read before it has been checked. Tables are read where they are when they lie on this machine and are narrow;
all others are staged.
"""

from __future__ import annotations

import functools
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rich.filesize import decimal

from idc_indexer import documents
from idc_indexer.cache import Cache
from idc_indexer.errors import IndexerError
from idc_indexer.exports.listing import BATCH_WINDOW, STAGE_FIRST, Listing, folder_of, some
from idc_indexer.exports.location import Location, ObjectMeta, open_location
from idc_indexer.exports.pruning.footer import leaf_paths, read_footer
from idc_indexer.exports.retry import ATTEMPTS, Retrier
from idc_indexer.exports.staged import StagedTable
from idc_indexer.exports.staging import StagingEstimate, StagingLimits, TableStaging, other_schema, stage_all
from idc_indexer.progress import ProgressListener, StagingProgress
from idc_indexer.schema.arrow import mismatch
from idc_indexer.schema.column import Column
from idc_indexer.schema.source_tables import SourceTable
from idc_indexer.sql import Leaf

SAMPLE = "sample"
NARROW = 500
"""Leaf columns up to which a table in a folder is read where it is. A build of all indices of one release from 16
shards of 9,000 rows: with 2,008 leaf columns 9.2 s of processor in location and 4.7 s staged, with 600 6.5 s and 4.0 s,
with 300 6.3 s and 4.0 s; of one index: 1.6 s and 1.5 s, 1.1 s and 1.1 s, 1.2 s and 1.1 s. What is staged of larger
shards is a copy of gigabytes, which a narrow table does not repay."""


@dataclass(frozen=True)
class ExportTableFacts:
    """What was checked of a table, for the manifest. Counts of rows, files and bytes."""

    rows: int
    shards: int
    bytes: int
    left_out: tuple[str, ...]


class Export(Listing):
    """An export, in a folder or a bucket: what it holds, and that on this machine."""

    def __init__(
        self,
        location: Location,
        cache: Cache,
        left_out: frozenset[str] = frozenset(),
        batch_window: timedelta = BATCH_WINDOW,
        offline: bool = False,
    ) -> None:
        super().__init__(location, cache, left_out, batch_window, offline and location.folder is None)
        self._tables: dict[SourceTable, TableStaging] = {}
        self._facts: dict[SourceTable, ExportTableFacts] = {}
        self._limits = StagingLimits()

    @property
    def uri(self) -> str:
        """How messages name it."""
        return self.location.uri

    def describe(self) -> dict[str, str]:
        """What the manifest says of the source: a public address, but not where a folder is, nor a private bucket."""
        if self.location.folder:
            return {"kind": SAMPLE if self.uri == SAMPLE else "folder"}
        return {"kind": self.location.scheme, **({"uri": self.uri} if self.location.anonymous else {})}

    def check(self, leaves: Iterable[Leaf]) -> None:
        """Check that all that will be read is there and as expected, as far as that can be known before staging.

        Of a table that is staged, one footer is read; of one that is read where it is, all.

        Raises:
            IndexerError: with a line for each table that is missing or empty, shard that is broken or
                of another schema, and column that is missing or of another type.
        """
        wanted = _by_table(leaves)

        def check(table: SourceTable) -> tuple[list[str], str]:
            try:
                return self._check(table, wanted[table]), ""
            except IndexerError as error:
                return [error.message], error.hint

        found = self.location.retrier.each(check, sorted(wanted))
        if problems := [problem for of_table, _ in found for problem in of_table]:
            raise IndexerError("\n".join(problems), "\n".join(dict.fromkeys(hint for _, hint in found if hint)))

    def _check(self, table: SourceTable, leaves: list[Leaf]) -> list[str]:
        shards = self.shards(table)
        if self.location.folder:
            schema = self._footer(shards[0]).schema.to_arrow_schema()
            if len(leaf_paths(schema)) <= NARROW:
                self._facts[table] = self._check_all(table)
                return [f"{self.uri}: {problem}" for problem in _columns(schema, table, leaves)]
            self.keep(table)
        paths = (leaf.path.lower() for leaf in leaves)
        folder = self.kept(table)
        staging = TableStaging(self.location, table, shards, folder, paths, self._limits)
        if self.offline and (lacking := staging.lacking()):
            raise IndexerError(
                f"{self.uri}: {len(lacking)} of {len(shards)} shards of {table} are not staged with all columns",
                STAGE_FIRST,
            )
        problems = _columns(staging.schema(), table, leaves)
        self._tables[table] = staging
        return [f"{self.uri}: {problem}" for problem in problems]

    def _check_all(self, table: SourceTable) -> ExportTableFacts:
        """Check the footers of all shards of a table that is read where it is."""
        shards = self.shards(table)
        footers = self.location.retrier.each(self._footer, shards)
        pairs = zip(shards, footers, strict=True)
        odd = [shard.name for shard, footer in pairs if not footer.schema.equals(footers[0].schema)]
        if odd:
            raise other_schema(self.location, table, odd, shards[0])
        return self._fact(table, sum(footer.num_rows for footer in footers))

    def _footer(self, shard: ObjectMeta) -> pq.FileMetaData:
        read = partial(self.location.read, shard)
        return read_footer(read, f"{self.uri}/{shard.key}", shard.bytes).metadata

    def _fact(self, table: SourceTable, rows: int) -> ExportTableFacts:
        if not rows:
            raise IndexerError(f"{self.uri}: table {table} is empty")
        shards = self.shards(table)
        left_out = tuple(sorted(name for name in self.left_out if name.startswith(f"{folder_of(table)}/")))
        return ExportTableFacts(rows, len(shards), sum(shard.bytes for shard in shards), left_out)

    def estimate(self, tables: Iterable[SourceTable]) -> StagingEstimate:
        """What staging these tables, which were checked, will take."""
        return sum((self._tables[table].estimate() for table in tables if table in self._tables), StagingEstimate())

    def check_room(self, disk: int) -> str:
        """How much room there is, in words.

        Raises:
            IndexerError: less than `disk` bytes.
        """
        folder = next(path for path in (self.cache.root, *self.cache.root.absolute().parents) if path.exists())
        free = shutil.disk_usage(folder).free
        if disk > free:
            raise IndexerError(
                f"{self.cache.root}: {decimal(disk)} are needed there, and {decimal(free)} are free",
                "Make room, choose another folder with --cache-dir, or name fewer indices.",
            )
        return f"{decimal(free)} are free"

    @contextmanager
    def staged(self, leaves: Iterable[Leaf], listener: ProgressListener) -> Iterator[None]:
        """Have these leaf columns, which were checked, on this machine; nobody removes them in this block.

        Raises:
            IndexerError: a shard cannot be had; those that were staged before it are kept.
        """
        wanted = _by_table(leaves)
        staged = [self._tables[table] for table in sorted(wanted) if table in self._tables]
        for staging in staged:
            _remove(staging.folder, staging.stale)
        with ExitStack() as uses:
            for staging in staged:
                uses.enter_context(staging.folder.used())
            if any(staging.lacking() for staging in staged):
                with ExitStack() as locks:
                    for staging in staged:
                        waiting = partial(
                            listener.message, f"waiting for another process, which stages {staging.table}"
                        )
                        locks.enter_context(staging.folder.written(waiting))
                    self._stage(staged, listener)
            for staging in staged:
                staging.check_schemas()
                rows = sum(there.rows for shard in self.shards(staging.table) if (there := staging.kept(shard)))
                self._facts[staging.table] = self._fact(staging.table, rows)
            yield

    def _stage(self, staged: Sequence[TableStaging], listener: ProgressListener) -> None:
        work = [(staging, shard) for staging in staged for shard in staging.lacking()]
        if not work:
            return  # another process did it meanwhile
        need = sum((staging.estimate() for staging in staged), StagingEstimate())
        self.check_room(need.disk)
        datasets = some(dict.fromkeys(staging.table.dataset for staging in staged))
        retrier, began = self.location.retrier, time.monotonic()
        bytes_before, requests_before, retries_before = retrier.bytes, retrier.requests, retrier.retries.copy()
        done = 0

        def report(*_: object) -> None:
            nonlocal done
            done += 1
            seconds = time.monotonic() - began
            fetched = retrier.bytes - bytes_before
            listener.staging(StagingProgress(datasets, done, len(work), fetched, max(need.fetch, fetched), seconds))

        stage_all(self.location, work, report)
        retries = retrier.retries - retries_before
        again = ", ".join(f"{reason}: {count}" for reason, count in sorted(retries.items()))
        listener.message(
            f"staged {datasets}: {len(work):,} shards, {decimal(retrier.bytes - bytes_before)} in "
            f"{retrier.requests - requests_before:,} requests, {time.monotonic() - began:,.0f} s"
            + (f"; {retries.total()} were made again ({again})" if again else "")
        )

    def facts(self, table: SourceTable) -> ExportTableFacts:
        """What was checked of a table; of one that is staged, once it is."""
        return self._facts[table]

    def paths(self, table: SourceTable) -> list[str]:
        """Local paths that hold the rows of a table, which is staged if need be."""
        if table in self._tables:
            folder = self._tables[table].folder
            return [str(folder.shard(shard)) for shard in self.shards(table)]
        assert self.location.folder
        return [(self.location.folder / shard.key).as_posix() for shard in self.shards(table)]

    def discard(self, leaves: Iterable[Leaf]) -> None:
        """Remove what is staged of these tables if it is no more than these leaf columns, and nobody uses it."""
        for table, of_table in _by_table(leaves).items():
            folder = self.kept(table)
            if folder.files:
                shards = self.shards(table)
                paths = [leaf.path.lower() for leaf in of_table]
                staging = TableStaging(self.location, table, shards, folder, paths, self._limits)
                _remove(folder, staging.covered)

    def broken(self, tables: Iterable[SourceTable]) -> tuple[str, str] | None:
        """The first shard that cannot be read to its end, and what to do about it; for use after a failure."""
        for table in tables:
            again = f"Remove what is staged, `idc-indexer cache remove {table}`, and run the same command again."
            for path in filter(os.path.exists, self.paths(table)):  # what was staged of past releases is gone
                try:
                    with pq.ParquetFile(path) as file:
                        for _ in file.iter_batches():
                            pass
                except (OSError, pa.ArrowException):
                    return path, again if table in self._tables else "Fetch that shard again."
        return None


def open_export(
    source: str,
    left_out: Sequence[str] = (),
    batch_window: timedelta = BATCH_WINDOW,
    cache_dir: Path | None = None,
    offline: bool = False,
) -> Export:
    """The export that `--source` names. Nothing is asked of the network yet.

    Args:
        source: `sample`, a folder, `s3://bucket/prefix` or `gs://bucket/prefix`.
        cache_dir: where what is staged is kept; the user's cache folder when None.

    Raises:
        UsageError: when it is none of these.
    """
    cache = Cache.at(cache_dir)
    retrier = Retrier(ATTEMPTS if "://" in source else 1)
    location = open_location(str(documents.bundled(SAMPLE)) if source == SAMPLE else source, retrier)
    if source == SAMPLE:
        # Its files have the time at which the toolkit was installed.
        location, batch_window = replace(location, uri=SAMPLE), timedelta.max
    return Export(location, cache, frozenset(left_out), batch_window, offline)


def _remove(folder: StagedTable, paths: Callable[[], list[Path]]) -> None:
    """Remove shards that are kept for nothing, unless somebody uses them."""
    if paths():
        with folder.removing() as free:
            if free:
                for path in paths():
                    path.unlink(missing_ok=True)


def _by_table(leaves: Iterable[Leaf]) -> dict[SourceTable, list[Leaf]]:
    wanted: dict[SourceTable, list[Leaf]] = {}
    for leaf in leaves:
        wanted.setdefault(leaf.table, []).append(leaf)
    return wanted


@functools.cache
def _whole(leaf_fields: tuple[Column, ...]) -> Column:
    """The top-level column of a leaf, holding only the way down to it."""
    head, *rest = leaf_fields
    nested = (_whole(tuple(rest)),) if rest else ()
    return Column(head.name, head.type, head.mode, fields=nested)


def _columns(schema: pa.Schema, table: SourceTable, leaves: list[Leaf]) -> list[str]:
    present = {column.name.lower(): column.type for column in schema}
    problems: dict[str, None] = {}
    for leaf in leaves:
        name = leaf.fields[0].name
        if name.lower() not in present:
            problems[f"{table} has no column {name}"] = None
        elif problem := mismatch(present[name.lower()], _whole(leaf.fields)):
            problems[f"{table}: column {name} {problem}"] = None
    return list(problems)
