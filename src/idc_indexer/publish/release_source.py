"""Read a release wherever it is: a folder, a data wheel, a Parquet file, a URL, a bucket, a published version.

`diff`, `verify --against`, `report`, `build --rebuild-of`, `releases --newer-than` and `check --against` all open
releases here. Opening downloads nothing but the manifest. A file is unpacked or downloaded when it is first fetched,
into a scratch folder that is removed at the end.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, unquote, urljoin

from packaging.version import InvalidVersion, Version

from idc_indexer import documents, files, parquet_footer
from idc_indexer.errors import IndexerError, UsageError
from idc_indexer.http import Response, download, folder_url, is_address, request
from idc_indexer.progress import Meter, NullListener, ProgressListener, Retries
from idc_indexer.publish.records import CURRENT, parse_withdrawal, withdrawal_name
from idc_indexer.publish.stores import open_store
from idc_indexer.release.manifest import (
    ARTIFACTS,
    MANIFEST,
    PUBLISHED,
    Release,
    folder,
    parquet_name,
    schema_name,
    sidecar_name,
    stated_sha256,
)
from idc_indexer.release.parquet import VERSION_KEY

_SCHEMA = schema_name("")
_PARQUET = parquet_name("")
_FORMS = "Give a release folder, a data wheel, a Parquet file, the URL of published files or a version."
_NO_RELEASE = "Give a release that `build` made."
_WHEEL = re.compile(r"[^-]+-(?P<version>[^-]+)-.*\.whl")
_ABSENT = frozenset({401, 403, 404, 410})
"""Statuses of a file that does not exist. A bucket whose objects may not be listed says 403 of those."""
# zipfile reports damage as whatever error its parser runs into: an encrypted member, an unknown method, a bad name.
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, ValueError, LookupError)
_MAX_PARQUET = 1 << 36
"""Bytes of a download. The largest index of release 25 has 0.1 GB; the limit only ends a response without an end."""


class MissingFileError(IndexerError):
    """A file does not exist in a release, or is not public."""


class ReleaseFiles(Protocol):
    """The files of a release in one kind of storage.

    Attributes:
        local: whether the bytes are on this machine, so that their digest can be computed instead of trusted.
    """

    local: bool

    def names(self, manifest: Release | None) -> Collection[str]:
        """Names of the files that exist."""

    def read(self, name: str) -> bytes:
        """The bytes of a small file. Raises MissingFileError if it does not exist."""

    def fetch(self, name: str) -> Path:
        """A file on this machine, unpacked or downloaded first. Raises MissingFileError if it does not exist."""

    def withdrawal(self, version: str) -> bytes | None:
        """The record that a version is withdrawn, where releases are published; None if there is none."""


@dataclass(frozen=True)
class ReleaseSource:
    """A release, or a part of one, that can be read.

    Attributes:
        name: as the user gave it.
        stated_version: the version in that name; None if there is none.
        table: the only table of a single Parquet file; None for all others.
        excluded: tables that this kind of storage never has, even if the release has them.
    """

    name: str
    files: ReleaseFiles
    stated_version: str | None = None
    table: str | None = None
    excluded: Collection[str] = ()

    @cached_property
    def manifest(self) -> Release | None:
        """The release that its manifest describes; None without a manifest, as in IDC's own wheels."""
        try:
            return self.release()
        except MissingFileError:
            return None

    def release(self) -> Release:
        """The release that its manifest describes.

        Raises:
            IndexerError: it has no manifest, or a malformed one.
        """
        if self.table:
            raise MissingFileError(f"{self.name}: not a release, but a single Parquet file", _NO_RELEASE)
        try:
            manifest = self.files.read(MANIFEST)
        except MissingFileError as error:
            raise MissingFileError(f"{self.name}: not a release: {error.message}", _NO_RELEASE) from error
        return Release.parse(documents.parse(manifest, "manifest", f"{self.name}: {MANIFEST}"))

    @cached_property
    def file_names(self) -> frozenset[str]:
        """Names of the files that exist."""
        return frozenset(self.files.names(self.manifest))

    @cached_property
    def tables(self) -> tuple[str, ...]:
        """Tables: those of the manifest; without one, all that have a Parquet file or a schema, by name.

        Raises:
            IndexerError: there are none.
        """
        if self.table:
            return (self.table,)
        if self.manifest:
            found = [entry.name for entry in self.manifest.entries if entry.schema_sha256]
        else:
            suffixes = (_PARQUET, _SCHEMA)
            found = sorted({f.removesuffix(s) for f in self.file_names for s in suffixes if f.endswith(s)})
        if not (tables := tuple(name for name in found if name not in self.excluded)):
            raise IndexerError(
                f"{self.name}: has no index, or none that is public",
                "An index is <index>.parquet, <index>_schema.json, or both.",
            )
        return tables

    @cached_property
    def version(self) -> str | None:
        """The release version: of the manifest, of the given name, or in the first Parquet file; None if unknown."""
        if self.manifest or self.stated_version:
            return self.manifest.release_version if self.manifest else self.stated_version
        first = next(filter(self.has_rows, self.tables), None)
        if not first:
            return None
        path = self.fetch(first)
        try:
            metadata = parquet_footer.read(path).metadata or {}
        except IndexerError:
            return None  # whatever reads the rows reports the damage
        return metadata.get(VERSION_KEY, b"").decode(errors="replace") or None

    @cached_property
    def withdrawn(self) -> str:
        """Why the version is withdrawn; empty if it is not, or if the release is not where releases are published."""
        record = self.files.withdrawal(self.version) if self.version else None
        return parse_withdrawal(record, self.name) if record else ""

    def schema(self, table: str) -> dict[str, Any] | None:
        """The `_schema.json` of a table, of this toolkit or of another; None if it has none."""
        name = schema_name(table)
        if name not in self.file_names:
            return None
        try:
            document: dict[str, Any] = documents.parse(self.files.read(name), "described", f"{self.name}: {name}")
        except MissingFileError:
            return None
        return document

    def sha256(self, table: str) -> str | None:
        """SHA-256 of the Parquet of a table: computed if it is local, else stated by the manifest or the sidecar."""
        name = parquet_name(table)
        if self.files.local and name in self.file_names:
            return files.sha256(self.files.fetch(name))
        listed = self.manifest.files if self.manifest else []
        for stated in (file.sha256 for file in listed if file.name == name):
            return stated
        try:
            return stated_sha256(self.files.read(sidecar_name(name))) or None
        except MissingFileError:
            return None

    def has_rows(self, table: str) -> bool:
        """Whether the Parquet of a table can be fetched."""
        return parquet_name(table) in self.file_names

    def fetch(self, table: str) -> Path:
        """The Parquet of a table, on this machine.

        Raises:
            IndexerError: it does not exist, or cannot be downloaded or unpacked.
        """
        return self.files.fetch(parquet_name(table))


