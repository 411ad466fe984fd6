"""Status: the versions at a store, the one that `current` equals, and the objects that differ from what was published.

One listing, the records and the manifests are enough: the store's checksums stand for the bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from idc_indexer.publish.records import (
    CURRENT,
    IMMUTABLE,
    NO_CACHE,
    PROMOTION,
    MalformedError,
    ReadOnce,
    artifacts,
    publication_name,
    read_promotion,
    read_publication,
    read_withdrawal,
    versions_in,
)
from idc_indexer.publish.root_files import root_files, root_problems
from idc_indexer.publish.stores import Store, StoredObject
from idc_indexer.release.manifest import MANIFEST, folder


@dataclass(frozen=True)
class VersionStatus:
    """A version at a store.

    Attributes:
        state: `valid`; `adopted` if another tool published it, and it is as it was recorded; `unfinished` if its upload
            has not reached the manifest and nothing else is wrong; `damaged`; or `unrecorded` if another tool
            published it, and it was not adopted.
        problems: by name of object.
        withdrawn: why it is withdrawn; empty if it is not.
    """

    version: str
    state: str
    problems: Mapping[str, str]
    withdrawn: str = ""


@dataclass(frozen=True)
class Status:
    """The versions at a store, and `current`.

    Attributes:
        versions: the oldest first.
        current: the version that `current` equals or is moving to; None if there is none.
        recorded: whether a record says so. If none does, `current` is the newest version that has the same files.
        promoting: whether a promotion to it has begun and not ended.
        problems: of `current`, by name of object.
        root_files: problems of `versions.json` and `llms.txt`, by name. While a promotion is under way, which renews
            them at its end, they are not compared.
    """

    versions: tuple[VersionStatus, ...]
    current: str | None
    recorded: bool
    promoting: bool
    problems: Mapping[str, str]
    root_files: Mapping[str, str] = field(default_factory=dict)

    @property
    def withdrawn(self) -> str:
        """Why the current version is withdrawn; empty if it is not."""
        return next((one.withdrawn for one in self.versions if one.version == self.current), "")

    @property
    def ok(self) -> bool:
        """Whether `current` is equal to a version that is not withdrawn, no published version is damaged, and the
        root files say so.
        """
        damaged = any(version.state == "damaged" for version in self.versions)
        wrong = self.promoting or self.problems or self.root_files or damaged or self.withdrawn
        return self.current is not None and not wrong

    def to_document(self) -> dict[str, Any]:
        """For `--json`."""
        versions = [{**vars(version), "problems": dict(version.problems)} for version in self.versions]
        problems = {"problems": dict(self.problems), "root_files": dict(self.root_files)}
        return {"ok": self.ok, **vars(self), "versions": versions, **problems}


def status(store: Store) -> Status:
    """The status of a store.

    Raises:
        IndexerError: the store cannot be used, or a record was replaced while it was read.
    """
    reads, listing = ReadOnce(store), store.list("")
    root = root_problems(store, listing, root_files(reads, listing))  # first: it reads records in parallel
    found = _status(reads, listing)
    return found if found.promoting else replace(found, root_files=root)


def _status(store: ReadOnce, listing: Mapping[str, StoredObject]) -> Status:
    """The status of a store but for its root files."""
    versions = tuple(_version(store, listing, version) for version in versions_in(listing))
    try:
        record = read_promotion(store, listing)
    except MalformedError as error:
        return Status(versions, None, False, False, {PROMOTION: error.message})
    if record is None:
        return _without_record(versions, listing)
    try:
        publication = read_publication(store, listing, record.release_version)
    except MalformedError:
        publication = None
    if publication is None:
        problems = {PROMOTION: f"names {record.release_version}, which has no valid record"}
    else:
        problems = publication.problems(listing, CURRENT, NO_CACHE)
    return Status(versions, record.release_version, True, not record.done, problems)


def _without_record(versions: tuple[VersionStatus, ...], listing: Mapping[str, StoredObject]) -> Status:
    """The status of a store whose `current` this toolkit has not written, or not yet."""
    present = _contents(listing, CURRENT)
    for version in reversed(versions):
        if present and present == _contents(listing, version.version):
            return Status(versions, version.version, False, False, {})
    problems = {folder(CURRENT): f"has {len(present)} files, and no version has the same"} if present else {}
    return Status(versions, None, False, False, problems)


def _contents(listing: Mapping[str, StoredObject], version: str) -> dict[str, tuple[int, str]]:
    """Size and checksum of the files of a version, or of `current`."""
    found = artifacts(listing, version).items()
    return {name.removeprefix(folder(version)): (one.bytes, one.checksum) for name, one in found}


def _version(store: ReadOnce, listing: Mapping[str, StoredObject], version: str) -> VersionStatus:
    withdrawn = read_withdrawal(store, listing, version)
    try:
        publication = read_publication(store, listing, version)
    except MalformedError as error:
        return VersionStatus(version, "damaged", {publication_name(version): error.message}, withdrawn)
    if publication is None:
        return VersionStatus(version, "unrecorded", {}, withdrawn)
    problems = publication.problems(listing, version, IMMUTABLE)
    if not problems:
        return VersionStatus(version, "adopted" if publication.adopted else "valid", {}, withdrawn)
    begun = folder(version) + MANIFEST not in listing and all(name not in listing for name in problems)
    unfinished = begun and not publication.adopted
    return VersionStatus(version, "unfinished" if unfinished else "damaged", problems, withdrawn)
