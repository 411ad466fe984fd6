"""Candidates for the layout of the Parquet, next to the published idc_index.parquet: size and time.

    python scripts/layout.py idc_index.parquet

All candidates hold the published rows. Times are the best of some runs, all files in turn, as ratios to the published
file. The bytes that a query fetches over HTTP are asserted in tests/test_layout.py.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from idc_indexer import parquet
from idc_indexer.arrow import conform
from idc_indexer.catalog import Catalog

INDEX = Catalog().indices["idc_index"].schema
UIDS = ["SeriesInstanceUID", "StudyInstanceUID", "crdc_series_uuid", "series_aws_url"]
BASE = {"version": "2.6", "compression": "zstd"}


def write(table: pa.Table, path: Path, **options: Any) -> None:
    pq.write_table(table, path, **{**BASE, **options})


def candidates(table: pa.Table) -> dict[str, Callable[[Path], None]]:
    """What writes each: one decision changed at a time, then what the writer does."""
    plain: dict[str, Any] = {
        "row_group_size": 65_536,
        "use_dictionary": [name for name in table.column_names if name not in UIDS],
        "compression_level": {name: 1 if name in UIDS else 9 for name in table.column_names},
    }
    return {
        "one row group, zstd 1": partial(write, table, row_group_size=1 << 30, compression_level=1),
        **{
            f"65,536 rows, zstd {level}": partial(write, table, row_group_size=65_536, compression_level=level)
            for level in (1, 3, 9, 15)
        },
        "no dictionary of UIDs": partial(write, table, **plain),
        "content-defined chunking": partial(write, table, **plain, use_content_defined_chunking=True),
        **{
            f"the writer, {rows:,} rows": partial(write_ours, table, rows)
            for rows in (16_384, 24_576, 32_768, 65_536, 122_880)
        },
    }


def write_ours(table: pa.Table, rows: int, path: Path) -> None:
    chosen, parquet.ROW_GROUP_ROWS = parquet.ROW_GROUP_ROWS, rows
    try:
        parquet.write_parquet(table.to_batches(), INDEX, path, version="25.0.5", where="idc_index")
    finally:
        parquet.ROW_GROUP_ROWS = chosen


def queries(published: Path) -> dict[str, str]:
    """What people ask for; `{}` stands for the file."""
    (series, patient), (_, other) = (
        duckdb.execute(
            f"""SELECT SeriesInstanceUID, PatientID FROM '{published}' WHERE collection_id = '{collection}'
            ORDER BY md5(SeriesInstanceUID) LIMIT 1"""
        ).fetchall()[0]
        for collection in ("nlst", "tcga_luad")
    )
    return {
        "collection": "SELECT SeriesInstanceUID, series_aws_url FROM '{}' WHERE collection_id = 'tcga_luad'",
        "collection, all columns": "SELECT * FROM '{}' WHERE collection_id = 'tcga_luad'",
        "series": f"SELECT SeriesInstanceUID, series_aws_url FROM '{{}}' WHERE SeriesInstanceUID = '{series}'",
        "series, all columns": f"SELECT * FROM '{{}}' WHERE SeriesInstanceUID = '{series}'",
        "patient, all columns": f"SELECT * FROM '{{}}' WHERE PatientID = '{patient}'",
        "another patient": f"SELECT * FROM '{{}}' WHERE PatientID = '{other}'",
        "ILIKE, 15,211 rows": "SELECT * FROM '{}' WHERE SeriesDescription ILIKE '%lung%'",
        "ILIKE, counted": "SELECT count(*) FROM '{}' WHERE SeriesDescription ILIKE '%lung%'",
        "ILIKE, 93 rows": "SELECT * FROM '{}' WHERE SeriesDescription ILIKE '%perfusion%'",
        "group": "SELECT collection_id, Modality, count(*), sum(series_size_MB) FROM '{}' GROUP BY ALL",
        "full": "SELECT * FROM '{}'",
    }


def times(files: dict[str, Path], asked: dict[str, str], runs: int) -> dict[str, dict[str, float]]:
    """Best seconds of some runs, by file and query."""
    best: dict[str, dict[str, float]] = {name: dict.fromkeys(asked, float("inf")) for name in files}
    with duckdb.connect(config={"threads": 2}) as connection:
        connection.execute("SET enable_external_file_cache = false")
        for _ in range(runs):
            for query, text in asked.items():
                for name, path in files.items():
                    start = time.perf_counter()
                    connection.sql(text.format(path)).to_arrow_table()
                    best[name][query] = min(best[name][query], time.perf_counter() - start)
    return best


def table(title: str, columns: list[str], lines: dict[str, list[str]]) -> None:
    print(f"\n| {title} | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for name, cells in lines.items():
        print(f"| {name} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare layouts of idc_index.parquet with the published one.")
    parser.add_argument("published", type=Path, metavar="PUBLISHED", help="the published idc_index.parquet")
    parser.add_argument("--runs", type=int, default=5, help="(default: 5)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        batches = pq.read_table(options.published).to_batches()
        rows = pa.Table.from_batches([conform(batch, INDEX.columns, "idc_index") for batch in batches])
        files = {"published": Path(folder, "published.parquet")}
        files["published"].symlink_to(options.published.absolute())
        seconds = {}
        for number, (name, make) in enumerate(candidates(rows).items()):
            files[name] = Path(folder, f"{number}.parquet")
            start = time.process_time()
            make(files[name])
            seconds[name] = time.process_time() - start
        del rows
        asked = queries(options.published)
        base = options.published.stat().st_size
        print(f"DuckDB {duckdb.__version__}, pyarrow {pa.__version__}, 2 threads")
        sizes = {
            name: [f"{path.stat().st_size / base:.3f}", f"{seconds.get(name, 0):.1f}"] for name, path in files.items()
        }
        table("file", ["size", "written in, s"], sizes)
        best = times(files, asked, options.runs)
        base_times = best["published"]
        ratios = {name: [f"{base_times[query] / at[query]:.1f}" for query in asked] for name, at in best.items()}
        table("times as fast", list(asked), ratios)


if __name__ == "__main__":
    main()
