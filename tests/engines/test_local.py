"""Queries that DuckDB runs on this machine."""

from __future__ import annotations

import duckdb
import pytest

from idc_indexer.duckdb_session import connect, first_row
from idc_indexer.engines.local import batches

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
