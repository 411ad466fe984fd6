"""Columns as BigQuery describes them: name, type, mode, description, nested fields.

One class serves the columns of an index and those of a source table. `arrow` has their Arrow types.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

# The schema documents use the type names of BigQuery's API, SQL uses GoogleSQL's: the same types.
# https://cloud.google.com/bigquery/docs/reference/rest/v2/tables#TableFieldSchema.FIELDS.type
_GOOGLESQL_NAMES = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL"}


@dataclass(frozen=True)
class Column:
    """A column or a field of a record.

    Attributes:
        type: BigQuery's name: STRING, INTEGER, FLOAT, BOOLEAN, DATE, TIME, TIMESTAMP, DATETIME, NUMERIC, RECORD.
        mode: NULLABLE, REQUIRED or REPEATED.
        fields: the fields of a RECORD; empty for other types.
        since, until: first and last IDC release that has the column; `until` is None if the newest has it.
        encoding: the Parquet encoding of a column whose values hardly repeat; None for a dictionary.
        bloom_filter: for a column by which readers look up rows: distinct values per row, above 0 and at most 1.
    """

    name: str
    type: str
    mode: str = "NULLABLE"
    description: str = ""
    fields: tuple[Column, ...] = ()
    since: int = 1
    until: int | None = None
    encoding: str | None = None
    bloom_filter: float | None = None

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Column:
        """The column that a (valid) JSON document describes."""
        nested = tuple(cls.from_document(child) for child in document.get("fields", ()))
        return cls(**{**document, "fields": nested})

    def to_document(self) -> dict[str, Any]:
        """The column as published in `_schema.json`: without its releases and its layout in Parquet."""
        document: dict[str, Any] = {
            "name": self.name,
            "type": self.type,
            "mode": self.mode,
            "description": self.description,
        }
        if self.fields:
            document["fields"] = [field.to_document() for field in self.fields]
        return document

    @property
    def googlesql(self) -> str:
        """The type in GoogleSQL, such as `ARRAY<STRUCT<a STRING, b INT64>>`."""
        if self.fields:
            inner = ", ".join(f"{field.name} {field.googlesql}" for field in self.fields)
            name = f"STRUCT<{inner}>"
        else:
            name = _GOOGLESQL_NAMES.get(self.type, self.type)
        return f"ARRAY<{name}>" if self.mode == "REPEATED" else name

    def exists_in(self, release: int) -> bool:
        """Whether that IDC release has the column; release 0 means the newest."""
        if not release:
            return self.until is None
        return self.since <= release and (self.until is None or release <= self.until)


def in_release(fields: Iterable[Column], release: int) -> tuple[Column, ...]:
    """The columns, and the fields at every level, that an IDC release has."""
    return tuple(
        replace(field, fields=in_release(field.fields, release)) for field in fields if field.exists_in(release)
    )
