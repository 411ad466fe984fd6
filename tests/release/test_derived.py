"""What a release holds besides its indices: made from idc_index, and checked against it."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from idc_indexer.catalog import Catalog
from idc_indexer.cli import main
from idc_indexer.duckdb_session import connect
from idc_indexer.engines.duckdb import DuckDBEngine
from idc_indexer.errors import IndexerError, UsageError
from idc_indexer.exports import open_export
from idc_indexer.progress import BuildStep, NullListener
from idc_indexer.release import derived
from idc_indexer.release.build import build, plan_build
from idc_indexer.release.gdc import Gdc
from idc_indexer.release.manifest import MANIFEST, Release
from idc_indexer.release.parquet import VERSION_KEY
from idc_indexer.release.verify import verify
from tests.emulators.gdc import PASSING, GdcServer, case_id
from tests.support.damage import without_descriptions

CATALOG = Catalog()
MAPPING = CATALOG.derived["gdc_idc_mapping"]
SUBSET = CATALOG.derived["tcia_idc_subset"]
SIX = ["collection_id", "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "series_size_MB", "series_aws_url"]
# The GDC-related collections of IDC v25 whose project is not TCGA-<kind>.
OTHERS = {
    "ccdi_mci": "CCDI-MCI",
    "cddp_eagle_1": "CDDP_EAGLE-1",
    "cgci_blgsp": "CGCI-BLGSP",
    "cgci_htmcp_cc": "CGCI-HTMCP-CC",
    "cgci_htmcp_dlbcl": "CGCI-HTMCP-DLBCL",
    "cgci_htmcp_lc": "CGCI-HTMCP-LC",
    "hcmi_cmdc": "HCMI-CMDC",
    "varepop_apollo": "VAREPOP-APOLLO",
}


def project(collection: str) -> str | None:
    """The project of a collection, None when it is not GDC-related."""
    if collection.startswith("tcga_"):
        return "TCGA-" + collection[5:].upper()
    if collection.startswith("cptac_"):
        return "CPTAC-2" if len(collection) % 2 else "CPTAC-3"
    return OTHERS.get(collection)


def has_case(patient: str) -> bool:
    """Whether the GDC knows the patient: three of four."""
    return hashlib.sha256(patient.encode()).digest()[0] % 4 > 0


def projects_for(rows: list[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """Projects with the patients of an idc_index, at least one of each collection."""
    projects: dict[str, dict[str, str]] = {"CPTAC-2": {}, "CPTAC-3": {}, "TARGET-AML": {"x": case_id("x")}}
    seen: set[str] = set()
    for row in rows:
        collection, patient = row["collection_id"], row["PatientID"]
        if (name := project(collection)) and collection not in ("cptac_cm", "cptac_sar"):
            cases = projects.setdefault(name, {})
            if collection not in seen or has_case(patient):
                cases[patient] = case_id(patient)
            seen.add(collection)
    return projects


def expected_mapping(rows: list[dict[str, Any]], projects: dict[str, dict[str, str]]) -> list[dict[str, Any]]:
    """The mapping by its rules, in plain Python."""

    def first(study: list[dict[str, Any]], column: str) -> str | None:
        return min((row[column] for row in study if row[column] is not None), default=None, key=str.encode)

    studies: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        if project(row["collection_id"]):
            key = row["collection_id"], row["PatientID"], row["StudyInstanceUID"]
            studies.setdefault(key, []).append(row)
    mapping = []
    for collection, patient, uid in sorted(studies, key=lambda key: [part.encode() for part in key]):
        study = studies[collection, patient, uid]
        name = project(collection)
        assert name
        if patient in projects[name]:
            mapping.append(
                {
                    "collection_id": collection,
                    "PatientID": patient,
                    "StudyInstanceUID": uid,
                    "StudyDate": first(study, "StudyDate"),
                    "StudyDescription": first(study, "StudyDescription"),
                    "study_type": "M" if any(row["Modality"] == "SM" for row in study) else "R",
                    "gdc_case_id": projects[name][patient],
                }
            )
    return mapping


def read(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def build_sample(tmp: Path, *options: object) -> Result:
    """Build the sample into `release`, with the cache beside it."""
    version = ("--idc-version", 25, "--release-version", "25.0.0")
    return run("build", "--source", "sample", *version, "--out", tmp / "release", "--cache-dir", tmp / "c", *options)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """idc_index of the sample: real rows of 54 GDC-related collections among others."""
    tmp = tmp_path_factory.mktemp("index")
    built = build_sample(tmp, "idc_index")
    assert built.exit_code == 0, built.output
    return tmp / "release" / "idc_index.parquet"


@pytest.fixture(scope="module")
def server(index: Path) -> Iterator[GdcServer]:
    with GdcServer(projects_for(read(index))) as server:
        yield server


@pytest.fixture(scope="module")
def built(server: GdcServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of the sample, with all three derived tables."""
    tmp = tmp_path_factory.mktemp("built")
    result = build_sample(tmp, "idc_index", "tcia_idc_subset", "gdc_idc_mapping", "--gdc-url", server.url, "--csv")
    assert result.exit_code == 0, result.output
    return tmp / "release"


