"""The objects of a store: the files of each version and of `current`, and one record beside each of them.

`<version>/publication.json` is written before the files of the version and lists them. If two publishers start the
same version, the first record wins. The manifest is written last, so a version with a manifest is complete.
`current/promotion.json` names the version that `current` equals or is moving to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, TypeVar

from idc_indexer import documents
from idc_indexer.errors import IndexerError
from idc_indexer.publish.stores import ABSENT, ConflictError, Headers, Store, StoredObject
from idc_indexer.release.manifest import MANIFEST, FileEntry, Release

PUBLISHED = "https://storage.googleapis.com/idc-index-data-artifacts"
"""Where IDC publishes its releases."""
ARTIFACTS = "release_artifacts"
CURRENT = "current"
IMMUTABLE = "public, max-age=31536000, immutable"
NO_CACHE = "no-cache"
EXPOSED = ("Content-Range", "Content-Length", "Content-Type", "Accept-Ranges", "Range")
"""Response headers that a reader in a browser must see to read a part of a file."""
WORKERS = 8
"""Requests at a time: enough to hide the latency of small objects, few enough for a home's uplink."""
ROUNDS = 50
"""How often one command lists the store again after a conflict before it gives up."""

_FORMAT_VERSION = 1
_MEDIA_TYPES = {
    ".parquet": "application/vnd.apache.parquet",
    ".zip": "application/zip",
    ".sha256": "text/plain",
    ".json": "application/json",
    ".sql": "application/sql",
    ".html": "text/html",
}
_RECORD = Headers("application/json", NO_CACHE, {})

Item = TypeVar("Item")


def folder(version: str) -> str:
    """Prefix of the files of a version, or of `current`."""
    return f"{version}/{ARTIFACTS}/"


def media_type(name: str) -> str:
    """The content type of a file, by its suffix."""
    return _MEDIA_TYPES.get(Path(name).suffix, "application/octet-stream")


def upload_phase(name: str) -> int:
    """The phase in which a file or an object is written: after everything that it refers to."""
    if Path(name).name == MANIFEST:
        return 3
    return {".parquet": 0, ".zip": 0, ".sha256": 1}.get(Path(name).suffix, 2)


class MalformedError(IndexerError):
    """A record is not valid, so another program wrote it."""


@dataclass(frozen=True)
class Publication:
    """The files that are published as a version.

    Attributes:
        files: in the order in which they are written.
        checksums: the store's checksum of each file, by name.
    """

    idc_version: int
    release_version: str
    files: tuple[FileEntry, ...]
    checksums: Mapping[str, str]

    @classmethod
    def of(cls, release: Release, store: Store) -> Publication:
        """The publication of a release at a store."""
        manifest = (release.path / MANIFEST).read_bytes()
        entries = [replace(entry, rows=None) for entry in release.files]
        entries.append(FileEntry(MANIFEST, len(manifest), sha256(manifest).hexdigest()))
        entries.sort(key=lambda entry: (upload_phase(entry.name), entry.name))
        checksums = {entry.name: store.checksum(release.path / entry.name) for entry in entries}
        return cls(release.idc_version, release.release_version, tuple(entries), checksums)

    @classmethod
    def parse(cls, data: bytes, context: str) -> Publication:
        """Read a record. Raises MalformedError if it is not valid."""
        document = _parse(data, "publication", context)
        checksums = {file["name"]: file.pop("checksum") for file in document["files"]}
        files = tuple(FileEntry(**file) for file in document["files"])
        return cls(document["idc_version"], document["release_version"], files, checksums)

    def dump(self) -> bytes:
        """The bytes of the record; the same release gives the same bytes."""
        files = [{**file.to_document(), "checksum": self.checksums[file.name]} for file in self.files]
        document = {
            "format_version": _FORMAT_VERSION,
            "idc_version": self.idc_version,
            "release_version": self.release_version,
            "files": files,
        }
        return documents.dump(document, "publication")

    @property
    def record(self) -> str:
        """Name of the record."""
        return publication_name(self.release_version)

    def headers(self, file: FileEntry, cache_control: str) -> Headers:
        """The headers of a published file.

        In `current` they do not name the version, so that a file that stays the same is not written again.
        """
        metadata = {"sha256": file.sha256}
        if cache_control == IMMUTABLE:
            metadata |= {"release_version": self.release_version, "idc_version": str(self.idc_version)}
        return Headers(media_type(file.name), cache_control, metadata)

    def same_content(self, file: FileEntry, found: StoredObject) -> bool:
        """Whether an object has the bytes of a file."""
        return (found.bytes, found.checksum) == (file.bytes, self.checksums[file.name])

    def problem(self, file: FileEntry, found: StoredObject | None, cache_control: str | None) -> str:
        """Why an object is not the published file; empty if it is.

        Without `cache_control`, headers are not compared.
        """
        if found is None:
            return "is missing"
        if not self.same_content(file, found):
            expected = f"{file.bytes:,}, {self.checksums[file.name]}"
            return f"has other content: {found.bytes:,} bytes, {found.checksum}, not {expected}"
        if cache_control and found.headers not in (None, self.headers(file, cache_control)):
            return f"has other headers than it should: {found.headers}"
        return "is composite: it has no MD5, and readers compare ETags" if found.composite else ""

    def problems(self, listing: Mapping[str, StoredObject], version: str, cache_control: str | None) -> dict[str, str]:
        """The problems of the files of a version, or of `current`, by name of object."""
        expected = {folder(version) + file.name: file for file in self.files}
        wrong = {name: self.problem(file, listing.get(name), cache_control) for name, file in expected.items()}
        strays = [name for name in listing if name.startswith(folder(version)) and name not in expected]
        return {name: problem for name, problem in wrong.items() if problem} | dict.fromkeys(
            strays, f"is not of {self.release_version}"
        )


