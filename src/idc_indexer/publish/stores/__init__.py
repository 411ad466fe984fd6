"""The stores that releases are published to. A store has named objects, and replaces each of them atomically.

A store has no locks across requests. Every write names the generation of the object that it replaces, and fails with
`ConflictError` if the object has another one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from idc_indexer.errors import IndexerError, UsageError
from idc_indexer.progress import ProgressListener

HUB = "hf://"
"""How the address of a mirror on the Hugging Face Hub begins, which is not a store: see `mirror`."""
ABSENT = 0
"""The generation of an object that does not exist."""


class ConflictError(IndexerError):
    """An object does not have the expected generation: another program, or a lost request, wrote or removed it."""


@dataclass(frozen=True)
class Headers:
    """What a store sends with the bytes. `metadata` is custom: names and values."""

    content_type: str
    cache_control: str
    metadata: Mapping[str, str]

    def problem(self, found: Headers | None) -> str:
        """The first of these headers that an object does not have; empty if it has all, or the store keeps none.

        Metadata that only the object has is no problem.
        """
        if found is None:
            return ""
        expected, actual = (
            {"Content-Type": of.content_type, "Cache-Control": of.cache_control}
            | {f"metadata {key}": value for key, value in of.metadata.items()}
            for of in (self, found)
        )
        wrong = (key for key, value in expected.items() if value != actual.get(key))
        return next((f"has {key} {actual.get(key)!r}, not {expected[key]!r}" for key in wrong), "")


@dataclass(frozen=True)
class StoredObject:
    """An object as it was when it was listed or written.

    Attributes:
        checksum: of its bytes, in the form of the store's `checksum`.
        generation: differs between all contents that this name ever had, and is never `ABSENT`.
        headers: None in a store that keeps none.
        composite: composed of parts, so it has no MD5.
    """

    name: str
    bytes: int
    checksum: str
    generation: int
    headers: Headers | None = None
    composite: bool = False


class Store(Protocol):
    """Objects under a URI; names are relative to it. Every method raises IndexerError if the store fails."""

    uri: str

    def checksum(self, data: Path | bytes) -> str:
        """The checksum that the store gives these bytes."""

    def list(self, prefix: str) -> dict[str, StoredObject]:
        """All objects whose names begin with `prefix`, by name."""

    def read(self, source: StoredObject) -> bytes:
        """The bytes of that generation of an object; ConflictError if it has another one."""

    def put(self, name: str, data: Path | bytes, headers: Headers, generation: int) -> StoredObject:
        """Write an object; ConflictError unless it has this generation now."""

    def copy(self, source: StoredObject, name: str, headers: Headers, generation: int) -> StoredObject:
        """Copy within the store; ConflictError unless the source is unchanged and the target has this generation."""

    def delete(self, target: StoredObject) -> None:
        """Remove that generation of an object; ConflictError if it has another one."""


def open_store(uri: str, listener: ProgressListener | None = None, *, new: bool = False) -> Store:
    """The store at `gs://bucket[/prefix]`, or in a folder.

    Args:
        listener: hears of requests that are sent again.
        new: whether the folder may be missing.

    Raises:
        UsageError: nothing, another scheme, or no bucket.
        IndexerError: the client of Google Cloud Storage is not installed, or finds no credentials.
    """
    scheme, separator, path = uri.partition("://")
    if uri and not separator:
        from idc_indexer.publish.stores.local import LocalStore

        if not new and not Path(uri).exists():
            raise UsageError(
                f"{uri}: no such folder", "Give the folder, or the gs://bucket, that releases are published to."
            )
        return LocalStore(Path(uri))
    bucket, _, prefix = path.partition("/")
    if scheme != "gs" or not re.fullmatch(r"[a-z0-9][a-z0-9._-]+", bucket):
        raise UsageError(f"{uri!r} is not a store to publish to", "Give gs://bucket, gs://bucket/prefix or a folder.")
    from idc_indexer.publish.stores.gcs import GcsStore

    return GcsStore(bucket, prefix, listener=listener)
