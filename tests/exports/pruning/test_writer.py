"""A narrow shard holds what pyarrow reads of those leaf columns from the whole one, whatever is nested in what."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idc_indexer.exports.limits import StagingLimits
from idc_indexer.exports.location import open_location
from idc_indexer.exports.pruning.footer import coalesced, leaf_paths
from idc_indexer.exports.pruning.thrift_compact import Reader
from idc_indexer.exports.pruning.writer import Parts
from idc_indexer.exports.retry import Retrier
from idc_indexer.exports.staged import StagedTable
from idc_indexer.exports.staging import TableStaging
from idc_indexer.schema.source_tables import SourceTable

NAMES = ["a", "B", "c d", "list", "element"]
VALUES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.string(): st.text(max_size=3),
    pa.int64(): st.integers(-3, 3),
    pa.float64(): st.floats(allow_nan=False, width=16),
    pa.bool_(): st.booleans(),
    pa.date32(): st.dates(),
    pa.time64("us"): st.times(),
    pa.decimal128(38, 9): st.decimals(-9, 9, places=9),
}


@st.composite
def kinds(draw: st.DrawFn, depth: int = 2) -> pa.DataType:
    choice = draw(st.sampled_from(["plain", "record", "list"] if depth else ["plain"]))
    if choice == "plain":
        return draw(st.sampled_from(list(VALUES)))
    if choice == "list":
        return pa.list_(draw(kinds(depth - 1)))
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True))
    return pa.struct([pa.field(name, draw(kinds(depth - 1)), draw(st.booleans())) for name in names])


def values(kind: pa.DataType, nullable: bool = True) -> st.SearchStrategy[Any]:
    if pa.types.is_list(kind):
        found: st.SearchStrategy[Any] = st.lists(values(kind.value_type, kind.value_field.nullable), max_size=3)
    elif pa.types.is_struct(kind):
        found = st.fixed_dictionaries({field.name: values(field.type, field.nullable) for field in kind})
    else:
        found = VALUES[kind]
    return st.none() | found if nullable else found


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    kind = draw(
        st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True).flatmap(
            lambda names: st.tuples(*(kinds() for _ in names)).map(lambda of: list(zip(names, of, strict=True)))
        )
    )
    schema = pa.schema([pa.field(name, of) for name, of in kind])
    rows = draw(st.lists(st.fixed_dictionaries({name: values(of) for name, of in kind}), max_size=6))
    return pa.Table.from_pylist(rows, schema)


def read(path: Path, leaves: set[str]) -> list[dict[str, Any]]:
    """The rows of these leaf columns, as pyarrow reads them."""
    with pq.ParquetFile(path) as file:
        names = leaf_paths(file.schema_arrow)
        return file.read(
            [file.schema.column(place).path for place, name in enumerate(names) if name in leaves]
        ).to_pylist()


@settings(max_examples=60, deadline=None)
@given(tables(), st.data())
def test_staged_equals_what_pyarrow_reads(table: pa.Table, data: st.DataObject) -> None:
    """Also when more leaf columns are staged later, and when there are several row groups, or none."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "idc_v25", "x")
        folder.mkdir(parents=True)
        path = folder / "000000000000.parquet"
        group = data.draw(st.integers(1, 6))
        pq.write_table(
            table,
            path,
            row_group_size=group,
            write_time_adjusted_to_utc=True,
            compression=data.draw(st.sampled_from(["none", "snappy", "gzip", "brotli", "zstd", "lz4"])),
            use_dictionary=data.draw(st.booleans()),
            data_page_version=data.draw(st.sampled_from(["1.0", "2.0"])),
        )
        place = open_location(temporary, Retrier(1))
        (shard,) = place.list("idc_v25/x")
        names = sorted(set(leaf_paths(pq.read_schema(path))))
        staged: set[str] = set()
        for _ in range(2):
            staged |= data.draw(st.sets(st.sampled_from(names), min_size=1))
            kept = StagedTable(Path(temporary, "kept"))
            staging = TableStaging(place, SourceTable(25, False, "x"), [shard], kept, staged, StagingLimits())
            with kept.written():
                if staging.missing():
                    staging.schema()
                    staging.stage(shard)
            there = staging.info(shard)
            assert there is not None
            assert (set(there.leaves), there.rows) == (staged, table.num_rows)
            assert not staging.missing()
            assert read(kept.shard(shard), staged) == read(path, staged)
        whole, narrow = (pq.ParquetFile(one).schema for one in (path, kept.shard(shard)))
        logical = {whole.column(leaf).path: str(whole.column(leaf).logical_type) for leaf in range(len(whole))}
        for leaf in range(len(narrow)):
            column = narrow.column(leaf)
            assert str(column.logical_type) == logical[column.path]


