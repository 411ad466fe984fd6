"""Wheel, publish, promote, status, check: from a release to its readers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from idc_indexer.api.options import AnyPath
from idc_indexer.errors import UsageError

if TYPE_CHECKING:
    from idc_indexer.publish.records import Step
    from idc_indexer.publish.status import Status
    from idc_indexer.release.verify import Problem


def build_wheel(
    release: AnyPath,
    *,
    out: AnyPath,
    exclude: Collection[str] = (),
    published_at: str | None = None,
    partial: bool = False,
) -> Path:
    """Build the data wheel `idc-index-data` from a release.

    Args:
        release: the release folder, which is verified first.
        out: folder of the wheel.
        exclude: indices whose Parquet the wheel leaves out.
        published_at: where the release is, or will be, published; at IDC when None.
        partial: accept a wheel without idc_index or prior_versions_index, which the `idc-index` client needs.

    Returns:
        The wheel.

    Raises:
        UsageError: `exclude` names an index that the wheel would not have.
        IndexerError: the release has problems, the wheel lacks a table, or the wheel is larger than PyPI accepts.
    """
    from idc_indexer.publish import wheel
    from idc_indexer.release.manifest import PUBLISHED

    return wheel.build_wheel(Path(release), Path(out), exclude, published_at or PUBLISHED, partial)


@dataclass(frozen=True)
class Published:
    """What was written, or would be.

    Attributes:
        version: of the release.
        dry_run: nothing was written.
        steps: for `publish` and `promote`, what was done with each object, in the order of writing.
    """

    version: str
    dry_run: bool
    steps: Mapping[str, tuple[Step, ...]]

    def to_document(self) -> dict[str, Any]:
        """For --json."""
        done = {command: [vars(step) for step in steps] for command, steps in self.steps.items()}
        return {"version": self.version, "dry_run": self.dry_run, **done}


def publish_release(
    release: AnyPath,
    *,
    to: AnyPath,
    promote: bool = False,
    rollback: bool = False,
    card_only: bool = False,
    dry_run: bool = False,
) -> Published:
    """Verify a release, and upload it as `<version>/release_artifacts/`. To continue after a failure, call it again.

    Args:
        release: the release folder.
        to: `gs://bucket[/prefix]`, or a folder; or `hf://datasets/OWNER/NAME`, which becomes a mirror of the release.
        promote: make the version `current` too; not with `dry_run`, for that is decided once the version is published.
        rollback: allow `current`, or a mirror, to move back to an older version.
        card_only: renew the card of a mirror, and nothing else.
        dry_run: write nothing.

    Raises:
        UsageError: options that exclude each other, or `to` is not a store.
        IndexerError: the release has problems, or the version is published already with other bytes.
    """
    if _is_mirror(to):
        return _publish_mirror(Path(release), str(to), promote, rollback, card_only, dry_run)
    if card_only:
        raise UsageError("--card-only is for a mirror, and this is none", "Give --to hf://datasets/OWNER/NAME.")
    if rollback and not promote:
        raise UsageError("--rollback needs --promote: only `current` can move back", "Give --promote too.")
    from idc_indexer.publish.publish import publish
    from idc_indexer.publish.stores import open_store
    from idc_indexer.release.manifest import Release

    store, path = open_store(str(to)), Path(release)
    steps = {"publish": publish(path, store, dry_run=dry_run)}
    version = Release.open(path).release_version
    if promote and not dry_run:
        steps |= promote_release(version, to=to, rollback=rollback).steps
    return Published(version, dry_run, steps)


def _is_mirror(address: AnyPath) -> bool:
    from idc_indexer.publish.stores import HUB

    return str(address).startswith(HUB)


def _publish_mirror(release: Path, to: str, promote: bool, rollback: bool, card_only: bool, dry_run: bool) -> Published:
    if promote:
        raise UsageError("--promote is for a store: a mirror has no `current`", "Leave it out.")
    from idc_indexer.publish.mirror import mirror
    from idc_indexer.publish.stores.hub import HubDataset
    from idc_indexer.release.manifest import Release

    dataset = HubDataset(to)
    steps = mirror(release, dataset, rollback=rollback, card_only=card_only, dry_run=dry_run)
    return Published(Release.open(release).release_version, dry_run, {"publish": steps})


def promote_release(version: str, *, to: AnyPath, rollback: bool = False, dry_run: bool = False) -> Published:
    """Make `current` equal to a published version. To continue after a failure, call it again.

    Args:
        to: `gs://bucket[/prefix]`, or a folder.
        rollback: allow `current` to move back to an older version.
        dry_run: write nothing.

    Raises:
        UsageError: an older version without `rollback`, or `to` is not a store.
        IndexerError: the version is not published completely, or another promotion won.
    """
    from idc_indexer.publish.promote import promote
    from idc_indexer.publish.stores import open_store

    steps = promote(version, open_store(str(to)), rollback=rollback, dry_run=dry_run)
    return Published(version, dry_run, {"promote": steps})


def published_status(*, to: AnyPath) -> Status:
    """List the published versions, and compare `current` with the one that it should equal.

    Args:
        to: as for `publish_release`; of a mirror, the versions are its tags, and `current` is `main`.

    Raises:
        IndexerError: the store cannot be used.
    """
    if _is_mirror(to):
        from idc_indexer.publish.mirror import mirror_status
        from idc_indexer.publish.stores.hub import HubDataset

        return mirror_status(HubDataset(str(to)))
    from idc_indexer.publish.status import status
    from idc_indexer.publish.stores import open_store

    return status(open_store(str(to)))


def check_published(url: str, *, deep: bool = False, rebuilt: AnyPath | None = None) -> list[Problem]:
    """Test published files over HTTP, without credentials, as readers use them.

    Args:
        url: the folder of the files, such as `.../current/release_artifacts/`; or a mirror,
            `hf://datasets/OWNER/NAME`.
        deep: download every file and compare its SHA-256.
        rebuilt: a release folder, whose files must be the published ones.

    Returns:
        Every problem; empty when readers get all that they need.

    Raises:
        UsageError: not an address of HTTP.
        IndexerError: the server cannot be reached.
    """
    against = None if rebuilt is None else Path(rebuilt)
    if _is_mirror(url):
        from idc_indexer.publish.mirror import check_mirror
        from idc_indexer.publish.stores.hub import HubDataset

        return check_mirror(HubDataset(url, anonymous=True), deep, against)
    from idc_indexer.publish.public_check import check

    return check(url, deep, against)
