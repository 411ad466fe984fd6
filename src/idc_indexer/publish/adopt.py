"""Adopt: record a version that another tool published, so that `promote` can bring it back like any other.

Every file is read once. A Parquet file must have the digest of its sidecar and the version of the folder, and be
readable; a schema must be one. Then `publication.json` is written beside the files, which stay as they are.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pyarrow.parquet as pq

from idc_indexer import documents, parquet_footer
from idc_indexer.errors import IndexerError
from idc_indexer.progress import ProgressListener
from idc_indexer.publish.records import (
    CURRENT,
    ROUNDS,
    Publication,
    artifacts,
    check_release_version,
    files_meter,
    in_parallel,
    put_record,
    read_publication,
    too_many_conflicts,
    upload_order,
)
from idc_indexer.publish.root_files import write_root_files
from idc_indexer.publish.stores import ABSENT, ConflictError, Store, StoredObject
from idc_indexer.release.manifest import (
    MANIFEST,
    FileEntry,
    Release,
    file_entry,
    folder,
    idc_version_of,
    schema_name,
    sidecar_name,
    stated_sha256,
)
from idc_indexer.release.parquet import VERSION_KEY

_WORKERS = 3
"""Files in memory at a time; the largest index has 0.1 GB."""


@dataclass(frozen=True)
class Adoption:
    """A version that is recorded now.

    Attributes:
        files, bytes: of the version.
        without_sidecar: Parquet files whose digest nothing confirms.
        is_current: whether `current` has the same files.
        new: whether it was recorded by this command; otherwise it was before.
    """

    version: str
    files: int
    bytes: int
    without_sidecar: tuple[str, ...]
    is_current: bool
    new: bool


@dataclass(frozen=True)
class _File:
    """A file that was read. `content` is empty for those that no check needs."""

    entry: FileEntry
    checksum: str
    content: bytes
    version: str = ""
    problem: str = ""


def adopt(version: str, store: Store, *, dry_run: bool = False, listener: ProgressListener | None = None) -> Adoption:
    """Check the files of a version that has no record, and record it.

    Args:
        dry_run: check, and write nothing.

    Raises:
        UsageError: not a version.
        IndexerError: there is no such version, or its files contradict each other: nothing was written.
    """
    check_release_version(version)
    conflict = None
    for _ in range(ROUNDS):
        listing = store.list(f"{version}/")
        try:
            recorded = read_publication(store, listing, version)
            publication = recorded or _examined(version, store, artifacts(listing, version), listener)
            if not (recorded or dry_run):
                put_record(store, publication.record, publication.dump(), ABSENT)
        except ConflictError as error:
            conflict = error  # The next listing shows what happened.
            continue
        if not dry_run:
            write_root_files(store)
        names = {file.name for file in publication.files}
        return Adoption(
            version,
            len(names),
            sum(file.bytes for file in publication.files),
            tuple(sorted(n for n in names if n.endswith(".parquet") and sidecar_name(n) not in names)),
            publication.is_content_of(store.list(f"{CURRENT}/"), CURRENT),
            not recorded,
        )
    raise too_many_conflicts(store, version, conflict)


def _examined(
    version: str, store: Store, listing: Mapping[str, StoredObject], listener: ProgressListener | None
) -> Publication:
    """The record of a version, from its files.

    Raises:
        IndexerError: with a line for each file that cannot be of it.
    """
    names = {name.removeprefix(folder(version)): found for name, found in listing.items()}
    if not any(name.endswith(".parquet") for name in names):
        raise IndexerError(
            f"{store.uri}: there is no version {version}: {folder(version)} has no Parquet file",
            "`idc-indexer status` lists the versions.",
        )
    read: dict[str, _File] = {}
    meter = files_meter(listener, f"reading {version}", (found.bytes for found in names.values()))

    def examine(name: str) -> None:
        found = names[name]
        meter.add(name, done=0)
        read[name] = _read(name, found, store.read(found))
        meter.add(name, bytes=found.bytes)

    in_parallel(sorted(names, key=upload_order), examine, _WORKERS)
    if problems := [f"{folder(version)}{name} {problem}" for name, problem in _problems(version, read)]:
        raise IndexerError("\n".join([f"{store.uri}: {version} cannot be adopted:", *problems]), "Nothing was written.")
    files = sorted(read.values(), key=lambda file: upload_order(file.entry.name))
    entries = tuple(file.entry for file in files)
    return Publication(idc_version_of(version), version, entries, {f.entry.name: f.checksum for f in files}, True)


def _read(name: str, found: StoredObject, content: bytes) -> _File:
    """A file, and what is wrong with it alone."""
    entry = file_entry(name, content)
    version = problem = ""
    try:
        if name.endswith(".parquet"):
            metadata = pq.read_metadata(io.BytesIO(content)).metadata or {}
            version = metadata.get(VERSION_KEY, b"").decode(errors="replace")
        elif name.endswith(schema_name("")):
            documents.parse(content, "described", name)
    except parquet_footer.DAMAGE as error:
        problem = f"is not Parquet: {error}"
    except IndexerError as error:
        problem = error.message.removeprefix(f"{name}: ")
    keep = name == MANIFEST or name.endswith(".sha256")
    return _File(entry, found.checksum, content if keep else b"", version, problem)


def _problems(version: str, read: Mapping[str, _File]) -> Iterator[tuple[str, str]]:
    """What is wrong with the files of a version, by name."""
    for name, file in sorted(read.items()):
        if file.problem:
            yield name, file.problem
        if file.version not in ("", version):
            yield name, f"is of version {file.version}"
        if (beside := read.get(sidecar_name(name))) and stated_sha256(beside.content) != file.entry.sha256:
            yield name, f"has SHA-256 {file.entry.sha256}, which its sidecar does not state"
        if name.endswith(".sha256") and name.removesuffix(".sha256") not in read:
            yield name, "is the sidecar of a file that is missing"
    if MANIFEST in read:
        yield from _against_manifest(version, read)


def _against_manifest(version: str, read: Mapping[str, _File]) -> Iterator[tuple[str, str]]:
    """The files against a manifest, as a copy of a release that this toolkit built has."""
    try:
        release = Release.parse(documents.parse(read[MANIFEST].content, "manifest", MANIFEST))
    except IndexerError as error:
        yield MANIFEST, error.message
        return
    if release.release_version != version:
        yield MANIFEST, f"is of version {release.release_version}"
    listed = {file.name: file.sha256 for file in release.files}
    for name in sorted((listed.keys() | read.keys()) - {MANIFEST}):
        if name not in read or read[name].entry.sha256 != listed.get(name):
            yield name, "is not the file that the manifest lists"
