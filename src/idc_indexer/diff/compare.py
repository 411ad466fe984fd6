"""Two Parquet files of one table, compared by key, in SQL.

Which row of one file is which of the other is found first, by the key alone. Values are then compared a few columns
at a time, so that memory holds numbers of rows and those columns, never whole rows. Each value is compared by itself,
none by its hash: NULL, '', [] and NaN are four different things, -0.0 is not 0.0, NaN is NaN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from idc_indexer.diff.result import Change, ColumnDifference, Example, Rows, State, Statistics, TableDifference
from idc_indexer.duckdb_session import first_line, read_parquet
from idc_indexer.errors import IndexerError

EXAMPLES = 3
LONGEST = 160
"""Characters of a value that are shown."""
_AT_ONCE = 8
"""Columns compared at a time. Of two idc_index: 3.0 s of processor and 0.66 GB in all; 16 at a time: 3.4 s, 0.75 GB."""
_UNSAID = {b"ARROW:schema", b"pandas"}


@dataclass(frozen=True)
class File:
    """A Parquet file as DuckDB and Arrow see it.

    Attributes:
        view: name of a view with the columns c0, c1, ... and the row number `row`.
        columns: the name of each, as it is spelled in the file.
        types: DuckDB's names of their types.
    """

    view: str
    path: Path
    columns: tuple[str, ...]
    types: tuple[str, ...]
    metadata: pq.FileMetaData

    def at(self, column: str) -> str:
        """SQL of a column, with the view's name, which is that of the alias too."""
        return f"{self.view}.c{self.columns.index(column)}"

    def type_of(self, column: str) -> str:
        """DuckDB's name of a column's type."""
        return self.types[self.columns.index(column)]


@dataclass(frozen=True)
class _Cells:
    """Where the table `cells` says that a column differs: the rows of a part, by a bit; and how many there are.

    `cells` has, for rows of both sides, their numbers, a part of the columns, and a bit for each of them that differs.
    """

    part: int
    bit: int
    count: int = 0


def open_file(connection: duckdb.DuckDBPyConnection, path: Path, view: str) -> File:
    """Make a view of a file.

    DuckDB does not tell names apart that differ in case, so columns are known by their number.

    Raises:
        IndexerError: it is not Parquet, or has two columns of one name.
    """
    try:
        metadata = pq.read_metadata(path)
        names = metadata.schema.to_arrow_schema().names
        aliases = ", ".join([*(f"c{number}" for number in range(len(names))), "row"])
        rows = read_parquet([str(path)], ", file_row_number=true")
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {view} AS FROM {rows} AS t({aliases})")
        types = [kind for _, kind, *_ in connection.execute(f"DESCRIBE {view}").fetchall()]
    except (pa.ArrowException, OSError, duckdb.Error) as error:
        raise IndexerError(f"{path}: is not Parquet that can be read: {first_line(error)}") from error
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise IndexerError(f"{path}: has two columns {twice[0]}", "Nobody can tell which of them is meant.")
    return File(view, path, tuple(names), tuple(types[:-1]), metadata)


