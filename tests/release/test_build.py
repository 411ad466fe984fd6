"""What a build makes of an export, of what it is asked for, and of what it cannot understand."""

from __future__ import annotations

import hashlib
import json
import os
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from idc_indexer import documents
from tests.conftest import (
    BUNDLED,
    IN_WHEEL,
    INDICES,
    INSTANCES,
    JPEG,
    OF_ONE_RELEASE,
    SUPPLEMENTS,
    Build,
    Run,
    Start,
    TinyExport,
    add_index,
    around,
    contents,
    refused,
    rows,
    setting,
)

GOLDEN = Path(__file__).parent / "golden" / "sample.json"

# --- What is built ------------------------------------------------------------------------------------------


def test_golden(sample_release: Path) -> None:
    """The sample's indices, as they were when they were last compared with the published ones."""
    facts = {}
    for path in sorted(sample_release.glob("*.parquet")):
        table = pq.read_table(path)
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in table.to_pylist())
        facts[path.stem] = {
            "rows": table.num_rows,
            "columns": {field.name: str(field.type) for field in table.schema},
            "rows_as_json_lines_sha256": hashlib.sha256(lines.encode()).hexdigest(),
        }
    if os.environ.get("IDC_INDEXER_TEST_UPDATE"):
        GOLDEN.write_text(json.dumps(facts, indent=2) + "\n")
    assert facts == json.loads(GOLDEN.read_text()), (
        "if that is meant: IDC_INDEXER_TEST_UPDATE=1 python -m pytest tests/release/test_build.py -k golden"
    )


@pytest.mark.duckdb
def test_rows_worked_out_by_hand(tiny: TinyExport, build: Build, out: Path) -> None:
    assert build(tiny, *IN_WHEEL).exit_code == 0
    segmentation, scan, unknown = rows(out, "idc_index")
    bare = {
        "collection_id": "lungs",
        "StudyInstanceUID": "1.1",
        "source_DOI": "10.1/lungs",
        "license_short_name": "CC BY 4.0",
        "aws_bucket": "idc-open-data",
    }
    assert {key: value for key, value in segmentation.items() if value is not None} == bare | {
        "analysis_result_id": "nodules",
        "PatientID": "P0",
        "SeriesInstanceUID": "1.2.3",
        "StudyDate": "2001-02-03",
        "Modality": "SEG",
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4",
        "sop_class_name": "Segmentation Storage",
        "TransferSyntaxUID": "1.2.840.10008.1.2.1",
        "transfer_syntax_name": "Explicit VR Little Endian",
        "PixelRepresentation": "1",
        "instanceCount": 2,
        "series_init_idc_version": 25,
        "series_revised_idc_version": 25,
        "crdc_series_uuid": "00000000-0000-0000-0000-000000000003",
        "series_aws_url": "s3://idc-open-data/00000000-0000-0000-0000-000000000003/*",
        "series_size_MB": 0.003002,
    }
    assert {key: value for key, value in scan.items() if value is not None} == bare | {
        "PatientID": "P1",
        "SeriesInstanceUID": "1.2.1",
        "PatientAge": "061Y",
        "PatientSex": "F",
        "StudyDate": "2001-02-03",
        "BodyPartExamined": "LUNG",
        "Modality": "CT",
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
        "sop_class_name": "CT Image Storage",
        "TransferSyntaxUID": f"1.2.840.10008.1.2.1,{JPEG}",
        "transfer_syntax_name": "Explicit VR Little Endian,JPEG Baseline",
        "PhotometricInterpretation": "MONOCHROME2,RGB",
        "PixelRepresentation": "0,1",
        "SeriesDescription": "Chest",
        "instanceCount": 3,
        "series_init_idc_version": 2,
        "series_revised_idc_version": 9,
        "crdc_series_uuid": "00000000-0000-0000-0000-000000000001",
        "series_aws_url": "s3://idc-open-data/00000000-0000-0000-0000-000000000001/*",
        "series_size_MB": 0.006003,
    }
    assert {key: value for key, value in unknown.items() if value is not None} == bare | {
        "PatientID": "P1",
        "SeriesInstanceUID": "1.2.2",
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
        "sop_class_name": "CT Image Storage",
        "instanceCount": 1,
        "crdc_series_uuid": "00000000-0000-0000-0000-000000000002",
        "series_aws_url": "s3://idc-open-data/00000000-0000-0000-0000-000000000002/*",
        "series_size_MB": 0.001001,
    }
    # 1.005 MB is a little less in binary, and so rounded down.
    kept = ("crdc_series_uuid", "gcs_bucket", "aws_bucket", "series_size_MB", "min_idc_version", "max_idc_version")
    assert [tuple(row[name] for name in kept) for row in rows(out, "prior_versions_index")] == [
        ("00000000-0000-0000-0000-000000000091", "public-datasets-idc", "idc-open-data", 1.0, 1, 19),
        ("00000000-0000-0000-0000-000000000092", "idc-open-cr", "idc-open-data-cr", 5.0, 3, 4),
        ("00000000-0000-0000-0000-000000000091", "idc-open-data", "idc-open-data", 1.0, 20, 24),
    ]
    assert [row["collection_id"] for row in rows(out, "collections_index")] == ["brains", "livers", "lungs"]
    assert rows(out, "collections_index")[2]["supporting_data"] is None
    assert rows(out, "collections_index")[2]["updated"] == "2024-05-06"


