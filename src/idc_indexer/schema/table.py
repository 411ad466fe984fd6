"""The schema of an index: its columns, key, order and references."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from idc_indexer.schema.column import Column


@dataclass(frozen=True)
class Reference:
    """Columns that hold keys of another index: each value but NULL is in a row of that index.

    Attributes:
        unless: values of the first column that the other index is known not to have.
    """

    columns: tuple[str, ...]
    index: str
    to: tuple[str, ...]
    unless: tuple[str, ...] = ()


@dataclass(frozen=True)
class Schema:
    """The content of `schemas/<name>.json` and, for a release, of `<name>_schema.json`.

    Attributes:
        row: the noun for a row, such as `DICOM series`.
        order: columns that the rows are sorted by, with `" DESC"` after a descending one. NULLs come first in an
            ascending one. The key is among the columns, so that the order is total.
        in_wheel: whether the data wheel contains the Parquet file.
        on_request: whether a build of all indices leaves it out. A release does not say.
    """

    description: str
    row: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...]
    order: tuple[str, ...]
    references: tuple[Reference, ...]
    in_wheel: bool
    on_request: bool = False

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Schema:
        """The schema in a (valid) document of kind `index` or `artifact`."""
        return cls(
            description=document["table_description"],
            row=document["row"],
            columns=tuple(Column.from_document(column) for column in document["columns"]),
            primary_key=tuple(document["primary_key"]),
            order=tuple(document["order"]),
            references=tuple(
                Reference(tuple(r["columns"]), r["index"], tuple(r["to"]), tuple(r.get("except", ())))
                for r in document["references"]
            ),
            in_wheel=document["in_wheel"],
            on_request=document.get("on_request", False),
        )

    @property
    def order_columns(self) -> list[str]:
        """The columns of `order`, without their directions."""
        return [term.removesuffix(" DESC") for term in self.order]

    def problem(self) -> str:
        """The first contradiction within the schema, "" if there is none."""
        names = [column.name for column in self.columns]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            return f"two columns have the same name: {', '.join(twice)}"
        referring = [column for reference in self.references for column in reference.columns]
        for name in (*self.primary_key, *self.order_columns, *referring):
            if name not in names:
                return f"{name} is not among the columns"
        if missing := sorted(set(self.primary_key) - set(self.order_columns)):
            return f"the order must end with the key, so that it is total: {', '.join(missing)}"
        for reference in self.references:
            if len(reference.columns) != len(reference.to):
                return f"references to {reference.index}: {reference.columns} and {reference.to} differ in length"
        return ""

    def to_document(self) -> dict[str, Any]:
        """The document of kind `artifact`, published as `<index>_schema.json`."""
        references: list[dict[str, Any]] = []
        for reference in self.references:
            document: dict[str, Any] = {
                "columns": list(reference.columns),
                "index": reference.index,
                "to": list(reference.to),
            }
            if reference.unless:
                document["except"] = list(reference.unless)
            references.append(document)
        return {
            "table_description": self.description,
            "row": self.row,
            "in_wheel": self.in_wheel,
            "primary_key": list(self.primary_key),
            "order": list(self.order),
            "references": references,
            "columns": [column.to_document() for column in self.columns],
        }
