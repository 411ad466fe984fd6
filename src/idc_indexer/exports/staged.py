"""The cache folder of one table of an export: its pruned shards, what was listed, and partial downloads."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from idc_indexer import documents, files
from idc_indexer.cache import LISTING, Cache, CacheFolder
from idc_indexer.exports.location import ObjectMeta
from idc_indexer.schema.source_tables import SourceTable

FORMAT = 2
"""Raise it when the same object is staged in another way."""


@dataclass(frozen=True)
class StagedTable(CacheFolder):
    """The folder of one table."""

    @classmethod
    def of(cls, cache: Cache, uri: str, table: SourceTable) -> StagedTable:
        """The folder of a table of the source with that address."""
        return cls(cache.table(uri, table).path)

    def shard(self, source: ObjectMeta) -> Path:
        """Where the pruned shard of an object is."""
        key = hashlib.sha256(f"{FORMAT} {source.bytes} {source.etag}".encode()).hexdigest()
        return self.path / f"{source.name.removesuffix('.parquet')}-{key[:16]}.parquet"

    def partial_download(self, source: ObjectMeta) -> Path:
        """Where the bytes that were fetched of an object are until it is staged."""
        return self.path / f".{self.shard(source).stem}.fetched"

    @property
    def partial_downloads(self) -> list[Path]:
        """All partial downloads."""
        return sorted(self.path.glob(".*.fetched"))

    def listing(self) -> dict[str, Any] | None:
        """What the source held; None when it never was listed."""
        path = self.path / LISTING
        return documents.load(path, "listing") if path.is_file() else None

    def keep_listing(self, document: dict[str, Any]) -> None:
        """Remember what the source holds, unless another process writes here: that one remembers it itself."""
        try:
            with self.written(timeout=0):
                files.write_atomic(self.path / LISTING, documents.dump(document, "listing"))
        except filelock.Timeout:
            pass
