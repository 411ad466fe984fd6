"""Two Parquet files of one table, compared by key, in SQL.

Rows are matched by key alone. Then values are compared a few columns at a time, so that memory holds row numbers and
those columns, never complete rows. Values are compared, not their hashes: NULL, '', [] and NaN are four different
values, -0.0 differs from 0.0, and NaN equals NaN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq

from idc_indexer import parquet_footer
from idc_indexer.diff.result import Change, ColumnDifference, Example, Rows, State, Statistics, TableDifference, shown
from idc_indexer.duckdb_session import errors_for, read_parquet
from idc_indexer.errors import IndexerError

EXAMPLES = 3
LONGEST = 160
"""Characters of a value that are reported."""
_WIDTH = 8
"""Columns compared at a time. Two idc_index take 3.0 s of processor time and 0.66 GB; with 16, 3.4 s and 0.75 GB."""
_IGNORED_METADATA = {b"ARROW:schema", b"pandas"}


@dataclass(frozen=True)
class ParquetView:
    """A Parquet file as DuckDB and Arrow see it.

    Attributes:
        view: name of a view with the columns c0, c1, ... and the row number `row`.
        columns: their names, as they are spelled in the file.
        types: DuckDB's names of their types.
    """

    view: str
    path: Path
    columns: tuple[str, ...]
    types: tuple[str, ...]
    metadata: pq.FileMetaData

    def at(self, column: str) -> str:
        """SQL for a column, qualified with the name of the view."""
        return f"{self.view}.c{self.columns.index(column)}"

    def type_of(self, column: str) -> str:
        """DuckDB's name of a column's type."""
        return self.types[self.columns.index(column)]


@dataclass(frozen=True)
class _Cells:
    """Where the SQL table `cells` records that the values of a column differ, and in how many rows.

    A row of `cells` has the row numbers of a pair in both files, the number of a group of columns (`part`), and a bit
    for each column of that group whose values differ.
    """

    part: int
    bit: int
    count: int = 0


def open_file(connection: duckdb.DuckDBPyConnection, path: Path, view: str) -> ParquetView:
    """Make a view of a file. DuckDB ignores the case of names, so the columns of the view are numbered.

    Raises:
        IndexerError: it is not Parquet, or has two columns with the same name.
    """
    metadata = parquet_footer.read(path)
    names = metadata.schema.to_arrow_schema().names
    with errors_for(str(path)):
        aliases = ", ".join([*(f"c{number}" for number in range(len(names))), "row"])
        rows = read_parquet([str(path)], ", file_row_number=true")
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {view} AS FROM {rows} AS t({aliases})")
        types = [kind for _, kind, *_ in connection.execute(f"DESCRIBE {view}").fetchall()]
    if len(types) != len(names) + 1:
        raise IndexerError(f"{path}: is damaged: Arrow reads {len(names)} columns, and DuckDB {len(types) - 1}")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise IndexerError(f"{path}: has two columns {twice[0]}", "Give each column a name of its own.")
    return ParquetView(view, path, tuple(names), tuple(types[:-1]), metadata)


def compare(
    connection: duckdb.DuckDBPyConnection, name: str, old: ParquetView, new: ParquetView, key: Sequence[str]
) -> TableDifference:
    """Compare the rows of a table.

    Afterwards, the SQL table `pairs` has the numbers of each row in `old` and `new`, NULL in a file that lacks it.

    Args:
        connection: has the views of both files.
        key: columns that identify a row.

    Returns:
        The difference, without that of the schemas; `unmatched` if the columns are no key of both files.

    Raises:
        IndexerError: a file is damaged.
    """
    with errors_for(f"{name}, when {old.path} and {new.path} are compared"):
        return _compared(connection, name, old, new, key)


def _compared(
    connection: duckdb.DuckDBPyConnection, name: str, old: ParquetView, new: ParquetView, key: Sequence[str]
) -> TableDifference:
    columns = {column: _declared(old, new, column) for column in dict.fromkeys((*new.columns, *old.columns))}
    difference = TableDifference(name, "unmatched", key=tuple(key), layout=_layout(old, new))
    if problem := _key_problem(connection, old, new, key):
        rows = Rows(old.metadata.num_rows, new.metadata.num_rows)
        found = [column for column in columns.values() if column.state != "shared" or column.type]
        return replace(difference, problem=problem, rows=rows, columns=tuple(found))
    _pair(connection, old, new, key)
    cells = _compare_cells(connection, old, new, key)
    rows = _count_rows(connection, old, new)
    examples = _Examples(connection, old, new, key, cells)
    rows = replace(rows, added_keys=examples.added, removed_keys=examples.removed)
    found = [
        replace(
            declared,
            cells=cells[column].count if column in cells else 0,
            examples=examples.changed.get(column, ()),
            old=_statistics(connection, old, column, key),
            new=_statistics(connection, new, column, key),
        )
        for column, declared in columns.items()
        if column in cells or rows.added or rows.removed or declared.state != "shared" or declared.type
    ]
    # 0.0 and -0.0 in a key of floats match, and count as a difference.
    state: State = "changed" if found else "equal"
    return replace(difference, state=state, rows=rows, columns=tuple(found))


def _declared(old: ParquetView, new: ParquetView, column: str) -> ColumnDifference:
    if column not in old.columns:
        return ColumnDifference(column, "added", Change(None, new.type_of(column)))
    if column not in new.columns:
        return ColumnDifference(column, "removed", Change(old.type_of(column), None))
    kinds = Change(old.type_of(column), new.type_of(column))
    return ColumnDifference(column, "shared", kinds if kinds.old != kinds.new else None)


def _key_problem(connection: duckdb.DuckDBPyConnection, old: ParquetView, new: ParquetView, key: Sequence[str]) -> str:
    """Why rows cannot be matched by a key; empty if they can."""
    if not key:
        return "no key is known: name its columns with --key"
    for file, given in ((old, "OLD"), (new, "NEW")):
        if missing := [column for column in key if column not in file.columns]:
            return f"{given} lacks the key column {', '.join(missing)}"
        terms = ", ".join(file.at(column) for column in key)
        null = " OR ".join(f"{file.at(column)} IS NULL" for column in key)
        nulls = connection.execute(f"SELECT count(*) FROM {file.view} WHERE {null}").fetchall()[0][0]
        if nulls:
            return f"the key {', '.join(key)} is NULL in {nulls:,} {'row' if nulls == 1 else 'rows'} of {given}"
        twice = connection.execute(
            f"""SELECT count(*) OVER () AS keys, {terms} FROM {file.view}
            GROUP BY {terms} HAVING count(*) > 1 ORDER BY {terms} LIMIT 1"""
        ).fetchall()
        if twice:
            count, *values = twice[0]
            repeated = f"{count:,} {'value' if count == 1 else 'values'} of the key {', '.join(key)}"
            return f"{given} repeats {repeated}, such as {', '.join(map(shown, values))}"
    return ""


def _pair(connection: duckdb.DuckDBPyConnection, old: ParquetView, new: ParquetView, key: Sequence[str]) -> None:
    terms = []
    for column in key:
        cast = "" if old.type_of(column) == new.type_of(column) else "::VARCHAR"
        terms.append(f"{old.at(column)}{cast} = {new.at(column)}{cast}")
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE pairs AS
        SELECT {old.view}.row AS old_row, {new.view}.row AS new_row
        FROM {old.view} FULL JOIN {new.view} ON {" AND ".join(terms)}"""
    )


