"""What our idc_index.parquet costs whoever asks it over HTTP, and that it is no larger than the published one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from idc_indexer.catalog import Catalog
from idc_indexer.release.manifest import Release, parquet_name
from idc_indexer.release.parquet import write_parquet
from idc_indexer.schema.arrow import conform
from tests.conftest import once
from tests.emulators.s3 import S3Server
from tests.indices.test_readers import environment

SCHEMA = Catalog().indices["idc_index"].schema
# The one version of DuckDB whose extension for HTTP is on PyPI.
HTTPFS = ["duckdb==1.5.5", "duckdb-extension-httpfs==1.5.5"]
QUERY = """
import json, sys
from pathlib import Path
import duckdb, duckdb_extension_httpfs
(extension,) = Path(duckdb_extension_httpfs.__file__).parent.rglob("*.duckdb_extension")
connection = duckdb.connect(config={"allow_unsigned_extensions": True, "threads": 2})
connection.execute(f"LOAD '{extension}'; SET enable_progress_bar = false")
print(json.dumps(connection.execute(sys.argv[1]).fetchall(), default=str), flush=True)
"""


@pytest.fixture(scope="module")
def folder(published: Path, shared: Path) -> Path:
    """The published table, as it was published and as we write it."""

    def make(folder: Path) -> None:
        (folder / "published.parquet").symlink_to(published / "idc_index.parquet")
        batches = pq.read_table(published / "idc_index.parquet").to_batches()
        rows = (conform(batch, SCHEMA.columns, "idc_index") for batch in batches)
        write_parquet(rows, SCHEMA, folder / "ours.parquet", version="25.0.5", context="idc_index")

    return once(shared / "layout", make)


def test_it_is_smaller_than_the_published_one(folder: Path, published: Path) -> None:
    ours, theirs = folder / "ours.parquet", published / "idc_index.parquet"
    assert ours.stat().st_size <= 0.97 * theirs.stat().st_size
    assert pq.read_metadata(ours).num_rows == pq.read_metadata(theirs).num_rows


def test_row_groups_are_small_enough_for_dataset_hubs(folder: Path) -> None:
    metadata = pq.read_metadata(folder / "ours.parquet")
    groups = [metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups)]
    assert max(groups) < 100_000_000


@pytest.fixture(scope="module")
def httpfs() -> Path:
    def make(folder: Path) -> None:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), *HTTPFS]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    return once(environment("httpfs"), make)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("query", "limit"),
    [
        ("SELECT SeriesInstanceUID, series_aws_url FROM {} WHERE collection_id = 'tcga_luad'", 4_000_000),
        ("SELECT * FROM {} WHERE PatientID = '100147' ORDER BY ALL", 5_000_000),
        ("SELECT * FROM {} WHERE PatientID = 'TCGA-05-4244' ORDER BY ALL", 5_000_000),
        ("SELECT series_aws_url FROM {} WHERE SeriesInstanceUID = '{series}'", 4_000_000),
        ("SELECT * FROM {} WHERE SeriesInstanceUID = '{series}'", 6_000_000),
    ],
)
def test_a_query_over_http_fetches_little(folder: Path, httpfs: Path, query: str, limit: int) -> None:
    series = pq.read_table(folder / "ours.parquet", columns=["SeriesInstanceUID"])[0][241_721].as_py()
    query = query.replace("{series}", series)
    answers: dict[str, Any] = {}
    with S3Server({"layout": folder}) as s3:
        for name in ("published", "ours"):
            s3.clear()
            done = subprocess.run(
                [sys.executable, "-S", "-c", QUERY, query.format(f"'{s3.url}/layout/{name}.parquet'")],
                env={**os.environ, "PYTHONPATH": str(httpfs)},
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr[-2000:]
            answers[name] = json.loads(done.stdout)
            sent = s3.seen().total
    assert answers["ours"] == answers["published"]
    assert answers["ours"]
    assert sent <= limit


def test_descriptions_are_in_the_file(folder: Path) -> None:
    schema: pa.Schema = pq.read_schema(folder / "ours.parquet")
    assert (schema.metadata or {})[b"description"].decode() == SCHEMA.description
    for column in SCHEMA.columns:
        assert (schema.field(column.name).metadata or {})[b"description"].decode() == column.description


def test_a_go_reader_can_cast_the_derived_tables(sample_release: Path) -> None:
    """The TCIA Data Retriever casts text of these tables to arrow-go's `array.String`, and panics on LargeString."""
    for entry in Release.open(sample_release).entries:
        if entry.schema_sha256 is None:
            continue
        schema = pq.read_schema(sample_release / parquet_name(entry.name))
        text = {
            field.type for field in schema if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
        }
        assert text <= {pa.string() if entry.query_sha256 is None else pa.large_string()}, entry.name
    subset = pq.read_schema(sample_release / "tcia_idc_subset.parquet")
    assert [field.name for field in subset if pa.types.is_string(field.type)] == [
        "collection_id", "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "series_aws_url"
    ]  # fmt: skip


def test_tables_of_old_and_new_releases_concatenate(sample_release: Path, published: Path) -> None:
    """Column by column, where both have it, records and arrays included."""
    for file in sorted(published.glob("*.parquet")):
        old, new = pq.read_schema(file), pq.read_schema(sample_release / file.name)
        common = [name for name in old.names if name in new.names]
        assert len(common) > 1
        for name in common:
            assert old.field(name).type.equals(new.field(name).type), (file.name, name)
        tables = [pq.read_table(folder / file.name, columns=common) for folder in (published, sample_release)]
        one, other = (table.replace_schema_metadata().cast(without_metadata(table.schema)) for table in tables)
        assert pa.concat_tables([one, other]).num_rows == one.num_rows + other.num_rows


def without_metadata(schema: pa.Schema) -> pa.Schema:
    return pa.schema([pa.field(field.name, field.type) for field in schema])
