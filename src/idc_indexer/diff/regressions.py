"""Regression checks: changes between two releases that nobody should miss before they are published.

A finding has a stable name, such as `rows:ct_index`, by which a person can accept it with a reason. The manifest of the
release records what was accepted. `limits.json` says how much may change.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from idc_indexer import documents, files
from idc_indexer.diff.result import ColumnDifference, Difference, Loss, TableDifference
from idc_indexer.errors import UsageError
from idc_indexer.release.manifest import MANIFEST, Acceptance, Release

_ALL = 100.0
_COLLECTION = "collection:"


@dataclass(frozen=True)
class Finding:
    """A change that exceeds the limits.

    Attributes:
        name: the kind of finding and its subject: `index:`, `column:`, `type:`, `key:`, `match:`, `rows:`, `gone:`,
            `nulls:` or `collection:`.
        reason: why it was accepted; empty if it was not.
        follows: names of findings that explain it: whoever accepts these accepts it too.
    """

    name: str
    message: str
    reason: str = ""
    follows: tuple[str, ...] = ()


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
    found = explained_findings(difference, limits)
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
    return [replace(finding, reason=_reason(finding, reasons)) for finding in found]


def _reason(finding: Finding, reasons: Mapping[str, str]) -> str:
    if finding.follows and all(name in reasons for name in finding.follows):
        return reasons.get(finding.name, f"follows from {', '.join(finding.follows)}")
    return reasons.get(finding.name, "")


def explained_findings(difference: Difference, limits: Mapping[str, Any]) -> list[Finding]:
    """The changes that exceed the limits, with the removed collections that each of them follows from."""
    removed = difference.idc.removed_collections if difference.idc else ()
    choices = [(name,) for name in removed] + ([removed] if len(removed) > 1 else [])
    left = {choice: {one.name for one in findings(difference, limits, choice)} for choice in choices}
    return [
        replace(
            finding,
            follows=next((_names(choice) for choice in choices if finding.name not in left[choice]), ()),
        )
        if not finding.name.startswith(_COLLECTION)
        else finding
        for finding in findings(difference, limits)
    ]


def _names(collections: Collection[str]) -> tuple[str, ...]:
    return tuple(f"{_COLLECTION}{name}" for name in collections)


def findings(difference: Difference, limits: Mapping[str, Any], without: Collection[str] = ()) -> Iterator[Finding]:
    """The changes that exceed the limits, table by table.

    Args:
        limits: a document of kind `limits`.
        without: removed collections whose rows are left out.
    """
    for group in difference.idc.collections if difference.idc else ():
        if not group.new and group.name not in without:
            yield Finding(f"{_COLLECTION}{group.name}", f"the collection was removed, with {group.old:,} series")
    for table in difference.tables:
        yield from _of_table(table, {**limits, **limits["indices"].get(table.name, {})}, without)


def _of_table(table: TableDifference, limits: Mapping[str, Any], without: Collection[str]) -> Iterator[Finding]:
    losses = [loss for name, loss in table.removed_with.items() if name in without]
    if table.state == "removed":
        yield Finding(f"index:{table.name}", "the index was removed")
    if table.state == "unmatched":
        yield Finding(f"match:{table.name}", f"rows cannot be compared: {table.problem}")
    if table.key_change:
        was, becomes = (", ".join(key) for key in (table.key_change.old, table.key_change.new))
        yield Finding(f"key:{table.name}", f"the key changed from {was} to {becomes}")
    for column in table.columns:
        yield from _of_column(table.name, column, limits, losses)
    lost_with = sum(loss.rows for loss in losses)
    if table.rows and table.rows.old > lost_with:
        rows = replace(table.rows, old=table.rows.old - lost_with, removed=table.rows.removed - lost_with)
        for kind, lost, what in (
            ("rows", rows.old - rows.new, f"{rows.new:,} rows, {rows.old:,} before"),
            ("gone", rows.removed, f"{rows.removed:,} of {rows.old:,} rows were removed{_example(rows.removed_keys)}"),
        ):
            limit = limits["rows_drop_percent" if kind == "rows" else "rows_gone_percent"]
            if lost > 0 and _over(lost / rows.old, limit):
                share = f"{lost / rows.old:.2%} less" if kind == "rows" else f"{lost / rows.old:.2%}"
                yield Finding(f"{kind}:{table.name}", f"{what}: {share}, the limit is {limit:g}%")


def _of_column(
    table: str, column: ColumnDifference, limits: Mapping[str, Any], losses: Sequence[Loss]
) -> Iterator[Finding]:
    name = f"{table}.{column.name}"
    if column.state == "removed":
        yield Finding(f"column:{name}", "the column was removed")
    elif column.state == "shared" and column.type:
        yield Finding(f"type:{name}", f"the type changed from {column.type.old} to {column.type.new}")
    if column.old and column.new:
        rows = column.old.rows - sum(loss.rows for loss in losses)
        nulls = column.old.nulls - sum(loss.nulls.get(column.name, 0) for loss in losses)
        was, becomes = replace(column.old, rows=rows, nulls=nulls).null_share, column.new.null_share
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
