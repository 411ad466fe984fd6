"""Where releases are published: objects with names, each of which is replaced whole or not at all.

A store keeps no locks for its users. Every write says which generation of the object it means to replace, and fails
with `ConflictError` when another one is there: what is done to objects by several at once is decided object by object.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from idc_indexer.errors import IndexerError, UsageError

ABSENT = 0
"""The generation of an object that is not there."""


class ConflictError(IndexerError):
    """An object is not as it was when it was listed: someone else has written or removed it."""


@dataclass(frozen=True)
class Headers:
    """What a reader is told beside the bytes. `metadata` is custom: names and values."""

    content_type: str
    cache_control: str
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class StoredObject:
    """An object as it was when it was listed or written.

    Attributes:
        checksum: of its bytes, as the store's `checksum` writes it.
        generation: never the same for two contents that had this name, and never `ABSENT`.
        headers: None in a store that keeps none.
        composite: put together from parts, and so without an MD5.
    """

    name: str
    bytes: int
    checksum: str
    generation: int
    headers: Headers | None = None
    composite: bool = False


class Store(Protocol):
    """Objects under a URI; names are relative to it. Every method raises IndexerError when the store cannot be used."""

    uri: str

    def checksum(self, data: Path | bytes) -> str:
        """The checksum that the store has for these bytes."""

    def list(self, prefix: str) -> dict[str, StoredObject]:
        """All objects whose names begin with `prefix`, by name."""

    def read(self, source: StoredObject) -> bytes:
        """The bytes of that generation of an object; ConflictError when it is no more."""

    def put(self, name: str, data: Path | bytes, headers: Headers, generation: int) -> StoredObject:
        """Write an object; ConflictError unless `generation` is there now."""

    def copy(self, source: StoredObject, name: str, headers: Headers, generation: int) -> StoredObject:
        """Copy within the store; ConflictError unless the source is unchanged and `generation` is at the target."""

    def delete(self, target: StoredObject) -> None:
        """Remove that generation of an object; ConflictError when it is no more."""


def open_store(uri: str) -> Store:
    """The store at `gs://bucket[/prefix]`, or in a folder.

    Raises:
        UsageError: another scheme, or no bucket.
        IndexerError: the client of Google Cloud Storage is not installed, or finds no credentials.
    """
    scheme, separator, place = uri.partition("://")
    if not separator:
        from idc_indexer.publish.stores.local import LocalStore

        return LocalStore(Path(uri))
    bucket, _, prefix = place.partition("/")
    if scheme != "gs" or not re.fullmatch(r"[a-z0-9][a-z0-9._-]+", bucket):
        raise UsageError(f"{uri!r} is no place to publish to", "Give gs://bucket, gs://bucket/prefix or a folder.")
    from idc_indexer.publish.stores.gcs import GcsStore

    return GcsStore(bucket, prefix)
