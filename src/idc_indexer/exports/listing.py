"""The releases, tables and shards of a source: listed once, checked, and saved for builds without a network.

The layout is `<root>/idc_vNN/<table>/000000000000.parquet, 000000000001.parquet, ...`, as BigQuery's EXPORT DATA writes
it. EXPORT DATA deletes nothing: an export that replaces a larger one leaves the surplus shards of the older one there,
and a reader that takes every file mixes two releases.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path

from idc_indexer import files
from idc_indexer.cache import Cache
from idc_indexer.errors import IndexerError, UsageError
from idc_indexer.exports.location import Location, ObjectMeta
from idc_indexer.exports.retry import Stopped
from idc_indexer.exports.staged import StagedTable
from idc_indexer.schema.source_tables import SourceTable

BATCH_WINDOW = timedelta(hours=6)
"""The longest that one export can take: BigQuery ends a query job after 6 hours.
https://cloud.google.com/bigquery/quotas#query_jobs"""
STAGE_FIRST = "Run `idc-indexer stage` with the same options while there is a network."
DIGESTS = "SHA256SUMS"
"""A file with digests that a copy of the export may bring, in any of its folders."""
_DIGEST_LINE = re.compile(r"([0-9A-Fa-f]{64}) [ *](.+)")
_SHARD = re.compile(r"[0-9]{12}\.parquet")
_PLACE = re.compile(r"(idc_v([1-9][0-9]{0,5})(_clinical)?)/([A-Za-z0-9_]+)/[0-9]{12}\.parquet")
_DATASET = re.compile(r"idc_v([1-9][0-9]{0,5})")


