"""Builds through Google's own clients, against a server that keeps jobs, bills, refuses and breaks off."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import filelock
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.api_core.exceptions import Unauthorized
from rich.filesize import decimal

from idc_indexer.cache import Cache
from idc_indexer.documents import bundled
from idc_indexer.engines import QueryEstimate
from idc_indexer.engines.bigquery import AT_ONCE, errors, jobs
from idc_indexer.schema.source_tables import SourceTables
from idc_indexer.sql import analyze
from tests.conftest import (
    FOREGROUND,
    INDICES,
    RELEASE,
    Run,
    Start,
    add_index,
    around,
    contents,
    refused,
    rows,
)
from tests.emulators.bigquery import TOKEN, BigQueryServer, Table
from tests.emulators.googlesql import GoogleSQLError
from tests.emulators.loopback import LoopbackServer, QuietHandler
from tests.release.test_build_target import posix
from tests.support.oracle import by_googlesql
from tests.support.strategies import columns_read, table_of

SAMPLE = bundled("sample")
MEGABYTE = 1 << 20
PAY = ("--engine", "bigquery", "--project", "my-project")
# Two that are quick to evaluate, and one that they are not mixed up with.
QUICK = ["collections_index", "version_metadata_index"]
FIVE = ["analysis_results_index", "ann_index", "clinical_index", *QUICK]

Bill = Callable[..., Result]


@cache
def of_sample(sql: str) -> pa.Table:
    """What the language defines for a query over the bundled sample.

    Raises:
        ValueError: the query is wrong.
    """
    statement = analyze(sql, SourceTables(), "job")
    tables = {}
    for table, columns in columns_read(statement.leaves).items():
        folder = SAMPLE / table.dataset / table.name
        tables[table] = table_of(columns, pq.read_table(folder, columns=[c.name for c in columns]).to_pylist())
    try:
        return by_googlesql(statement, tables)
    except GoogleSQLError as error:
        raise ValueError(str(error)) from error


def facts() -> dict[str, Table]:
    """The tables of the sample, a thousand times as large as they are."""
    found = {}
    for folder in SAMPLE.glob("idc_v*/*"):
        files = list(folder.glob("*.parquet"))
        count = sum(pq.read_metadata(file).num_rows for file in files)
        found[f"{folder.parent.name}.{folder.name}"] = Table(count, sum(file.stat().st_size for file in files) * 1_000)
    return found


@pytest.fixture
def server(environment: dict[str, str]) -> Iterator[BigQueryServer]:
    with BigQueryServer(facts(), of_sample) as server:
        environment.update(server.environment)
        yield server


@pytest.fixture
def bill(run: Run, out: Path) -> Bill:
    """`build` of release 25.0.0 to `out`, with BigQuery."""
    return lambda *arguments: run("build", *PAY, *RELEASE, "--out", out, *arguments)


def ran(server: BigQueryServer) -> list[str]:
    """The indices whose queries were run, and billed, one for each time."""
    return sorted(server.jobs[job].labels["index"] for job in server.runs)


def parquet(folder: Path) -> dict[str, bytes]:
    """All files of a release but the manifest, which names the engine."""
    return {name: data for name, data in contents(folder).items() if name != "manifest.json"}


def until(condition: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    """Wait, for a minute at most, and not for a process that is dead."""
    for _ in range(6_000):
        if condition():
            return
        if process is not None and process.poll() is not None:
            break
        time.sleep(0.01)
    pytest.fail(f"it never came so far: {process.communicate() if process else ''}")


# --- The same bytes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["storage", "rest"])
def test_both_engines_write_the_same_bytes(
    way: str, server: BigQueryServer, bill: Bill, run: Run, out: Path, sample_release: Path
) -> None:
    server.page_rows = 30
    server.faults["session"] = ["denied"] if way == "rest" else []
    result = bill()
    assert result.exit_code == 0, result.stderr
    assert parquet(out) == parquet(sample_release)
    assert json.loads((out / "manifest.json").read_text())["source"]["kind"] == "bigquery"
    assert run("verify", out).exit_code == 0
    assert ran(server) == INDICES
    assert server.requests.count("session") == (len(INDICES) if way == "storage" else 1)
    assert server.requests.count("read") == (len(INDICES) if way == "storage" else 0)
    assert result.stderr.count("Storage Read API is not permitted") == (way == "rest")


@pytest.mark.parametrize("engine", [("--source", "sample"), PAY], ids=["duckdb", "bigquery"])
def test_operands_of_wrong_types(
    engine: tuple[str, ...], server: BigQueryServer, run: Run, out: Path, tmp_path: Path
) -> None:
    table = "`bigquery-public-data.idc_current.version_metadata`"
    query = f"SELECT idc_version FROM {table}\nWHERE version_hash = 5 ORDER BY idc_version"
    add_index(tmp_path, "mine", query, idc_version="INTEGER")
    folders = ("--queries", tmp_path / "queries", "--schemas", tmp_path / "schemas")
    refused(run("build", "mine", *engine, *folders, *RELEASE, "--out", out), 1, "mine", "STRING", "INT64")
    assert not server.runs
    assert not out.exists()


@pytest.mark.parametrize("release", [24, 25])
@pytest.mark.parametrize("engine", [("--source", "sample"), PAY], ids=["duckdb", "bigquery"])
def test_a_published_query_is_no_query_file(
    engine: tuple[str, ...],
    release: int,
    server: BigQueryServer,
    run: Run,
    out: Path,
    sample_release: Path,
    tmp_path: Path,
) -> None:
    """It reads one fixed release: as another it would build the wrong rows, and as the same one only by luck."""
    add_index(tmp_path, "mine", (sample_release / "version_metadata_index.sql").read_text(), idc_version="INTEGER")
    folders = ("--queries", tmp_path / "queries", "--schemas", tmp_path / "schemas")
    version = ("--idc-version", release, "--release-version", f"{release}.0.0", "--out", out)
    result = run("build", "mine", *engine, *folders, *version)
    refused(
        result, 1, "mine.sql: line", "reads idc_v25.version_metadata, a table of IDC release 25 only", "idc_current"
    )
    assert not server.jobs
    assert not out.exists()


def test_only_one_stream_keeps_the_order(server: BigQueryServer) -> None:
    """What the server for tests is worth: with more streams than one, rows come out of order."""
    from google.cloud.bigquery_storage import DataFormat, ReadSession

    from idc_indexer.engines.bigquery import connect

    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        connection = connect("my-project", "US")
    sql = "SELECT idc_version FROM `bigquery-public-data.idc_v25.version_metadata` ORDER BY idc_version"
    job = connection.client.query(sql)
    expected = [row["idc_version"] for row in job.result()]
    storage = connection.storage
    assert storage is not None
    for count, in_order in ((1, True), (3, False)):
        wanted = ReadSession(table=job.destination.to_bqstorage(), data_format=DataFormat.ARROW)
        session = storage.create_read_session(parent="projects/my-project", read_session=wanted, max_stream_count=count)
        assert len(session.streams) == count
        schema = pa.ipc.read_schema(pa.py_buffer(session.arrow_schema.serialized_schema))
        found = [
            value
            for stream in session.streams
            for message in storage.read_rows(stream.name)  # type: ignore[no-untyped-call]
            for value in pa.ipc.read_record_batch(
                pa.py_buffer(message.arrow_record_batch.serialized_record_batch), schema
            )["idc_version"].to_pylist()
        ]
        assert set(found) == set(expected)
        assert (found == expected) == in_order


TYPES = """
SELECT
  instance.SOPInstanceUID AS id,
  CAST(instance.StudyDate AS STRING) AS day,
  CAST(instance.RadiopharmaceuticalInformationSequence[SAFE_OFFSET(0)].RadiopharmaceuticalStartTime AS STRING) AS start,
  instance.ImageType AS kinds,
  instance.instance_size > 600 AS large,
  instance.instance_size / 7 AS seventh
