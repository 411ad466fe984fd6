"""Build: from a catalog and an engine to a release folder.

The release is made under `<dir>.incomplete` and renamed at the end. A build that was interrupted
keeps what it had done there; the next one takes it over if nothing it came from has changed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

import idc_indexer
from idc_indexer import documents, files
from idc_indexer.catalog import Catalog, DerivedTable, PinnedIndex
from idc_indexer.engines import Engine, EnginePlan, EngineRun, QueryEstimate
from idc_indexer.errors import IndexerError, UsageError
from idc_indexer.progress import NullListener, ProgressListener
from idc_indexer.release import derived
from idc_indexer.release.derived import CSV, GDC, IDC_INDEX
from idc_indexer.release.gdc import Gdc
from idc_indexer.release.manifest import (
    MANIFEST,
    FileEntry,
    IndexEntry,
    Release,
    check_version,
    parquet_name,
    release_lock,
    schema_name,
    sidecar,
    sidecar_name,
    sql_name,
    zip_name,
)
from idc_indexer.release.parquet import layout, write_parquet
from idc_indexer.schema.table import Schema

_STATE = "build_state.json"


@dataclass(frozen=True)
class Plan:
    """What will be built, decided before anything is read.

    Attributes:
        out: the release folder, as an absolute path.
        derived: tables to be made from idc_index, which is among the indices when there are any.
        csv: whether idc_index is to be written as a zipped CSV too.
        force: whether a release that is there may be replaced.
    """

    indices: tuple[PinnedIndex, ...]
    idc_version: int
    release_version: str
    out: Path
    derived: tuple[DerivedTable, ...] = ()
    csv: bool = False
    force: bool = False

    @property
    def incomplete(self) -> Path:
        """Where the release is made, until it is whole."""
        return incomplete(self.out)

    @property
    def replaced(self) -> Path:
        """Where a release that is replaced waits, while the new one is moved into place."""
        return _replaced(self.out)


def incomplete(out: Path) -> Path:
    """Where a release is made that is to lie at `out`."""
    return out.absolute().with_name(f"{out.name}.incomplete")


def check_request(
    catalog: Catalog, names: Iterable[str], idc_version: int, release_version: str, out: Path, force: bool = False
) -> None:
    """Refuse what makes no sense whatever the source holds. It takes no time, and asks nobody.

    Raises:
        UsageError: an unknown index, a malformed version, a target that may not be replaced.
    """
    if idc_version < 1:
        raise UsageError(f"--idc-version {idc_version}: the first IDC release is 1")
    check_version(release_version, idc_version)
    catalog.select(set(names) - catalog.derived.keys())
    with files.os_errors_for(out):
        _check_target(out.absolute(), force)


def plan_build(
    catalog: Catalog,
    names: Iterable[str],
    idc_version: int,
    release_version: str,
    out: Path,
    force: bool = False,
    gdc: bool = False,
    csv: bool = False,
) -> Plan:
    """Decide what to build.

    Args:
        names: of indices and of tables made from idc_index, which bring it along; all of the catalog when there
            are none, but for gdc_idc_mapping.
        force: whether a release that is at `out` may be replaced.
        gdc: whether «all» includes gdc_idc_mapping, which needs the network.
        csv: whether to write idc_index as a zipped CSV too.

    Raises:
        UsageError: as `check_request` does.
        IndexerError: an index that the release cannot have.
    """
    check_request(catalog, names, idc_version, release_version, out, force)
    wanted = set(names)
    made = tuple(s for n, s in catalog.derived.items() if (n in wanted if wanted else gdc or n != GDC))
    if wanted and (made or csv):
        wanted = wanted - catalog.derived.keys() | {IDC_INDEX}
    indices = tuple(index.for_release(idc_version) for index in catalog.select(wanted))
    return Plan(indices, idc_version, release_version, out.absolute(), made, csv, force)


def build(plan: Plan, engine: Engine, listener: ProgressListener | None = None, gdc: Gdc | None = None) -> Release:
    """Build a release.

    Args:
        gdc: where gdc_idc_mapping gets its cases; the public one when not given.

    Returns:
        The release, in its place.

    Raises:
        UsageError: the target may not be replaced.
        IndexerError: whatever else stands in the way; the target is as it was before.
    """
    gdc, listener = gdc or Gdc(), listener or NullListener()
    with files.os_errors_for(plan.out), release_lock(plan.out):
        _check_target(plan.out, plan.force)
        listener.building("", "checking", 0)
        queries = engine.plan(plan.indices)
        if GDC in {supplement.name for supplement in plan.derived}:
            _ = gdc.projects  # an address that does not answer is found now, not after hours
        plan.incomplete.mkdir(exist_ok=True)
        state = _State(plan.incomplete)
        try:
            entries, source = _build_indices(plan, queries, state, listener)
            made = tuple(_make_derived(plan, gdc, state, entries, listener))
        except IndexerError:
            state.remove_unless_worth_resuming()
            raise
        about = {
            "toolkit": {"name": "idc-indexer", "version": idc_indexer.__version__},
            "writer": {"name": "pyarrow", "version": pa.__version__},
            **source,
        }
        release = Release(plan.incomplete, plan.idc_version, plan.release_version, about, entries, made)
        files.write_atomic(plan.incomplete / MANIFEST, release.manifest())
        state.remove_all_but({MANIFEST, *(file.name for file in release.files)})
        _move_into_place(plan)
    return Release.open(plan.out)


def dry_run(plan: Plan, engine: Engine) -> Mapping[str, QueryEstimate]:
    """Check all that a build would check before it starts; nothing is written.

    Returns:
        What BigQuery would bill, by index.

    Raises:
        UsageError, IndexerError: as `build` does.
    """
    with files.os_errors_for(plan.out):
        _check_target(plan.out, plan.force)
        return engine.plan(plan.indices).estimates


def _replaced(out: Path) -> Path:
    return out.with_name(f"{out.name}.replaced")


def _check_target(out: Path, force: bool) -> None:
    """Refuse to write where a release, or anything else, would be lost."""
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise UsageError(f"{out}: exists and is not a folder")
    if (replaced := _replaced(out)).exists() and not force:
        raise UsageError(f"{replaced}: a build was killed while it replaced {out}", "Finish it with --force.")
    if out.exists() and any(out.iterdir()):
        if not (out / MANIFEST).is_file():
            raise UsageError(f"{out}: exists and is not a release", "Choose another folder with --out.")
        if not force:
            raise UsageError(f"{out}: holds a release already", "Choose another folder, or replace it with --force.")


def _build_indices(
    plan: Plan, queries: EnginePlan, state: _State, listener: ProgressListener
) -> tuple[tuple[IndexEntry, ...], dict[str, Any]]:
    """The entries of the indices, and what the manifest says of engine and source."""
    keys = {index.name: _key(plan, queries, index) for index in plan.indices}
    entries = []
    with queries.running([one for one in plan.indices if state.kept(one.name, keys[one.name]) is None]) as run:
        for index in plan.indices:
            make = partial(_build_index, plan, run, index, listener)
            entries.append(_once(state, index.name, keys[index.name], make, listener))
        return tuple(entries), run.describe()


def _build_index(plan: Plan, run: EngineRun, index: PinnedIndex, listener: ProgressListener) -> IndexEntry:
    with run.rows(index) as batches:
        return _write_table(plan, index.name, index.schema, batches, listener, index.statement.text)


def _make_derived(
    plan: Plan, gdc: Gdc, state: _State, entries: Iterable[IndexEntry], listener: ProgressListener
) -> Iterator[IndexEntry]:
    """Write what is made from idc_index.

    gdc_idc_mapping is never kept from an interrupted build: to know whether the GDC still says the same, it has to
    be asked everything again, and writing down the answer is the least of it.
    """
    index = plan.incomplete / parquet_name(IDC_INDEX)
    digests = [entry.files[0].sha256 for entry in entries if entry.name == IDC_INDEX]
    for supplement in plan.derived:
        batches = derived.rows(supplement, index, gdc)
        make = partial(_write_table, plan, supplement.name, supplement.schema, batches, listener)
        if supplement.name == GDC:
            state.forget(GDC)
        key = _digest(plan.release_version, digests, *_promised(supplement.schema))
        yield _once(state, supplement.name, key, make, listener)
    if plan.csv:
        yield _once(state, CSV, _digest(digests, zlib.ZLIB_RUNTIME_VERSION), partial(_write_csv, plan), listener)


def _write_csv(plan: Plan) -> IndexEntry:
    name = zip_name(CSV)
    written = derived.write_csv(plan.incomplete / parquet_name(IDC_INDEX), plan.incomplete / name)
    return IndexEntry(CSV, written.rows, files=(FileEntry(name, written.bytes, written.sha256, written.rows),))


def _write_table(
    plan: Plan,
    name: str,
    schema: Schema,
    batches: Iterable[pa.RecordBatch],
    listener: ProgressListener,
    query: str | None = None,
) -> IndexEntry:
    """Write the files of one table: the Parquet, its sidecar, the schema, and the query if there is one."""

    def counted(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        rows = 0
        for batch in batches:
            yield batch
            rows += batch.num_rows
            listener.building(name, "building", rows)

    parquet = parquet_name(name)
    written = write_parquet(
        counted(batches), schema, plan.incomplete / parquet, version=plan.release_version, where=name
    )
    if not written.rows:
        raise IndexerError(f"{name}: there are no rows", "An empty index is never published.")
    contents = {
        sidecar_name(parquet): sidecar(written.sha256, parquet),
        schema_name(name): documents.dump(schema.to_document(), "artifact"),
    }
    if query is not None:
        contents[sql_name(name)] = query.encode()
    entries = [FileEntry(parquet, written.bytes, written.sha256, written.rows)]
    for file, content in contents.items():
        files.write_atomic(plan.incomplete / file, content)
        entries.append(FileEntry(file, len(content), hashlib.sha256(content).hexdigest()))
    digests = {entry.name: entry.sha256 for entry in entries}
    query_sha256, schema_sha256 = digests.get(sql_name(name)), digests[schema_name(name)]
    return IndexEntry(name, written.rows, query_sha256, schema_sha256, tuple(entries))


def _once(state: _State, name: str, key: str, make: Callable[[], IndexEntry], listener: ProgressListener) -> IndexEntry:
    """What an interrupted build left, or else what `make` makes."""
    entry = state.kept(name, key)
    if entry is not None:
        listener.building(name, "reused", entry.rows)
        return entry
    listener.building(name, "building", 0)
    entry = make()
    state.add(key, entry)
    listener.building(name, "done", entry.rows)
    return entry


def _key(plan: Plan, queries: EnginePlan, index: PinnedIndex) -> str:
    """A digest of everything that the files of an index come from."""
    return _digest(plan.release_version, index.statement.text, *_promised(index.schema), queries.fingerprint(index))


def _promised(schema: Schema) -> tuple[Any, Any]:
    """All of a schema that the files of a table depend on: what is published of it, and how the Parquet is laid out."""
    return schema.to_document(), layout(schema.columns)


def _digest(*inputs: Any) -> str:
    """A digest of inputs, and of the programs that turn them into files."""
    return hashlib.sha256(json.dumps([*inputs, idc_indexer.__version__, pa.__version__]).encode()).hexdigest()


class _State:
    """What an unfinished build has done and is whole on disk, kept in its folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / _STATE
        try:
            done: dict[str, Any] = documents.load(self._path, "build_state")
        except IndexerError:
            # None yet, or of another version of the toolkit: start clean.
            done = {}
        self._done = {name: one for name, one in done.items() if self._is_whole(IndexEntry.from_document(one["entry"]))}

    def _is_whole(self, entry: IndexEntry) -> bool:
        paths = {self._folder / file.name: file.sha256 for file in entry.files}
        return all(path.is_file() and files.sha256(path) == sha256 for path, sha256 in paths.items())

    def kept(self, name: str, key: str) -> IndexEntry | None:
        """The entry of an index that is done and unchanged."""
        done = self._done.get(name)
        return IndexEntry.from_document(done["entry"]) if done and done["key"] == key else None

    def forget(self, name: str) -> None:
        """Have it made again."""
        self._done.pop(name, None)

    def add(self, key: str, entry: IndexEntry) -> None:
        """Remember an index as done."""
        self._done[entry.name] = {"key": key, "entry": entry.to_document()}
        files.write_atomic(self._path, documents.dump(self._done, "build_state"))

    def remove_unless_worth_resuming(self) -> None:
        """Leave no folder behind when nothing in it is done."""
        if not self._done:
            shutil.rmtree(self._folder, ignore_errors=True)

    def remove_all_but(self, names: set[str]) -> None:
        """Leave in the folder only what belongs to the release."""
        for path in self._folder.iterdir():
            if path.name not in names:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _move_into_place(plan: Plan) -> None:
    """Put the finished release where it belongs; an older one stays whole until it is replaced."""
    if plan.out.exists():
        shutil.rmtree(plan.replaced, ignore_errors=True)
        plan.out.rename(plan.replaced)
    plan.incomplete.rename(plan.out)
    shutil.rmtree(plan.replaced, ignore_errors=True)