def compare(
    connection: duckdb.DuckDBPyConnection, name: str, old: File, new: File, key: Sequence[str]
) -> TableDifference:
    """Compare the rows of a table.

    Afterwards `pairs` has, for each row of either side, its number in `old` and in `new`, NULL where it is not.

    Args:
        connection: has the views of both files.
        key: columns that tell rows apart; both files have them.

    Returns:
        The difference, without what the schemas say; `unmatched` when the key is not one.

    Raises:
        IndexerError: a file is damaged.
    """
    columns = {column: _declared(old, new, column) for column in dict.fromkeys((*new.columns, *old.columns))}
    difference = TableDifference(name, "unmatched", key=tuple(key), layout=_layout(old, new))
    try:
        if problem := _no_key(connection, old, new, key):
            rows = Rows(old.metadata.num_rows, new.metadata.num_rows)
            found = [column for column in columns.values() if column.state != "kept" or column.type]
            return replace(difference, problem=problem, rows=rows, columns=tuple(found))
        _pair(connection, old, new, key)
        cells = _compare_cells(connection, old, new, key)
        rows = _count_rows(connection, old, new)
        shown = _Shown(connection, old, new, key, cells)
        rows = replace(rows, added_keys=shown.added, removed_keys=shown.removed)
        found = []
        for column, declared in columns.items():
            if column in cells or rows.added or rows.removed or declared.state != "kept" or declared.type:
                found.append(
                    replace(
                        declared,
                        cells=cells[column].count if column in cells else 0,
                        examples=shown.examples.get(column, ()),
                        old=_statistics(connection, old, column),
                        new=_statistics(connection, new, column),
                    )
                )
    except duckdb.OutOfMemoryException as error:
        raise IndexerError(f"{name}: {first_line(error)}", "Make room for temporary files.") from error
    except duckdb.Error as error:
        raise IndexerError(f"{name}: {old.path} and {new.path} cannot be compared: {first_line(error)}") from error
    # Of a key of floats, the two zeros are one value by which rows match, and two by which they differ.
    state: State = "changed" if found else "equal"
    return replace(difference, state=state, rows=rows, columns=tuple(found))


def _declared(old: File, new: File, column: str) -> ColumnDifference:
    if column not in old.columns:
        return ColumnDifference(column, "added", Change(None, new.type_of(column)))
    if column not in new.columns:
        return ColumnDifference(column, "removed", Change(old.type_of(column), None))
    kinds = Change(old.type_of(column), new.type_of(column))
    return ColumnDifference(column, "kept", kinds if kinds.old != kinds.new else None)


def _no_key(connection: duckdb.DuckDBPyConnection, old: File, new: File, key: Sequence[str]) -> str:
    """Why rows cannot be matched by a key; empty when they can."""
    if not key:
        return "no key is known: name its columns with --key"
    for file, side in ((old, "OLD"), (new, "NEW")):
        if missing := [column for column in key if column not in file.columns]:
            return f"{', '.join(missing)}, of the key, is not in {side}"
        terms = ", ".join(file.at(column) for column in key)
        null = " OR ".join(f"{file.at(column)} IS NULL" for column in key)
        nulls = connection.execute(f"SELECT count(*) FROM {file.view} WHERE {null}").fetchall()[0][0]
        if nulls:
            return f"{', '.join(key)}, the key, is NULL in {nulls:,} rows of {side}"
        twice = connection.execute(
            f"""SELECT count(*) OVER () AS keys, {terms} FROM {file.view}
            GROUP BY {terms} HAVING count(*) > 1 ORDER BY {terms} LIMIT 1"""
        ).fetchall()
        if twice:
            many, *values = twice[0]
            such = ", ".join(map(str, values))
            return f"{many:,} values of {', '.join(key)}, the key, are in {side} more than once, such as {such}"
    return ""


