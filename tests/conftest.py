"""Fixtures: the command line, a tiny export to damage, and the published package."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import platformdirs
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from idc_indexer.cli import main

if TYPE_CHECKING:
    from tests.emulators.gcs import Gcs
    from tests.emulators.hub import Hub
    from tests.emulators.places import Place

Run = Callable[..., Result]
Build = Callable[..., Result]
Start = Callable[..., "subprocess.Popen[str]"]

INDICES = [
    *["analysis_results_index", "ann_group_index", "ann_index", "clinical_index", "collections_index"],
    *["contrast_index", "ct_index", "idc_index", "mr_index", "prior_versions_index", "pt_index", "rtstruct_index"],
    *["seg_index", "sm_index", "sm_instance_index", "version_metadata_index", "volume_geometry_index"],
]
# All: a build without names makes the others.
BUNDLED = sorted([*INDICES, "series_history"])
SUPPLEMENTS = ["gdc_idc_mapping", "tcia_idc_subset"]
# Those that the data wheel carries: the tiny export is for them.
IN_WHEEL = [
    "analysis_results_index",
    "collections_index",
    "idc_index",
    "prior_versions_index",
    "version_metadata_index",
]
# Quicker by half: no past release is planned or read.
OF_ONE_RELEASE = [index for index in IN_WHEEL if index != "prior_versions_index"]
PUBLISHED = "25.0.5"
RELEASE = ("--idc-version", "25", "--release-version", "25.0.0")
# Shells have processes in the background ignore Ctrl-C.
FOREGROUND = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
# A limit on the size of files, in bytes, is what a test can have of a full disk. Python would store compiled modules
# that are cut, and every later process would fail with them.
FULL_DISK = (
    "import resource, sys; sys.dont_write_bytecode = True; resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}))"
)


# --- Tiers --------------------------------------------------------------------------------------------------

TESTS = Path(__file__).parent
TIERS = ("unit", "emulator", "oracle", "project", "slow")
# The tier of all tests in a folder or file. The most specific entry counts, and a marker on a test more than any.
TIER_OF = {
    "cli": "emulator",
    "cli/test_cli.py": "unit",
    "diff": "emulator",
    "diff/test_regressions.py": "unit",
    "emulators": "emulator",
    "emulators/test_googlesql.py": "oracle",
    "engines": "emulator",
    "exports": "emulator",
    "exports/pruning": "unit",
    "indices": "oracle",
    "indices/test_catalog.py": "unit",
    "indices/test_descriptions.py": "unit",
    "project": "project",
    "publish": "emulator",
    "publish/test_promotion.py": "unit",
    "release": "emulator",
    "release/test_parquet.py": "unit",
    "release/test_verify.py": "unit",
    "report": "emulator",
    "schema": "unit",
    "sql": "oracle",
    "sql/test_sql.py": "unit",
    "support": "oracle",
    "test_api.py": "emulator",
    "test_files.py": "emulator",
    "test_fuzz.py": "emulator",
    "test_http.py": "emulator",
    "test_duckdb_session.py": "emulator",
    "test_locks.py": "emulator",
    "test_parquet_footer.py": "emulator",
}
# All tests in these files run on the second major version of DuckDB too, and so does a test with the marker `duckdb`.
ON_BOTH_DUCKDB = {
    "indices/test_sample.py",
    "release/test_verify.py",
    "sql/test_constructs.py",
    "sql/test_differences.py",
    "sql/test_oracle.py",
}


def tier_of(path: str) -> str:
    """The tier of a file of tests, given relative to this folder.

    Raises:
        UsageError: neither the file nor a folder above it has one.
    """
    for name in (path, *(parent.as_posix() for parent in Path(path).parents)):
        if name in TIER_OF:
            return TIER_OF[name]
    raise pytest.UsageError(f"tests/{path} has no tier: add it to TIER_OF in tests/conftest.py")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every test the one tier that it has, before `-m` selects."""
    for item in items:
        path = item.path.relative_to(TESTS).as_posix()
        own = {mark.name for mark in item.iter_markers() if mark.name in TIERS}
        if len(own) > 1:
            raise pytest.UsageError(f"{item.nodeid} has several tiers: {', '.join(sorted(own))}")
        if not own:
            item.add_marker(tier_of(path))
        if path in ON_BOTH_DUCKDB:
            item.add_marker("duckdb")


