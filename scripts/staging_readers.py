"""The ways to read from S3 that `benchmark_staging.py` compares; each runs as a process of its own.

    python scripts/staging_readers.py READER JOB.json

A job names the server, the connections to use, byte ranges by object (for readers of ranges), and top-level columns
by table (for readers of tables, which write what they read to a folder, as staging does). Nothing of the toolkit is
imported, so that every reader can have an environment of its own.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Job:
    """What to read.

    Attributes:
        ranges: first and last byte, by key.
        columns: names, by folder of shards.
        out: folder for what readers of tables write.
    """

    url: str
    bucket: str
    connections: int
    ranges: dict[str, list[tuple[int, int]]]
    columns: dict[str, list[str]]
    out: str

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc

    def each_range(self, read: Callable[[str, int, int], int]) -> None:
        """Call `read` with a key, the first byte and the one after the last, over all connections."""
        work = [(key, first, last + 1) for key, ranges in self.ranges.items() for first, last in ranges]
        with ThreadPoolExecutor(self.connections) as pool:
            for (key, first, after), length in zip(work, pool.map(lambda each: read(*each), work), strict=True):
                if length != after - first:
                    sys.exit(f"{key}: {length} bytes instead of {after - first}")


# --- Readers of ranges --------------------------------------------------------------------------------------


def plain(job: Job) -> None:
    """Connections of the standard library, kept open, one a thread."""
    from http.client import HTTPConnection

    mine = threading.local()

    def read(key: str, first: int, after: int) -> int:
        if not hasattr(mine, "connection"):
            mine.connection = HTTPConnection(job.host)
        mine.connection.request("GET", f"/{job.bucket}/{key}", headers={"Range": f"bytes={first}-{after - 1}"})
        return len(mine.connection.getresponse().read())

    job.each_range(read)


def urllib3(job: Job) -> None:
    """What botocore sends its requests with."""
    from urllib3 import HTTPConnectionPool

    host, _, port = job.host.partition(":")
    pool = HTTPConnectionPool(host, int(port), maxsize=job.connections, block=True)

    def read(key: str, first: int, after: int) -> int:
        return len(pool.request("GET", f"/{job.bucket}/{key}", headers={"Range": f"bytes={first}-{after - 1}"}).data)

    job.each_range(read)


def obstore(job: Job) -> None:
    import obstore
    from obstore.store import S3Store

    store = S3Store(
        job.bucket, endpoint=job.url, region="us-east-1", skip_signature=True, client_options={"allow_http": True}
    )
    job.each_range(lambda key, first, after: len(obstore.get_range(store, key, start=first, end=after)))


def arrow(job: Job) -> None:
    """pyarrow's S3FileSystem. Opening an object is a HEAD request; an open one is shared by its ranges."""
    store = _arrow(job)
    lock = threading.Lock()
    opened: dict[str, Future[Any]] = {}
    with ThreadPoolExecutor(job.connections) as openers:

        def read(key: str, first: int, after: int) -> int:
            with lock:
                if key not in opened:
                    opened[key] = openers.submit(store.open_input_file, f"{job.bucket}/{key}")
            return len(opened[key].result().read_at(after - first, first))

        job.each_range(read)


# --- Readers of tables --------------------------------------------------------------------------------------


def dataset(job: Job) -> None:
    """pyarrow's dataset reader, which fetches the columns of a fragment ahead."""
    import pyarrow as pa
    import pyarrow.dataset as ds
    import pyarrow.parquet as pq

    pa.set_io_thread_count(job.connections)
    for number, (folder, columns) in enumerate(job.columns.items()):
        table = ds.dataset(f"{job.bucket}/{folder}", filesystem=_arrow(job), format="parquet")
        scanner = table.scanner(columns=columns)
        with pq.ParquetWriter(Path(job.out, f"{number}.parquet"), scanner.projected_schema, compression="zstd") as out:
            for batch in scanner.to_batches():
                out.write_batch(batch)


def httpfs(job: Job) -> None:
    """DuckDB, with the threads that it takes by itself."""
    _duckdb(job, "SELECT 1")


def httpfs_threads(job: Job) -> None:
    """DuckDB, with a quarter as many threads as connections: with as many, it needs more than 8 GB of memory."""
    _duckdb(job, f"SET threads = {job.connections // 4}")


def _arrow(job: Job) -> Any:
    from pyarrow import fs

    return fs.S3FileSystem(anonymous=True, region="us-east-1", scheme="http", endpoint_override=job.host)


def _duckdb(job: Job, setting: str) -> None:
    import duckdb

    package = import_module("duckdb_extension_httpfs")  # of other environments, and without types
    (extension,) = Path(str(package.__file__)).parent.rglob("*.duckdb_extension")
    connection = duckdb.connect(config={"allow_unsigned_extensions": True, "preserve_insertion_order": False})
    connection.execute(f"LOAD '{extension}'; {setting}; SET temp_directory = '{job.out}'; SET memory_limit = '6GB'")
    connection.execute(f"SET s3_endpoint = '{job.host}'; SET s3_url_style = 'path'; SET s3_use_ssl = false")
    for number, (folder, columns) in enumerate(job.columns.items()):
        names = ", ".join(f'"{name}"' for name in columns)
        source = f"read_parquet('s3://{job.bucket}/{folder}/*.parquet')"
        # Every thread buffers a row group; of those of its own size, more than there is memory for.
        options = "COMPRESSION zstd, ROW_GROUP_SIZE 10000"
        connection.execute(f"COPY (SELECT {names} FROM {source}) TO '{job.out}/{number}.parquet' ({options})")


READERS: dict[str, Callable[[Job], None]] = {
    reader.__name__: reader for reader in (plain, urllib3, obstore, arrow, dataset, httpfs, httpfs_threads)
}

if __name__ == "__main__":
    READERS[sys.argv[1]](Job(**json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))))
