"""Guard rails: what changed from one release to the next that nobody should learn of from readers.

A finding has a name that stays the same, such as `rows:ct_index`, by which a person can accept it with a reason. What
was accepted is kept in the manifest of the release. How much may change is in one file, `limits.json`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from idc_indexer import documents, files
from idc_indexer.diff.result import ColumnDifference, Difference, TableDifference
from idc_indexer.errors import UsageError
from idc_indexer.release.manifest import MANIFEST, Acceptance, Release

_ALL = 100.0


@dataclass(frozen=True)
class Finding:
    """Something that changed more than it may.

    Attributes:
        name: what kind of finding, and of what: `index:`, `column:`, `type:`, `key:`, `match:`, `rows:`, `gone:`,
            `nulls:` or `collection:`.
        reason: why it was accepted; empty when it was not.
    """

    name: str
    message: str
    reason: str = ""


def load_limits(path: Path | None = None) -> Mapping[str, Any]:
    """The limits of a file; those that travel with the toolkit when there is none.

    Raises:
        IndexerError: it cannot be read, or is not of that kind.
    """
    limits: Mapping[str, Any] = documents.load(path or documents.bundled("limits.json"), "limits")
    return limits


def check_regressions(
    release: Path, difference: Difference, limits: Mapping[str, Any], accept: Mapping[str, str]
) -> list[Finding]:
    """What changed more than it may, and what of that is accepted: now, or before, as the manifest says.

    What is accepted now goes into the manifest; for that, the caller holds the lock of the release.

    Args:
        release: the release folder, which is NEW of the difference.
        accept: reasons, by name of finding.

    Raises:
        UsageError: an acceptance of what was not found, or without a reason; nothing was written.
    """
    found = list(findings(difference, limits))
    against = difference.old_version or Path(difference.old).name
    for name, reason in accept.items():
        if name not in {finding.name for finding in found}:
            named = ", ".join(finding.name for finding in found) or "nothing"
            raise UsageError(f"--accept {name}: that was not found", f"Found was: {named}.")
        if not reason.strip():
            raise UsageError(f"--accept {name}: without a reason", f"Write --accept {name}=REASON.")
    if accept:
        present = Release.open(release)
        kept = {(one.finding, one.against): one for one in present.accepted}
        for finding in found:
            if finding.name in accept:
                reason = accept[finding.name].strip()
                kept[finding.name, against] = Acceptance(finding.name, against, finding.message, reason)
        changed = replace(present, accepted=tuple(kept[key] for key in sorted(kept)))
        if changed != present:
            files.write_atomic(release / MANIFEST, changed.manifest())
    reasons = {one.finding: one.reason for one in Release.open(release).accepted if one.against == against}
    return [replace(finding, reason=reasons.get(finding.name, "")) for finding in found]


def findings(difference: Difference, limits: Mapping[str, Any]) -> Iterator[Finding]:
    """What changed more than it may, table by table.

    Args:
        limits: of kind `limits`.
    """
    for table in difference.tables:
        yield from _of_table(table, {**limits, **limits["indices"].get(table.name, {})})
    for group in difference.idc.collections if difference.idc else ():
        if not group.new:
            yield Finding(f"collection:{group.name}", f"the collection is gone, with {group.old:,} series")


def _of_table(table: TableDifference, limits: Mapping[str, Any]) -> Iterator[Finding]:
    if table.state == "removed":
        yield Finding(f"index:{table.name}", "the index is gone")
    if table.state == "unmatched":
        yield Finding(f"match:{table.name}", f"rows cannot be compared: {table.problem}")
    if table.key_change:
        was, becomes = (", ".join(key) for key in (table.key_change.old, table.key_change.new))
        yield Finding(f"key:{table.name}", f"the key was {was}, and is {becomes}")
    for column in table.columns:
        yield from _of_column(table.name, column, limits)
    if table.rows and table.rows.old:
        rows = table.rows
        for kind, lost, what in (
            ("rows", rows.old - rows.new, f"has {rows.new:,} rows, {rows.old:,} before"),
            ("gone", rows.removed, f"{rows.removed:,} of {rows.old:,} rows are gone{_such(rows.removed_keys)}"),
        ):
            limit = limits["rows_drop_percent" if kind == "rows" else "rows_gone_percent"]
            if lost > 0 and _over(lost / rows.old, limit):
                share = f"{lost / rows.old:.2%} less" if kind == "rows" else f"{lost / rows.old:.2%}"
                yield Finding(f"{kind}:{table.name}", f"{what}: {share}, the limit is {limit:g}%")


def _of_column(table: str, column: ColumnDifference, limits: Mapping[str, Any]) -> Iterator[Finding]:
    name = f"{table}.{column.name}"
    if column.state == "removed":
        yield Finding(f"column:{name}", "the column is gone")
    elif column.state == "kept" and column.type:
        yield Finding(f"type:{name}", f"the type was {column.type.old}, and is {column.type.new}")
    if column.old and column.new:
        was, becomes = column.old.null_share, column.new.null_share
        limit = limits["null_share_rise_points"]
        if _over(becomes - was, limit):
            said = f"{was:.2%} of the rows were NULL, and {becomes:.2%} are"
            yield Finding(f"nulls:{name}", f"{said}: {(becomes - was) * _ALL:.2f} points more, the limit is {limit:g}")


def _over(share: float, percent: float) -> bool:
    """Whether a share is more than a limit, which 0.30 - 0.28 is not of 2 percent."""
    return round(share * _ALL - percent, 9) > 0


def _such(keys: tuple[tuple[str | None, ...], ...]) -> str:
    return f", such as {', '.join(map(str, keys[0]))}" if keys else ""