def _pair(connection: duckdb.DuckDBPyConnection, old: File, new: File, key: Sequence[str]) -> None:
    terms = []
    for column in key:
        sides = (old.at(column), new.at(column))
        if old.type_of(column) != new.type_of(column):
            sides = (f"{sides[0]}::VARCHAR", f"{sides[1]}::VARCHAR")
        terms.append(" = ".join(sides))
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE pairs AS
        SELECT {old.view}.row AS old_row, {new.view}.row AS new_row
        FROM {old.view} FULL JOIN {new.view} ON {" AND ".join(terms)}"""
    )


def _compare_cells(
    connection: duckdb.DuckDBPyConnection, old: File, new: File, key: Sequence[str]
) -> dict[str, _Cells]:
    """The columns that have different values in rows of both sides."""
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE cells (old_row BIGINT, new_row BIGINT, part INTEGER, which INTEGER)"
    )
    # Values of a key are equal, but for the sign of zero.
    columns = [c for c in new.columns if c in old.columns and (c not in key or _is_float(new.type_of(c)))]
    changed: dict[str, _Cells] = {}
    for part, first in enumerate(range(0, len(columns), _AT_ONCE)):
        some = {column: _Cells(part, 1 << bit) for bit, column in enumerate(columns[first : first + _AT_ONCE])}
        bits = " | ".join(f"(CASE WHEN {_differs(old, new, c)} THEN {at.bit} ELSE 0 END)" for c, at in some.items())
        connection.execute(
            f"""INSERT INTO cells SELECT * FROM (
                SELECT old_row, new_row, {part}, {bits} AS which FROM pairs
                JOIN {old.view} ON {old.view}.row = old_row JOIN {new.view} ON {new.view}.row = new_row
            ) WHERE which <> 0"""
        )
        counts = ", ".join(f"count(*) FILTER (which & {at.bit} <> 0)" for at in some.values())
        (row,) = connection.execute(f"SELECT {counts} FROM cells WHERE part = {part}").fetchall()
        changed |= {c: replace(at, count=count) for (c, at), count in zip(some.items(), row, strict=True) if count}
    return changed


def _is_float(kind: str) -> bool:
    """Whether values of a type, or parts of them, are floats."""
    return "DOUBLE" in kind or "FLOAT" in kind


def _differs(old: File, new: File, column: str) -> str:
    """SQL that is true where a column has two different values; never NULL."""
    a, b = old.at(column), new.at(column)
    kind = new.type_of(column)
    if old.type_of(column) != kind:
        return f"{a}::VARCHAR IS DISTINCT FROM {b}::VARCHAR"
    plain = f"{a} IS DISTINCT FROM {b}"
    if kind in ("DOUBLE", "FLOAT"):
        return f"({plain} OR (isfinite({a}) AND coalesce(signbit({a}) <> signbit({b}), false)))"
    if _is_float(kind):
        # The only difference that text knows of and values do not is the sign of zero.
        return f"({plain} OR {a}::VARCHAR IS DISTINCT FROM {b}::VARCHAR)"
    return plain


def _count_rows(connection: duckdb.DuckDBPyConnection, old: File, new: File) -> Rows:
    ((added, removed),) = connection.execute(
        "SELECT count(*) FILTER (old_row IS NULL), count(*) FILTER (new_row IS NULL) FROM pairs"
    ).fetchall()
    ((changed,),) = connection.execute("SELECT count(DISTINCT new_row) FROM cells").fetchall()
    ((moved,),) = connection.execute(
        """SELECT count(*) FROM (
            SELECT row_number() OVER (ORDER BY old_row) AS was, row_number() OVER (ORDER BY new_row) AS becomes
            FROM pairs WHERE old_row IS NOT NULL AND new_row IS NOT NULL
        ) WHERE was <> becomes"""
    ).fetchall()
    return Rows(old.metadata.num_rows, new.metadata.num_rows, added, removed, changed, moved)


class _Shown:
    """Examples: the first rows, in the order of the files, that changed in a column, came or went.

    All of them are chosen first, so that each file is read once.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        old: File,
        new: File,
        key: Sequence[str],
        cells: Mapping[str, _Cells],
    ) -> None:
        def rows(sql: str) -> list[tuple[int, ...]]:
            found: list[tuple[int, ...]] = connection.execute(f"{sql} ORDER BY ALL LIMIT {EXAMPLES}").fetchall()
            return found

        added = [row for (row,) in rows("SELECT new_row FROM pairs WHERE old_row IS NULL")]
        removed = [row for (row,) in rows("SELECT old_row FROM pairs WHERE new_row IS NULL")]
        changed = {
            column: rows(f"SELECT new_row, old_row FROM cells WHERE part = {at.part} AND which & {at.bit} <> 0")
            for column, at in cells.items()
        }
        pairs = [pair for found in changed.values() for pair in found]
        columns = [*key, *(column for column in cells if column not in key)]
        was = _values(connection, old, columns, {*removed, *(row for _, row in pairs)})
        becomes = _values(connection, new, columns, {*added, *(row for row, _ in pairs)})
        self.added = tuple(_key(becomes[row], key) for row in added)
        self.removed = tuple(_key(was[row], key) for row in removed)
        self.examples = {
            column: tuple(
                Example(_key(becomes[b], key), *_shortened(was[a][column], becomes[b][column])) for b, a in found
            )
            for column, found in changed.items()
        }


