"""A DuckDB of bounded memory, and the first row of a result."""

from __future__ import annotations

import tempfile
from pathlib import Path

import duckdb
import pytest

from idc_indexer import duckdb_session
from idc_indexer.duckdb_session import bounded, first_row

TEXTS = "FROM (SELECT DISTINCT repeat('x', 60) || i AS text FROM range(1_000_000) AS numbers(i))"


def test_rows_that_do_not_fit_in_memory_go_to_a_folder_that_is_removed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(duckdb_session, "_BOUND", "64MB")
    with bounded() as connection:
        assert connection.execute(f"SELECT count(*) {TEXTS}").fetchone() == (1_000_000,)
        connection.execute("SET max_temp_directory_size = '0B'")
        with pytest.raises(duckdb.OutOfMemoryException):
            connection.execute(f"SELECT count(*) {TEXTS}").fetchone()
        assert len(list(tmp_path.glob("idc-indexer-*"))) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.duckdb
def test_after_the_first_row_a_connection_takes_other_work() -> None:
    with bounded() as connection:
        assert first_row(connection, "SELECT ? + i FROM range(3) AS numbers(i) ORDER BY i", 4) == (4,)
        assert connection.sql("SELECT 7 AS n").to_arrow_reader().read_all().to_pylist() == [{"n": 7}]
        assert first_row(connection, "SELECT 1 WHERE false") is None