@contextmanager
def open_source(
    given: str, published_at: str = PUBLISHED, listener: ProgressListener | None = None
) -> Iterator[ReleaseSource]:
    """Open a release. A file or folder of that name is preferred to a version.

    Args:
        given: a release folder, or a folder of published files; a data wheel; a Parquet file; a URL
            `https://.../release_artifacts/` or `gs://bucket/prefix/25.0.5`; a version, such as 25.0.5, or `current`.
        published_at: where versions are published: a URL, `gs://bucket[/prefix]` or a folder.
        listener: hears of downloads, and of requests that are sent again.

    Raises:
        UsageError: it is none of these.
        IndexerError: it does not exist, or cannot be read.
    """
    check_given(given)
    with files.temporary_folder() as scratch:
        yield _source(given, published_at, _Local(scratch, listener or NullListener()))


def check_given(given: str) -> None:
    """Look, without the network, whether a release can be what was given.

    Raises:
        UsageError: it is no address, no version, and not on this machine.
    """
    path = Path(given)
    if "://" in given or given == CURRENT or _is_version(given) or path.exists():
        return
    if not path.suffix:
        raise UsageError(f"{given}: no such folder, and not a version")
    raise UsageError(f"{given}: no such file", _FORMS)


def read_release(given: str, published_at: str = PUBLISHED) -> Release:
    """The manifest of a release, as `open_source` finds it.

    Raises:
        UsageError: as `open_source` does.
        IndexerError: as `open_source` does, or it has no manifest.
    """
    with open_source(given, published_at) as source:
        return source.release()


def derived_tables() -> list[Path]:
    """The bundled schemas of the tables that are made from idc_index. The data wheel has none of them."""
    return sorted((documents.bundled("schemas") / "derived").glob("*.json"))


def bundled_schemas() -> dict[str, Path]:
    """The schemas that come with the toolkit, by table."""
    return {path.stem: path for path in (*documents.bundled("schemas").glob("*.json"), *derived_tables())}


