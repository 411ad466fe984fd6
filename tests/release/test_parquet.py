"""The writer: same rows, same bytes, exactly the schema, and nothing left behind when it fails."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from idc_indexer.catalog import Catalog
from idc_indexer.errors import IndexerError
from idc_indexer.release import parquet
from idc_indexer.release.parquet import VERSION_KEY, Written, write_parquet
from idc_indexer.schema.arrow import file_schema
from idc_indexer.schema.column import Column
from idc_indexer.schema.table import Schema
from tests.support.strategies import record, stored, table_of

COLUMNS = (
    Column("id", "INTEGER", "REQUIRED"),
    Column("text", "STRING", description="what it says", encoding="PLAIN", bloom_filter=0.5),
    Column("share", "FLOAT", encoding="PLAIN"),
    Column("words", "STRING", "REPEATED"),
    Column(
        "places",
        "RECORD",
        "REPEATED",
        fields=(
            Column("city", "STRING", "REQUIRED"),
            Column("codes", "INTEGER", "REPEATED"),
            Column("flag", "BOOLEAN"),
        ),
    ),
)
DELTAS = {"DELTA_BINARY_PACKED", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY", "BYTE_STREAM_SPLIT"}
"""Encodings that readers in use cannot read: Spark before 3.3, fastparquet."""
INDEX = Schema("One row for each it.", "it", COLUMNS, ("id",), ("id",), (), False)
GROUP = 7
ROWS = st.lists(record(COLUMNS, {"id": st.integers(0, 9), "city": st.sampled_from(["a", "b"])}), max_size=30)


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP_ROWS", GROUP)


def write(path: Path, batches: Iterator[pa.RecordBatch] | list[pa.RecordBatch], version: str = "25.0.0") -> Written:
    return write_parquet(batches, INDEX, path, version=version, context="it")


def rows_from(first: int, number: int) -> pa.RecordBatch:
    rows = [{"id": row, "text": str(row), "words": ["x"] * (row % 3)} for row in range(first, first + number)]
    return table_of(COLUMNS, rows).to_batches()[0]


@pytest.mark.usefixtures("small_groups")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(ROWS, st.data())
def test_same_rows_same_bytes(tmp_path: Path, rows: list[dict[str, Any]], data: st.DataObject) -> None:
    rows = [row | {"id": number} for number, row in enumerate(rows)]
    table = table_of(COLUMNS, rows)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=6)))
    pieces = zip([0, *cuts], [*cuts, len(rows)], strict=True)
    batches = [b for start, stop in pieces for b in table.slice(start, stop - start).combine_chunks().to_batches()]
    whole = write(tmp_path / "whole.parquet", table.to_batches())
    assert write(tmp_path / "pieces.parquet", batches) == whole
    content = (tmp_path / "pieces.parquet").read_bytes()
    assert content == (tmp_path / "whole.parquet").read_bytes()
    assert whole == Written(len(rows), len(content), hashlib.sha256(content).hexdigest())
    read = pq.read_table(tmp_path / "whole.parquet").to_pylist()
    assert repr(read) == repr(stored(COLUMNS, rows))


@pytest.mark.usefixtures("small_groups")
@pytest.mark.parametrize(
    ("batches", "groups"),
    [
        ([], []),
        ([1], [1]),
        ([7], [7]),
        ([3, 4, 7], [7, 7]),
        ([20], [7, 7, 6]),
        ([1] * 15, [7, 7, 1]),
        ([6, 0, 2], [7, 1]),
    ],
)
def test_row_groups_have_their_size(tmp_path: Path, batches: list[int], groups: list[int]) -> None:
    starts = [sum(batches[:number]) for number in range(len(batches))]
    written = write(
        tmp_path / "a.parquet",
        [rows_from(0, 9).slice(0, 0) if not n else rows_from(s, n) for s, n in zip(starts, batches, strict=True)],
    )
    metadata = pq.read_metadata(tmp_path / "a.parquet")
    assert [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)] == groups
    assert written.rows == metadata.num_rows == sum(batches)
    assert pq.read_table(tmp_path / "a.parquet")["id"].to_pylist() == list(range(sum(batches)))


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    first = write(tmp_path / "a.parquet", [rows_from(0, 5)], version="25.0.1rc1")
    file = pq.ParquetFile(tmp_path / "a.parquet")
    assert (file.metadata.metadata or {})[VERSION_KEY] == b"25.0.1rc1"
    assert VERSION_KEY == b"idc_index_data_version"
    assert file.schema_arrow.equals(file_schema(COLUMNS))
    assert [field.name for field in file.schema_arrow if not field.nullable] == ["id"]
    assert not file.schema_arrow.field("places").type.value_type.field("city").nullable
    group = file.metadata.row_group(0)
    assert {group.column(number).compression for number in range(group.num_columns)} == {"ZSTD"}
    assert first.sha256 != write(tmp_path / "b.parquet", [rows_from(0, 5)], version="25.0.1").sha256


def test_the_layout_is_what_the_columns_say(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", [rows_from(0, 100)])
    file = pq.ParquetFile(tmp_path / "a.parquet")
    group = file.metadata.row_group(0)
    columns = {(column := group.column(number)).path_in_schema: column for number in range(group.num_columns)}
    held = {name: set(column.encodings) & ({"PLAIN", "RLE_DICTIONARY"} | DELTAS) for name, column in
            columns.items()}  # fmt: skip
    dictionary = {"PLAIN", "RLE_DICTIONARY"}  # a dictionary is itself held plainly
    assert held == {
        "id": dictionary,
        "text": {"PLAIN"},
        "share": {"PLAIN"},
        "words.list.element": dictionary,
        **dict.fromkeys(columns.keys() - {"id", "text", "share", "words.list.element"}, dictionary),
        "places.list.element.flag": {"PLAIN"},  # bits need no dictionary
    }
    assert {name for name, column in columns.items() if column.to_dict().get("bloom_filter_offset")} == {"text"}
    assert all(column.is_stats_set for column in columns.values())
    assert (file.schema_arrow.field("text").metadata or {})[b"description"] == b"what it says"
    assert (file.metadata.metadata or {})[b"description"] == b"One row for each it."


@pytest.mark.parametrize("name", Catalog().indices)
def test_every_index_can_be_laid_out(name: str, tmp_path: Path) -> None:
    """Names of leaves that no column has would be passed over without a word."""
    index = Catalog().indices[name].schema
    kinds: dict[str, Any] = {"STRING": "x", "INTEGER": 1, "FLOAT": 1.0}
    key = {column.name: kinds[column.type] for column in index.columns if column.name in index.primary_key}
    rows = table_of(index.columns, [key]).to_batches()
    write_parquet(rows, index, tmp_path / "a.parquet", version="25.0.0", context=name)
    schema = pq.read_metadata(tmp_path / "a.parquet").schema
    leaves = [schema.column(number).path for number in range(len(schema))]
    assert leaves == [path for column in index.columns for path in parquet.leaves(column)]


def test_bytes_do_not_depend_on_batches_threads_or_place(tmp_path: Path) -> None:
    """Enough rows for several pages: where they end must not follow the batches."""
    rows = [{"id": row, "text": f"{row * 7919 % 65_537:0100}", "words": ["x"] * (row % 3)} for row in range(30_000)]
    whole = table_of(COLUMNS, rows).combine_chunks()
    digests = set()
    threads = pa.cpu_count()
    for number in (1, 2, 8):
        pa.set_cpu_count(number)
        (folder := tmp_path / f"it's {number}").mkdir()
        digests.add(write(folder / "ä.parquet", whole.to_batches(max_chunksize=30_000 // number + 7)).sha256)
    pa.set_cpu_count(threads)
    assert len(digests) == 1


def test_a_file_is_replaced_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"before")

    def batches() -> Iterator[pa.RecordBatch]:
        yield rows_from(0, 5)
        assert path.read_bytes() == b"before"

    write(path, batches())
    assert pq.read_metadata(path).num_rows == 5
    assert list(tmp_path.iterdir()) == [path]


def spoiled(column: str, array: pa.Array[Any]) -> pa.RecordBatch:
    """A batch whose column is another one."""
    good = rows_from(0, len(array))
    place = good.schema.names.index(column)
    return pa.RecordBatch.from_arrays(
        [array if number == place else good.column(number) for number in range(good.num_columns)], good.schema.names
    )


PLACE = pa.struct([("city", pa.string()), ("codes", pa.list_(pa.int64())), ("flag", pa.bool_())])


@pytest.mark.usefixtures("small_groups")
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (spoiled("id", pa.array([1, None])), "column id is REQUIRED and has 1 NULLs"),
        (spoiled("id", pa.array([1.0])), "column id is double"),
        (spoiled("words", pa.array([["a", None]])), "column words has NULL inside an array"),
        (spoiled("places", pa.array([[{"codes": [1]}]], pa.list_(PLACE))), r"column places\.city is REQUIRED"),
        (spoiled("places", pa.array([[{"city": "a"}]])), "column places has the fields"),
        (rows_from(0, 1).drop_columns(["share"]), r"the result has columns .* the schema .*share"),
        (rows_from(0, 1).append_column("more", pa.array([1])), r"the result has columns .*more"),
    ],
)
@pytest.mark.parametrize("before", [0, 1, 20])
def test_a_batch_that_does_not_fit_leaves_nothing_behind(
    tmp_path: Path, bad: pa.RecordBatch, message: str, before: int
) -> None:
    batches = [rows_from(0, before), bad] if before else [bad]
    with pytest.raises(IndexerError, match=f"^it: {message}"):
        write(tmp_path / "a.parquet", batches)
    assert list(tmp_path.iterdir()) == []


def test_an_engine_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        yield rows_from(0, 5)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write(tmp_path / "a.parquet", batches())
    assert list(tmp_path.iterdir()) == []


def test_a_target_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(IndexerError, match="nowhere"):
        write(tmp_path / "nowhere" / "a.parquet", [rows_from(0, 5)])
