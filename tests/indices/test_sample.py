"""The bundled sample: small, and with something of everything that the indices are made from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from idc_indexer.catalog import Catalog
from idc_indexer.documents import bundled
from idc_indexer.schema.arrow import conform
from tests.conftest import INDICES, rows
from tests.support.oracle import by_googlesql
from tests.support.strategies import columns_read, table_of

SAMPLE = bundled("sample")
FEW = 10
LARGEST_SAMPLE = 1_000_000
"""Bytes: the wheel carries the sample; scripts/make_sample.py refuses to write more."""


def test_size() -> None:
    sizes = [path.stat().st_size for path in SAMPLE.rglob("*.parquet")]
    assert sum(sizes) <= LARGEST_SAMPLE
    assert all(size < LARGEST_SAMPLE / 2 for size in sizes)


def leaves(values: Any, path: str) -> Iterator[tuple[str, list[Any]]]:
    """The values of an Arrow column, or of all fields of a record, without the arrays they are in."""
    kind = values.type
    if isinstance(kind, pa.ListType):
        yield from leaves(pc.list_flatten(values), path)
    elif isinstance(kind, pa.StructType):
        for field in kind:
            yield from leaves(pc.struct_field(values, field.name), f"{path}.{field.name}")
    else:
        yield path, values.to_pylist()


@pytest.mark.parametrize("index", INDICES)
def test_no_column_is_empty_in_every_row(index: str, sample_release: Path) -> None:
    table = pq.read_table(sample_release / f"{index}.parquet")
    assert table.num_rows >= FEW
    filled = {
        path: any(value not in (None, "") for value in values)
        for name in table.schema.names
        for path, values in leaves(table[name], name)
    }
    assert [path for path, some in filled.items() if not some] == []


@pytest.mark.parametrize("index", INDICES)
def test_index_is_what_googlesql_defines(index: str, sample_release: Path) -> None:
    """Google's evaluator makes the same rows, in the same order, of the same tables."""
    pinned = Catalog().indices[index].for_release(25)
    tables = {}
    for table, columns in columns_read(pinned.statement.leaves).items():
        folder = SAMPLE / table.dataset / table.name
        tables[table] = table_of(columns, pq.read_table(folder, columns=[c.name for c in columns]).to_pylist())
    defined = by_googlesql(pinned.statement, tables).combine_chunks().to_batches()
    # the writer's door, which has one zero and one NaN
    expected = [row for batch in defined for row in conform(batch, pinned.schema.columns, index).to_pylist()]
    assert repr(rows(sample_release, index)) == repr(expected)


@pytest.fixture(scope="module")
def instances() -> duckdb.DuckDBPyConnection:
    """A table of that name: dicom_all."""
    connection = duckdb.connect()
    connection.execute(
        "CREATE TABLE instances AS FROM read_parquet(?)", [str(SAMPLE / "idc_v25" / "dicom_all" / "*.parquet")]
    )
    return connection


def values(instances: duckdb.DuckDBPyConnection, expression: str, where: str = "TRUE") -> set[Any]:
    found = instances.execute(f"SELECT DISTINCT {expression} FROM instances WHERE {where}").fetchall()
    return {value for (value,) in found}


# Attribute, and the SOP classes of the instances that have it.
OWNERS = {
    "KVP": {"1.2.840.10008.5.1.4.1.1.2"},
    "EchoTime": {"1.2.840.10008.5.1.4.1.1.4"},
    "RadiopharmaceuticalInformationSequence": {"1.2.840.10008.5.1.4.1.1.128"},
    "SegmentSequence": {"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"},
    "AnnotationGroupSequence": {"1.2.840.10008.5.1.4.1.1.91.1"},
    "StructureSetROISequence": {"1.2.840.10008.5.1.4.1.1.481.3"},
    "SpecimenDescriptionSequence": {"1.2.840.10008.5.1.4.1.1.77.1.6"},
}

IMAGES = OWNERS["KVP"] | OWNERS["EchoTime"] | OWNERS["RadiopharmaceuticalInformationSequence"]


@pytest.mark.parametrize("attribute", OWNERS)
def test_attributes_belong_to_sop_classes(attribute: str, instances: duckdb.DuckDBPyConnection) -> None:
    assert values(instances, "SOPClassUID", f"{attribute} IS NOT NULL") == OWNERS[attribute]


