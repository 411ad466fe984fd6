"""A release that is built on the series_history of an older one is the same as one that is built from all releases."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from idc_indexer import DuckDB, build_release
from idc_indexer.catalog import Catalog
from idc_indexer.documents import bundled
from idc_indexer.engines.duckdb import DuckDBEngine
from idc_indexer.engines.history import History
from idc_indexer.exports import Export, open_export
from idc_indexer.schema.arrow import arrow_schema, conform
from idc_indexer.sql import to_duckdb
from tests.conftest import PRIOR, Run, contents, once, rows
from tests.emulators.bigquery import BigQueryServer
from tests.engines.test_bigquery import PAY, facts, of_sample, ran
from tests.support.oracle import by_googlesql
from tests.support.strategies import columns_read, table_of

PRIOR_VERSIONS, HISTORY = "prior_versions_index", "series_history"
BOTH = (PRIOR_VERSIONS, HISTORY)
SAMPLE = bundled("sample")
# 20 is the first release after the series moved to another bucket.
STEPS = [2, 4, 5, 20, 25]

Release = Callable[..., Path]


@pytest.fixture
def release(run: Run, tmp_path: Path) -> Release:
    """A release of both tables, or of others, built from the sample: from scratch, or on a history."""

    def release(idc_version: int, *arguments: object, indices: tuple[str, ...] = BOTH, to: str = "") -> Path:
        out = tmp_path / (to or f"{idc_version}{'-on' if '--history' in arguments else ''}")
        where = () if "--engine" in arguments else ("--source", "sample")
        result = run("build", *indices, *where, "--release-version", f"{idc_version}.0.0", "--out", out, *arguments)
        assert result.exit_code == 0, result.stderr
        return out

    return release


@pytest.fixture(scope="session")
def scratch(shared: Path) -> dict[int, Path]:
    """Releases of both tables of the sample, built from scratch. Copy one to damage it."""

    def make(folder: Path) -> None:
        engine = DuckDB(source="sample", cache_dir=f"{folder}.cache")
        for number in STEPS:
            build_release(*BOTH, out=folder / str(number), release_version=f"{number}.0.0", engine=engine)

    folder = once(shared / "histories", make)
    return {number: folder / str(number) for number in STEPS}


def same(ours: Path, theirs: Path, *tables: str) -> None:
    """All files of both tables are the same, byte for byte."""
    for table in tables or BOTH:
        names = [f"{table}.parquet", f"{table}.parquet.sha256", f"{table}.sql", f"{table}_schema.json"]
        assert [(ours / name).read_bytes() for name in names] == [(theirs / name).read_bytes() for name in names]


# --- The same as from scratch ---------------------------------------------------------------------------------


@pytest.mark.duckdb
def test_each_release_on_the_one_before_and_a_jump(scratch: dict[int, Path], release: Release, run: Run) -> None:
    last = scratch[2]
    for number in STEPS[1:]:
        before, last = last, release(number, "--history", last)
        same(last, scratch[number])
        told = json.loads((before / "manifest.json").read_text())
        digest = next(entry for entry in told["indices"] if entry["name"] == HISTORY)["files"][0]["sha256"]
        assert json.loads((last / "manifest.json").read_text())["history"] == {
            "release_version": told["release_version"],
            "idc_version": told["idc_version"],
            "sha256": digest,
        }
    assert contents(last).keys() == contents(scratch[25]).keys()
    assert run("verify", last).stdout == f"{last}: OK\n"


@pytest.mark.slow
def test_all_releases_one_at_a_time(release: Release, scratch: dict[int, Path]) -> None:
    last = scratch[2]
    for number in range(3, 26):
        last = release(number, "--history", last)
        same(last, release(number))


@pytest.mark.slow
@pytest.mark.parametrize("base", range(2, 25))
def test_every_jump_to_the_newest(base: int, release: Release, scratch: dict[int, Path]) -> None:
    same(release(25, "--history", release(base, indices=(HISTORY,))), scratch[25])


@pytest.fixture
def server(environment: dict[str, str]) -> Iterator[BigQueryServer]:
    with BigQueryServer(facts(), of_sample) as server:
        environment.update(server.environment)
        yield server


def test_bigquery(server: BigQueryServer, scratch: dict[int, Path], release: Release, run: Run) -> None:
    """BigQuery makes the first history, runs only what a release adds, and the bytes are those of DuckDB."""
    first = release(2, *PAY)
    same(first, scratch[2])
    assert ran(server) == list(BOTH)
    # a jump: what comes between is read, once for both tables
    on = ("--history", first, "--release-version", "4.0.0", *PAY)
    dry = json.loads(run("build", *BOTH, *on, "--out", first.parent / "none", "--dry-run", "--json").stdout)
    between, newest = (server.tables[f"idc_v{number}.dicom_all"].bytes for number in (3, 4))
    assert {name: cost["bytes_processed"] for name, cost in dry["indices"].items()} == {
        PRIOR_VERSIONS: between + newest,
        HISTORY: newest,
    }
    server.runs.clear()
    jump = release(4, "--history", first, *PAY)
    same(jump, scratch[4])
    assert ran(server) == ["prior_rows", f"{PRIOR_VERSIONS}_served", f"{HISTORY}_present"]
    server.runs.clear()
    following = release(5, "--history", jump, *PAY)
    same(following, scratch[5])
    assert ran(server) == [f"{PRIOR_VERSIONS}_served", f"{HISTORY}_present"]
    assert [*json.loads((following / "manifest.json").read_text())["source"]["tables"]] == ["idc_v5.dicom_all"]
    for built in (jump, following):
        assert run("verify", built).stdout == f"{built}: OK\n"


@pytest.mark.slow
@pytest.mark.usefixtures("server")
def test_bigquery_for_the_newest(scratch: dict[int, Path], release: Release) -> None:
    same(release(25, "--history", release(20, *PAY), *PAY), scratch[25])


def test_series_history_is_what_googlesql_defines(scratch: dict[int, Path]) -> None:
    pinned = Catalog().indices[HISTORY].for_release(5)
    tables = {}
    for table, columns in columns_read(pinned.statement.leaves).items():
        folder = SAMPLE / table.dataset / table.name
        tables[table] = table_of(columns, pq.read_table(folder, columns=[c.name for c in columns]).to_pylist())
    defined = by_googlesql(pinned.statement, tables).combine_chunks().to_batches()
    expected = [row for batch in defined for row in conform(batch, pinned.schema.columns, HISTORY).to_pylist()]
    assert repr(rows(scratch[5], HISTORY)) == repr(expected)


def test_both_tables_have_the_same_template() -> None:
    """So that a history has the rows for both, and a build of both reads each prior release once."""
    pinned = [Catalog().indices[name].for_release(3) for name in BOTH]
    first, second = (to_duckdb(index.statement, index.query_file).prior_extracts for index in pinned)
    assert first == second != ()


# --- Any history ----------------------------------------------------------------------------------------------

State = tuple[str, str, str, int, int]
BUCKETS = ["public-datasets-idc", "idc-open-data", "idc-open-idc1", "idc-open-cr", "idc-open-idc"]
STATE = st.tuples(
    st.sampled_from(["lungs", "brains"]),
    st.sampled_from(["P1", "P2"]),
    st.sampled_from(BUCKETS),
    st.sampled_from([1, 4_999, 5_000, 1_004_999, 1_005_000]),
    st.integers(1, 2),
)
ABSENT = st.none()
# For each series version, what each of up to five releases says of it.
SHUFFLED = st.lists(st.lists(ABSENT | STATE, min_size=5, max_size=5), min_size=1, max_size=4)


def instances(version: int, state: State) -> Iterator[dict[str, Any]]:
    collection, patient, bucket, size, count = state
    uuid = f"00000000-0000-0000-0000-{version:012}"
    for number in range(count):
        yield {
            "collection_id": collection,
            "PatientID": patient,
            # two versions of each series
            "SeriesInstanceUID": f"1.2.{version // 2}",
            "StudyInstanceUID": f"1.1.{version // 2}",
            "SOPInstanceUID": f"1.2.{version}.{number}",
            "Modality": "CT",
            "gcs_url": f"gs://{bucket}/{uuid}/{number}.dcm",
            "crdc_series_uuid": uuid,
            "instance_size": size,
        }


def export_of(folder: Path, versions: list[list[State | None]]) -> None:
    """An export of five releases, in each of which there is also one version that stays as it is."""
    always = ("lungs", "P0", "idc-open-data", 7_000, 1)
    for release in range(1, 6):
        states = [always, *(one[release - 1] for one in versions)]
        found = [row for number, state in enumerate(states) if state for row in instances(number, state)]
        table = folder / f"idc_v{release}" / "dicom_all"
        table.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(found, PRIOR), table / "000000000000.parquet")


PINNED = {number: [Catalog().indices[name].for_release(number) for name in BOTH] for number in range(2, 6)}
TEMPLATE = to_duckdb(PINNED[2][1].statement, "").prior_extracts[0].sql


def tables_of(export: Export, release: int, history: History | None, spill: Path) -> dict[str, pa.Table]:
    """What the engine makes of both queries."""
    pinned = PINNED[release]
    made = {}
    with DuckDBEngine(export, spill, threads=1).plan(pinned, history).running(pinned) as run:
        for index in pinned:
            with run.rows(index) as batches:
                conformed = [conform(batch, index.schema.columns, index.name) for batch in batches]
            made[index.name] = pa.Table.from_batches(conformed, arrow_schema(index.schema.columns))
    return made


def check_shuffled(folder: Path, versions: list[list[State | None]], chain: list[int]) -> None:
    """Each release of a chain is the same on the history of the one before as from scratch."""
    shutil.rmtree(folder, ignore_errors=True)
    export_of(folder / "export", versions)
    export = open_export(str(folder / "export"), (), timedelta(hours=6), folder / "cache", False)
    history = None
    for number in chain:
        expected = tables_of(export, number, None, folder / "spill")
        made = tables_of(export, number, history, folder / "spill") if history else expected
        for table in BOTH:
            assert made[table].equals(expected[table])
        path = folder / f"{number}.parquet"
        pq.write_table(made[HISTORY], path)
        history = History(number, f"{number}.0.0", "", path.stat().st_size, TEMPLATE, path, lambda _: None)


CHAINS = st.lists(st.integers(2, 5), min_size=2, max_size=4, unique=True).map(sorted)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(versions=SHUFFLED, chain=CHAINS)
def test_shuffled_histories(versions: list[Any], chain: list[int], tmp_path: Path) -> None:
    """Versions that come, go, come back, change size, bucket, collection and patient."""
    check_shuffled(tmp_path / "shuffled", versions, chain)


@pytest.mark.slow
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(versions=SHUFFLED, chain=CHAINS)
def test_many_shuffled_histories(versions: list[Any], chain: list[int], tmp_path: Path) -> None:
    check_shuffled(tmp_path / "shuffled", versions, chain)