_unit_test: list[str] = []


def _refuse_in_unit_tests(event: str, _: tuple[Any, ...]) -> None:
    if _unit_test and event in ("subprocess.Popen", "os.posix_spawn", "os.fork", "socket.connect", "socket.bind"):
        raise RuntimeError(f"a test of the tier `unit` starts no process and opens no connection: {event}")


sys.addaudithook(_refuse_in_unit_tests)


@pytest.fixture(autouse=True)
def _tier(request: pytest.FixtureRequest) -> Iterator[None]:
    """Hold a unit test to its tier."""
    if request.node.get_closest_marker("unit"):
        _unit_test.append(request.node.nodeid)
    yield
    _unit_test.clear()


# --- The command line ---------------------------------------------------------------------------------------


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where `build` and `start` put a release: alone in its folder, so that a test sees all that is written."""
    folder = tmp_path / "target"
    folder.mkdir()
    return folder / "release"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Keeps the commands of a test out of the user's cache."""
    return {"IDC_INDEXER_CACHE_DIR": str(tmp_path / "cache")}


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    """A command, in this process. Only what users are meant to see is caught: a traceback fails the test."""

    def run(*arguments: object) -> Result:
        return CliRunner(env=environment).invoke(main, list(map(str, arguments)), catch_exceptions=False)

    return run


@pytest.fixture
def build(run: Run, out: Path) -> Build:
    """`build` of release 25.0.0 to `out`; options that are given go before those."""

    def build(source: object, *arguments: object) -> Result:
        return run("build", "--source", source, *RELEASE, "--out", out, *arguments)

    return build