@pytest.mark.parametrize("attribute", ["KVP", "RepetitionTime", "EchoTrainLength", "SliceThickness"])
def test_numbers_are_as_bad_as_real_ones(attribute: str, instances: duckdb.DuckDBPyConnection) -> None:
    """Missing, empty, and text that is no number, beside those that are."""
    ours = "SOPClassUID IN ('1.2.840.10008.5.1.4.1.1.2', '1.2.840.10008.5.1.4.1.1.4')"
    found = values(instances, attribute, ours)
    assert {None, ""} < found
    assert any(value and value.replace(".", "").isdigit() for value in found)
    assert len(found) > 4


@pytest.mark.parametrize(
    "attribute", ["ImageType", "PixelSpacing", "ScanOptions", "SegmentSequence", "SpecimenDescriptionSequence"]
)
def test_arrays_are_filled_empty_or_null(attribute: str, instances: duckdb.DuckDBPyConnection) -> None:
    owners = {"ScanOptions": OWNERS["KVP"]}.get(attribute, OWNERS.get(attribute, OWNERS["KVP"]))
    lengths = values(instances, f"len({attribute})", f"list_contains({sorted(owners)}, SOPClassUID)")
    assert {None, 0} < lengths


@pytest.mark.parametrize("attribute", ["KVP", "Rows", "ImageType"])
def test_most_series_agree_and_some_do_not(attribute: str, instances: duckdb.DuckDBPyConnection) -> None:
    counts = instances.execute(f"""
        SELECT count(DISTINCT {attribute}) FROM instances
        WHERE SOPClassUID = '1.2.840.10008.5.1.4.1.1.2'
        GROUP BY SeriesInstanceUID HAVING count(*) > 2 AND count({attribute}) > 0
    """).fetchall()
    disagreeing = sum(count > 1 for (count,) in counts)
    assert 0 < disagreeing < len(counts) / 2


@pytest.mark.parametrize(
    ("index", "column"),
    [
        ("seg_index", "segmented_SeriesInstanceUID"),
        ("ann_index", "referenced_SeriesInstanceUID"),
        ("rtstruct_index", "referenced_SeriesInstanceUID"),
    ],
)
def test_most_references_are_to_series_of_the_sample(index: str, column: str, sample_release: Path) -> None:
    series = {row["SeriesInstanceUID"]: row for row in rows(sample_release, "idc_index")}
    named = [row[column] for row in rows(sample_release, index)]
    found = [series[uid] for uid in named if uid in series]
    assert len(named) / 2 < len(found) < len(named)
    slides, slices = OWNERS["SpecimenDescriptionSequence"], IMAGES
    assert {row["SOPClassUID"] for row in found} <= (slides if index == "ann_index" else slides | slices)


def test_volumes_are_of_every_kind(sample_release: Path) -> None:
    """Regular and upright, regular and tilted, of one slice, and with every single fault."""
    volumes = rows(sample_release, "volume_geometry_index")
    flags = [name for name, value in volumes[0].items() if isinstance(value, bool)]
    assert volumes[0]["regularly_spaced_3d_volume"] is True
    assert len(flags) == 9
    for flag in flags:
        assert {True, False} <= {row[flag] for row in volumes}, flag
    regular = [row for row in volumes if row["regularly_spaced_3d_volume"]]
    assert {row["obliquity_degrees"] for row in regular} >= {0.0, 15.0}
    for column in ("uniform_slice_spacing", "regularly_spaced_3d_volume"):
        assert {row[column] for row in volumes} == {True, False, None}, column
    assert len(volumes) < len(rows(sample_release, "ct_index")) + len(rows(sample_release, "mr_index")) + len(
        rows(sample_release, "pt_index")
    )


def test_meanings_are_hard_to_split(sample_release: Path) -> None:
    """With colons, commas and letters beyond ASCII."""
    meanings = {
        meaning
        for row in rows(sample_release, "sm_index")
        for meaning in [*row["staining_usingSubstance_CodeMeaning"], row["admittingDiagnosis_CodeMeaning"] or ""]
    }
    for mark in (": ", ",", "ä", "é"):
        assert any(mark in meaning for meaning in meanings), mark
