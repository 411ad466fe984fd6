"""Narrow Parquet: a shard with few of its leaf columns, made of parts of the file and of an older narrow one."""

from __future__ import annotations

import bisect
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

CODEC: dict[str, Any] = {"compression": "zstd", "compression_level": 1}

Array = Any  # what is known of the type here is known at run time only
Field = Any

_SCHEMA, _LEAVES = b"idc_indexer_schema", b"idc_indexer_leaves"


@dataclass(frozen=True)
class Kept:
    """What a narrow file says of itself in its metadata.

    Attributes:
        schema: a digest of the schema of the shard that it comes from.
        leaves: the leaf columns that it holds, as `leaf_paths` names them.
    """

    schema: str
    leaves: frozenset[str]
    rows: int


def kept(path: Path) -> Kept | None:
    """What a narrow file holds; None when it is none, or not whole."""
    try:
        metadata = pq.read_metadata(path)
    except (OSError, pa.ArrowException):
        return None
    about = metadata.metadata or {}
    if _SCHEMA not in about or _LEAVES not in about:
        return None
    return Kept(about[_SCHEMA].decode(), frozenset(about[_LEAVES].decode().split("\n")), metadata.num_rows)


class Writer:
    """Writes a narrow file, one row group after the other. Use it in a `with` block."""

    def __init__(self, path: Path, about: Kept, times_in_utc: bool) -> None:
        self._path = path
        self._about = {_SCHEMA.decode(): about.schema, _LEAVES.decode(): "\n".join(sorted(about.leaves))}
        self._times_in_utc = times_in_utc
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> Writer:
        return self

    def write(self, rows: pa.Table) -> None:
        """Write some rows as a row group."""
        if self._writer is None:
            schema = rows.schema.remove_metadata()
            self._writer = pq.ParquetWriter(
                self._path, schema, store_schema=False, write_time_adjusted_to_utc=self._times_in_utc, **CODEC
            )
            self._writer.add_key_value_metadata(self._about)
        self._writer.write_table(rows, row_group_size=max(rows.num_rows, 1))

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()


class Parts(io.RawIOBase):
    """A file of which some ranges are there. Reading anything else is an error, never zeros."""

    def __init__(self, size: int, parts: Sequence[tuple[int, memoryview]]) -> None:
        """Args:
        size: bytes of the whole file.
        parts: where each begins, and its bytes, in any order.
        """
        super().__init__()
        self._size = size
        self._at = 0
        ordered = sorted(parts, key=lambda part: part[0])
        self._starts: list[int] = []
        self._parts: list[memoryview] = []
        for start, data in ordered:
            self._starts.append(start)
            self._parts.append(data)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """Raises:
        OSError: not all of it is there.
        """
        end = self._size if size is None or size < 0 else min(self._at + size, self._size)
        pieces = []
        while self._at < end:
            place = bisect.bisect_right(self._starts, self._at) - 1
            inside = self._at - self._starts[place] if place >= 0 else 0
            piece = self._parts[place][inside : inside + end - self._at] if place >= 0 else memoryview(b"")
            if not piece:
                raise OSError(f"bytes {self._at} to {end} of the file were not fetched")
            pieces.append(piece)
            self._at += len(piece)
        return pieces[0].tobytes() if len(pieces) == 1 else b"".join(pieces)


def adjusted_times(metadata: pq.FileMetaData, leaves: Sequence[int]) -> bool:
    """Whether TIME is marked as UTC there, which DuckDB makes another type of."""
    return any(
        logical.type == "TIME" and "isAdjustedToUTC=true" in str(logical)
        for logical in (metadata.schema.column(leaf).logical_type for leaf in leaves)
    )


def merged(left: pa.Table, right: pa.Table) -> pa.Table:
    """The same rows with the leaf columns of both, which have none in common.

    Columns and fields of records that both have are merged; their order is that of `left`, then of `right`.

    Raises:
        ValueError: they are not the same rows.
    """
    if left.num_rows != right.num_rows:
        raise ValueError(f"{left.num_rows} rows and {right.num_rows}")
    columns = {field.name: (field, _whole(left[field.name])) for field in left.schema}
    for field in right.schema:
        column = (field, _whole(right[field.name]))
        columns[field.name] = _merge(*columns[field.name], *column) if field.name in columns else column
    fields = [field for field, _ in columns.values()]
    return pa.Table.from_arrays([array for _, array in columns.values()], schema=pa.schema(fields))


def _whole(column: pa.ChunkedArray[Any]) -> Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _merge(left: Field, one: Array, right: Field, other: Array) -> tuple[Field, Array]:
    if one.null_count != other.null_count or not one.is_null().equals(other.is_null()):
        raise ValueError(f"{left.name} is not NULL in the same rows")
    mask = one.is_null() if one.null_count else None
    if pa.types.is_list(left.type) or pa.types.is_large_list(left.type):
        lengths = one.value_lengths()
        if not lengths.equals(other.value_lengths()):
            raise ValueError(f"{left.name} has not the same lengths")
        field, values = _merge(left.type.value_field, one.flatten(), right.type.value_field, other.flatten())
        kind = pa.large_list(field) if pa.types.is_large_list(left.type) else pa.list_(field)
        return left.with_type(kind), _listed(kind, lengths, values, mask)
    if not pa.types.is_struct(left.type):
        raise ValueError(f"{left.name} is in both")
    children = {child.name: (child, one.field(place)) for place, child in enumerate(left.type)}
    for place, child in enumerate(right.type):
        array = other.field(place)
        children[child.name] = _merge(*children[child.name], child, array) if child.name in children else (child, array)
    fields = [field for field, _ in children.values()]
    arrays = [array for _, array in children.values()]
    return left.with_type(pa.struct(fields)), pa.StructArray.from_arrays(arrays, fields=fields, mask=mask)


def _listed(kind: pa.DataType, lengths: Array, values: Array, mask: Array | None) -> Array:
    ends = pc.cumulative_sum(pc.fill_null(lengths, 0).cast(pa.int64()))
    offsets = pa.concat_arrays([pa.array([0], pa.int64()), ends])
    if pa.types.is_large_list(kind):
        return pa.LargeListArray.from_arrays(offsets, values, type=kind, mask=mask)
    return pa.ListArray.from_arrays(offsets.cast(pa.int32()), values, type=kind, mask=mask)
