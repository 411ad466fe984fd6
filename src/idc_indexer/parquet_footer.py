"""Parquet footers of files that may be damaged: read without a traceback, and without an abort of the process.

`ColumnChunkMetaData` of pyarrow ends the process with signal 6 if a footer has a codec that does not exist, or
histograms of another length than the column needs: C++ throws where Cython expects no exception. About one damaged
footer in 600 is of that kind. `check` makes Arrow build the same objects behind an interface that reports exceptions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from idc_indexer.errors import IndexerError

DAMAGE = (OSError, pa.ArrowException, ValueError, KeyError, IndexError, OverflowError, MemoryError)
"""What pyarrow raises for damaged files: names that are not UTF-8, sizes beyond all memory, columns that are gone."""
_BUFFER = 4096


class DamagedFooterError(ValueError):
    """A footer says what no Parquet file has."""


def read_metadata(file: pa.NativeFile) -> pq.FileMetaData:
    """The footer of a Parquet file, which is not checked yet.

    Not `pyarrow.parquet.read_metadata`, which lists in Python what is nested in what: with 2,008 leaf columns it takes
    twice as long.

    Raises:
        one of DAMAGE: it is no Parquet file, or cannot be read.
    """
    reader = cast(Any, pq.core).ParquetReader()
    reader.open(file, pre_buffer=False)
    metadata: pq.FileMetaData = reader.metadata
    return metadata


def arrow_schema(metadata: pq.FileMetaData) -> pa.Schema:
    """The Arrow schema of a footer in which all texts are UTF-8. Arrow does not check a text before it is read.

    With 2,008 leaf columns the check takes six times as long as the schema: do it once for all files that share one.

    Raises:
        one of DAMAGE: a name is not UTF-8, or a type does not exist.
    """
    schema = metadata.schema.to_arrow_schema()
    if "\ufffd" in schema.to_string(show_field_metadata=False, show_schema_metadata=False):
        raise DamagedFooterError("the name of a column is not UTF-8")
    metadata.created_by  # noqa: B018 -- decodes it
    return schema


def check(metadata: pq.FileMetaData, size: int, columns: Sequence[int] | None = None) -> None:
    """Check that the column chunks of a footer can be looked at, and lie in the file.

    Args:
        size: of the file, in bytes.
        columns: the leaf columns to check, by number; all if None.

    Raises:
        DamagedFooterError: they cannot.
    """
    numbers = list(range(metadata.num_columns) if columns is None else columns)
    if not numbers:
        return
    reader = cast(Any, pq.core).ParquetReader()
    try:
        # A buffer, and nothing fetched ahead: so that Arrow looks at codecs before it asks for the first byte.
        nothing = pa.PythonFile(cast(Any, _NoBytes(size)), "r")
        reader.open(nothing, metadata=metadata, buffer_size=_BUFFER, pre_buffer=False)
        for group in range(metadata.num_row_groups):
            try:
                reader.read_row_group(group, column_indices=numbers, use_threads=False)
            except _ReachedError:
                continue
            if metadata.row_group(group).num_rows:
                raise DamagedFooterError(f"row group {group} has no bytes")
        for group in range(metadata.num_row_groups):
            _check_places(metadata.row_group(group), numbers, size)
    except DamagedFooterError:
        raise
    except DAMAGE as error:
        raise DamagedFooterError(str(error).split("\n", 1)[0]) from error


def _check_places(group: pq.RowGroupMetaData, columns: Sequence[int], size: int) -> None:
    for number in columns:
        chunk = group.column(number)
        start = min(chunk.data_page_offset, chunk.dictionary_page_offset or chunk.data_page_offset)
        if start < 0 or chunk.total_compressed_size < 0 or start + chunk.total_compressed_size > size:
            raise DamagedFooterError(f"column {chunk.path_in_schema} does not lie in the file")


def read(path: Path) -> pq.FileMetaData:
    """The checked footer of a file.

    Raises:
        IndexerError: naming the file: it cannot be read, or is damaged.
    """
    with errors_for(str(path)), pa.OSFile(str(path), "rb") as file:
        metadata = read_metadata(file)
        arrow_schema(metadata)
        for number in range(metadata.num_columns):
            metadata.schema.column(number).path  # noqa: B018 -- decodes names that are not in the Arrow schema
        check(metadata, path.stat().st_size)
        return metadata


@contextmanager
def errors_for(name: str, hint: str = "") -> Iterator[None]:
    """Turn what pyarrow raises while it reads a Parquet file into an error that names the file.

    Raises:
        IndexerError: the file cannot be read, or is damaged.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise IndexerError(f"{name}: no such file", hint) from error
    except PermissionError as error:
        raise IndexerError(f"{name}: {error.strerror or 'permission denied'}", hint) from error
    except DAMAGE as error:
        reason = str(error).split("\n", 1)[0] or type(error).__name__
        raise IndexerError(f"{name}: not a complete Parquet file: {reason}", hint) from error


class _ReachedError(Exception):
    """Arrow has built all that it needs to read a row group, and asks for the first byte."""


class _NoBytes:
    """A file of a given size that refuses to give any byte."""

    closed = False

    def __init__(self, size: int) -> None:
        self._size = size
        self._at = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, _: int = -1) -> bytes:
        raise _ReachedError

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass
