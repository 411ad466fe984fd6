"""Arrow: rows are made to fit the schema where they mean the same, and refused with the column named where not."""

from __future__ import annotations

import re
from datetime import datetime, time, timezone
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idc_indexer.errors import IndexerError
from idc_indexer.schema.arrow import arrow_schema, arrow_type, conform, mismatch
from idc_indexer.schema.column import Column
from tests.support.strategies import record, stored, table_of

PLACE = (Column("city", "STRING"), Column("codes", "INTEGER", "REPEATED"))
COLUMNS = (
    Column("id", "INTEGER", "REQUIRED"),
    Column("text", "STRING"),
    Column("share", "FLOAT"),
    Column("flag", "BOOLEAN"),
    Column("words", "STRING", "REPEATED"),
    Column("place", "RECORD", fields=PLACE),
    Column("places", "RECORD", "REPEATED", fields=(*PLACE, Column("deep", "RECORD", "REPEATED", fields=PLACE))),
)
TEXT, WORDS, PLACES = (
    Column("c", "STRING"),
    Column("c", "STRING", "REPEATED"),
    Column("c", "RECORD", "REPEATED", fields=PLACE),
)
ROW = record(COLUMNS, {"id": st.integers(-(2**63), 2**63 - 1)})


def one(field: Column, array: pa.Array[Any]) -> pa.Array[Any]:
    """A column made to fit."""
    batch = conform(pa.RecordBatch.from_arrays([array], [field.name]), (field,), "it")
    batch.validate(full=True)
    assert batch.schema == arrow_schema([field])
    return batch.column(0)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("STRING", "ä\0\U0001f600"),
        ("INTEGER", -(2**63)),
        ("FLOAT", -0.5),
        ("BOOLEAN", True),
        ("DATE", datetime(1, 1, 1).date()),
        ("TIME", time(23, 59, 59, 999_999)),
        ("TIMESTAMP", datetime(9999, 12, 31, tzinfo=timezone.utc)),
        ("DATETIME", datetime(1969, 12, 31, 23, 59, 59, 1)),
        ("NUMERIC", Decimal("-12345678901234567890123456789.123456789")),
    ],
)
def test_every_type_holds_its_values(kind: str, value: Any) -> None:
    field = Column("c", kind)
    assert one(field, pa.array([value, None], arrow_type(field))).to_pylist() == [value, None]


def test_only_required_columns_are_not_nullable() -> None:
    schema = arrow_schema(COLUMNS)
    assert [field.name for field in schema if not field.nullable] == ["id"]
    assert schema.field("places").type == pa.list_(
        pa.struct(
            [
                ("city", pa.string()),
                ("codes", pa.list_(pa.int64())),
                ("deep", pa.list_(pa.struct([("city", pa.string()), ("codes", pa.list_(pa.int64()))]))),
            ]
        )
    )


@settings(deadline=None)
@given(st.lists(ROW, max_size=6), st.data())
def test_rows_are_kept_whatever_slice_they_come_in(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    whole = table_of(COLUMNS, rows).combine_chunks().to_batches() or [
        pa.RecordBatch.from_pylist([], arrow_schema(COLUMNS))
    ]
    start = data.draw(st.integers(0, len(rows)))
    stop = data.draw(st.integers(start, len(rows)))
    kept = conform(whole[0].slice(start, stop - start), COLUMNS, "it")
    kept.validate(full=True)
    assert kept.schema == arrow_schema(COLUMNS)
    assert repr(kept.to_pylist()) == repr(stored(COLUMNS, rows[start:stop]))


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()], ids=str)
def test_representations_of_text(kind: pa.DataType) -> None:
    values = ["", None, "a long one, longer than twelve bytes"]
    assert one(TEXT, pa.array(values, kind)).to_pylist() == values
    assert one(WORDS, pa.array([["a"], None, []], pa.large_list(kind))).to_pylist() == [["a"], [], []]
    assert one(WORDS, pa.array([[], ["a", "b"]], pa.list_(kind)).slice(1)).to_pylist() == [["a", "b"]]


def test_shorter_integers_are_integers() -> None:
    assert one(Column("c", "INTEGER"), pa.array([1, None, -(2**31)], pa.int32())).to_pylist() == [1, None, -(2**31)]


def test_a_null_array_is_empty_even_when_its_slot_is_not() -> None:
    array = pa.ListArray.from_arrays([0, 2, 3, 5], ["a", "b", "c", "d", "e"], mask=pa.array([False, True, False]))
    assert len(array.values) == 5
    assert one(WORDS, array).to_pylist() == [["a", "b"], [], ["d", "e"]]
    places = pa.StructArray.from_arrays([pa.array(["x"] * 5), array.take([0, 1, 2, 1, 0])], ["city", "codes"])
    codes = places.cast(pa.struct([("city", pa.string()), ("codes", pa.list_(pa.string()))]))
    nested = pa.ListArray.from_arrays([0, 2, 5], codes, mask=pa.array([False, True]))
    field = Column("c", "RECORD", "REPEATED", fields=(Column("city", "STRING"), Column("codes", "STRING", "REPEATED")))
    x = {"city": "x", "codes": ["a", "b"]}
    assert one(field, nested).to_pylist() == [[x, {"city": "x", "codes": []}], []]


