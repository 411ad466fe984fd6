"""A release: a flat folder of Parquet, schemas, SQL and sidecars, and the manifest that lists them.

Its file names, its version grammar, its lock.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from idc_indexer import documents, files, locks
from idc_indexer.errors import IndexerError, UsageError

MANIFEST = "manifest.json"
REPORT = "report.html"
DUCKDB_FILE = "idc.duckdb"
CROISSANT = "croissant.json"
DICTIONARY = "data-dictionary.md"
LOCK = ".lock"
"""The lock of a release that is filled in place; others have `<dir>.lock` beside them."""
FORMAT_VERSION = 1
PUBLISHED = "https://storage.googleapis.com/idc-index-data-artifacts"
"""Where IDC publishes its releases."""
ARTIFACTS = "release_artifacts"
# PEP 440 without epochs and local versions: PyPI accepts it, and it is safe in paths and URLs.
# Nine digits at most: Python converts no text of 5,000 digits.
_VERSION = re.compile(
    r"(0|[1-9]\d{0,8})(\.(0|[1-9]\d{0,8})){2}((a|b|rc)\d{1,9})?(\.post\d{1,9})?(\.dev\d{1,9})?", re.ASCII
)

_SHA256 = re.compile(rb"[0-9a-f]{64}\b")


def idc_version_of(release_version: str) -> int:
    """The IDC release in a data release: the first number of its version.

    Raises:
        UsageError: not X.Y.Z (with a PEP 440 suffix).
    """
    if not _VERSION.fullmatch(release_version):
        raise UsageError(
            f"release version {release_version!r} is not of the form X.Y.Z", "Write it like 25.0.0 or 25.1.0rc1."
        )
    return int(release_version.split(".", 1)[0])


def check_version(release_version: str, idc_version: int) -> None:
    """Check the version of a data release.

    Raises:
        UsageError: not a version, or not one of that IDC release.
    """
    if idc_version_of(release_version) != idc_version:
        raise UsageError(
            f"release version {release_version} does not begin with the IDC release, {idc_version}",
            "The first number of a release version says which IDC release is in it.",
        )


def folder(version: str) -> str:
    """Prefix of the published files of a version, or of `current`."""
    return f"{version}/{ARTIFACTS}/"


def public_address(published: str, version: str) -> str:
    """The public address of the files of a version, with a slash at the end.

    Args:
        published: where releases are published: a URL, `gs://bucket[/prefix]`, or a folder, whose path is of no use to
            readers, so that IDC's address takes its place.
    """
    address = published if "://" in published else PUBLISHED
    return f"{address.replace('gs://', 'https://storage.googleapis.com/', 1).rstrip('/')}/{folder(version)}"


def parquet_name(index: str) -> str:
    """File name of an index's Parquet."""
    return f"{index}.parquet"


def sidecar_name(file: str) -> str:
    """File name of a sidecar."""
    return f"{file}.sha256"


def schema_name(index: str) -> str:
    """File name of an index's schema."""
    return f"{index}_schema.json"


def sql_name(index: str) -> str:
    """File name of an index's query."""
    return f"{index}.sql"


def zip_name(csv: str) -> str:
    """File name of a zipped CSV, such as `idc_index.csv.zip` of `idc_index.csv`."""
    return f"{csv}.zip"


def sidecar(sha256: str, file: str) -> bytes:
    """The line that `sha256sum -c` reads."""
    return f"{sha256}  {file}\n".encode()


def stated_sha256(content: bytes) -> str:
    """The digest in a sidecar, of this toolkit or another; "" if it begins with none."""
    found = _SHA256.match(content)
    return found[0].decode() if found else ""


def check_manifest(path: Path, manifest_sha256: str) -> None:
    """Check that the manifest of the release at a path has this SHA-256; it covers every other file.

    Raises:
        IndexerError: there is no release, or another one.
    """
    release = Release.open(path)
    if (found := release.manifest_sha256) != manifest_sha256.lower():
        raise IndexerError(
            f"{path}: the SHA-256 of its {MANIFEST} is {found}, not {manifest_sha256}",
            f"This is another release, {release.release_version}, or another build of it.",
        )


