"""What a history costs, and what it saves: sizes of series_history, and bytes and seconds of builds with it.

    PYTHONPATH=. python scripts/benchmark_history.py PACKAGE [--one-in N]

PACKAGE is the folder of a published `idc-index-data`, such as 25.0.5. Three Markdown tables are printed:

* encodings: the size of series_history at the full scale of the package, by the way in which a row lists its releases.
  The rows are the series versions of idc_index, in each release since they were revised, and those of
  prior_versions_index; what is in idc-open-data today was in public-datasets-idc until release 19.
* query: seconds and memory of the query of series_history over these rows, as a build with a history runs it.
* builds: the package, turned back into source tables, is served on loopback by the server of the tests, which counts.
  Of the series of release 25, the export has one in N, and each prior release has all of them; it has all prior
  versions. Each build begins with an empty cache and writes the same prior_versions_index, which is checked.

Linux and macOS.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
from tests.emulators.s3 import S3Server, Seen
from tests.support.needed import BUCKET
from tests.support.reference_export import export

from benchmark import Run, measure
from idc_indexer.catalog import Catalog
from idc_indexer.release.parquet import ROW_GROUP_ROWS, layout
from idc_indexer.schema.arrow import file_schema
from idc_indexer.schema.column import Column

PRIOR_VERSIONS, HISTORY = "prior_versions_index", "series_history"
NEWEST, MOVED = 25, 20
KEY = "collection_id, PatientID, SeriesInstanceUID, StudyInstanceUID, Modality"
ORDER = (
    "collection_id, PatientID, StudyInstanceUID, SeriesInstanceUID, crdc_series_uuid, Modality, gcs_bucket, "
    "series_size_MB"
)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    print(f"\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


# --- Encodings ------------------------------------------------------------------------------------------------


def load(connection: duckdb.DuckDBPyConnection, package: Path) -> None:
    """Make the table `history`, with the releases of a row as a list."""
    current = f"""
        SELECT {KEY}, crdc_series_uuid, round(series_size_MB, 2) AS series_size_MB, series_revised_idc_version AS since,
            CASE aws_bucket WHEN 'idc-open-data' THEN 'idc-open-data' WHEN 'idc-open-data-two' THEN 'idc-open-idc1'
                ELSE 'idc-open-cr' END AS bucket
        FROM '{package}/idc_index.parquet'"""
    connection.execute(f"""
        CREATE TABLE history AS
        SELECT {KEY}, bucket AS gcs_bucket, crdc_series_uuid, series_size_MB,
            range(CASE bucket WHEN 'idc-open-data' THEN greatest(since, {MOVED}) ELSE since END, {NEWEST + 1})
                AS idc_versions
        FROM ({current})
        UNION ALL
        SELECT {KEY}, 'public-datasets-idc', crdc_series_uuid, series_size_MB, range(since, {MOVED})
        FROM ({current}) WHERE bucket = 'idc-open-data' AND since < {MOVED}
        UNION ALL
        SELECT {KEY}, gcs_bucket, crdc_series_uuid, series_size_MB, range(min_idc_version, max_idc_version + 1)
        FROM '{package}/prior_versions_index.parquet'""")


LISTED = Column("idc_versions", "INTEGER", "REPEATED", "x")
ENCODINGS: dict[str, tuple[str, list[Column]]] = {
    "none": ("", []),
    "array of all": (", idc_versions", [LISTED]),
    "first, last, array of gaps": (
        ", list_min(idc_versions) AS first, list_max(idc_versions) AS last, list_filter(range(list_min(idc_versions), "
        "list_max(idc_versions)), lambda x: NOT list_contains(idc_versions, x)) AS gaps",
        [Column("first", "INTEGER"), Column("last", "INTEGER"), Column("gaps", "INTEGER", "REPEATED")],
    ),
    "one bit each, in an INT64": (
        ", list_sum(list_transform(idc_versions, lambda x: 1::BIGINT << (x - 1)::INTEGER))::BIGINT AS bits",
        [Column("bits", "INTEGER")],
    ),
    "text, such as 3,4,5": (", array_to_string(idc_versions, ',') AS text", [Column("text", "STRING")]),
}


def encodings(connection: duckdb.DuckDBPyConnection, scratch: Path) -> None:
    *key, listed = Catalog().indices[HISTORY].schema.columns
    bare = [replace(column, bloom_filter=None) for column in key]
    writings = {name: (sql, [*bare, *columns]) for name, (sql, columns) in ENCODINGS.items()}
    writings["array of all, Bloom filters (as it is)"] = (", idc_versions", [*key, listed])
    ((rows, of_releases),) = connection.execute("SELECT count(*), sum(len(idc_versions)) FROM history").fetchall()
    print(f"\n{rows:,} rows, {of_releases:,} with one for each release")
    table(
        ["releases of a row", "MB"],
        ([name, f"{size(connection, scratch, *one):.2f}"] for name, one in writings.items()),
    )


def size(connection: duckdb.DuckDBPyConnection, scratch: Path, sql: str, columns: list[Column]) -> float:
    """Size in MB of the table as the toolkit's writer writes it."""
    names = ", ".join(column.name for column in columns[:8])
    rows = connection.sql(f"SELECT {names}{sql} FROM history ORDER BY {ORDER}").to_arrow_table()
    path = scratch / "written.parquet"
    with pq.ParquetWriter(path, file_schema(columns), **layout(columns)) as writer:
        for start in range(0, rows.num_rows, ROW_GROUP_ROWS):
            group = rows.slice(start, ROW_GROUP_ROWS).cast(file_schema(columns)).combine_chunks()
            writer.write_table(group, row_group_size=ROW_GROUP_ROWS)
    return path.stat().st_size / 1e6


