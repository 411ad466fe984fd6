"""The reference export keeps what it guarantees, on a package of a few rows."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.dicom_types import bigquery_types
from tests.support.reference_export import export, main

LICENSE = {"license_url": "https://l", "license_long_name": "Long", "license_short_name": "L"}
PROVENANCE = {
    "data_contributor": "A",
    "source_data_provider": "B",
    "deidentification_party": "C",
    "dicom_conversion_by": "D",
}
COLLECTION = {
    "collection_name": "One",
    "collection_id": "one",
    "cancer_types": "Lung",
    "tumor_locations": "Lung",
    "subjects": 3,
    "species": "Human",
    "sources": [
        {
            "source_id": "one",
            "citation": "Cited",
            "source_doi": "10/1",
            "license": LICENSE,
            "provenance": None,
        },
        {
            "source_id": "two",
            "citation": "Too",
            "source_doi": "10/2",
            "license": LICENSE,
            "provenance": PROVENANCE,
        },
    ],
    "supporting_data": None,
    "program_id": "tcga",
    "status": "Complete",
    "updated": "2026-01-02",
    "description": "It's one",
}
RESULT = {
    "analysis_result_id": "res",
    "analysis_result_title": "Result",
    "source_DOI": "10/3",
    "subjects": 2,
    "updated": None,
    "provenance": PROVENANCE,
}


def series(number: int, instances: int, megabytes: float, **columns: Any) -> dict[str, Any]:
    """A row of idc_index."""
    return {
        "collection_id": "one",
        "analysis_result_id": None,
        "PatientID": f"P{number}",
        "SeriesInstanceUID": f"1.2.{number}",
        "StudyInstanceUID": f"1.3.{number}",
        "source_DOI": "10/1",
        "PatientAge": None,
        "StudyDate": "2020-02-29",
        "BodyPartExamined": None,
        "Modality": "SM",
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.6",
        "TransferSyntaxUID": "1.2.840.10008.1.2.1",
        "PhotometricInterpretation": None,
        "PixelRepresentation": "0",
        "Manufacturer": "It's",
        "SeriesDescription": None,
        "instanceCount": instances,
        "series_init_idc_version": 2,
        "series_revised_idc_version": 4,
        "aws_bucket": "idc-open-data-two",
        "crdc_series_uuid": f"00000000-0000-0000-0000-{number:012}",
        "series_size_MB": megabytes,
        **columns,
    }


SERIES = [
    series(1, 1, 0.001266),
    series(2, 3, 0.000001, TransferSyntaxUID="1.2.840.10008.1.2.1,1.2.840.10008.1.2.4.50,1.2.840.10008.1.2.4.91"),
    series(3, 250, 195185.148264, PhotometricInterpretation="MONOCHROME2,RGB", PixelRepresentation="0,1"),
    series(4, 50, 7.654321, PatientAge="060Y", BodyPartExamined="CHEST", SeriesDescription="Slide"),
    *[series(number, 2, 0.5) for number in range(5, 30)],
]


def prior(number: int, first: int, last: int, megabytes: float, bucket: str) -> dict[str, Any]:
    """A row of prior_versions_index."""
    return {
        "collection_id": "one",
        "PatientID": "P",
        "SeriesInstanceUID": f"1.2.{number}",
        "StudyInstanceUID": "1.3",
        "Modality": "MR",
        "gcs_bucket": bucket,
        "crdc_series_uuid": f"10000000-0000-0000-0000-{number:012}",
        "series_size_MB": megabytes,
        "min_idc_version": first,
        "max_idc_version": last,
    }


PRIOR = [
    prior(1, 1, 1, 0.0, "public-datasets-idc"),
    prior(2, 1, 2, 12.34, "public-datasets-idc"),
    prior(2, 3, 4, 12.34, "idc-open-data"),
    prior(3, 2, 4, 1.0, "idc-open-cr"),
    prior(3, 3, 3, 2.0, "idc-open-cr"),
]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package")
    versions = [{"idc_version": 1, "version_timestamp": "2020-06-01"}]
    for index, rows in {
        "idc_index": SERIES,
        "prior_versions_index": PRIOR,
        "collections_index": [COLLECTION],
        "analysis_results_index": [RESULT],
        "version_metadata_index": versions,
    }.items():
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{index}.parquet")
    return folder


@pytest.fixture(scope="module")
def exported(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "it's"
    export(package, out, idc_version=5, shards=3)
    return out


def rows(folder: Path, table: str, release: int = 5) -> list[dict[str, Any]]:
    read: list[dict[str, Any]] = pq.read_table(folder / f"idc_v{release}" / table).to_pylist()
    return read


def by_series(instances: list[dict[str, Any]], key: str = "SeriesInstanceUID") -> dict[str, list[dict[str, Any]]]:
    series: dict[str, list[dict[str, Any]]] = {}
    for instance in instances:
        series.setdefault(instance[key], []).append(instance)
    return series


def test_layout(exported: Path) -> None:
    tables = {
        "analysis_results_metadata",
        "auxiliary_metadata",
        "dicom_all",
        "dicom_metadata_curated",
        "original_collections_metadata",
        "version_metadata",
    }
    assert {folder.name for folder in (exported / "idc_v5").iterdir()} == tables
    shards = sorted(file.name for file in (exported / "idc_v5" / "dicom_all").iterdir())
    assert shards == [f"{number:012}.parquet" for number in range(3)]
    releases = [f"idc_v{number}" for number in range(1, 6)]
    assert sorted(folder.name for folder in exported.iterdir()) == [*releases, "idc_v5_clinical"]
    assert [folder.name for folder in (exported / "idc_v5_clinical").iterdir()] == ["column_metadata"]


def test_instances_add_up_to_their_series(exported: Path) -> None:
    instances = rows(exported, "dicom_all")
    assert len({row["SOPInstanceUID"] for row in instances}) == len(instances)
    assert len({row["crdc_instance_uuid"] for row in instances}) == len(instances)
    found = by_series(instances)
    assert len(found) == len(SERIES)
    for published in SERIES:
        of_series = found[published["SeriesInstanceUID"]]
        sizes = [row["instance_size"] for row in of_series]
        assert len(of_series) == published["instanceCount"]
        assert sum(sizes) == round(published["series_size_MB"] * 1e6)
        assert min(sizes) >= 0
        for column in ("TransferSyntaxUID", "PhotometricInterpretation", "PixelRepresentation"):
            values = {str(row[column]) for row in of_series} - {"None"}
            assert ",".join(sorted(values)) == (published[column] or "")
        for column in ("Manufacturer", "StudyDate", "PatientAge", "SeriesDescription"):
            values = {str(row[column] or "") for row in of_series} - {""}
            assert values == {str(published[column] or "")} - {""}
        assert {row["series_aws_url"] for row in of_series} == {
            f"s3://idc-open-data-two/{published['crdc_series_uuid']}/"
        }
        assert {row["gcs_bucket"] for row in of_series} == {"idc-open-idc1"}


def test_source_is_harder_than_the_index(exported: Path) -> None:
    found = by_series(rows(exported, "dicom_all"))
    long = found["1.2.3"]
    assert len({row["instance_size"] for row in long}) > 2
    assert {row["Manufacturer"] for row in long} == {"It's", None}
    assert {row["PatientAge"] for row in long} == {"", None}
    assert {row["PatientAge"] for row in found["1.2.4"]} == {"060Y", "", None}
    curated = by_series(rows(exported, "dicom_metadata_curated"))
    assert {row["BodyPartExamined"] for row in curated["1.2.4"]} == {"CHEST", None}
    assert len(curated) == len(SERIES)
    assert any({row["BodyPartExamined"] for row in of_series} == {None} for of_series in curated.values())
    auxiliary = by_series(rows(exported, "auxiliary_metadata"))
    for column, rule in (("series_init_idc_version", min), ("series_revised_idc_version", max)):
        assert len({row[column] for row in auxiliary["1.2.3"]}) > 1
        assert all(
            rule(row[column] for row in auxiliary[published["SeriesInstanceUID"]]) == published[column]
            for published in SERIES
        )


BIGQUERY = {
    pa.string(): "STRING",
    pa.int64(): "INTEGER",
    pa.float64(): "FLOAT",
    pa.date32(): "DATE",
    pa.time64("us"): "TIME",
}


def types(fields: Iterable[pa.Field[Any]]) -> Iterator[tuple[str, str]]:
    """Names and BigQuery types of columns and, at any depth, of their fields."""
    for field in fields:
        assert field.nullable, field
        repeated = isinstance(field.type, pa.ListType)
        kind = field.type.value_type if isinstance(field.type, pa.ListType) else field.type
        nested = isinstance(kind, pa.StructType)
        yield field.name, ("RECORD" if nested else BIGQUERY[kind]) + ("[]" if repeated else "")
        if isinstance(kind, pa.StructType):
            yield from types(kind)


def test_types_are_those_of_the_dicom_dictionary(exported: Path) -> None:
    schema = pq.read_schema(exported / "idc_v5" / "dicom_all" / "000000000001.parquet")
    found = list(types(schema))
    dicom = bigquery_types()
    own = {name: kind for name, kind in found if name not in dicom}
    assert own.pop("instance_size") == "INTEGER"
    assert set(own.values()) == {"STRING"}
    prefixes = ("analysis_result", "aws_", "collection_", "crdc_", "gcs_", "license_", "series_", "Source_")
    assert [name for name in own if not name.startswith(prefixes)] == []
    assert [(name, kind) for name, kind in found if name in dicom and kind != dicom[name]] == []
    assert {"TIME", "FLOAT", "DATE", "STRING[]", "RECORD[]"} < {kind for _, kind in found}
    assert all(pq.read_schema(file) == schema for file in (exported / "idc_v5" / "dicom_all").iterdir())


def test_times_are_marked_as_bigquery_marks_them(exported: Path) -> None:
    leaves = pq.ParquetFile(exported / "idc_v5" / "dicom_all" / "000000000000.parquet").schema
    (time,) = (leaf for leaf in map(leaves.column, range(len(leaves))) if leaf.name == "RadiopharmaceuticalStartTime")
    assert "isAdjustedToUTC=true" in str(time.logical_type)


def test_without_attributes(package: Path, exported: Path, tmp_path: Path) -> None:
    """The columns of the data wheel's indices are the same, and there are no others."""
    options = ["--idc-version", "5", "--shards", "3", "--attributes", "none", "--tables", "dicom_all"]
    main([str(package), str(tmp_path), *options])
    alone, whole = (pq.read_table(folder / "idc_v5" / "dicom_all") for folder in (tmp_path, exported))
    assert alone.num_columns == 31
    assert alone.equals(whole.select(alone.schema.names))


