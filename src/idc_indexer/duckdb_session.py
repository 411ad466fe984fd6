"""DuckDB connections: how this toolkit opens them, reads Parquet through them, and interrupts them."""

from __future__ import annotations

import errno
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import duckdb

from idc_indexer.errors import IndexerError, UsageError
from idc_indexer.files import temporary_folder

_MEMORY = re.compile(r"(?=.*[1-9])[0-9]+(\.[0-9]+)? ?[KMGT]i?B", re.IGNORECASE)
_BOUND = "600MB"
"""Memory of DuckDB in `bounded`: two idc_index of a million rows are compared with it in less than 1 GB in all."""
_THREADS = 4
"""Each has buffers of its own. Only one can read a file of a single row group, which is what IDC has published."""


def connect(
    threads: int | None = None, memory_limit: str | None = None, temporary: Path | None = None
) -> duckdb.DuckDBPyConnection:
    """A DuckDB in memory that fetches nothing from the network.

    Args:
        threads: one per processor when None.
        memory_limit: such as `4GB`; rows that do not fit go to `temporary`.

    Raises:
        UsageError: `memory_limit` is not an amount of memory.
    """
    # parquet_metadata_cache is left off, for it makes no difference: 16 indices of 960 staged shards took 64.9 and
    # 67.9 s of processor time with it, 66.5 and 64.8 s without.
    config: dict[str, Any] = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        # Only ORDER BY orders rows here; not keeping any other order lets DuckDB stream.
        "preserve_insertion_order": False,
    }
    if threads:
        config["threads"] = threads
    if memory_limit is not None:
        # DuckDB takes other texts, such as -1 or none, for no limit.
        if not _MEMORY.fullmatch(memory_limit):
            raise UsageError(f"--memory-limit {memory_limit}: not an amount of memory", "Write it as 4GB or 800MB.")
        config["memory_limit"] = memory_limit
    if temporary:
        config["temp_directory"] = str(temporary)
    connection = duckdb.connect(config=config)
    # In a notebook, and in `python -c`, it would print its own on stdout.
    connection.execute("SET enable_progress_bar = false")
    connection.execute("SET GLOBAL TimeZone = 'UTC'")  # BigQuery's; not that of the machine
    return connection


@contextmanager
def bounded() -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB whose memory does not grow with the tables: rows that do not fit go to a temporary folder.

    Raises:
        IndexerError: no temporary folder can be made.
    """
    threads = min(_THREADS, os.cpu_count() or 1)
    with temporary_folder() as scratch, closing(connect(threads, _BOUND, scratch)) as connection:
        yield connection


def first_row(connection: duckdb.DuckDBPyConnection, sql: str, *parameters: Any) -> tuple[Any, ...] | None:
    """The first row of a short result, None if there is none.

    The result is read to its end: with `fetchone`, DuckDB 2 refuses to make an Arrow reader on that connection.
    """
    rows: list[tuple[Any, ...]] = connection.execute(sql, parameters).fetchall()
    return rows[0] if rows else None


def mistrust_statistics(connection: duckdb.DuckDBPyConnection, mistrust: bool = True) -> None:
    """Make DuckDB read the values of Parquet files instead of their statistics, or trust the statistics again.

    FLOAT columns need this: statistics ignore NaN, and DuckDB skips rows and computes MAX and counts by them.
    """
    optimizers = "statistics_propagation,filter_pushdown" if mistrust else ""
    connection.execute(f"SET disabled_optimizers = '{optimizers}'")


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn the exception that DuckDB raises on Ctrl-C back into KeyboardInterrupt."""
    try:
        yield
    except (duckdb.InterruptException, RuntimeError) as error:
        if "interrupted" in str(error).lower():
            raise KeyboardInterrupt from error
        raise


@contextmanager
def errors_for(name: str, hint: str = "") -> Iterator[None]:
    """Turn what DuckDB raises while it reads files into an error that names them.

    Damaged bytes give not only `duckdb.Error`: dates beyond the year 9999 and texts that are not UTF-8 fail when they
    become Python values.

    Raises:
        IndexerError: a file is damaged, or a query needs more space than there is.
    """
    try:
        yield
    except duckdb.InterruptException:
        raise
    except (duckdb.Error, ValueError, OverflowError, MemoryError) as error:
        if lack := lack_of_space(name, error):
            raise lack from error
        raise IndexerError(f"{name}: cannot be read: {first_line(error)}", hint) from error


def lacks_disk(error: Exception) -> bool:
    """Whether the disk with DuckDB's temporary files is full.

    DuckDB says so as out of memory if it knew how much was free, and otherwise as an error of the file system.
    """
    return "max_temp_directory_size" in str(error) or os.strerror(errno.ENOSPC) in str(error)


def lack_of_space(name: str, error: Exception, hint: str = "") -> IndexerError | None:
    """The error for a query that needs more disk or memory than there is; None if what DuckDB raised is another one.

    Args:
        name: what needs it.
        hint: what to do if it is memory.
    """
    if lacks_disk(error):
        return IndexerError(
            f"{name}: no room for temporary files in {tempfile.gettempdir()}: {first_line(error)}",
            "Free disk space there, or set TMPDIR to a folder on a larger disk.",
        )
    if isinstance(error, duckdb.OutOfMemoryException):
        return IndexerError(f"{name}: {first_line(error)}", hint)
    return None


def quote_name(name: str) -> str:
    """The name of a table or column, as SQL."""
    return '"' + name.replace('"', '""') + '"'


def quote(text: str) -> str:
    """A text, as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def read_parquet(paths: Sequence[str], options: str = "") -> str:
    """SQL for the rows of exactly these files, whatever characters are in their names.

    DuckDB takes `*`, `?` and `[` for patterns, `~` for the home folder, and `name=value` folders for columns.
    """
    names = (re.sub(r"([*?\[])", r"[\1]", f"./{path}" if path.startswith("~") else path) for path in paths)
    literal = ", ".join(map(quote, names))
    return f"read_parquet([{literal}], hive_partitioning=false{options})"


def first_line(error: Exception) -> str:
    """The first line of DuckDB's message, without its prefix and the statement that follows."""
    line = str(error).split("\n", 1)[0]
    return line.removeprefix("Invalid Input Error: ")
