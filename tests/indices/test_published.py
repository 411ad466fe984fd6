"""What is built from the published data, turned back into source tables, is what was published: every cell."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from idc_indexer.cli import main
from idc_indexer.documents import bundled
from tests.conftest import IN_WHEEL, INDICES, PUBLISHED, Run, contents, once, rows
from tests.support.reference.job import literal
from tests.support.reference_export import export

SERIES = {100: 10_464, 20: 52_299}
"""How many of the 1,044,191 series the export has, by one in how many it takes. It has all of everything else. One in
100, with the tables and columns that the data wheel's indices read, takes a third of the time of one in 20 with all."""
SMALL = ["analysis_results_index", "collections_index", "version_metadata_index"]


def plain(kind: pa.DataType) -> pa.DataType:
    """The type, whether its text has 32-bit offsets or 64-bit ones."""
    if isinstance(kind, pa.StructType):
        return pa.struct([field.with_type(plain(field.type)) for field in kind])
    if isinstance(kind, pa.ListType):
        return pa.list_(plain(kind.value_type))
    return pa.string() if pa.types.is_large_string(kind) else kind


def as_ours(table: pa.Table) -> pa.Table:
    schema = pa.schema([field.with_type(plain(field.type)) for field in table.schema])
    return table.replace_schema_metadata(None).cast(schema)


def read(folder: Path, index: str) -> pa.Table:
    return as_ours(pq.read_table(folder / f"{index}.parquet"))


def kept_series(published: Path, one_in: int) -> pa.Table:
    """The published rows of the series that the export has, in the published order."""
    with duckdb.connect() as connection:
        relation = connection.sql(f"""
            SELECT * EXCLUDE (file_row_number)
            FROM read_parquet({literal(published / "idc_index.parquet")}, file_row_number = true)
            WHERE md5_number_upper(SeriesInstanceUID) % {one_in} = 0
            ORDER BY file_row_number
        """)
        return as_ours(relation.to_arrow_table())


def equal(built: pa.Table, expected: pa.Table) -> None:
    """Equal in column order, types, number and order of rows and in every cell; else the first difference is named."""
    assert built.schema.names == expected.schema.names
    assert built.schema.types == expected.schema.types
    assert built.num_rows == expected.num_rows
    for name in built.schema.names:
        if not built[name].equals(expected[name]):
            pairs = zip(built[name].to_pylist(), expected[name].to_pylist(), strict=True)
            row, (ours, theirs) = next((row, pair) for row, pair in enumerate(pairs) if pair[0] != pair[1])
            pytest.fail(f"{name}, row {row}: {ours!r} was built, {theirs!r} is published")


@pytest.fixture(scope="session", params=[100, pytest.param(20, marks=pytest.mark.slow)], ids="one in {}".format)
def one_in(request: pytest.FixtureRequest) -> int:
    number: int = request.param
    return number


@pytest.fixture(scope="session")
def exported(one_in: int, published: Path, shared: Path) -> Path:
    def make(folder: Path) -> None:
        export(published, folder / "export", one_in=one_in, shards=4, attributes=one_in == 20)

    return once(shared / f"published_export_{one_in}", make) / "export"