FROM `bigquery-public-data.idc_current.dicom_all` AS instance
ORDER BY id
"""


def test_other_types_are_the_same_too(server: BigQueryServer, bill: Bill, out: Path, tmp_path: Path) -> None:
    """Text of dates and times, arrays that may be NULL, booleans, fractions: over gRPC, over REST, from DuckDB."""
    kinds = {"id": "STRING", "day": "STRING", "start": "STRING", "kinds": "STRING", "large": "BOOLEAN"}
    add_index(tmp_path, "mine", TYPES, **kinds, seventh="FLOAT")
    schema = tmp_path / "schemas" / "mine.json"
    document = json.loads(schema.read_text())
    document["columns"][3]["mode"] = "REPEATED"
    schema.write_text(json.dumps(document))
    mine = ("mine", "--queries", tmp_path / "queries", "--schemas", tmp_path / "schemas")
    written = []
    for engine in ("storage", "rest", "duckdb"):
        server.faults["session"] = ["denied"] if engine == "rest" else []
        source = ("--source", "sample", "--engine", "duckdb") if engine == "duckdb" else ()
        result = bill(*mine, *source, "--force")
        assert result.exit_code == 0, result.stderr
        written.append(parquet(out))
    assert written[0] == written[1] == written[2]
    found = rows(out, "mine")
    assert all(any(row[name] for row in found) for name in found[0])
    assert not all(row["start"] for row in found)
    assert not all(row["kinds"] for row in found)


# --- Costs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("processed", "tables", "billed", "most"),
    [
        (0, 1, 10, 12),
        (1, 3, 30, 50),  # each of three small tables is billed as ten megabytes, the estimate knows only of all
        (10 * MEGABYTE + 1, 1, 11, 13.2),
        (1_000 * MEGABYTE, 2, 1_000, 1_200),
        (100 * MEGABYTE, 25, 250, 490),
    ],
)
def test_estimate(processed: int, tables: int, billed: int, most: float) -> None:
    estimate = QueryEstimate(processed, tables)
    assert (estimate.billed, estimate.most) == (billed * MEGABYTE, int(most * MEGABYTE))


def test_dry_run_says_what_it_will_cost(server: BigQueryServer, bill: Bill, run: Run, out: Path) -> None:
    server.tables["idc_v25.original_collections_metadata"].bytes = 3 << 40
    lines = bill(*QUICK, "--dry-run").stdout.splitlines()
    assert lines == [
        "collections_index: 3.3 TB billed, $18.7500",
        "version_metadata_index: 10.5 MB billed, $0.0001",
        "total: 3.3 TB billed, $18.7501",
    ]
    document = json.loads(bill(*QUICK, "--dry-run", "--json", "--price-per-tib", "5").stdout)
    assert list(document["indices"]) == QUICK
    assert document["indices"]["collections_index"] == {
        "bytes_processed": 3 << 40,
        "bytes_billed": 3 << 40,
        "price_usd": 15,
    }
    assert document["total"]["bytes_billed"] == (3 << 40) + 10 * MEGABYTE
    explained = run("explain", "collections_index", *PAY, "--idc-version", 25)
    assert "-- costs: 3.3 TB billed, $18.7500" in explained.stdout
    assert (
        json.loads(run("explain", "collections_index", *PAY, "--idc-version", 25, "--json").stdout)["costs"][
            "price_usd"
        ]
        == 18.75
    )
    assert server.jobs == {}
    assert around(out) == []


def test_dry_run_of_duckdb_costs_nothing(run: Run, out: Path) -> None:
    result = run("build", *QUICK, "--source", "sample", *RELEASE, "--out", out, "--dry-run")
    assert (result.exit_code, result.stdout) == (
        0,
        "idc_v25.original_collections_metadata: nothing to fetch\nidc_v25.version_metadata: nothing to fetch\n"
        "total: nothing to fetch\n",
    )
    assert around(out) == []


def test_limit_of_the_whole_build(server: BigQueryServer, bill: Bill, out: Path) -> None:
    total = json.loads(bill(*QUICK, "--dry-run", "--json").stdout)["total"]["bytes_billed"]
    refused(bill(*QUICK, "--max-bytes-billed", total - 1), 1, f"({total:,} bytes)", "Nothing was started")
    assert server.jobs == {}
    assert around(out) == []
    assert bill(*QUICK, "--max-bytes-billed", total).exit_code == 0
    assert server.billed == total


def test_jobs_are_named_labelled_and_limited(server: BigQueryServer, bill: Bill) -> None:
    estimates = json.loads(bill(*QUICK, "--dry-run", "--json").stdout)["indices"]
    assert bill(*QUICK).exit_code == 0
    for index in QUICK:
        job = server.job(index)
        assert re.fullmatch(rf"idc-indexer_{index}_v25_[0-9a-f]{{20}}_1", job.id)
        assert job.labels == {"tool": "idc-indexer", "index": index, "release": "v25"}
        assert job.maximum == estimates[index]["bytes_billed"] * 6 // 5
        assert job.billed == estimates[index]["bytes_billed"]


def test_tables_that_have_grown_are_not_paid_for(server: BigQueryServer, bill: Bill, out: Path) -> None:
    """The job itself has the limit, should what it reads change after the dry run."""
    server.faults["insert"] = ["grows"]
    refused(
        bill("collections_index"), 1, "collections_index: Query exceeded limit for bytes billed", "run the same command"
    )
    assert server.billed == 0
    assert around(out) == []


def test_row_counts_that_differ(server: BigQueryServer, bill: Bill, run: Run, out: Path) -> None:
    """A warning before anything is billed, and a finding of `verify`, unless it is accepted."""
    server.tables["idc_v25.auxiliary_metadata"].rows += 1
    expected = (
        "warning: tables with one row per instance have different numbers of rows: "
        "idc_v25.auxiliary_metadata has 2,354, idc_v25.dicom_all has 2,353, idc_v25.dicom_metadata_curated has 2,353"
    )
    assert expected in bill("idc_index", "--dry-run").stderr
    assert server.jobs == {}
    built = bill("idc_index")
    assert built.exit_code == 0, built.stderr
    assert expected in built.stderr
    found = run("verify", out)
    assert (found.exit_code, "idc_v25.auxiliary_metadata has 2,354" in found.stdout) == (3, True)
    assert bill("idc_index", "--force", "--allow-row-count-mismatch").exit_code == 0
    assert run("verify", out).exit_code == 0


# --- Jobs ---------------------------------------------------------------------------------------------------


@posix
def test_few_jobs_at_once(server: BigQueryServer, start: Start, out: Path) -> None:
    server.fates = ["slow"] * AT_ONCE
    process = start("sample", *PAY, *FIVE)
    until(lambda: len(server.jobs) == AT_ONCE, process)
    time.sleep(0.5)
    assert len(server.jobs) == AT_ONCE
    server.release.set()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert server.most_at_once == AT_ONCE
    assert ran(server) == FIVE
    assert around(out) == ["release"]


@posix
def test_a_killed_build_finds_its_jobs_again(
    server: BigQueryServer, start: Start, bill: Bill, out: Path, tmp_path: Path
) -> None:
    """Those that finished, and those that were running."""
    server.slow = {FIVE[1], FIVE[3]}
    process = start("sample", *PAY, *FIVE)
    assert process.stderr is not None
    assert any(line.startswith(f"done {FIVE[0]}: ") for line in process.stderr)
    # now the build waits for the second index, whatever the machine does besides
    until(lambda: len(server.runs) == 3, process)
    process.kill()
    process.communicate()
    assert around(out) == ["release.incomplete", "release.lock"]
    server.release.set()
    result = bill(*FIVE)
    assert result.exit_code == 0, result.stderr
    assert ran(server) == FIVE
    costs = bill(*FIVE, "--dry-run", "--force", "--json", "--cache-dir", tmp_path / "elsewhere")
    assert server.billed == json.loads(costs.stdout)["total"]["bytes_billed"]
    found = re.findall(r"^(\w+): job \S+ is (?:finished|running) already, and not paid for again$", result.stderr, re.M)
    kept = re.findall(r"^reused (\w+)", result.stderr, re.M)
    assert (sorted(found + kept), kept) == (FIVE, FIVE[:1])


def test_a_result_is_used_again(server: BigQueryServer, bill: Bill, out: Path, tmp_path: Path) -> None:
    """By a machine that has kept no rows, and a release of another version: until it expires."""
    elsewhere = ("--force", "--cache-dir", tmp_path / "elsewhere")
    assert bill(*QUICK).exit_code == 0
    before = contents(out)
    again = bill(*QUICK, *elsewhere, "--release-version", "25.0.1")
    assert again.stderr.count("is finished already, and not paid for again") == len(QUICK)
    assert ran(server) == QUICK
    shutil.rmtree(tmp_path / "elsewhere")
    server.expire()
    assert bill(*QUICK, *elsewhere).exit_code == 0
    assert ran(server) == sorted([*QUICK, *QUICK])
    assert server.job("collections_index").id.endswith("_2")
    assert contents(out) == before


def test_rows_are_kept_for_later_builds(server: BigQueryServer, bill: Bill, out: Path) -> None:
    """Beyond the day for which BigQuery has them: until a source table changes."""
    assert bill(*QUICK).exit_code == 0
    before = contents(out)
    server.expire()
    again = bill(*QUICK, "--force", "--release-version", "25.0.1")
    assert again.exit_code == 0, again.stderr
    assert again.stderr.count("reusing the rows of an earlier build") == len(QUICK)
    assert bill(*QUICK, "--force", "--max-bytes-billed", 0).exit_code == 0
    assert contents(out) == before
    assert ran(server) == QUICK
    server.tables["idc_v25.version_metadata"].modified += 1
    costs = json.loads(bill(*QUICK, "--force", "--dry-run", "--json").stdout)["indices"]
    assert [costs[index]["bytes_billed"] > 0 for index in QUICK] == [False, True]
    assert bill(*QUICK, "--force").exit_code == 0
    assert ran(server) == [*QUICK, "version_metadata_index"]


@pytest.mark.usefixtures("server")
def test_rows_that_were_kept_and_are_damaged(bill: Bill, out: Path, tmp_path: Path) -> None:
    assert bill("collections_index").exit_code == 0
    before = contents(out)
    (path,) = (tmp_path / "cache" / "bigquery").glob("*.parquet")
    data = path.read_bytes()
    column = pq.read_metadata(path).row_group(0).column(0)
    assert column.dictionary_page_offset
    last = column.dictionary_page_offset + column.total_compressed_size - 1  # a byte of a page
    path.write_bytes(data[:last] + bytes([data[last] ^ 1]) + data[last + 1 :])
    refused(bill("collections_index", "--force"), 1, f"{path}, the cached rows", "Run the same command again")
    assert contents(out) == before
    assert bill("collections_index", "--force").exit_code == 0
    path.write_bytes(data[:-9])
    assert bill("collections_index", "--force").exit_code == 0
    assert contents(out) == before
    assert path.read_bytes() == data


def test_kept_rows_are_shown_and_removed(server: BigQueryServer, bill: Bill, run: Run, tmp_path: Path) -> None:
    assert bill(*QUICK).exit_code == 0
    size = sum(path.stat().st_size for path in (tmp_path / "cache" / "bigquery").glob("*.parquet"))
    (kept,) = json.loads(run("cache", "--json").stdout)["kept"]
    assert (kept["name"], kept["shards"], kept["bytes"]) == ("bigquery", len(QUICK), size)
    with Cache(tmp_path / "cache").results.used():
        refused(run("cache", "remove", "bigquery"), 1, "bigquery: another process uses it")
    assert run("cache", "remove", "bigquery").exit_code == 0
    assert json.loads(run("cache", "--json").stdout)["kept"] == []
    server.expire()
    assert bill(*QUICK, "--force").exit_code == 0
    assert ran(server) == sorted([*QUICK, *QUICK])


def test_rows_that_break_off_are_not_kept(server: BigQueryServer, bill: Bill, tmp_path: Path) -> None:
    server.faults["read"] = ["cut short"]
    refused(bill("version_metadata_index"), 1, "the result ended after 7 of 25 rows")
    assert list((tmp_path / "cache" / "bigquery").glob("*.parquet*")) == []


@pytest.mark.usefixtures("server")
def test_two_builds_keep_the_same_rows(bill: Bill, out: Path, tmp_path: Path) -> None:
    """One of them does; the other goes on without."""
    folder = tmp_path / "cache" / "bigquery"
    folder.mkdir(parents=True)
    with filelock.FileLock(folder / "collections_index-v25.lock"):
        assert bill("collections_index").exit_code == 0
    before = contents(out)
    assert list(folder.glob("*.parquet")) == []
    assert bill("collections_index", "--force").exit_code == 0
    assert len(list(folder.glob("*.parquet"))) == 1
    assert contents(out) == before


def test_a_job_of_somebody_else_is_not_looked_at(server: BigQueryServer, bill: Bill, out: Path, tmp_path: Path) -> None:
    assert bill("version_metadata_index").exit_code == 0
    before = contents(out)
    server.faults["get"] = ["denied"]
    assert bill("version_metadata_index", "--force", "--cache-dir", tmp_path / "elsewhere").exit_code == 0
    assert [job.rsplit("_", 1)[1] for job in server.runs] == ["1", "2"]
    assert contents(out) == before


def test_unchanged_indices_are_kept(server: BigQueryServer, bill: Bill, out: Path, tmp_path: Path) -> None:
    """After a failure, what was written stays, unless its source table has changed."""
    server.faults["read"] = ["", "cut short"]
    refused(bill(*QUICK), 1, "version_metadata_index: the result ended after 7 of 25 rows")
    assert around(out) == ["release.incomplete"]
    result = bill(*QUICK, "--release-version", "25.0.0")
    assert "reused collections_index: " in result.stderr
    assert ran(server) == QUICK
    elsewhere = ("--force", "--cache-dir", tmp_path / "elsewhere")
    server.faults["read"] = ["", "cut short"]
    refused(bill(*QUICK, *elsewhere), 1, "version_metadata_index")
    server.tables["idc_v25.original_collections_metadata"].rows += 1
    result = bill(*QUICK, *elsewhere)
    assert result.exit_code == 0
    assert "kept" not in result.stderr
    assert ran(server) == ["collections_index", *QUICK]


@posix
def test_ctrl_c_cancels_what_runs(server: BigQueryServer, start: Start, bill: Bill) -> None:
    server.fates = ["slow"] * AT_ONCE
    process = start("sample", *PAY, *FIVE, first=FOREGROUND)
    until(lambda: len(server.jobs) == AT_ONCE, process)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (130, "")
    assert errors.splitlines()[-1].startswith("Interrupted. Finished tables stay")
    assert errors.count("cancelled job") == AT_ONCE
    assert [(job.error or {}).get("reason") for job in server.jobs.values()] == ["stopped"] * AT_ONCE
    assert server.billed == 0
    result = bill(*FIVE)
    assert result.exit_code == 0, result.stderr
    assert f"BigQuery bills {decimal(server.billed)} for this build\n" in result.stderr
    assert ran(server) == FIVE
    assert sorted(job.rsplit("_", 1)[1] for job in server.runs) == ["1"] + ["2"] * AT_ONCE


def test_a_job_that_fails_in_passing_is_started_again(server: BigQueryServer, bill: Bill) -> None:
    server.fates = ["backendError", "", "backendError"]
    result = bill(*QUICK)
    assert result.exit_code == 0, result.stderr
    assert result.stderr.count("failed in passing (backendError); starting another") == 2
    assert server.job("collections_index").id.endswith("_3")
    assert ran(server) == QUICK


def test_a_job_that_is_lost_is_asked_for_again(server: BigQueryServer, bill: Bill) -> None:
    """Under the same id: if it is there after all, there is still only one."""
    server.fates = ["slow"]
    server.faults["get"] = ["forgets"]
    result = bill("version_metadata_index")
    assert result.exit_code == 0, result.stderr
    (job,) = server.jobs.values()
    assert job.id.endswith("_1")
    assert ran(server) == ["version_metadata_index"]


def test_a_job_that_is_there_and_is_not(
    server: BigQueryServer, bill: Bill, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was started, the answer was lost; then it is said to exist, and not to be found."""
    monkeypatch.setattr(jobs, "PAUSES", (0.0, 0.01, 0.01, 0.01))
    server.faults = {"insert": ["lost"], "get": ["no job"] * 2}
    result = bill("collections_index")
    assert result.exit_code == 0, result.stderr
    assert ran(server) == ["collections_index"]
    server.faults = {"insert": ["lost"], "get": ["no job"] * 4}
    refused(
        bill("version_metadata_index", "--force"), 1, "BigQuery has lost job idc-indexer_version_metadata_index_v25_"
    )
    assert json.loads((out / "manifest.json").read_text())["indices"][0]["name"] == "collections_index"