class Listing:
    """The releases, tables and shards of a source."""

    def __init__(
        self, location: Location, cache: Cache, left_out: frozenset[str], batch_window: timedelta, offline: bool
    ) -> None:
        """Args:
        left_out: shards that are not read, such as `idc_v25/dicom_all/000000005000.parquet`.
        batch_window: how far apart the modification times of one table's shards may be.
        offline: whether to use the saved listings and make no request.
        """
        self.location = location
        self.cache = cache
        self.offline = offline
        self.left_out = left_out
        self._batch_window = batch_window
        self._listed: dict[SourceTable, list[ObjectMeta]] = {}
        self._checked: dict[SourceTable, tuple[ObjectMeta, ...]] = {}

    def releases(self) -> list[int]:
        """The IDC releases that have a folder, ascending."""
        if self.offline:
            folders = [name.partition(".")[0] for name in self.cache.tables(self.location.identity)]
        else:
            folders = self.location.folders()
        return sorted({int(match[1]) for folder in folders if (match := _DATASET.fullmatch(folder))})

    def require(self, release: int) -> None:
        """Check that a release is there, and the shards to leave out.

        Raises:
            IndexerError: it is not.
            UsageError: a shard to leave out is not.
        """
        releases = self.releases()
        if release not in releases:
            have = ", ".join(map(str, releases)) or "no folder named idc_vNN"
            hint = STAGE_FIRST if self.offline else f"It has {have}."
            raise IndexerError(f"{self.location.uri}: IDC release {release} is not there", hint)
        for name in sorted(self.left_out):
            match = _PLACE.fullmatch(name)
            table = match and SourceTable(int(match[2]), match[3] is not None, match[4])
            if not table or name not in {entry.key for entry in self._objects(table)}:
                raise UsageError(
                    f"--exclude-shard {name}: {self.location.uri} has no such file",
                    "Write it as idc_vNN/<table>/<shard>.parquet.",
                )

    def shards(self, table: SourceTable) -> tuple[ObjectMeta, ...]:
        """The files of a table, by number: listed once, and checked to be one complete export.

        Raises:
            IndexerError: no such table, a gap in the numbers, shards that are much older than others.
        """
        if table not in self._checked:
            shards = self._batch(table)
            self._check_digests(table, shards)
            self._checked[table] = shards
        return self._checked[table]

    @contextmanager
    def listed_ahead(self, tables: Iterable[SourceTable]) -> Iterator[None]:
        """List tables while the block runs; `shards` raises the errors."""

        def ahead(table: SourceTable) -> None:
            with suppress(IndexerError, Stopped):
                self._objects(table)

        with ThreadPoolExecutor(1) as pool:
            pool.submit(self.location.retrier.each, ahead, tables)
            try:
                yield
            except BaseException:
                self.location.retrier.stop()
                raise

    def _objects(self, table: SourceTable) -> list[ObjectMeta]:
        if table not in self._listed:
            if not self.offline:
                self._listed[table] = self.location.list(folder_of(table))
                if self.location.folder is None and self._listed[table]:
                    self.save_listing(table)
            elif (listing := self.cached(table).listing()) is not None:
                modified = datetime.fromisoformat
                self._listed[table] = [
                    ObjectMeta(**{**entry, "modified": modified(entry["modified"])}) for entry in listing["objects"]
                ]
            else:
                raise IndexerError(f"{self.location.uri}: nothing of table {table} is staged", STAGE_FIRST)
        return self._listed[table]

    def cached(self, table: SourceTable) -> StagedTable:
        """The cache folder of a table of this source."""
        return StagedTable.of(self.cache, self.location.identity, table)

    def save_listing(self, table: SourceTable) -> None:
        """Save the listing of a table, for builds with --offline."""
        objects = list(map(_listed, self._listed[table]))
        self.cached(table).save_listing({"source": self.location.identity, "objects": objects})

    def _batch(self, table: SourceTable) -> tuple[ObjectMeta, ...]:
        folder = folder_of(table)
        entries = [entry for entry in self._objects(table) if entry.name.endswith(".parquet")]
        shards = sorted((entry for entry in entries if _SHARD.fullmatch(entry.name)), key=lambda shard: shard.name)
        odd = sorted(entry.name for entry in entries if not _SHARD.fullmatch(entry.name))
        if odd:
            raise IndexerError(
                f"{self.location.uri}: {folder} holds {some(odd)}, which is no shard of an export",
                "Shards are named 000000000000.parquet and so on; move other files away.",
            )
        if not shards:
            raise IndexerError(
                f"{self.location.uri}: table {table} is not there: no {folder}/000000000000.parquet",
                "Copy that folder of the public export to the source, whole.",
            )
        numbers = {_number(shard) for shard in shards}
        missing = sorted(set(range(max(numbers) + 1)) - numbers)
        if missing:
            raise IndexerError(
                f"{self.location.uri}: {folder} lacks {some(f'{number:012}.parquet' for number in missing)}",
                "The copy is incomplete: fetch the missing shards.",
            )
        kept = [shard for shard in shards if shard.key not in self.left_out]
        if not kept:
            raise IndexerError(f"{self.location.uri}: every shard of {folder} is left out")
        newest = max(shard.modified for shard in kept)
        stale = [shard.name for shard in kept if newest - shard.modified > self._batch_window]
        if stale:
            raise IndexerError(
                f"{self.location.uri}: {folder} mixes two exports: {some(stale)} "
                f"{'is' if len(stale) == 1 else 'are'} more than {self._batch_window} older than the newest shard "
                f"({newest.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC)",
                "BigQuery does not delete what a larger, earlier export left. Leave such shards out with "
                "--exclude-shard; if only the copies are of different times, allow that with --max-shard-age-gap.",
            )
        return tuple(kept)

    def _check_digests(self, table: SourceTable, shards: Sequence[ObjectMeta]) -> None:
        """Compare the shards of a folder with the digests that it brings, in `SHA256SUMS` of the table or above it.

        Raises:
            IndexerError: a shard has another digest, or a line of the file is malformed.
        """
        root = self.location.folder
        if root is None:
            return
        expected: dict[Path, str] = {}
        for folder in (root, root / table.dataset, root / folder_of(table)):
            expected |= _digests(folder)
        known = [path for shard in shards if (path := (root / shard.key).resolve()) in expected]
        digests = self.location.retrier.each(files.sha256, known)
        odd = [path.name for path, found in zip(known, digests, strict=True) if found != expected[path]]
        if odd:
            raise IndexerError(
                f"{self.location.uri}: {table}: {some(odd)} differ from {DIGESTS}", "Fetch those shards again."
            )

    def fingerprint(self, tables: Iterable[SourceTable]) -> str:
        """A digest of names, sizes and times of the shards: it changes when the input may have."""
        listing = [
            (str(table), shard.name, shard.bytes, shard.modified.isoformat())
            for table in sorted(tables)
            for shard in self.shards(table)
        ]
        return hashlib.sha256(json.dumps(listing).encode()).hexdigest()


def _digests(folder: Path) -> dict[Path, str]:
    """The digests of a file as `sha256sum` writes it, by absolute path; none if there is no such file."""
    path = folder / DIGESTS
    if not path.is_file():
        return {}
    with files.os_errors_for(path):
        lines = path.read_bytes().decode(errors="replace").splitlines()
    found = {}
    for number, line in enumerate(lines, start=1):
        match = _DIGEST_LINE.fullmatch(line)
        if line and not match:
            raise IndexerError(f"{path}: line {number} is not a SHA-256 and a file name", "Write it with `sha256sum`.")
        if match:
            found[(folder / match[2]).resolve()] = match[1].lower()
    return found


def folder_of(table: SourceTable) -> str:
    """Where an export has a table."""
    return f"{table.dataset}/{table.name}"


def _number(shard: ObjectMeta) -> int:
    return int(shard.name.removesuffix(".parquet"))


def _listed(entry: ObjectMeta) -> dict[str, object]:
    return {**vars(entry), "modified": entry.modified.isoformat()}


def some(names: Iterable[str], most: int = 5) -> str:
    """Names, and how many more there are."""
    listed = list(names)
    rest = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + rest
