"""The folder in which staged shards, extracts of prior releases and results are kept, and who may touch what of it.

    <root>/staged/<source>/<dataset>.<table>/       one folder for each table of each source
        listing.json                                what the source held when it was last listed
        000000000000-<key>.parquet                  a shard with the leaf columns that were needed so far
    <root>/prior_extracts/                              series versions of past releases
    <root>/bigquery/                                results of jobs
    <root>/builds/                                  what finished builds depended on, a small file for each target

Beside each Parquet file lies its SHA-256, `<name>.sha256`, which is checked before a build uses the file.

The key of a shard stands for size and ETag of the object: a file is right for as long as its name is. Beside each
folder lie two locks: one process at a time writes in it, and any number use it while none removes it. The system drops
both locks when a process dies.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs
import pyarrow.parquet as pq

from idc_indexer import documents, files, locks
from idc_indexer.errors import IndexerError, UsageError
from idc_indexer.schema.source_tables import SourceTable

LISTING = "listing.json"
HINT = "Or choose another folder with --cache-dir."


def write_digest(path: Path, sha256: str) -> None:
    """Store the digest of a file of the cache, before the file takes its place."""
    files.write_atomic(_digest_path(path), f"{sha256}\n".encode("ascii"))


def is_intact(path: Path) -> bool:
    """Whether a file of the cache is what it was when it was written."""
    try:
        expected = _digest_path(path).read_text(encoding="ascii").strip()
        return expected == files.sha256(path)
    except (OSError, UnicodeDecodeError, IndexerError):
        return False


def remove_file(path: Path) -> None:
    """Remove a file of the cache, and its digest."""
    path.unlink(missing_ok=True)
    _digest_path(path).unlink(missing_ok=True)


def _digest_path(path: Path) -> Path:
    return path.with_suffix(".sha256")


@dataclass(frozen=True)
class CacheFolder:
    """One of the folders."""

    path: Path

    @contextmanager
    def written(self, waiting: Callable[[], None] = lambda: None, timeout: float = -1) -> Iterator[None]:
        """Write here alone; `waiting` is called once if another process writes here.

        Raises:
            locks.Timeout: the other process still did after `timeout` seconds, if that is not negative.
        """
        self.make()
        lock = self._beside("lock")
        try:
            first = locks.exclusive(lock, 0, HINT)
            first.__enter__()
        except locks.Timeout:
            if timeout == 0:
                raise
            waiting()
            first = locks.exclusive(lock, timeout, HINT)
            first.__enter__()
        with ExitStack() as held:
            held.push(first)
            yield

    @contextmanager
    def used(self) -> Iterator[None]:
        """Let no process remove what is here."""
        self.make()
        with locks.shared(self._beside("use"), hint=HINT):
            yield

    @contextmanager
    def removing(self) -> Iterator[bool]:
        """Whether files may be removed: only if no process uses or writes them. No process can in this block."""
        try:
            with locks.sole(self._beside("use"), 0, HINT), self.written(timeout=0):
                yield True
        except locks.Timeout:
            yield False

    @property
    def files(self) -> list[Path]:
        """The Parquet files that are complete."""
        return sorted(self.path.glob("[!.]*.parquet"))

    def make(self) -> None:
        """Make the folder.

        Raises:
            IndexerError: nothing can be written there, or there is no home folder for it.
        """
        _check_home(self.path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unusable(self.path, error) from error
        if not os.access(self.path, os.W_OK):  # the lock would take it for one that is locked
            raise _unusable(self.path, PermissionError(13, "not writable"))

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{suffix}")


@dataclass(frozen=True)
class CacheEntry:
    """What is kept of one table, or of none. Counts of files and bytes.

    Attributes:
        source: where it came from; "" of what is of no table.
        name: such as `idc_v25.dicom_all`, or `prior_extracts`, or `bigquery`.
        leaves: how many leaf columns its first shard has; 0 of what is of no table.
    """

    source: str
    name: str
    shards: int
    leaves: int
    bytes: int
    folder: CacheFolder

    def to_document(self) -> dict[str, Any]:
        """For --json."""
        return {key: value for key, value in vars(self).items() if key != "folder"}


@dataclass(frozen=True)
class Cache:
    """The folder of all."""

    root: Path

    @classmethod
    def at(cls, root: Path | None) -> Cache:
        """The cache in that folder, or in the user's cache folder."""
        return cls(default_root() if root is None else root)

    def table(self, uri: str, table: SourceTable) -> CacheFolder:
        """The folder of a table of the source with that address."""
        return CacheFolder(self.root / "staged" / _digest(uri) / str(table))

    def tables(self, uri: str) -> list[str]:
        """The tables of a source that were listed ever, such as `idc_v25.dicom_all`."""
        return [path.parent.name for path in (self.root / "staged" / _digest(uri)).glob(f"*/{LISTING}")]

    @property
    def prior_extracts(self) -> CacheFolder:
        """The folder of extracts of prior releases."""
        return CacheFolder(self.root / "prior_extracts")

    @property
    def results(self) -> CacheFolder:
        """The folder of results of jobs in BigQuery."""
        return CacheFolder(self.root / "bigquery")

    @property
    def builds(self) -> Path:
        """The folder of what finished builds depended on."""
        return self.root / "builds"

    def entries(self) -> list[CacheEntry]:
        """What is there, by source and name; what is of no table last.

        Raises:
            IndexerError: there is no home folder for the cache.
        """
        _check_home(self.root)
        found: list[CacheEntry] = []
        for path in sorted((self.root / "staged").glob(f"*/*/{LISTING}")):
            folder = CacheFolder(path.parent)
            document = documents.load(path, "listing")
            found.append(_count(document["source"], path.parent.name, folder))
        found.sort(key=lambda one: (one.source, _natural(one.name)))
        others = [
            _count("", folder.path.name, folder) for folder in (self.prior_extracts, self.results) if folder.files
        ]
        return [*found, *others]

    def remove(self, names: list[str]) -> list[CacheEntry]:
        """Remove what has one of these names, or all when there are none.

        Args:
            names: a table, all of a release (`idc_v25`), `prior_extracts`, `bigquery`.

        Returns:
            What was there.

        Raises:
            UsageError: there is nothing of that name.
            IndexerError: another process uses it; what is named before it is removed.
        """
        there = self.entries()
        for name in names:
            if not any(name in _names(one) for one in there):
                raise UsageError(
                    f"nothing is kept of {name}", "`idc-indexer cache` lists what is: give a table, or a release."
                )
        chosen = [one for one in there if not names or set(names) & _names(one)]
        for one in chosen:
            with one.folder.removing() as free:
                if not free:
                    raise IndexerError(f"{one.name}: another process uses it", "Wait until that has ended.")
                with files.os_errors_for(one.folder.path):
                    shutil.rmtree(one.folder.path)
        if not names:
            shutil.rmtree(self.builds, ignore_errors=True)
        return chosen


