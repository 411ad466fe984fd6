"""A Parquet export of IDC's tables: what is there, whether it can be trusted, and its way to this machine.

The layout is `<root>/idc_vNN/<table>/000000000000.parquet, 000000000001.parquet, ...`, as BigQuery's
EXPORT DATA leaves it. Nothing is read before it has been checked: an export that was written over
an older one keeps that one's surplus shards, and a reader that takes every file mixes two releases.

Tables are read where they are when they lie on this machine and are narrow; all others are staged.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from functools import cache, partial
from pathlib import Path
from typing import Protocol

import platformdirs
import pyarrow as pa
import pyarrow.parquet as pq

from idc_indexer import documents
from idc_indexer.arrow import mismatch
from idc_indexer.errors import IndexerError, UsageError
from idc_indexer.exports.cache import Cache, Folder
from idc_indexer.exports.footers import leaf_paths, read_footer
from idc_indexer.exports.places import Object, Place, open_place
from idc_indexer.exports.staging import Gate, Need, TableStaging, other_schema, some, stage_all
from idc_indexer.exports.weather import ATTEMPTS, Weather
from idc_indexer.fields import Field
from idc_indexer.sources import Table
from idc_indexer.sql import Leaf

SAMPLE = "sample"
PUBLIC_EXPORT = "s3://idc-open-metadata/bigquery_export"
BATCH_WINDOW = timedelta(hours=6)
"""The longest that one export can take: BigQuery ends a query job after 6 hours.
https://cloud.google.com/bigquery/quotas#query_jobs"""
NARROW = 500
"""Leaf columns up to which a table in a folder is read where it is. All indices of one release, of 16 shards of 9,000
rows: with 2,008 leaf columns 7.5 s of processor time in place and 3.8 s staged, with 600 4.4 s and 3.3 s, with 300
4.3 s and 3.4 s; one index: 0.8 s and 1.1 s, 0.4 s and 0.7 s, 0.3 s and 0.6 s. What is staged of larger shards is a
copy of gigabytes, which a narrow table does not repay."""

_STAGE_FIRST = "Run `idc-indexer stage` with the same options while there is a network."
_SHARD = re.compile(r"[0-9]{12}\.parquet")
_PLACE = re.compile(r"(idc_v([1-9][0-9]*)(_clinical)?)/([A-Za-z0-9_]+)/[0-9]{12}\.parquet")
_DATASET = re.compile(r"idc_v([1-9][0-9]*)")


@dataclass(frozen=True)
class TableFacts:
    """What was checked of a table, for the manifest. Counts of rows, files and bytes."""

    rows: int
    shards: int
    bytes: int
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class Progress:
    """How far staging is.

    Attributes:
        what: the tables, in a few words.
        shards, all_shards: that are done, and altogether.
        bytes, all_bytes: over the network; those of all are estimated from the first shards.
        seconds: since it began.
    """

    what: str
    shards: int
    all_shards: int
    bytes: int
    all_bytes: int
    seconds: float


class Watch(Protocol):
    """Who wants to know how staging goes."""

    def say(self, line: str) -> None:
        """Something happened."""

    def staging(self, progress: Progress) -> None:
        """A shard is done."""


class Silent:
    """Nobody watches."""

    def say(self, line: str) -> None:
        pass

    def staging(self, progress: Progress) -> None:
        pass