@pytest.mark.duckdb
def test_same_bytes_in_any_time_zone_and_language(sample_release: Path, start: Start, out: Path) -> None:
    elsewhere = "import os, time; os.environ.update(TZ='Pacific/Kiritimati', LC_ALL='C'); time.tzset()"
    process = start("sample", first=elsewhere)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert contents(out) == contents(sample_release)


# Threads, and the number of a cache: the first build with one reads the prior releases, the others reuse what it read.
@pytest.mark.parametrize(
    "builds",
    [
        pytest.param([(1, 0), (8, 1), (8, 0)], id="few"),
        pytest.param([(n, c) for n in (1, 2, 8) for c in (0, 1)] * 2, id="many", marks=pytest.mark.slow),
    ],
)
def test_same_bytes_on_any_threads_in_any_folder(
    builds: list[tuple[int, int]], sample_release: Path, run: Run, tmp_path: Path
) -> None:
    expected = contents(sample_release)
    assert len(expected) == 4 * len(INDICES) + 3 + 5  # one derived table, which has no query; manifest, descriptions
    for number, (threads, cache) in enumerate(builds):
        folder = tmp_path / f"build {number}" / f"{threads} threads"
        version = ("--idc-version", 25, "--release-version", "25.0.0")
        where = ("--source", "sample", "--out", folder, "--cache-dir", tmp_path / f"cache {cache}")
        assert run("build", *version, *where, "--threads", threads).exit_code == 0
        assert contents(folder) == expected


# --- What is asked for --------------------------------------------------------------------------------------

VERSIONS = [
    "../x", "25.0", "25.0.5 ", " 25.0.5", "25.0.5'", "24.0.0", "250.0.0", ".", "25.0.5+local", "25.0.5\n",
    "25.0.5/../../x", "v25.0.5", "25.00.5", "1!25.0.5", "25.0.5-1", "-25.0.5", "25.0.5\x00",
    "9" * 5000 + ".0.0", "2٥.0.0", "25.0.1٥", "25.0.5.dev١",  # digits, but not of ASCII
]  # fmt: skip


@pytest.mark.parametrize("version", VERSIONS)
def test_hostile_release_version(version: str, tiny: TinyExport, build: Build, out: Path) -> None:
    refused(build(tiny, "version_metadata_index", "--release-version", version), 2, "release version")
    assert around(out) == []


@pytest.mark.parametrize("arguments", [("",), ("--release-version", ""), ("--memory-limit", "")], ids=" ".join)
def test_empty_values(arguments: tuple[str, ...], tiny: TinyExport, build: Build, out: Path) -> None:
    refused(build(tiny, "version_metadata_index", *arguments), 2, "the value is empty")
    assert around(out) == []


@pytest.mark.parametrize("version", ["25.10.0", "25.0.5rc1", "25.0.5.post1", "25.0.5a1.dev2"])
def test_proper_release_version(version: str, tiny: TinyExport, build: Build, run: Run, out: Path) -> None:
    assert build(tiny, "version_metadata_index", "--release-version", version).exit_code == 0
    assert run("verify", out).exit_code == 0


