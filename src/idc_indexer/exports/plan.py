"""The order in which an export is used: a plan, then its tables on this machine.

plan = export.plan(leaves)            # all that can be checked before anything is fetched
plan.estimate                         # what staging will take
with plan.stage(listener) as staged:  # the tables are on this machine
    staged.paths(table), staged.facts(table)
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from rich.filesize import decimal

from idc_indexer.cache import remove_file
from idc_indexer.errors import IndexerError
from idc_indexer.exports.listing import STAGE_FIRST, some
from idc_indexer.exports.location import Location
from idc_indexer.exports.staged import StagedTable
from idc_indexer.exports.staging import StagingEstimate, TableStaging, stage_all
from idc_indexer.progress import Progress, ProgressListener
from idc_indexer.schema.source_tables import SourceTable

Found = TypeVar("Found")


@dataclass(frozen=True)
class ExportTableFacts:
    """What was checked of a table, for the manifest. Counts of rows, files and bytes."""

    rows: int
    shards: int
    bytes: int
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class TableInPlace:
    """A table that is read where it lies."""

    paths: tuple[str, ...]
    facts: ExportTableFacts
    warning: str


@dataclass(frozen=True)
class StagedExport:
    """Tables of an export that are on this machine while the block of `StagingPlan.stage` runs."""

    _paths: Mapping[SourceTable, Sequence[str]]
    _facts: Mapping[SourceTable, ExportTableFacts]
    _staged: frozenset[SourceTable]

    def facts(self, table: SourceTable) -> ExportTableFacts:
        """What was checked of a table."""
        return self._facts[table]

    def paths(self, table: SourceTable) -> list[str]:
        """Local paths of the files that hold the rows of a table."""
        return list(self._paths[table])

    def damaged(self, tables: Iterable[SourceTable]) -> tuple[str, str] | None:
        """The first shard that cannot be read to its end, and what to do about it; for use after a failure."""
        for table in tables:
            again = f"Remove what is staged, `idc-indexer cache remove {table}`, and run the same command again."
            for path in filter(os.path.exists, self._paths.get(table, ())):
                try:
                    with pq.ParquetFile(path) as file:
                        for _ in file.iter_batches():
                            pass
                except (OSError, pa.ArrowException):
                    return path, again if table in self._staged else "Fetch that shard again."
        return None


@dataclass(frozen=True)
class StagingPlan:
    """Tables that were checked, and what it takes to have them on this machine.

    Attributes:
        root: the cache folder.
        in_place: tables that are read where they lie.
        stagings: tables that are staged.
        fact: makes the facts of a table of so many rows, or says why it cannot be read.
        estimates: what staging has yet to do, by table.
        offline: whether no request may be made.
    """

    location: Location
    root: Path
    in_place: Mapping[SourceTable, TableInPlace]
    stagings: Mapping[SourceTable, TableStaging]
    fact: Callable[[SourceTable, int], ExportTableFacts]
    estimates: Mapping[SourceTable, StagingEstimate]
    offline: bool = False

    @property
    def estimate(self) -> StagingEstimate:
        """What staging has yet to do."""
        return sum(self.estimates.values(), StagingEstimate())

    @property
    def tables(self) -> set[SourceTable]:
        """The tables that were checked."""
        return {*self.in_place, *self.stagings}

    def of(self, tables: Iterable[SourceTable]) -> StagingPlan:
        """The plan for some of the tables."""
        wanted = set(tables)

        def of_wanted(of_all: Mapping[SourceTable, Found]) -> dict[SourceTable, Found]:
            return {table: found for table, found in of_all.items() if table in wanted}

        return replace(
            self,
            in_place=of_wanted(self.in_place),
            stagings=of_wanted(self.stagings),
            estimates=of_wanted(self.estimates),
        )

    @staticmethod
    def joined(plans: Sequence[StagingPlan]) -> StagingPlan:
        """One plan for the tables of several plans of one export."""
        return replace(
            plans[0],
            in_place={table: found for plan in plans for table, found in plan.in_place.items()},
            stagings={table: staging for plan in plans for table, staging in plan.stagings.items()},
            estimates={table: estimate for plan in plans for table, estimate in plan.estimates.items()},
        )

    def check_room(self, disk: int) -> str:
        """How much room the cache folder has, in words.

        Raises:
            IndexerError: less than `disk` bytes.
        """
        folder = next(path for path in (self.root, *self.root.absolute().parents) if path.exists())
        free = shutil.disk_usage(folder).free
        if disk > free:
            raise IndexerError(
                f"{self.root}: {decimal(disk)} are needed there, and {decimal(free)} are free",
                "Make room, choose another folder with --cache-dir, or name fewer indices.",
            )
        return f"{decimal(free)} are free"

    @contextmanager
    def stage(self, listener: ProgressListener) -> Iterator[StagedExport]:
        """Stage the tables; nobody removes them while the block runs.

        Raises:
            IndexerError: a shard cannot be read or written; the shards that were staged before it stay.
        """
        stagings = [self.stagings[table] for table in sorted(self.stagings)]
        for staging in stagings:
            remove_unused(staging.folder, staging.outdated)
        with ExitStack() as uses:
            for staging in stagings:
                uses.enter_context(staging.folder.used())
            for staging in stagings:
                self._remove_damaged(staging, listener)
            if any(staging.missing() for staging in stagings):
                self._stage_missing(stagings, listener)
            yield self._staged(stagings, listener)

    def _remove_damaged(self, staging: TableStaging, listener: ProgressListener) -> None:
        """Remove pruned shards that have changed since they were written; they are staged again.

        Raises:
            IndexerError: there are some, and no request may be made.
        """
        if not (damaged := staging.damaged()):
            return
        what = f"{len(damaged)} staged shards of {staging.table} have changed since they were written"
        if self.offline:
            raise IndexerError(f"{damaged[0]}: damaged: {what}", STAGE_FIRST)
        with staging.folder.written():
            for path in damaged:
                remove_file(path)
        listener.message(f"{what}: they are staged again")

    def _staged(self, stagings: Sequence[TableStaging], listener: ProgressListener) -> StagedExport:
        paths = {table: found.paths for table, found in self.in_place.items()}
        facts = {table: found.facts for table, found in self.in_place.items()}
        warnings = [found.warning for found in self.in_place.values()]
        for staging in stagings:
            warnings.append(staging.check_schemas())
            facts[staging.table] = self.fact(staging.table, staging.rows())
            paths[staging.table] = tuple(str(staging.folder.shard(shard)) for shard in staging.shards)
        for warning in filter(None, warnings):
            listener.message(warning)
        return StagedExport(paths, facts, frozenset(self.stagings))

    def _stage_missing(self, stagings: Sequence[TableStaging], listener: ProgressListener) -> None:
        with ExitStack() as locks:
            for staging in stagings:
                waiting = f"waiting for another process, which stages {staging.table}"
                locks.enter_context(staging.folder.written(lambda line=waiting: listener.message(line)))  # type: ignore[misc]
            work = [(staging, shard) for staging in stagings for shard in staging.missing()]
            if work:  # another process may have staged it meanwhile
                estimate = sum((staging.estimate() for staging in stagings), StagingEstimate())
                self.check_room(estimate.disk)
                datasets = some(dict.fromkeys(staging.table.dataset for staging in stagings))
                report = _Report(self.location, datasets, len(work), estimate.fetch, listener)
                report.tell()
                stage_all(self.location, work, report.shard)
                report.end()


class _Report:
    """Tells a listener how far staging is."""

    def __init__(
        self, location: Location, datasets: str, shards: int, estimated: int, listener: ProgressListener
    ) -> None:
        self._retrier = location.retrier
        self._datasets = datasets
        self._shards = shards
        self._estimated = estimated
        self._listener = listener
        self._began = time.monotonic()
        self._bytes, self._requests = self._retrier.bytes, self._retrier.requests
        self._retries = self._retrier.retries.copy()
        self._done = 0

    def shard(self, *_: object) -> None:
        """Another shard is staged."""
        self._done += 1
        self.tell()

    def tell(self) -> None:
        """Say how far staging is."""
        fetched = self._retrier.bytes - self._bytes
        all_bytes = max(self._estimated, fetched)
        seconds = time.monotonic() - self._began
        what = f"staging {self._datasets}"
        self._listener.progress(Progress(what, "shards", self._done, self._shards, fetched, all_bytes, seconds))

    def end(self) -> None:
        """All shards are staged."""
        retries = self._retrier.retries - self._retries
        reasons = ", ".join(f"{reason}: {count}" for reason, count in sorted(retries.items()))
        self._listener.message(
            f"staged {self._datasets}: {self._shards:,} shards, {decimal(self._retrier.bytes - self._bytes)} in "
            f"{self._retrier.requests - self._requests:,} requests, {time.monotonic() - self._began:,.0f} s"
            + (f"; {retries.total()} were made again ({reasons})" if retries else "")
        )


def remove_unused(folder: StagedTable, paths: Callable[[], list[Path]]) -> None:
    """Remove pruned shards that nobody needs, unless a process uses them."""
    if paths():
        with folder.removing() as free:
            if free:
                for path in paths():
                    remove_file(path)
