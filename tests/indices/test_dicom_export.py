"""What the indices say of DICOM files is what pydicom reads in them, and what GoogleSQL makes of their tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from pydicom.datadict import dictionary_VR

from idc_indexer.catalog import Catalog
from idc_indexer.cli import main
from idc_indexer.exports import open_export
from idc_indexer.progress import NullListener
from idc_indexer.schema.arrow import arrow_type, conform
from idc_indexer.schema.source_tables import SourceTable, dicom_attribute
from tests.conftest import RELEASE, once, rows
from tests.support.dicom_expected import EXPECTED, Row
from tests.support.dicom_export import (
    Attributes,
    Instance,
    attributes_of,
    column_type,
    read_instances,
    write_export,
)
from tests.support.dicom_objects import write_objects
from tests.support.oracle import assert_same, by_duckdb, by_googlesql
from tests.support.strategies import columns_read, table_of

CATALOG = Catalog()


@pytest.fixture(scope="session")
def instances(shared: Path) -> list[Instance]:
    return read_instances(once(shared / "dicom_files", write_objects))


@pytest.fixture(scope="session")
def dicom_export(shared: Path, instances: list[Instance]) -> Path:
    leaves = [leaf for name in EXPECTED for leaf in CATALOG.indices[name].for_release(25).statement.leaves]
    read = [[field.name for field in leaf.fields] for leaf in leaves if leaf.table.name == "dicom_all"]
    return once(shared / "dicom_export", lambda folder: write_export(folder, instances, read))


@pytest.fixture(scope="session")
def release(shared: Path, dicom_export: Path) -> Path:
    def make(folder: Path) -> None:
        where = ("--source", str(dicom_export), "--out", str(folder), "--cache-dir", f"{folder}.cache")
        result = CliRunner().invoke(main, ["build", *EXPECTED, *RELEASE, *where], catch_exceptions=False)
        assert result.exit_code == 0, result.stderr

    return once(shared / "dicom_release", make)


def in_order(found: Iterable[Row], order: Sequence[str]) -> list[Row]:
    """Rows in the order that a schema promises: NULLs first, or last when it descends."""
    ordered = list(found)
    for term in reversed(order):
        column = term.removesuffix(" DESC")

        def key(row: Row, column: str = column) -> tuple[bool, Any]:
            return (row[column] is not None, 0 if row[column] is None else row[column])

        ordered.sort(key=key, reverse=term != column)
    return ordered


def rounded(value: Any) -> Any:
    """Two engines may differ in the last bits of what they compute."""
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return float(f"{value:.12g}") if isinstance(value, float) else value


@pytest.mark.parametrize("name", EXPECTED)
def test_index_says_what_is_in_the_files(name: str, instances: list[Instance], release: Path) -> None:
    schema = CATALOG.indices[name].for_release(25).schema
    expected = in_order(EXPECTED[name](instances), schema.order)
    for row in expected:
        assert row.keys() == {column.name for column in schema.columns}
    built = rows(release, name)
    assert [row["SeriesInstanceUID"] for row in built] == [row["SeriesInstanceUID"] for row in expected]
    for row, promised in zip(built, expected, strict=True):
        assert {column: rounded(value) for column, value in row.items()} == {
            column: rounded(value) for column, value in promised.items()
        }


@pytest.mark.parametrize("name", EXPECTED)
def test_googlesql_makes_the_same_of_it(name: str, dicom_export: Path, tmp_path: Path) -> None:
    index = CATALOG.indices[name].for_release(25)
    export = open_export(str(dicom_export), cache_dir=tmp_path)
    tables: dict[SourceTable, pa.Table] = {}
    with export.plan(index.statement.leaves).stage(NullListener()) as staged:
        for table, columns in columns_read(index.statement.leaves).items():
            tables[table] = pq.read_table(staged.paths(table), columns=[column.name for column in columns])
    defined = by_googlesql(index.statement, tables)
    assert [(field.name, field.type) for field in defined.schema] == [
        (column.name, arrow_type(column)) for column in index.schema.columns
    ]
    # Through the door that DuckDB's rows came through: real files hold -0.0, which is written as 0.0.
    batches = [conform(batch, index.schema.columns, name) for batch in defined.to_batches()]
    expected = pa.Table.from_batches(batches).to_pylist()
    assert repr(by_duckdb(index.statement, tables, index.schema.columns).to_pylist()) == repr(expected)


def keywords(attributes: Attributes) -> set[str]:
    return {name for keyword, inside in attributes.items() for name in (keyword, *keywords(inside))}


def test_types_follow_from_the_dictionary(instances: list[Instance]) -> None:
    """The rule that the export is written by, and the types that the toolkit expects, agree on all that occurs."""
    occurring = keywords(attributes_of(instance.dataset for instance in instances))
    assert len(occurring) > 500
    something: Attributes = {"CodeValue": {}}
    for keyword in occurring:
        kind = column_type(keyword, something)
        attribute = dicom_attribute(keyword)
        if kind is None or dictionary_VR(keyword) == "PN":
            assert attribute is None, keyword  # no query can read it
        elif dictionary_VR(keyword) == "SQ":
            assert attribute is not None, keyword
            assert (attribute.type, attribute.mode) == ("RECORD", "REPEATED"), keyword
        else:
            assert attribute is not None, keyword
            assert arrow_type(attribute) == kind, keyword


@pytest.mark.parametrize("name", EXPECTED)
def test_attributes_are_in_the_sequences_that_the_query_names(name: str, instances: list[Instance]) -> None:
    """In files that follow the standard, so that a description does not name a sequence that never has them."""
    occurring = attributes_of(instance.dataset for instance in instances)
    for leaf in CATALOG.indices[name].for_release(25).statement.leaves:
        if len(leaf.fields) > 1:
            inside = occurring
            for field in leaf.fields:
                assert field.name in inside, leaf.path
                inside = inside[field.name]


def test_text_arrives_as_it_was_meant(release: Path) -> None:
    """In Latin-1, in UTF-8 and in Japanese with escapes; with a colon, which also separates a code's scheme."""

    def values(name: str, column: str) -> set[str]:
        cells = [row[column] for row in rows(release, name)]
        return {value for cell in cells for value in (cell if isinstance(cell, list) else [cell])}

    assert {"Rückenmark", "肝臓"} <= values("rtstruct_index", "ROINames")
    assert "ガドリニウム Gd" in values("contrast_index", "ContrastBolusAgent")
    assert "Kopfspüle" in values("mr_index", "ReceiveCoilName")
    assert "Schädel, Hals & Thorax" in values("idc_index", "StudyDescription")
    assert "Malignant neoplasm: upper-outer quadrant" in values("sm_index", "admittingDiagnosis_CodeMeaning")


