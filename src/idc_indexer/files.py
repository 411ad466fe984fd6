"""Files appear whole or not at all, and are known by their SHA-256."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from idc_indexer.errors import IndexerError

MAX_NAME = 255
"""Bytes of a file name, on every file system in use."""
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9_-])?", re.ASCII)
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)
"""Names that Windows takes for devices, in any folder."""


@contextmanager
def os_errors_for(path: Path) -> Iterator[None]:
    """Turn what the system says about a file into a message that names it.

    pyarrow and DuckDB raise OSError without a file name, so the caller says which one it is.
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

    The name is always the same, so that what a killed process left is overwritten; the caller holds a lock.

    Raises:
        IndexerError: when it cannot be written; nothing is left behind.
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
    """A file to write, which replaces `path` at the end; as `atomic_path` otherwise."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        yield file


def write_atomic(path: Path, data: bytes) -> None:
    """Write a small file, atomically."""
    with atomic_file(path) as file:
        file.write(data)


def sha256(path: Path) -> str:
    """The digest of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with os_errors_for(path), path.open("rb") as file:
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
