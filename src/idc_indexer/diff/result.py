"""What a comparison found, and whether that makes two sides equal.

Rows and columns are content. Their order, the layout of the files and what the schemas say in words are not: they are
reported, and two sides that differ in nothing else are equal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from idc_indexer import documents

State = Literal["identical", "equal", "changed", "added", "removed", "unmatched", "unseen"]
"""Of a table: same bytes; same content; other content; only in NEW; only in OLD; rows that cannot be matched; rows that
a side does not carry."""


@dataclass(frozen=True)
class Change:
    """What was, and what is."""

    old: Any
    new: Any


@dataclass(frozen=True)
class Example:
    """A cell that changed: the key of its row, and values as text; None is NULL."""

    key: tuple[str | None, ...]
    old: str | None
    new: str | None


@dataclass(frozen=True)
class Statistics:
    """Of the values of a column, on one side.

    Attributes:
        rows, nulls, distinct: numbers; NULL is not counted among the distinct values.
        minimum, maximum: as text; None where nothing is there, or nested values.
    """

    rows: int
    nulls: int
    distinct: int
    minimum: str | None
    maximum: str | None

    @property
    def null_share(self) -> float:
        """From 0 to 1; 0 of no rows."""
        return self.nulls / self.rows if self.rows else 0.0


@dataclass(frozen=True)
class ColumnDifference:
    """A column that is not the same on both sides.

    Attributes:
        state: `added`, `removed`, or `kept`.
        type, description: when they changed; of an added or removed column, one of the two is None.
        cells: rows of both sides in which it has different values; of a column with another type, as text.
        old, new: its statistics, of the sides that have it; None when no row changed, came or went.
    """

    name: str
    state: Literal["added", "removed", "kept"]
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
        changed: rows whose key both sides have, with other values.
        moved: rows that are at another place among those that both sides have.
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
class TableDifference:
    """What is different in one table.

    Attributes:
        problem: why its rows were not compared; empty when they were.
        key: columns by which rows were matched.
        key_change: when the sides state different ones.
        columns: those that are different; in the order of NEW, then those that went.
        layout: facts about the files that changed, by name.
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

    @property
    def content(self) -> tuple[ColumnDifference, ...]:
        """The columns whose type or values changed, the latter first."""
        return tuple(sorted((c for c in self.columns if c.cells or c.type), key=lambda column: not column.cells))

    @property
    def same(self) -> bool:
        """Whether nothing that was seen differs in content."""
        return self.state in ("identical", "equal", "unseen")


@dataclass(frozen=True)
class Group:
    """Series of one collection, or of one modality.

    Attributes:
        old, new: series; old_tb, new_tb: their size, in 10^12 bytes.
        revised: series of both sides with another `crdc_series_uuid`.
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
        """Series that are not the same on both sides."""
        return self.added + self.revised + self.removed


@dataclass(frozen=True)
class Moved:
    """Series of both sides that had one value and have another."""

    old: str | None
    new: str | None
    series: int


@dataclass(frozen=True)
class IdcSummary:
    """What changed in terms of IDC, from both `idc_index`.

    A series that changed its collection or modality is counted in the new one.

    Attributes:
        licenses, buckets: series whose licence, or bucket at AWS, changed; None when a side has no such column.
    """

    total: Group
    collections: tuple[Group, ...]
    modalities: tuple[Group, ...]
    new_collections: tuple[str, ...]
    gone_collections: tuple[str, ...]
    new_analysis_results: tuple[str, ...]
    gone_analysis_results: tuple[str, ...]
    licenses: tuple[Moved, ...] | None
    buckets: tuple[Moved, ...] | None


@dataclass(frozen=True)
class Difference:
    """Two sides, table by table.

    Attributes:
        old, new: as they were given.
        old_version, new_version: of the releases; None when they do not say.
        idc: None when a side has no `idc_index`, or the rows of it were not compared.
    """

    old: str
    new: str
    old_version: str | None
    new_version: str | None
    tables: tuple[TableDifference, ...]
    idc: IdcSummary | None = None

    @property
    def equal(self) -> bool:
        """Whether the contents are equal, as far as both sides carry them; False when they share nothing."""
        return all(table.same for table in self.tables) and any(t.state in ("identical", "equal") for t in self.tables)

    @property
    def verdict(self) -> str:
        """One line: whether NEW equals OLD."""
        by_state: dict[str, list[str]] = {}
        for table in self.tables:
            by_state.setdefault(table.state, []).append(table.name)
        compared = by_state.get("identical", []) + by_state.get("equal", [])
        unseen = by_state.get("unseen", [])
        rest = f"; not compared, for want of rows: {_listed(unseen)}" if unseen else ""
        if self.equal:
            how = "the same bytes" if not by_state.get("equal") else "the same rows and columns"
            if moved := [table.name for table in self.tables if table.rows and table.rows.moved]:
                how += f", in another order in {_listed(moved)}"
            return f"{self.new} equals {self.old}: {_count(len(compared), 'table')} with {how}{rest}"
        said = [
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
            said.append(f"equal: {_listed(compared)}")
        return f"{self.new} differs from {self.old}: {'; '.join(said) or 'nothing could be compared'}{rest}"

    def to_document(self) -> dict[str, Any]:
        """The document of kind `difference`."""
        sides = {
            side: {"name": name, "release_version": version}
            for side, name, version in (
                ("old", self.old, self.old_version),
                ("new", self.new, self.new_version),
            )
        }
        tables = {table.name: {k: v for k, v in asdict(table).items() if k != "name"} for table in self.tables}
        document: dict[str, Any] = {
            "format_version": 1,
            "equal": self.equal,
            "verdict": self.verdict,
            **sides,
            "tables": tables,
            "idc": self.idc and asdict(self.idc),
        }
        return json.loads(json.dumps(document))  # type: ignore[no-any-return]  # tuples become lists, as JSON has them

    def dump(self) -> bytes:
        """The document, checked."""
        return documents.dump(self.to_document(), "difference")


def _listed(names: list[str]) -> str:
    return ", ".join(names)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
