"""What the indices need of an export: leaf columns, and where their chunks lie in its shards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from idc_indexer.catalog import Catalog
from idc_indexer.exports.pruning.footer import chunk_ranges, coalesced, leaf_paths
from idc_indexer.release.build import plan_build

RELEASE = 25
WIDE = f"idc_v{RELEASE}/dicom_all"
BUCKET = "exports"


def needed_columns() -> dict[str, set[str]]:
    """The leaf columns that the indices read, in lower case, by folder of a table."""
    plan = plan_build(Catalog(), (), RELEASE, f"{RELEASE}.0.0", Path("never written"), force=False)
    needed: dict[str, set[str]] = {}
    for index in plan.indices:
        for leaf in index.statement.leaves:
            needed.setdefault(f"{leaf.table.dataset}/{leaf.table.name}", set()).add(leaf.path.lower())
    return needed


@dataclass(frozen=True)
class Shard:
    """What has to be read of a shard: bytes of its footer, where that ends, and the needed column chunks."""

    footer: int
    end: int
    chunks: list[tuple[int, int]]

    @property
    def bytes(self) -> int:
        return self.footer + sum(end - start for start, end in self.chunks)


def total(shards: Mapping[str, Shard]) -> int:
    """Bytes."""
    return sum(shard.bytes for shard in shards.values())


def look(path: Path, leaves: set[str]) -> Shard:
    metadata = pq.read_metadata(path)
    wanted = [number for number, leaf in enumerate(leaf_paths(pq.read_schema(path))) if leaf in leaves]
    assert len(wanted) == len(leaves), f"{path} lacks columns"
    chunks = [each for group in range(metadata.num_row_groups) for each in chunk_ranges(metadata, group, wanted)]
    return Shard(metadata.serialized_size + 8, path.stat().st_size, chunks)


def look_at_all(export: Path, needed: Mapping[str, set[str]]) -> dict[str, Shard]:
    """By key."""
    paths = [(path, leaves) for folder, leaves in needed.items() for path in sorted((export / folder).iterdir())]
    return {path.relative_to(export).as_posix(): look(path, leaves) for path, leaves in paths}


def to_fetch(shard: Shard) -> list[tuple[int, int]]:
    """The ranges that have to be fetched, by first and last byte: its footer, and chunks that lie side by side."""
    ranges = [(shard.end - shard.footer, shard.end), *coalesced(shard.chunks, spare=0)]
    return [(start, end - 1) for start, end in ranges]
