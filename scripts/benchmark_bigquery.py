"""How fast a large result is read, and in how much memory: the published idc_index, over gRPC and over REST.

    PYTHONPATH=src:. python scripts/benchmark_bigquery.py FOLDER

FOLDER holds idc_index.parquet of the package idc-index-data. The server for tests gives its rows for whatever query,
in a process of its own; what it takes to make messages and pages of them is in the seconds, not in the memory.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tests.emulators.bigquery import BigQueryServer, Table

from idc_indexer.catalog import Catalog
from idc_indexer.schema.arrow import conform

TABLES = ("dicom_all", "dicom_metadata_curated", "auxiliary_metadata")
ROWS_OF_A_MESSAGE = 10_000
READ = """
from idc_indexer.cli.progress import Plain
from idc_indexer.schema.arrow import conform
from idc_indexer.catalog import Catalog
from idc_indexer.engines.bigquery import BigQueryEngine, connect
index = Catalog().indices["idc_index"].for_release(25)
engine = BigQueryEngine(connect("my-project", "US"), listener=Plain())
with engine.plan([index]).running([index]) as run, run.rows(index) as batches:
    print(sum(conform(batch, index.schema.columns, "idc_index").num_rows for batch in batches))
"""


def serve(path: Path, way: str, pipe: Connection) -> None:
    """Be the server until told to stop."""
    columns = Catalog().indices["idc_index"].schema.columns
    batches = pq.ParquetFile(path).iter_batches()  # of types that BigQuery does not have, such as large_string
    rows = pa.Table.from_batches([conform(batch, columns, "idc_index") for batch in batches])
    facts = {f"idc_v25.{table}": Table(58_784_975, 1 << 30) for table in TABLES}
    with BigQueryServer(facts, lambda _: rows) as server:
        server.message_rows = server.page_rows = ROWS_OF_A_MESSAGE
        if way == "REST":
            del server.environment["BIGQUERY_STORAGE_EMULATOR_HOST"]
        pipe.send(server.environment)
        pipe.recv()


def measure(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Seconds and peak memory, in GB, of a command."""
    start = time.perf_counter()
    process = subprocess.Popen(command, env=os.environ | environment)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command[:3]} failed")
    return time.perf_counter() - start, usage.ru_maxrss / 1e6


def main() -> None:
    """Print a line for each way and program."""
    path = Path(sys.argv[1]) / "idc_index.parquet"
    rows = pq.read_metadata(path).num_rows
    for way in ("gRPC", "REST"):
        ours, theirs = multiprocessing.get_context("spawn").Pipe()
        server = multiprocessing.get_context("spawn").Process(target=serve, args=(path, way, theirs), daemon=True)
        server.start()
        environment = ours.recv()
        with tempfile.TemporaryDirectory() as folder:
            build = ["-m", "idc_indexer", "build", "idc_index", "--engine", "bigquery", "--project", "my-project"]
            build += ["--idc-version", "25", "--release-version", "25.0.5", "--out", f"{folder}/release"]
            for name, arguments in (("read", ["-c", READ]), ("build", build)):
                seconds, memory = measure([sys.executable, *arguments], environment)
                print(
                    f"{way} {name}: {rows} rows, {seconds:.1f} s, {rows / seconds:.0f} rows/s, {memory:.2f} GB",
                    flush=True,
                )
        ours.send("stop")
        server.join()


if __name__ == "__main__":
    main()
