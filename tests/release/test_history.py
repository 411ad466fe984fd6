"""A release that is built on the series_history of an older one is the same as one that is built from all releases."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from idc_indexer import DuckDB, build_release, plan_release
from idc_indexer.catalog import Catalog, PinnedIndex
from idc_indexer.documents import bundled
from idc_indexer.engines.duckdb import DuckDBEngine
from idc_indexer.engines.history import History
from idc_indexer.exports import Export, open_export
from idc_indexer.release.build import plan_build
from idc_indexer.release.history import fetch
from idc_indexer.schema.arrow import arrow_schema, conform
from idc_indexer.sql import to_duckdb
from tests.conftest import PRIOR, Run, around, contents, once, refused, rows, setting
from tests.emulators.bigquery import BigQueryServer
from tests.emulators.loopback import LoopbackServer
from tests.engines.test_bigquery import PAY, facts, of_sample, ran
from tests.publish.test_release_source import Files
from tests.support.damage import Damage, change_byte, change_pages, manifest, put, rewrite
from tests.support.oracle import by_googlesql
from tests.support.strategies import columns_read, table_of

PRIOR_VERSIONS, HISTORY = "prior_versions_index", "series_history"
BOTH = (PRIOR_VERSIONS, HISTORY)
SAMPLE = bundled("sample")
STEPS = [2, 4, 5]

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
    assert contents(last).keys() == contents(scratch[5]).keys()
    assert run("verify", last).stdout == f"{last}: OK\n"


@pytest.mark.slow
@pytest.mark.parametrize("base", range(2, 25))
def test_every_jump_to_the_newest(base: int, release: Release) -> None:
    same(release(25, "--history", release(base, indices=(HISTORY,))), release(25))


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
    following = release(5, "--history", jump, *PAY, indices=(PRIOR_VERSIONS,))
    same(following, scratch[5], PRIOR_VERSIONS)
    assert ran(server) == [f"{PRIOR_VERSIONS}_served"]
    assert [*json.loads((following / "manifest.json").read_text())["source"]["tables"]] == ["idc_v5.dicom_all"]
    for built in (jump, following):
        assert run("verify", built).stdout == f"{built}: OK\n"


@pytest.mark.slow
@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("engine", [(), PAY], ids=["duckdb", "bigquery"])
def test_all_releases_one_at_a_time(engine: tuple[str, ...], release: Release) -> None:
    last = release(2, *engine)
    for number in range(3, 26):
        last = release(number, "--history", last, *engine)
        same(last, release(number))


@pytest.mark.slow
@pytest.mark.usefixtures("server")
def test_bigquery_for_the_newest(release: Release) -> None:
    same(release(25, "--history", release(20, *PAY), *PAY), release(25))


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


# --- Where a history is ---------------------------------------------------------------------------------------


def test_published_histories(scratch: dict[int, Path], release: Release, run: Run, tmp_path: Path) -> None:
    """A version, an address, and `current`; for another release of the same IDC release, that of `current`."""
    bucket = tmp_path / "bucket"
    assert run("publish", scratch[4], "--to", bucket, "--promote").exit_code == 0
    at = ("--published-at", bucket)
    built = release(5, "--history", "current", *at, indices=(PRIOR_VERSIONS,))
    with LoopbackServer(partial(Files, directory=str(bucket))) as server:
        address: list[object] = [f"{server.url}/4.0.0/release_artifacts/"]
        for number, given in enumerate((["4.0.0", *at], address)):
            same(release(5, "--history", *given, indices=(PRIOR_VERSIONS,), to=str(number)), built, PRIOR_VERSIONS)
    assert run("publish", built, "--to", bucket, "--promote").exit_code == 0
    options = ("--history", "current", *at, "--release-version", "5.0.1")
    again = release(5, *options, indices=(PRIOR_VERSIONS,), to="again")
    before, after = (json.loads((folder / "manifest.json").read_text()) for folder in (built, again))
    assert after["history"] == before["history"]
    assert (after["release_version"], after["history"]["release_version"]) == ("5.0.1", "4.0.0")


def test_an_interrupted_build_has_the_history_already(scratch: dict[int, Path], tmp_path: Path) -> None:
    """It is fetched once, also when it was damaged since."""
    plan = plan_release(
        PRIOR_VERSIONS,
        out=tmp_path / "release",
        release_version="5.0.0",
        engine=DuckDB(source="sample", cache_dir=tmp_path / "cache"),
        history=scratch[4],
    )
    history = plan.plan.history
    assert history is not None
    history.path.parent.mkdir()
    fetch(history)
    once_fetched = history.path.stat().st_mtime_ns
    fetch(history)
    assert history.path.stat().st_mtime_ns == once_fetched
    history.path.write_bytes(b"cut")
    same(plan.build().path, scratch[5], PRIOR_VERSIONS)


def test_what_runs_and_what_is_read(scratch: dict[int, Path], run: Run) -> None:
    on = ("--idc-version", 5, "--history", scratch[2], "--json")
    explained = json.loads(run("explain", PRIOR_VERSIONS, *on).stdout)
    tables = ["series_history of IDC release 2", *(f"idc_v{number}.dicom_all" for number in (3, 4, 5))]
    assert [*explained["reads"]] == tables
    assert explained["reads"]["idc_v5.dicom_all"] == ["crdc_series_uuid"]
    assert ["idc_v3" in explained["sql"][0], "idc_v4" in explained["sql"][1], len(explained["sql"])] == [True, True, 3]
    explained = json.loads(run("explain", HISTORY, *on, "--engine", "bigquery").stdout)
    assert [*explained["reads"]] == tables
    past, present, rest = explained["sql"]
    assert "idc_v4`" not in past  # the backquotes are around the entire name of a table
    assert past.count("UNION ALL") == 1
    assert ("idc_v3.dicom_all`" in past, "idc_v5.dicom_all`" in present, "prior_rows" in rest) == (True, True, True)
    staged = run("stage", HISTORY, "--idc-version", 5, "--source", "sample", "--history", scratch[2], "--dry-run")
    told = "IDC releases 1 to 2 come from the history of 2.0.0: of the prior releases, 3 to 4 are read"
    assert (staged.exit_code, told in staged.stderr) == (0, True)
    refused(run("explain", HISTORY, "--history", scratch[2]), 2, "a history is for one IDC release", "--idc-version")


def test_who_reads_no_prior_release_needs_no_history(run: Run, out: Path) -> None:
    where = ("--source", "sample", "--release-version", "25.0.0", "--out", out)
    result = run("build", "version_metadata_index", *where, "--history", "nowhere")
    assert result.exit_code == 0, result.stderr
    assert "no index of this build reads prior releases: the history is not used" in result.stderr
    assert "history" not in json.loads((out / "manifest.json").read_text())


def test_with_a_history_or_none_all_indices_are_more(out: Path) -> None:
    catalog = Catalog()
    catalog.indices = {name: catalog.indices[name] for name in (HISTORY, "version_metadata_index")}
    for history, names in ((True, [*catalog.indices]), (False, ["version_metadata_index"])):
        plan = plan_build(catalog, [], 5, "5.0.0", out, history=history)
        assert [index.name for index in plan.indices] == names


# --- Histories that are refused -------------------------------------------------------------------------------


def releases_of(change: Callable[[list[int]], list[int]]) -> Damage:
    """Other releases in each row."""

    def changed(table: pa.Table) -> pa.Table:
        lists = [change(row["idc_versions"]) for row in table.select(["idc_versions"]).to_pylist()]
        place = table.schema.names.index("idc_versions")
        return table.set_column(place, table.schema.field(place), pa.array(lists, table.schema.field(place).type))

    return rewrite(HISTORY, changed)


def forget(index: str) -> Damage:
    def damage(release: Path) -> None:
        manifest(release, indices=[one for one in manifest(release)["indices"] if one["name"] != index])

    return damage


def other_query(release: Path) -> None:
    name = f"{HISTORY}.sql"
    put(release, name, (release / name).read_bytes().replace(b"1000000, 2)", b"1000000, 3)"))


def other_source(release: Path) -> None:
    manifest(release, source=manifest(release)["source"] | {"kind": "folder"})


def other_sidecar(release: Path) -> None:
    (release / f"{HISTORY}.parquet.sha256").write_text("0" * 64 + f"  {HISTORY}.parquet\n")


def other_versions(table: pa.Table) -> pa.Table:
    return setting("crdc_series_uuid", [f"{number:036}" for number in range(table.num_rows)])(table)


REFUSED: list[tuple[str, Damage, str]] = [
    ("no table", forget(HISTORY), f"4.0.0 has no {HISTORY}\n"),
    ("other source", other_source, "was built from another source (folder), and this build reads the sample"),
    ("other query", other_query, f"4.0.0 has a {HISTORY} that another query made"),
    ("other sidecar", other_sidecar, f"{HISTORY}.parquet.sha256 does not have the digest that the manifest has"),
    ("damaged", change_byte(f"{HISTORY}.parquet"), f"{HISTORY} of 4.0.0, is damaged: its SHA-256 is "),
    ("gap", releases_of(lambda one: [n for n in one if n != 3]), "has no row of IDC release 3, and it should have"),
    ("later", releases_of(lambda one: [*one, 7]), f"{HISTORY} of 4.0.0, has rows of IDC release 7"),
    ("pages", change_pages(HISTORY), f"{HISTORY} of 4.0.0: cannot be read"),
    ("other series", rewrite(HISTORY, other_versions), "is of other series: the release that is built serves no"),
]


@pytest.mark.parametrize(("damage", "message"), [one[1:] for one in REFUSED], ids=[one[0] for one in REFUSED])
def test_refused(damage: Damage, message: str, scratch: dict[int, Path], run: Run, out: Path, tmp_path: Path) -> None:
    given = shutil.copytree(scratch[4], tmp_path / "given")
    damage(given)
    where = ("--source", "sample", "--release-version", "5.0.0", "--out", out)
    refused(run("build", PRIOR_VERSIONS, *where, "--history", given), 1, message)
    assert around(out) == []


@pytest.mark.parametrize(
    ("idc_version", "given", "code", "message"),
    [
        (5, "5", 1, "5.0.0 is of IDC release 5, and the build of 5\nGive a release of an older IDC release."),
        (4, "5", 1, "5.0.0 is of IDC release 5, and the build of 4\nGive a release of an older IDC release."),
        (5, f"4/{HISTORY}.parquet", 1, "not a release, but a single Parquet file"),
        (5, "nowhere", 2, "nowhere: no such folder, and not a version"),
    ],
)
def test_refused_by_its_release(
    idc_version: int, given: str, code: int, message: str, scratch: dict[int, Path], run: Run, out: Path
) -> None:
    where = ("--source", "sample", "--release-version", f"{idc_version}.0.0", "--out", out)
    refused(run("build", PRIOR_VERSIONS, *where, "--history", scratch[4].parent / given), code, message)
    assert around(out) == []


# --- What verify finds ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def newest(scratch: dict[int, Path], sample_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release with a history and all that it is compared with."""
    folder = tmp_path_factory.mktemp("newest")
    engine = DuckDB(source="sample", cache_dir=f"{sample_release}.cache")
    out = folder / "release"
    return build_release(*BOTH, "idc_index", out=out, release_version="25.0.0", engine=engine, history=scratch[5]).path


