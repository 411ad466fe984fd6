"""The cache folder of one table of an export: its pruned shards, and the last listing of the table."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from idc_indexer import documents, files, locks
from idc_indexer.cache import LISTING, Cache, CacheFolder
from idc_indexer.errors import IndexerError
from idc_indexer.exports.location import ObjectMeta
from idc_indexer.schema.source_tables import SourceTable

FORMAT = 2
"""Part of the name of a pruned shard. Raise it when the toolkit stages the same object in another way."""


@dataclass(frozen=True)
class StagedTable(CacheFolder):
    """The folder of one table."""

    @classmethod
    def of(cls, cache: Cache, uri: str, table: SourceTable) -> StagedTable:
        """The folder of a table of the source with that address."""
        return cls(cache.table(uri, table).path)

    def shard(self, source: ObjectMeta) -> Path:
        """Path of the pruned shard of an object."""
        key = hashlib.sha256(f"{FORMAT} {source.bytes} {source.etag}".encode()).hexdigest()
        return self.path / f"{source.name.removesuffix('.parquet')}-{key[:16]}.parquet"

    def listing(self) -> dict[str, Any] | None:
        """The last listing of the table; None if there was none."""
        path = self.path / LISTING
        return documents.load(path, "listing") if path.is_file() else None

    def save_listing(self, document: dict[str, Any]) -> None:
        """Save the listing for builds with --offline, if that is possible.

        Another process that writes here saves it itself; a cache that cannot be written is an error of staging only.
        """
        try:
            with self.written(timeout=0):
                files.write_atomic(self.path / LISTING, documents.dump_unchecked(document))
        except (locks.Timeout, IndexerError):
            pass