@pytest.fixture
def start(environment: dict[str, str], out: Path) -> Start:
    """The same as `build`, in a process of its own; `first` is Python that it runs before anything else."""

    def start(source: object, *arguments: object, first: str = "", **options: Any) -> subprocess.Popen[str]:
        program = f"{first}\nfrom idc_indexer.cli import main\nmain(prog_name='idc-indexer')"
        command = ["build", "--source", source, *RELEASE, "--out", out, *arguments]
        return subprocess.Popen(
            [sys.executable, "-c", program, *map(str, command)],
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    return start


def refused(result: Result, code: int, *fragments: str) -> None:
    """A command gave up, said why on stderr, and nothing else."""
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    for fragment in fragments:
        assert fragment in result.stderr


def around(out: Path) -> list[str]:
    """What lies where a release does: itself, and what builds left behind."""
    return sorted(path.name for path in out.parent.iterdir())


def rows(release: Path, index: str) -> list[dict[str, Any]]:
    """The rows of an index."""
    read: list[dict[str, Any]] = pq.read_table(release / f"{index}.parquet").to_pylist()
    return read


def contents(folder: Path) -> dict[str, bytes]:
    """All files under a folder, by relative path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- A tiny export ------------------------------------------------------------------------------------------

TEXT, INT, DAY = pa.string(), pa.int64(), pa.date32()
LICENSE = pa.struct([(name, TEXT) for name in ("license_url", "license_long_name", "license_short_name")])
PROVENANCE = pa.struct(
    [
        (name, TEXT)
        for name in ("data_contributor", "source_data_provider", "deidentification_party", "dicom_conversion_by")
    ]
)
SOURCE = pa.struct(
    [
        *((n, TEXT) for n in ("source_id", "source_title", "source_type", "source_doi", "source_url", "modalities")),
        ("license", LICENSE),
        ("citation", TEXT),
        ("provenance", PROVENANCE),
        ("Access", TEXT),
        ("ImageTypes", TEXT),
    ]
)


def _schema(texts: str, **others: pa.DataType) -> pa.Schema:
    return pa.schema([*((name, TEXT) for name in texts.split()), *others.items()])


SCHEMAS = {
    "dicom_all": _schema(
        "collection_id analysis_result_id PatientID SeriesInstanceUID StudyInstanceUID SOPInstanceUID Source_DOI "
        "PatientAge PatientSex StudyDescription Modality SOPClassUID TransferSyntaxUID PhotometricInterpretation "
        "Manufacturer ManufacturerModelName SeriesDescription SeriesNumber license_short_name aws_bucket "
        "series_aws_url crdc_series_uuid gcs_url",
        StudyDate=DAY,
        SeriesDate=DAY,
        PixelRepresentation=INT,
        instance_size=INT,
    ),
    "dicom_metadata_curated": _schema("SOPInstanceUID SeriesInstanceUID BodyPartExamined"),
    "auxiliary_metadata": _schema(
        "SeriesInstanceUID SOPInstanceUID", series_init_idc_version=INT, series_revised_idc_version=INT
    ),
    "original_collections_metadata": _schema(
        "collection_name collection_id cancer_types tumor_locations species supporting_data program_id status "
        "description",
        subjects=INT,
        sources=pa.list_(SOURCE),
        updated=DAY,
    ),
    "analysis_results_metadata": _schema(
        "analysis_result_id analysis_result_title source_doi source_url collections modalities license_url "
        "license_long_name license_short_name description citation",
        subjects=INT,
        updated=DAY,
        provenance=PROVENANCE,
    ),
    "version_metadata": _schema("version_hash version_timestamp", idc_version=INT),
}
# What dicom_all had from the beginning, as far as prior_versions_index reads it.
PRIOR = _schema(
    "collection_id PatientID SeriesInstanceUID StudyInstanceUID SOPInstanceUID Modality gcs_url crdc_series_uuid",
    instance_size=INT,
)

EXPLICIT, JPEG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.50"


def _instance(series: int, number: int, **columns: Any) -> dict[str, Any]:
    uuid = f"00000000-0000-0000-0000-{series:012}"
    return {
        "collection_id": "lungs",
        "PatientID": "P1",
        "SeriesInstanceUID": f"1.2.{series}",
        "StudyInstanceUID": "1.1",
        "SOPInstanceUID": f"1.2.{series}.{number}",
        "Source_DOI": "10.1/lungs",
        "Modality": "CT",
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
        "TransferSyntaxUID": EXPLICIT,
        "StudyDate": date(2001, 2, 3),
        "PixelRepresentation": 1,
        "license_short_name": "CC BY 4.0",
        "aws_bucket": "idc-open-data",
        "series_aws_url": f"s3://idc-open-data/{uuid}/",
        "crdc_series_uuid": uuid,
        "gcs_url": f"gs://idc-open-data/{uuid}/{number}.dcm",
        "instance_size": 1_000 * number + 1,
    } | columns


INSTANCES = [
    # Instances that do not say the same.
    _instance(1, 1, PatientAge="", SeriesDescription="", PhotometricInterpretation="RGB", PatientSex=None),
    _instance(1, 2, PatientAge="061Y", SeriesDescription="Chest", PixelRepresentation=0, PatientSex="F"),
    _instance(1, 3, PhotometricInterpretation="MONOCHROME2", TransferSyntaxUID=JPEG),
    # Hardly anything is known, and no side table has the series.
    _instance(2, 1, TransferSyntaxUID=None, PixelRepresentation=None, StudyDate=None, Modality=None),
    # Of an analysis result.
    _instance(
        3, 1, analysis_result_id="nodules", Modality="SEG", SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4", PatientID="P0"
    ),
    _instance(3, 2, Modality="SEG", SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4", PatientID="P0"),
]


def _past(uuid: int, bucket: str, size: int) -> dict[str, Any]:
    version = f"00000000-0000-0000-0000-{uuid:012}"
    row = _instance(1, uuid, gcs_url=f"gs://{bucket}/{version}/1.dcm", crdc_series_uuid=version, instance_size=size)
    return {name: row[name] for name in PRIOR.names}


def _past_instances(release: int) -> list[dict[str, Any]]:
    """A version that is still served, one of the retired bucket, one that moved, one of releases 3 and 4 alone."""
    bucket = "public-datasets-idc" if release < 20 else "idc-open-data"
    rows = [_past(1, bucket, 9), _past(90, "idc-open-idc", 9), _past(91, bucket, 1_004_000), _past(91, bucket, 1_000)]
    return rows + ([_past(92, "idc-open-cr", 5_000_000)] if release in (3, 4) else [])


_LICENSE = {"license_url": "https://l", "license_long_name": "Long", "license_short_name": "CC BY 4.0"}
_SMALL: dict[str, list[dict[str, Any]]] = {
    "dicom_metadata_curated": [
        {"SeriesInstanceUID": f"1.2.{series}", "BodyPartExamined": part}
        for series, part in ((1, None), (1, "LUNG"), (3, None), (1, None), (3, None), (3, None))
    ],
    "auxiliary_metadata": [
        {"SeriesInstanceUID": f"1.2.{series}", "series_init_idc_version": init, "series_revised_idc_version": revised}
        for series, init, revised in ((1, 3, 7), (1, 2, 9), (3, 25, 25), (1, 3, 7), (3, 25, 25), (3, 25, 25))
    ],
    "original_collections_metadata": [
        {
            "collection_id": "lungs",
            "subjects": 2,
            "supporting_data": "",
            "updated": date(2024, 5, 6),
            "sources": [{"source_id": "lungs", "source_doi": "10.1/lungs", "license": _LICENSE}],
        },
        {"collection_id": "brains", "sources": None},
        {"collection_id": "livers", "sources": []},
    ],
    "analysis_results_metadata": [{"analysis_result_id": "nodules", "source_doi": "10.1/nodules", "subjects": 1}],
    "version_metadata": [
        {"idc_version": release, "version_timestamp": f"20{release:02}-01-01"} for release in range(1, 26)
    ],
}


class TinyExport:
    """An export of releases 1 to 25 with three series, for tests to damage. Only dicom_all of 25 has two shards.

    It has what the indices of the data wheel read.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        for number, rows in enumerate((INSTANCES[::2], INSTANCES[1::2])):
            self.write(pa.Table.from_pylist(rows, SCHEMAS["dicom_all"]), "dicom_all", number)
        for table, rows in _SMALL.items():
            self.write(pa.Table.from_pylist(rows, SCHEMAS[table]), table)
        for release in range(1, 25):
            self.write(pa.Table.from_pylist(_past_instances(release), PRIOR), "dicom_all", release=release)

    def __str__(self) -> str:
        return str(self.root)

    def folder(self, table: str, release: int = 25) -> Path:
        return self.root / f"idc_v{release}" / table

    def shard(self, table: str, number: int = 0, release: int = 25) -> Path:
        return self.folder(table, release) / f"{number:012}.parquet"

    def write(self, rows: pa.Table, table: str, number: int = 0, release: int = 25) -> None:
        path = self.shard(table, number, release)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows, path, compression="zstd")

    def change(self, table: str, how: Callable[[pa.Table], pa.Table], release: int = 25) -> None:
        """Write every shard of a table anew."""
        for path in self.folder(table, release).iterdir():
            pq.write_table(how(pq.read_table(path)), path, compression="zstd")


