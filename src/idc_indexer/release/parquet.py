"""The one writer of index Parquet.

Same rows, same bytes: the file depends on the rows, their order, the schema and the version of
pyarrow, never on threads, the sizes of the incoming batches, the clock or the machine.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from idc_indexer.files import atomic_path
from idc_indexer.release.keys import KeyCheck
from idc_indexer.schema.arrow import arrow_schema, conform, file_schema
from idc_indexer.schema.column import Column
from idc_indexer.schema.table import Schema

WRITER = {"name": "pyarrow", "version": pa.__version__}
"""As manifests name it."""
VERSION_KEY = b"idc_index_data_version"
DESCRIPTION_KEY = b"description"
# These values, and the encodings in the schemas of the indices, were chosen by measuring: scripts/layout.py, with the
# figures in docs/layout.md.
ROW_GROUP_ROWS = 61_440
PAGE_BYTES = 256 << 10
FALSE_POSITIVES = 0.05
ZSTD_LEVEL = 12
ZSTD_LEVEL_OF_TEXT_WITHOUT_DICTIONARY = 1
"""A higher level finds nothing more in UIDs: at 9 they are larger than at 1, and take six times as long."""


@dataclass(frozen=True)
class Written:
    """A written file. `sha256` is in hexadecimal."""

    rows: int
    bytes: int
    sha256: str


def write_parquet(
    batches: Iterable[pa.RecordBatch], index: Schema, path: Path, *, version: str, context: str, derived: bool = False
) -> Written:
    """Write one index or derived table, atomically.

    Memory holds one row group. The digest is computed while the bytes are written.

    Args:
        batches: rows in their final order, in batches of any size.
        index: the schema; its descriptions go into the file's metadata.
        path: the file; it appears, complete, at the end.
        version: the release version, for the file's metadata.
        context: the index, for messages.
        derived: whether it is a derived table; see `file_schema`.

    Raises:
        IndexerError: a row does not fit the schema, a key is NULL or repeated, a row is out of order, or the file
            cannot be written.
    """
    about = {VERSION_KEY: version.encode(), DESCRIPTION_KEY: index.description.encode()}
    schema = file_schema(index.columns, derived).with_metadata(about)
    conformed = (conform(batch, index.columns, context) for batch in batches)
    rows, keys = 0, KeyCheck(index, context)
    with atomic_path(path) as temporary:
        with temporary.open("wb") as file:
            sink = _Hashing(file)
            with pq.ParquetWriter(pa.PythonFile(sink, mode="w"), schema, **layout(index.columns)) as writer:
                for group in _groups(conformed, arrow_schema(index.columns)):
                    keys.add(group)
                    rows += group.num_rows
                    writer.write_table(group.cast(schema), row_group_size=ROW_GROUP_ROWS)
        keys.finish(temporary)
    return Written(rows, sink.bytes, sink.digest.hexdigest())


def layout(columns: Iterable[Column]) -> dict[str, Any]:
    """Options of pyarrow's writer, per column where columns differ."""
    plain = {column.name: column for column in columns if column.encoding}
    text = {name for name, column in plain.items() if column.type == "STRING"}
    paths = [path for column in columns for path in leaves(column)]
    return {
        "version": "2.6",
        "compression": "zstd",
        "compression_level": {
            path: ZSTD_LEVEL_OF_TEXT_WITHOUT_DICTIONARY if path in text else ZSTD_LEVEL for path in paths
        },
        "use_dictionary": [path for path in paths if path not in plain],
        "column_encoding": {name: column.encoding for name, column in plain.items()} or None,
        "bloom_filter_options": {
            column.name: {"ndv": math.ceil(ROW_GROUP_ROWS * column.bloom_filter), "fpp": FALSE_POSITIVES}
            for column in columns
            if column.bloom_filter
        },
        "data_page_size": PAGE_BYTES,
        "max_rows_per_page": ROW_GROUP_ROWS,  # that is, no limit besides PAGE_BYTES
    }


def leaves(field: Column) -> Iterator[str]:
    """The leaves of a column, as Parquet names them."""
    name = f"{field.name}.list.element" if field.mode == "REPEATED" else field.name
    if not field.fields:
        yield name
    for child in field.fields:
        yield from (f"{name}.{path}" for path in leaves(child))


def _groups(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    """Tables of exactly `ROW_GROUP_ROWS` rows, the last with the rest, each in one chunk.

    pyarrow ends pages where chunks end, so one chunk keeps the pages independent of the incoming batches.
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
    """A file that computes the digest of the bytes written to it."""

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
