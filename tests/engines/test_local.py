"""Queries that DuckDB runs on this machine."""

from __future__ import annotations

import os
import tempfile
from errno import ENOSPC
from pathlib import Path
from typing import Any

import duckdb
import pytest

from idc_indexer.duckdb_session import connect, errors_for, first_row
from idc_indexer.engines.local import batches, explaining
from idc_indexer.errors import IndexerError

THREADS = "SELECT current_setting('threads')"
NEEDS_MUCH_WITH_THREADS = """
    SELECT list(i) AS numbers
    FROM range(CASE WHEN current_setting('threads')::INT > 1 THEN 50_000_000 ELSE 3 END) AS numbers(i)
"""


@pytest.mark.duckdb
@pytest.mark.parametrize(
    "statements",
    [
        [NEEDS_MUCH_WITH_THREADS],
        [
            "CREATE OR REPLACE TEMP TABLE first AS SELECT 1 AS one",
            f"CREATE OR REPLACE TEMP TABLE much AS {NEEDS_MUCH_WITH_THREADS}",
            "SELECT numbers FROM first, much",
        ],
    ],
)
def test_statements_that_are_out_of_memory_start_again_with_one_thread(statements: list[str]) -> None:
    told: list[str] = []
    with connect(2, "100MB") as connection:
        rows = [
            row for batch in batches(connection, statements, lambda: told.append("again")) for row in batch.to_pylist()
        ]
        assert [sorted(row["numbers"]) for row in rows] == [[0, 1, 2]]
        assert told == ["again"]
        assert first_row(connection, THREADS) == (2,)


@pytest.mark.duckdb
@pytest.mark.parametrize(("threads", "used"), [(1, 1), (2, 2), (5, 2)])
def test_few_threads_for_large_groups(threads: int, used: int) -> None:
    with connect(threads) as connection:
        (batch,) = batches(connection, [f"{THREADS} AS threads"], few_threads=True)
        assert batch.to_pylist() == [{"threads": used}]
        assert first_row(connection, THREADS) == (threads,)


@pytest.mark.duckdb
def test_a_query_that_started_again_and_is_not_read_to_its_end_leaves_the_threads_as_they_were() -> None:
    with connect(2, "100MB") as connection:
        found = batches(
            connection, [f"SELECT i, len(numbers) FROM range(500_000) AS many(i), ({NEEDS_MUCH_WITH_THREADS})"]
        )
        assert next(found).num_rows > 0
        assert first_row(connection.cursor(), THREADS) == (1,)
        del found
        assert first_row(connection.cursor(), THREADS) == (2,)


@pytest.mark.duckdb
def test_a_query_that_is_out_of_memory_with_one_thread_fails() -> None:
    told: list[str] = []
    with connect(1, "100MB") as connection, pytest.raises(duckdb.OutOfMemoryException):
        list(
            batches(
                connection,
                ["SELECT list(i) AS numbers FROM range(50_000_000) AS numbers(i)"],
                lambda: told.append("again"),
            )
        )
    assert told == []


@pytest.mark.duckdb
def test_a_disk_without_room_for_temporary_files_is_named_and_nothing_starts_again(tmp_path: Path) -> None:
    told: list[str] = []
    with connect(2, "64MB", tmp_path) as connection:
        connection.execute("SET max_temp_directory_size = '0B'")
        texts = "SELECT DISTINCT repeat('x', 60) || i AS text FROM range(1_000_000) AS numbers(i)"
        with pytest.raises(IndexerError) as refused, explaining("idc_index"):
            list(batches(connection, [texts], lambda: told.append("again")))
    assert refused.value.message.startswith(f"idc_index: no room for temporary files in {tempfile.gettempdir()}: ")
    assert "TMPDIR" in refused.value.hint
    assert told == []


@pytest.mark.parametrize("explained", [explaining, errors_for])
def test_a_disk_that_others_fill_is_named(explained: Any) -> None:
    # what DuckDB 2.0.1 raises on a file system of 20 MB
    error = duckdb.IOException(f'IO Error: Could not write file "duckdb_temp_0.tmp": {os.strerror(ENOSPC)}')
    with (
        pytest.raises(IndexerError, match=r"^idc_index: no room for temporary files in .*: IO Error: "),
        explained("idc_index"),
    ):
        raise error
