"""Wheel, publish, promote, adopt, withdraw, status, check: from a release to its readers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from idc_indexer.api.options import AnyPath
from idc_indexer.errors import UsageError

if TYPE_CHECKING:
    from idc_indexer.progress import ProgressListener
    from idc_indexer.publish.adopt import Adoption
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
        replaced: the version that was current before a promotion, if it was another one.
        replaced_withdrawn: whether that version is withdrawn.
    """

    version: str
    dry_run: bool
    steps: Mapping[str, tuple[Step, ...]]
    replaced: str | None = None
    replaced_withdrawn: bool = False

    def to_document(self) -> dict[str, Any]:
        """For --json."""
        done = {command: [vars(step) for step in steps] for command, steps in self.steps.items()}
        return {"version": self.version, "dry_run": self.dry_run, "replaced": self.replaced, **done}


def publish_release(
    release: AnyPath,
    *,
    to: AnyPath,
    promote: bool = False,
    rollback: bool = False,
    allow_withdrawn: bool = False,
    replace_unrecorded: bool = False,
    card_only: bool = False,
    dry_run: bool = False,
    listener: ProgressListener | None = None,
) -> Published:
    """Verify a release, and upload it as `<version>/release_artifacts/`. To continue after a failure, call it again.

    Args:
        release: the release folder.
        to: `gs://bucket[/prefix]`, or a folder; or `hf://datasets/OWNER/NAME`, which becomes a mirror of the release.
        promote: make the version `current` too; not with `dry_run`, for that is decided once the version is published.
        rollback, allow_withdrawn, replace_unrecorded: what the promotion may do, as in `promote_release`; a mirror
            takes `rollback` alone.
        card_only: renew the card of a mirror, and nothing else.
        dry_run: write nothing.
        listener: receives progress.

    Raises:
        UsageError: options that exclude each other, or `to` is not a store.
        IndexerError: the release has problems, or the version is published already with other bytes.
    """
    allowed = {
        "rollback": rollback,
        "allow_withdrawn": allow_withdrawn,
        "replace_unrecorded": replace_unrecorded,
    }
    _check_publish_options(to, promote, card_only, allowed)
    if _is_mirror(to):
        return _publish_mirror(Path(release), str(to), rollback, card_only, dry_run)
    from idc_indexer.publish.publish import publish
    from idc_indexer.publish.stores import open_store
    from idc_indexer.release.manifest import Release

    store, path = open_store(str(to), listener, new=True), Path(release)
    steps = {"publish": publish(path, store, dry_run=dry_run, listener=listener)}
    version = Release.open(path).release_version
    if not promote or dry_run:
        return Published(version, dry_run, steps)
    promoted = promote_release(version, to=to, listener=listener, **allowed)
    return replace(promoted, steps={**steps, **promoted.steps})


def _check_publish_options(to: AnyPath, promote: bool, card_only: bool, allowed: Mapping[str, bool]) -> None:
    """Raise UsageError for options that this target does not have."""
    if _is_mirror(to):
        if promote:
            raise UsageError("--promote is for a store: a mirror has no `current`", "Leave it out.")
    elif card_only:
        raise UsageError("--card-only is for a mirror, and this is none", "Give --to hf://datasets/OWNER/NAME.")
    of_promotion = {name: given for name, given in allowed.items() if not (_is_mirror(to) and name == "rollback")}
    for name, given in of_promotion.items():
        if given and not promote:
            raise UsageError(
                f"--{name.replace('_', '-')} needs --promote: it is about `current`", "Give --promote too."
            )


def _is_mirror(address: AnyPath) -> bool:
    from idc_indexer.publish.stores import HUB

    return str(address).startswith(HUB)


def _publish_mirror(release: Path, to: str, rollback: bool, card_only: bool, dry_run: bool) -> Published:
    from idc_indexer.publish.mirror import mirror
    from idc_indexer.publish.stores.hub import HubDataset
    from idc_indexer.release.manifest import Release

    dataset = HubDataset(to)
    steps = mirror(release, dataset, rollback=rollback, card_only=card_only, dry_run=dry_run)
    return Published(Release.open(release).release_version, dry_run, {"publish": steps})