_NO_HOME = Path("~")


def default_root() -> Path:
    """The user's cache folder.

    Where the system names no home, the folder is one below `~` that cannot be made: commands that do not need the
    cache still run.
    """
    try:
        return platformdirs.user_cache_path("idc-indexer")
    except RuntimeError:
        return _NO_HOME / "idc-indexer"


def _check_home(path: Path) -> None:
    if path.is_relative_to(_NO_HOME):
        raise IndexerError(
            "there is no folder for the cache: HOME is not set, and the system knows no home of this user",
            "Choose a folder with --cache-dir.",
        )


def _unusable(path: Path, error: OSError) -> IndexerError:
    return IndexerError(f"{path}: {error.strerror}", "Choose another folder with --cache-dir.")


def _digest(uri: str) -> str:
    return hashlib.sha256(uri.encode()).hexdigest()[:16]


def _count(source: str, name: str, folder: CacheFolder) -> CacheEntry:
    shards = folder.files
    leaves = pq.read_metadata(shards[0]).num_columns if source and shards else 0
    return CacheEntry(source, name, len(shards), leaves, sum(path.stat().st_size for path in shards), folder)


def _names(one: CacheEntry) -> set[str]:
    """What it can be called: `idc_v25_clinical.column_metadata` belongs to release `idc_v25` too."""
    dataset = one.name.partition(".")[0]
    return {one.name, dataset, dataset.removesuffix("_clinical")}


def _natural(name: str) -> tuple[int, str]:
    digits = "".join(filter(str.isdigit, name.partition(".")[0]))
    return int(digits or 0), name
