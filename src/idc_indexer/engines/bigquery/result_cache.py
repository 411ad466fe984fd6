"""Results of jobs in the cache folder. BigQuery stores a result for a day; after that it would be billed again.

There is one Parquet file for each index and release; each page has a checksum.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from idc_indexer import locks
from idc_indexer.cache import HINT, Cache
from idc_indexer.catalog import PinnedIndex
from idc_indexer.errors import IndexerError
from idc_indexer.files import atomic_path, os_errors_for

_INPUTS = b"inputs"


class ResultCache:
    """The rows of results, as BigQuery returned them."""

    def __init__(self, cache: Path) -> None:
        self.folder = Cache(cache).results

    def _path(self, index: PinnedIndex) -> Path:
        return self.folder.path / f"{index.name}-v{index.release}.parquet"

    def has(self, index: PinnedIndex, inputs: str) -> bool:
        """Whether there is a result of the same query over the same tables.

        Args:
            inputs: a digest of both.
        """
        try:
            metadata = pq.read_schema(self._path(index)).metadata or {}
        except (OSError, pa.ArrowException):
            return False  # none, or damaged
        return metadata.get(_INPUTS) == inputs.encode()

    def rows(self, index: PinnedIndex) -> Iterator[pa.RecordBatch]:
        """The rows of a result that is there.

        Raises:
            IndexerError: the file is damaged or gone.
        """
        path = self._path(index)
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                yield from file.iter_batches()
        except (OSError, pa.ArrowException) as error:
            with os_errors_for(path):
                path.unlink(missing_ok=True)
            raise IndexerError(
                f"{index.name}: {path}, the cached rows, was damaged and is removed",
                "Run the same command again: the query will run again, and be billed.",
            ) from error

    def storing(self, index: PinnedIndex, inputs: str, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The same batches; once all have come, the cache holds them."""
        path = self._path(index)
        with ExitStack() as held:
            try:
                held.enter_context(locks.exclusive(path.with_suffix(".lock"), 0, HINT))
            except locks.Timeout:  # another build stores them
                yield from batches
                return
            first = next(batches, None)
            if first is None:
                return
            schema = first.schema.with_metadata({_INPUTS: inputs.encode()})
            with (
                atomic_path(path) as temporary,
                pq.ParquetWriter(temporary, schema, compression="zstd", write_page_checksum=True) as writer,
            ):
                writer.write_batch(first.replace_schema_metadata(schema.metadata))
                yield first
                for batch in batches:
                    writer.write_batch(batch.replace_schema_metadata(schema.metadata))
                    yield batch
