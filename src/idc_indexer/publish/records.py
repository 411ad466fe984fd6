"""The objects of a store: the files of each version and of `current`, and one record beside each of them.

`<version>/publication.json` is written before the files of the version and lists them. If two publishers start the
same version, the first record wins. The manifest is written last, so a version with a manifest is complete.
`adopt` writes the same record for a version that another tool published. `<version>/withdrawal.json` says that a
version is bad. `current/promotion.json` names the version that `current` equals or is moving to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, TypeVar

from packaging.version import Version

from idc_indexer import documents
from idc_indexer.errors import IndexerError, UsageError
from idc_indexer.progress import Meter, NullListener, ProgressListener
from idc_indexer.publish.stores import ABSENT, ConflictError, Headers, Store, StoredObject
from idc_indexer.release.manifest import MANIFEST, FileEntry, Release, file_entry, folder, idc_version_of

CURRENT = "current"
IMMUTABLE = "public, max-age=31536000, immutable"
NO_CACHE = "no-cache"
EXPOSED = ("Content-Range", "Content-Length", "Content-Type", "Accept-Ranges", "Range")
"""Response headers that a reader in a browser must see to read a part of a file."""
WORKERS = 8
"""Requests at a time: enough to hide the latency of small objects, few enough for a home's uplink."""
ROUNDS = 50
"""How often one command lists the store again after a conflict before it gives up."""

_MAX_VERSION = 64
"""Characters of a version: records are data of others, and Python converts no number of 5,000 digits."""
_PUBLICATION, _WITHDRAWAL = "publication.json", "withdrawal.json"
_FORMAT_VERSION = 1
_MEDIA_TYPES = {
    ".parquet": "application/vnd.apache.parquet",
    ".zip": "application/zip",
    ".sha256": "text/plain",
    ".json": "application/json",
    ".sql": "application/sql",
    ".html": "text/html",
    ".md": "text/markdown",
    ".txt": "text/plain",
    "": "text/plain",
}
Item = TypeVar("Item")


def media_type(name: str) -> str:
    """The content type of a file, by its suffix."""
    return _MEDIA_TYPES.get(Path(name).suffix, "application/octet-stream")


def upload_order(name: str) -> tuple[int, str, int]:
    """When a file or an object is written: its phase, the table that it belongs to, its place in that table.

    The record of a version comes first and the manifest last. Between them each Parquet is followed by its sidecar,
    its schema and its query. Tables are independent of each other.
    """
    file = Path(name).name
    if file in (_PUBLICATION, MANIFEST):
        return 0 if file == _PUBLICATION else 2, file, 0
    if file.endswith(".sha256"):
        return 1, upload_order(file.removesuffix(".sha256"))[1], 1
    for place, suffix in enumerate((".parquet", "", "_schema.json", ".sql")):
        if suffix and file.endswith(suffix):
            return 1, file.removesuffix(suffix), place
    return 1, file, 0


def check_release_version(version: str) -> None:
    """Check the version of a release, wherever it comes from.

    Raises:
        UsageError: not a version that a release can have.
    """
    if len(version) > _MAX_VERSION:
        raise UsageError(f"a release version of {len(version)} characters is too long: at most {_MAX_VERSION}")
    idc_version_of(version)


def too_many_conflicts(store: Store, version: str, last: ConflictError | None) -> IndexerError:
    """The error of a command that found another state of the store in each of its rounds."""
    return IndexerError(
        f"{store.uri}/{version}: gave up after {ROUNDS} conflicts; the last one: {last.message if last else ''}",
        "If another command writes there, wait until it has ended. Then run the same command again.",
    )


class MalformedError(IndexerError):
    """A record is not valid, so another program wrote it."""


