"""`bounded`: what does not fit in its memory goes to a temporary folder, and nothing is left there."""

from __future__ import annotations

import tempfile
from pathlib import Path

import duckdb
import pytest

from idc_indexer import duckdb_session
from idc_indexer.duckdb_session import bounded

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