class Export:
    """An export, in a folder or a bucket."""

    def __init__(
        self,
        place: Place,
        kept: Cache,
        left_out: frozenset[str] = frozenset(),
        batch_window: timedelta = BATCH_WINDOW,
        offline: bool = False,
    ) -> None:
        """Args:
        kept: where staged shards are.
        left_out: shards not to be read, such as `idc_v25/dicom_all/000000005000.parquet`.
        batch_window: how far apart the modification times of one table's shards may be.
        offline: whether to ask the network for nothing: what is kept has to do.
        """
        self.cache = kept
        self._place = place
        self._left_out = left_out
        self._batch_window = batch_window
        self._offline = offline and place.folder is None
        self._listed: dict[Table, list[Object]] = {}
        self._checked: dict[Table, tuple[Object, ...]] = {}
        self._tables: dict[Table, TableStaging] = {}
        self._facts: dict[Table, TableFacts] = {}
        self._gate = Gate()

    @property
    def uri(self) -> str:
        """How messages name it."""
        return self._place.uri

    def describe(self) -> dict[str, str]:
        """What the manifest says of the source: a public address, but not where a folder is, nor a private bucket."""
        if self._place.folder:
            return {"kind": SAMPLE if self.uri == SAMPLE else "folder"}
        return {"kind": self._place.scheme, **({"uri": self.uri} if self._place.anonymous else {})}

    def releases(self) -> list[int]:
        """The IDC releases that have a folder, ascending."""
        if self._offline:
            folders = [name.partition(".")[0] for name in self.cache.tables(self._place.identity)]
        else:
            folders = self._place.folders()
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
            hint = _STAGE_FIRST if self._offline else f"It has {have}."
            raise IndexerError(f"{self.uri}: IDC release {release} is not there", hint)
        for name in sorted(self._left_out):
            match = _PLACE.fullmatch(name)
            table = match and Table(int(match[2]), match[3] is not None, match[4])
            if not table or name not in {entry.key for entry in self._objects(table)}:
                raise UsageError(
                    f"--leave-out {name}: {self.uri} has no such file", "Write it as idc_vNN/<table>/<shard>.parquet."
                )

    def shards(self, table: Table) -> tuple[Object, ...]:
        """The files of a table, by number: listed once, checked for being one whole batch.

        Raises:
            IndexerError: no such table, a gap in the numbers, shards of another time.
        """
        if table not in self._checked:
            self._checked[table] = self._batch(table)
        return self._checked[table]

    def _objects(self, table: Table) -> list[Object]:
        if table not in self._listed:
            if not self._offline:
                self._listed[table] = self._place.list(_folder(table))
                if self._place.folder is None and self._listed[table]:
                    self._keep_listing(table)
            elif (listing := self._kept(table).listing()) is not None:
                modified = datetime.fromisoformat
                self._listed[table] = [
                    Object(**{**entry, "modified": modified(entry["modified"])}) for entry in listing["objects"]
                ]
            else:
                raise IndexerError(
                    f"{self.uri}: nothing is kept of table {table}",
                    _STAGE_FIRST,
                )
        return self._listed[table]

    def _kept(self, table: Table) -> Folder:
        return self.cache.table(self._place.identity, table)

    def _keep_listing(self, table: Table) -> None:
        objects = list(map(_listed, self._listed[table]))
        self._kept(table).keep_listing({"source": self._place.identity, "objects": objects})

    def _batch(self, table: Table) -> tuple[Object, ...]:
        folder = _folder(table)
        entries = [entry for entry in self._objects(table) if entry.name.endswith(".parquet")]
        shards = sorted((entry for entry in entries if _SHARD.fullmatch(entry.name)), key=lambda shard: shard.name)
        odd = sorted(entry.name for entry in entries if not _SHARD.fullmatch(entry.name))
        if odd:
            raise IndexerError(
                f"{self.uri}: {folder} holds {some(odd)}, which is no shard of an export",
                "Shards are named 000000000000.parquet and so on; move other files away.",
            )
        if not shards:
            raise IndexerError(
                f"{self.uri}: table {table} is not there: no {folder}/000000000000.parquet",
                "Copy that folder of the public export to the source, whole.",
            )
        numbers = {_number(shard) for shard in shards}
        missing = sorted(set(range(max(numbers) + 1)) - numbers)
        if missing:
            raise IndexerError(
                f"{self.uri}: {folder} lacks {some(f'{number:012}.parquet' for number in missing)}",
                "The copy is incomplete: fetch the missing shards.",
            )
        kept = [shard for shard in shards if shard.key not in self._left_out]
        if not kept:
            raise IndexerError(f"{self.uri}: every shard of {folder} is left out")
        newest = max(shard.modified for shard in kept)
        stale = [shard.name for shard in kept if newest - shard.modified > self._batch_window]
        if stale:
            raise IndexerError(
                f"{self.uri}: {folder} mixes two exports: {some(stale)} "
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

    def check(self, leaves: Iterable[Leaf]) -> None:
        """Check that all that will be read is there and as expected, as far as that can be known before staging.

        Of a table that is staged, one footer is read; of one that is read where it is, all.

        Raises:
            IndexerError: with a line for each table that is missing or empty, shard that is broken or
                of another schema, and column that is missing or of another type.
        """
        wanted = _by_table(leaves)
        problems: dict[str, None] = {}
        hints: dict[str, None] = {}
        with ThreadPoolExecutor() as pool:
            checks = [pool.submit(self._check, table, wanted[table]) for table in sorted(wanted)]
        for check in checks:
            try:
                problems |= dict.fromkeys(check.result())
            except IndexerError as error:
                problems[error.message] = None
                hints[error.hint] = None
        if problems:
            raise IndexerError("\n".join(problems), "\n".join(hint for hint in hints if hint))

    def _check(self, table: Table, leaves: list[Leaf]) -> list[str]:
        shards = self.shards(table)
        if self._place.folder:
            schema = self._footer(shards[0]).schema.to_arrow_schema()
            if len(leaf_paths(schema)) <= NARROW:
                self._facts[table] = self._check_all(table)
                return [f"{self.uri}: {problem}" for problem in _columns(schema, table, leaves)]
            self._keep_listing(table)
        paths = (leaf.path.lower() for leaf in leaves)
        folder = self._kept(table)
        staging = TableStaging(self._place, table, shards, folder, paths, self._gate)
        if self._offline and (lacking := staging.lacking()):
            raise IndexerError(
                f"{self.uri}: {len(lacking)} of {len(shards)} shards of {table} are not staged with all columns",
                _STAGE_FIRST,
            )
        problems = _columns(staging.schema(), table, leaves)
        self._tables[table] = staging
        return [f"{self.uri}: {problem}" for problem in problems]

    def _check_all(self, table: Table) -> TableFacts:
        """Check the footers of all shards of a table that is read where it is."""
        shards = self.shards(table)
        with ThreadPoolExecutor() as pool:
            footers = list(pool.map(self._footer, shards))
        pairs = zip(shards, footers, strict=True)
        odd = [shard.name for shard, footer in pairs if not footer.schema.equals(footers[0].schema)]
        if odd:
            raise other_schema(self._place, table, odd, shards[0])
        return self._fact(table, sum(footer.num_rows for footer in footers))

    def _footer(self, shard: Object) -> pq.FileMetaData:
        read = partial(self._place.read, shard)
        return read_footer(read, f"{self.uri}/{shard.key}", shard.bytes).metadata

    def _fact(self, table: Table, rows: int) -> TableFacts:
        if not rows:
            raise IndexerError(f"{self.uri}: table {table} is empty")
        shards = self.shards(table)
        left_out = tuple(sorted(name for name in self._left_out if name.startswith(f"{_folder(table)}/")))
        return TableFacts(rows, len(shards), sum(shard.bytes for shard in shards), left_out)

    def need(self, tables: Iterable[Table]) -> Need:
        """What staging these tables, which were checked, will take."""
        return sum((self._tables[table].need() for table in tables if table in self._tables), Need())

    def check_room(self, disk: int) -> str:
        """How much room there is, in words.

        Raises:
            IndexerError: less than `disk` bytes.
        """
        folder = next(path for path in (self.cache.root, *self.cache.root.absolute().parents) if path.exists())
        free = shutil.disk_usage(folder).free
        if disk > free:
            raise IndexerError(
                f"{self.cache.root}: {size(disk)} are needed there, and {size(free)} are free",
                "Make room, choose another folder with --cache-dir, or name fewer indices.",
            )
        return f"{size(free)} are free"

    @contextmanager
    def staged(self, leaves: Iterable[Leaf], watch: Watch) -> Iterator[None]:
        """Have these leaf columns, which were checked, on this machine; nobody removes them in this block.

        Raises:
            IndexerError: a shard cannot be had; those that were staged before it are kept.
        """
        wanted = _by_table(leaves)
        staged = [self._tables[table] for table in sorted(wanted) if table in self._tables]
        for staging in staged:
            _remove(staging.folder, staging.stale)
        with ExitStack() as uses:
            for staging in staged:
                uses.enter_context(staging.folder.used())
            if any(staging.lacking() for staging in staged):
                with ExitStack() as locks:
                    for staging in staged:
                        waiting = partial(watch.say, f"waiting for another process, which stages {staging.table}")
                        locks.enter_context(staging.folder.written(waiting))
                    self._stage(staged, watch)
            for staging in staged:
                staging.check_schemas()
                rows = sum(there.rows for shard in self.shards(staging.table) if (there := staging.kept(shard)))
                self._facts[staging.table] = self._fact(staging.table, rows)
            yield

    def _stage(self, staged: Sequence[TableStaging], watch: Watch) -> None:
        work = [(staging, shard) for staging in staged for shard in staging.lacking()]
        if not work:
            return  # another process did it meanwhile
        need = sum((staging.need() for staging in staged), Need())
        self.check_room(need.disk)
        datasets = " and ".join(sorted({staging.table.dataset for staging in staged}))
        weather, began = self._place.weather, time.monotonic()
        bytes_before, requests_before, retries_before = weather.bytes, weather.requests, weather.retries.copy()
        done = 0

        def report(*_: object) -> None:
            nonlocal done
            done += 1
            seconds = time.monotonic() - began
            fetched = weather.bytes - bytes_before
            watch.staging(Progress(datasets, done, len(work), fetched, max(need.fetch, fetched), seconds))

        stage_all(self._place, work, report)
        retries = weather.retries - retries_before
        again = ", ".join(f"{reason}: {count}" for reason, count in sorted(retries.items()))
        watch.say(
            f"staged {datasets}: {len(work):,} shards, {size(weather.bytes - bytes_before)} in "
            f"{weather.requests - requests_before:,} requests, {time.monotonic() - began:,.0f} s"
            + (f"; {retries.total()} were made again ({again})" if again else "")
        )

    def facts(self, table: Table) -> TableFacts:
        """What was checked of a table; of one that is staged, once it is."""
        return self._facts[table]

    def paths(self, table: Table) -> list[str]:
        """Local paths that hold the rows of a table, which is staged if need be."""
        if table in self._tables:
            folder = self._tables[table].folder
            return [str(folder.shard(shard)) for shard in self.shards(table)]
        assert self._place.folder
        return [(self._place.folder / shard.key).as_posix() for shard in self.shards(table)]

    def discard(self, leaves: Iterable[Leaf]) -> None:
        """Remove what is staged of these tables if it is no more than these leaf columns, and nobody uses it."""
        for table, of_table in _by_table(leaves).items():
            folder = self._kept(table)
            if folder.shards:
                shards = self.shards(table)
                paths = [leaf.path.lower() for leaf in of_table]
                staging = TableStaging(self._place, table, shards, folder, paths, self._gate)
                _remove(folder, staging.covered)

    def broken(self, tables: Iterable[Table]) -> tuple[str, str] | None:
        """The first shard that cannot be read to its end, and what to do about it; for use after a failure."""
        for table in tables:
            again = f"Remove what is staged, `idc-indexer cache remove {table}`, and run the same command again."
            for path in filter(os.path.exists, self.paths(table)):  # what was staged of past releases is gone
                try:
                    with pq.ParquetFile(path) as file:
                        for _ in file.iter_batches():
                            pass
                except (OSError, pa.ArrowException):
                    return path, again if table in self._tables else "Fetch that shard again."
        return None


def open_export(
    source: str,
    left_out: Sequence[str] = (),
    batch_window: timedelta = BATCH_WINDOW,
    cache_dir: Path | None = None,
    offline: bool = False,
) -> Export:
    """The export that `--source` names. Nothing is asked of the network yet.

    Args:
        source: `sample`, a folder, `s3://bucket/prefix` or `gs://bucket/prefix`.
        cache_dir: where what is staged is kept; the user's cache folder when None.

    Raises:
        UsageError: when it is none of these.
    """
    kept = Cache(cache_dir or platformdirs.user_cache_path("idc-indexer"))
    weather = Weather(ATTEMPTS if "://" in source else 1)
    place = open_place(str(documents.bundled(SAMPLE)) if source == SAMPLE else source, weather)
    if source == SAMPLE:
        # Its files have the time at which the toolkit was installed.
        place, batch_window = replace(place, uri=SAMPLE), timedelta.max
    return Export(place, kept, frozenset(left_out), batch_window, offline)


def size(count: int) -> str:
    """A number of bytes, as people read it."""
    gigabytes = count / 1e9
    return f"{gigabytes:,.1f} GB" if gigabytes >= 1 else f"{count / 1e6:,.1f} MB"


def _remove(folder: Folder, paths: Callable[[], list[Path]]) -> None:
    """Remove shards that are kept for nothing, unless somebody uses them."""
    if paths():
        with folder.removing() as free:
            if free:
                for path in paths():
                    path.unlink(missing_ok=True)


def _by_table(leaves: Iterable[Leaf]) -> dict[Table, list[Leaf]]:
    wanted: dict[Table, list[Leaf]] = {}
    for leaf in leaves:
        wanted.setdefault(leaf.table, []).append(leaf)
    return wanted


def _folder(table: Table) -> str:
    return f"{table.dataset}/{table.name}"


def _number(shard: Object) -> int:
    return int(shard.name.removesuffix(".parquet"))


def _listed(entry: Object) -> dict[str, object]:
    return {**vars(entry), "modified": entry.modified.isoformat()}


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