@pytest.fixture(scope="session")
def built(one_in: int, exported: Path, shared: Path) -> Path:
    """The indices of the data wheel, or all of them, built from the export."""

    def make(folder: Path) -> None:
        options = ["--idc-version", "25", "--release-version", PUBLISHED, "--cache-dir", f"{folder}/cache"]
        indices = [] if one_in == 20 else IN_WHEEL
        arguments = ["build", *indices, "--source", str(exported), "--out", f"{folder}/release", *options]
        result = CliRunner().invoke(main, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.stderr

    return once(shared / f"published_release_{one_in}", make) / "release"


def test_idc_index(one_in: int, built: Path, published: Path) -> None:
    expected = kept_series(published, one_in)
    assert expected.num_rows == SERIES[one_in]
    equal(read(built, "idc_index"), expected)


def test_prior_versions_index(built: Path, published: Path) -> None:
    """The published order leaves ties open; ours continues with the key."""
    ours, theirs = read(built, "prior_versions_index"), read(published, "prior_versions_index")
    assert theirs.num_rows == 82_428
    order = ["collection_id", "min_idc_version", "Modality"]
    assert ours.select(order).equals(theirs.select(order))
    equal(
        ours.take(pc.sort_indices(ours, [(name, "ascending") for name in ours.schema.names])),
        theirs.take(pc.sort_indices(theirs, [(name, "ascending") for name in theirs.schema.names])),
    )


Step = Callable[..., Path]


@pytest.fixture
def step(built: Path, exported: Path, run: Run, tmp_path: Path) -> Step:
    """A release of the export with the indices that read prior releases, of which the cache has the extracts."""

    def step(release: int, name: str, *options: object) -> Path:
        version = PUBLISHED if release == 25 else f"{release}.0.0"
        where = ("--source", exported, "--cache-dir", built.parent / "cache", "--out", tmp_path / name)
        result = run("build", "prior_versions_index", "series_history", *where, "--release-version", version, *options)
        assert result.exit_code == 0, result.stderr
        return tmp_path / name

    return step


def same(ours: Path, theirs: Path, *indices: str) -> None:
    for index in indices:
        assert (ours / f"{index}.parquet").read_bytes() == (theirs / f"{index}.parquet").read_bytes()


def test_on_a_history(built: Path, step: Step) -> None:
    jump = step(25, "25", "--history", step(20, "20"))
    same(jump, built, "prior_versions_index")


@pytest.mark.slow
def test_each_release_on_the_history_of_the_one_before(built: Path, step: Step) -> None:
    last = step(2, "2")
    for release in range(3, 26):
        last = step(release, f"on-{release}", "--history", last)
        same(last, step(release, f"{release}"), "prior_versions_index", "series_history")
    same(last, built, "prior_versions_index")


@pytest.mark.parametrize("index", SMALL)
def test_small_indices(index: str, built: Path, published: Path) -> None:
    equal(read(built, index), read(published, index))


def test_provenance_that_is_unknown_stays_unknown(built: Path) -> None:
    sources = [source for row in rows(built, "collections_index") for source in row["sources"]]
    assert len(sources) == 308
    assert sum(source["provenance"] is None for source in sources) == 92


def test_release_is_whole(built: Path, run: Run) -> None:
    assert run("verify", built).stdout == f"{built}: OK\n"


@pytest.mark.parametrize("threads", [1, 8])
def test_same_bytes_on_any_threads(threads: int, built: Path, exported: Path, run: Run, tmp_path: Path) -> None:
    where = ("--source", exported, "--out", tmp_path / "release", "--cache-dir", built.parent / "cache")
    options = ("--idc-version", 25, "--release-version", PUBLISHED, "--threads", threads, "--memory-limit", "800MB")
    result = run("build", "idc_index", "prior_versions_index", *where, *options)
    assert result.exit_code == 0, result.stderr
    again, before = contents(tmp_path / "release"), contents(built)
    # not manifest and descriptions, which tell of fewer tables
    names = [name for name in again if name.startswith(("idc_index", "prior_versions_index"))]
    assert len(names) == 8
    assert {name: before[name] for name in names} == {name: again[name] for name in names}


def without(value: Any, fields: set[str]) -> Any:
    """A nested value without some of its fields."""
    if isinstance(value, list):
        return [without(item, fields) for item in value]
    if isinstance(value, dict):
        return {name: without(item, fields) for name, item in value.items() if name not in fields}
    return value


@pytest.mark.parametrize("spelling", [23, 24])
def test_older_spelling(spelling: int, published: Path, run: Run, tmp_path: Path) -> None:
    """Every cell of the columns and fields that the release has is equal, and it has no others."""
    tables = ["original_collections_metadata", "analysis_results_metadata", "version_metadata"]
    export(published, tmp_path / "export", idc_version=spelling, spelling=spelling, tables=tables)
    options = ("--idc-version", spelling, "--release-version", f"{spelling}.0.0")
    result = run("build", *SMALL, "--source", tmp_path / "export", *options, "--out", tmp_path / "release")
    assert result.exit_code == 0, result.stderr
    absent = {"provenance"} | ({"source_id", "source_title", "source_type", "modalities"} if spelling == 23 else set())
    for index in SMALL:
        ours, theirs = read(tmp_path / "release", index), read(published, index)
        columns = [name for name in theirs.schema.names if name != "provenance"]
        assert ours.schema.names == columns
        for name in columns:
            expected = [without(value, absent) for value in theirs[name].to_pylist()]
            assert ours[name].to_pylist() == expected, f"{index}.{name}"
    fields = rows(tmp_path / "release", "collections_index")[0]["sources"][0]
    assert list(fields) == [
        name for name in rows(published, "collections_index")[0]["sources"][0] if name not in absent
    ]
    assert run("verify", tmp_path / "release").exit_code == 0


@pytest.mark.parametrize("index", ["idc_index", *SMALL[:2]])
def test_sample_is_of_published_rows(index: str, sample_release: Path, published: Path) -> None:
    """So the golden facts of the sample are facts about IDC."""
    ours, theirs = read(sample_release, index), pq.read_table(published / f"{index}.parquet", filters=None)
    key = {"idc_index": "SeriesInstanceUID", "collections_index": "collection_id"}.get(index, "analysis_result_id")
    chosen = pa.compute.is_in(theirs[key], ours[key].cast(theirs[key].type))
    equal(ours, as_ours(theirs.filter(chosen)))


# --- Descriptions -------------------------------------------------------------------------------------------


def descriptions(document: dict[str, Any]) -> dict[str, str]:
    """All descriptions of a schema document, by path."""

    def walk(fields: list[dict[str, Any]], path: str) -> dict[str, str]:
        found = {}
        for field in fields:
            found[f"{path}{field['name']}"] = field["description"]
            found |= walk(field.get("fields", []), f"{path}{field['name']}.")
        return found

    return {"": document["table_description"]} | walk(document["columns"], "")


def words(text: str) -> str:
    return " ".join("".join(c if c.isalnum() else " " for c in text.lower()).split())


@pytest.mark.parametrize("index", INDICES)
def test_descriptions_are_our_own(index: str, published: Path) -> None:
    ours = descriptions(json.loads((bundled("schemas") / f"{index}.json").read_text()))
    every = [descriptions(json.loads(path.read_text())) for path in published.glob("*_schema.json")]
    theirs = {words(text) for document in every for text in document.values()}
    assert len(theirs) > 100
    assert {path: text for path, text in ours.items() if words(text) in theirs} == {}
    document = json.loads((published / f"{index}_schema.json").read_text())
    published_columns = [column["name"] for column in document["columns"]]
    assert [path for path in ours if path and "." not in path] == published_columns
