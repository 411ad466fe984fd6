"""A store in a folder: objects are files, replaced atomically under one lock.

The generation of a file is its modification time in nanoseconds, which only grows, so that a file that was changed
by other means is noticed too. A folder keeps no headers. Names that begin with a dot are not objects.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from idc_indexer import files, locks
from idc_indexer.publish.stores import ABSENT, ConflictError, Headers, StoredObject

_TICK = 1_000_000
"""Nanoseconds between two generations: 1 ms, which every file system of today can tell apart."""


class LocalStore:
    """A store in a folder, which appears with the first object."""

    def __init__(self, folder: Path) -> None:
        self.uri = str(folder)
        self._folder = folder

    def checksum(self, data: Path | bytes) -> str:
        """The SHA-256."""
        digest = sha256(data).hexdigest() if isinstance(data, bytes) else files.sha256(data)
        return f"sha256:{digest}"

    def list(self, prefix: str) -> dict[str, StoredObject]:
        """All files below the folder whose relative path begins with `prefix`."""
        found = {}
        with files.os_errors_for(self._folder):
            start = self._folder / prefix.rpartition("/")[0]
            for parent, folders, names in os.walk(start):
                folders[:] = sorted(name for name in folders if not name.startswith("."))
                for file in sorted(names):
                    name = Path(parent, file).relative_to(self._folder).as_posix()
                    if name.startswith(prefix) and not file.startswith(".") and (found_now := self._object(name)):
                        found[name] = found_now
        return found

    def read(self, source: StoredObject) -> bytes:
        """The bytes of a file."""
        with self._locked(source.name, source.generation):
            return (self._folder / source.name).read_bytes()

    def put(self, name: str, data: Path | bytes, headers: Headers, generation: int) -> StoredObject:  # noqa: ARG002 -- keeps none
        """Write a file."""
        with self._locked(name, generation):
            return self._write(name, data, generation)

    def copy(self, source: StoredObject, name: str, headers: Headers, generation: int) -> StoredObject:  # noqa: ARG002 -- keeps none
        """Copy a file."""
        with self._locked(name, generation):
            self._expect(source.name, source.generation)
            return self._write(name, self._folder / source.name, generation)

    def delete(self, target: StoredObject) -> None:
        """Remove a file."""
        with self._locked(target.name, target.generation):
            (self._folder / target.name).unlink()

    @contextmanager
    def _locked(self, name: str, generation: int) -> Iterator[None]:
        """Alone in the folder, with the expected generation of a file in place."""
        with files.os_errors_for(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            with locks.exclusive(self._folder / ".lock"):
                self._expect(name, generation)
                yield

    def _expect(self, name: str, generation: int) -> None:
        try:
            present = (self._folder / name).stat().st_mtime_ns
        except FileNotFoundError:
            present = ABSENT
        if present != generation:
            raise ConflictError(f"{self._folder / name}: someone else has changed it")

    def _object(self, name: str) -> StoredObject | None:
        """A file as an object; None when it went away meanwhile."""
        path = self._folder / name
        with locks.exclusive(self._folder / ".lock"):
            try:
                about = path.stat()
            except FileNotFoundError:
                return None
            return StoredObject(name, about.st_size, self.checksum(path), about.st_mtime_ns)

    def _write(self, name: str, data: Path | bytes, replaced: int) -> StoredObject:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.atomic_path(path) as temporary:
            if isinstance(data, bytes):
                temporary.write_bytes(data)
            else:
                shutil.copyfile(data, temporary)
            moment = max(time.time_ns(), replaced + _TICK)
            os.utime(temporary, ns=(moment, moment))
            return StoredObject(name, temporary.stat().st_size, self.checksum(temporary), temporary.stat().st_mtime_ns)