@dataclass(frozen=True)
class _Local:
    """What files in other places need on this machine: a folder, and somebody who hears of downloads."""

    scratch: Path
    listener: ProgressListener


def _source(given: str, published_at: str, local: _Local) -> ReleaseSource:
    if given.endswith(_PARQUET):
        return _single_file(given, local)
    if opened := _opened(given, local):
        return ReleaseSource(given, opened)
    path = Path(given)
    if path.is_file() and (wheel := _WHEEL.fullmatch(path.name)):
        excluded = [schema.stem for schema in derived_tables()]
        return ReleaseSource(given, _WheelFiles(path, local.scratch), wheel["version"], excluded=excluded)
    if given == CURRENT or _is_version(given):
        opened = _opened(f"{published_at.rstrip('/')}/{folder(given)}".rstrip("/"), local)
        if not opened:
            raise IndexerError(f"{given} is not published at {published_at}", "See `idc-indexer status`.")
        return ReleaseSource(given, opened, None if given == CURRENT else given)
    raise UsageError(f"{given}: not a release", _FORMS)


def _opened(root: str, local: _Local) -> ReleaseFiles | None:
    """The files in a folder, at a URL or in a bucket; None if it is not a folder."""
    if is_address(root):
        return _HttpFiles(folder_url(root), local)
    if root.startswith("gs://"):
        return _StoreFiles(root, local)
    return _FolderFiles.of(Path(root)) if Path(root).is_dir() else None


def _single_file(given: str, local: _Local) -> ReleaseSource:
    """A single Parquet file: it is named after its table, and the schema may lie beside it."""
    if "://" not in given and not Path(given).is_file():
        raise UsageError(f"{given}: no such file")
    root, name = given.rpartition("/")[::2] if "://" in given else (str(Path(given).parent), Path(given).name)
    table = (unquote(name) if is_address(given) else name).removesuffix(_PARQUET)
    opened = _opened(root, local) if "://" in given else _FolderFiles(Path(root))
    if opened is None:
        raise UsageError(f"{given!r} is not the URL of a file", "Give https://... or gs://....")
    return ReleaseSource(given, _TableFiles(opened, table), table=table)


def _is_version(given: str) -> bool:
    try:
        Version(given)
    except InvalidVersion:
        return False
    return True


class _TableFiles:
    """The files of one table, in any storage."""

    local = True  # its Parquet is compared in any case, so the digest costs no further download

    def __init__(self, files_of_all: ReleaseFiles, table: str) -> None:
        self._files, self._table = files_of_all, table
        self.read, self.fetch = files_of_all.read, files_of_all.fetch

    def names(self, manifest: Release | None) -> Collection[str]:  # noqa: ARG002
        return parquet_name(self._table), schema_name(self._table)

    def withdrawal(self, version: str) -> bytes | None:  # noqa: ARG002 -- it may be of any version
        return None


class _FolderFiles:
    """Files in a folder."""

    local = True

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def of(cls, path: Path) -> _FolderFiles:
        """The files of a folder of files, or of one of published versions, whose `current` is meant."""
        inner = (path, path / ARTIFACTS, path / CURRENT / ARTIFACTS)
        return cls(next((p for p in inner if any(p.glob("*.parquet")) or (p / MANIFEST).is_file()), path))

    def names(self, manifest: Release | None) -> Collection[str]:  # noqa: ARG002
        with files.os_errors_for(self._path):
            return [path.name for path in self._path.iterdir()]

    def read(self, name: str) -> bytes:
        path = self.fetch(name)
        with files.os_errors_for(path):
            return path.read_bytes()

    def fetch(self, name: str) -> Path:
        path = self._path / name
        if not path.is_file():
            raise MissingFileError(f"{path}: no such file")
        return path

    def withdrawal(self, version: str) -> bytes | None:
        folder = self._path.absolute()
        path = folder.parents[1] / withdrawal_name(version)
        with files.os_errors_for(path):
            return path.read_bytes() if folder.name == ARTIFACTS and path.is_file() else None


