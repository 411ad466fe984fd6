"""What a source holds: listed once, checked for being one whole batch, remembered for builds without a network.

The layout is `<root>/idc_vNN/<table>/000000000000.parquet, 000000000001.parquet, ...`, as BigQuery's EXPORT DATA leaves
it. It deletes nothing: an export that was written over an older one keeps that one's surplus shards, and a reader that
takes every file mixes two releases.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timedelta, timezone

from idc_indexer.errors import IndexerError, UsageError
from idc_indexer.exports.cache import Cache, Folder
from idc_indexer.exports.places import Object, Place
from idc_indexer.sources import Table

BATCH_WINDOW = timedelta(hours=6)
"""The longest that one export can take: BigQuery ends a query job after 6 hours.
https://cloud.google.com/bigquery/quotas#query_jobs"""
STAGE_FIRST = "Run `idc-indexer stage` with the same options while there is a network."
_SHARD = re.compile(r"[0-9]{12}\.parquet")
_PLACE = re.compile(r"(idc_v([1-9][0-9]*)(_clinical)?)/([A-Za-z0-9_]+)/[0-9]{12}\.parquet")
_DATASET = re.compile(r"idc_v([1-9][0-9]*)")


class Listing:
    """The releases, tables and shards of a source."""

    def __init__(
        self, place: Place, cache: Cache, left_out: frozenset[str], batch_window: timedelta, offline: bool
    ) -> None:
        """Args:
        left_out: shards not to be read, such as `idc_v25/dicom_all/000000005000.parquet`.
        batch_window: how far apart the modification times of one table's shards may be.
        offline: whether what was listed before has to do.
        """
        self.place = place
        self.cache = cache
        self.offline = offline
        self.left_out = left_out
        self._batch_window = batch_window
        self._listed: dict[Table, list[Object]] = {}
        self._checked: dict[Table, tuple[Object, ...]] = {}

    def releases(self) -> list[int]:
        """The IDC releases that have a folder, ascending."""
        if self.offline:
            folders = [name.partition(".")[0] for name in self.cache.tables(self.place.identity)]
        else:
            folders = self.place.folders()
        return sorted({int(match[1]) for folder in folders if (match := _DATASET.fullmatch(folder))})

    def require(self, release: int) -> None:
        """See whether a release is there, and the shards to leave out.

        Raises:
            IndexerError: it is not.
            UsageError: a shard to leave out is not.
        """
        releases = self.releases()
        if release not in releases:
            have = ", ".join(map(str, releases)) or "no folder named idc_vNN"
            hint = STAGE_FIRST if self.offline else f"It has {have}."
            raise IndexerError(f"{self.place.uri}: IDC release {release} is not there", hint)
        for name in sorted(self.left_out):
            match = _PLACE.fullmatch(name)
            table = match and Table(int(match[2]), match[3] is not None, match[4])
            if not table or name not in {entry.key for entry in self._objects(table)}:
                raise UsageError(
                    f"--leave-out {name}: {self.place.uri} has no such file",
                    "Write it as idc_vNN/<table>/<shard>.parquet.",
                )

    def shards(self, table: Table) -> tuple[Object, ...]:
        """The files of a table, by number: listed once, checked for being one whole batch.

        Raises:
            IndexerError: no such table, a gap in the numbers, shards of another time.
        """
        if table not in self._checked:
            self._checked[table] = self._batch(table)
        return self._checked[table]

    def list_ahead(self, tables: Iterable[Table]) -> None:
        """List tables side by side; what goes wrong is said when one is asked for."""

        def ahead(table: Table) -> None:
            with suppress(IndexerError):
                self._objects(table)

        self.place.weather.each(ahead, tables)

    def _objects(self, table: Table) -> list[Object]:
        if table not in self._listed:
            if not self.offline:
                self._listed[table] = self.place.list(folder_of(table))
                if self.place.folder is None and self._listed[table]:
                    self.keep(table)
            elif (listing := self.kept(table).listing()) is not None:
                modified = datetime.fromisoformat
                self._listed[table] = [
                    Object(**{**entry, "modified": modified(entry["modified"])}) for entry in listing["objects"]
                ]
            else:
                raise IndexerError(
                    f"{self.place.uri}: nothing is kept of table {table}",
                    STAGE_FIRST,
                )
        return self._listed[table]

    def kept(self, table: Table) -> Folder:
        """Where a table of this source is kept."""
        return self.cache.table(self.place.identity, table)

    def keep(self, table: Table) -> None:
        """Remember what was listed of a table."""
        objects = list(map(_listed, self._listed[table]))
        self.kept(table).keep_listing({"source": self.place.identity, "objects": objects})

    def _batch(self, table: Table) -> tuple[Object, ...]:
        folder = folder_of(table)
        entries = [entry for entry in self._objects(table) if entry.name.endswith(".parquet")]
        shards = sorted((entry for entry in entries if _SHARD.fullmatch(entry.name)), key=lambda shard: shard.name)
        odd = sorted(entry.name for entry in entries if not _SHARD.fullmatch(entry.name))
        if odd:
            raise IndexerError(
                f"{self.place.uri}: {folder} holds {some(odd)}, which is no shard of an export",
                "Shards are named 000000000000.parquet and so on; move other files away.",
            )
        if not shards:
            raise IndexerError(
                f"{self.place.uri}: table {table} is not there: no {folder}/000000000000.parquet",
                "Copy that folder of the public export to the source, whole.",
            )
        numbers = {_number(shard) for shard in shards}
        missing = sorted(set(range(max(numbers) + 1)) - numbers)
        if missing:
            raise IndexerError(
                f"{self.place.uri}: {folder} lacks {some(f'{number:012}.parquet' for number in missing)}",
                "The copy is incomplete: fetch the missing shards.",
            )
        kept = [shard for shard in shards if shard.key not in self.left_out]
        if not kept:
            raise IndexerError(f"{self.place.uri}: every shard of {folder} is left out")
        newest = max(shard.modified for shard in kept)
        stale = [shard.name for shard in kept if newest - shard.modified > self._batch_window]
        if stale:
            raise IndexerError(
                f"{self.place.uri}: {folder} mixes two exports: {some(stale)} "
                f"{'is' if len(stale) == 1 else 'are'} more than {self._batch_window} older than the newest shard "
                f"({newest.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC)",
                "BigQuery does not delete what a larger, earlier export left. Leave such shards out with "
                "--leave-out; if the files only were copied at different times, allow that with --batch-hours.",
            )
        return tuple(kept)

    def fingerprint(self, tables: Iterable[Table]) -> str:
        """A digest of names, sizes and times of the shards: it changes when the input may have."""
        listing = [
            (str(table), shard.name, shard.bytes, shard.modified.isoformat())
            for table in sorted(tables)
            for shard in self.shards(table)
        ]
        return hashlib.sha256(json.dumps(listing).encode()).hexdigest()


def folder_of(table: Table) -> str:
    """Where an export has a table."""
    return f"{table.dataset}/{table.name}"


def _number(shard: Object) -> int:
    return int(shard.name.removesuffix(".parquet"))


def _listed(entry: Object) -> dict[str, object]:
    return {**vars(entry), "modified": entry.modified.isoformat()}


def some(names: Iterable[str], most: int = 5) -> str:
    """Names, and how many more there are."""
    listed = list(names)
    rest = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + rest
