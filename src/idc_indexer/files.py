"""Files: written atomically, identified by their SHA-256, named by nobody but this toolkit."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

import filelock

from idc_indexer.errors import IndexerError

NO_LOCKS = "IDC_INDEXER_NO_LOCKS"
"""Environment variable: if it is set, commands go on without locks where the file system has none."""
_WITHOUT_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL)
MAX_NAME = 255
"""Bytes of a file name, on every file system in use."""
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9_-])?", re.ASCII)
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)
"""Names that Windows takes for devices, in any folder."""

NO_LOCKS = "IDC_INDEXER_NO_LOCKS"
"""Environment variable of a user who accepts a file system without locks."""
_ABANDONED_AFTER = 60.0
"""Seconds after which a scratch folder that nobody has locked belongs to no process that is about to lock it."""


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
def temporary_folder() -> Iterator[Path]:
    """A new folder for temporary files, which is removed at the end.

    Raises:
        IndexerError: the system has no folder for temporary files that can be written.
    """
    try:
        folder = TemporaryDirectory(prefix="idc-indexer-")
    except OSError as error:
        raise IndexerError(
            f"no temporary folder can be made: {error.strerror or error}", "Set TMPDIR to a folder that can be written."
        ) from error
    with folder as path:
        yield Path(path)


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


@contextmanager
def lock(path: Path, timeout: float = -1) -> Iterator[None]:
    """Hold a lock file until the end of the block. The system drops the lock of a process that dies.

    Some file systems have no locks, such as Lustre that is mounted without `-o flock`. There this is an error, unless
    the environment variable `IDC_INDEXER_NO_LOCKS` says that only one command writes at a time.

    Args:
        timeout: seconds to wait for another process; without end if negative.

    Raises:
        filelock.Timeout: another process holds it.
        IndexerError: the folder cannot be written, or its file system has no locks.
    """
    import filelock  # Not at the top: --help needs no locks.

    with os_errors_for(path.parent):
        problem = _no_locks(path)
    if not problem:
        with filelock.FileLock(path, timeout=timeout):
            yield
    elif os.environ.get(NO_LOCKS):
        yield
    else:
        raise IndexerError(
            f"{path.parent}: its file system has no locks: {problem}",
            f"Use a folder on another file system; or, if no other command writes there meanwhile, set {NO_LOCKS}=1.",
        )


def _no_locks(path: Path) -> str:
    """What the system says if a file cannot be locked; empty if it can. An unlock disturbs no other process."""
    try:
        import fcntl
    except ImportError:  # Windows, where every file system has locks
        return ""
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_UN)
        except OSError as error:
            if error.errno not in _WITHOUT_LOCKS:
                raise
            return error.strerror or str(error)
    return ""


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


def can_lock(folder: Path) -> bool:
    """Whether to lock files in a folder: the file system has locks that end with their process.

    Returns:
        False when it has none and the user has set `NO_LOCKS`.

    Raises:
        IndexerError: it has none; or the folder cannot be written.
    """
    with os_errors_for(folder):
        if _has_locks(folder.absolute()):
            return True
    if os.environ.get(NO_LOCKS):
        return False
    raise IndexerError(
        f"{folder}: this file system has no file locks (flock)",
        "Use a folder on another file system; or, if no other idc-indexer command writes there meanwhile, set "
        f"{NO_LOCKS}=1.",
    )


@cache
def _has_locks(folder: Path) -> bool:
    if sys.platform == "win32":
        return True
    import fcntl

    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


@contextmanager
def scratch(prefix: str, parent: Path | None = None) -> Iterator[Path]:
    """A folder for temporary files, which is removed at the end. Removes those of processes that were killed.

    Args:
        prefix: of its name; all folders with this prefix are scratch folders.
        parent: the folder in which it lies; by default the system's folder for temporary files.

    Raises:
        IndexerError: it cannot be created.
    """
    if parent is None:
        try:
            parent = Path(tempfile.gettempdir())
        except FileNotFoundError as error:
            raise IndexerError(
                "there is no folder for temporary files that can be written", "Set TMPDIR to one."
            ) from error
    with os_errors_for(parent):
        locks = can_lock(parent)
        for folder in parent.glob(f"{prefix}*") if locks else ():
            _remove_abandoned(folder)
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    try:
        with ExitStack() as stack:
            if locks:
                stack.enter_context(filelock.FileLock(_scratch_lock(folder)))
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _scratch_lock(folder).unlink(missing_ok=True)


def _scratch_lock(folder: Path) -> Path:
    # Beside the folder: Windows removes no folder with an open file in it.
    return folder.with_name(f".{folder.name.removeprefix('.')}.lock")


def _remove_abandoned(folder: Path) -> None:
    """Remove a scratch folder whose process has died."""
    try:
        if folder.is_symlink() or not folder.is_dir() or time.time() - folder.stat().st_mtime < _ABANDONED_AFTER:
            return
        with filelock.FileLock(_scratch_lock(folder), timeout=0):
            shutil.rmtree(folder)
        _scratch_lock(folder).unlink(missing_ok=True)
    except (OSError, filelock.Timeout):
        pass  # in use, or of another user
