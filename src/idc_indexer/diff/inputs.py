"""What can be compared: a release folder, a data wheel, published files, a single Parquet file.

Each becomes a `DiffInput`: tables by name, with what is published about them. Nothing is unpacked or downloaded before
somebody asks for the rows of a table.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
from packaging.version import InvalidVersion, Version

from idc_indexer import documents, files
from idc_indexer.errors import IndexerError, UsageError
from idc_indexer.http import folder_url, is_address, request
from idc_indexer.publish.records import ARTIFACTS, CURRENT, PUBLISHED, folder
from idc_indexer.publish.stores import open_store
from idc_indexer.release.manifest import MANIFEST, Release, parquet_name, schema_name, sidecar_name
from idc_indexer.release.parquet import VERSION_KEY

_SCHEMA = schema_name("")
_WHEEL = re.compile(r"[^-]+-(?P<version>[^-]+)-.*\.whl")


@dataclass(frozen=True)
class InputTable:
    """A table of a side.

    Attributes:
        schema: its `_schema.json`, of this toolkit or of another; None when there is none.
        sha256: of its Parquet; None when that is not known without fetching it.
        fetch: gives the Parquet on this machine; None when the side does not carry it.
    """

    name: str
    schema: Mapping[str, Any] | None
    sha256: str | None
    fetch: Callable[[], Path] | None


@dataclass(frozen=True)
class DiffInput:
    """One of two things that are compared.

    Attributes:
        name: as the user gave it.
        version: of the release; None when it does not say.
        without: tables that it would not carry even if the release has them.
    """

    name: str
    version: str | None
    tables: Mapping[str, InputTable]
    without: Collection[str] = ()


class _Files(Protocol):
    """Where the files of a release lie."""

    def names(self) -> Iterable[str]:
        """Files that are, or may be, there."""

    def read(self, name: str) -> bytes | None:
        """A small file; None when it is not there."""

    def path(self, name: str) -> Path:
        """A file on this machine, unpacked or downloaded."""


@contextmanager
def open_inputs(old: str, new: str, published: str = PUBLISHED) -> Iterator[tuple[DiffInput, DiffInput]]:
    """Two sides; what was unpacked or downloaded for them goes at the end.

    Two single Parquet files are one table, under the name of the new one. Of a release and a single file, the table
    of that name is compared.

    Args:
        old, new: a release folder, or one of published files; a data wheel; a Parquet file; an address
            `https://.../release_artifacts/` or `gs://bucket/prefix/25.0.5`; a version, such as 25.0.5, or `current`.
        published: where versions are published: an address, `gs://bucket[/prefix]` or a folder.

    Raises:
        UsageError: something else, or no table in common.
        IndexerError: there is nothing, or it cannot be read.
    """
    with TemporaryDirectory(prefix="idc-indexer-") as scratch:
        sides = []
        for number, given in enumerate((old, new)):
            room = Path(scratch, str(number))
            room.mkdir()
            sides.append(open_input(given, published, room))
        yield _paired(sides[0], sides[1])


def _paired(old: DiffInput, new: DiffInput) -> tuple[DiffInput, DiffInput]:
    single = [side for side in (old, new) if side.name.endswith(".parquet")]
    if len(single) == 2:  # noqa: PLR2004 -- both
        ((name, table),) = old.tables.items()
        (other,) = new.tables
        schema = table.schema or _bundled(name)
        return replace(old, tables={other: replace(table, name=other, schema=schema)}), new
    if single:
        (name,) = single[0].tables
        whole = new if single[0] is old else old
        if name not in whole.tables:
            raise UsageError(f"{whole.name} has no table {name}, which {single[0].name} is by its name", "Rename it.")
        narrowed = replace(whole, tables={name: whole.tables[name]})
        return (old, narrowed) if single[0] is old else (narrowed, new)
    return old, new


def open_input(given: str, published: str, scratch: Path) -> DiffInput:
    """One side, as `open_inputs` takes it; what is unpacked or downloaded goes to `scratch`."""
    path = Path(given)
    if given.endswith(".parquet"):
        return _single(given, scratch)
    if is_address(given):
        return _side(given, _Web(folder_url(given), scratch), None)
    if given.startswith("gs://"):
        return _side(given, _Stored(given, scratch), None)
    if path.is_dir():
        return _side(given, _Folder(path), None)
    if path.is_file() and (wheel := _WHEEL.fullmatch(path.name)):
        return _side(given, _Wheel(path, scratch), wheel["version"])
    if given == CURRENT or _is_version(given):
        version = None if given == CURRENT else given
        where = f"{published.rstrip('/')}/{folder(given)}"
        found: _Files
        if is_address(where):
            found = _Web(where, scratch)
        elif where.startswith("gs://"):
            found = _Stored(where.rstrip("/"), scratch)
        elif Path(where).is_dir():
            found = _Folder(Path(where))
        else:
            raise IndexerError(f"{given} is not published at {published}", "See `idc-indexer status`.")
        return _side(given, found, version)
    if not path.exists() and not path.suffix:
        raise UsageError(f"{given}: no such folder, and not a version")
    raise UsageError(
        f"{given}: nothing that can be compared" if path.exists() else f"{given}: no such file",
        "Give a release folder, a data wheel, a Parquet file, an address of published files or a version.",
    )


def _is_version(given: str) -> bool:
    try:
        Version(given)
    except InvalidVersion:
        return False
    return True


def _side(given: str, found: _Files, version: str | None) -> DiffInput:
    """The tables of a release: those of its manifest, or else those that have files."""
    manifest = found.read(MANIFEST)
    without = [path.stem for path in _supplements()] if isinstance(found, _Wheel) else []
    if manifest is not None:
        release = Release.parse(documents.parse(manifest, "manifest", f"{given}: {MANIFEST}"))
        version = release.release_version
        promised = {entry.name: entry.files[0].sha256 for entry in release.entries if entry.schema_sha256}
        present = {file.name for file in release.files} if isinstance(found, _Web) else set(found.names())
    else:
        present = set(found.names())
        kinds = [(name, suffix) for name in present for suffix in (".parquet", _SCHEMA) if name.endswith(suffix)]
        promised = dict.fromkeys(sorted({name.removesuffix(suffix) for name, suffix in kinds}), "")
    tables = {
        name: _table(given, found, name, sha256, present) for name, sha256 in promised.items() if name not in without
    }
    if not tables:
        raise IndexerError(
            f"{given}: no index is there, or not for everyone to read",
            "An index is <index>.parquet, <index>_schema.json, or both.",
        )
    return DiffInput(given, version or _version(tables.values()), tables, without)


def _table(given: str, found: _Files, name: str, promised: str, present: Collection[str]) -> InputTable:
    """A table; `promised` is the digest in a manifest, which files on this machine are not believed to have."""
    parquet, beside = parquet_name(name), sidecar_name(parquet_name(name))
    raw = found.read(schema_name(name)) if schema_name(name) in present else None
    schema = None if raw is None else documents.parse(raw, "described", f"{given}: {schema_name(name)}")
    if parquet not in present:
        return InputTable(name, schema, promised or None, None)
    if isinstance(found, _Folder | _Wheel):
        promised = files.sha256(found.path(parquet))
    elif not promised and (stated := re.match(rb"[0-9a-f]{64}\b", found.read(beside) or b"")):
        promised = stated[0].decode()
    return InputTable(name, schema, promised or None, lambda: found.path(parquet))


def _single(given: str, scratch: Path) -> DiffInput:
    """A single Parquet file: its name is that of the index, and the schema may lie beside it."""
    if is_address(given):
        where, _, name = given.rpartition("/")
        found: _Files = _Web(where + "/", scratch)
    elif given.startswith("gs://"):
        where, _, name = given.rpartition("/")
        found = _Stored(where, scratch)
    else:
        found, name = _Folder(Path(given).parent), Path(given).name
        if not Path(given).is_file():
            raise UsageError(f"{given}: no such file")
    path = found.path(name)
    stem = name.removesuffix(".parquet")
    raw = found.read(schema_name(stem))
    schema = None if raw is None else documents.parse(raw, "described", f"{given}: {schema_name(stem)}")
    table = InputTable(stem, schema, files.sha256(path), lambda: path)
    return DiffInput(given, _version([table]), {stem: table})


def _version(tables: Iterable[InputTable]) -> str | None:
    """The version that a Parquet file says it is of, for sides where nothing else does."""
    for table in tables:
        if table.fetch is not None:
            try:
                about = pq.read_metadata(table.fetch()).metadata or {}
            except (pa.ArrowException, OSError):
                return None  # whoever reads its rows says what is wrong with it
            return about.get(VERSION_KEY, b"").decode(errors="replace") or None
    return None


def primary_key(name: str, schema: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The key of a table: of its own schema, or else of the index of that name that comes with the toolkit."""
    for document in (schema, _bundled(name)):
        if document and document.get("primary_key"):
            return tuple(document["primary_key"])
    return ()