def test_a_null_record_stays_null_and_hides_what_lies_beneath() -> None:
    array = pa.StructArray.from_arrays(
        [pa.array(["hidden", "b"]), pa.array([[1], None], pa.list_(pa.int64()))],
        ["city", "codes"],
        mask=pa.array([True, False]),
    )
    assert one(COLUMNS[5], array).to_pylist() == [None, {"city": "b", "codes": []}]
    required = Column("c", "RECORD", fields=(Column("city", "STRING", "REQUIRED"),))
    empty = pa.StructArray.from_arrays([pa.array([None, "b"])], ["city"], mask=pa.array([True, False]))
    assert one(required, empty).to_pylist() == [None, {"city": "b"}]


def test_fields_of_records_come_in_any_order_and_case() -> None:
    kind = pa.list_(pa.struct([("CODES", pa.list_(pa.int64())), ("City", pa.large_string())]))
    assert one(PLACES, pa.array([[{"CODES": [1], "City": "a"}], None], kind)).to_pylist() == [
        [{"city": "a", "codes": [1]}],
        [],
    ]


STRUCT = pa.struct([("city", pa.string()), ("codes", pa.list_(pa.int64()))])


@pytest.mark.parametrize(
    ("field", "array", "message"),
    [
        (TEXT, pa.array([1]), r"column c is int64, the schema says STRING"),
        (TEXT, pa.array([b"a"]), r"column c is binary, the schema says STRING"),
        (TEXT, pa.array(["a"]).dictionary_encode(), r"column c is dictionary.*, the schema says STRING"),
        (TEXT, pa.array([["a"]]), r"column c is list.*, the schema says STRING"),
        (TEXT, pa.nulls(2), r"column c is null, the schema says STRING"),
        (Column("c", "INTEGER"), pa.array([1], pa.uint64()), r"column c is uint64, the schema says INTEGER"),
        (Column("c", "INTEGER"), pa.array([1.0]), r"column c is double, the schema says INTEGER"),
        (Column("c", "INTEGER"), pa.array([Decimal(1)]), r"column c is decimal.*, the schema says INTEGER"),
        (Column("c", "FLOAT"), pa.array([1]), r"column c is int64, the schema says FLOAT"),
        (Column("c", "DATE"), pa.array([datetime(2020, 1, 1)]), r"column c is timestamp.*, the schema says DATE"),
        (
            Column("c", "TIMESTAMP"),
            pa.array([datetime(2020, 1, 1)]),
            r"column c is timestamp\[us\], the schema .* TIMESTAMP",
        ),
        (Column("c", "STRING", "REQUIRED"), pa.array(["a", None]), r"column c is REQUIRED and has 1 NULLs"),
        (WORDS, pa.array(["a"]), r"column c is string, the schema says array of STRING"),
        (WORDS, pa.array([[1]]), r"column c is int64, the schema says STRING"),
        (WORDS, pa.array([["a"], ["b", None]]), r"column c has NULL inside an array"),
        (PLACES, pa.array([[None]], pa.list_(STRUCT)), r"column c has NULL inside an array"),
        (PLACES, pa.array([[{"codes": [None]}]], pa.list_(STRUCT)), r"column c\.codes has NULL inside an array"),
        (PLACES, pa.array([["a"]]), r"column c is string, the schema says RECORD"),
        (PLACES, pa.array([[{"city": "a"}]]), r"column c has the fields \['city'\], the schema \['city', 'codes'\]"),
        (PLACES, pa.array([[{"city": "a", "codes": [1], "x": 1}]]), r"column c has the fields .*'x'"),
        (PLACES, pa.array([[{"city": 1, "codes": [1]}]]), r"column c\.city is int64, the schema says STRING"),
    ],
)
def test_what_does_not_mean_the_same_is_refused(field: Column, array: pa.Array[Any], message: str) -> None:
    with pytest.raises(IndexerError, match=f"^it: {message}"):
        one(field, array)


def test_a_null_inside_an_array_is_found_only_where_it_is() -> None:
    array = pa.array([["a"], [None], ["b"]])
    with pytest.raises(IndexerError, match="NULL inside"):
        one(WORDS, array)
    assert one(WORDS, array.slice(2)).to_pylist() == [["b"]]
    hidden = pa.ListArray.from_arrays(array.offsets, array.values, mask=pa.array([False, True, False]))
    assert one(WORDS, hidden).to_pylist() == [["a"], [], ["b"]]


@pytest.mark.parametrize("names", [["a"], ["a", "b", "c"], ["b", "a"], ["A", "b"], ["a", "a"]])
def test_other_columns_are_refused(names: list[str]) -> None:
    batch = pa.RecordBatch.from_arrays([pa.array(["x"])] * len(names), names)
    with pytest.raises(IndexerError, match=r"it: the result has columns \[.*\], the schema \['a', 'b'\]"):
        conform(batch, (Column("a", "STRING"), Column("b", "STRING")), "it")


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        (
            pa.list_(
                pa.struct([("codes", pa.large_list(pa.int64())), ("more", pa.int8()), ("City", pa.large_string())])
            ),
            "",
        ),
        (STRUCT, "is struct.*, expected an array of RECORD"),
        (pa.list_(pa.string()), "is string, expected a record"),
        (pa.list_(pa.struct([("city", pa.string())])), "has no field codes"),
        (
            pa.list_(pa.struct([("city", pa.int64()), ("codes", pa.list_(pa.int64()))])),
            "field city is int64, .* STRING",
        ),
        (
            pa.list_(pa.struct([("city", pa.string()), ("codes", pa.int64())])),
            "field codes is int64, expected an array.*",
        ),
    ],
)
def test_the_type_of_a_source_column(kind: pa.DataType, problem: str) -> None:
    assert re.fullmatch(problem, mismatch(kind, PLACES))