@pytest.fixture
def tiny(tmp_path: Path) -> TinyExport:
    return TinyExport(tmp_path / "export")


def setting(column: str, values: Sequence[Any]) -> Callable[[pa.Table], pa.Table]:
    """A change of a table: other values, repeated as often as needed, in one column."""

    def change(table: pa.Table) -> pa.Table:
        repeated = [values[row % len(values)] for row in range(table.num_rows)]
        field = table.schema.field(column)
        return table.set_column(table.schema.names.index(column), field, pa.array(repeated, field.type))

    return change


# --- Indices of one's own ------------------------------------------------------------------------------------


def add_index(folder: Path, name: str, query: str, **columns: str) -> None:
    """The two files of an index, whose key and order is the first column."""
    key = next(iter(columns))
    described = [
        {"name": column, "type": kind, "mode": "NULLABLE", "description": "Mine."} for column, kind in columns.items()
    ]
    schema = {
        "table_description": "Of my own.",
        "row": "of my own",
        "in_wheel": False,
        "primary_key": [key],
        "order": [key],
        "references": [],
        "columns": described,
    }
    for kind in ("queries", "schemas"):
        (folder / kind).mkdir(exist_ok=True)
    (folder / "queries" / f"{name}.sql").write_text(query)
    (folder / "schemas" / f"{name}.json").write_text(json.dumps(schema))


