"""A Parquet export of IDC's tables: what is there, and whether it can be trusted.

The layout is `<root>/idc_vNN/<table>/000000000000.parquet, 000000000001.parquet, ...`, as BigQuery's
EXPORT DATA leaves it. Nothing is read before it has been checked: an export that was written over
an older one keeps that one's surplus shards, and a reader that takes every file mixes two releases.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from idc_indexer import documents
from idc_indexer.arrow import mismatch
from idc_indexer.errors import IndexerError, UsageError
from idc_indexer.fields import Field
from idc_indexer.files import naming
from idc_indexer.sources import Table
from idc_indexer.sql import Leaf

SAMPLE = "sample"
BATCH_WINDOW = timedelta(hours=6)
"""The longest that one export can take: BigQuery ends a query job after 6 hours.
https://cloud.google.com/bigquery/quotas#query_jobs"""

_SHARD = re.compile(r"([0-9]{12})\.parquet")
_PLACE = re.compile(r"idc_v[1-9][0-9]*(_clinical)?/[A-Za-z0-9_]+/[0-9]{12}\.parquet")
_DATASET = re.compile(r"idc_v([1-9][0-9]*)")


@dataclass(frozen=True)
class Shard:
    """One file of a table."""

    path: str
    number: int
    bytes: int
    modified: datetime


@dataclass(frozen=True)
class TableFacts:
    """What was checked of a table, for the manifest. Counts of rows, files and bytes."""

    rows: int
    shards: int
    bytes: int
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class Export:
    """An export, local or (through the file system of pyarrow) remote.

    Attributes:
        root: the folder that holds `idc_vNN`, without a scheme.
        uri: how messages name it.
        left_out: shards not to be read, such as `idc_v25/dicom_all/000000005000.parquet`.
        batch_window: how far apart the modification times of one table's shards may be.
    """

    filesystem: fs.FileSystem
    root: str
    uri: str
    left_out: frozenset[str] = frozenset()
    batch_window: timedelta = BATCH_WINDOW
    _listed: dict[Table, tuple[Shard, ...]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def kind(self) -> str:
        """What the manifest says of the source: not where a folder is, which is nobody's business."""
        return self.uri if self.uri == SAMPLE else "folder"

    def releases(self) -> list[int]:
        """The IDC releases that have a folder, ascending."""
        with naming(Path(self.root)):
            folders = self.filesystem.get_file_info(fs.FileSelector(self.root))
        found = (_DATASET.fullmatch(info.base_name) for info in folders)
        return sorted(int(match[1]) for match in found if match)

    def shards(self, table: Table) -> tuple[Shard, ...]:
        """The files of a table, by number: listed once, checked for being one whole batch.

        Raises:
            IndexerError: no such table, a gap in the numbers, shards of another time.
        """
        if table not in self._listed:
            self._listed[table] = self._list(table)
        return self._listed[table]

    def _list(self, table: Table) -> tuple[Shard, ...]:
        folder = f"{table.dataset}/{table.name}"
        path = f"{self.root}/{folder}"
        with naming(Path(path)):
            entries = self.filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True))
        shards, odd = [], []
        for info in entries:
            match = _SHARD.fullmatch(info.base_name)
            if match and info.is_file and info.mtime:
                shards.append(Shard(info.path, int(match[1]), info.size, info.mtime))
            elif info.is_file and info.extension == "parquet":
                odd.append(info.base_name)
        if odd:
            raise IndexerError(
                f"{self.uri}: {folder} holds {_some(sorted(odd))}, which is no shard of an export",
                "Shards are named 000000000000.parquet and so on; move other files away.",
            )
        if not shards:
            raise IndexerError(
                f"{self.uri}: table {table} is not there: no {folder}/000000000000.parquet",
                "Copy that folder of the public export to the source, whole.",
            )
        shards.sort(key=lambda shard: shard.number)
        missing = sorted(set(range(shards[-1].number + 1)) - {shard.number for shard in shards})
        if missing:
            raise IndexerError(
                f"{self.uri}: {folder} lacks {_some(f'{number:012}.parquet' for number in missing)}",
                "The copy is incomplete: fetch the missing shards.",
            )
        kept = [shard for shard in shards if f"{folder}/{_name(shard)}" not in self.left_out]
        if not kept:
            raise IndexerError(f"{self.uri}: every shard of {folder} is left out")
        newest = max(shard.modified for shard in kept)
        stale = [shard for shard in kept if newest - shard.modified > self.batch_window]
        if stale:
            raise IndexerError(
                f"{self.uri}: {folder} mixes two exports: {_some(map(_name, stale))} "
                f"{'is' if len(stale) == 1 else 'are'} more than {self.batch_window} older than the newest shard "
                f"({newest.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC)",
                "BigQuery does not delete what a larger, earlier export left. Leave such shards out with "
                "--leave-out; if the files only were copied at different times, allow that with --batch-hours.",
            )
        return tuple(kept)

    def fingerprint(self, tables: Iterable[Table]) -> str:
        """A digest of names, sizes and times of the shards: it changes when the input may have."""
        listing = [
            (str(table), _name(shard), shard.bytes, shard.modified.isoformat())
            for table in sorted(tables)
            for shard in self.shards(table)
        ]
        return hashlib.sha256(json.dumps(listing).encode()).hexdigest()

    def check(self, leaves: Iterable[Leaf]) -> dict[Table, TableFacts]:
        """Check that all that will be read is there and as expected, before anything is read.

        Raises:
            IndexerError: with a line for each table that is missing or empty, shard that is broken or
                of another schema, and column that is missing or of another type.
        """
        wanted: dict[Table, list[Leaf]] = {}
        for leaf in leaves:
            wanted.setdefault(leaf.table, []).append(leaf)
        facts: dict[Table, TableFacts] = {}
        problems: list[str] = []
        hints: dict[str, None] = {}
        for table in sorted(wanted):
            try:
                schema, facts[table] = self._footers(table)
            except IndexerError as error:
                problems.append(error.message)
                hints[error.hint] = None
                continue
            problems += [f"{self.uri}: {problem}" for problem in _columns(schema, table, wanted[table])]
        if problems:
            raise IndexerError("\n".join(problems), "\n".join(hint for hint in hints if hint))
        return facts

    def _footers(self, table: Table) -> tuple[pa.Schema, TableFacts]:
        shards = self.shards(table)
        with ThreadPoolExecutor() as pool:
            footers = list(pool.map(self._footer, shards))
        pairs = zip(shards, footers, strict=True)
        odd = [shard for shard, footer in pairs if not footer.schema.equals(footers[0].schema)]
        if odd:
            raise IndexerError(
                f"{self.uri}: {table}: {_some(map(_name, odd))} of another schema than {_name(shards[0])}",
                "Shards of one export share one schema; leave the others out with --leave-out.",
            )
        rows = sum(footer.num_rows for footer in footers)
        if not rows:
            raise IndexerError(f"{self.uri}: table {table} is empty")
        folder = f"{table.dataset}/{table.name}/"
        left_out = tuple(sorted(name for name in self.left_out if name.startswith(folder)))
        facts = TableFacts(rows, len(shards), sum(shard.bytes for shard in shards), left_out)
        return footers[0].schema.to_arrow_schema(), facts

    def _footer(self, shard: Shard) -> pq.FileMetaData:
        try:
            with self.filesystem.open_input_file(shard.path) as file:
                return pq.read_metadata(file)
        except (OSError, pa.ArrowException) as error:
            raise IndexerError(f"{shard.path}: not a whole Parquet file: {error}", "Fetch that shard again.") from error

    def stage(self, table: Table) -> list[str]:
        """Local paths that hold the rows of a table."""
        return [shard.path for shard in self.shards(table)]

    def broken(self, tables: Iterable[Table]) -> str:
        """The first shard that cannot be read to its end, "" when all can; for use after a failure."""
        for shard in (shard for table in tables for shard in self.shards(table)):
            try:
                with self.filesystem.open_input_file(shard.path) as file:
                    for _ in pq.ParquetFile(file).iter_batches():
                        pass
            except (OSError, pa.ArrowException):
                return shard.path
        return ""


