"""The files at the root of a store, for readers who do not list it: `versions.json` and `llms.txt`.

Both follow from the rest of the store, so a lost or damaged one is made again. Every command that changes the rest
ends with `write_root_files`, which lists the store again after each write and ends when there is nothing to write. If
two commands run at once, the one that looked last has therefore seen what both did.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from idc_indexer import documents
from idc_indexer.errors import IndexerError
from idc_indexer.publish.records import (
    CURRENT,
    PROMOTION,
    ROUNDS,
    WORKERS,
    MalformedError,
    Publication,
    ReadOnce,
    artifacts,
    explaining_version,
    in_parallel,
    publication_name,
    put_record,
    read_promotion,
    read_publication,
    read_withdrawal,
    record_headers,
    too_many_conflicts,
    versions_in,
    withdrawal_name,
)
from idc_indexer.publish.stores import ABSENT, ConflictError, Store, StoredObject
from idc_indexer.release.about import ABOUT, TITLE
from idc_indexer.release.manifest import (
    CROISSANT,
    DICTIONARY,
    DUCKDB_FILE,
    MANIFEST,
    Release,
    folder,
    public_address,
)

VERSIONS, LLMS = "versions.json", "llms.txt"
_FORMAT_VERSION = 1
_LINKED = {
    DICTIONARY: "every table and column in words",
    CROISSANT: "the tables in the vocabulary of Croissant",
    DUCKDB_FILE: "a view of each table, for ATTACH",
    MANIFEST: "all files with their sizes and SHA-256",
}


@dataclass(frozen=True)
class CompleteVersion:
    """A version whose files are all there, as its record lists them.

    Attributes:
        withdrawn: why it is withdrawn; empty if it is not.
        idc_release_date, published_at: of its manifest; empty if there is none, or it does not say.
    """

    publication: Publication
    withdrawn: str
    idc_release_date: str = ""
    published_at: str = ""

    @property
    def name(self) -> str:
        """Such as `25.0.5`."""
        return self.publication.release_version

    @property
    def files(self) -> dict[str, str]:
        """The SHA-256 of each file, by name."""
        return {file.name: file.sha256 for file in self.publication.files}

    def to_document(self) -> dict[str, Any]:
        """Its entry in `versions.json`."""
        entry = {
            "release_version": self.name,
            "idc_version": self.publication.idc_version,
            "idc_release_date": self.idc_release_date,
            "manifest_sha256": self.files.get(MANIFEST),
            "withdrawn": self.withdrawn,
        }
        return {key: value for key, value in entry.items() if value}


def write_root_files(store: Store, workers: int = WORKERS) -> None:
    """Write `llms.txt` and then `versions.json`, where they do not say what the store holds.

    Args:
        workers: records and manifests that are read at a time.

    Raises:
        IndexerError: the store failed, or other programs kept changing it. The same command continues.
    """
    reads, conflict = ReadOnce(store), None
    try:
        for _ in range(ROUNDS):
            try:
                listing = store.list("")
                expected = root_files(reads, listing, workers)
                problems = root_problems(store, listing, expected)
                if not problems:
                    return
                for name in problems:
                    _write(store, name, expected[name], listing.get(name))
            except ConflictError as error:
                conflict = error  # Another command wrote, or we did and the response was lost: list again.
        raise too_many_conflicts(store, VERSIONS, conflict)
    except IndexerError as error:
        raise IndexerError(
            f"{error.message}; all else is done, but {LLMS} and {VERSIONS} at the root of the store may be out of date",
            error.hint,
        ) from error


def _write(store: Store, name: str, content: bytes, present: StoredObject | None) -> None:
    made = put_record(store, name, content, present.generation if present else ABSENT)
    if problem := _problem(store, made, content):
        raise IndexerError(
            f"{store.uri}/{name} {problem}, although it was written just now",
            "The store does not keep what is written: check the default settings of the bucket and its proxies.",
        )


def root_files(store: ReadOnce, listing: Mapping[str, StoredObject], workers: int = WORKERS) -> dict[str, bytes]:
    """The contents of the root files, by name, in the order of writing; `listing` is of the entire store.

    A store that never had a complete version needs none: the result is empty.

    Raises:
        ConflictError: a record or a manifest was replaced since it was listed.
    """
    read = [PROMOTION, *(name for version in versions_in(listing) for name in _facts(version))]
    in_parallel([listing[name] for name in read if name in listing], store.read, workers)
    versions = list(_complete_versions(store, listing))
    if not (versions or {LLMS, VERSIONS} & listing.keys()):
        return {}
    current = _current(store, listing, versions)
    document = {
        "format_version": _FORMAT_VERSION,
        **({"current": current.name} if current else {}),
        "versions": [version.to_document() for version in versions],
    }
    text = _llms(versions, current, store.uri)
    return {LLMS: text.encode(errors="replace"), VERSIONS: documents.dump(document, "versions")}


def root_problems(store: Store, listing: Mapping[str, StoredObject], expected: Mapping[str, bytes]) -> dict[str, str]:
    """What is wrong with the root files, by name."""
    found = {name: _problem(store, listing.get(name), content) for name, content in expected.items()}
    return {name: problem for name, problem in found.items() if problem}


def _problem(store: Store, found: StoredObject | None, content: bytes) -> str:
    if found is None:
        return "is missing"
    if (found.bytes, found.checksum) != (len(content), store.checksum(content)):
        return "is out of date"
    return record_headers(found.name).problem(found.headers)


def _facts(version: str) -> tuple[str, ...]:
    """The objects that say what is to be known about a version."""
    return publication_name(version), withdrawal_name(version), folder(version) + MANIFEST


def _complete_versions(store: ReadOnce, listing: Mapping[str, StoredObject]) -> Iterator[CompleteVersion]:
    """The complete versions, the oldest first."""
    for version in versions_in(listing):
        with suppress(MalformedError):
            publication = read_publication(store, listing, version)
            if publication and publication.has_all_files(listing, version):
                yield _complete_version(store, listing, publication)


def _complete_version(
    store: ReadOnce, listing: Mapping[str, StoredObject], publication: Publication
) -> CompleteVersion:
    version = publication.release_version
    found = CompleteVersion(publication, read_withdrawal(store, listing, version))
    if MANIFEST not in found.files:
        return found
    date, published_at = _told_by_manifest(store.read(listing[folder(version) + MANIFEST]))
    return replace(found, idc_release_date=date, published_at=published_at)


@lru_cache(maxsize=1000)
def _told_by_manifest(content: bytes) -> tuple[str, str]:
    """The date of the IDC release and the address of releases; empty if the manifest is of another form."""
    try:
        release = Release.parse(documents.parse(content, "manifest", MANIFEST))
    except IndexerError:
        return "", ""
    return release.idc_release_date, release.published_at


def _current(
    store: ReadOnce, listing: Mapping[str, StoredObject], versions: Sequence[CompleteVersion]
) -> CompleteVersion | None:
    """The version that `current` equals or is moving to."""
    try:
        record = read_promotion(store, listing)
    except MalformedError:
        record = None
    name = record.release_version if record else explaining_version(store, listing, artifacts(listing, CURRENT))
    return next((version for version in versions if version.name == name), None)


def _llms(versions: Sequence[CompleteVersion], current: CompleteVersion | None, uri: str) -> str:
    """The content of `llms.txt`, in the form of https://llmstxt.org.

    Args:
        uri: of the store, whose public address this is if no manifest says another one.
    """
    of_release = {version.publication.idc_version: version for version in versions if not version.withdrawn}
    newest = list(reversed(of_release.values()))
    shown = [*([(CURRENT, current)] if current else ()), *((version.name, version) for version in newest)]
    published = next((version.published_at for _, version in shown if version.published_at), uri)
    root = public_address(published, CURRENT).removesuffix(folder(CURRENT))
    lines = [
        f"# {TITLE}",
        "",
        f"> {ABOUT}",
        "",
        f"[{VERSIONS}]({root}{VERSIONS}) lists all versions, with the SHA-256 of each manifest, and says which one is "
        f"`{CURRENT}` and which are withdrawn. The files of a version never change.",
    ]
    for line in (_attach(root, shown), _read_parquet(root, shown)):
        lines += ["", line] if line else []
    for where, version in shown:
        address = root + folder(where)
        lines += ["", f"## {_heading(where, version)}", ""]
        lines += [f"- [{name}]({address}{name}): {what}" for name, what in _LINKED.items() if name in version.files]
    return "\n".join(lines) + "\n"


def _attach(root: str, shown: Sequence[tuple[str, CompleteVersion]]) -> str:
    """How to query all tables; empty if no version has a file for that."""
    where = next((where for where, version in shown if DUCKDB_FILE in version.files), "")
    return where and (
        "DuckDB 1.0 or later queries all tables without downloading them:\n\n```sql\n"
        f"ATTACH '{root}{folder(where)}{DUCKDB_FILE}' AS idc;\n"
        "SELECT view_name, comment FROM duckdb_views() WHERE database_name = 'idc' AND NOT internal;\n```"
    )


def _read_parquet(root: str, shown: Sequence[tuple[str, CompleteVersion]]) -> str:
    """Where the tables of the first of these versions are."""
    for where, version in shown[:1]:
        tables = ", ".join(name.removesuffix(".parquet") for name in version.files if name.endswith(".parquet"))
        return f"Each table is one Parquet file, `{root}{folder(where)}TABLE.parquet`. The tables: {tables}"
    return ""


def _heading(where: str, version: CompleteVersion) -> str:
    name = f"{CURRENT}, which is {version.name}" if where == CURRENT else version.name
    date = version.idc_release_date and f" of {version.idc_release_date}"
    return f"{name}: IDC release {version.publication.idc_version}{date}{', withdrawn' if version.withdrawn else ''}"
