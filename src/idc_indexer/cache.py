"""The folder in which staged shards, extracts of prior releases and results are kept, and who may touch what of it.

    <root>/staged/<source>/<dataset>.<table>/       one folder for each table of each source
        listing.json                                what the source held when it was last listed
        000000000000-<key>.parquet                  a shard with the leaf columns that were needed so far
    <root>/prior_extracts/                              series versions of past releases
    <root>/bigquery/                                results of jobs

The key of a shard stands for size and ETag of the object: a file is right for as long as its name is. Beside each
folder lie two locks: of those who write in it one at a time, and of those who use it any number, as long as nobody
removes it. The system drops both when a process dies.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import platformdirs
import pyarrow.parquet as pq

from idc_indexer import documents, files
from idc_indexer.errors import IndexerError, UsageError
from idc_indexer.schema.source_tables import SourceTable

LISTING = "listing.json"


@dataclass(frozen=True)
class CacheFolder:
    """One of the folders."""

    path: Path

    @contextmanager
    def written(self, waiting: Callable[[], None] = lambda: None, timeout: float = -1) -> Iterator[None]:
        """Be the only one who writes here; `waiting` is called when that takes a while.

        Raises:
            filelock.Timeout: somebody else still was after `timeout` seconds, if that is not negative.
        """
        self.make()
        lock = filelock.FileLock(self._beside("lock"))
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            if timeout == 0:
                raise
            waiting()
            lock.acquire(timeout=timeout)
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def used(self) -> Iterator[None]:
        """Let nobody remove what is here."""
        self.make()
        with self._use().read_lock():
            yield

    @contextmanager
    def removing(self) -> Iterator[bool]:
        """Whether something may be removed: not when anyone uses or writes what is here. Nobody can meanwhile."""
        use = self._use()
        try:
            use.acquire_write(blocking=False)
        except filelock.Timeout:
            yield False
            return
        try:
            with self.written(timeout=0):
                yield True
        except filelock.Timeout:
            yield False
        finally:
            use.release()

    @property
    def files(self) -> list[Path]:
        """The Parquet files that are complete."""
        return sorted(self.path.glob("[!.]*.parquet"))

    def make(self) -> None:
        """Make the folder.

        Raises:
            IndexerError: nothing can be written there.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unusable(self.path, error) from error
        if not os.access(self.path, os.W_OK):  # the lock would take it for one that is locked
            raise _unusable(self.path, PermissionError(13, "not writable"))

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{suffix}")

    def _use(self) -> filelock.ReadWriteLock:
        return filelock.ReadWriteLock(self._beside("use"), is_singleton=False)


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

    def entries(self) -> list[CacheEntry]:
        """What is there, by source and name; what is of no table last."""
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
        return chosen


def default_root() -> Path:
    """The user's cache folder."""
    return platformdirs.user_cache_path("idc-indexer")


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