def _bundled(name: str) -> Mapping[str, Any] | None:
    path = _bundled_schemas().get(name)
    document: Mapping[str, Any] | None = documents.load(path, "index") if path else None
    return document


def _bundled_schemas() -> dict[str, Path]:
    return {path.stem: path for path in (*documents.bundled("schemas").glob("*.json"), *_supplements())}


def _supplements() -> list[Path]:
    return sorted((documents.bundled("schemas") / "supplements").glob("*.json"))


class _Folder:
    """A folder: of files, or of published versions, of which `current` is meant."""

    def __init__(self, path: Path) -> None:
        inner = (path, path / ARTIFACTS, path / CURRENT / ARTIFACTS)
        self._path = next((p for p in inner if any(p.glob("*.parquet")) or (p / MANIFEST).is_file()), path)

    def names(self) -> Iterable[str]:
        return sorted(path.name for path in self._path.iterdir())

    def read(self, name: str) -> bytes | None:
        path = self._path / name
        with files.os_errors_for(path):
            return path.read_bytes() if path.is_file() else None

    def path(self, name: str) -> Path:
        return self._path / name


class _Wheel:
    """A data wheel. The files of the package are unpacked when they are asked for."""

    def __init__(self, path: Path, scratch: Path) -> None:
        try:
            self._archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise IndexerError(f"{path}: is not a wheel: {error}", "Fetch it again.") from error
        inside = [name for name in self._archive.namelist() if ".dist-info/" not in name]
        self._members = {name.rpartition("/")[2]: name for name in inside}
        self._wheel, self._scratch = path, scratch

    def names(self) -> Iterable[str]:
        return self._members

    def read(self, name: str) -> bytes | None:
        if name not in self._members:
            return None
        try:
            return self._archive.read(self._members[name])
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise IndexerError(f"{self._wheel}: {name} is damaged: {error}", "Fetch it again.") from error

    def path(self, name: str) -> Path:
        return _kept(self._scratch / name, lambda: self.read(name), f"{self._wheel}: {name}")