@dataclass(frozen=True)
class Promotion:
    """The record of `current`: the version that it equals (`done`) or is moving to.

    Attributes:
        id: of this promotion. A promoter that completes it keeps the id.
        force_rewrite: generations of objects that an earlier promotion may still replace or remove: this promotion
            writes them again even if the bytes stay the same. None until they are listed.
    """

    id: str
    release_version: str
    done: bool = False
    force_rewrite: Mapping[str, int] | None = field(default_factory=dict)

    def dump(self) -> bytes:
        """The bytes of the record."""
        return documents.dump({"format_version": _FORMAT_VERSION, **vars(self)}, "promotion")


PROMOTION = f"{CURRENT}/promotion.json"


def publication_name(version: str) -> str:
    """Name of the record of a version."""
    return f"{version}/publication.json"


def put_record(store: Store, name: str, data: bytes, generation: int) -> StoredObject:
    """Write a record, in place of that generation of it."""
    return store.put(name, data, _RECORD, generation)


def read_publication(store: Store, listing: Mapping[str, StoredObject], version: str) -> Publication | None:
    """The record of a version; None if there is none. Raises MalformedError if it is not valid."""
    name = publication_name(version)
    if name not in listing:
        return None
    found = Publication.parse(store.read(listing[name]), f"{store.uri}/{name}")
    if found.release_version != version:
        raise MalformedError(f"{store.uri}/{name}: it names the version {found.release_version}")
    return found


def read_promotion(store: Store, listing: Mapping[str, StoredObject]) -> Promotion | None:
    """The record of `current`; None if there is none. Raises MalformedError if it is not valid."""
    if PROMOTION not in listing:
        return None
    document = _parse(store.read(listing[PROMOTION]), "promotion", f"{store.uri}/{PROMOTION}")
    return Promotion(**{key: value for key, value in document.items() if key != "format_version"})


def _parse(data: bytes, kind: str, context: str) -> Any:
    try:
        return documents.parse(data, kind, context)
    except IndexerError as error:
        raise MalformedError(error.message) from error


@dataclass(frozen=True)
class Step:
    """One object, and the action that a command takes or would take with it.

    Attributes:
        name: of the object, as readers see it.
        bytes: of its new content; of its last content if it is removed.
        generation: that is kept, replaced or removed.
    """

    action: Literal["create", "keep", "replace", "remove"]
    name: str
    bytes: int
    generation: int = ABSENT


def in_phases(items: Sequence[Item], of: Callable[[Item], int], act: Callable[[Item], object], workers: int) -> None:
    """Call `act` for all items: one phase after the other, the items of one phase at the same time.

    If an item has a conflict, the other items of its phase are still done; then the conflict is raised. After any
    other failure no new item begins, and the failure is raised when the items under way have ended.
    """
    for number in sorted(set(map(of, items))):
        group = [item for item in items if of(item) == number]
        with ThreadPoolExecutor(min(workers, len(group))) as pool:
            futures = [pool.submit(act, item) for item in group]
            conflict = None
            try:
                for future in futures:
                    try:
                        future.result()
                    except ConflictError as error:
                        conflict = error
            finally:
                pool.shutdown(cancel_futures=True)
        if conflict:
            raise conflict