def chosen(release: Path, served: bool) -> int:
    """The first row of a version that release 25 serves; or of one that it does not serve, of a bucket that is."""
    found = rows(release, HISTORY)
    current = {row["crdc_series_uuid"] for row in found if 25 in row["idc_versions"]}
    return next(
        number
        for number, row in enumerate(found)
        if (25 in row["idc_versions"] if served else row["crdc_series_uuid"] not in current)
        and row["gcs_bucket"] != "idc-open-idc"
    )


def in_row(served: bool, change: Callable[[list[int]], list[int]]) -> Damage:
    """Other releases in such a row."""

    def damage(release: Path) -> None:
        wanted, numbers = chosen(release, served), iter(range(10_000))
        releases_of(lambda one: change(one) if next(numbers) == wanted else one)(release)

    return damage


def dropped(served: bool) -> Damage:
    def damage(release: Path) -> None:
        gone = chosen(release, served)
        rewrite(HISTORY, lambda table: pa.concat_tables([table[:gone], table[gone + 1 :]]))(release)

    return damage


def of_two_series(table: pa.Table) -> pa.Table:
    uuids = table["crdc_series_uuid"].to_pylist()
    return setting("crdc_series_uuid", [*uuids[:-1], uuids[0]])(table)


WRONG: list[tuple[str, Damage, str]] = [
    ("served is missing", dropped(served=True), "1 rows are missing: series versions of idc_index, such as "),
    ("prior is missing", dropped(served=False), "1 rows are missing: rows of prior_versions_index, such as "),
    (
        "served too many",
        in_row(False, lambda one: [*one, 25]),
        "1 rows are of release 25, and idc_index does not have them, such as ",
    ),
    (
        "prior too many",
        in_row(True, lambda _: [20]),
        "rows are of earlier releases alone, and prior_versions_index does not have them, such as ",
    ),
    ("first release", in_row(False, lambda one: [1, *one]), "1 rows are missing: rows of prior_versions_index"),
    ("repeated", in_row(True, lambda one: [*one, one[-1]]), "1 rows have releases that are repeated or not asc"),
    ("descending", in_row(False, lambda one: [22, 21, *one]), "1 rows have releases that are repeated or not asc"),
    ("none", in_row(False, lambda _: []), "1 rows have releases that are repeated or not ascending"),
    ("gap", releases_of(lambda one: [n for n in one if n != 8]), "has no row of IDC release 8"),
    ("two series", rewrite(HISTORY, of_two_series), "1 rows have a crdc_series_uuid that belongs to several series"),
]