def test_whole(built: Path) -> None:
    assert verify(built) == []
    release = Release.open(built)
    assert [entry.name for entry in release.indices] == ["idc_index"]
    listed = {entry.name: (entry.rows, [file.name for file in entry.files]) for entry in release.derived}
    assert listed == {
        name: (
            len(read(built / f"{name}.parquet")),
            [f"{name}.parquet", f"{name}.parquet.sha256", f"{name}_schema.json"],
        )
        for name in ("gdc_idc_mapping", "tcia_idc_subset")
    } | {"idc_index.csv": (release.indices[0].rows, ["idc_index.csv.zip"])}
    assert not list(built.glob("*mapping.sql"))
    for name in ("gdc_idc_mapping", "tcia_idc_subset"):
        assert (pq.read_schema(built / f"{name}.parquet").metadata or {})[VERSION_KEY] == b"25.0.0"
        line = (built / f"{name}.parquet.sha256").read_text()
        assert line == f"{hashlib.sha256((built / f'{name}.parquet').read_bytes()).hexdigest()}  {name}.parquet\n"


def test_subset_is_idc_index_with_six_columns(built: Path) -> None:
    subset = pq.read_table(built / "tcia_idc_subset.parquet")
    columns = pq.read_table(built / "idc_index.parquet").select(SIX)
    assert subset.equals(columns.cast(subset.schema))  # whose text has offsets of 32 bits


def test_mapping(built: Path, server: GdcServer) -> None:
    mapping = read(built / "gdc_idc_mapping.parquet")
    assert mapping == expected_mapping(read(built / "idc_index.parquet"), server.projects)
    assert {row["study_type"] for row in mapping} == {"M", "R"}
    assert len({row["collection_id"] for row in mapping}) == 52
    assert {"StudyDate", "StudyDescription"} <= {c for row in mapping for c in row if row[c] is not None}
    studies = {r["StudyInstanceUID"] for r in read(built / "idc_index.parquet") if project(r["collection_id"])}
    assert len(mapping) < len(studies)


def test_csv_is_idc_index(built: Path) -> None:
    table = pq.read_table(built / "idc_index.parquet")
    with zipfile.ZipFile(built / "idc_index.csv.zip") as archive:
        assert archive.namelist() == ["idc_index.csv"]
        assert archive.testzip() is None
        text = archive.read("idc_index.csv").decode()
    header, *lines = csv.reader(io.StringIO(text))
    assert header == table.column_names

    def parsed(column: str, value: str) -> Any:
        kind = table.schema.field(column).type
        return (
            None if not value else float(value) if kind == pa.float64() else int(value) if kind == pa.int64() else value
        )

    assert [{c: parsed(c, v) for c, v in zip(header, line, strict=True)} for line in lines] == table.to_pylist()


