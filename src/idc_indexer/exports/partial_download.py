"""What was fetched of a shard that is not staged yet, kept until it is: a killed process loses the requests under way.

A partial download is a file of records: where a part begins, how long it is, a checksum, the bytes. What a crash leaves
half written is ignored, and fetched again.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

from idc_indexer.exports.location import Location, ObjectMeta
from idc_indexer.files import os_errors_for

_HEAD = struct.Struct("<QQI")


class PartialDownload:
    """The parts of one object that were fetched. One thread at a time uses it, in a `with` block."""

    def __init__(self, path: Path, location: Location, source: ObjectMeta) -> None:
        """Args:
        path: the file, which need not be there.

        Raises:
            IndexerError: it cannot be read or written.
        """
        self._path = path
        self._location = location
        self._source = source
        self._parts: list[tuple[int, int, int]] = []  # first byte of the object, length, where in the file
        with os_errors_for(path):
            self._file = path.open("ab+")
            self._index()

    def __enter__(self) -> PartialDownload:
        return self

    def __exit__(self, *_: object) -> None:
        with os_errors_for(self._path):
            self._file.close()

    def _index(self) -> None:
        self._file.seek(0)
        whole = 0
        while len(head := self._file.read(_HEAD.size)) == _HEAD.size:
            start, length, checksum = _HEAD.unpack(head)
            part = self._file.read(min(length, self._source.bytes))
            if len(part) < length or zlib.crc32(part) != checksum:
                break
            self._parts.append((start, length, whole + _HEAD.size))
            whole += _HEAD.size + length
        self._file.truncate(whole)  # what follows would not be found again

    @property
    def tail(self) -> int:
        """How many bytes of the end of the object are there."""
        size = self._source.bytes
        return max((length for start, length, _ in self._parts if start + length == size), default=0)

    def read(self, start: int, end: int) -> memoryview:
        """The bytes from `start` up to, and without, `end`; fetched when they are not there.

        Raises:
            IndexerError: they cannot be fetched or kept.
        """
        for first, length, location in self._parts:
            if first <= start and end <= first + length:
                with os_errors_for(self._path):
                    self._file.seek(location + start - first)
                    return memoryview(self._file.read(end - start))
        part = self._location.read(self._source, start, end)
        with os_errors_for(self._path):
            self._file.writelines((_HEAD.pack(start, len(part), zlib.crc32(part)), part))
            self._file.flush()  # to outlive this process
            self._parts.append((start, len(part), self._file.tell() - len(part)))
        return part
