"""Staging of one table: the needed leaf columns of each shard are fetched once and stored as a pruned Parquet file.

Every shard is a checkpoint. A pruned shard appears complete or not at all, and its name stands for the size and ETag of
the object. A pruned shard that has all needed leaf columns costs no request; if some are missing, staging fetches
those alone and merges the two. Memory holds a few row groups and the bytes in flight; both are bounded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
from idc_indexer.cache import is_intact, remove_file, write_digest
from idc_indexer.errors import IndexerError
from idc_indexer.exports.limits import StagingLimits, together
from idc_indexer.exports.listing import some
from idc_indexer.exports.location import Location, ObjectMeta
from idc_indexer.exports.pruning.footer import (
    FIRST_GUESS,
    MAX_OVERREAD,
    DamagedError,
    Footer,
    Range,
    chunk_ranges,
    coalesced,
    not_parquet,
    parse,
    read_footer,
)
from idc_indexer.exports.pruning.footer import check as check_footer
from idc_indexer.exports.pruning.pruned_footer import pruned_footer
from idc_indexer.exports.pruning.schema import ShardSchema
from idc_indexer.exports.pruning.writer import Parts, ShardInfo, Source, Writer, check, pruned_source, read_shard_info
from idc_indexer.exports.shard_schemas import compare, leaf_types
from idc_indexer.exports.staged import StagedTable
from idc_indexer.parquet_footer import DAMAGE
from idc_indexer.schema.source_tables import SourceTable

Result = TypeVar("Result")

FIRST_CONNECTIONS, CONNECTIONS = 4, 32
"""Connections at first, and at most; each staged shard adds one. A service scales up, and refuses a burst."""
PART = 32 << 20
"""A larger shard is staged in parts, each of as many row groups as stay below this many bytes."""
DAMAGED_TRIES = 5
"""How often staging fetches the bytes of a shard that cannot be decoded, before it reports the shard as damaged."""
_BUFFER = 1 << 20
"""Bytes of a pruned shard that are written at once: around each write, threads wait for each other."""
DISK = 1.1
"""Bytes of a pruned shard by those of its column chunks, at most: 1.03 with 9,000 rows and 132 leaf columns."""


@dataclass(frozen=True)
class StagingEstimate:
    """What staging has yet to do, estimated from one shard of each table.

    Attributes:
        shards: to fetch.
        fetch: bytes over the network.
        requests: to make.
        disk: bytes in the cache folder.
    """

    shards: int = 0
    fetch: int = 0
    requests: int = 0
    disk: int = 0

    def __add__(self, other: StagingEstimate) -> StagingEstimate:
        return StagingEstimate(
            self.shards + other.shards,
            self.fetch + other.fetch,
            self.requests + other.requests,
            self.disk + other.disk,
        )


@dataclass(frozen=True)
class _Wanted:
    """The column chunks to fetch of a shard.

    Attributes:
        metadata: a footer that has them.
        columns: which of its columns each leaf column is.
        chunks: their byte ranges, by row group.
    """

    metadata: pq.FileMetaData
    columns: dict[int, int]
    chunks: list[list[Range]]


class TableStaging:
    """One table of an export that is copied to this machine."""

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
        folder: the cache folder of the table.
        leaves: the needed leaf columns, as `leaf_paths` names them.
        """
        self._location = location
        self.table = table
        self.shards = shards
        self.folder = folder
        self.leaves = frozenset(leaves)
        self._limits = limits
        self._infos: dict[Path, tuple[tuple[int, int], ShardInfo | None]] = {}
        self._sample: tuple[ObjectMeta, Footer] | None = None
        self._guess = FIRST_GUESS
        self._schemas: list[ShardSchema] = []
        self._intact: set[Path] = set()

    def info(self, shard: ObjectMeta) -> ShardInfo | None:
        """What the pruned shard of an object holds; None if there is none."""
        path = self.folder.shard(shard)
        try:
            status = path.stat()
        except OSError:
            return None
        if path not in self._infos or self._infos[path][0] != _version(status):
            self._infos[path] = (_version(status), read_shard_info(path))
        return self._infos[path][1]

    def missing(self) -> list[ObjectMeta]:
        """The shards of which some leaf column is not staged yet."""
        there = {path.name for path in self.folder.files}  # listed: to look for each of 100,000 shards takes seconds
        staged = [shard for shard in self.shards if self.folder.shard(shard).name in there]
        with ThreadPoolExecutor() as pool:
            infos = pool.map(self.info, staged)
        complete = {shard.key for shard, info in zip(staged, infos, strict=True) if info and self.leaves <= info.leaves}
        return [shard for shard in self.shards if shard.key not in complete]

    def schema(self) -> pa.Schema:
        """The schema of the first shard that is not staged, whose footer is read; of a staged one if all are."""
        if missing := self.missing():
            if self._sample is None or self._sample[0] not in missing:
                self._sample = (missing[0], self._undamaged(partial(self._read_sample, missing[0])))
            return self._schema_of(*self._sample).arrow
        return pq.read_schema(self.folder.shard(self.shards[0]))

    def estimate(self) -> StagingEstimate:
        """What is yet to be done."""
        missing = self.missing()
        if not missing or self._sample is None:
            return StagingEstimate()
        shard, footer = self._sample
        groups = self._wanted(shard, footer, self._schema_of(shard, footer), self.info(shard)).chunks
        chunks = sum(map(_bytes, groups))
        share = sum(one.bytes for one in missing) / shard.bytes
        fetch = (1 + MAX_OVERREAD) * (footer.length * len(missing) + chunks * share)
        requests = 1 + len(_to_read(footer, sorted(each for group in groups for each in group)))
        return StagingEstimate(len(missing), int(fetch), requests * len(missing), int(chunks * share * DISK))

    def damaged(self) -> list[Path]:
        """The pruned shards that are not what they were when they were written. Each is read once."""
        paths = [path for shard in self.shards if self.info(shard) and (path := self.folder.shard(shard))]
        unchecked = [path for path in paths if path not in self._intact]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            intact = list(pool.map(is_intact, unchecked))
        self._intact |= {path for path, well in zip(unchecked, intact, strict=True) if well}
        return [path for path in unchecked if path not in self._intact]

    def outdated(self) -> list[Path]:
        """Pruned shards of objects that the source no longer has."""
        current = {self.folder.shard(shard) for shard in self.shards}
        return [path for path in self.folder.files if path not in current]

    def covered(self) -> list[Path]:
        """The pruned shards that hold no leaf column but the needed ones."""
        found = ((self.folder.shard(shard), self.info(shard)) for shard in self.shards)
        return [path for path, info in found if info and info.leaves <= self.leaves]

    def stage(self, shard: ObjectMeta) -> None:
        """Fetch the missing leaf columns of a shard, and store them.

        Raises:
            IndexerError: they cannot be read or written.
            Stopped: another thread failed.
        """
        self._undamaged(partial(self._stage, shard))

    def _undamaged(self, fetch: Callable[[], Result]) -> Result:
        """The result of `fetch`, which is called again if the bytes of the shard are damaged."""
        tries = 2 if self._location.folder else DAMAGED_TRIES  # the damage may be in the older pruned shard
        for attempt in range(1, tries + 1):
            try:
                return fetch()
            except DamagedError as error:
                if attempt == tries:
                    resume = "The shards that are staged already stay in the cache: the same command continues there."
                    raise IndexerError(error.message, f"{error.hint} {resume}") from error
                self._sample = None
                self._location.retrier.count_retry("damaged bytes")
        raise AssertionError("the last attempt returned or raised")

    def check_schemas(self) -> str:
        """Compare the schemas of the staged shards.

        Returns:
            A warning that columns differ which are not needed; "" if none do.

        Raises:
            IndexerError: needed columns differ.
        """
        found = {shard: info for shard in self.shards if (info := self.info(shard))}
        first, about = next(iter(found.items()))
        odd = [shard for shard, info in found.items() if info.schema != about.schema]
        if not odd:
            return ""
        types = {shard.name: leaf_types(pq.read_schema(self.folder.shard(shard))) for shard in (first, *odd)}
        warning = self._compare(first.name, types)
        return (
            warning
            or f"warning: {self._table_name}: {some(one.name for one in odd)} of another schema than {first.name}"
        )

    @property
    def _table_name(self) -> str:
        return f"{self._location.uri}: {self.table}"

    def _compare(self, first: str, types: Mapping[str, Mapping[str, str]]) -> str:
        others = {name: of_shard for name, of_shard in types.items() if name != first}
        return compare(self._table_name, (first, types[first]), others, self.leaves)

    def rows(self) -> int:
        """Rows of all staged shards."""
        return sum(info.rows for shard in self.shards if (info := self.info(shard)))

    def _read_sample(self, shard: ObjectMeta) -> Footer:
        footer = self._read_footer(shard)
        self._schema_of(shard, footer)
        return footer

    def _read_footer(self, shard: ObjectMeta) -> Footer:
        footer = read_footer(partial(self._location.read, shard), self._name(shard), shard.bytes, self._guess)
        # Footers of one table differ by the lengths of their statistics.
        self._guess = max(self._guess, footer.length + footer.length // 64)
        return footer

    def _footer(self, shard: ObjectMeta) -> Footer:
        """The footer of a shard, which `schema` may have read already."""
        sample = self._sample
        return sample[1] if sample and sample[0] == shard else self._read_footer(shard)

    def _name(self, shard: ObjectMeta) -> str:
        return f"{self._location.uri}/{shard.key}"

    def _schema_of(self, shard: ObjectMeta, footer: Footer) -> ShardSchema:
        """The schema of a shard; computed once for all shards that share it."""
        for schema in self._schemas:
            if schema.is_of(footer.encoded):
                return schema
        metadata = parse(self._name(shard), footer.encoded)
        try:
            self._schemas.append(ShardSchema(footer.encoded, metadata))
        except DAMAGE as error:
            raise not_parquet(self._name(shard), str(error)) from error
        return self._schemas[-1]

    def _wanted(self, shard: ObjectMeta, footer: Footer, schema: ShardSchema, older: ShardInfo | None) -> _Wanted:
        """The column chunks that the pruned shard lacks, after a check of what the footer says of them."""
        leaves = schema.numbers(self.leaves - _leaves(older))
        pruned = pruned_footer(footer.encoded, schema, leaves)
        metadata = parse(self._name(shard), footer.encoded if pruned is None else pruned)
        columns = leaves if pruned is None else range(len(leaves))
        check_footer(str(self.table), metadata, footer.file_bytes, columns)
        chunks = [chunk_ranges(metadata, group, columns) for group in range(metadata.num_row_groups)]
        return _Wanted(metadata, dict(zip(leaves, columns, strict=True)), chunks)

    def _stage(self, shard: ObjectMeta) -> None:
        path, older = self.folder.shard(shard), self.info(shard)
        footer = self._footer(shard)
        schema = self._schema_of(shard, footer)
        if schema.digest != self._schemas[0].digest:
            try:
                self._compare(
                    "the first shard",
                    {"the first shard": leaf_types(self._schemas[0].arrow), shard.name: leaf_types(schema.arrow)},
                )
            except IndexerError as error:
                raise DamagedError(error.message, error.hint) from error  # or so it seems: the bytes may be damaged
        wanted = self._wanted(shard, footer, schema, older)
        about = ShardInfo(schema.digest, self.leaves | _leaves(older), wanted.metadata.num_rows)
        with files.atomic_path(path) as temporary:
            with temporary.open("wb", buffering=_BUFFER) as file, ExitStack() as opened:
                before = [opened.enter_context(pruned_source(path, schema, older))] if older else []
                writer = Writer(file, schema)
                self._copy(shard, footer, wanted, before, writer)
                with self._damage(shard, ValueError):
                    created_by = wanted.metadata.created_by
                writer.finish(about, created_by)
            with self._damage(shard, *DAMAGE):
                self._limits.decode(check, temporary)
            write_digest(path, files.sha256(temporary))
        self._intact.add(path)
        self._infos[path] = (_version(path.stat()), about)

    def _copy(
        self, shard: ObjectMeta, footer: Footer, wanted: _Wanted, before: Sequence[Source], writer: Writer
    ) -> None:
        """Fetch the wanted column chunks, and write them together with those of the older pruned shard."""
        chunks = wanted.chunks
        for groups in together(range(len(chunks)), lambda group: _bytes(chunks[group]), PART):
            ranges = sorted(each for group in groups for each in chunks[group])
            with self._fetched(shard, footer, ranges) as parts, self._damage(shard, ValueError):
                fetched = Source(wanted.metadata, wanted.columns, parts.read)
                for group in groups:
                    writer.copy(group, [*before, fetched])

    @contextmanager
    def _damage(self, shard: ObjectMeta, *errors: type[Exception]) -> Iterator[None]:
        """Errors caused by the fetched bytes, or by those of the older pruned shard, which is removed."""
        try:
            yield
        except errors as error:
            remove_file(self.folder.shard(shard))
            raise DamagedError(f"{self._name(shard)}: is damaged: {error}", "Fetch that shard again.") from error

    @contextmanager
    def _fetched(self, shard: ObjectMeta, footer: Footer, ranges: Sequence[Range]) -> Iterator[Parts]:
        """The bytes of some ranges; those at the end of the shard came with its footer."""
        to_read = _to_read(footer, ranges)
        with self._limits.memory.take(_bytes(to_read)):
            parts = [(start, self._location.read(shard, start, end)) for start, end in to_read]
            yield Parts([*parts, (footer.start, footer.tail)])


def stage_all(
    location: Location,
    work: Sequence[tuple[TableStaging, ObjectMeta]],
    done: Callable[[TableStaging, ObjectMeta], None],
) -> None:
    """Stage shards over many connections.

    Args:
        done: called after each, in the thread of the caller.

    Raises:
        IndexerError: the first shard that could not be staged; all that were staged stay.
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


def _to_read(footer: Footer, ranges: Sequence[Range]) -> list[Range]:
    """What to request of a shard for some ranges, besides its footer and the bytes that came with it."""
    before = [(start, min(end, footer.start)) for start, end in ranges if start < footer.start]
    return coalesced(before, int(MAX_OVERREAD * (footer.length + _bytes(before))))


def _bytes(ranges: Iterable[Range]) -> int:
    return sum(end - start for start, end in ranges)


def _leaves(info: ShardInfo | None) -> frozenset[str]:
    return info.leaves if info else frozenset()


def _version(status: os.stat_result) -> tuple[int, int]:
    return status.st_mtime_ns, status.st_size
