"""Locks between processes, which the system drops when a process dies; and what to do on file systems without locks.

Lustre without `-o flock` (ENOSYS), NFS without lockd (ENOLCK) and some others have no locks. A folder is probed once.
If it has no locks, a warning names the folder, and the process continues without: files are written atomically, so
that only two processes at the same time could disturb each other.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import cache
from pathlib import Path

import filelock

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_LOG = logging.getLogger("idc_indexer")
_NONE = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL}
_PAUSE = 0.05
"""Seconds between two attempts."""

Timeout = filelock.Timeout
"""Another process had the lock for all of the time."""


@contextmanager
def exclusive(path: Path, timeout: float = -1, hint: str = "") -> Iterator[None]:
    """Hold a lock alone.

    Args:
        path: the lock file, whose folder exists.
        timeout: seconds to wait; without end if negative.
        hint: how to choose another folder, for the warning that there are no locks.

    Raises:
        Timeout: another process holds it.
        OSError: the file cannot be written.
    """
    with filelock.FileLock(path, timeout=timeout) if supported(path.parent, hint) else nullcontext():
        yield


@contextmanager
def shared(path: Path, timeout: float = -1, hint: str = "") -> Iterator[None]:
    """Hold a lock that others may hold too, but no `sole` holder; as `exclusive` otherwise."""
    with _readers(path, timeout, hint, alone=False):
        yield


@contextmanager
def sole(path: Path, timeout: float = -1, hint: str = "") -> Iterator[None]:
    """Hold a lock that nobody holds `shared`; as `exclusive` otherwise."""
    with _readers(path, timeout, hint, alone=True):
        yield


def supported(folder: Path, hint: str = "") -> bool:
    """Whether files of a folder can be locked. The first time that they cannot, a warning says so."""
    return _supported(folder.absolute(), hint)


@cache
def _supported(folder: Path, hint: str) -> bool:
    if fcntl is None:
        return True
    try:
        # A folder can be locked like a file, and nothing has to be written for it.
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return True  # whoever locks will meet the reason
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _NONE:
            return True
        _LOG.warning(
            f"warning: {folder} is on a file system without locks ({error.strerror}): "
            f"run one command at a time there. {hint}"
        )
        return False
    finally:
        os.close(descriptor)
    return True


@contextmanager
def _readers(path: Path, timeout: float, hint: str, alone: bool) -> Iterator[None]:
    if not supported(path.parent, hint):
        yield
    elif fcntl is None:
        lock = filelock.ReadWriteLock(path, is_singleton=False)
        with lock.write_lock(timeout) if alone else lock.read_lock(timeout):
            yield
    else:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _flock(descriptor, path, timeout, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
            yield
        finally:
            with suppress(OSError):
                os.close(descriptor)


def _flock(descriptor: int, path: Path, timeout: float, kind: int) -> None:
    end = time.monotonic() + timeout
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if timeout >= 0 and end <= time.monotonic():
                raise Timeout(str(path)) from None
            time.sleep(_PAUSE)
        else:
            return