def test_same_bytes_again(built: Path, server: GdcServer, tmp_path: Path) -> None:
    result = build_sample(tmp_path, "gdc_idc_mapping", "tcia_idc_subset", "--csv", "--gdc-url", server.url)
    assert result.exit_code == 0, result.output
    assert {f.name: f.read_bytes() for f in built.iterdir()} == {
        f.name: f.read_bytes() for f in (tmp_path / "release").iterdir()
    }


def names(plan_of: list[str], gdc: bool = False, csv: bool = False) -> tuple[list[str], list[str], bool]:
    plan = plan_build(CATALOG, plan_of, 25, "25.0.0", Path("nowhere"), gdc=gdc, csv=csv)
    return [index.name for index in plan.indices], [s.name for s in plan.derived], plan.csv


def test_what_is_built() -> None:
    every = [name for name, index in CATALOG.indices.items() if not index.schema.on_request]
    assert names([]) == (every, ["tcia_idc_subset"], False)
    assert names([], gdc=True, csv=True) == (every, ["gdc_idc_mapping", "tcia_idc_subset"], True)
    assert names(["idc_index"], gdc=True) == (["idc_index"], [], False)
    assert names(["gdc_idc_mapping"]) == (["idc_index"], ["gdc_idc_mapping"], False)
    assert names(["collections_index", "tcia_idc_subset"]) == (
        ["collections_index", "idc_index"],
        ["tcia_idc_subset"],
        False,
    )
    assert names(["collections_index"], csv=True) == (["collections_index", "idc_index"], [], True)
    with pytest.raises(UsageError, match=r"no index is called x\n.*tcia_idc_subset"):
        names(["x", "tcia_idc_subset"])


def test_sample_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise AssertionError("asked the network")

    monkeypatch.setattr("socket.socket.connect", unreachable)
    monkeypatch.delenv("IDC_INDEXER_GDC_URL", raising=False)
    result = build_sample(tmp_path)
    assert result.exit_code == 0, result.output
    assert "--gdc-url https://api.gdc.cancer.gov" in result.stderr
    assert [entry.name for entry in Release.open(tmp_path / "release").derived] == ["tcia_idc_subset"]