# --- Made once for all tests --------------------------------------------------------------------------------


def once(folder: Path, make: Callable[[Path], None]) -> Path:
    """A folder that is made by whoever asks first, also when several processes of pytest-xdist do."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(f"{folder}.lock"):
        if not folder.exists():
            unfinished = folder.with_name(f"{folder.name}.unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            make(unfinished)
            unfinished.rename(folder)
    return folder


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this run of pytest have in common."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def _of_sample(folder: Path, *indices: str) -> Path:
    def make(folder: Path) -> None:
        where = ["--source", "sample", "--out", str(folder), "--cache-dir", f"{folder}.cache"]
        result = CliRunner().invoke(main, ["build", *indices, *where, *RELEASE], catch_exceptions=False)
        assert result.exit_code == 0, result.stderr

    return once(folder, make)


@pytest.fixture(scope="session")
def sample_release(shared: Path) -> Path:
    """A good release, built from the bundled sample. Copy it to damage it."""
    return _of_sample(shared / "sample_release")


@pytest.fixture(scope="session")
def wheel_release(shared: Path) -> Path:
    """The same with the indices of the data wheel alone, where one damage breaks one promise. Copy it to damage it."""
    return _of_sample(shared / "wheel_release", *IN_WHEEL)


@pytest.fixture(scope="session")
def small_releases(shared: Path) -> dict[str, Path]:
    """Releases of two or three small indices: files that change, stay, come and go from one to the next.

    `other` calls itself 25.0.1 too, and is another one.
    """
    indices = {
        "25.0.0": ("version_metadata_index", "collections_index"),
        "25.0.1": ("version_metadata_index", "analysis_results_index"),
        "25.1.0": ("version_metadata_index", "collections_index", "analysis_results_index"),
        "other": ("version_metadata_index", "collections_index"),
    }

    def make(folder: Path) -> None:
        for name, chosen in indices.items():
            version = "25.0.1" if name == "other" else name
            arguments = ["build", *chosen, "--source", "sample", "--idc-version", "25", "--release-version", version]
            arguments += ["--out", str(folder / name), "--cache-dir", f"{folder}.cache"]
            result = CliRunner().invoke(main, arguments, catch_exceptions=False)
            assert result.exit_code == 0, result.stderr

    folder = once(shared / "small_releases", make)
    return {name: folder / name for name in indices}


@pytest.fixture(scope="session")
def gcs_service() -> Iterator[Gcs]:
    """Google Cloud Storage, on loopback."""
    # Only the tests of publishing need Google's client.
    from tests.emulators.gcs import serve

    with serve() as service:
        yield service


@pytest.fixture(scope="session")
def hub_service() -> Iterator[Hub]:
    """The Hugging Face Hub, on loopback."""
    from tests.emulators.hub import serve

    with serve() as service:
        yield service


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """An empty place to publish to."""
    from tests.emulators.places import BucketPlace, FolderPlace

    if request.param == "folder":
        # No test takes the power away, and waiting for the disk would be most of the time.
        monkeypatch.setattr("os.fsync", lambda _: None)
        return FolderPlace(tmp_path / "published")
    return BucketPlace(request.getfixturevalue("gcs_service"), monkeypatch)


@pytest.fixture(scope="session")
def packages() -> Callable[[str], Path]:
    """Published data packages by version, unpacked: fetched once, kept in IDC_INDEXER_TEST_CACHE or a user's cache."""
    if os.environ.get("IDC_INDEXER_TEST_OFFLINE"):
        pytest.skip("IDC_INDEXER_TEST_OFFLINE is set")
    cache = Path(os.environ.get("IDC_INDEXER_TEST_CACHE") or platformdirs.user_cache_path("idc-indexer") / "tests")

    def package(version: str) -> Path:
        def fetch(folder: Path) -> None:
            requirement = f"idc-index-data=={version}"
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), requirement]
            done = subprocess.run(pip, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            (wheel,) = folder.glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(folder)
            wheel.unlink()

        return once(cache / f"idc-index-data-{version}", fetch) / "idc_index_data"

    return package


@pytest.fixture(scope="session")
def published(packages: Callable[[str], Path]) -> Path:
    """The newest of them."""
    return packages(PUBLISHED)
