"""Rows of a finished job as Arrow, in the order of its ORDER BY, all of them or an error.

They come over the Storage Read API, in one stream: only a single stream keeps the order
(https://cloud.google.com/bigquery/docs/reference/storage#read_from_a_session_stream). Where that API is not
permitted they come over REST, which is slower. Either way memory holds a message or a page, not the result.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
from google.api_core.exceptions import PermissionDenied, ServiceUnavailable
from google.api_core.retry import Retry, if_exception_type
from google.cloud import bigquery
from google.cloud.bigquery.table import RowIterator
from google.cloud.bigquery_storage import ArrowSerializationOptions, BigQueryReadClient, DataFormat, ReadSession

from idc_indexer.engines.bigquery import jobs
from idc_indexer.errors import IndexerError
from idc_indexer.google_errors import telling
from idc_indexer.progress import ProgressListener, Retries

PAGE_ROWS = 10_000
"""Rows in one answer over REST, which also ends at 10 MB."""


class Results:
    """Reads results over the Storage Read API until that is refused, then over REST."""

    def __init__(self, storage: BigQueryReadClient | None, project: str, listener: ProgressListener) -> None:
        """Args:
        storage: None for REST only.
        project: the one that reads.
        """
        self._storage = storage
        self._project = project
        self._listener = listener
        self._retries = Retries(listener)

    def batches(self, name: str, job: bigquery.QueryJob, rows: RowIterator) -> Iterator[pa.RecordBatch]:
        """The rows of the job of an index.

        Raises:
            IndexerError: when they end too early.
        """
        expected, read = rows.total_rows, 0
        for batch in self._batches(job):
            read += batch.num_rows
            yield batch
        if read != expected:
            raise IndexerError(f"{name}: the result ended after {read} of {expected} rows", "Run the command again.")

    def _batches(self, job: bigquery.QueryJob) -> Iterator[pa.RecordBatch]:
        if self._storage is not None:
            retry = Retry(predicate=if_exception_type(ServiceUnavailable), timeout=jobs.PATIENCE)
            told = telling(retry, self._retries, "bigquerystorage.googleapis.com")
            stream = _stream(self._storage, self._project, job, told)
            try:
                first = next(stream, None)
            except PermissionDenied:
                pass
            else:
                if first is not None:
                    yield first
                    yield from stream
                return
            self._storage = None
            self._listener.message(
                "the BigQuery Storage Read API is not permitted: results are read over REST, which is slower. "
                "It needs the role BigQuery Read Session User (roles/bigquery.readSessionUser)."
            )
        retry = telling(bigquery.DEFAULT_RETRY.with_timeout(jobs.PATIENCE), self._retries, jobs.HOST)
        found = job.result(page_size=PAGE_ROWS, retry=retry, timeout=jobs.TIMEOUT)
        pages: Iterator[pa.RecordBatch] = found.to_arrow_iterable()
        yield from pages


def _stream(
    storage: BigQueryReadClient, project: str, job: bigquery.QueryJob, retry: Retry
) -> Iterator[pa.RecordBatch]:
    """The rows of a result; a stream that breaks off is taken up where it was."""
    wanted = ReadSession(table=job.destination.to_bqstorage(), data_format=DataFormat.ARROW)
    wanted.read_options.arrow_serialization_options = ArrowSerializationOptions(
        buffer_compression=ArrowSerializationOptions.CompressionCodec.LZ4_FRAME
    )
    session = storage.create_read_session(
        parent=f"projects/{project}", read_session=wanted, max_stream_count=1, retry=retry, timeout=jobs.TIMEOUT
    )
    schema = pa.ipc.read_schema(pa.py_buffer(session.arrow_schema.serialized_schema))
    for stream in session.streams:  # none when there are no rows
        # Messages are decoded here because the client's own way of it is deprecated in favour of pandas.
        messages = storage.read_rows(stream.name, retry=retry)  # type: ignore[no-untyped-call]
        for message in messages:
            data = pa.py_buffer(message.arrow_record_batch.serialized_record_batch)
            yield pa.ipc.read_record_batch(data, schema)