@pytest.mark.parametrize("number", ["0", "-1", "25.0", "v25", "٢٥x"])
def test_impossible_idc_version(number: str, tiny: TinyExport, build: Build, out: Path) -> None:
    refused(build(tiny, "version_metadata_index", "--idc-version", number), 2, "--idc-version", number)
    assert around(out) == []


HOSTILE_NAMES = ["no_such_index", "../idc_index", "idc_index'; DROP TABLE x", "IDC_INDEX", "idc_index.sql", "a\nb"]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_unknown_index(name: str, tiny: TinyExport, build: Build, out: Path) -> None:
    refused(
        build(tiny, "idc_index", name),
        2,
        f"no index is called {name}",
        f"There are: {', '.join([*BUNDLED, *SUPPLEMENTS])}.",
    )
    assert around(out) == []


@pytest.mark.parametrize("limit", ["lots", "4", "0", "4 parsecs", "-1", "-4GB", "none", "GB"])
def test_senseless_memory_limit(limit: str, tiny: TinyExport, build: Build, out: Path) -> None:
    refused(build(tiny, "version_metadata_index", "--memory-limit", limit), 2, "--memory-limit", limit, "4GB")
    assert around(out) == []


@pytest.mark.parametrize("limit", ["4GB", "800MB", "1.5GiB", "0.5GB", "1 gb"])
def test_sensible_memory_limit(limit: str, tiny: TinyExport, build: Build) -> None:
    assert build(tiny, "version_metadata_index", "--memory-limit", limit).exit_code == 0


def test_too_little_memory(tiny: TinyExport, build: Build, out: Path) -> None:
    refused(build(tiny, "idc_index", "--memory-limit", "1MB"), 1, "idc_index: Out of Memory", "--memory-limit")
    assert not out.exists()


@pytest.mark.parametrize("threads", ["0", "-1", "two"])
def test_senseless_threads(threads: str, tiny: TinyExport, build: Build, out: Path) -> None:
    refused(build(tiny, "version_metadata_index", "--threads", threads), 2, "--threads")
    assert around(out) == []


def test_number_of_threads_beyond_all_numbers(tiny: TinyExport, build: Build, out: Path) -> None:
    result = build(tiny, "version_metadata_index", "--threads", 10**20)
    refused(result, 2, "--threads")
    assert "--memory-limit" not in result.stderr
    assert around(out) == []


@pytest.mark.parametrize("hours", ["inf", "nan", "1e300", "-1", "six"])
def test_senseless_batch_hours(hours: str, tiny: TinyExport, build: Build, out: Path) -> None:
    refused(build(tiny, "version_metadata_index", "--max-shard-age-gap", hours), 2, "--max-shard-age-gap")
    assert around(out) == []


def test_year_for_a_release_is_refused_at_once(start: Start, out: Path) -> None:
    """Before the queries are written out for two thousand past releases."""
    process = start("sample", "--idc-version", 2025, "--release-version", "2025.0.0")
    try:
        assert "sample: IDC release 2025 is not there" in process.communicate(timeout=45)[1]
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, around(out)) == (1, [])


def test_first_release_has_no_prior_versions(tiny: TinyExport, build: Build, out: Path) -> None:
    options = ("--idc-version", 1, "--release-version", "1.0.0")
    refused(build(tiny, "prior_versions_index", *options), 1, "prior_versions_index cannot be built for IDC release 1")
    assert around(out) == []


def test_release_that_lacks_a_column(tiny: TinyExport, build: Build, out: Path) -> None:
    options = ("--idc-version", 17, "--release-version", "17.0.0")
    missing = "idc_v17.dicom_all has no column analysis_result_id: only release 18 and later ones have it"
    refused(build(tiny, "idc_index", *options), 1, "idc_index cannot be built for IDC release 17", missing)
    assert around(out) == []


# --- What is in the data ------------------------------------------------------------------------------------