def test_past_releases(exported: Path) -> None:
    current = {published["crdc_series_uuid"] for published in SERIES}
    # In release 3, the version with two sizes has the one that only this release knows.
    sizes = {1: {1: 0.0, 2: 12.34}, 2: {2: 12.34, 3: 1.0}, 3: {2: 12.34, 3: 2.0}, 4: {2: 12.34, 3: 1.0}}
    for release, expected in sizes.items():
        found = by_series(rows(exported, "dicom_all", release), "crdc_series_uuid")
        assert current & set(found)
        prior = {}
        for version in set(found) - current:
            bucket = found[version][0]["gcs_url"].split("/")[2]
            if bucket != "idc-open-idc":
                prior[int(version[-12:])] = sum(row["instance_size"] for row in found[version])
        assert {version: round(size / 1e6, 2) for version, size in prior.items()} == expected
        assert all(size == round(expected[version] * 1e6) for version, size in prior.items() if version > 1)
        assert len(found) == len(current) + len(expected) + 3


def test_small_tables(exported: Path) -> None:
    (collection,) = rows(exported, "original_collections_metadata")
    assert (collection["supporting_data"], collection["updated"]) == ("", date(2026, 1, 2))
    assert [source["provenance"] for source in collection["sources"]] == [None, PROVENANCE]
    assert [source["license"] for source in collection["sources"]] == [LICENSE, LICENSE]
    (result,) = rows(exported, "analysis_results_metadata")
    assert (result["source_doi"], result["updated"], result["provenance"]) == ("10/3", None, PROVENANCE)
    (version,) = rows(exported, "version_metadata")
    assert list(version) == ["idc_version", "version_hash", "version_timestamp"]


