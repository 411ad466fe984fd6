"""Footers of Parquet files: read with as little as possible; and where in a file the needed leaf columns lie."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from idc_indexer import parquet_footer
from idc_indexer.errors import IndexerError
from idc_indexer.parquet_footer import DAMAGE, DamagedFooterError, arrow_schema, read_metadata

FIRST_GUESS = 64 << 10
"""Bytes asked for at the end of a table's first shard. Small tables come whole with it."""
MAX_OVERREAD = 0.1
"""Surplus bytes read between needed ones, to make fewer requests: at most this share of the footer and the needed
column chunks. docs/staging.md compares other shares."""
RANGE = 8 << 20
"""The most bytes of one request. A request that breaks off is repeated from its beginning."""

MAGIC = b"PAR1"
"""What a Parquet file begins and ends with."""

_TRAILER = 8

Range = tuple[int, int]


class DamagedError(IndexerError):
    """The bytes of a shard are not what a Parquet file has in that place."""


def check(name: str, metadata: pq.FileMetaData, size: int, columns: Sequence[int]) -> None:
    """Check what a footer says of the column chunks of some of its columns.

    Args:
        size: of the file that has the chunks.

    Raises:
        DamagedError: it says what no Parquet file has.
    """
    try:
        parquet_footer.check(metadata, size, columns)
    except DamagedFooterError as error:
        raise not_parquet(name, str(error)) from error


@dataclass(frozen=True)
class Footer:
    """The footer of a shard.

    Attributes:
        length: how many bytes it has in the file, with its length and magic number.
        tail: the end of the file that was read to get it, and where that begins.
    """

    length: int
    tail: memoryview
    start: int

    @cached_property
    def encoded(self) -> bytes:
        """The footer as it is in the file."""
        return bytes(self.tail[-self.length : -_TRAILER])

    @property
    def file_bytes(self) -> int:
        """The size of the shard."""
        return self.start + len(self.tail)


def read_footer(read: Callable[[int, int], memoryview], name: str, size: int, guess: int = FIRST_GUESS) -> Footer:
    """Read a footer with one request, or with a second one for what the first lacked.

    Args:
        read: gives the bytes of the file from a first one up to, and without, a last one.
        name: of the file, for messages.
        size: of the file.
        guess: how many bytes at the end of the file are likely to hold it.

    Raises:
        DamagedError: it is no Parquet file.
        IndexerError: it cannot be read.
    """
    start = max(size - guess, 0)
    tail = read(start, size) if size else memoryview(b"")
    if len(tail) < _TRAILER + len(MAGIC) or tail[-4:] != MAGIC:
        raise not_parquet(name, "it does not end like one")
    length = int.from_bytes(tail[-8:-4], "little") + _TRAILER
    if length > size - len(MAGIC):
        raise not_parquet(name, "its footer is longer than the file")
    if length > len(tail):
        missing = read(size - length, start)
        tail, start = memoryview(bytes(missing) + bytes(tail)), size - length
    return Footer(length, tail, start)


def parse(name: str, encoded: bytes) -> pq.FileMetaData:
    """What a footer says. `check_names` checks its texts, and `check` its column chunks.

    Args:
        name: of the file, for messages.
        encoded: the footer as it is in the file.

    Raises:
        DamagedError: it is no footer of a Parquet file.
    """
    try:
        return read_metadata(pa.BufferReader(pa.py_buffer(encoded + len(encoded).to_bytes(4, "little") + MAGIC)))
    except DAMAGE as error:
        raise not_parquet(name, str(error).split("\n", 1)[0]) from error


def check_names(name: str, metadata: pq.FileMetaData) -> None:
    """Check that the names of columns and of the writer are text: pyarrow decodes each when it is asked for.

    Raises:
        DamagedError: one is not.
    """
    try:
        leaf_paths(arrow_schema(metadata))
    except DAMAGE as error:
        raise not_parquet(name, str(error)) from error


def not_parquet(name: str, why: str) -> DamagedError:
    """The error for a file that has no valid footer."""
    return DamagedError(f"{name}: not a complete Parquet file: {why}", "Fetch that shard again.")


def leaf_paths(schema: pa.Schema) -> list[str]:
    """The leaf columns of a file in order, named as queries name them: `A.B` whatever is repeated, lower case."""
    return [path.lower() for field in schema for path in _leaves(field)]


def _leaves(field: pa.Field[Any]) -> Iterator[str]:
    kind = field.type
    while pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
    if pa.types.is_struct(kind):
        for child in kind:
            yield from (f"{field.name}.{path}" for path in _leaves(child))
    elif pa.types.is_map(kind):
        yield from (f"{field.name}.key", f"{field.name}.value")
    else:
        yield field.name


def chunk_ranges(metadata: pq.FileMetaData, group: int, leaves: Collection[int]) -> list[Range]:
    """Where the column chunks of these leaves lie in a file, in its order. Check the footer before, with `check`."""
    row_group = metadata.row_group(group)
    return sorted(chunk_range(row_group.column(leaf)) for leaf in leaves)


def chunk_range(chunk: pq.ColumnChunkMetaData) -> Range:
    """Where a column chunk lies in its file."""
    start = chunk.data_page_offset
    if chunk.dictionary_page_offset:  # some writers say 0 for none
        start = min(start, chunk.dictionary_page_offset)
    return start, start + chunk.total_compressed_size


def coalesced(ranges: Sequence[Range], spare: int, most: int = RANGE) -> list[Range]:
    """Ranges to read that hold all those given, which are sorted: as few as there can be, none of them too long.

    Args:
        spare: the most bytes between them that may be read too; the smallest gaps are closed first.
        most: the most bytes of a range.
    """
    gaps = sorted((after[0] - before[1], place) for place, (before, after) in enumerate(pairwise(ranges)))
    closed = set()
    for gap, place in gaps:
        spare -= max(gap, 0)
        if spare < 0:
            break
        closed.add(place)
    joined: list[list[int]] = []
    for place, (start, end) in enumerate(ranges):
        if place - 1 in closed:
            joined[-1][1] = max(end, joined[-1][1])
        else:
            joined.append([start, end])
    return [(at, min(at + most, end)) for start, end in joined for at in range(start, end, most)]
