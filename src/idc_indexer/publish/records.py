"""What lies at a store: `release_artifacts/` of each version and of `current`, and a record beside each.

Beside the files of a version lies `publication.json`, which is written before them: it says what is being published,
so that of two publishers one wins at once. A version is published when its manifest is there, which is written last.
Beside those of `current` lies `promotion.json`, which says the version that it is, or is becoming.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
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
"""Response headers that a reader in a browser has to see, or it cannot read a part of a file."""
WORKERS = 8
"""Requests at a time: enough to hide the latency of small objects, few enough for a home's uplink."""
ROUNDS = 50
"""How often one command looks again when others write at the same time, before it gives up."""

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
    """When a file, or an object by its whole name, is written: who sees it finds there what it depends on."""
    if Path(name).name == MANIFEST:
        return 3
    return {".parquet": 0, ".zip": 0, ".sha256": 1}.get(Path(name).suffix, 2)


class MalformedError(IndexerError):
    """A record is not what it should be: someone else has written it."""


@dataclass(frozen=True)
class Artifact:
    """A published file."""

    name: str
    bytes: int
    sha256: str
    checksum: str


@dataclass(frozen=True)
class Publication:
    """What is published as a version: the files in the order in which they are written."""

    idc_version: int
    release_version: str
    files: tuple[Artifact, ...]

    @classmethod
    def of(cls, release: Release, store: Store) -> Publication:
        """What publishing a release at a store would make."""
        manifest = (release.path / MANIFEST).read_bytes()
        entries = [*release.files, FileEntry(MANIFEST, len(manifest), sha256(manifest).hexdigest())]
        entries.sort(key=lambda entry: (upload_phase(entry.name), entry.name))
        artifacts = [
            Artifact(entry.name, entry.bytes, entry.sha256, store.checksum(release.path / entry.name))
            for entry in entries
        ]
        return cls(release.idc_version, release.release_version, tuple(artifacts))

    @classmethod
    def parse(cls, data: bytes, where: str) -> Publication:
        """Read a record. Raises MalformedError when it is not one."""
        document = _parse(data, "publication", where)
        files = tuple(Artifact(**file) for file in document["files"])
        return cls(document["idc_version"], document["release_version"], files)

    def dump(self) -> bytes:
        """The record: the same release makes the same bytes."""
        document = {**vars(self), "files": [vars(file) for file in self.files]}
        return documents.dump({"format_version": _FORMAT_VERSION, **document}, "publication")

    @property
    def record(self) -> str:
        """Name of the record."""
        return publication_name(self.release_version)

    def headers(self, file: Artifact, cache_control: str) -> Headers:
        """What readers are told of a file.

        In `current` it does not say the version: a file that stays the same from one to the next is not written again.
        """
        about = {"sha256": file.sha256}
        if cache_control == IMMUTABLE:
            about |= {"release_version": self.release_version, "idc_version": str(self.idc_version)}
        return Headers(media_type(file.name), cache_control, about)

    def problem(self, file: Artifact, found: StoredObject | None, cache_control: str | None) -> str:
        """What is wrong with an object that should be a file of this; empty when nothing is.

        Without `cache_control`, headers are not looked at.
        """
        if found is None:
            return "is missing"
        if not same_content(found, file):
            return f"has other content: {found.bytes:,} bytes, {found.checksum}, not {file.bytes:,}, {file.checksum}"
        if cache_control and found.headers not in (None, self.headers(file, cache_control)):
            return f"has other headers than it should: {found.headers}"
        return "is composite: it has no MD5, and readers compare ETags" if found.composite else ""

    def problems(self, listing: Mapping[str, StoredObject], version: str, cache_control: str | None) -> dict[str, str]:
        """What is wrong with the files of a version, or of `current`, by name of object."""
        expected = {folder(version) + file.name: file for file in self.files}
        wrong = {name: self.problem(file, listing.get(name), cache_control) for name, file in expected.items()}
        strays = [name for name in listing if name.startswith(folder(version)) and name not in expected]
        return {name: problem for name, problem in wrong.items() if problem} | dict.fromkeys(
            strays, f"is not of {self.release_version}"
        )


@dataclass(frozen=True)
class Promotion:
    """Which version `current` is (`done`), or is becoming.

    Attributes:
        id: of this promotion; whoever completes it keeps it.
        force_rewrite: generations of objects that someone else may still replace or remove: they are written again,
            even if the bytes stay the same. None when they are yet to be listed.
    """

    id: str
    release_version: str
    done: bool = False
    force_rewrite: Mapping[str, int] | None = field(default_factory=dict)

    def dump(self) -> bytes:
        """The record."""
        return documents.dump({"format_version": _FORMAT_VERSION, **vars(self)}, "promotion")


PROMOTION = f"{CURRENT}/promotion.json"


def publication_name(version: str) -> str:
    """Name of the record of a version."""
    return f"{version}/publication.json"


def put_record(store: Store, name: str, data: bytes, generation: int) -> StoredObject:
    """Write a record in place of that generation of it."""
    return store.put(name, data, _RECORD, generation)


def read_publication(store: Store, listing: Mapping[str, StoredObject], version: str) -> Publication | None:
    """The record of a version; None when there is none. Raises MalformedError when it is not one."""
    name = publication_name(version)
    if name not in listing:
        return None
    found = Publication.parse(store.read(listing[name]), f"{store.uri}/{name}")
    if found.release_version != version:
        raise MalformedError(f"{store.uri}/{name}: it is of {found.release_version}")
    return found


def read_promotion(store: Store, listing: Mapping[str, StoredObject]) -> Promotion | None:
    """The record of `current`; None when there is none. Raises MalformedError when it is not one."""
    if PROMOTION not in listing:
        return None
    document = _parse(store.read(listing[PROMOTION]), "promotion", f"{store.uri}/{PROMOTION}")
    return Promotion(**{key: value for key, value in document.items() if key != "format_version"})


def _parse(data: bytes, kind: str, where: str) -> Any:
    try:
        return documents.parse(data, kind, where)
    except IndexerError as error:
        raise MalformedError(error.message) from error


@dataclass(frozen=True)
class Step:
    """What is, or would be, done with an object.

    Attributes:
        name: of the object, as readers see it.
        bytes: of its new content; of its last one when it is removed.
        generation: that is replaced or removed.
    """

    action: Literal["create", "keep", "replace", "remove"]
    name: str
    bytes: int
    generation: int = ABSENT


def same_content(found: StoredObject | None, file: Artifact) -> bool:
    """Whether an object has the bytes of a file."""
    return found is not None and (found.bytes, found.checksum) == (file.bytes, file.checksum)


def in_phases(items: Sequence[Item], of: Callable[[Item], int], act: Callable[[Item], object], workers: int) -> None:
    """Do something with all items: those of an earlier stage first, those of one stage side by side.

    A conflict over one item does not keep the others of its stage from being done; it is raised after them. Any other
    failure is raised when what was going on has ended, and nothing else is begun.
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
