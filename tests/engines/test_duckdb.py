"""What one build of several indices shares in DuckDB."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from idc_indexer.catalog import Catalog, PinnedIndex
from idc_indexer.engines.duckdb import DuckDBEngine, DuckDBRun
from idc_indexer.exports import open_export

SHARING = ["ann_group_index", "ann_index", "sm_index", "sm_instance_index"]


def rows(run: DuckDBRun, index: PinnedIndex) -> pa.Table:
    with run.rows(index) as batches:
        return pa.Table.from_batches(list(batches))


def tables(run: DuckDBRun) -> list[str]:
    return [name for (name,) in run.plan.connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()]


@pytest.mark.duckdb
def test_rows_that_several_indices_read_are_stored_until_the_last_has_read_them(tmp_path: Path) -> None:
    indices = [index.for_release(25) for index in Catalog().select(SHARING)]
    plan = DuckDBEngine(open_export("sample", cache_dir=tmp_path / "cache"), tmp_path / "spill", 2).plan(indices)
    together, stored = {}, {}
    with plan.running(indices) as run:
        for index in indices:
            together[index.name] = rows(run, index)
            stored[index.name] = tables(run)
    assert stored == {
        "ann_group_index": ["idc_v25.dicom_all WHERE \"SOPClassUID\" = '1.2.840.10008.5.1.4.1.1.91.1'"],
        "ann_index": [],
        "sm_index": ["idc_v25.dicom_all WHERE \"Modality\" = 'SM'"],
        "sm_instance_index": [],
    }
    for index in indices:
        with plan.running([index]) as run:
            assert rows(run, index).equals(together[index.name])
            assert tables(run) == []
    with plan.running(indices) as run:  # in any order
        for index in reversed(indices):
            assert rows(run, index).equals(together[index.name])