@pytest.mark.parametrize("spelling", [24, 23])
def test_older_spelling(package: Path, tmp_path: Path, spelling: int) -> None:
    tables = ["original_collections_metadata", "analysis_results_metadata"]
    export(package, tmp_path, idc_version=spelling, spelling=spelling, tables=tables)
    (collection,) = rows(tmp_path, tables[0], spelling)
    (result,) = rows(tmp_path, tables[1], spelling)
    assert "provenance" not in result
    if spelling == 24:
        assert "provenance" not in collection["sources"][0]
        return
    assert (collection["CancerTypes"], collection["Program"], collection["SupportingData"]) == (
        "Lung",
        "tcga",
        "",
    )
    assert (collection["Subjects"], collection["Updated"]) == (3, date(2026, 1, 2))
    names = ["Access", "Citation", "ImageTypes", "license", "source_doi", "source_url"]
    assert list(collection["Sources"][0]) == names
    assert [source["Citation"] for source in collection["Sources"]] == ["Cited", "Too"]
    assert (result["ID"], result["Title"], result["Subjects"]) == ("res", "Result", 2)


def test_same_rows_from_a_wheel_and_one_thread(package: Path, exported: Path, tmp_path: Path) -> None:
    wheel = tmp_path / "package.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in package.iterdir():
            archive.write(file, f"idc_index_data/{file.name}")
    main([str(wheel), str(tmp_path), "--idc-version", "5", "--shards", "3", "--threads", "1"])
    for file in exported.rglob("*.parquet"):
        assert pq.read_table(file).equals(pq.read_table(tmp_path / file.relative_to(exported)))


