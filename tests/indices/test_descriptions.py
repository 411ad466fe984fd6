"""Descriptions of tables and columns are an interface: programs choose columns by them, and people read them.

Which columns hold DICOM attributes is not listed here. It follows from the queries.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache

import pytest
from pydicom.datadict import dictionary_VR, tag_for_keyword

from idc_indexer.catalog import Catalog
from idc_indexer.schema.column import Column
from tests.conftest import BUNDLED
from tests.support.lineage import Origin, Path, origins
from tests.support.oracle import statement

CATALOG = Catalog()
COLUMNS = [(name, column) for name, index in CATALOG.indices.items() for column in index.schema.columns]
DERIVED = [(name, column) for name, table in CATALOG.derived.items() for column in table.schema.columns]


def is_attribute(path: Path) -> bool:
    """Whether a source column, or a field inside one, is a DICOM attribute, and so are the sequences it is in."""
    return all(tag_for_keyword(name) is not None for name in path)


@cache
def attributes(name: str) -> dict[str, set[Origin]]:
    """The DICOM attributes that each column of an index comes from."""
    return {
        column: {origin for origin in found if is_attribute(origin.path)}
        for column, found in origins(CATALOG.indices[name].for_release(25).statement).items()
    }


def found_in(name: str, column: Column) -> set[Origin]:
    """The DICOM attributes that a column of an index, or of a table made from idc_index, comes from."""
    return attributes(name if name in CATALOG.indices else "idc_index").get(column.name, set())


def words(text: str) -> set[str]:
    return set(re.findall(r"[A-Za-z0-9_]+", text))


def named(text: str) -> list[str]:
    """The attributes that follow the words `DICOM attribute`."""
    return [
        keyword
        for found in re.findall(r"DICOM attributes? (\w+(?: and [A-Z]\w+)?)", text)
        for keyword in found.split(" and ")
    ]


@pytest.mark.parametrize(("name", "column"), COLUMNS + DERIVED, ids=lambda it: getattr(it, "name", it))
def test_a_column_names_the_dicom_attributes_that_it_holds(name: str, column: Column) -> None:
    came_from = found_in(name, column)
    taken = {origin.path for origin in came_from if not origin.computed}
    said = named(column.description)
    assert bool(said) >= bool(taken), f"{name}.{column.name} is taken from {taken} and does not say so"
    for keyword in said:
        assert tag_for_keyword(keyword) is not None, f"{keyword} is not in the DICOM dictionary"
        assert keyword in {origin.path[-1] for origin in came_from}, f"{column.name} does not come from {keyword}"
    # Every attribute, and the sequences that it is in from the outermost on, by their names in the dictionary.
    for origin in came_from:
        assert words(column.description) >= set(origin.path)
        *sequences, keyword = origin.path
        assert all(dictionary_VR(sequence) == "SQ" for sequence in sequences)
        assert dictionary_VR(keyword) != "SQ"
        places = [column.description.index(sequence) for sequence in sequences]
        assert places == sorted(places)
    # A program that picks columns by this word finds those, and no others.
    assert ("DICOM" in column.description) == bool(said)


def test_most_columns_hold_dicom_attributes() -> None:
    """As many as in the published schemas, where 143 descriptions have the word."""
    assert sum("DICOM" in column.description for _, column in COLUMNS) >= 143


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT xs[SAFE_OFFSET(0)] AS k FROM `t`", {("xs",): False}),
        ("SELECT COALESCE(s, NULLIF(r, '')) AS k FROM `t`", {("s",): False, ("r",): False}),
        ("SELECT IF(b, s, 'x') AS k FROM `t`", {("s",): False}),
        ("SELECT CASE n WHEN id THEN s WHEN 2 THEN ERROR(r) END AS k FROM `t`", {("s",): False}),
        ("SELECT IF(s IS NULL, s, r) AS k FROM `t`", {("r",): False}),
        ("SELECT f * g AS k FROM `t`", {("f",): True, ("g",): True}),
        ("SELECT MAX(x) < 1 AS k FROM (SELECT f / 2 AS x FROM `t`)", {("f",): True}),
        ("SELECT COUNT(DISTINCT v.deep[SAFE_OFFSET(0)].z) AS k FROM `t`, UNNEST(recs) AS v",
         {("recs", "deep", "z"): False}),
        ("SELECT w.z AS k FROM `t`, UNNEST(recs) AS v, UNNEST(v.deep) AS w WHERE s = 'b'",
         {("recs", "deep", "z"): False}),
        ("SELECT rec.a AS k FROM `t` UNION ALL SELECT w FROM `o`", {("rec", "a"): False, ("w",): False}),
        ("WITH c AS (SELECT MIN(CONCAT(COALESCE(s, ''), '/', COALESCE(r, ''))) AS x FROM `t`) "
         "SELECT SPLIT(x, '/')[SAFE_OFFSET(1)] AS k FROM c", {("r",): False}),
        ("SELECT COUNT(*) AS k FROM `t` WHERE s = 'b'", {}),
    ],
)  # fmt: skip
def test_where_values_come_from(sql: str, expected: dict[Path, bool]) -> None:
    assert origins(statement(sql))["k"] == {Origin(path, computed) for path, computed in expected.items()}


def texts() -> Iterator[tuple[str, str]]:
    """Every description, with its place."""

    def walk(place: str, columns: tuple[Column, ...]) -> Iterator[tuple[str, str]]:
        for column in columns:
            yield f"{place}.{column.name}", column.description
            yield from walk(f"{place}.{column.name}", column.fields)

    schemas = {name: table.schema for name, table in CATALOG.indices.items()}
    for name, schema in (schemas | {name: table.schema for name, table in CATALOG.derived.items()}).items():
        yield name, schema.description
        yield from walk(name, schema.columns)


def test_missing_values_are_called_null() -> None:
    assert [place for place, text in texts() if re.search(r"\b(empty|blank|missing values?|None|null)\b", text)] == []


TOLD = [
    ("idc_index.analysis_result_id", ["NULL for original images", "analysis_result_id IS NULL"]),
    ("idc_index.BodyPartExamined", ["SEG", "RTSTRUCT", "NULL for modality SM", "seg_index", "rtstruct_index"]),
    ("idc_index.transfer_syntax_name", ["not that of TransferSyntaxUID"]),
    ("seg_index.segmented_SeriesInstanceUID", ["NOT IN", "segmented_SeriesInstanceUID IS NOT NULL"]),
    ("rtstruct_index.referenced_SeriesInstanceUID", ["NOT IN", "referenced_SeriesInstanceUID IS NOT NULL"]),
    ("ann_index.referenced_SeriesInstanceUID", ["NOT IN", "referenced_SeriesInstanceUID IS NOT NULL"]),
    ("seg_index", ["not parallel"]),
    ("rtstruct_index", ["not parallel"]),
    ("contrast_index", ["not parallel"]),
    ("mr_index", ["not parallel"]),
    ("sm_index", ["A code and its meaning belong together"]),
    ("prior_versions_index", ["not a record of changes", "series_init_idc_version"]),
    ("volume_geometry_index", [
        "origin_patient + i * PixelSpacing_col_mm * r + j * PixelSpacing_row_mm * c + k * slice_spacing_mm * n",
        "ct_index, mr_index or pt_index", "r x c",
    ]),
    ("volume_geometry_index.slice_spacing_mm", ["not SliceThickness", "NULL unless"]),
    ("volume_geometry_index.origin_patient", ["centre of the first voxel"]),
    ("volume_geometry_index.regularly_spaced_3d_volume", ["FALSE if", "otherwise NULL if", "otherwise TRUE"]),
    ("volume_geometry_index.uniform_slice_spacing", ["less than 1 %", "FALSE if all slices are at one position"]),
    *((f"{index}.SliceThickness", ["slice_spacing_mm"]) for index in ("ct_index", "mr_index", "pt_index")),
]  # fmt: skip


@pytest.mark.parametrize(("place", "caveats"), TOLD, ids=[place for place, _ in TOLD])
def test_caveats_are_told_where_they_matter(place: str, caveats: list[str]) -> None:
    text = dict(texts())[place]
    assert [caveat for caveat in caveats if caveat not in text] == []


@pytest.mark.parametrize("index", BUNDLED)
def test_a_code_and_its_meaning_name_each_other(index: str) -> None:
    columns = {column.name: column.description for column in CATALOG.indices[index].schema.columns}
    for name, text in columns.items():
        prefix = re.sub("_(code_designator_value_str|code)$", "", name)
        if prefix != name:
            meaning = f"{prefix}_CodeMeaning"
            assert meaning in text
            assert name in columns[meaning]


def test_descriptions_are_in_the_schema_files_as_text() -> None:
    """Not as escapes, which nobody can review."""
    for name in BUNDLED:
        path = CATALOG.indices[name].path
        text = path.read_text(encoding="utf-8")
        assert text == json.dumps(json.loads(text), indent=2, ensure_ascii=False) + "\n"