def _values(
    connection: duckdb.DuckDBPyConnection, file: File, columns: Sequence[str], rows: set[int]
) -> dict[int, dict[str, str | None]]:
    """Values as text, by row and column."""
    if not rows:
        return {}
    terms = ", ".join(["row", *(f"{file.at(column)}::VARCHAR" for column in columns)])
    chosen = ", ".join(map(str, sorted(rows)))
    found = connection.execute(f"SELECT {terms} FROM {file.view} WHERE row IN ({chosen})").fetchall()
    return {row: dict(zip(columns, values, strict=True)) for row, *values in found}


def _key(values: Mapping[str, str | None], key: Sequence[str]) -> tuple[str | None, ...]:
    return tuple(values[column] for column in key)


def _shortened(old: str | None, new: str | None) -> tuple[str | None, str | None]:
    """Two values, of which long ones are cut to where they differ."""
    pairs = enumerate(zip(old or "", new or "", strict=False))
    same = next((place for place, (a, b) in pairs if a != b), min(len(old or ""), len(new or "")))
    start = max(same - LONGEST // 4, 0)

    def cut(text: str | None) -> str | None:
        if text is None or len(text) <= LONGEST:
            return text
        return ("…" if start else "") + text[start : start + LONGEST] + ("…" if start + LONGEST < len(text) else "")

    return cut(old), cut(new)


def _statistics(connection: duckdb.DuckDBPyConnection, file: File, column: str) -> Statistics | None:
    if column not in file.columns:
        return None
    at = file.at(column)
    nested = file.type_of(column).endswith((")", "]"))
    ends = "NULL, NULL" if nested else f"min({at})::VARCHAR, max({at})::VARCHAR"
    (row,) = connection.execute(
        f"SELECT count(*), count({at}), count(DISTINCT {at}), {ends} FROM {file.view}"
    ).fetchall()
    rows, values, distinct, first, last = row
    return Statistics(rows, rows - values, distinct, *(end and end[:LONGEST] for end in (first, last)))


def _layout(old: File, new: File) -> dict[str, Change]:
    """Facts of the files, apart from rows and columns, that differ."""
    was, becomes = _facts(old), _facts(new)
    shared = {column for column in old.columns if column in new.columns}
    arrow = [dict(zip(f.columns, f.metadata.schema.to_arrow_schema().types, strict=True)) for f in (old, new)]
    other = [c for c in new.columns if c in shared and old.type_of(c) == new.type_of(c) and arrow[0][c] != arrow[1][c]]
    for facts, file, types in zip((was, becomes), (old, new), arrow, strict=True):
        facts["order of columns"] = ", ".join(column for column in file.columns if column in shared)
        facts["Arrow types"] = ", ".join(f"{column} {types[column]}" for column in other)
    return {name: Change(was[name], becomes[name]) for name in sorted(was) if was[name] != becomes[name]}


def _facts(file: File) -> dict[str, Any]:
    metadata = file.metadata
    chunks = [
        metadata.row_group(group).column(column)
        for group in range(metadata.num_row_groups)
        for column in range(metadata.num_columns)
    ]
    said = {k: v for k, v in (metadata.metadata or {}).items() if k not in _UNSAID}
    return {
        "bytes": file.path.stat().st_size,
        "row groups": metadata.num_row_groups,
        "written by": metadata.created_by,
        "codecs": ", ".join(sorted({chunk.compression for chunk in chunks})),
        "encodings": ", ".join(sorted({encoding for chunk in chunks for encoding in chunk.encodings})),
        "page index": any(chunk.has_offset_index for chunk in chunks),
        "metadata": ", ".join(
            f"{k.decode(errors='replace')}={v.decode(errors='replace')}" for k, v in sorted(said.items())
        ),
    }
