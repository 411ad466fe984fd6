"""Arrow types of BigQuery columns, and the one function that converts rows to them.

The engines return rows in the types of their client libraries. `conform` accepts only types of the same meaning and
refuses all others, so the same rows are the same Arrow data from either engine.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from idc_indexer.errors import IndexerError
from idc_indexer.schema.column import Column

_TYPES: dict[str, pa.DataType] = {
    "STRING": pa.string(),
    "INTEGER": pa.int64(),
    "FLOAT": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "DATE": pa.date32(),
    "TIME": pa.time64("us"),
    "TIMESTAMP": pa.timestamp("us", tz="UTC"),
    "DATETIME": pa.timestamp("us"),
    "NUMERIC": pa.decimal128(38, 9),
}


def arrow_type(field: Column) -> pa.DataType:
    """The Arrow type of a column, without its mode REQUIRED."""
    kind: pa.DataType = _TYPES[field.type] if not field.fields else pa.struct(map(arrow_field, field.fields))
    return pa.list_(kind) if field.mode == "REPEATED" else kind


def arrow_field(field: Column) -> pa.Field[Any]:
    """The Arrow field of a column, with its description as metadata; nullable unless the column is REQUIRED."""
    about = {"description": field.description} if field.description else None
    return pa.field(field.name, arrow_type(field), nullable=field.mode != "REQUIRED", metadata=about)


def arrow_schema(columns: Iterable[Column]) -> pa.Schema:
    """The Arrow schema of a table."""
    return pa.schema([arrow_field(column) for column in columns])


def file_schema(columns: Iterable[Column], derived: bool = False) -> pa.Schema:
    """The Arrow schema of a Parquet file of a release.

    Text columns of an index have 64-bit offsets, as in pandas, which reads all of idc_index in 0.36 s; with 32-bit
    offsets in 0.56 s (each in a process of its own). Text in records and arrays has 32-bit offsets, as in the files
    of idc-index-data up to 25.0.5, so that tables of old and new releases can be concatenated.

    Args:
        derived: whether it is a derived table. All its text has 32-bit offsets: the TCIA Data Retriever, in Go, casts
            the columns of these tables to `array.String`.
    """
    schema = arrow_schema(columns)
    if derived:
        return schema
    return pa.schema(
        [field.with_type(pa.large_string()) if pa.types.is_string(field.type) else field for field in schema]
    )


def mismatch(kind: pa.DataType, field: Column) -> str:
    """How the type of a column in a file differs from the expected one; "" when it does not.

    Fields of a record are found regardless of case and order, as in both engines; other fields are ignored.
    """
    if field.mode == "REPEATED":
        if not pa.types.is_list(kind) and not pa.types.is_large_list(kind):
            return f"is {kind}, expected an array of {field.type}"
        kind = kind.value_type
    if field.type == "RECORD":
        if not pa.types.is_struct(kind):
            return f"is {kind}, expected a record"
        present = {child.name.lower(): child.type for child in kind}
        for child in field.fields:
            if child.name.lower() not in present:
                return f"has no field {child.name}"
            if problem := mismatch(present[child.name.lower()], child):
                return f"field {child.name} {problem}"
        return ""
    return "" if _plain(kind).equals(_TYPES[field.type]) else f"is {kind}, expected {field.type}"


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type without differences of representation: text with 32-bit offsets, integers of 64 bits."""
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    return pa.int64() if pa.types.is_signed_integer(kind) else kind


def conform(batch: pa.RecordBatch, columns: tuple[Column, ...], context: str) -> pa.RecordBatch:
    """The rows of a result, in exactly the types of the columns.

    A NULL array becomes an empty one, as BigQuery stores it; fields of records get the order and case of the schema.

    Args:
        context: the index, for messages.

    Raises:
        IndexerError: a column too many or too few, a column of another type, or NULL in a REQUIRED column.
    """
    expected = [column.name for column in columns]
    if batch.schema.names != expected:
        raise IndexerError(f"{context}: the result has columns {batch.schema.names}, the schema {expected}")
    pairs = zip(batch.columns, columns, strict=True)
    arrays = [_conform(array, column, f"{context}: column {column.name}") for array, column in pairs]
    return pa.RecordBatch.from_arrays(arrays, schema=arrow_schema(columns))


def _conform(array: pa.Array[Any], field: Column, context: str, hidden: int = 0) -> pa.Array[Any]:
    """Convert one column.

    Args:
        hidden: how many of its NULLs stand for a record that is NULL itself.
    """
    if field.mode == "REPEATED":
        kind = array.type
        if not pa.types.is_list(kind) and not pa.types.is_large_list(kind):
            raise IndexerError(f"{context} is {kind}, the schema says array of {field.type}")
        lengths = pc.fill_null(pc.list_value_length(array), 0)
        offsets = pa.concat_arrays([pa.array([0], pa.int64()), pc.cumulative_sum(lengths.cast(pa.int64()))])
        values = pc.list_flatten(array)
        if values.null_count:
            raise IndexerError(f"{context} has NULL inside an array")
        return pa.ListArray.from_arrays(offsets.cast(pa.int32()), _conform_value(values, field, context))
    if field.mode == "REQUIRED" and (nulls := array.null_count - hidden):
        raise IndexerError(f"{context} is REQUIRED and has {nulls} NULLs")
    return _conform_value(array, field, context)


def _conform_value(array: pa.Array[Any], field: Column, context: str) -> pa.Array[Any]:
    if field.type != "RECORD":
        if not _plain(array.type).equals(_TYPES[field.type]):
            raise IndexerError(f"{context} is {array.type}, the schema says {field.type}")
        return _one_zero(array) if field.type == "FLOAT" else array.cast(_TYPES[field.type])
    if not pa.types.is_struct(array.type):
        raise IndexerError(f"{context} is {array.type}, the schema says RECORD")
    # A query that selects a whole record returns the source's field names; BigQuery ignores their case.
    place = {child.name.lower(): number for number, child in enumerate(array.type)}
    if place.keys() != {child.name.lower() for child in field.fields}:
        present, expected = [child.name for child in array.type], [child.name for child in field.fields]
        raise IndexerError(f"{context} has the fields {present}, the schema {expected}")
    children = [
        _conform(
            pc.struct_field(array, [place[child.name.lower()]]), child, f"{context}.{child.name}", array.null_count
        )
        for child in field.fields
    ]
    arrow_fields = [arrow_field(child) for child in field.fields]
    return pa.StructArray.from_arrays(children, fields=arrow_fields, mask=array.is_null())


def _one_zero(array: pa.Array[Any]) -> pa.Array[Any]:
    """FLOAT with one zero and one NaN: SQL does not distinguish them, so engines may return either."""
    array = pc.add(array, 0.0)
    unknown = pc.is_nan(array)
    return pc.if_else(unknown, math.nan, array) if pc.any(unknown).as_py() else array
