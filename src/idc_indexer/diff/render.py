"""A difference in words: lines for a terminal, and Markdown for a release or the summary of a workflow."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape

from idc_indexer.diff.result import Change, ColumnDifference, Difference, Group, IdcSummary, Moved, TableDifference

MARKDOWN_LIMIT = 120_000
"""Characters. The text of a GitHub release may have 125,000, a step summary 1 MiB."""
_GROUPS = 60
"""Collections, or modalities, that are listed one by one."""
_CELL = 80
"""Characters of a value in a table."""


def lines(difference: Difference) -> Iterator[str]:
    """The difference for a terminal, the verdict first."""
    yield difference.verdict
    for table in difference.tables:
        if table.state != "identical":
            yield f"{table.name}: {_state(table)}"
        for column in table.content:
            yield f"    {column.name}: {_column(column)}"
            for example in column.examples[:1]:
                yield f"        such as {_key(example.key)}: {shown(example.old)} -> {shown(example.new)}"
        for names, what in (
            ([column.name for column in table.columns if column.description], "described otherwise"),
            (list(table.layout), "files differ in"),
        ):
            if names:
                yield f"    {what}: {', '.join(names)}"
    if difference.idc:
        yield from (f"IDC: {line}" for line in idc_lines(difference.idc))


def idc_lines(idc: IdcSummary) -> Iterator[str]:
    """The summary for IDC, without collections and modalities one by one."""
    total = idc.total
    yield (
        f"{total.new:,} series, {total.old:,} before: {total.added:,} added, {total.revised:,} revised, "
        f"{total.removed:,} removed; {total.new_tb:.3f} TB, {total.old_tb:.3f} before"
    )
    for names, what in (
        (idc.new_collections, "new collections"),
        (idc.gone_collections, "collections that are gone"),
        (idc.new_analysis_results, "new analysis results"),
        (idc.gone_analysis_results, "analysis results that are gone"),
    ):
        if names:
            yield f"{what}: {', '.join(names)}"
    for moves, what in ((idc.licenses, "licence"), (idc.buckets, "bucket")):
        for move in moves or ():
            yield f"{what} changed: {_moved(move)}"


def markdown(difference: Difference, limit: int = MARKDOWN_LIMIT) -> str:
    """The difference as Markdown of GitHub, of at most `limit` characters.

    What matters most comes first; a part that does not fit is left out, and it says so.
    """
    said, left_out = f"**{_escaped(difference.verdict)}**\n", 0
    for part in _parts(difference):
        if len(said) + len(part) + 100 <= limit:
            said += f"\n{part}\n"
        else:
            left_out += 1
    return said + (f"\n{left_out} further parts did not fit; `idc-indexer diff --json` has all.\n" if left_out else "")


def _parts(difference: Difference) -> Iterator[str]:
    if difference.idc:
        yield "\n".join(f"- {_escaped(line)}" for line in idc_lines(difference.idc))
    yield _table(
        ("table", "", "rows before", "rows", "added", "removed", "changed", "columns that changed"),
        ([_code(table.name), _word(table), *_numbers(table)] for table in difference.tables),
    )
    if difference.idc:
        for what, groups in (("collection", difference.idc.collections), ("modality", difference.idc.modalities)):
            changed = [group for group in groups if group.changed]
            changed.sort(key=lambda group: (-group.changed, group.name))
            if changed:
                rest = f"\n\n{len(changed) - _GROUPS} more." if len(changed) > _GROUPS else ""
                head = (what, "series before", "series", "added", "revised", "removed", "TB before", "TB")
                yield _table(head, map(_group, changed[:_GROUPS])) + rest
    for table in difference.tables:
        if table.columns or table.layout:
            summary = escape(f"{table.name}: {_state(table)}")
            yield f"<details><summary>{summary}</summary>\n\n{_details(table)}\n\n</details>"


def _group(group: Group) -> list[str]:
    counts = (group.old, group.new, group.added, group.revised, group.removed)
    sizes = (group.old_tb, group.new_tb)
    return [_code(group.name) if group.name else "none", *(f"{n:,}" for n in counts), *(f"{tb:.3f}" for tb in sizes)]


def _details(table: TableDifference) -> str:
    rows = []
    for column in table.columns:
        was, becomes = column.old, column.new
        example = column.examples[0] if column.examples else None
        rows.append(
            [
                _code(column.name),
                _escaped(_column(column)),
                f"{was.null_share:.2%}" if was else "",
                f"{becomes.null_share:.2%}" if becomes else "",
                f"{was.distinct:,}" if was else "",
                f"{becomes.distinct:,}" if becomes else "",
                _escaped(f"{shown(example.old)} → {shown(example.new)}") if example else "",
            ]
        )
    head = ("column", "", "NULL before", "NULL", "distinct before", "distinct", "example")
    found = [_table(head, rows)] if rows else []
    if table.layout:
        changes = [[name, _escaped(shown(c.old)), _escaped(shown(c.new))] for name, c in table.layout.items()]
        found.append(_table(("of the files", "before", "now"), changes))
    return "\n\n".join(found)


def _state(table: TableDifference) -> str:
    if table.problem:
        return f"not compared: {table.problem}"
    rows = table.rows
    if rows is None:
        return _word(table)
    counts = [
        f"{count:,} {what}"
        for count, what in (
            (rows.added, "added"),
            (rows.removed, "removed"),
            (rows.changed, "changed"),
            (rows.moved, "at another place"),
        )
        if count
    ]
    before = f"{rows.new:,} rows" + (f", {rows.old:,} before" if rows.old != rows.new else "")
    return f"{_word(table)}: {before}" + (f": {', '.join(counts)}" if counts else "")


def _word(table: TableDifference) -> str:
    return {
        "identical": "same bytes",
        "equal": "same content",
        "changed": "changed",
        "added": "new",
        "removed": "gone",
        "unmatched": "cannot be matched",
        "unseen": "not compared",
    }[table.state]


def _numbers(table: TableDifference) -> list[str]:
    rows = table.rows
    counts = [f"{n:,}" for n in (rows.old, rows.new, rows.added, rows.removed, rows.changed)] if rows else [""] * 5
    return [*counts, str(sum(column.cells > 0 or column.state != "kept" for column in table.columns) or "")]


def _column(column: ColumnDifference) -> str:
    said: list[str] = [] if column.state == "kept" else [column.state]
    if column.type:
        said.append(
            f"type {_change(column.type)}" if column.state == "kept" else f"{column.type.new or column.type.old}"
        )
    if column.cells:
        said.append(f"{column.cells:,} {'cell' if column.cells == 1 else 'cells'} changed")
    if column.description:
        said.append("described otherwise")
    was, becomes = column.old, column.new
    if was and becomes and was.null_share != becomes.null_share:
        said.append(f"NULL {was.null_share:.2%} -> {becomes.null_share:.2%}")
    if was and becomes and was.distinct != becomes.distinct:
        said.append(f"distinct {was.distinct:,} -> {becomes.distinct:,}")
    return ", ".join(said) or "values as before"


def _change(change: Change) -> str:
    return f"{change.old} -> {change.new}"


def _moved(move: Moved) -> str:
    return f"{shown(move.old)} -> {shown(move.new)}, {move.series:,} series"


def _key(key: Sequence[str | None]) -> str:
    return ", ".join(map(shown, key))


def shown(value: object) -> str:
    """A value in one line, so that NULL and an empty text are told apart."""
    if value is None:
        return "NULL"
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(value))
    if not text or text != text.strip():
        return f"«{text}»"
    return text if len(text) <= _CELL else f"{text[:_CELL]}…"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    body = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in body)


def _code(name: str) -> str:
    """A name as code, if nothing in it could end that."""
    return f"`{name}`" if re.fullmatch(r"[\w. -]+", name) else _escaped(name)


def _escaped(text: str) -> str:
    """Text that Markdown and HTML take as it is, in one line."""
    text = re.sub(r"\s+", " ", text)
    return re.sub(r"([\\`*_{}\[\]<>#|~&@])", r"\\\1", text)