# --- What goes wrong in passing -----------------------------------------------------------------------------

PASSING = [
    *((kind, "busy") for kind in ("table", "dry run", "insert", "get", "results", "session", "read")),
    *(("insert", "limit"), ("insert", "reset"), ("insert", "lost"), ("results", "lost"), ("read", "drop")),
]


@pytest.mark.parametrize(("kind", "fault"), PASSING)
def test_got_over(kind: str, fault: str, server: BigQueryServer, bill: Bill, out: Path, sample_release: Path) -> None:
    server.faults[kind] = [fault]
    result = bill("collections_index")
    assert result.exit_code == 0, result.stderr
    assert server.faults[kind] == []
    assert ran(server) == ["collections_index"]
    name = "collections_index.parquet"
    assert (out / name).read_bytes() == (sample_release / name).read_bytes()


def test_a_stream_that_breaks_off_again_and_again(
    server: BigQueryServer, bill: Bill, out: Path, sample_release: Path
) -> None:
    server.message_rows = 2
    server.faults["read"] = ["drop"] * 8
    assert bill("collections_index").exit_code == 0
    assert server.faults["read"] == []
    name = "collections_index.parquet"
    assert (out / name).read_bytes() == (sample_release / name).read_bytes()


# --- What stays wrong ---------------------------------------------------------------------------------------