UNKNOWN_VALUES = [
    ("SOPClassUID", "1.2.3.4", "idc_index has no name for SOPClassUID 1.2.3.4"),
    ("SOPClassUID", 'it\'s "%s"', 'idc_index has no name for SOPClassUID it\'s "%s"'),
    ("SOPClassUID", "", "idc_index has no name for SOPClassUID "),
    ("TransferSyntaxUID", "1.2.3.5", "idc_index has no name for TransferSyntaxUID 1.2.3.5"),
    ("TransferSyntaxUID", "", "idc_index has no name for TransferSyntaxUID "),
]


@pytest.mark.parametrize(("column", "value", "message"), UNKNOWN_VALUES)
def test_value_without_a_name(column: str, value: str, message: str, tiny: TinyExport, build: Build, out: Path) -> None:
    """In one instance of many: not what most instances of the series say."""
    last = pa.Table.from_pylist([INSTANCES[0] | {"SeriesInstanceUID": "1.2.9", column: value}])
    tiny.change("dicom_all", lambda table: pa.concat_tables([table, last.cast(last.schema)], promote_options="default"))
    refused(build(tiny, "idc_index", "version_metadata_index", "--allow-row-count-mismatch"), 1, message)
    assert around(out) == []


@pytest.mark.parametrize(("url", "named"), [("gs://new-bucket/a/b.dcm", "new-bucket"), ("", "NULL"), (None, "NULL")])
def test_bucket_without_a_mirror(url: str | None, named: str, tiny: TinyExport, build: Build, out: Path) -> None:
    tiny.change("dicom_all", setting("gcs_url", [url]), release=11)
    message = f"knows no AWS bucket for the GCS bucket {named} of series version 00000000-0000-0000-0000-00000000009"
    refused(build(tiny, "prior_versions_index"), 1, message)
    assert around(out) == []


# --- Indices of one's own -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["patients_index", "group"])
def test_added_index(name: str, tiny: TinyExport, run: Run, build: Build, out: Path, tmp_path: Path) -> None:
    """Two files, in folders of one's own: `list`, `explain`, `build` and `verify` know the index."""
    query = """
        -- One row per patient.
        SELECT PatientID, COUNT(*) AS instances
        FROM `bigquery-public-data.idc_current.dicom_all` GROUP BY PatientID ORDER BY PatientID
    """
    add_index(tmp_path, name, query, PatientID="STRING", instances="INTEGER")
    mine = ("--queries", tmp_path / "queries", "--schemas", tmp_path / "schemas")
    assert f"\n{name} " in run("list", *mine).stdout
    assert "\nkey: PatientID\n" in run("list", name, *mine).stdout
    assert "-- reads idc_current.dicom_all:\n--   PatientID\n" in run("explain", name, *mine).stdout
    result = build(tiny, *OF_ONE_RELEASE, name, *mine)
    assert result.exit_code == 0, result.stderr
    assert rows(out, name) == [{"PatientID": "P0", "instances": 2}, {"PatientID": "P1", "instances": 4}]
    assert "idc_v25.dicom_all" in (out / f"{name}.sql").read_text()
    assert sorted(path.stem for path in out.glob("*.parquet")) == sorted([*OF_ONE_RELEASE, name])
    assert run("verify", out).stdout == f"{out}: OK\n"
    assert f"\n{name} " not in run("list").stdout


def test_an_index_that_replaces_a_built_in_one_is_told(
    tiny: TinyExport, run: Run, build: Build, out: Path, tmp_path: Path
) -> None:
    query = (documents.bundled("queries") / "version_metadata_index.sql").read_text() + "-- mine\n"
    (tmp_path / "queries").mkdir()
    (tmp_path / "queries" / "version_metadata_index.sql").write_text(query)
    result = build(tiny, "version_metadata_index", "collections_index", "--queries", tmp_path / "queries")
    assert result.exit_code == 0, result.stderr
    told = [line for line in result.stderr.splitlines() if "replaces the built-in one" in line]
    assert told == ["version_metadata_index: a file in --queries or --schemas replaces the built-in one"]
    entries = json.loads((out / "manifest.json").read_text())["indices"]
    assert {entry["name"]: entry.get("overrides_built_in") for entry in entries} == {
        "version_metadata_index": True,
        "collections_index": None,
    }
    assert run("verify", out).exit_code == 0


# --- The cache of past releases -----------------------------------------------------------------------------


