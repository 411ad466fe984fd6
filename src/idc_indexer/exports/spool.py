"""What was fetched of a shard that is not staged yet, kept until it is: a killed process loses the requests under way.

A spool is a file of records: where a part begins, how long it is, a checksum, the bytes. What a crash leaves half
written is ignored, and fetched again.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

from idc_indexer.exports.places import Object, Place
from idc_indexer.files import naming

_HEAD = struct.Struct("<QQI")


class Spool:
    """The parts of one object that were fetched."""

    def __init__(self, path: Path, place: Place, source: Object) -> None:
        """Args:
        path: the file, which need not be there.
        """
        self._path = path
        self._place = place
        self._source = source
        self._parts: list[tuple[int, memoryview]] = []
        with naming(path):
            data = memoryview(path.read_bytes()) if path.is_file() else memoryview(b"")
            whole = 0
            while whole + _HEAD.size <= len(data):
                start, length, checksum = _HEAD.unpack(data[whole : whole + _HEAD.size])
                part = data[whole + _HEAD.size : whole + _HEAD.size + length]
                if len(part) < length or zlib.crc32(part) != checksum:
                    break
                self._parts.append((start, part))
                whole += _HEAD.size + length
            if whole < len(data):
                os.truncate(path, whole)  # what follows would not be found again

    @property
    def tail(self) -> int:
        """How many bytes of the end of the object are there."""
        size = self._source.bytes
        return max((len(part) for start, part in self._parts if start + len(part) == size), default=0)

    def read(self, start: int, end: int) -> memoryview:
        """The bytes from `start` up to, and without, `end`; fetched when they are not there.

        Raises:
            IndexerError: they cannot be fetched or kept.
        """
        for begin, part in self._parts:
            if begin <= start and end <= begin + len(part):
                return part[start - begin : end - begin]
        part = self._place.read(self._source, start, end)
        with naming(self._path), self._path.open("ab") as file:
            file.write(b"".join((_HEAD.pack(start, len(part), zlib.crc32(part)), part)))
        self._parts.append((start, part))
        return part