def open_export(
    source: str, left_out: Sequence[str] = (), batch_window: timedelta = BATCH_WINDOW, release: int | None = None
) -> Export:
    """The export that `--source` names.

    Args:
        source: `sample`, or a folder.
        release: an IDC release that must be there.

    Raises:
        UsageError: when it is neither, or a shard to leave out is not there.
        IndexerError: when the release is not there.
    """
    if "://" in source:
        # The seam: everything below goes through pyarrow.fs, but `stage` must yet copy what is remote.
        raise UsageError(
            f"{source}: exports are read from folders only, so far",
            "Mirror the tables that `idc-indexer explain` names into a folder, keeping their paths, and give that.",
        )
    root = documents.bundled(SAMPLE) if source == SAMPLE else Path(source)
    if not root.is_dir():
        raise UsageError(
            f"{source}: no such folder", f"Give a folder that holds idc_vNN/<table>/*.parquet, or {SAMPLE!r}."
        )
    for name in left_out:
        if not _PLACE.fullmatch(name) or not (root / name).is_file():
            raise UsageError(
                f"--leave-out {name}: {source} has no such file", "Write it as idc_vNN/<table>/<shard>.parquet."
            )
    # Files of the sample have the time at which the toolkit was installed.
    window = timedelta.max if source == SAMPLE else batch_window
    export = Export(fs.LocalFileSystem(), root.as_posix(), source, frozenset(left_out), window)
    releases = export.releases()
    if release is not None and release not in releases:
        have = ", ".join(map(str, releases)) or "no folder named idc_vNN"
        raise IndexerError(f"{source}: IDC release {release} is not there", f"It has {have}.")
    return export


def _name(shard: Shard) -> str:
    return f"{shard.number:012}.parquet"


def _some(names: Iterable[str], most: int = 5) -> str:
    listed = list(names)
    rest = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + rest


@cache
def _whole(leaf_fields: tuple[Field, ...]) -> Field:
    """The top-level column of a leaf, holding only the way down to it."""
    head, *rest = leaf_fields
    nested = (_whole(tuple(rest)),) if rest else ()
    return Field(head.name, head.type, head.mode, fields=nested)


def _columns(schema: pa.Schema, table: Table, leaves: list[Leaf]) -> list[str]:
    present = {column.name.lower(): column.type for column in schema}
    problems: dict[str, None] = {}
    for leaf in leaves:
        name = leaf.fields[0].name
        if name.lower() not in present:
            problems[f"{table} has no column {name}"] = None
        elif problem := mismatch(present[name.lower()], _whole(leaf.fields)):
            problems[f"{table}: column {name} {problem}"] = None
    return list(problems)