def test_address_from_the_environment(server: GdcServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDC_INDEXER_GDC_URL", server.url)
    assert build_sample(tmp_path, "gdc_idc_mapping").exit_code == 0
    assert (tmp_path / "release" / "gdc_idc_mapping.parquet").is_file()


def test_bad_address_is_found_before_anything_is_built(tmp_path: Path) -> None:
    result = build_sample(tmp_path, "--gdc-url", "nowhere")
    assert (result.exit_code, list(tmp_path.iterdir())) == (2, [])
    with GdcServer({}) as server:
        server.faults = ["refused"]
        result = build_sample(tmp_path, "--gdc-url", server.url)
    assert result.exit_code == 1
    assert "HTTP 400" in result.stderr
    assert "building" not in result.stderr


def test_interrupted_by_the_gdc(built: Path, server: GdcServer, tmp_path: Path) -> None:
    everything = ("gdc_idc_mapping", "tcia_idc_subset", "--csv", "--gdc-url", server.url)
    server.faults = ["", "", "html"]
    result = build_sample(tmp_path, *everything)
    assert result.exit_code == 1
    assert "GDC cases of" in result.stderr
    assert not (tmp_path / "release").exists()
    assert not (tmp_path / "release.incomplete" / "gdc_idc_mapping.parquet").exists()
    result = build_sample(tmp_path, *everything)
    assert "reused idc_index" in result.stderr
    assert "reused gdc_idc_mapping" not in result.stderr
    assert (tmp_path / "release" / MANIFEST).read_bytes() == (built / MANIFEST).read_bytes()


def test_reused_but_asked_again(server: GdcServer, tmp_path: Path) -> None:
    """The GDC's answer is not reused from an interrupted build; what depends on idc_index alone is."""
    plan = plan_build(CATALOG, ["gdc_idc_mapping", "tcia_idc_subset"], 25, "25.0.0", tmp_path / "r", csv=True)
    steps: list[tuple[str, str]] = []

    class Interrupting(NullListener):
        def building(self, index: str, step: BuildStep, *_: int) -> None:
            steps.append((index, step))
            if (index, step) == ("idc_index.csv", "done") and steps.count(("idc_index.csv", "reused")) == 0:
                raise InterruptedError

    def go() -> None:
        engine = DuckDBEngine(open_export("sample", cache_dir=tmp_path / "cache"), plan.incomplete / "spill")
        build(plan, engine, Interrupting(), Gdc(server.url))

    with pytest.raises((InterruptedError, IndexerError)):
        go()
    before = len(server.requests)
    go()
    assert len(server.requests) > before + 50
    for kept in ("idc_index", "tcia_idc_subset", "idc_index.csv"):
        assert (kept, "reused") in steps
    assert steps.count(("gdc_idc_mapping", "done")) == 2


# Rows that the sample has no example of.
BASE: dict[str, Any] = {
    "collection_id": "tcga_luad",
    "PatientID": "P1",
    "StudyInstanceUID": "1.1",
    "SeriesInstanceUID": "1.1.1",
    "StudyDate": None,
    "StudyDescription": None,
    "Modality": "CT",
    "series_size_MB": 0.5,
    "series_aws_url": "s3://b/1/*",
}
TINY = pa.schema([(name, pa.float64() if name == "series_size_MB" else pa.string()) for name in BASE])


def tiny_index(folder: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path = folder / "idc_index.parquet"
    table = pa.Table.from_pylist([BASE | row for row in rows], schema=TINY)
    pq.write_table(table.sort_by([(name, "ascending") for name in list(BASE)[:4]]), path)
    return path


def mapping_of(index: Path, server: GdcServer) -> list[dict[str, Any]]:
    gdc = Gdc(server.url, timeout=1, sleep=lambda _: None)
    return [row for batch in derived.rows(MAPPING.name, MAPPING.schema, index, gdc) for row in batch.to_pylist()]


@pytest.fixture
def tiny() -> Iterator[GdcServer]:
    cases = {patient: case_id(patient) for patient in ("P1", "P3", "Ä", "", "p1")}
    with GdcServer({"TCGA-LUAD": cases, "CPTAC-2": {}, "CPTAC-3": {}, "CDDP_EAGLE-1": {}}) as server:
        yield server


def test_series_of_a_study_that_differ(tmp_path: Path, tiny: GdcServer) -> None:
    rows: list[dict[str, Any]] = [
        {"SeriesInstanceUID": "1.1.1", "StudyDate": None, "StudyDescription": "b"},
        {"SeriesInstanceUID": "1.1.2", "StudyDate": "2001-01-02", "StudyDescription": "B", "Modality": "SM"},
        {"SeriesInstanceUID": "1.1.3", "StudyDate": "2001-01-01", "StudyDescription": "Ä", "Modality": None},
        {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.2.1", "Modality": None},
        {"PatientID": "P2", "StudyInstanceUID": "1.3", "SeriesInstanceUID": "1.3.1"},
        {"PatientID": None, "StudyInstanceUID": "1.4", "SeriesInstanceUID": "1.4.1"},
        {"PatientID": "", "StudyInstanceUID": "1.5", "SeriesInstanceUID": "1.5.1"},
        {"collection_id": "nlst", "StudyInstanceUID": "1.6", "SeriesInstanceUID": "1.6.1"},
    ]
    of_p1 = {"collection_id": "tcga_luad", "PatientID": "P1", "gdc_case_id": case_id("P1")}
    study = {"StudyInstanceUID": "1.1", "StudyDate": "2001-01-01", "StudyDescription": "B", "study_type": "M"}
    other = {"StudyInstanceUID": "1.2", "StudyDate": None, "StudyDescription": None, "study_type": "R"}
    assert mapping_of(tiny_index(tmp_path, rows), tiny) == [of_p1 | study, of_p1 | other]
    assert all(
        body["filters"]["content"][1]["content"]["value"] == ["P1", "P2"] for e, body in tiny.requests if e == "cases"
    )


@pytest.mark.parametrize("collection", ["cptac_cm", "cptac_sar"])
def test_collections_without_cases(tmp_path: Path, tiny: GdcServer, collection: str) -> None:
    index = tiny_index(tmp_path, [BASE, BASE | {"collection_id": collection, "SeriesInstanceUID": "2"}])
    assert {row["collection_id"] for row in mapping_of(index, tiny)} == {"tcga_luad"}
    tiny.projects["CPTAC-3"]["P1"] = case_id("P1")
    assert {row["collection_id"] for row in mapping_of(index, tiny)} == {"tcga_luad", collection}


@pytest.mark.parametrize(
    ("collection", "message"),
    [
        ("cptac_ov", "the GDC has no case of any patient of cptac_ov"),
        ("cddp_eagle_1", "the GDC has no case of any patient of cddp_eagle_1"),
        ("apollo_9", "collection apollo_9: the GDC has no project of that name"),
        ("my_ccdi_mci", "collection my_ccdi_mci: the GDC has no project of that name"),
    ],
)
def test_collections_that_must_have_cases(tmp_path: Path, tiny: GdcServer, collection: str, message: str) -> None:
    index = tiny_index(tmp_path, [BASE, BASE | {"collection_id": collection, "SeriesInstanceUID": "2"}])
    with pytest.raises(IndexerError, match=message):
        mapping_of(index, tiny)


def test_other_idc_index(tmp_path: Path, tiny: GdcServer) -> None:
    path = tmp_path / "idc_index.parquet"
    pq.write_table(pa.table({"SeriesInstanceUID": [["1"]]}), path)
    with pytest.raises(IndexerError, match=r"idc_index.csv cannot be made from idc_index.parquet"):
        derived.write_csv(path, tmp_path / "idc_index.csv.zip")
    assert [file.name for file in tmp_path.iterdir()] == ["idc_index.parquet"]
    for table in (MAPPING, SUBSET):
        with pytest.raises(IndexerError, match=f"{table.name} cannot be made from idc_index.parquet"):
            list(derived.rows(table.name, table.schema, path, Gdc(tiny.url)))


TEXT = st.one_of(st.none(), st.sampled_from(["", " ", "a,b", 'a "b"', "a\nb", "a\r\nb", "Ä", "NULL", "0", "#"]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT, st.one_of(st.none(), st.floats(allow_nan=False, min_value=0))), max_size=6))
def test_csv_of_any_text(tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[Any, ...]]) -> None:
    columns = ("StudyDescription", "PatientID", "series_size_MB")
    rows = [
        dict(zip(columns, row, strict=True)) | {"SeriesInstanceUID": str(number)} for number, row in enumerate(cells)
    ]
    tmp = tmp_path_factory.mktemp("csv")
    index = tiny_index(tmp, rows)
    zipped = tmp / "idc_index.csv.zip"
    written = derived.write_csv(index, zipped)
    assert (written.rows, written.bytes) == (len(rows), zipped.stat().st_size)
    with connect() as connection:
        connection.read_parquet(str(index), file_row_number=True).create_view("idc_index")
        assert list(derived.csv_problems(connection, zipped, len(rows))) == []
    with zipfile.ZipFile(zipped) as archive, archive.open("idc_index.csv") as text:
        decoded = list(csv.reader(io.TextIOWrapper(text, "utf-8", newline="")))
    described = pq.read_table(index).to_pylist()
    assert decoded[0] == list(BASE)
    assert [line[5] for line in decoded[1:]] == [row["StudyDescription"] or "" for row in described]


@settings(max_examples=40, deadline=None)
@given(faults=st.lists(st.sampled_from(["", "", *(set(PASSING) - {"silence"}), "html", "total grows"]), max_size=8))
def test_mapping_is_complete_or_an_error(index: Path, server: GdcServer, faults: list[str]) -> None:
    server.faults = list(faults)
    try:
        mapping = mapping_of(index, server)
    except IndexerError:
        failed = True
    else:
        failed = False
        assert mapping == expected_mapping(read(index), server.projects)
    finally:
        server.faults = []
    assert not failed or set(faults) - {""}


Change = Callable[[pa.Table], pa.Table]


def rewrite(release: Path, name: str, change: Change) -> None:
    """Change the rows of a table, and everything that vouches for it, so that only its content is wrong."""
    path = release / f"{name}.parquet"
    table = change(pq.read_table(path))
    pq.write_table(table, path)
    vouch(release, path.name, table.num_rows)


def vouch(release: Path, file: str, rows: int | None = None) -> None:
    data = (release / file).read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    manifest = json.loads((release / MANIFEST).read_bytes())
    for entry in manifest["indices"] + manifest["supplements"]:
        for listed in entry["files"]:
            if listed["name"] == file:
                listed |= {"bytes": len(data), "sha256": digest}
                if rows is not None:
                    listed["rows"] = entry["rows"] = rows
    (release / MANIFEST).write_text(json.dumps(manifest))
    if file.endswith(".parquet"):
        (release / f"{file}.sha256").write_text(f"{digest}  {file}\n")
        vouch(release, f"{file}.sha256")


def put(column: str, row: int, value: Any) -> Change:
    def change(table: pa.Table) -> pa.Table:
        number = table.schema.get_field_index(column)
        cells = table.column(column).to_pylist()
        cells[row] = value
        return table.set_column(number, table.schema.field(column), pa.array(cells, table.schema.field(column).type))

    return change


def without(row: int) -> Change:
    return lambda table: pa.concat_tables([table.slice(0, row), table.slice(row + 1)])


def without_first_collection(table: pa.Table) -> pa.Table:
    return table.filter(pa.compute.not_equal(table["collection_id"], table["collection_id"][0]))


DAMAGE: list[tuple[str, Change, str]] = [
    ("tcia_idc_subset", put("series_size_MB", 7, 1.5), "has other rows than idc_index"),
    ("tcia_idc_subset", put("series_aws_url", 0, None), "has other rows than idc_index"),
    ("tcia_idc_subset", without(5), "has other rows than idc_index"),
    ("tcia_idc_subset", put("SeriesInstanceUID", -1, "9"), "is not in idc_index, such as 9"),
    ("tcia_idc_subset", lambda table: table.take(list(range(table.num_rows))[::-1]), "is not in the order"),
    ("tcia_idc_subset", lambda table: table.select(SIX[:5]), "has other columns"),
    ("gdc_idc_mapping", put("study_type", 0, "X"), "1 rows differ from what idc_index says of the study"),
    ("gdc_idc_mapping", put("StudyDate", 3, "1900-01-01"), "1 rows differ from what idc_index says of the study"),
    ("gdc_idc_mapping", put("StudyInstanceUID", 0, "1"), "is not in idc_index"),
    ("gdc_idc_mapping", put("gdc_case_id", 0, None), "has other columns"),
    ("gdc_idc_mapping", lambda table: table.slice(0, 0), "is empty"),
    ("gdc_idc_mapping", without_first_collection, "1 rows are missing: collections that have cases, such as ccdi_mci"),
    ("gdc_idc_mapping", lambda table: pa.concat_tables([table, table.slice(2, 1)]), "1 keys are there more than once"),
]


@pytest.mark.parametrize(("name", "change", "message"), DAMAGE)
def test_verify_finds_what_vouches_for_itself(
    built: Path, tmp_path: Path, name: str, change: Change, message: str
) -> None:
    release = shutil.copytree(built, tmp_path / "release")

    def nullable(table: pa.Table) -> pa.Table:
        """NULL has no place in a column that must not have it."""
        schema = pa.schema([(column.name, column.type) for column in table.schema])
        return table.cast(schema).replace_schema_metadata(table.schema.metadata)

    rewrite(release, name, (lambda table: change(nullable(table))) if message == "has other columns" else change)
    problems = [str(problem) for problem in verify(release) if problem.file == f"{name}.parquet"]
    assert any(message in problem for problem in problems), problems


def test_verify_finds_confused_patients(tmp_path: Path, built: Path) -> None:
    def studies_of_one(table: pa.Table) -> tuple[int, int]:
        patients = table["PatientID"].to_pylist()
        return next((n, n + 1) for n in range(len(patients) - 1) if patients[n] == patients[n + 1])

    first, second = studies_of_one(pq.read_table(built / "gdc_idc_mapping.parquet"))
    for change, message in (
        (without(second), "are missing: studies of patients who have others here"),
        (put("gdc_case_id", first, case_id("?")), "1 rows stand for patients with two cases"),
    ):
        release = without_descriptions(shutil.copytree(built, tmp_path / message))
        rewrite(release, "gdc_idc_mapping", change)
        assert [message in str(problem) for problem in verify(release)] == [True]
    table = pq.read_table(built / "gdc_idc_mapping.parquet").to_pylist()
    one, other = next(
        (n, n + 1)
        for n in range(len(table) - 1)
        if table[n]["collection_id"] == table[n + 1]["collection_id"]
        and table[n]["PatientID"] != table[n + 1]["PatientID"]
        and sum(row["PatientID"] == table[n + 1]["PatientID"] for row in table) == 1
    )
    release = without_descriptions(shutil.copytree(built, tmp_path / "cases"))
    rewrite(release, "gdc_idc_mapping", put("gdc_case_id", other, table[one]["gdc_case_id"]))
    assert ["1 rows stand for cases with two patients" in str(problem) for problem in verify(release)] == [True]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("idc_index.csv", lambda text: text.replace(b'"CT"', b'"MR"', 1), "has other rows than idc_index"),
        ("idc_index.csv", lambda text: text[: text.rindex(b"\n", 0, -1) + 1], "has {less} rows, in the manifest {all}"),
        ("idc_index.csv", lambda text: text.replace(b",,", b',"",', 1), "has other rows than idc_index"),
        ("idc_index.csv", lambda text: text.replace(b'"PatientID"', b'"Patient"', 1), "has the columns collection_id"),
        ("idc_index.csv", lambda text: text + b"x\n", "cannot be read"),
        ("idc_index.csv", lambda _: b"", "cannot be read"),
        ("other.csv", lambda text: text, "holds other.csv instead of idc_index.csv"),
    ],
)
def test_verify_finds_another_csv(
    built: Path, tmp_path: Path, name: str, text: Callable[[bytes], bytes], message: str
) -> None:
    release = without_descriptions(shutil.copytree(built, tmp_path / "release"))
    zipped = release / "idc_index.csv.zip"
    with zipfile.ZipFile(zipped) as archive:
        content = archive.read("idc_index.csv")
    assert text(content) != content or name != "idc_index.csv"
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr(name, text(content))
    vouch(release, zipped.name)
    (problem,) = verify(release)
    rows = pq.read_metadata(release / "idc_index.parquet").num_rows
    assert str(problem).startswith(f"idc_index.csv.zip: {message.format(all=rows, less=rows - 1)}")