def other_writer(published: Release, writer: Mapping[str, str]) -> str:
    """Why files by this writer cannot be compared with those of a published release by digest; empty if they can."""
    theirs, ours = ("{name}=={version}".format(**one) for one in (published.about["writer"], writer))
    if theirs == ours:
        return ""
    return (
        f"{theirs} wrote what is published, and {ours} may write the same rows as other bytes: "
        f"install {theirs}, or compare the contents with `idc-indexer diff`"
    )


@dataclass(frozen=True)
class FileEntry:
    """A file as the manifest lists it; `rows` for Parquet only.

    Raises:
        IndexerError: a name that `files.local_file` refuses, so that no command opens a file outside of a release.
    """

    name: str
    bytes: int
    sha256: str
    rows: int | None = None

    def __post_init__(self) -> None:
        files.local_file(Path(), self.name)

    def to_document(self) -> dict[str, Any]:
        """Its entry in the manifest."""
        return {key: value for key, value in vars(self).items() if value is not None}


def file_entry(name: str, content: bytes) -> FileEntry:
    """The entry of a file with this content."""
    return FileEntry(name, len(content), sha256(content).hexdigest())


@dataclass(frozen=True)
class IndexEntry:
    """An index or a derived table, as the manifest lists it.

    Attributes:
        query_sha256: digest of its `.sql`; None for a derived table, which has no query.
        schema_sha256: digest of its `_schema.json`; None for a zipped CSV.
        files: the Parquet, its sidecar, the schema and, for an index, the query; or the zipped CSV.
        overrides_built_in: True when a query or schema of the user replaced the built-in one of that name.
    """

    name: str
    rows: int
    query_sha256: str | None = None
    schema_sha256: str | None = None
    files: tuple[FileEntry, ...] = ()
    overrides_built_in: bool | None = None

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> IndexEntry:
        """The entry of a (valid) manifest."""
        return cls(**{**document, "files": tuple(FileEntry(**file) for file in document["files"])})

    def to_document(self) -> dict[str, Any]:
        """Its entry in the manifest."""
        document = {**vars(self), "files": [file.to_document() for file in self.files]}
        return {key: value for key, value in document.items() if value is not None}

    @property
    def expected(self) -> set[str]:
        """The names of the files that it must have."""
        if self.schema_sha256 is None:
            return {zip_name(self.name)}
        parquet = parquet_name(self.name)
        query = set() if self.query_sha256 is None else {sql_name(self.name)}
        return {parquet, sidecar_name(parquet), schema_name(self.name)} | query


@dataclass(frozen=True)
class Acceptance:
    """A finding of `verify --against` that somebody accepted.

    Attributes:
        finding: its name, such as `rows:ct_index`.
        against: the version that the release was compared with, or the name of what was given.
        message: the finding in words.
    """

    finding: str
    against: str
    message: str
    reason: str