def make_unreadable(export: TinyExport) -> None:
    """Other bytes in the shards of the past releases, of the same size and time."""
    for release in range(1, 25):
        path = export.shard("dicom_all", 0, release)
        modified = path.stat().st_mtime_ns
        path.write_bytes(random.Random(release).randbytes(path.stat().st_size))
        os.utime(path, ns=(modified, modified))


def test_past_releases_are_read_once(tiny: TinyExport, build: Build, out: Path, tmp_path: Path) -> None:
    assert build(tiny, *IN_WHEEL).exit_code == 0
    make_unreadable(tiny)
    result = build(tiny, *IN_WHEEL, "--out", tmp_path / "second")
    assert result.exit_code == 0, result.stderr
    assert contents(tmp_path / "second") == contents(out)
    # Without that cache, they would have been read.
    refused(
        build(tiny, *IN_WHEEL, "--force", "--cache-dir", tmp_path / "other"), 1, "idc_v1/dicom_all/000000000000.parquet"
    )


def test_only_changed_past_releases_are_read_again(tiny: TinyExport, build: Build) -> None:
    assert build(tiny, "prior_versions_index").exit_code == 0
    make_unreadable(tiny)
    tiny.write(pq.read_table(tiny.shard("dicom_all", 1))[:1].select(["PatientID"]), "dicom_all", release=12)
    refused(build(tiny, "prior_versions_index", "--force"), 1, "idc_v12.dicom_all has no column collection_id")


def test_cache_of_another_source_is_not_used(tmp_path: Path, build: Build, out: Path) -> None:
    first, second = TinyExport(tmp_path / "first"), TinyExport(tmp_path / "second")
    second.change("dicom_all", setting("Modality", ["PT"]), release=9)
    assert build(first, "prior_versions_index").exit_code == 0
    assert build(second, "prior_versions_index", "--force").exit_code == 0
    alone = tmp_path / "alone"
    assert build(second, "prior_versions_index", "--out", alone, "--cache-dir", tmp_path / "c").exit_code == 0
    assert contents(out) == contents(alone)
    assert {row["Modality"] for row in rows(out, "prior_versions_index")} == {"CT", "PT"}


def test_cache_that_is_no_folder_is_named(tiny: TinyExport, build: Build, out: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("three years")
    refused(build(tiny, "prior_versions_index", "--cache-dir", file), 1, f"Error: {file}")
    assert (file.read_text(), around(out)) == ("three years", [])


@pytest.mark.parametrize("name", ["[ab]", "*", "?", "{a,b}", "Modality=PT", "it's süß, 100%"])
def test_names_of_folders_mean_nothing(name: str, build: Build, run: Run, tmp_path: Path) -> None:
    """DuckDB knows patterns, and columns that are values in a path: a folder beside, or called so, is not read."""
    TinyExport(tmp_path / "a" / "export")
    export = TinyExport(tmp_path / name / "export")
    export.change("original_collections_metadata", setting("species", ["Canine"]))
    export.change("dicom_all", setting("PatientID", ["P7"]), release=9)
    where = ("--out", tmp_path / name / "release", "--cache-dir", tmp_path / name / "cache")
    result = build(export, "collections_index", "prior_versions_index", *where)
    assert result.exit_code == 0, result.stderr
    assert run("verify", tmp_path / name / "release").exit_code == 0
    assert {row["species"] for row in rows(tmp_path / name / "release", "collections_index")} == {"Canine"}
    versions = rows(tmp_path / name / "release", "prior_versions_index")
    assert {(row["Modality"], row["PatientID"]) for row in versions} == {("CT", "P1"), ("CT", "P7")}


def test_a_damaged_extract_is_made_again(tiny: TinyExport, build: Build, environment: dict[str, str]) -> None:
    """Cut, and with another byte that Parquet would not notice."""
    first = build(tiny, "prior_versions_index")
    assert first.exit_code == 0
    (cached,) = Path(environment["IDC_INDEXER_CACHE_DIR"]).rglob("v13-*.parquet")
    good = cached.read_bytes()
    for damaged in (good[:-50], good[:40] + bytes([good[40] ^ 1]) + good[41:]):
        cached.write_bytes(damaged)
        again = build(tiny, "prior_versions_index", "--force")
        assert (again.exit_code, again.stdout) == (0, first.stdout)
        assert cached.read_bytes() != damaged