@pytest.mark.parametrize("at", [0.0, 0.3, 0.999])
def test_verify_finds_a_damaged_zip(built: Path, tmp_path: Path, at: float) -> None:
    release = without_descriptions(shutil.copytree(built, tmp_path / "release"))
    zipped = release / "idc_index.csv.zip"
    data = bytearray(zipped.read_bytes())
    data[int(len(data) * at)] ^= 0xFF
    zipped.write_bytes(data)
    (problem,) = verify(release)
    assert str(problem).startswith("idc_index.csv.zip: has SHA-256")
    vouch(release, zipped.name)
    assert [problem.file for problem in verify(release)] == ["idc_index.csv.zip"]


@pytest.mark.parametrize(
    "file",
    [
        "idc_index.csv.zip",
        *(f"{name}{end}" for name in ("tcia_idc_subset", "gdc_idc_mapping") for end in (".parquet", "_schema.json")),
        "tcia_idc_subset.parquet.sha256",
    ],
)
def test_verify_finds_missing_and_short_files(built: Path, tmp_path: Path, file: str) -> None:
    release = without_descriptions(shutil.copytree(built, tmp_path / "release"))
    (release / file).write_bytes((release / file).read_bytes()[:-9])
    assert verify(release)[0].file == file
    (release / file).unlink()
    assert str(verify(release)[0]) == f"{file}: is missing"


