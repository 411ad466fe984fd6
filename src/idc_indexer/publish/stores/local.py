"""A store in a folder: objects are files, which are replaced atomically under one lock.

Reading takes no lock and writes nothing, so a folder that is mounted read-only can be read. The generation of a file
is its modification time in nanoseconds, which only grows; a change by another program is noticed too. A folder keeps
no headers. Files whose names begin with a dot are not objects.
"""

from __future__ import annotations

import os
import shutil
import stat
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
    """A store in a folder, which the first object creates."""

    def __init__(self, folder: Path) -> None:
        self.uri = str(folder)
        self._folder = folder
        self._checksums: dict[tuple[str, int, int], str] = {}

    def checksum(self, data: Path | bytes) -> str:
        """The SHA-256."""
        return _checksum(sha256(data).hexdigest() if isinstance(data, bytes) else files.sha256(data))

    def list(self, prefix: str) -> dict[str, StoredObject]:
        """All files below the folder whose relative path begins with `prefix`."""
        found = {}
        with files.os_errors_for(self._folder):
            for parent, folders, names in os.walk(self._folder / prefix.rpartition("/")[0], onerror=_refuse):
                folders[:] = sorted(name for name in folders if not name.startswith("."))
                for file in sorted(names):
                    name = Path(parent, file).relative_to(self._folder).as_posix()
                    if name.startswith(prefix) and not file.startswith(".") and (listed := self._object(name)):
                        found[name] = listed
        return found

    def read(self, source: StoredObject) -> bytes:
        """The bytes of a file."""
        with files.os_errors_for(self._folder / source.name):
            try:
                with (self._folder / source.name).open("rb") as file:
                    if os.fstat(file.fileno()).st_mtime_ns == source.generation:
                        return file.read()
            except FileNotFoundError:
                pass
        raise self._conflict(source.name)

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

    def missing_permissions(self) -> tuple[str, ...]:
        """What publishing needs and this process may not do."""
        path = files.absolute(self._folder)
        existing = next(parent for parent in (path, *path.parents) if parent.exists())
        return () if existing.is_dir() and files.writable(existing) else (f"writing to {existing}",)

    @contextmanager
    def _locked(self, name: str, generation: int) -> Iterator[None]:
        """Hold the lock of the folder, with the expected generation of a file in place."""
        with files.os_errors_for(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
        with locks.exclusive(self._folder / ".lock"), files.os_errors_for(self._folder / name):
            self._expect(name, generation)
            yield

    def _expect(self, name: str, generation: int) -> None:
        try:
            present = (self._folder / name).stat().st_mtime_ns
        except FileNotFoundError:
            present = ABSENT
        if present != generation:
            raise self._conflict(name)

    def _conflict(self, name: str) -> ConflictError:
        return ConflictError(f"{self._folder / name}: another program changed it")

    def _object(self, name: str) -> StoredObject | None:
        """A file as an object; None if it is no file, or was removed since it was listed.

        Writers replace files and never change them, so an open file stays as it is.
        """
        path = self._folder / name
        try:
            if not stat.S_ISREG(path.stat().st_mode):  # to open a pipe would wait for its writer
                return None
            with path.open("rb") as file:
                found = os.fstat(file.fileno())
                key = name, found.st_size, found.st_mtime_ns
                if key not in self._checksums:  # a command lists several times, and reads each file once
                    self._checksums[key] = _checksum(files.sha256_of(file))
                return StoredObject(name, found.st_size, self._checksums[key], found.st_mtime_ns)
        except FileNotFoundError:
            return None

    def _write(self, name: str, data: Path | bytes, replaced: int) -> StoredObject:
        path = self._folder
        for part in name.split("/"):
            path = files.local_file(path, part)
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.atomic_path(path) as temporary:
            if isinstance(data, bytes):
                temporary.write_bytes(data)
            else:
                shutil.copyfile(data, temporary)
            moment = max(time.time_ns(), replaced + _TICK)
            os.utime(temporary, ns=(moment, moment))
            written = temporary.stat()
            return StoredObject(name, written.st_size, self.checksum(temporary), written.st_mtime_ns)


def _checksum(digest: str) -> str:
    return f"sha256:{digest}"


def _refuse(error: OSError) -> None:
    """Raise what `os.walk` would pass over; a folder that does not exist has no objects."""
    if not isinstance(error, FileNotFoundError):
        raise error
