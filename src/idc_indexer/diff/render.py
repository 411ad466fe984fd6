"""A difference as text: lines for a terminal, and Markdown for a GitHub release or the summary of a workflow run.

Names and values are data: in Markdown each is escaped, cut, and marked as code, in which GitHub looks for no mentions
and links.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from rich.filesize import decimal

from idc_indexer.diff.result import (
    Change,
    ColumnDifference,
    Difference,
    Group,
    IdcSummary,
    TableDifference,
    ValueChange,
    shown,
)

MARKDOWN_LIMIT = 120_000
"""Characters. The text of a GitHub release may have 125,000, a step summary 1 MiB."""
STATES = {
    "identical": "same bytes",
    "equal": "same content",
    "changed": "changed",
    "added": "new",
    "removed": "removed",
    "unmatched": "cannot be matched",
    "unavailable": "not compared",
}
"""The states of a table in words."""
_MAX_GROUPS = 60
"""Collections, or modalities, that are listed one by one."""
_MAX_LINE = 2_000
"""Characters of a line of Markdown that lists names."""


def lines(difference: Difference) -> Iterator[str]:
    """The difference for a terminal, the verdict first."""
    yield difference.verdict
    yield from withdrawn_lines(difference)
    for table in difference.tables:
        if table.state != "identical":
            yield f"{table.name}: {_state(table)}"
        for column in table.content:
            yield f"    {column.name}: {_column(column)}"
            for example in column.examples[:1]:
                yield f"        such as {_key(example.key)}: {shown(example.old)} -> {shown(example.new)}"
        for names, what in (
            ([column.name for column in table.columns if column.description], "new descriptions"),
            (list(table.layout), "files differ in"),
        ):
            if names:
                yield f"    {what}: {', '.join(names)}"
    yield from (f"idc.duckdb: {name}: {shown(c.old)} -> {shown(c.new)}" for name, c in difference.views.items())
    if difference.idc:
        yield from (f"IDC: {line}" for line in idc_lines(difference.idc))


def withdrawn_lines(difference: Difference) -> Iterator[str]:
    """A line for each input that is withdrawn."""
    yield from (f"{name} is withdrawn: {reason}" for name, reason in difference.withdrawn.items())


def idc_lines(idc: IdcSummary) -> Iterator[str]:
    """The summary for IDC, without collections and modalities one by one."""
    total = idc.total
    yield (
        f"{total.new:,} series, {total.old:,} before: {total.added:,} added, {total.revised:,} revised, "
        f"{total.removed:,} removed; {size_of_tb(total.new_tb)}, {size_of_tb(total.old_tb)} before"
    )
    for names, what in (
        (idc.new_collections, "new collections"),
        (idc.removed_collections, "removed collections"),
        (idc.new_analysis_results, "new analysis results"),
        (idc.removed_analysis_results, "removed analysis results"),
    ):
        if names:
            yield f"{what}: {', '.join(names)}"
    for changes, what in ((idc.licenses, "licence"), (idc.buckets, "bucket")):
        for change in changes or ():
            yield f"{what} changed: {_value_change(change)}"


def size_of_tb(terabytes: float) -> str:
    """A size in the unit that fits, such as `96.5 TB` or `1.3 GB`."""
    return decimal(round(terabytes * 1e12))


def markdown(difference: Difference, limit: int = MARKDOWN_LIMIT) -> str:
    """The difference as GitHub's Markdown, of at most `limit` characters.

    The most important parts come first. A part that does not fit is omitted, and the end says so.
    """
    text, omitted = f"**{_code(difference.verdict, min(_MAX_LINE, limit // 10))}**\n", 0
    for part in _parts(difference):
        if len(text) + len(part) + 100 <= limit:
            text += f"\n{part}\n"
        else:
            omitted += 1
    return text + (f"\n{omitted} further parts did not fit; `idc-indexer diff --json` has all.\n" if omitted else "")


def _parts(difference: Difference) -> Iterator[str]:
    if difference.withdrawn:
        yield "\n".join(f"- {_code(line, _MAX_LINE)}" for line in withdrawn_lines(difference))
    if difference.idc:
        yield "\n".join(f"- {_code(line, _MAX_LINE)}" for line in idc_lines(difference.idc))
    yield _table(
        ("table", "", "rows before", "rows", "added", "removed", "changed", "columns that changed"),
        ([_code(table.name), STATES[table.state], *_numbers(table)] for table in difference.tables),
    )
    if difference.idc:
        for what, groups in (("collection", difference.idc.collections), ("modality", difference.idc.modalities)):
            changed = [group for group in groups if group.changed]
            changed.sort(key=lambda group: (-group.changed, group.name))
            if changed:
                rest = f"\n\n{len(changed) - _MAX_GROUPS} more." if len(changed) > _MAX_GROUPS else ""
                head = (what, "series before", "series", "added", "revised", "removed", "size before", "size")
                yield _table(head, map(_group, changed[:_MAX_GROUPS])) + rest
    for table in difference.tables:
        if table.columns or table.layout:
            summary = _html_code(f"{table.name}: {_state(table)}", _MAX_LINE)
            yield f"<details><summary>{summary}</summary>\n\n{_details(table)}\n\n</details>"
    if difference.views:
        yield _changes("of idc.duckdb", difference.views)


def _group(group: Group) -> list[str]:
    counts = (group.old, group.new, group.added, group.revised, group.removed)
    sizes = (group.old_tb, group.new_tb)
    return [_code(group.name) if group.name else "none", *(f"{n:,}" for n in counts), *map(size_of_tb, sizes)]


def _details(table: TableDifference) -> str:
    rows = []
    for column in table.columns:
        before, after = column.old, column.new
        example = column.examples[0] if column.examples else None
        rows.append(
            [
                _code(column.name),
                _code(_column(column), _MAX_LINE),
                f"{before.null_share:.2%}" if before else "",
                f"{after.null_share:.2%}" if after else "",
                f"{before.distinct:,}" if before else "",
                f"{after.distinct:,}" if after else "",
                f"{_code(example.old)} → {_code(example.new)}" if example else "",
            ]
        )
    head = ("column", "", "NULL before", "NULL", "distinct before", "distinct", "example")
    found = [_table(head, rows)] if rows else []
    if table.layout:
        found.append(_changes("of the file", table.layout))
    return "\n\n".join(found)


def _changes(of: str, changes: Mapping[str, Change]) -> str:
    return _table((of, "before", "now"), ([_code(name), _code(c.old), _code(c.new)] for name, c in changes.items()))


def _state(table: TableDifference) -> str:
    if table.problem:
        return f"not compared: {table.problem}"
    rows = table.rows
    if rows is None:
        return STATES[table.state]
    counts = [
        f"{count:,} {what}"
        for count, what in (
            (rows.added, "added"),
            (rows.removed, "removed"),
            (rows.changed, "changed"),
            (rows.moved, "in another position"),
        )
        if count
    ]
    before = f"{rows.new:,} rows" + (f", {rows.old:,} before" if rows.old != rows.new else "")
    return f"{STATES[table.state]}: {before}" + (f": {', '.join(counts)}" if counts else "")


def _numbers(table: TableDifference) -> list[str]:
    rows = table.rows
    counts = [f"{n:,}" for n in (rows.old, rows.new, rows.added, rows.removed, rows.changed)] if rows else [""] * 5
    return [*counts, str(sum(column.cells > 0 or column.state != "shared" for column in table.columns) or "")]


def _column(column: ColumnDifference) -> str:
    changes = [_presence(column)] if column.state != "shared" or column.type else []
    if column.cells:
        changes.append(f"{column.cells:,} {'cell' if column.cells == 1 else 'cells'} changed")
    if column.description:
        changes.append("new description")
    if column.old and column.new:
        if column.old.null_share != column.new.null_share:
            changes.append(f"NULL {column.old.null_share:.2%} -> {column.new.null_share:.2%}")
        if column.old.distinct != column.new.distinct:
            changes.append(f"distinct {column.old.distinct:,} -> {column.new.distinct:,}")
    return ", ".join(changes) or "values as before"


def _presence(column: ColumnDifference) -> str:
    """Whether a column was added or removed, and the type that it has, had or got."""
    kinds = [kind for kind in (column.type.old, column.type.new) if kind] if column.type else []
    return " ".join([f"{column.state}," if column.state != "shared" else "type", " -> ".join(kinds)]).rstrip(", ")


def _value_change(change: ValueChange) -> str:
    return f"{shown(change.old)} -> {shown(change.new)}, {change.series:,} series"


def _key(key: Sequence[str | None]) -> str:
    return ", ".join(map(shown, key))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    body = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in body)


def _code(value: object, *most: int) -> str:
    """Data as code, in one line: nothing in a code span is markup, but a backtick ends it, and a bar ends a cell."""
    text = shown(value, *most)
    return _html_code(text, len(text)) if re.search(r"[`|\\]", text) else f"`{text}`"


def _html_code(value: object, most: int) -> str:
    """Data as code in HTML. Numeric entities are never markup, neither of Markdown nor of HTML."""
    text = re.sub(r"[^\w ,-]|_", lambda found: f"&#{ord(found[0])};", shown(value, most), flags=re.ASCII)
    return f"<code>{text}</code>"
