"""What a build has finished: the next one reuses it, or finds that all is up to date."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from idc_indexer import documents, files
from idc_indexer.cache import CacheFolder
from idc_indexer.errors import IndexerError
from idc_indexer.release.manifest import IndexEntry

_STATE = "build_state.json"


class BuildState:
    """The indices that an unfinished build has written and that are intact, as recorded in its folder."""

    def __init__(self, folder: Path, path: Path | None = None) -> None:
        """Args:
        folder: the files that were written.
        path: of the record; in that folder when None.
        """
        self._folder = folder
        self._path = path or folder / _STATE
        try:
            done: dict[str, Any] = documents.load(self._path, "build_state")
        except IndexerError:
            # There is none, or another version of the toolkit wrote it: start from nothing.
            done = {}
        self._done = {
            name: one for name, one in done.items() if self._is_intact(IndexEntry.from_document(one["entry"]))
        }

    def _is_intact(self, entry: IndexEntry) -> bool:
        paths = {self._folder / file.name: file.sha256 for file in entry.files}
        return all(path.is_file() and files.sha256(path) == sha256 for path, sha256 in paths.items())

    def reusable(self, name: str, key: str) -> IndexEntry | None:
        """The entry of an index that is written and whose inputs have not changed."""
        done = self._done.get(name)
        return IndexEntry.from_document(done["entry"]) if done and done["key"] == key else None

    def forget(self, name: str) -> None:
        """Have it built again."""
        self._done.pop(name, None)

    def add(self, key: str, entry: IndexEntry) -> None:
        """Record an index as written."""
        self._done[entry.name] = {"key": key, "entry": entry.to_document()}
        files.write_atomic(self._path, documents.dump(self._done, "build_state"))

    def save(self, path: Path | None) -> None:
        """Store the record elsewhere too, where that is possible: it only saves work."""
        if path:
            with suppress(IndexerError, OSError):
                CacheFolder(path.parent).make()
                files.write_atomic(path, documents.dump(self._done, "build_state"))

    def remove_unless_worth_resuming(self) -> None:
        """Remove the folder when no index in it is finished."""
        if not self._done:
            shutil.rmtree(self._folder, ignore_errors=True)

    def remove_all_but(self, names: set[str]) -> None:
        """Remove everything that does not belong to the release."""
        for path in self._folder.iterdir():
            if path.name not in names:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