def _compare_cells(
    connection: duckdb.DuckDBPyConnection, old: ParquetView, new: ParquetView, key: Sequence[str]
) -> dict[str, _Cells]:
    """The columns whose values differ in matched rows."""
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE cells (old_row BIGINT, new_row BIGINT, part INTEGER, which INTEGER)"
    )
    # Matched keys are equal, apart from the sign of zero.
    columns = [c for c in new.columns if c in old.columns and (c not in key or _is_float(new.type_of(c)))]
    changed: dict[str, _Cells] = {}
    for part, first in enumerate(range(0, len(columns), _WIDTH)):
        some = {column: _Cells(part, 1 << bit) for bit, column in enumerate(columns[first : first + _WIDTH])}
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
    """Whether a type is a float, or contains one."""
    return "DOUBLE" in kind or "FLOAT" in kind


def _differs(old: ParquetView, new: ParquetView, column: str) -> str:
    """SQL that is true where the values of a column differ; never NULL."""
    a, b = old.at(column), new.at(column)
    kind = new.type_of(column)
    if old.type_of(column) != kind:
        return f"{a}::VARCHAR IS DISTINCT FROM {b}::VARCHAR"
    plain = f"{a} IS DISTINCT FROM {b}"
    if kind in ("DOUBLE", "FLOAT"):
        return f"({plain} OR (isfinite({a}) AND coalesce(signbit({a}) <> signbit({b}), false)))"
    if _is_float(kind):
        # As text, values also differ in the sign of zero, and in nothing else.
        return f"({plain} OR {a}::VARCHAR IS DISTINCT FROM {b}::VARCHAR)"
    return plain


