"""Staging: of each shard the needed leaf columns are fetched, once, and kept as a narrow Parquet file on this machine.

Every shard is a checkpoint: it appears whole, under a name that stands for the object's size and ETag, and a shard
that is there with all leaf columns that are asked for costs no request. A shard that lacks some gets those alone, and
the two are merged. Memory holds a few row groups and the bytes in flight, both bounded.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from idc_indexer import files
from idc_indexer.errors import IndexerError
from idc_indexer.exports.listing import some
from idc_indexer.exports.location import Location, ObjectMeta
from idc_indexer.exports.partial_download import PartialDownload
from idc_indexer.exports.pruning.footer import (
    FIRST_GUESS,
    MAX_OVERREAD,
    DamagedError,
    Footer,
    Range,
    chunk_ranges,
    coalesced,
    read_footer,
    read_metadata,
)
from idc_indexer.exports.pruning.schema import ShardSchema
from idc_indexer.exports.pruning.writer import Parts, ShardInfo, Source, Writer, check, read_shard_info
from idc_indexer.exports.staged import StagedTable
from idc_indexer.schema.source_tables import SourceTable

Argument = TypeVar("Argument")
Result = TypeVar("Result")
Read = Callable[[int, int], memoryview]

FIRST_CONNECTIONS, CONNECTIONS = 4, 32
"""As many are used at first, and after each shard one more: a service scales up, and tells a burst to slow down."""
IN_FLIGHT, MAX_PARTIAL = 256 << 20, 2 << 30
"""The most bytes in memory that were fetched and are not written yet, and the most in partial downloads shards."""
PART = 32 << 20
"""A shard with more is staged in parts of as many row groups as stay below."""
DAMAGED_TRIES = 5
"""How often bytes of a shard that cannot be decoded are fetched: what comes wrong each time lies wrong."""
DISK = 1.1
"""Bytes of a narrow shard by those of its column chunks, at most: of 9,000 rows and 132 leaf columns 1.03."""


@dataclass(frozen=True)
class StagingEstimate:
    """What is yet to be done: shards to fetch, bytes over the network, bytes on disk; estimated from one shard."""

    shards: int = 0
    fetch: int = 0
    disk: int = 0

    def __add__(self, other: StagingEstimate) -> StagingEstimate:
        return StagingEstimate(self.shards + other.shards, self.fetch + other.fetch, self.disk + other.disk)


class TableStaging:
    """One table of an export on its way to this machine."""

    def __init__(
        self,
        location: Location,
        table: SourceTable,
        shards: Sequence[ObjectMeta],
        folder: StagedTable,
        leaves: Iterable[str],
        limits: StagingLimits,
    ) -> None:
        """Args:
        shards: all of the table, in order.
        leaves: the leaf columns that are needed, as `leaf_paths` names them.
        """
        self._location = location
        self.table = table
        self._shards = shards
        self.folder = folder
        self.leaves = frozenset(leaves)
        self._limits = limits
        self._kept: dict[Path, tuple[tuple[int, int], ShardInfo | None]] = {}
        self._sample: tuple[ObjectMeta, Footer] | None = None
        self._guess = FIRST_GUESS
        self._schemas: list[ShardSchema] = []

    def kept(self, shard: ObjectMeta) -> ShardInfo | None:
        """What is kept of a shard."""
        path = self.folder.shard(shard)
        try:
            status = path.stat()
        except OSError:
            return None
        if path not in self._kept or self._kept[path][0] != _version(status):
            self._kept[path] = (_version(status), read_shard_info(path))
        return self._kept[path][1]

    def lacking(self) -> list[ObjectMeta]:
        """The shards of which something is yet to be fetched."""
        with ThreadPoolExecutor() as pool:
            found = pool.map(self.kept, self._shards)
        return [
            shard
            for shard, there in zip(self._shards, found, strict=True)
            if there is None or not self.leaves <= there.leaves
        ]

    def schema(self) -> pa.Schema:
        """The schema of the first shard that lacks something, whose footer is read; of a kept one when none does."""
        if lacking := self.lacking():
            if self._sample is None or self._sample[0] not in lacking:
                self._sample = (lacking[0], self._undamaged(lacking[0], partial(self._footer, lacking[0])))
            return self._sample[1].metadata.schema.to_arrow_schema()
        return pq.read_schema(self.folder.shard(self._shards[0]))

    def estimate(self) -> StagingEstimate:
        """What is yet to be done."""
        lacking = self.lacking()
        if not lacking or self._sample is None:
            return StagingEstimate()
        shard, footer = self._sample
        groups = self._chunks(footer, self._schema_of(footer).numbers(self.leaves - _held(self.kept(shard))))
        chunks = sum(map(_bytes, groups))
        share = sum(one.bytes for one in lacking) / shard.bytes
        fetch = (1 + MAX_OVERREAD) * (footer.bytes * len(lacking) + chunks * share)
        partial_downloads = min(fetch, CONNECTIONS * fetch / len(lacking), MAX_PARTIAL)
        return StagingEstimate(len(lacking), int(fetch), int(chunks * share * DISK + partial_downloads))

    def stale(self) -> list[Path]:
        """What is kept of objects that the source no longer has."""
        paths = (self.folder.shard, self.folder.partial_download)
        current = {path(shard) for shard in self._shards for path in paths}
        return [path for path in (*self.folder.files, *self.folder.partial_downloads) if path not in current]

    def covered(self) -> list[Path]:
        """The shards that are kept with no other leaf columns than those needed."""
        found = ((self.folder.shard(shard), self.kept(shard)) for shard in self._shards)
        return [path for path, there in found if there and there.leaves <= self.leaves]

    def stage(self, shard: ObjectMeta) -> None:
        """Fetch and keep what is lacking of a shard.

        Raises:
            IndexerError: it cannot be had, or not be written.
            Stopped: something else went wrong.
        """
        self._undamaged(shard, partial(self._stage, shard))

    def _undamaged(self, shard: ObjectMeta, fetch: Callable[[], Result]) -> Result:
        """What is made of bytes of a shard; when they are damaged, they are fetched again."""
        tries = 2 if self._location.folder else DAMAGED_TRIES  # what was kept may be the damaged part
        for attempt in range(1, tries + 1):
            try:
                return fetch()
            except DamagedError as error:
                self.folder.partial_download(shard).unlink(missing_ok=True)
                if attempt == tries:
                    kept = "What is staged already is kept: the same command goes on from there."
                    raise IndexerError(error.message, f"{error.hint} {kept}") from error
                self._location.retrier.count_retry("damaged bytes")
        raise AssertionError("the last attempt returned or raised")

    def check_schemas(self) -> None:
        """Raises:
        IndexerError: shards are of more than one schema, or hold no rows.
        """
        found = {shard: there for shard in self._shards if (there := self.kept(shard))}
        first = next(iter(found.values()))
        odd = [shard.name for shard, there in found.items() if there.schema != first.schema]
        if odd:
            raise other_schema(self._location, self.table, odd, self._shards[0])

    def _footer(self, shard: ObjectMeta) -> Footer:
        with self._source(shard) as (read, there):
            return self._read_footer(shard, read, there)

    def _read_footer(self, shard: ObjectMeta, read: Read, there: int) -> Footer:
        parse = partial(self._limits.decode, read_metadata)
        footer = read_footer(read, self._name(shard), shard.bytes, there or self._guess, parse)
        # Footers of one table differ by the lengths of their statistics.
        self._guess = max(self._guess, footer.bytes + footer.bytes // 64)
        return footer

    def _name(self, shard: ObjectMeta) -> str:
        return f"{self._location.uri}/{shard.key}"

    @contextmanager
    def _source(self, shard: ObjectMeta) -> Iterator[tuple[Read, int]]:
        """What reads a shard, and how many bytes of its end are there."""
        if self._location.folder:
            yield partial(self._location.read, shard), 0
        else:
            self.folder.make()
            with PartialDownload(self.folder.partial_download(shard), self._location, shard) as partial_download:
                yield partial_download.read, partial_download.tail

    def _schema_of(self, footer: Footer) -> ShardSchema:
        """The schema of a shard; worked out once for all that share it."""
        for schema in self._schemas:
            if schema.is_of(footer.metadata):
                return schema
        self._schemas.append(ShardSchema(footer))
        return self._schemas[-1]

    def _chunks(self, footer: Footer, leaves: Sequence[int]) -> list[list[Range]]:
        """Where the column chunks are, by row group."""
        try:
            groups = range(footer.metadata.num_row_groups)
            return [chunk_ranges(footer.metadata, group, leaves) for group in groups]
        except (OSError, pa.ArrowException) as error:
            raise DamagedError(f"{self.table}: {error}") from error

    def _stage(self, shard: ObjectMeta) -> None:
        path, older = self.folder.shard(shard), self.kept(shard)
        with self._source(shard) as (read, there):
            footer = self._read_footer(shard, read, there)
            schema = self._schema_of(footer)
            if schema.digest != self._schemas[0].digest:
                error = other_schema(self._location, self.table, [shard.name], self._shards[0])
                raise DamagedError(error.message, error.hint)  # or so it seems: the bytes may have come wrong
            lacking = schema.numbers(self.leaves - _held(older))
            chunks = self._chunks(footer, lacking)
            about = ShardInfo(schema.digest, self.leaves | _held(older), footer.metadata.num_rows)
            with self._limits.partial_downloads.take(sum(map(_bytes, chunks))), files.atomic_path(path) as temporary:
                with temporary.open("wb") as file, ExitStack() as opened:
                    before = [opened.enter_context(_kept_source(path, schema, older))] if older else []
                    writer = Writer(file, schema)
                    for groups in together(range(len(chunks)), lambda group: _bytes(chunks[group]), PART):
                        ranges = sorted(each for group in groups for each in chunks[group])
                        with self._fetched(read, footer, ranges) as parts, self._damage(shard, ValueError):
                            fetched = Source(footer.metadata, {leaf: leaf for leaf in lacking}, parts.read)
                            for group in groups:
                                writer.copy(group, [*before, fetched])
                    writer.finish(about, footer.metadata.created_by)
                with self._damage(shard, OSError, pa.ArrowException, ValueError):
                    self._limits.decode(check, temporary)
        self._kept[path] = (_version(path.stat()), about)
        self.folder.partial_download(shard).unlink(missing_ok=True)

    @contextmanager
    def _damage(self, shard: ObjectMeta, *errors: type[Exception]) -> Iterator[None]:
        """Errors that are due to the bytes that were fetched, or to those that were kept, which are removed."""
        try:
            yield
        except errors as error:
            self.folder.shard(shard).unlink(missing_ok=True)
            raise DamagedError(f"{self._name(shard)}: is damaged: {error}", "Fetch that shard again.") from error

    @contextmanager
    def _fetched(self, read: Read, footer: Footer, ranges: Sequence[Range]) -> Iterator[Parts]:
        """The bytes of some ranges; those at the end came with the footer."""
        before = [(start, min(end, footer.start)) for start, end in ranges if start < footer.start]
        spare = MAX_OVERREAD * (footer.bytes + _bytes(before))
        to_read = coalesced(before, int(spare))
        with self._limits.memory.take(_bytes(to_read)):
            yield Parts([*((start, read(start, end)) for start, end in to_read), (footer.start, footer.tail)])


class ByteSemaphore:
    """Bytes that may be taken up at the same time, by any number of threads."""

    def __init__(self, most: int) -> None:
        self._most = self._free = most
        self._changed = threading.Condition()

    @contextmanager
    def take(self, size: int) -> Iterator[None]:
        """Wait until so many are free; whoever wants more than there are takes all."""
        size = min(size, self._most)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= size)
            self._free -= size
        try:
            yield
        finally:
            with self._changed:
                self._free += size
                self._changed.notify_all()


class StagingLimits:
    """How much may go on at the same time: bytes in memory, bytes in partial_downloads, what takes a processor."""

    def __init__(self) -> None:
        self.memory, self.partial_downloads = ByteSemaphore(IN_FLIGHT), ByteSemaphore(MAX_PARTIAL)
        self._decoding = ThreadPoolExecutor(os.cpu_count() or 1)

    def decode(self, function: Callable[[Argument], Result], argument: Argument) -> Result:
        """What a function returns, in one of as many threads as there are processors.

        pyarrow keeps memory for every thread that ever decoded: 1.3 GB in all with 2 of them, 2.3 GB with 32.
        """
        return self._decoding.submit(function, argument).result()


def stage_all(
    location: Location,
    work: Sequence[tuple[TableStaging, ObjectMeta]],
    done: Callable[[TableStaging, ObjectMeta], None],
) -> None:
    """Stage shards over many connections.

    Args:
        done: called after each, in the thread of the caller.

    Raises:
        IndexerError: the first that could not be staged; all that were, are kept.
    """
    ahead, window = iter(work), FIRST_CONNECTIONS
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        waiting: dict[Future[None], tuple[TableStaging, ObjectMeta]] = {}
        try:
            while True:
                for staging, shard in islice(ahead, window - len(waiting)):
                    waiting[pool.submit(staging.stage, shard)] = (staging, shard)
                if not waiting:
                    return
                # On Windows, a wait without an end cannot be interrupted.
                for future in wait(waiting, timeout=1, return_when=FIRST_COMPLETED).done:
                    future.result()
                    done(*waiting.pop(future))
                    window = min(window + 1, CONNECTIONS)
        except BaseException:
            location.retrier.stop()
            raise


def other_schema(location: Location, table: SourceTable, odd: Sequence[str], first: ObjectMeta) -> IndexerError:
    """The error that shards of one table have two schemas."""
    return IndexerError(
        f"{location.uri}: {table}: {some(odd)} of another schema than {first.name}",
        "Shards of one export share one schema; leave the others out with --exclude-shard.",
    )


def _bytes(ranges: Iterable[Range]) -> int:
    return sum(end - start for start, end in ranges)


def _held(about: ShardInfo | None) -> frozenset[str]:
    return about.leaves if about else frozenset()


def _version(status: os.stat_result) -> tuple[int, int]:
    return status.st_mtime_ns, status.st_size


@contextmanager
def _kept_source(path: Path, schema: ShardSchema, about: ShardInfo) -> Iterator[Source]:
    """A narrow shard, to copy from."""
    with path.open("rb") as file:

        def read(start: int, end: int) -> list[bytes]:
            file.seek(start)
            return [file.read(end - start)]

        with pa.OSFile(str(path), "rb") as arrow_file:
            metadata = read_metadata(arrow_file)
        columns = {leaf: column for column, leaf in enumerate(schema.numbers(about.leaves))}
        yield Source(metadata, columns, read)


def together(items: Iterable[Argument], size: Callable[[Argument], int], most: int) -> Iterator[list[Argument]]:
    """Items in their order, as many at a time as have at most that size in all, or one that is larger."""
    some: list[Argument] = []
    free = most
    for item in items:
        if some and size(item) > free:
            yield some
            some, free = [], most
        some.append(item)
        free -= size(item)
    if some:
        yield some
