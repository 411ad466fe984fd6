"""Footers of Parquet files: read with as little as possible; and where in a file the needed leaf columns lie."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from idc_indexer.errors import IndexerError
from idc_indexer.exports.places import Object, Place

FIRST_GUESS = 64 << 10
"""Bytes asked for at the end of a table's first shard. Small tables come whole with it."""
GAP = 64 << 10
"""The most bytes between two column chunks that are read together: of a shard with 2,000 leaf columns, of which 244 are
needed, 8 kB make 7 ranges and 1.04 times the bytes, 64 kB 4 ranges and 1.10 times."""
RANGE = 8 << 20
"""The most bytes of one request: what breaks off is asked for again whole."""

_MAGIC, _TRAILER = b"PAR1", 8

Range = tuple[int, int]


class DamagedError(IndexerError):
    """The bytes of a shard are not what a Parquet file has in that place."""


@dataclass(frozen=True)
class Footer:
    """The footer of a shard.

    Attributes:
        bytes: how long it is in the file, with its length and magic number.
        tail: the end of the file that was read to get it, and where that begins.
    """

    metadata: pq.FileMetaData
    bytes: int
    tail: memoryview
    start: int


def read_footer(place: Place, shard: Object, guess: int = FIRST_GUESS) -> Footer:
    """Read a footer with one request, or with a second one for what the first lacked.

    Args:
        guess: how many bytes at the end of the file are likely to hold it.

    Raises:
        DamagedError: it is no Parquet file.
        IndexerError: it cannot be read.
    """
    name = f"{place.uri}/{shard.key}"
    start = max(shard.bytes - guess, 0)
    tail = place.read(shard, start, shard.bytes) if shard.bytes else memoryview(b"")
    if len(tail) < _TRAILER + len(_MAGIC) or tail[-4:] != _MAGIC:
        raise _not_parquet(name, "it does not end like one")
    length = int.from_bytes(tail[-8:-4], "little") + _TRAILER
    if length > shard.bytes - len(_MAGIC):
        raise _not_parquet(name, "its footer is longer than the file")
    if length > len(tail):
        missing = place.read(shard, shard.bytes - length, start)
        tail, start = memoryview(bytes(missing) + bytes(tail)), shard.bytes - length
    try:
        metadata = pq.read_metadata(pa.BufferReader(pa.py_buffer(tail)))
    except (OSError, pa.ArrowException) as error:
        raise _not_parquet(name, str(error)) from error
    return Footer(metadata, length, tail, start)


def _not_parquet(name: str, why: str) -> DamagedError:
    return DamagedError(f"{name}: not a whole Parquet file: {why}", "Fetch that shard again.")


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
    """Where the column chunks of these leaves lie in a file, in its order."""
    found = []
    row_group = metadata.row_group(group)
    for leaf in leaves:
        chunk = row_group.column(leaf)
        start = chunk.data_page_offset
        if chunk.dictionary_page_offset:  # some writers say 0 for none
            start = min(start, chunk.dictionary_page_offset)
        found.append((start, start + chunk.total_compressed_size))
    return sorted(found)


def coalesced(ranges: Sequence[Range], gap: int = GAP, most: int = RANGE) -> list[Range]:
    """Ranges to read, few and not too long, that hold all those given, which are sorted."""
    joined: list[list[int]] = []
    for start, end in ranges:
        if joined and start - joined[-1][1] <= gap:
            joined[-1][1] = max(end, joined[-1][1])
        else:
            joined.append([start, end])
    return [(at, min(at + most, end)) for start, end in joined for at in range(start, end, most)]