def _count_rows(connection: duckdb.DuckDBPyConnection, old: ParquetView, new: ParquetView) -> Rows:
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


class _Examples:
    """Examples: the first rows, in the order of the files, that were changed in a column, added or removed.

    All are chosen before any value is read, so that each file is read once.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        old: ParquetView,
        new: ParquetView,
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
        self.changed = {
            column: tuple(
                Example(_key(becomes[b], key), *_shortened(was[a][column], becomes[b][column])) for b, a in found
            )
            for column, found in changed.items()
        }


def _values(
    connection: duckdb.DuckDBPyConnection, file: ParquetView, columns: Sequence[str], rows: set[int]
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
    """Two values; long ones are cut to the part where they begin to differ."""
    pairs = enumerate(zip(old or "", new or "", strict=False))
    same = next((place for place, (a, b) in pairs if a != b), min(len(old or ""), len(new or "")))
    start = max(same - LONGEST // 4, 0)

    def cut(text: str | None) -> str | None:
        if text is None or len(text) <= LONGEST:
            return text
        return ("…" if start else "") + text[start : start + LONGEST] + ("…" if start + LONGEST < len(text) else "")

    return cut(old), cut(new)


def _statistics(
    connection: duckdb.DuckDBPyConnection, file: ParquetView, column: str, key: Sequence[str]
) -> Statistics | None:
    if column not in file.columns:
        return None
    at = file.at(column)
    distinct = "" if [column] == [*key] else "DISTINCT "  # a key by itself has no value twice
    nested = file.type_of(column).endswith((")", "]"))
    ends = "NULL, NULL" if nested else f"min({at})::VARCHAR, max({at})::VARCHAR"
    (row,) = connection.execute(
        f"SELECT count(*), count({at}), count({distinct}{at}), {ends} FROM {file.view}"
    ).fetchall()
    rows, values, different, first, last = row
    return Statistics(rows, rows - values, different, *(end and end[:LONGEST] for end in (first, last)))


def _layout(old: ParquetView, new: ParquetView) -> dict[str, Change]:
    """Facts of the files, apart from rows and columns, that changed."""
    was, becomes = _facts(old), _facts(new)
    shared = {column for column in old.columns if column in new.columns}
    arrow = [dict(zip(f.columns, f.metadata.schema.to_arrow_schema().types, strict=True)) for f in (old, new)]
    other = [c for c in new.columns if c in shared and old.type_of(c) == new.type_of(c) and arrow[0][c] != arrow[1][c]]
    for facts, file, types in zip((was, becomes), (old, new), arrow, strict=True):
        facts["order of columns"] = ", ".join(column for column in file.columns if column in shared)
        facts["Arrow types"] = ", ".join(f"{column} {types[column]}" for column in other)
    return {name: Change(was[name], becomes[name]) for name in sorted(was) if was[name] != becomes[name]}


def _facts(file: ParquetView) -> dict[str, Any]:
    metadata = file.metadata
    chunks = [
        metadata.row_group(group).column(column)
        for group in range(metadata.num_row_groups)
        for column in range(metadata.num_columns)
    ]
    other = {k: v for k, v in (metadata.metadata or {}).items() if k not in _IGNORED_METADATA}
    return {
        "bytes": file.path.stat().st_size,
        "row groups": metadata.num_row_groups,
        "written by": metadata.created_by,
        "codecs": ", ".join(sorted({chunk.compression for chunk in chunks})),
        "encodings": ", ".join(sorted({encoding for chunk in chunks for encoding in chunk.encodings})),
        "page index": any(chunk.has_offset_index for chunk in chunks),
        "metadata": ", ".join(
            f"{k.decode(errors='replace')}={v.decode(errors='replace')}" for k, v in sorted(other.items())
        ),
    }