class _Web:
    """Published files behind an address, which does not say what is there."""

    def __init__(self, url: str, scratch: Path) -> None:
        self._url, self._scratch = url, scratch

    def names(self) -> Iterable[str]:
        """Those files of the toolkit's own tables that are there."""
        wanted = [file(name) for name in _bundled_schemas() for file in (parquet_name, schema_name)]
        return [file for file in wanted if not request(self._url + quote(file), "HEAD").problem]

    def read(self, name: str) -> bytes | None:
        answer = request(self._url + quote(name))
        # A bucket whose objects may not be listed says 403 of those that are not there.
        if answer.status in (401, 403, 404, 410):
            return None
        if answer.problem:
            raise IndexerError(f"{self._url}{name} {answer.problem}", "Check the address.")
        return answer.body

    def path(self, name: str) -> Path:
        return _kept(self._scratch / name, lambda: self.read(name), self._url + name)


class _Stored:
    """Published files in a bucket, read with the credentials of whoever runs this."""

    def __init__(self, uri: str, scratch: Path) -> None:
        self._store, self._uri, self._scratch = open_store(uri), uri, scratch
        listing = self._store.list("")
        folders = {name.rpartition("/")[0] for name in listing if name.endswith((MANIFEST, ".parquet"))}
        prefix = next(
            (f"{p}/" for p in (ARTIFACTS, f"{CURRENT}/{ARTIFACTS}") if p in folders and "" not in folders), ""
        )
        self._objects = {name.removeprefix(prefix): found for name, found in listing.items() if name.startswith(prefix)}

    def names(self) -> Iterable[str]:
        return self._objects

    def read(self, name: str) -> bytes | None:
        return self._store.read(self._objects[name]) if name in self._objects else None

    def path(self, name: str) -> Path:
        return _kept(self._scratch / name, lambda: self.read(name), f"{self._uri}/{name}")


def _kept(path: Path, read: Callable[[], bytes | None], where: str) -> Path:
    """A file in the scratch folder, made when it is first asked for."""
    if not path.exists():
        data = read()
        if data is None:
            raise IndexerError(f"{where}: is missing")
        files.write_atomic(path, data)
    return path
