"""Regression checks: changes between two releases that nobody should miss before they are published.

A finding has a stable name, such as `rows:ct_index`, by which a person can accept it with a reason. The manifest of the
release records what was accepted. `limits.json` says how much may change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
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
    """A change that exceeds the limits.

    Attributes:
        name: the kind of finding and its subject: `index:`, `column:`, `type:`, `key:`, `match:`, `rows:`, `gone:`,
            `nulls:` or `collection:`.
        reason: why it was accepted; empty if it was not.
    """

    name: str
    message: str
    reason: str = ""


def load_limits(path: Path | None = None) -> Mapping[str, Any]:
    """The limits in a file; those of the toolkit if None.

    Raises:
        IndexerError: it cannot be read, or is not a file of limits.
    """
    limits: Mapping[str, Any] = documents.load(path or documents.bundled("limits.json"), "limits")
    return limits


def check_regressions(
    release: Path, difference: Difference, limits: Mapping[str, Any], accept: Mapping[str, str]
) -> list[Finding]:
    """Find the changes that exceed the limits, with the reasons of those that are accepted.

    The manifest records the acceptances; the caller holds the lock of the release if there are new ones.

    Args:
        release: the release folder, which is NEW of the difference.
        accept: reasons of new acceptances, by name of finding.

    Raises:
        UsageError: `accept` has a finding that was not found, or no reason for one; nothing was written.
    """
    found = list(findings(difference, limits))
    against = difference.old_version or Path(difference.old).name
    for name, reason in accept.items():
        if name not in {finding.name for finding in found}:
            named = ", ".join(finding.name for finding in found) or "none"
            raise UsageError(f"--accept {name}: no such finding", f"The findings are: {named}.")
        if not reason.strip():
            raise UsageError(f"--accept {name}: no reason given", f"Write --accept {name}=REASON.")
    if accept:
        present = Release.open(release)
        accepted = {(one.finding, one.against): one for one in present.accepted}
        for finding in found:
            if finding.name in accept:
                reason = accept[finding.name].strip()
                accepted[finding.name, against] = Acceptance(finding.name, against, finding.message, reason)
        changed = replace(present, accepted=tuple(accepted[key] for key in sorted(accepted)))
        if changed != present:
            files.write_atomic(release / MANIFEST, changed.manifest())
    return with_reasons(found, Release.open(release), against)


def with_reasons(found: Iterable[Finding], release: Release, against: str) -> list[Finding]:
    """Findings since the release `against`, with the reasons for which they were accepted."""
    reasons = {one.finding: one.reason for one in release.accepted if one.against == against}
    return [replace(finding, reason=reasons.get(finding.name, "")) for finding in found]


def findings(difference: Difference, limits: Mapping[str, Any]) -> Iterator[Finding]:
    """The changes that exceed the limits, table by table.

    Args:
        limits: a document of kind `limits`.
    """
    for table in difference.tables:
        yield from _of_table(table, {**limits, **limits["indices"].get(table.name, {})})
    for group in difference.idc.collections if difference.idc else ():
        if not group.new:
            yield Finding(f"collection:{group.name}", f"the collection was removed, with {group.old:,} series")


def _of_table(table: TableDifference, limits: Mapping[str, Any]) -> Iterator[Finding]:
    if table.state == "removed":
        yield Finding(f"index:{table.name}", "the index was removed")
    if table.state == "unmatched":
        yield Finding(f"match:{table.name}", f"rows cannot be compared: {table.problem}")
    if table.key_change:
        was, becomes = (", ".join(key) for key in (table.key_change.old, table.key_change.new))
        yield Finding(f"key:{table.name}", f"the key changed from {was} to {becomes}")
    for column in table.columns:
        yield from _of_column(table.name, column, limits)
    if table.rows and table.rows.old:
        rows = table.rows
        for kind, lost, what in (
            ("rows", rows.old - rows.new, f"{rows.new:,} rows, {rows.old:,} before"),
            ("gone", rows.removed, f"{rows.removed:,} of {rows.old:,} rows were removed{_example(rows.removed_keys)}"),
        ):
            limit = limits["rows_drop_percent" if kind == "rows" else "rows_gone_percent"]
            if lost > 0 and _over(lost / rows.old, limit):
                share = f"{lost / rows.old:.2%} less" if kind == "rows" else f"{lost / rows.old:.2%}"
                yield Finding(f"{kind}:{table.name}", f"{what}: {share}, the limit is {limit:g}%")


def _of_column(table: str, column: ColumnDifference, limits: Mapping[str, Any]) -> Iterator[Finding]:
    name = f"{table}.{column.name}"
    if column.state == "removed":
        yield Finding(f"column:{name}", "the column was removed")
    elif column.state == "shared" and column.type:
        yield Finding(f"type:{name}", f"the type changed from {column.type.old} to {column.type.new}")
    if column.old and column.new:
        was, becomes = column.old.null_share, column.new.null_share
        limit = limits["null_share_rise_points"]
        if _over(becomes - was, limit):
            shares = f"NULL in {becomes:.2%} of the rows, {was:.2%} before"
            yield Finding(
                f"nulls:{name}", f"{shares}: {(becomes - was) * _ALL:.2f} points more, the limit is {limit:g}"
            )


def _over(share: float, percent: float) -> bool:
    """Whether a share exceeds a limit; 0.30 - 0.28 does not exceed 2 percent."""
    return round(share * _ALL - percent, 9) > 0


def _example(keys: tuple[tuple[str | None, ...], ...]) -> str:
    return f", such as {', '.join(map(str, keys[0]))}" if keys else ""