@dataclass(frozen=True)
class Release:
    """A release folder and what its manifest says.

    Attributes:
        about: toolkit, writer, engine, source and, if there was one, the history.
        derived: the derived tables and the zipped CSV of idc_index.
        idc_release_date: when IDC published its release, as YYYY-MM-DD; "" if no table of the release says it.
        published_at: where the descriptions say that releases are published; "" without descriptions.
        descriptions: idc.duckdb and the other files of `descriptions`.
        report: the HTML page; None when there is none.
    """

    path: Path
    idc_version: int
    release_version: str
    about: Mapping[str, Any]
    indices: tuple[IndexEntry, ...]
    derived: tuple[IndexEntry, ...] = ()
    idc_release_date: str = ""
    published_at: str = ""
    descriptions: tuple[FileEntry, ...] = ()
    report: FileEntry | None = None
    accepted: tuple[Acceptance, ...] = ()

    @classmethod
    def open(cls, path: Path) -> Release:
        """Read the manifest of a release.

        Raises:
            IndexerError: no release is there, or its manifest is malformed.
        """
        if not (path / MANIFEST).is_file():
            raise IndexerError(f"{path}: not a release: it has no {MANIFEST}", "Give a folder that `build` made.")
        document = documents.load(path / MANIFEST, "manifest")
        try:
            return cls.parse(document, path)
        except IndexerError as error:
            raise IndexerError(f"{path / MANIFEST}: {error.message}", error.hint) from error

    @classmethod
    def parse(cls, document: Mapping[str, Any], path: Path = Path()) -> Release:
        """The release of a (valid) manifest, whose files lie, or will lie, at `path`.

        Raises:
            IndexerError: a file name that no release can have.
        """
        indices, derived = (
            tuple(IndexEntry.from_document(entry) for entry in document[kind]) for kind in ("indices", "supplements")
        )
        about = {key: document[key] for key in ("toolkit", "writer", "engine", "source", "history") if key in document}
        return cls(
            path,
            document["idc_version"],
            document["release_version"],
            about,
            indices,
            derived,
            document.get("idc_release_date", ""),
            document.get("published_at", ""),
            tuple(FileEntry(**file) for file in document.get("descriptions", ())),
            FileEntry(**document["report"]) if "report" in document else None,
            tuple(Acceptance(**one) for one in document.get("accepted", ())),
        )

    def to_document(self) -> dict[str, Any]:
        """The content of the manifest. It does not depend on the clock or on the path of the release."""
        document: dict[str, Any] = {
            "format_version": FORMAT_VERSION,
            "idc_version": self.idc_version,
            "release_version": self.release_version,
            **({"idc_release_date": self.idc_release_date} if self.idc_release_date else {}),
            **self.about,
            "indices": [entry.to_document() for entry in self.indices],
            "supplements": [entry.to_document() for entry in self.derived],
        }
        if self.descriptions:
            document["published_at"] = self.published_at
            document["descriptions"] = [file.to_document() for file in self.descriptions]
        if self.report:
            document["report"] = self.report.to_document()
        if self.accepted:
            document["accepted"] = [vars(one) for one in self.accepted]
        return document

    def manifest(self) -> bytes:
        """The bytes of the manifest."""
        return documents.dump(self.to_document(), "manifest")

    @property
    def manifest_sha256(self) -> str:
        """The digest of the manifest in the folder. It covers every other file."""
        return files.sha256(self.path / MANIFEST)

    @property
    def entries(self) -> tuple[IndexEntry, ...]:
        """Indices and derived tables."""
        return self.indices + self.derived

    @property
    def table_files(self) -> list[FileEntry]:
        """The files of the tables."""
        return [file for entry in self.entries for file in entry.files]

    @property
    def files(self) -> list[FileEntry]:
        """Every file the manifest lists."""
        return [*self.table_files, *self.descriptions, *filter(None, [self.report])]


def in_place(path: Path) -> bool:
    """Whether a release folder can only be filled, not replaced by a rename.

    It is a mount point, such as the volume of a container; a symbolic link; or in a folder that cannot be written.
    """
    return path.is_dir() and (path.is_symlink() or path.is_mount() or not files.writable(path.absolute().parent))


@contextmanager
def release_lock(path: Path) -> Iterator[None]:
    """Keep other commands from writing to a release. The system drops the lock of a process that dies.

    Removes partial files that such a process left.

    Raises:
        IndexerError: another command is writing there.
    """
    path = files.absolute(path)
    lock = path / LOCK if in_place(path) else path.with_name(f"{path.name}.lock")
    with files.os_errors_for(path):
        lock.parent.mkdir(parents=True, exist_ok=True)
        lock.touch()  # filelock would report a folder that is not writable as locked
    try:
        with locks.exclusive(lock, 0, "Or choose another --out."):
            try:
                with files.os_errors_for(path):
                    for left in path.glob(".*.partial"):
                        left.unlink()
                yield
            finally:
                # Before it is released: a command that comes now sees it locked, or makes a new one. Windows removes no
                # open file; there, filelock removes it once it is closed, unless another process has opened it.
                if sys.platform != "win32":
                    lock.unlink(missing_ok=True)
    except locks.Timeout as error:
        raise IndexerError(f"{path}: another command is writing there", "Wait until it has ended.") from error
