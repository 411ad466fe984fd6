"""Candidates for the layout of the Parquet, next to the published idc_index.parquet: size and time.

    pip install pandas polars
    python scripts/layout.py idc_index.parquet --release RELEASE

All candidates hold the published rows. Times are the best of some runs, all files in turn, as ratios to the published
file; of look-ups, of some patients and series that are drawn, together. With a release that `build` wrote, its other
large indices are written with several row groups and compared with one row group, as they are published. The bytes that
a query fetches over HTTP are asserted in tests/indices/test_layout.py.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from idc_indexer.catalog import Catalog
from idc_indexer.release import parquet
from idc_indexer.release.manifest import parquet_name
from idc_indexer.schema.arrow import conform
from idc_indexer.schema.table import Schema

DRAWN, THREADS = 20, 2
KEY = "SeriesInstanceUID"
ROWS = parquet.ROW_GROUP_ROWS
GROUPS = (28_672, 40_960, ROWS, 81_920, 122_880)

WHOLE = {
    "full": ["SELECT * FROM '{}'"],
    "CREATE TABLE": ["CREATE OR REPLACE TEMP TABLE copied AS SELECT * FROM '{}'"],
}

INDEX = Catalog().indices["idc_index"].schema
UIDS = ["SeriesInstanceUID", "StudyInstanceUID", "crdc_series_uuid", "series_aws_url"]
BASE = {"version": "2.6", "compression": "zstd"}


def write(table: pa.Table, path: Path, **options: Any) -> None:
    pq.write_table(table, path, **{**BASE, **options})


def candidates(table: pa.Table) -> dict[str, Callable[[Path], None]]:
    """What writes each: one decision changed at a time, then what the writer does."""
    plain: dict[str, Any] = {
        "row_group_size": ROWS,
        "use_dictionary": [name for name in table.column_names if name not in UIDS],
        "compression_level": {name: 1 if name in UIDS else 9 for name in table.column_names},
    }
    ours = partial(write_ours, table, INDEX)
    return {
        **{
            f"{rows:,} rows, zstd 1": partial(write, table, row_group_size=rows, compression_level=1)
            for rows in (ROWS, 122_880)
        },
        "no dictionary of UIDs": partial(write, table, **plain),
        "content-defined chunking": partial(write, table, **plain, use_content_defined_chunking=True),
        "the writer without Bloom filters": partial(ours, {"bloom_filter_options": {}}),
        "the writer without minima and maxima": partial(ours, {"write_statistics": False}),
        "the writer with a page index": partial(ours, {"write_page_index": True}),
        **{
            f"the writer, pages of {size >> 10} kB": partial(ours, {"data_page_size": size})
            for size in (64 << 10, 128 << 10, 512 << 10)
        },
        **{f"the writer, {rows:,} rows": partial(ours, {}, rows=rows) for rows in GROUPS},
    }


def write_ours(table: pa.Table, index: Schema, changed: dict[str, Any], path: Path, rows: int = ROWS) -> None:
    """Write with the writer, but for some of its options and the rows of a group."""
    layout = parquet.layout
    with (
        patch.object(parquet, "ROW_GROUP_ROWS", rows),
        patch.object(parquet, "layout", lambda columns: {**layout(columns), **changed}),
    ):
        parquet.write_parquet(table.to_batches(), index, path, version="25.0.5", context=path.stem)


def drawn(file: Path, column: str) -> list[str]:
    """Some values of a column."""
    query = f"SELECT DISTINCT {column} FROM '{file}' ORDER BY md5({column}) LIMIT {DRAWN}"
    return [value for (value,) in duckdb.execute(query).fetchall()]


def queries(published: Path) -> dict[str, list[str]]:
    """What people ask for; `{}` stands for the file."""
    series = drawn(published, KEY)
    two = f"SELECT {KEY}, series_aws_url FROM '{{}}'"
    return {
        "collection": [f"{two} WHERE collection_id = 'tcga_luad'"],
        "collection, all columns": ["SELECT * FROM '{}' WHERE collection_id = 'tcga_luad'"],
        "series": [f"{two} WHERE {KEY} = '{uid}'" for uid in series],
        "series, all columns": [look_up(KEY, uid) for uid in series],
        "patient, all columns": [look_up("PatientID", patient) for patient in drawn(published, "PatientID")],
        "ILIKE, 15,211 rows": ["SELECT * FROM '{}' WHERE SeriesDescription ILIKE '%lung%'"],
        "ILIKE, counted": ["SELECT count(*) FROM '{}' WHERE SeriesDescription ILIKE '%lung%'"],
        "group": ["SELECT collection_id, Modality, count(*), sum(series_size_MB) FROM '{}' GROUP BY ALL"],
        "MIN, MAX": ["SELECT min(StudyDate), max(StudyDate), max(series_size_MB) FROM '{}'"],
        **WHOLE,
    }


def look_up(column: str, value: str) -> str:
    return f"SELECT * FROM '{{}}' WHERE {column} = '{value}'"


Timed = Callable[[Path], float]


def timed(connection: duckdb.DuckDBPyConnection, asked: dict[str, list[str]]) -> dict[str, list[Timed]]:
    """What says how many seconds each query takes on a file."""

    def ask(query: str) -> Timed:
        def seconds(path: Path) -> float:
            start = time.perf_counter()
            if (rows := connection.sql(query.format(path))) is not None:
                rows.to_arrow_table()
            return time.perf_counter() - start

        return seconds

    return {name: list(map(ask, texts)) for name, texts in asked.items()}


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


def times(
    files: dict[str, Path], asked: dict[str, list[str]], runs: int, libraries: Iterable[str] = ()
) -> dict[str, dict[str, float]]:
    """Seconds by file and by what is read: the best of some runs, of look-ups the sum."""
    total: dict[str, dict[str, float]] = {file: {} for file in files}
    with duckdb.connect(config={"threads": THREADS}) as connection:
        connection.execute("SET enable_external_file_cache = false")
        reads = timed(connection, asked)
        reads |= {f"full, {library}": [partial(in_own_process, library)] for library in libraries}
        for name, functions in reads.items():
            for seconds in functions:
                turns = [{file: seconds(path) for file, path in files.items()} for _ in range(runs)]
                for file in files:
                    total[file][name] = total[file].get(name, 0) + min(turn[file] for turn in turns)
    return total


def compare(files: dict[str, Path], found: dict[str, dict[str, float]], written: dict[str, float]) -> None:
    """Tables of sizes and times as ratios to the first file."""
    first, *_ = files
    base = files[first].stat().st_size
    lines = {name: [f"{path.stat().st_size / base:.3f}", f"{written[name]:.1f}"] for name, path in files.items()}
    table("file", ["size", "written in, s"], lines)
    lines = {name: [f"{found[first][asked] / at[asked]:.1f}" for asked in at] for name, at in found.items()}
    table("times as fast", list(found[first]), lines)


def others(release: Path, folder: Path, runs: int) -> None:
    """The other indices with more than one row group: read as a whole, and asked for series."""
    for name, index in Catalog().indices.items():
        path = release / parquet_name(name)
        if name == "idc_index" or not path.exists() or pq.read_metadata(path).num_rows <= min(GROUPS):
            continue
        rows = pq.read_table(path)
        rows = pa.Table.from_batches([conform(batch, index.schema.columns, name) for batch in rows.to_batches()])
        made = {f"{name}, one row group": partial(write, rows, row_group_size=rows.num_rows)}
        made |= {f"{count:,} rows": partial(write_ours, rows, index.schema, {}, rows=count) for count in GROUPS}
        files, written = write_all(made, folder)
        series = drawn(path, KEY) if KEY in rows.column_names else []
        asked = {"series": [look_up(KEY, uid) for uid in series]} if series else {}
        compare(files, times(files, asked | WHOLE, runs), written)


def write_all(made: Mapping[str, Callable[[Path], None]], folder: Path) -> tuple[dict[str, Path], dict[str, float]]:
    """The files, and how many processor seconds each took."""
    files, written = {}, {}
    for number, (name, make) in enumerate(made.items()):
        files[name] = folder / f"{number}.parquet"
        start = time.process_time()
        make(files[name])
        written[name] = time.process_time() - start
    return files, written


def table(title: str, columns: list[str], lines: dict[str, list[str]]) -> None:
    print(f"\n| {title} | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for name, cells in lines.items():
        print(f"| {name} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare layouts of idc_index.parquet with the published one.")
    parser.add_argument("published", type=Path, metavar="PUBLISHED", help="the published idc_index.parquet")
    parser.add_argument("--release", type=Path, help="a release with other indices to compare")
    parser.add_argument("--runs", type=int, default=5, help="(default: 5)")
    options = parser.parse_args()
    versions = ", ".join(f"{name} {version(name)}" for name in ("pyarrow", "pandas", "polars"))
    print(f"duckdb {duckdb.__version__}, {versions}, {THREADS} threads")
    with tempfile.TemporaryDirectory() as folder:
        batches = pq.read_table(options.published).to_batches()
        rows = pa.Table.from_batches([conform(batch, INDEX.columns, "idc_index") for batch in batches])
        published = Path(folder, "published.parquet")
        published.symlink_to(options.published.absolute())
        files, written = write_all(candidates(rows), Path(folder))
        del rows
        files, written = {"published": published, **files}, {"published": 0, **written}
        compare(files, times(files, queries(published), options.runs, ("pandas", "polars")), written)
        if options.release:
            others(options.release, Path(folder), options.runs)


if __name__ == "__main__":
    main()