@dataclass(frozen=True)
class Publication:
    """The files that are published as a version.

    Attributes:
        files: in the order in which they are written.
        checksums: the store's checksum of each file, by name.
        adopted: whether another tool published the files: then nothing is known of their headers, and there may be no
            manifest.
    """

    idc_version: int
    release_version: str
    files: tuple[FileEntry, ...]
    checksums: Mapping[str, str]
    adopted: bool = False

    @classmethod
    def of(cls, release: Release, store: Store) -> Publication:
        """The publication of a release at a store."""
        manifest = (release.path / MANIFEST).read_bytes()
        entries = [replace(entry, rows=None) for entry in release.files]
        entries.append(file_entry(MANIFEST, manifest))
        entries.sort(key=lambda entry: upload_order(entry.name))
        checksums = {entry.name: store.checksum(release.path / entry.name) for entry in entries}
        return cls(release.idc_version, release.release_version, tuple(entries), checksums)

    @classmethod
    @lru_cache(maxsize=1000)  # each turn of a command reads the same records
    def parse(cls, data: bytes, context: str) -> Publication:
        """Read a record. Raises MalformedError if it is not valid."""
        document = _parse(data, "publication", context)
        checksums = {file["name"]: file.pop("checksum") for file in document["files"]}
        with _as_malformed(context):
            files = tuple(FileEntry(**file) for file in document["files"])
        adopted = document.get("adopted", False)
        if len(checksums) != len(files) or not (adopted or MANIFEST in checksums):
            raise MalformedError(f"{context}: it lists a file twice, or no {MANIFEST}")
        return cls(document["idc_version"], document["release_version"], files, checksums, adopted)

    def dump(self) -> bytes:
        """The bytes of the record; the same release gives the same bytes."""
        files = [{**file.to_document(), "checksum": self.checksums[file.name]} for file in self.files]
        document = {
            "format_version": _FORMAT_VERSION,
            "idc_version": self.idc_version,
            "release_version": self.release_version,
            **({"adopted": True} if self.adopted else {}),
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

        Only what `publish` and `promote` set is compared: stores and other tools add metadata of their own, and a copy
        may keep that of its source. Without `cache_control`, headers are not compared.
        """
        if found is None:
            return "is missing"
        if not self.same_content(file, found):
            content = f"{file.bytes:,}, {self.checksums[file.name]}"
            return f"has other content: {found.bytes:,} bytes, {found.checksum}, not {content}"
        if self.adopted and cache_control == IMMUTABLE:
            return ""
        if cache_control and (problem := self.headers(file, cache_control).problem(found.headers)):
            return problem
        composite = found.composite and not self.adopted
        return "is composite: it has no MD5, and readers compare ETags" if composite else ""

    def problems(self, listing: Mapping[str, StoredObject], version: str, cache_control: str | None) -> dict[str, str]:
        """The problems of the files of a version, or of `current`, by name of object."""
        expected = {folder(version) + file.name: file for file in self.files}
        wrong = {name: self.problem(file, listing.get(name), cache_control) for name, file in expected.items()}
        strays = [name for name in artifacts(listing, version) if name not in expected]
        return {name: problem for name, problem in wrong.items() if problem} | dict.fromkeys(
            strays, f"is not of {self.release_version}"
        )

    def has_all_files(self, listing: Mapping[str, StoredObject], version: str) -> bool:
        """Whether all files are there, of a version or in `current`, whatever headers they have and what else is."""
        found = {file: listing.get(folder(version) + file.name) for file in self.files}
        return all(one and self.same_content(file, one) for file, one in found.items())

    def is_content_of(self, listing: Mapping[str, StoredObject], version: str) -> bool:
        """Whether the files of a version, or of `current`, are these and no others, whatever headers they have."""
        return self.has_all_files(listing, version) and len(artifacts(listing, version)) == len(self.files)


def artifacts(listing: Mapping[str, StoredObject], version: str) -> dict[str, StoredObject]:
    """The objects of a version, or of `current`, that readers see. The console of Google adds one for the folder."""
    prefix = folder(version)
    return {name: found for name, found in listing.items() if name.startswith(prefix) and name != prefix}


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

    @classmethod
    def parse(cls, data: bytes, context: str) -> Promotion:
        """Read a record. Raises MalformedError if it is not valid."""
        document = _parse(data, "promotion", context)
        return cls(**{key: value for key, value in document.items() if key != "format_version"})


PROMOTION = f"{CURRENT}/promotion.json"


class ReadOnce:
    """Reads each generation of an object once. It never changes, so what was read stays right."""

    def __init__(self, store: Store) -> None:
        self.uri, self._store = store.uri, store
        self._contents: dict[tuple[str, int], bytes] = {}

    def read(self, source: StoredObject) -> bytes:
        """The bytes of that generation of an object; ConflictError if it had another one when it was read."""
        key = source.name, source.generation
        if key not in self._contents:
            self._contents[key] = self._store.read(source)
        return self._contents[key]


def publication_name(version: str) -> str:
    """Name of the record of a version."""
    return f"{version}/{_PUBLICATION}"


def record_headers(name: str) -> Headers:
    """The headers of a record, which may change at any time."""
    return Headers(media_type(name), NO_CACHE, {})


def put_record(store: Store, name: str, data: bytes, generation: int) -> StoredObject:
    """Write a record, in place of that generation of it."""
    return store.put(name, data, record_headers(name), generation)


def read_publication(store: Store | ReadOnce, listing: Mapping[str, StoredObject], version: str) -> Publication | None:
    """The record of a version; None if there is none. Raises MalformedError if it is not valid."""
    name = publication_name(version)
    if name not in listing:
        return None
    found = Publication.parse(store.read(listing[name]), f"{store.uri}/{name}")
    if found.release_version != version:
        raise MalformedError(f"{store.uri}/{name}: it names the version {found.release_version}")
    return found


def read_promotion(store: Store | ReadOnce, listing: Mapping[str, StoredObject]) -> Promotion | None:
    """The record of `current`; None if there is none. Raises MalformedError if it is not valid."""
    if PROMOTION not in listing:
        return None
    return Promotion.parse(store.read(listing[PROMOTION]), f"{store.uri}/{PROMOTION}")


def withdrawal_name(version: str) -> str:
    """Name of the record that a version is withdrawn."""
    return f"{version}/{_WITHDRAWAL}"


def dump_withdrawal(version: str, reason: str) -> bytes:
    """The bytes of the record that a version is withdrawn."""
    document = {"format_version": _FORMAT_VERSION, "release_version": version, "reason": reason}
    return documents.dump(document, "withdrawal")


def parse_withdrawal(data: bytes, context: str) -> str:
    """Why a version is withdrawn. A record that is not valid withdraws it too."""
    try:
        reason: str = _parse(data, "withdrawal", context)["reason"]
    except MalformedError as error:
        return error.message
    return reason


def read_withdrawal(store: Store | ReadOnce, listing: Mapping[str, StoredObject], version: str) -> str:
    """Why a version is withdrawn; empty if it is not."""
    name = withdrawal_name(version)
    return parse_withdrawal(store.read(listing[name]), f"{store.uri}/{name}") if name in listing else ""


def explaining_version(
    store: Store | ReadOnce, listing: Mapping[str, StoredObject], current: Mapping[str, StoredObject]
) -> str | None:
    """The newest recorded version whose files `current` has; None if there is none.

    Args:
        listing: of the entire store.
        current: of `current/`.
    """
    for version in reversed(versions_in(listing)):
        with suppress(MalformedError):
            publication = read_publication(store, listing, version)
            if publication and publication.is_content_of(current, CURRENT):
                return version
    return None


def versions_in(listing: Mapping[str, StoredObject]) -> list[str]:
    """The versions in a listing of the entire store, the oldest first."""
    found = {}
    for name in listing:
        version, slash, _ = name.partition("/")
        with suppress(ValueError):  # another folder, or a number of more digits than Python converts
            found[version] = Version(version if slash else "")
    return sorted(found, key=found.__getitem__)


def _parse(data: bytes, kind: str, context: str) -> Any:
    """A record as JSON whose version is one that a release can have."""
    with _as_malformed(context):
        document = documents.parse(data, kind, context)
        check_release_version(document["release_version"])
        return document


@contextmanager
def _as_malformed(context: str) -> Iterator[None]:
    try:
        yield
    except IndexerError as error:
        message = error.message if error.message.startswith(context) else f"{context}: {error.message}"
        raise MalformedError(message) from error


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


def files_meter(listener: ProgressListener | None, what: str, sizes: Iterable[int]) -> Meter:
    """Counts files of these sizes."""
    sizes = tuple(sizes)
    return Meter(listener or NullListener(), what, "files", len(sizes), sum(sizes))


def in_upload_order(
    items: Iterable[Item], name: Callable[[Item], str], act: Callable[[Item], object], workers: int
) -> None:
    """Call `act` for all items in the order of `upload_order`; several tables at the same time.

    If an item has a conflict, the rest of its table is left out and the other tables of its phase are still done; then
    the conflict is raised. After any other failure no new table begins, and the failure is raised when the tables under
    way have ended.
    """

    def position(item: Item) -> tuple[int, str, int]:
        return upload_order(name(item))

    for _, phase in groupby(sorted(items, key=position), lambda item: position(item)[0]):
        tables = [list(table) for _, table in groupby(phase, lambda item: position(item)[1])]
        in_parallel(tables, lambda table: [act(item) for item in table], workers)


def in_parallel(items: Sequence[Item], act: Callable[[Item], object], workers: int) -> None:
    """Call `act` for all items, `workers` at a time. Conflicts and failures as in `in_upload_order`."""
    conflict = None
    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(act, item) for item in items]
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