class _WheelFiles:
    """Files of the package in a data wheel."""

    local = True

    def __init__(self, path: Path, scratch: Path) -> None:
        try:
            self._archive = zipfile.ZipFile(path)
            names = self._archive.namelist()
        except (*_ZIP_ERRORS, OSError) as error:
            raise IndexerError(f"{path}: is not a wheel: {error}", "Fetch it again.") from error
        self._members = {name.rpartition("/")[2]: name for name in names if ".dist-info/" not in name}
        self._wheel, self._scratch = path, scratch

    def names(self, manifest: Release | None) -> Collection[str]:  # noqa: ARG002
        return self._members

    def read(self, name: str) -> bytes:
        if name not in self._members:
            raise MissingFileError(f"{self._wheel}: has no {name}")
        try:
            return self._archive.read(self._members[name])
        except (*_ZIP_ERRORS, OSError) as error:
            raise IndexerError(f"{self._wheel}: {name} is damaged: {error}", "Fetch it again.") from error

    def fetch(self, name: str) -> Path:
        path = files.local_file(self._scratch, name)
        if not path.exists():
            files.write_atomic(path, self.read(name))
        return path

    def withdrawal(self, version: str) -> bytes | None:  # noqa: ARG002 -- a wheel is not where releases are published
        return None


class _HttpFiles:
    """Published files at a URL, which cannot be listed."""

    local = False

    def __init__(self, url: str, local: _Local) -> None:
        self._url, self._scratch, self._retries = url, local.scratch, Retries(local.listener)

    def names(self, manifest: Release | None) -> Collection[str]:
        """The files of the manifest; without one, those of the toolkit's own tables that exist."""
        if manifest:
            return [file.name for file in manifest.files]
        wanted = [file(name) for name in bundled_schemas() for file in (parquet_name, schema_name)]
        return [name for name in wanted if not self._ask(name, "HEAD").problem]

    def read(self, name: str) -> bytes:
        response = self._ask(name)
        if response.status in _ABSENT:
            raise MissingFileError(f"{self._url}{name} {response.problem}")
        if response.problem:
            raise IndexerError(f"{self._url}{name} {response.problem}", "Check the address.")
        return response.body

    def fetch(self, name: str) -> Path:
        path = files.local_file(self._scratch, name)
        if not path.exists():
            download(self._url + quote(name), path, follow=True, max_bytes=_MAX_PARQUET, retries=self._retries)
        return path

    def withdrawal(self, version: str) -> bytes | None:
        if not self._url.endswith(f"/{ARTIFACTS}/"):
            return None
        address = urljoin(self._url, f"../../{quote(withdrawal_name(version))}")
        response = request(address, follow=True, retries=self._retries)
        return None if response.problem else response.body

    def _ask(self, name: str, method: str = "GET") -> Response:
        return request(self._url + quote(name), method, follow=True, retries=self._retries)


class _StoreFiles:
    """Published files in a bucket, read with the user's credentials."""

    local = False

    def __init__(self, uri: str, local: _Local) -> None:
        self._store, self._uri, self._scratch = open_store(uri, local.listener), uri, local.scratch
        self._listener = local.listener
        listing = self._store.list("")
        folders = {name.rpartition("/")[0] for name in listing if name.endswith((MANIFEST, _PARQUET))}
        inner = ("", ARTIFACTS, f"{CURRENT}/{ARTIFACTS}")
        chosen = next((prefix for prefix in inner if prefix in folders), "")
        self._root, _, last = f"{uri.rstrip('/')}/{chosen}".rstrip("/").rpartition("/")
        self._published = last == ARTIFACTS
        # Objects in folders below are not files of the release.
        found = {name.rpartition("/"): stored for name, stored in listing.items()}
        self._objects = {name: stored for (prefix, _, name), stored in found.items() if prefix == chosen}

    def names(self, manifest: Release | None) -> Collection[str]:  # noqa: ARG002
        return self._objects

    def read(self, name: str) -> bytes:
        if name not in self._objects:
            raise MissingFileError(f"{self._uri}/{name}: no such object")
        return self._store.read(self._objects[name])

    def fetch(self, name: str) -> Path:
        path = files.local_file(self._scratch, name)
        if not path.exists():
            found = self._objects.get(name)
            meter = Meter(self._listener, f"downloading {name}", "files", 1, found.bytes if found else 0)
            files.write_atomic(path, self.read(name))
            meter.add(bytes=path.stat().st_size)
        return path

    def withdrawal(self, version: str) -> bytes | None:
        if not self._published:
            return None
        store = open_store(self._root.rpartition("/")[0], self._listener)
        found = store.list(withdrawal_name(version))
        return store.read(found[withdrawal_name(version)]) if found else None