WRONG = [
    ("table", "disabled", "the API is not enabled in project my-project", "gcloud services enable bigquery"),
    ("table", "no project", "Not found: Project my-project", "gcloud projects list"),
    ("dry run", "denied", "does not have bigquery.jobs.create permission", "roles/bigquery.jobUser"),
    ("dry run", "no billing", "project my-project has no billing account", "--project"),
    ("insert", "quota", "a quota of project my-project is used up: Quota exceeded", "console.cloud.google.com"),
    ("table", "expired", "credentials", "gcloud auth application-default login"),
    ("insert", "echo", "Bearer [secret]", ""),
    ("results", "denied", "does not have bigquery.jobs.create permission", "--project"),
]


@pytest.mark.parametrize(("kind", "fault", "message", "hint"), WRONG)
def test_one_message_and_the_next_step(
    kind: str, fault: str, message: str, hint: str, server: BigQueryServer, run: Run, out: Path
) -> None:
    server.faults[kind] = [fault] * 99
    result = run("--verbose", "build", *PAY, *RELEASE, "--out", out, *QUICK, "--json")
    refused(result, 1, message, hint)
    shown = result.stderr[result.stderr.rindex("Error: ") :]
    assert shown.count(message) == 1 or message == "credentials"
    assert len(shown.splitlines()) <= 2
    assert "http://127.0.0.1" not in shown
    assert TOKEN not in result.output
    assert server.billed == 0 or kind == "results"
    assert around(out) == []


