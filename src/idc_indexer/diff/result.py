"""The result of a comparison, and whether the two inputs are equal.

Rows and columns are content. Their order, the layout of the files and the descriptions in schemas are reported, but do
not count: two inputs that differ in nothing else are equal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from idc_indexer import documents

State = Literal["identical", "equal", "changed", "added", "removed", "unmatched", "unavailable"]
"""Of a table: same bytes; same content; other content; only in NEW; only in OLD; rows that cannot be matched; rows that
an input does not have."""


MAX_SHOWN = 80
"""Characters of a value that are shown in messages and tables."""


def shown(value: object, most: int = MAX_SHOWN) -> str:
    """A value in one line of at most `most` characters; NULL differs from an empty text."""
    if value is None:
        return "NULL"
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(value)[: most + 1])
    if len(text) > most:
        return f"{text[:most]}…"
    return text if text and text == text.strip() else f'"{text}"'


@dataclass(frozen=True)
class Change:
    """The old and the new value."""

    old: Any
    new: Any


@dataclass(frozen=True)
class Example:
    """A cell that changed: the key of its row, and both values as text. None is NULL."""

    key: tuple[str | None, ...]
    old: str | None
    new: str | None


@dataclass(frozen=True)
class Statistics:
    """Of the values of a column, in one input.

    Attributes:
        rows, nulls, distinct: counts; NULL is not one of the distinct values.
        minimum, maximum: as text; None if there is no value, or the values are nested.
    """

    rows: int
    nulls: int
    distinct: int
    minimum: str | None
    maximum: str | None

    @property
    def null_share(self) -> float:
        """From 0 to 1; 0 if there are no rows."""
        return self.nulls / self.rows if self.rows else 0.0


@dataclass(frozen=True)
class ColumnDifference:
    """A column that differs between the inputs.

    Attributes:
        state: `added`, `removed`, or `shared` if both inputs have it.
        type, description: None if they did not change; of an added or removed column, one of the two values is None.
        cells: matched rows in which its values differ; values of different types are compared as text.
        old, new: its statistics in the inputs that have it; None if no row was added, removed or changed.
    """

    name: str
    state: Literal["added", "removed", "shared"]
    type: Change | None = None
    description: Change | None = None
    cells: int = 0
    examples: tuple[Example, ...] = ()
    old: Statistics | None = None
    new: Statistics | None = None


@dataclass(frozen=True)
class Rows:
    """Numbers of rows.

    Attributes:
        changed: rows whose key both inputs have, with other values.
        moved: matched rows that have another position among the matched rows.
        added_keys, removed_keys: a few examples.
    """

    old: int
    new: int
    added: int = 0
    removed: int = 0
    changed: int = 0
    moved: int = 0
    added_keys: tuple[tuple[str | None, ...], ...] = ()
    removed_keys: tuple[tuple[str | None, ...], ...] = ()


@dataclass(frozen=True)
class Loss:
    """Rows of OLD that NEW lacks, and in how many of them a column is NULL; without columns that never are."""

    rows: int
    nulls: Mapping[str, int]


@dataclass(frozen=True)
class TableDifference:
    """The differences of one table.

    Attributes:
        problem: why its rows were not compared; empty if they were.
        key: columns by which rows were matched.
        key_change: None if the schemas state the same key.
        columns: those that differ, in the order of NEW, then the removed ones.
        layout: facts about the files that changed, by name.
        removed_with: the rows that it lost with each removed collection, if idc_index was compared too.
    """

    name: str
    state: State
    problem: str = ""
    key: tuple[str, ...] = ()
    key_change: Change | None = None
    rows: Rows | None = None
    columns: tuple[ColumnDifference, ...] = ()
    description: Change | None = None
    layout: Mapping[str, Change] = field(default_factory=dict)
    removed_with: Mapping[str, Loss] = field(default_factory=dict)

    @property
    def content(self) -> tuple[ColumnDifference, ...]:
        """The columns whose type or values changed, the latter first."""
        return tuple(sorted((c for c in self.columns if c.cells or c.type), key=lambda column: not column.cells))

    @property
    def same(self) -> bool:
        """Whether the content is the same, as far as it was compared."""
        return self.state in ("identical", "equal", "unavailable")


@dataclass(frozen=True)
class Group:
    """Series of one collection, or of one modality.

    Attributes:
        old, new: number of series; old_tb, new_tb: their size, in 10^12 bytes.
        revised: series that both inputs have, with another `crdc_series_uuid`.
    """

    name: str
    old: int
    new: int
    added: int
    revised: int
    removed: int
    old_tb: float
    new_tb: float

    @property
    def changed(self) -> int:
        """Series that were added, revised or removed."""
        return self.added + self.revised + self.removed


@dataclass(frozen=True)
class ValueChange:
    """Series that both inputs have, whose value of a column changed."""

    old: str | None
    new: str | None
    series: int


@dataclass(frozen=True)
class IdcSummary:
    """The changes that matter to users of IDC, from both idc_index.

    A series that changed its collection or modality is counted in the new one.

    Attributes:
        licenses, buckets: series whose licence, or bucket at AWS, changed; None if an input lacks the column.
    """

    total: Group
    collections: tuple[Group, ...]
    modalities: tuple[Group, ...]
    new_collections: tuple[str, ...]
    removed_collections: tuple[str, ...]
    new_analysis_results: tuple[str, ...]
    removed_analysis_results: tuple[str, ...]
    licenses: tuple[ValueChange, ...] | None
    buckets: tuple[ValueChange, ...] | None


@dataclass(frozen=True)
class Difference:
    """The differences between two inputs, table by table.

    Attributes:
        old, new: as the user gave them.
        old_version, new_version: of the releases; None if unknown.
        idc: None if an input has no idc_index, or its rows were not compared.
        withdrawn: why an input is withdrawn, by its name; without those that are not.
        views: changes of idc.duckdb that no table tells, by name; none if an input lacks the file.
    """

    old: str
    new: str
    old_version: str | None
    new_version: str | None
    tables: tuple[TableDifference, ...]
    idc: IdcSummary | None = None
    withdrawn: Mapping[str, str] = field(default_factory=dict)
    views: Mapping[str, Change] = field(default_factory=dict)

    @property
    def equal(self) -> bool:
        """Whether the contents are equal, as far as both inputs have them; False if nothing was compared."""
        return all(table.same for table in self.tables) and any(t.state in ("identical", "equal") for t in self.tables)

    @property
    def unavailable(self) -> list[str]:
        """Tables that were not compared, because an input does not have their rows."""
        return [table.name for table in self.tables if table.state == "unavailable"]

    @property
    def verdict(self) -> str:
        """One line: whether NEW equals OLD."""
        by_state: dict[str, list[str]] = {}
        for table in self.tables:
            by_state.setdefault(table.state, []).append(table.name)
        compared = by_state.get("identical", []) + by_state.get("equal", [])
        rest = f"; not compared: row data unavailable: {_listed(self.unavailable)}" if self.unavailable else ""
        if self.equal:
            how = "the same bytes" if not by_state.get("equal") else "the same rows and columns"
            if moved := [table.name for table in self.tables if table.rows and table.rows.moved]:
                how += f", in another order in {_listed(moved)}"
            return f"{self.new} equals {self.old}: {_count(len(compared), 'table')} with {how}{rest}"
        differences = [
            f"{word} {_listed(by_state[state])}"
            for state, word in (
                ("changed", "other content in"),
                ("removed", f"only in {self.old}:"),
                ("added", f"only in {self.new}:"),
                ("unmatched", "rows that cannot be matched in"),
            )
            if state in by_state
        ]
        if compared:
            differences.append(f"equal: {_listed(compared)}")
        return f"{self.new} differs from {self.old}: {'; '.join(differences) or 'nothing could be compared'}{rest}"

    def to_document(self) -> dict[str, Any]:
        """The document of kind `difference`."""
        inputs = {
            which: {"name": name, "release_version": version}
            | ({"withdrawn": self.withdrawn[name]} if name in self.withdrawn else {})
            for which, name, version in (
                ("old", self.old, self.old_version),
                ("new", self.new, self.new_version),
            )
        }
        tables = {table.name: {k: v for k, v in asdict(table).items() if k != "name"} for table in self.tables}
        document: dict[str, Any] = {
            "format_version": 1,
            "equal": self.equal,
            "verdict": self.verdict,
            **inputs,
            "tables": tables,
            "idc": self.idc and asdict(self.idc),
            "views": {name: asdict(change) for name, change in self.views.items()},
        }
        return json.loads(json.dumps(document))  # type: ignore[no-any-return]  # tuples become lists, as JSON has them

    def dump(self) -> bytes:
        """The document, checked."""
        return documents.dump(self.to_document(), "difference")


def _listed(names: list[str]) -> str:
    return ", ".join(names)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
