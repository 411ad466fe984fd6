"""Extracts of prior releases: what `prior_versions_index` takes from each, computed once and cached for later builds.

Staged shards of prior releases are large, and their extracts small. The shards are staged, extracted and removed,
as many releases at a time as fit in the space that the largest single staging needs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from idc_indexer import files
from idc_indexer.cache import is_intact, write_digest
from idc_indexer.errors import IndexerError
from idc_indexer.exports import Export, StagedExport, StagingEstimate, StagingPlan, together
from idc_indexer.progress import ProgressListener
from idc_indexer.schema.source_tables import SourceTable
from idc_indexer.sql import Leaf


@dataclass(frozen=True)
class ReleaseExtract:
    """What indices with the same template take from one prior release: the query, and the leaf columns that it reads.

    Attributes:
        index: one of these indices, for messages.
    """

    index: str
    release: int
    sql: str
    leaves: list[Leaf]

    @property
    def tables(self) -> set[SourceTable]:
        """The tables that it reads."""
        return {leaf.table for leaf in self.leaves}


Extract = Callable[[ReleaseExtract, StagedExport, Path], None]
"""Writes the extract, from staged tables, to a Parquet file."""


class PriorExtracts:
    """The cache folder of extracts of one export."""

    def __init__(self, export: Export) -> None:
        self._export = export
        self._folder = export.cache.prior_extracts

    def path(self, extract: ReleaseExtract) -> Path:
        """The file of an extract. Its name stands for the SQL and for the shards that the SQL reads."""
        key = hashlib.sha256(f"{extract.sql}\n{self._export.fingerprint(extract.tables)}".encode()).hexdigest()
        return self._folder.path / f"v{extract.release}-{key[:32]}.parquet"

    def has(self, extract: ReleaseExtract) -> bool:
        """Whether the extract is in the cache, as it was written."""
        try:
            return self.path(extract).exists() and is_intact(self.path(extract))
        except IndexerError:
            return False  # the release is missing or incomplete: the plan of the export reports it

    @contextmanager
    def made(
        self,
        extracts: Sequence[ReleaseExtract],
        plans: dict[int, StagingPlan],
        most_disk: int,
        listener: ProgressListener,
        extract: Extract,
    ) -> Iterator[None]:
        """Make the extracts that are not cached; nobody removes any of them in this block.

        Args:
            plans: how to stage the prior releases whose extracts are not cached.
            most_disk: bytes that staging may take at a time.
        """
        if not extracts:
            yield
            return
        disk = {release: plan.estimate.disk for release, plan in plans.items()}
        with self._folder.used():
            for group in together(extracts, lambda one: disk.get(one.release, 0), most_disk):
                self._make(group, plans, listener, extract)
            yield

    def _make(
        self,
        group: Sequence[ReleaseExtract],
        plans: dict[int, StagingPlan],
        listener: ProgressListener,
        extract: Extract,
    ) -> None:
        waiting = f"waiting for another process, which makes the extract of release {group[0].release}"
        # If two builds share the cache, one makes the extracts and the other waits.
        with self._folder.written(lambda: listener.message(waiting)):
            missing = [one for one in group if not self.has(one)]
            if gone := [one for one in missing if one.release not in plans]:
                raise IndexerError(f"{self.path(gone[0])}: another process removed it", "Run the same command again.")
            if missing:
                plan = StagingPlan.joined([plans[one.release] for one in missing])
                with plan.stage(listener) as staged:
                    for one in missing:
                        with files.atomic_path(self.path(one)) as temporary:
                            extract(one, staged, temporary)
                            write_digest(self.path(one), files.sha256(temporary))
        self._export.discard(leaf for one in group for leaf in one.leaves)


def planned_disk(plans: Sequence[StagingPlan]) -> tuple[StagingEstimate, int]:
    """What all the plans will take, and the disk that the largest takes."""
    estimates = [plan.estimate for plan in plans]
    return sum(estimates, StagingEstimate()), max(estimate.disk for estimate in estimates)
