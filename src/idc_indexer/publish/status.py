"""Status: the versions at a store, the one that `current` equals, and the objects that differ from what was published.

One listing and the records are enough: the store's checksums stand for the bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from packaging.version import Version

from idc_indexer.publish.records import (
    CURRENT,
    IMMUTABLE,
    NO_CACHE,
    PROMOTION,
    MalformedError,
    publication_name,
    read_promotion,
    read_publication,
)
from idc_indexer.publish.stores import Store, StoredObject
from idc_indexer.release.manifest import MANIFEST, folder


@dataclass(frozen=True)
class VersionStatus:
    """A version at a store.

    Attributes:
        state: `valid`; `unfinished` if its upload has not reached the manifest and nothing else is wrong; `damaged`;
            or `unrecorded` if another tool published it.
        problems: by name of object.
    """

    version: str
    state: str
    problems: Mapping[str, str]


@dataclass(frozen=True)
class Status:
    """The versions at a store, and `current`.

    Attributes:
        versions: the oldest first.
        current: the version that `current` equals or is moving to; None if no version was promoted.
        promoting: whether a promotion to it has begun and not ended.
        problems: of `current`, by name of object.
    """

    versions: tuple[VersionStatus, ...]
    current: str | None
    promoting: bool
    problems: Mapping[str, str]

    @property
    def ok(self) -> bool:
        """Whether `current` is equal to its version, and no published version is damaged."""
        damaged = any(version.state == "damaged" for version in self.versions)
        return self.current is not None and not (self.promoting or self.problems or damaged)

    def to_document(self) -> dict[str, Any]:
        """For `--json`."""
        versions = [{**vars(version), "problems": dict(version.problems)} for version in self.versions]
        return {"ok": self.ok, **vars(self), "versions": versions, "problems": dict(self.problems)}


def status(store: Store) -> Status:
    """The status of a store.

    Raises:
        IndexerError: the store cannot be used, or a record was replaced while it was read.
    """
    listing = store.list("")
    versions = tuple(_version(store, listing, version) for version in _versions(listing))
    try:
        record = read_promotion(store, listing)
    except MalformedError as error:
        return Status(versions, None, False, {PROMOTION: error.message})
    if record is None:
        return Status(versions, None, False, {})
    try:
        publication = read_publication(store, listing, record.release_version)
    except MalformedError:
        publication = None
    if publication is None:
        problems = {PROMOTION: f"names {record.release_version}, which has no valid record"}
    else:
        problems = publication.problems(listing, CURRENT, NO_CACHE)
    return Status(versions, record.release_version, not record.done, problems)


def _versions(listing: Mapping[str, StoredObject]) -> list[str]:
    """The versions in a listing, the oldest first."""
    found = {}
    for name in listing:
        version, slash, _ = name.partition("/")
        with suppress(ValueError):  # another folder, or a number of more digits than Python converts
            found[version] = Version(version if slash else "")
    return sorted(found, key=found.__getitem__)


def _version(store: Store, listing: Mapping[str, StoredObject], version: str) -> VersionStatus:
    try:
        publication = read_publication(store, listing, version)
    except MalformedError as error:
        return VersionStatus(version, "damaged", {publication_name(version): error.message})
    if publication is None:
        return VersionStatus(version, "unrecorded", {})
    problems = publication.problems(listing, version, IMMUTABLE)
    if not problems:
        return VersionStatus(version, "valid", {})
    begun = folder(version) + MANIFEST not in listing and all(name not in listing for name in problems)
    return VersionStatus(version, "unfinished" if begun else "damaged", problems)