@pytest.mark.parametrize(("damage", "message"), [one[1:] for one in WRONG], ids=[one[0] for one in WRONG])
def test_verify_finds_a_wrong_history(damage: Damage, message: str, newest: Path, run: Run, tmp_path: Path) -> None:
    """So that it cannot travel on: whatever passes a release on verifies it first."""
    release = shutil.copytree(newest, tmp_path / "release")
    damage(release)
    result = run("verify", release)
    assert result.exit_code == 3
    assert any(line.startswith(f"{HISTORY}.parquet: ") and message in line for line in result.stdout.splitlines())


@pytest.mark.duckdb
def test_the_newest_is_right(newest: Path, sample_release: Path, run: Run) -> None:
    same(newest, sample_release, PRIOR_VERSIONS, "idc_index")
    assert run("verify", newest).stdout == f"{newest}: OK\n"


def test_verify_knows_which_releases_a_history_leaves_to_read(newest: Path, run: Run, tmp_path: Path) -> None:
    release = shutil.copytree(newest, tmp_path / "release")
    document = manifest(release)
    tables = document["source"]["tables"]
    facts_of = next(iter(tables.values()))
    between = {f"idc_v{number}.dicom_all": facts_of for number in range(6, 25)}
    manifest(release, source=document["source"] | {"tables": tables | between})
    assert run("verify", release).exit_code == 0
    del between["idc_v7.dicom_all"]
    manifest(release, source=document["source"] | {"tables": tables | between})
    assert "source tables of another IDC release than 25: idc_v6.dicom_all, " in run("verify", release).stdout


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


@cache
def pinned_to(release: int) -> list[PinnedIndex]:
    return [Catalog().indices[name].for_release(release) for name in BOTH]


def tables_of(export: Export, release: int, history: History | None, spill: Path) -> dict[str, pa.Table]:
    """What the engine makes of both queries."""
    pinned = pinned_to(release)
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
        template = to_duckdb(pinned_to(2)[1].statement, "").prior_extracts[0].sql
        history = History(number, f"{number}.0.0", "", path.stat().st_size, template, path, lambda _: None)


CHAINS = st.lists(st.integers(2, 5), min_size=2, max_size=4, unique=True).map(sorted)


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(versions=SHUFFLED, chain=CHAINS)
def test_shuffled_histories(versions: list[Any], chain: list[int], tmp_path: Path) -> None:
    """Versions that come, go, come back, change size, bucket, collection and patient."""
    check_shuffled(tmp_path / "shuffled", versions, chain)


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(versions=SHUFFLED, chain=CHAINS)
def test_many_shuffled_histories(versions: list[Any], chain: list[int], tmp_path: Path) -> None:
    check_shuffled(tmp_path / "shuffled", versions, chain)
