"""IDC's source tables: their names, columns and types, and the releases that have them.

`schemas/sources/tables.json` lists the columns that IDC defines, and `schemas/sources/dicom_types.json` has the type of
every DICOM attribute. A table of DICOM metadata has both. An index may declare more tables and columns in its schema
document.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from idc_indexer import documents
from idc_indexer.errors import IndexerError
from idc_indexer.schema.column import Column

PROJECT = "bigquery-public-data"
_NAME = re.compile(
    rf"{PROJECT}\.idc_(?:v(?P<release>[1-9]\d*)|current)(?P<clinical>_clinical)?\.(?P<name>\w+)", re.ASCII
)


@dataclass(frozen=True, order=True)
class SourceTable:
    """One source table of one release.

    Attributes:
        release: the IDC release; 0 means the newest (`idc_current`).
        clinical: whether the table is in the dataset of clinical tables.
    """

    release: int
    clinical: bool
    name: str

    @classmethod
    def parse(cls, name: str) -> SourceTable:
        """The table with a dotted name such as `bigquery-public-data.idc_v25.dicom_all`."""
        match = _NAME.fullmatch(name)
        if match is None:
            raise IndexerError(
                f"table {name} is not one of IDC's",
                f"Queries read {PROJECT}.idc_current.* or {PROJECT}.idc_current_clinical.*.",
            )
        return cls(int(match["release"] or 0), match["clinical"] is not None, match["name"])

    @property
    def dataset(self) -> str:
        """The dataset, such as `idc_v25_clinical`; also the folder of an export."""
        release = f"v{self.release}" if self.release else "current"
        return f"idc_{release}_clinical" if self.clinical else f"idc_{release}"

    @property
    def family(self) -> str:
        """The name of the table in `idc_current`, which is its key in `tables.json`."""
        return str(SourceTable(0, self.clinical, self.name))

    def __str__(self) -> str:
        return f"{self.dataset}.{self.name}"


@cache
def _bundled() -> dict[str, Any]:
    tables: dict[str, Any] = documents.load(documents.bundled("schemas") / "sources" / "tables.json", "source_tables")
    return tables


@cache
def _dicom_types() -> dict[str, str]:
    types: dict[str, str] = documents.load(documents.bundled("schemas") / "sources" / "dicom_types.json", "dicom_types")
    return types


def dicom_attribute(keyword: str) -> Column | None:
    """The column of a DICOM attribute, at any depth; None if no table has it."""
    kind = _dicom_types().get(keyword)
    if kind is None:
        return None
    return Column(keyword, kind.removesuffix("[]"), "REPEATED" if kind.endswith("[]") else "NULLABLE")


class SourceTables:
    """The source tables and the types of their columns."""

    def __init__(self, declared: Iterable[Mapping[str, Any]] = ()) -> None:
        """Args:
        declared: more documents like `tables.json`; their columns take precedence.
        """
        self._columns: dict[str, tuple[Column, ...]] = {}
        self._of_dicom: set[str] = set()
        for document in (*declared, _bundled()):
            for family, table in document.items():
                fields = tuple(Column.from_document(column) for column in table["columns"])
                self._columns[family] = self._columns.get(family, ()) + fields
                if table.get("dicom"):
                    self._of_dicom.add(family)

    def __contains__(self, table: SourceTable) -> bool:
        return table.family in self._columns

    @property
    def tables(self) -> list[str]:
        """The names of all tables, without dataset."""
        return [SourceTable.parse(f"{PROJECT}.{family}").name for family in self._columns]

    def names(self, table: SourceTable) -> list[str]:
        """The columns of a table in its release."""
        declared = [field.name for field in self._columns.get(table.family, ()) if field.exists_in(table.release)]
        return [*declared, *(_dicom_types() if table.family in self._of_dicom else ())]

    def column(self, table: SourceTable, name: str) -> Column | None:
        """A top-level column of the table in its release, or None.

        Raises:
            IndexerError: only other releases have the column.
        """
        named = [field for field in self._columns.get(table.family, ()) if field.name == name]
        for field in named:
            if field.exists_in(table.release):
                return field
        if named:
            first, last = named[0].since, named[0].until
            releases = f"releases {first} to {last}" if last else f"release {first} and later ones"
            raise IndexerError(f"{table} has no column {name}: only {releases} have it")
        return dicom_attribute(name) if table.family in self._of_dicom else None

    def nested(self, table: SourceTable, parent: Column, name: str) -> Column | None:
        """A field of a record: a declared one or, in a table of DICOM metadata, any attribute."""
        for field in parent.fields:
            if field.name == name and field.exists_in(table.release):
                return field
        return dicom_attribute(name) if table.family in self._of_dicom and not parent.fields else None
