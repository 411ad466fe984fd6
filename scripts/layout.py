"""Candidates for the layout of the Parquet, next to the published idc_index.parquet: size and time.

    pip install pandas polars
    python scripts/layout.py idc_index.parquet

All candidates hold the published rows. Times are the best of some runs, all files in turn, as ratios to the published
file; of look-ups, of some patients and series that are drawn, together, and one by one. Of each column it is said which
share of the row groups minima and maxima let a reader skip. The bytes that a query fetches over HTTP are asserted in
tests/indices/test_layout.py.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from idc_indexer.catalog import Catalog
from idc_indexer.release import parquet
from idc_indexer.schema.arrow import conform

DRAWN, VALUES, THREADS = 20, 500, 2
SERIES, PATIENT = "series, all columns", "patient, all columns"
ALONE = "122,880 rows, zstd 1"
PAGE_ROWS = 20_000
"""Of pyarrow, by itself."""

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
            for level in (1, 9)
        },
        ALONE: partial(write, table, row_group_size=122_880, compression_level=1),
        "no dictionary of UIDs": partial(write, table, **plain),
        "content-defined chunking": partial(write, table, **plain, use_content_defined_chunking=True),
        **{
            f"the writer, pages of {size >> 10} kB": partial(write_ours, table, {"data_page_size": size})
            for size in (128 << 10, 256 << 10, 1 << 20)
        },
        f"the writer, pages of {PAGE_ROWS:,} rows": partial(write_ours, table, {"max_rows_per_page": PAGE_ROWS}),
        "the writer, with all statistics": partial(write_ours, table, {"write_statistics": True}),
        "the writer, with a page index": partial(write_ours, table, {"write_page_index": True}),
        **{
            f"the writer, {rows:,} rows": partial(write_ours, table, {}, rows=rows)
            for rows in (16_384, 24_576, parquet.ROW_GROUP_ROWS, 32_768, 40_960, 65_536, 122_880)
        },
    }


def write_ours(table: pa.Table, changed: dict[str, Any], path: Path, rows: int = parquet.ROW_GROUP_ROWS) -> None:
    """Write with the writer, but for some of its options and the rows of a group."""
    layout = parquet.layout
    with (
        patch.object(parquet, "ROW_GROUP_ROWS", rows),
        patch.object(parquet, "layout", lambda columns: {**layout(columns), **changed}),
    ):
        parquet.write_parquet(table.to_batches(), INDEX, path, version="25.0.5", context="idc_index")


def queries(published: Path) -> dict[str, list[str]]:
    """What people ask for; `{}` stands for the file."""

    def drawn(column: str) -> list[str]:
        query = f"SELECT DISTINCT {column} FROM '{published}' ORDER BY md5({column}) LIMIT {DRAWN}"
        return [value for (value,) in duckdb.execute(query).fetchall()]

    series, patients = drawn("SeriesInstanceUID"), drawn("PatientID")
    two = "SELECT SeriesInstanceUID, series_aws_url FROM '{}'"
    return {
        "collection": [f"{two} WHERE collection_id = 'tcga_luad'"],
        "collection, all columns": ["SELECT * FROM '{}' WHERE collection_id = 'tcga_luad'"],
        "series": [f"{two} WHERE SeriesInstanceUID = '{uid}'" for uid in series],
        SERIES: [f"SELECT * FROM '{{}}' WHERE SeriesInstanceUID = '{uid}'" for uid in series],
        PATIENT: [f"SELECT * FROM '{{}}' WHERE PatientID = '{patient}'" for patient in patients],
        "ILIKE, 15,211 rows": ["SELECT * FROM '{}' WHERE SeriesDescription ILIKE '%lung%'"],
        "ILIKE, counted": ["SELECT count(*) FROM '{}' WHERE SeriesDescription ILIKE '%lung%'"],
        "ILIKE, 93 rows": ["SELECT * FROM '{}' WHERE SeriesDescription ILIKE '%perfusion%'"],
        "group": ["SELECT collection_id, Modality, count(*), sum(series_size_MB) FROM '{}' GROUP BY ALL"],
        "full": ["SELECT * FROM '{}'"],
    }


Timed = Callable[[Path], float]


def timed(connection: duckdb.DuckDBPyConnection, published: Path) -> dict[str, list[Timed]]:
    """What is read, and how many seconds it takes: the queries, and the whole with other libraries."""

    def ask(query: str) -> Timed:
        def seconds(path: Path) -> float:
            start = time.perf_counter()
            connection.sql(query.format(path)).to_arrow_table()
            return time.perf_counter() - start

        return seconds

    found = {name: list(map(ask, texts)) for name, texts in queries(published).items()}
    return found | {f"full, {library}": [partial(in_own_process, library)] for library in ("pandas", "polars")}


def in_own_process(library: str, path: Path) -> float:
    """Seconds of reading a file: what was read before it in the same process would matter."""
    code = f"""