def test_groups_of_two_instances_with_the_same_number_are_both_there(instances: list[Instance], release: Path) -> None:
    files = [instance.dataset for instance in instances]
    groups = [(f.SeriesInstanceUID, g.AnnotationGroupUID) for f in files for g in f.get("AnnotationGroupSequence", ())]
    built = rows(release, "ann_group_index")
    assert {(row["SeriesInstanceUID"], row["AnnotationGroupUID"]) for row in built} == set(groups)
    assert len(built) == len(groups)
    numbers = [(row["SeriesInstanceUID"], row["AnnotationGroupNumber"]) for row in built]
    assert len(set(numbers)) < len(numbers)


def test_groups_without_a_uid_of_their_own_are_neither_lost_nor_merged() -> None:
    """A UID that is missing or used twice breaks the key, which `verify` reports. The rows are there all the same."""
    index = CATALOG.indices["ann_group_index"].for_release(25)
    ((table, columns),) = columns_read(index.statement.leaves).items()
    written: list[list[tuple[int, str | None]]] = [[(1, "1.2"), (2, "1.2")], [(1, None), (2, None)], [(1, "1.2")]]
    rows_of_instances: list[Row] = [
        {
            "SOPClassUID": "1.2.840.10008.5.1.4.1.1.91.1",
            "SeriesInstanceUID": "1",
            "AnnotationGroupSequence": [{"AnnotationGroupNumber": n, "AnnotationGroupUID": uid} for n, uid in groups],
        }
        for groups in written
    ]
    tables = {table: table_of(columns, rows_of_instances)}
    assert_same(index.statement, tables, index.schema.columns)
    built = by_duckdb(index.statement, tables, index.schema.columns).to_pylist()
    assert [(row["AnnotationGroupNumber"], row["AnnotationGroupUID"]) for row in built] == [
        (1, None), (1, "1.2"), (1, "1.2"), (2, None), (2, "1.2"),
    ]  # fmt: skip


def test_release_is_whole(release: Path) -> None:
    result = CliRunner().invoke(main, ["verify", str(release)], catch_exceptions=False)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("name", EXPECTED)
def test_every_column_is_put_to_the_test(name: str, release: Path) -> None:
    """Each has values, and not the same one in every row."""
    built = rows(release, name)
    for column in built[0]:
        assert any(row[column] not in (None, []) for row in built), column
        assert len({repr(row[column]) for row in built}) > 1, column


def test_files_hold_what_is_hard(instances: list[Instance], dicom_export: Path) -> None:
    files = [instance.dataset for instance in instances]
    assert any(element.tag.is_private for file in files for element in file)
    assert len({str(file.get("SpecificCharacterSet")) for file in files}) > 10
    assert len({instance.transfer_syntax for instance in instances}) > 8
    # Sequences without items, at the top and inside others.
    empty = {e.keyword for file in files for e in file.iterall() if e.VR == "SQ" and not e.value}
    assert {"SpecimenDescriptionSequence", "AnatomicRegionSequence", "RadionuclideCodeSequence"} <= empty
    shards = sorted((dicom_export / "idc_v25" / "dicom_all").iterdir())
    tables = [pq.read_table(shard) for shard in shards]
    assert len(shards) > 1
    assert sum(table.num_rows for table in tables) == len(files)
    # An array without elements: one shard says so, another has NULL.
    lengths = [set(pc.list_value_length(table["SegmentSequence"]).to_pylist()) for table in tables]
    assert [(0 in found, None in found) for found in lengths] == [(True, False), (False, True), (False, True)]
    # There are series in every shard.
    series = [set(table["SeriesInstanceUID"].to_pylist()) for table in tables]
    assert set.intersection(*series)
    # Times are adjusted to UTC, as BigQuery writes them.
    schema = pq.ParquetFile(shards[0]).schema
    times = [schema.column(leaf).logical_type for leaf in range(len(schema)) if "StartTime" in schema.column(leaf).path]
    assert times
    assert all(json.loads(kind.to_json())["isAdjustedToUTC"] for kind in times)