def test_verify_finds_a_manifest_of_other_files(built: Path, tmp_path: Path) -> None:
    release = without_descriptions(shutil.copytree(built, tmp_path / "release"))
    rows = pq.read_metadata(release / "idc_index.parquet").num_rows
    before = json.loads((release / MANIFEST).read_bytes())

    def problems(change: Callable[[dict[str, Any]], object]) -> list[str]:
        manifest = json.loads(json.dumps(before))
        change(manifest)
        (release / MANIFEST).write_text(json.dumps(manifest))
        return [str(problem) for problem in verify(release)]

    def subset(manifest: dict[str, Any]) -> dict[str, Any]:
        entry: dict[str, Any] = manifest["supplements"][1]
        return entry

    assert "manifest.json: index tcia_idc_subset lists" in problems(lambda m: subset(m)["files"].pop())[0]
    assert "manifest.json: index tcia_idc_subset lists" in problems(lambda m: subset(m).pop("schema_sha256"))[0]
    assert problems(lambda m: subset(m).update(schema_sha256="0" * 64)) == [
        "manifest.json: the schema of tcia_idc_subset has two digests"
    ]
    assert problems(lambda m: m["supplements"][2].update(rows=3)) == [
        f"idc_index.csv.zip: has {rows} rows, in the manifest 3, idc_index {rows}"
    ]
    without_index = problems(lambda m: m["indices"][0].update(name="other"))
    assert "tcia_idc_subset.parquet: is derived from idc_index, which the release does not have" in without_index
    with pytest.raises(IndexerError, match="query_sha256"):
        problems(lambda m: subset(m).update(query_sha256="0" * 64))