import sys, time, {library}
start = time.perf_counter()
table = {library}.read_parquet(sys.argv[1])
print(time.perf_counter() - start)
"""
    limits = {"POLARS_MAX_THREADS": str(THREADS), "OMP_NUM_THREADS": str(THREADS)}  # the latter is pyarrow's
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, env={**os.environ, **limits}, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def times(files: dict[str, Path], published: Path, runs: int) -> dict[str, dict[str, list[float]]]:
    """Best seconds of some runs, by file and by what is read."""
    best: dict[str, dict[str, list[float]]] = {name: {} for name in files}
    with duckdb.connect(config={"threads": THREADS}) as connection:
        connection.execute("SET enable_external_file_cache = false")
        for asked, functions in timed(connection, published).items():
            for found in best.values():
                found[asked] = [float("inf")] * len(functions)
            for number, seconds in enumerate(functions * runs):
                for name, path in files.items():
                    place = number % len(functions)
                    best[name][asked][place] = min(best[name][asked][place], seconds(path))
    return best


def skipped(rows: pa.Table) -> dict[str, list[str]]:
    """Of each column, the share of row groups that its minima and maxima rule out: for the values of rows that are
    drawn, and for values that are drawn."""
    found: dict[str, list[str]] = {}
    chance = random.Random(0)  # noqa: S311
    starts = range(0, rows.num_rows, parquet.ROW_GROUP_ROWS)
    for name in rows.column_names:
        groups: list[Any] = [pc.min_max(rows[name].slice(start, parquet.ROW_GROUP_ROWS)).as_py() for start in starts]
        of_rows = rows[name].drop_null()
        shares = []
        for drawn in (of_rows, of_rows.unique()):
            values = drawn.take(chance.sample(range(len(drawn)), min(VALUES, len(drawn)))).to_pylist()
            out = [
                group["min"] is None or not group["min"] <= value <= group["max"]
                for value in values
                for group in groups
            ]
            shares.append(f"{sum(out) / len(out):.2f}")
        found[name] = shares
    return found


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
        ruled_out = skipped(rows)
        del rows
        base = options.published.stat().st_size
        versions = ", ".join(f"{name} {version(name)}" for name in ("duckdb", "pyarrow", "pandas", "polars"))
        print(f"{versions}, {THREADS} threads")
        sizes = {
            name: [f"{path.stat().st_size / base:.3f}", f"{seconds.get(name, 0):.1f}"] for name, path in files.items()
        }
        table("file", ["size", "written in, s"], sizes)
        table("row groups skipped", ["for the value of a row", "for a value"], ruled_out)
        best = times(files, options.published, options.runs)
        sums = {name: {asked: sum(seconds) for asked, seconds in found.items()} for name, found in best.items()}
        of_published = sums["published"]
        ratios = {name: [f"{of_published[asked] / at[asked]:.1f}" for asked in at] for name, at in sums.items()}
        table("times as fast", list(of_published), ratios)
        chosen = f"the writer, {parquet.ROW_GROUP_ROWS:,} rows"
        for asked in (SERIES, PATIENT):
            each = sorted(zip(*(best[name][asked] for name in ("published", ALONE, chosen)), strict=True))
            lines = {f"{1000 * slow:.1f}": [f"{slow / other:.1f}" for other in others] for slow, *others in each}
            table(f"{asked}: published, ms", [ALONE, chosen], lines)


if __name__ == "__main__":
    main()