FATES = [
    ("stopped", "collections_index: the job was cancelled by someone", "Run the same command again"),
    ("timeout", "collections_index: the job took longer than BigQuery allows", "Run the same command again"),
    ("quotaExceeded", "a quota of project my-project is used up", "have it raised"),
]


@pytest.mark.parametrize(("fate", "message", "hint"), FATES)
def test_a_job_that_fails(fate: str, message: str, hint: str, server: BigQueryServer, bill: Bill, out: Path) -> None:
    server.fates = [fate]
    refused(bill("collections_index"), 1, message, hint)
    assert around(out) == []
    assert bill("collections_index").exit_code == 0
    assert server.job("collections_index").id.endswith("_2")


def test_a_release_that_is_not_public_yet(server: BigQueryServer, bill: Bill, out: Path) -> None:
    """Everything that is missing, at once."""
    for table in ("original_collections_metadata", "version_metadata"):
        del server.tables[f"idc_v25.{table}"]
    result = bill(*QUICK)
    refused(
        result, 1, "table idc_v25.original_collections_metadata: Not found", "table idc_v25.version_metadata: Not found"
    )
    assert result.stderr.count("idc-indexer releases --engine bigquery --project my-project") == 1
    assert around(out) == []


def test_a_service_that_does_not_come_back(
    server: BigQueryServer, bill: Bill, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "PATIENCE", 3.0)
    server.faults["insert"] = ["busy"] * 99
    refused(bill("collections_index"), 1, "gave up after many attempts: The service is currently unavailable")
    assert around(out) == []