def test_list_and_explain() -> None:
    listed = run("list").output
    for name in ("tcia_idc_subset", "gdc_idc_mapping"):
        assert re.search(rf"^{name} .*\(made from idc_index\)$", listed, re.MULTILINE)
        assert run("explain", name).exit_code == 2
    documents = json.loads(run("list", "--json").output)
    assert [column["name"] for column in documents["tcia_idc_subset"]["columns"]] == SIX
    assert [column["name"] for column in documents["gdc_idc_mapping"]["columns"]] == [
        *(
            "collection_id",
            "PatientID",
            "StudyInstanceUID",
            "StudyDate",
            "StudyDescription",
            "study_type",
            "gdc_case_id",
        )
    ]


def test_schemas_say_what_is_true_of_every_index() -> None:
    for table in CATALOG.derived.values():
        named = {column.name for column in table.schema.columns}
        assert set(table.schema.primary_key) <= set(table.schema.order) <= named
        assert not table.schema.in_wheel
        of_index = {column.name for column in CATALOG.indices["idc_index"].schema.columns}
        for reference in table.schema.references:
            assert (reference.index, set(reference.to) <= of_index) == ("idc_index", True)


def test_index_of_the_same_name(tmp_path: Path) -> None:
    shutil.copy(CATALOG.indices["idc_index"].path, tmp_path / "tcia_idc_subset.json")
    shutil.copy(CATALOG.indices["idc_index"].queries[-1].path, tmp_path / "tcia_idc_subset.sql")
    with pytest.raises(IndexerError, match="index tcia_idc_subset has the name of a table that is made from idc_index"):
        Catalog([tmp_path], [tmp_path])