def test_every_encoding_is_copied(tmp_path: Path) -> None:
    numbers = range(3000)
    columns: dict[str, tuple[str, list[Any]]] = {
        "DELTA_BINARY_PACKED": ("int64", list(numbers)),
        "DELTA_LENGTH_BYTE_ARRAY": ("string", [f"{number}" for number in numbers]),
        "DELTA_BYTE_ARRAY": ("string", [f"1.2.{number}" for number in numbers]),
        "BYTE_STREAM_SPLIT": ("float64", [number / 7 for number in numbers]),
        "RLE": ("bool", [number % 3 == 0 for number in numbers]),
        "PLAIN": ("timestamp[us]", list(numbers)),
    }
    table = pa.table({name: pa.array(values, kind) for name, (kind, values) in columns.items()})
    folder = tmp_path / "idc_v25" / "x"
    folder.mkdir(parents=True)
    path = folder / "000000000000.parquet"
    pq.write_table(table, path, use_dictionary=False, column_encoding={name: name for name in columns})
    place = open_location(str(tmp_path), Retrier(1))
    kept = StagedTable(tmp_path / "kept")
    staging = TableStaging(
        place, SourceTable(25, False, "x"), place.list("idc_v25/x"), kept, map(str.lower, columns), StagingLimits()
    )
    with kept.written():
        staging.schema()
        staging.stage(*staging.missing())
    (narrow,) = kept.files
    encodings = pq.read_metadata(narrow).row_group(0)
    assert [set(encodings.column(place).encodings) & {name} for place, name in enumerate(columns)] == [
        {name} for name in columns
    ]
    assert pq.read_table(narrow).equals(table)
    assert duckdb.read_parquet(str(narrow)).to_arrow_table().equals(table)


def test_other_rows_are_not_put_together(tmp_path: Path) -> None:
    """What is kept under the name of an object, but is not of it, is fetched anew."""
    folder = tmp_path / "idc_v25" / "x"
    folder.mkdir(parents=True)
    for number, rows in enumerate([[1, 2], [3, 4, 5]]):
        pq.write_table(pa.table({"a": rows, "b": rows}), folder / f"{number:012}.parquet")
    place = open_location(str(tmp_path), Retrier(1))
    shards, kept = place.list("idc_v25/x"), StagedTable(tmp_path / "kept")
    with kept.written():
        for leaves in ({"a"}, {"a", "b"}):
            staging = TableStaging(place, SourceTable(25, False, "x"), shards, kept, leaves, StagingLimits())
            for shard in staging.missing():
                staging.schema()
                staging.stage(shard)
            if leaves == {"a"}:
                kept.shard(shards[0]).write_bytes(kept.shard(shards[1]).read_bytes())
    for shard in shards:
        assert pq.read_table(kept.shard(shard)).equals(pq.read_table(tmp_path / shard.key))


def test_footers_are_read_to_their_ends(tmp_path: Path) -> None:
    """What is passed over has every type of field: statistics, page index, Bloom filters, order, metadata."""
    path = tmp_path / "x.parquet"
    rows = pa.table({f"c{number}": pa.array([[f"\x80{number}"], None]) for number in range(20)} | {"n": [1.5, None]})
    bloom: dict[str, Any] = {"bloom_filter_options": {"n": True}}
    pq.write_table(rows, path, write_page_index=True, row_group_size=1, sorting_columns=[pq.SortingColumn(20)], **bloom)
    data = path.read_bytes()
    footer = data[-8 - int.from_bytes(data[-8:-4], "little") : -8]
    reader = Reader(footer)
    numbers = []
    for number in reader.fields():
        reader.skip()
        numbers.append(number)
    assert numbers == [1, 2, 3, 4, 5, 6, 7]
    assert reader.at == len(footer)


def test_what_was_not_fetched_is_an_error() -> None:
    parts = Parts([(50, memoryview(b"b" * 10)), (10, memoryview(b"a" * 10)), (20, memoryview(b"c" * 5))])
    assert b"".join(parts.read(12, 22)) == b"a" * 8 + b"cc"
    assert not parts.read(70, 70)
    for start, end in ((0, 1), (9, 11), (24, 26), (55, 61), (99, 100)):
        with pytest.raises(ValueError, match="were not fetched"):
            parts.read(start, end)


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(1, 50)), max_size=20), st.integers(0, 400), st.integers(1, 60)
)
def test_ranges_hold_what_is_needed_and_no_more_than_may_be_spared(
    steps: list[tuple[int, int]], spare: int, most: int
) -> None:
    needed, at = [], 0
    for gap, length in steps:
        needed.append((at + gap, at + gap + length))
        at += gap + length
    joined = coalesced(needed, spare, most)
    covered = {byte for start, end in joined for byte in range(start, end)}
    wanted = {byte for start, end in needed for byte in range(start, end)}
    assert wanted <= covered
    assert sum(end - start for start, end in joined) == len(covered) <= len(wanted) + spare
    assert all(end - start <= most for start, end in joined)
    assert len(coalesced(needed, spare, 10**9)) <= len(coalesced(needed, 0, 10**9))