def promote_release(
    version: str,
    *,
    to: AnyPath,
    rollback: bool = False,
    allow_withdrawn: bool = False,
    replace_unrecorded: bool = False,
    dry_run: bool = False,
    listener: ProgressListener | None = None,
) -> Published:
    """Make `current` equal to a published version. To continue after a failure, call it again.

    Args:
        to: `gs://bucket[/prefix]`, or a folder.
        rollback: allow `current` to move back to an older version.
        allow_withdrawn: allow a version that is withdrawn.
        replace_unrecorded: allow that files of `current` which no record explains are replaced.
        dry_run: write nothing.
        listener: receives progress.

    Raises:
        UsageError: what one of these would have to allow, or `to` is not a store.
        IndexerError: the version is not published completely, or another promotion won.
    """
    from idc_indexer.publish.promote import promote
    from idc_indexer.publish.stores import open_store

    store = open_store(str(to), listener)
    done = promote(
        version,
        store,
        rollback=rollback,
        allow_withdrawn=allow_withdrawn,
        replace_unrecorded=replace_unrecorded,
        dry_run=dry_run,
        listener=listener,
    )
    return Published(version, dry_run, {"promote": done.steps}, done.replaced, done.replaced_withdrawn)


def adopt_version(
    version: str, *, to: AnyPath, dry_run: bool = False, listener: ProgressListener | None = None
) -> Adoption:
    """Record a version that another tool published, after a check of its files, so that it can be promoted.

    Args:
        to: `gs://bucket[/prefix]`, or a folder.
        dry_run: check, and write nothing.
        listener: receives progress.

    Raises:
        UsageError: not a version, or `to` is not a store.
        IndexerError: there is no such version, or its files contradict each other.
    """
    from idc_indexer.publish.adopt import adopt
    from idc_indexer.publish.stores import open_store

    return adopt(version, open_store(str(to), listener), dry_run=dry_run, listener=listener)


def withdraw_version(version: str, *, reason: str, to: AnyPath) -> None:
    """Record that a published version is bad. Its files stay; `promote_release` refuses it.

    Args:
        reason: why, in one line.
        to: `gs://bucket[/prefix]`, or a folder.

    Raises:
        UsageError: not a version, no reason, or `to` is not a store.
        IndexerError: there is no such version.
    """
    from idc_indexer.publish.stores import open_store
    from idc_indexer.publish.withdraw import withdraw

    withdraw(version, reason, open_store(str(to)))


def published_status(*, to: AnyPath, listener: ProgressListener | None = None) -> Status:
    """List the published versions, and compare `current` with the one that it should equal. Nothing is written.

    Args:
        to: as for `publish_release`; of a mirror, the versions are its tags, and `current` is `main`.

    Raises:
        UsageError: `to` is not a store.
        IndexerError: the store cannot be used.
    """
    if _is_mirror(to):
        from idc_indexer.publish.mirror import mirror_status
        from idc_indexer.publish.stores.hub import HubDataset

        return mirror_status(HubDataset(str(to)))
    from idc_indexer.publish.status import status
    from idc_indexer.publish.stores import open_store

    return status(open_store(str(to), listener))


def check_published(
    url: str, *, deep: bool = False, rebuilt: AnyPath | None = None, listener: ProgressListener | None = None
) -> list[Problem]:
    """Test published files over HTTP, without credentials, as readers use them.

    Args:
        url: the folder of the files, such as `.../current/release_artifacts/`; or a mirror,
            `hf://datasets/OWNER/NAME`.
        deep: download every file and compare its SHA-256.
        rebuilt: a release folder, whose files must be the published ones.
        listener: receives progress.

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

    return check(url, deep, against, listener=listener)