def test_one_in_and_unread_columns(package: Path, tmp_path: Path) -> None:
    export(package, tmp_path, one_in=3, attributes=False, unread_columns=123, tables=["dicom_all"], shards=1)
    shard = pq.ParquetFile(tmp_path / "idc_v25" / "dicom_all" / "000000000000.parquet")
    assert len(shard.schema) == 31 + 123
    kept = by_series(shard.read(columns=["SeriesInstanceUID"]).to_pylist())
    assert 1 < len(kept) < len(SERIES)
    counts = {published["SeriesInstanceUID"]: published["instanceCount"] for published in SERIES}
    assert all(len(of_series) == counts[uid] for uid, of_series in kept.items())


def test_never_overwrites(package: Path, exported: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in exported.rglob("*")}
    with pytest.raises(SystemExit, match="dicom_all is already there"):
        main([str(package), str(exported), "--idc-version", "5", "--tables", "dicom_all"])
    with pytest.raises(FileExistsError, match="idc_v1"):
        export(package, exported, idc_version=7, tables=["version_metadata", "past_releases"])
    assert before == {file: file.stat().st_mtime_ns for file in exported.rglob("*")}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"aws_bucket": "elsewhere"}, "aws_bucket elsewhere"),
        ({"PixelRepresentation": "0,1"}, r"1\.2\.1 has fewer instances"),
    ],
)
def test_refuses_what_it_cannot_expand(tmp_path: Path, columns: dict[str, str], message: str) -> None:
    pq.write_table(pa.Table.from_pylist([series(1, 1, 1.0, **columns)]), tmp_path / "idc_index.parquet")
    with pytest.raises(SystemExit, match=message):
        main([str(tmp_path), str(tmp_path / "out"), "--tables", "dicom_all"])
    assert not (tmp_path / "out").exists()
