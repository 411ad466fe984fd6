"""The one writer of index Parquet.

Same rows, same bytes: the file depends on the rows, their order, the schema and the version of
pyarrow, never on threads, the sizes of the batches that arrive, the clock or the machine.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from idc_indexer.arrow import arrow_schema, conform
from idc_indexer.fields import Field
from idc_indexer.files import atomic

VERSION_KEY = b"idc_index_data_version"
ROW_GROUP_ROWS = 122_880
# Measured on the published v25 idc_index (1,044,191 rows, one row group, 74.1 MB), DuckDB, 2 threads, against it:
#    rows in a group   size    one collection   one patient
#             32,768   1.05            1.8 x         4.3 x
#            122,880   1.01            1.6 x         3.5 x
#            262,144   1.00            1.6 x         2.5 x
# and zstd 1, 3, 9: 1.01, 1.07, 1.03 of its size, written in 1.3, 1.7, 4.2 s.
ZSTD_LEVEL = 1


@dataclass(frozen=True)
class Written:
    """A file as it was written. `sha256` is in hexadecimal."""

    rows: int
    bytes: int
    sha256: str


def write_parquet(
    batches: Iterable[pa.RecordBatch], columns: tuple[Field, ...], path: Path, *, version: str, where: str
) -> Written:
    """Write one index, atomically.

    Memory holds one row group. The digest is taken from what is written, on the way.

    Args:
        batches: rows in their final order, in batches of any size.
        path: the file; it appears, whole, at the end.
        version: the release version, kept in the file's metadata.
        where: the index, for messages.

    Raises:
        IndexerError: a row does not fit the schema, or the file cannot be written.
    """
    schema = arrow_schema(columns).with_metadata({VERSION_KEY: version.encode()})
    rows = 0
    with atomic(path) as file:
        sink = _Hashing(file)
        with pq.ParquetWriter(
            pa.PythonFile(sink, mode="w"), schema, compression="zstd", compression_level=ZSTD_LEVEL, version="2.6"
        ) as writer:
            for group in _groups((conform(batch, columns, where) for batch in batches), schema):
                rows += group.num_rows
                writer.write_table(group, row_group_size=ROW_GROUP_ROWS)
    return Written(rows, sink.bytes, sink.digest.hexdigest())


def _groups(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    """Tables of exactly `ROW_GROUP_ROWS` rows, the last with the rest, each in one chunk.

    Where pages end inside a row group depends on where chunks do; one chunk makes that constant.
    """
    waiting: list[pa.RecordBatch] = []
    count = 0
    for arrived in batches:
        batch = arrived
        while count + batch.num_rows >= ROW_GROUP_ROWS:
            head = ROW_GROUP_ROWS - count
            yield pa.Table.from_batches([*waiting, batch.slice(0, head)], schema).combine_chunks()
            waiting, count, batch = [], 0, batch.slice(head)
        if batch.num_rows:
            waiting.append(batch)
            count += batch.num_rows
    if waiting:
        yield pa.Table.from_batches(waiting, schema).combine_chunks()


class _Hashing(io.RawIOBase):
    """A file that takes the digest of what passes through."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self.digest = hashlib.sha256()
        self.bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data)
        self.digest.update(view)
        self.bytes += view.nbytes
        self._file.write(view)
        return view.nbytes