def test_a_service_that_stays_silent(server: BigQueryServer, bill: Bill, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "PATIENCE", 1.0)
    monkeypatch.setattr(jobs, "TIMEOUT", 0.3)
    server.faults["dry run"] = ["silence"] * 99
    refused(bill("collections_index"), 1, "collections_index: ", "Run the same command again")


def python(code: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Code in a fresh interpreter that has no Google credentials but those of `environment`."""
    bare = {
        name: value for name, value in os.environ.items() if not name.startswith(("GOOGLE", "BIGQUERY", "CLOUDSDK"))
    }
    bare |= {"NO_GCE_CHECK": "true"} | environment
    return subprocess.run([sys.executable, "-c", code], env=bare, capture_output=True, text=True, check=False)


def command(*arguments: object) -> str:
    return f"from idc_indexer.cli import main; main({list(map(str, arguments))!r}, prog_name='idc-indexer')"


def test_no_credentials(tmp_path: Path, out: Path) -> None:
    done = python(command("build", *PAY, *RELEASE, "--out", out, *QUICK), {"HOME": str(tmp_path)})
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "Error: --engine bigquery: there are no Google credentials on this machine, or they cannot be read\n"
        "Log in with `gcloud auth application-default login`; in GitHub Actions, use google-github-actions/auth before "
        "this step.\n"
    )


def key_file(path: Path, token_uri: str) -> dict[str, str]:
    """The environment of somebody with a key of a service account, whose tokens come from there."""
    private = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    about = {"type": "service_account", "client_email": "me@example.com", "private_key": private.decode()}
    path.write_text(json.dumps(about | {"token_uri": token_uri}))
    return {"GOOGLE_APPLICATION_CREDENTIALS": str(path)}


def test_credentials_that_are_refused_are_not_shown(tmp_path: Path, out: Path) -> None:
    """Not even when the answer repeats what was sent, and the traceback is asked for."""
    sent = []

    class Refuses(QuietHandler):
        def do_POST(self) -> None:
            sent.append(
                self.rfile.read(int(self.headers["Content-Length"])).decode().split("assertion=")[1].split("&")[0]
            )
            self.send_response(400)
            self.end_headers()
            self.wfile.write(json.dumps({"error": "invalid_grant", "error_description": f"bad {sent[-1]}"}).encode())

    with LoopbackServer(Refuses) as refusing:
        where = key_file(tmp_path / "key.json", f"{refusing.url}/token")
        done = python(command("--verbose", "build", *PAY, *RELEASE, "--out", out, "collections_index"), where)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-2] == (
        "Error: table idc_v25.original_collections_metadata: Google does not accept the credentials of this machine"
    )
    assert len(sent[0]) > 100
    assert sent[0] not in done.stderr


def test_credentials_that_have_expired() -> None:
    refusal = Unauthorized(f"GET https://bigquery.googleapis.com: Bearer {TOKEN} has expired")  # type: ignore[no-untyped-call]
    said = str(errors.explained(refusal, "my-project", "table t"))
    assert said.startswith(
        "table t: the Google login of this machine has expired, or was revoked\nLog in with `gcloud auth"
    )
    assert TOKEN not in said


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {TOKEN}",
        f"https://host/path?access_token={TOKEN}&x=1",
        '{"refresh_token": "1//0abcdefghijklmnopqrstuvwxyz"}',
        "token eyJhbGciOi.eyJpc3MiOiJ.c2lnbmF0dXJl.",
        "{'id_token': 'short'}",
    ],
)
def test_what_looks_like_a_token_is_cut_out(text: str) -> None:
    shown = errors.without_secrets(text)
    assert "[secret]" in shown
    assert not re.search(r"secret_token|abcdefghij|c2lnbmF0|short", shown)


def test_words_that_are_no_tokens_stay() -> None:
    text = "Table bigquery-public-data:idc_v25.dicom_all, column 1//2, bearer"
    assert errors.without_secrets(text) == text


@pytest.mark.parametrize("project", ["", "P", "my project", "projects/x"])
def test_no_project(project: str, server: BigQueryServer, run: Run, out: Path) -> None:
    arguments = ("--project", project) if project else ()
    refused(run("build", "--engine", "bigquery", *arguments, *RELEASE, "--out", out, *QUICK), 2, "--project")
    assert server.requests == []


# --- Apart from the other engine ------------------------------------------------------------------------------


def test_the_other_engine_needs_nothing_of_google(out: Path, tmp_path: Path) -> None:
    hidden = (
        "import sys; sys.modules.update(dict.fromkeys(['google', 'google.cloud', 'google.cloud.bigquery', 'grpc']))\n"
    )
    where = ("--source", "sample", "--cache-dir", tmp_path / "cache", "--out", out)
    done = python(hidden + command("build", *RELEASE, *where, *QUICK), {})
    assert done.returncode == 0, done.stderr
    done = python(hidden + command("build", *PAY, *RELEASE, "--out", tmp_path / "other", *QUICK), {})
    assert (done.returncode, done.stdout) == (1, "")
    assert "Error: BigQuery needs Google's client libraries" in done.stderr
    assert "pip install 'google-cloud-bigquery>=3.30'" in done.stderr


def test_releases(server: BigQueryServer, run: Run) -> None:
    for arguments in (PAY, ("--source", "sample")):
        document: Any = json.loads(run("releases", *arguments, "--json").stdout)
        assert document == {"releases": list(range(1, 26)), "newest": 25}
        assert run("releases", *arguments).stdout.splitlines()[-2:] == ["24", "25 (newest)"]
    assert server.requests.count("datasets") == 3 * 2  # 28 datasets in pages of ten


def test_doctor_asks_whether_the_project_may_run_queries(server: BigQueryServer, run: Run) -> None:
    ask = ("doctor", *PAY, *(word for check in ("store", "rights", "address", "pypi") for word in ("--skip", check)))
    result = run(*ask)
    assert (result.exit_code, result.stdout) == (
        0,
        "source: OK: BigQuery has IDC release 25, and my-project may query it\n",
    )
    server.faults["dry run"] = ["denied"]
    result = run(*ask, "--release-version", "25.2.0")
    assert result.exit_code == 3
    assert result.stdout.startswith("source: not OK: ")
    assert "does not have bigquery.jobs.create permission" in result.stdout
    assert server.jobs == {}


def test_releases_of_nothing(run: Run, tmp_path: Path) -> None:
    refused(run("releases", "--source", tmp_path), 1, "there is no IDC release")
