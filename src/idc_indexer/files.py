"""Files: written atomically, identified by their SHA-256, named by nobody but this toolkit."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from idc_indexer import locks
from idc_indexer.errors import IndexerError

MAX_NAME = 255
"""Bytes of a file name, on every file system in use."""
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9_-])?", re.ASCII)
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)
"""Names that Windows takes for devices, in any folder."""

_ABANDONED_AFTER = 60.0
"""Seconds after which a temporary folder without a lock belongs to no process that is about to lock it."""


@contextmanager
def os_errors_for(path: Path) -> Iterator[None]:
    """Turn an OSError into a message that names the file.

    pyarrow and DuckDB raise OSError without a file name, so the caller gives it.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise IndexerError(
            f"{path}: {reason}", "Check that the folder exists, may be read and written, and has room."
        ) from error


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, for another program to write; it replaces `path` at the end.

    The name is always the same, so the next process overwrites what a killed one left; the caller holds a lock.

    Raises:
        IndexerError: it cannot be written; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.partial")
    with os_errors_for(path):
        try:
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which replaces `path` at the end; otherwise as `atomic_path`."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        yield file


def write_atomic(path: Path, data: bytes) -> None:
    """Write a small file, atomically."""
    with atomic_file(path) as file:
        file.write(data)


def sha256(path: Path) -> str:
    """The digest of a file, in hexadecimal."""
    with os_errors_for(path), path.open("rb") as file:
        return sha256_of(file)


def sha256_of(file: BinaryIO) -> str:
    """The digest of an open file, from where it is to its end, in hexadecimal."""
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def local_file(folder: Path, name: str) -> Path:
    """Where a file lands whose name came from a listing, a manifest, a wheel or an export.

    Every such name passes here before a file of it is opened or written: names are data, and `../x`, `/etc/x`,
    `a\\nb` or `nul` in them must reach nothing outside `folder`.

    Args:
        folder: where the file is to lie, directly.
        name: ASCII letters, digits, `_`, `-` and `.`, as all files of a release have; 255 bytes at most.

    Raises:
        IndexerError: any other name.
    """
    if len(name) > MAX_NAME or not _NAME.fullmatch(name) or _DEVICE.fullmatch(name):
        shown = name if len(name) <= MAX_NAME else f"{name[:60]}..."
        raise IndexerError(
            f"{shown!r} is not a file name that a release can have",
            f"Such names have letters, digits, '_', '-' and '.' only, begin with a letter or a digit, and have at most "
            f"{MAX_NAME} characters.",
        )
    return folder / name


def absolute(path: Path) -> Path:
    """The path from the root, without `.` and `..`. Links are not followed: a release may be one."""
    return Path(os.path.abspath(path))  # noqa: PTH100 -- resolve follows links


def writable(folder: Path) -> bool:
    """Whether this process may create files in a folder."""
    return os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)


@contextmanager
def temporary_folder(prefix: str = "idc-indexer-", parent: Path | None = None) -> Iterator[Path]:
    """A new folder for temporary files, which is removed at the end. Removes those of processes that were killed.

    Args:
        prefix: of its name; every folder with this prefix is one of these.
        parent: the folder in which it lies; the system's folder for temporary files if None.

    Raises:
        IndexerError: it cannot be made.
    """
    folder = None
    try:
        try:
            parent = parent or Path(tempfile.gettempdir())
            if locks.supported(parent):
                for left in parent.glob(f"{prefix}*"):
                    _remove_abandoned(left)
            folder = parent / f"{prefix}{secrets.token_hex(8)}"  # known before it is made, so that Ctrl-C leaves none
            folder.mkdir(mode=0o700)
        except OSError as error:
            raise IndexerError(
                f"no temporary folder can be made: {error.strerror or error}",
                "Set TMPDIR to a folder that can be written.",
            ) from error
        with locks.exclusive(_lock_of(folder)):
            yield folder
    finally:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)
            _lock_of(folder).unlink(missing_ok=True)


def _lock_of(folder: Path) -> Path:
    # Beside the folder: Windows removes no folder with an open file in it.
    return folder.with_name(f".{folder.name.removeprefix('.')}.lock")


def _remove_abandoned(folder: Path) -> None:
    """Remove a temporary folder whose process has died."""
    try:
        if folder.is_symlink() or not folder.is_dir() or time.time() - folder.stat().st_mtime < _ABANDONED_AFTER:
            return
        with locks.exclusive(_lock_of(folder), 0):
            shutil.rmtree(folder)
        _lock_of(folder).unlink(missing_ok=True)
    except (OSError, locks.Timeout):
        pass  # in use, or of another user
