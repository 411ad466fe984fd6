"""Verify, diff, report: what is wrong in a release, and what changed since another one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from idc_indexer import files
from idc_indexer.api.options import AnyPath
from idc_indexer.diff import Difference, diff, open_inputs
from idc_indexer.diff.regressions import Finding, check_regressions, load_limits
from idc_indexer.errors import UsageError
from idc_indexer.progress import ProgressListener
from idc_indexer.release.manifest import PUBLISHED, Release, release_lock
from idc_indexer.release.verify import Problem, verify


@dataclass(frozen=True)
class Verification:
    """What `verify_release` found.

    Attributes:
        problems: in the release itself.
        findings: regressions since the prior release; None when they were not checked.
        not_compared: tables whose rows were not available.
        manifest_sha256: digest of `manifest.json`, which lists the digests of all other files.
        unproven: by index, the SQL that `--unproven` translated.
        against_withdrawn: why the prior release is withdrawn; empty if it is not.
    """

    problems: tuple[Problem, ...]
    findings: tuple[Finding, ...] | None
    not_compared: tuple[str, ...]
    manifest_sha256: str
    unproven: Mapping[str, Sequence[str]]
    against_withdrawn: str = ""

    @property
    def ok(self) -> bool:
        """Whether there is no problem, and no finding that was not accepted."""
        return not self.problems and all(finding.reason for finding in self.findings or ())

    def to_document(self) -> dict[str, Any]:
        """For --json."""
        document: dict[str, Any] = {"problems": [vars(problem) for problem in self.problems]}
        if self.findings is not None:
            document |= {"findings": [vars(one) for one in self.findings], "not_compared": list(self.not_compared)}
        return document | ({"unproven": dict(self.unproven)} if self.unproven else {})


def verify_release(
    release: AnyPath,
    *,
    against: AnyPath | None = None,
    limits: AnyPath | None = None,
    accept: Mapping[str, str] | None = None,
    published_at: str | None = None,
    listener: ProgressListener | None = None,
) -> Verification:
    """Check a release; with `against`, also for regressions.

    Args:
        release: the release folder.
        against: the prior release, in any form that `diff_releases` takes. It is not read if the release has problems.
        limits: file with your own limits of what may change.
        accept: findings to accept, by name; the manifest records the reasons.
        published_at: where versions such as `25.0.5` are published; at IDC when None.
        listener: receives progress.

    Raises:
        UsageError: `accept` or `limits` without `against`; an acceptance of a finding that does not exist.
        IndexerError: there is no release, or the prior one cannot be read.
    """
    path, accept = Path(release), accept or {}
    if against is None and (accept or limits):
        raise UsageError("--accept and --limits need a prior release", "Give --against too.")
    with release_lock(path) if accept else nullcontext():
        problems = tuple(verify(path, listener))
        if against is None or problems:
            return _verification(path, problems, None)
        allowed = load_limits(Path(limits) if limits else None)
        found = diff_releases(against, path, published_at=published_at, listener=listener)
        findings = tuple(check_regressions(path, found, allowed, accept))
        withdrawn = found.withdrawn.get(found.old, "")
        return _verification(path, problems, findings, tuple(found.unavailable), withdrawn)


def _verification(
    path: Path,
    problems: tuple[Problem, ...],
    findings: tuple[Finding, ...] | None,
    not_compared: tuple[str, ...] = (),
    against_withdrawn: str = "",
) -> Verification:
    release = Release.open(path)
    unproven = release.about["engine"].get("unproven", {})
    return Verification(problems, findings, not_compared, release.manifest_sha256, unproven, against_withdrawn)


def diff_releases(
    old: AnyPath,
    new: AnyPath,
    *,
    indices: Collection[str] = (),
    key: Sequence[str] = (),
    published_at: str | None = None,
    html: AnyPath | None = None,
    listener: ProgressListener | None = None,
) -> Difference:
    """Compare the contents of two releases.

    Args:
        old, new: each a release folder, a data wheel, a Parquet file, an address of published files, or a published
            version, such as `25.0.5` or `current`.
        indices: tables to compare; all when there are none.
        key: columns by which rows are matched, for files without a schema.
        published_at: where versions are published; at IDC when None.
        html: file to write an HTML page to.
        listener: receives progress.

    Returns:
        The differences, by table; `.equal` says whether the contents are equal.

    Raises:
        UsageError: an unknown table, or an input of another kind.
        IndexerError: an input cannot be read.
    """
    with open_inputs(str(old), str(new), published_at or PUBLISHED, listener) as inputs:
        found = diff(*inputs, indices, key, listener)
    if html:
        from idc_indexer.report import difference_page

        files.write_atomic(Path(html), difference_page(found).encode())
    return found


def write_report(
    release: AnyPath,
    *,
    against: AnyPath | None = None,
    limits: AnyPath | None = None,
    published_at: str | None = None,
    listener: ProgressListener | None = None,
) -> Release:
    """Write `report.html` into a release, and into its manifest.

    Args:
        release: the release folder, which is verified first.
        against: the prior release, in any form that `diff_releases` takes: the report then shows what changed.
        limits: file with your own limits of what may change.
        published_at: where the release is, or will be, published, and prior versions are. When None, prior versions
            are those of IDC, and the report names no address.
        listener: receives progress.

    Returns:
        The release; `.report` is the entry of the file in its manifest.

    Raises:
        IndexerError: the release has problems, or the prior one cannot be read.
    """
    from idc_indexer import report

    path = Path(release)
    found = None if against is None else diff_releases(against, path, published_at=published_at, listener=listener)
    return report.write_report(path, found, published_at, load_limits(Path(limits) if limits else None), listener)