QUERY = """
import duckdb, sys
connection = duckdb.connect(config={"preserve_insertion_order": False, "threads": 2})
rows = f"(SELECT * EXCLUDE idc_versions, unnest(idc_versions) AS v FROM '{sys.argv[1]}')"
query = f"SELECT * EXCLUDE v, array_agg(v ORDER BY v) AS idc_versions FROM {rows} GROUP BY ALL ORDER BY ALL"
for _ in connection.sql(query).to_arrow_reader(65_536):
    pass
"""


def query(scratch: Path) -> None:
    found = measure([sys.executable, "-c", QUERY, str(scratch / "written.parquet")])
    table(["the query", "seconds", "peak memory, GB"], [[f"`{HISTORY}`", f"{found.wall:.1f}", f"{found.memory:.1f}"]])


# --- Builds ---------------------------------------------------------------------------------------------------


class Bench:
    """The server, and what it saw of each build."""

    def __init__(self, s3: S3Server, scratch: Path) -> None:
        self._s3, self._scratch = s3, scratch

    def build(self, release: int, indices: Sequence[str], out: str, *options: object) -> tuple[Run, Seen]:
        """Measure a build with an empty cache."""
        version = ["--idc-version", release, "--release-version", f"{release}.0.0"]
        with tempfile.TemporaryDirectory(dir=self._scratch) as cache:
            where = ["--source", f"s3://{BUCKET}", "--out", self._scratch / out, "--cache-dir", cache]
            self._s3.clear()
            command = [sys.executable, "-m", "idc_indexer", "build", *indices, *version, *where, *options]
            run = measure([str(part) for part in command])
            return run, self._s3.seen()

    def file(self, out: str, name: str) -> Path:
        return self._scratch / out / f"{name}.parquet"


def builds(bench: Bench) -> None:
    bench.build(NEWEST - 1, [HISTORY], "before")
    bench.build(MOVED, [HISTORY], "earlier")
    both, alone = [PRIOR_VERSIONS, HISTORY], [PRIOR_VERSIONS]
    asked: dict[str, tuple[list[str], str]] = {
        f"`{PRIOR_VERSIONS}`, all prior releases": (alone, ""),
        f"`{PRIOR_VERSIONS}` and `{HISTORY}`, all prior releases": (both, ""),
        f"`{PRIOR_VERSIONS}`, history of {NEWEST - 1}": (alone, "before"),
        f"`{PRIOR_VERSIONS}` and `{HISTORY}`, history of {NEWEST - 1}": (both, "before"),
        f"`{PRIOR_VERSIONS}` and `{HISTORY}`, history of {MOVED}": (both, "earlier"),
    }
    rows, first = [], None
    made: dict[str, bytes] = {}
    for number, (name, (indices, history)) in enumerate(asked.items()):
        given = ["--history", bench.file(history, HISTORY).parent] if history else []
        run, seen = bench.build(NEWEST, indices, f"built {number}", *given)
        first = first or (run, seen)
        table_of = bench.file(history, HISTORY).stat().st_size / 1e6 if history else 0
        for index in indices:
            content = bench.file(f"built {number}", index).read_bytes()
            if made.setdefault(index, content) != content:
                sys.exit(f"benchmark: {name}: another {index}")
        requests = sum(seen.requests.values())
        shares = (seen.total / first[1].total, run.wall / first[0].wall, run.cpu / first[0].cpu)
        rows.append([name, f"{seen.total:,}", f"{table_of:.1f}", f"{requests:,}", *(f"{one:.2f}" for one in shares)])
    head = ["build", "bytes fetched", "history, MB", "requests", "× bytes", "× seconds", "× processor seconds"]
    table(head, rows)


def per_instance(folder: Path) -> None:
    """Bytes of column chunks for each instance of the newest release, by column."""
    chunks: dict[str, int] = {}
    rows = 0
    for path in (folder / f"idc_v{NEWEST}" / "dicom_all").iterdir():
        footer = pq.read_metadata(path)
        rows += footer.num_rows
        for group in map(footer.row_group, range(footer.num_row_groups)):
            for chunk in map(group.column, range(group.num_columns)):
                chunks[chunk.path_in_schema] = chunks.get(chunk.path_in_schema, 0) + chunk.total_compressed_size
    pinned = Catalog().indices[HISTORY].for_release(0)
    names = [leaf.path for leaf in pinned.statement.leaves if leaf.table.release == 0]
    found = sorted((chunks[name] / rows, name) for name in names)
    table(["column of release 25", "bytes per instance"], ([name, f"{size:.2f}"] for size, name in reversed(found)))


def main() -> None:
    parser = argparse.ArgumentParser(description="Sizes of series_history, and builds with one.")
    parser.add_argument("package", type=Path, metavar="PACKAGE", help="folder of a published idc-index-data")
    parser.add_argument("--one-in", type=int, default=20, metavar="N", help="series of release 25 (default: 20)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        with duckdb.connect(config={"temp_directory": f"{scratch}/spill", "memory_limit": "3GB"}) as connection:
            load(connection, options.package)
            encodings(connection, scratch)
        query(scratch)
        source = scratch / "export"
        tables = ("past_releases", "dicom_all")
        of_all = 2_000_000 // options.one_in  # more than there are
        export(
            options.package,
            source,
            one_in=options.one_in,
            shards=32,
            attributes=False,
            current_in_past=of_all,
            tables=tables,
        )
        per_instance(source)
        with S3Server({BUCKET: source}) as s3:
            os.environ |= s3.environment
            builds(Bench(s3, scratch))


if __name__ == "__main__":
    main()
