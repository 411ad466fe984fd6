"""Build: from a catalog and an engine to a release folder.

The release is built under `<dir>.incomplete` and renamed at the end. A folder that cannot be renamed, such as a mount
point or the working directory, is filled in place: the release is built in `<dir>/.incomplete`, and its files move up
at the end, the manifest last. An interrupted build leaves its finished indices in the incomplete folder; the next
build reuses them if their inputs have not changed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

import idc_indexer
from idc_indexer import documents, files
from idc_indexer.catalog import Catalog, DerivedTable, PinnedIndex
from idc_indexer.engines import Engine, EnginePlan, EngineRun
from idc_indexer.engines.history import History
from idc_indexer.errors import IndexerError, UsageError
from idc_indexer.progress import BuildStep, NullListener, ProgressListener, span
from idc_indexer.release import derived
from idc_indexer.release.build_state import BuildState
from idc_indexer.release.derived import CSV, GDC, IDC_INDEX
from idc_indexer.release.descriptions import write_descriptions
from idc_indexer.release.gdc import Gdc
from idc_indexer.release.history import SERIES_HISTORY, fetch
from idc_indexer.release.manifest import (
    LOCK,
    MANIFEST,
    PUBLISHED,
    FileEntry,
    IndexEntry,
    Release,
    check_version,
    file_entry,
    in_place,
    parquet_name,
    release_lock,
    schema_name,
    sidecar,
    sidecar_name,
    sql_name,
    zip_name,
)
from idc_indexer.release.parquet import WRITER, layout, write_parquet
from idc_indexer.schema.table import Schema

_INCOMPLETE = ".incomplete"


@dataclass(frozen=True)
class Plan:
    """What a build will do, decided before it reads anything.

    Attributes:
        out: the release folder, as an absolute path.
        derived: the derived tables to make; idc_index is among the indices when there are any.
        csv: whether to write idc_index as a zipped CSV too.
        force: whether to replace a release that lies at `out`.
        overrides: indices for which the user's folders have a query or a schema in place of the built-in one.
        history: has the rows of prior releases; None to read all of them.
        record: where finished builds of this target leave what their tables depended on, so that the next one can tell
            that nothing has changed; None for no such file.
        published_at: where the release will be published, which its descriptions say.
    """

    indices: tuple[PinnedIndex, ...]
    idc_version: int
    release_version: str
    out: Path
    derived: tuple[DerivedTable, ...] = ()
    csv: bool = False
    force: bool = False
    overrides: frozenset[str] = frozenset()
    history: History | None = None
    record: Path | None = None
    published_at: str = PUBLISHED

    @property
    def incomplete(self) -> Path:
        """The folder in which the release is built."""
        return incomplete(self.out)

    @property
    def replaced(self) -> Path:
        """The folder to which an old release moves while the new one takes its place."""
        return _replaced(self.out)

    @property
    def names(self) -> tuple[str, ...]:
        """The tables in the order in which they are built, with the CSV."""
        csv = (CSV,) if self.csv else ()
        return (*(index.name for index in self.indices), *(table.name for table in self.derived), *csv)


@dataclass(frozen=True)
class _Steps:
    """Tells a listener how far a build is, with the number of each table."""

    listener: ProgressListener
    names: tuple[str, ...]

    def tell(self, name: str, step: BuildStep, rows: int) -> None:
        self.listener.building(name, step, rows, self.names.index(name) + 1, len(self.names))


def incomplete(out: Path) -> Path:
    """The folder in which a release for `out` is built."""
    out = files.absolute(out)
    return out / _INCOMPLETE if _in_place(out) else out.with_name(f"{out.name}{_INCOMPLETE}")


def _in_place(out: Path) -> bool:
    """Whether to fill `out` instead of replacing it: see the module's text. A build of that kind may have begun."""
    return in_place(out) or (out / _INCOMPLETE).is_dir() or (out.is_dir() and Path.cwd().is_relative_to(out.resolve()))


def check_request(
    catalog: Catalog,
    names: Iterable[str],
    idc_version: int,
    release_version: str,
    out: Path,
    force: bool = False,
    record: Path | None = None,
) -> None:
    """Refuse a request that no source could satisfy, before any source is opened.

    Raises:
        UsageError: an unknown index, a malformed version, a target that may not be replaced.
    """
    if idc_version < 1:
        raise UsageError(f"--idc-version {idc_version}: the first IDC release is 1")
    check_version(release_version, idc_version)
    catalog.select(set(names) - catalog.derived.keys())
    with files.os_errors_for(out):
        _check_target(files.absolute(out), force, record)


def plan_build(
    catalog: Catalog,
    names: Iterable[str],
    idc_version: int,
    release_version: str,
    out: Path,
    force: bool = False,
    gdc: bool = False,
    csv: bool = False,
    history: bool = False,
    record: Path | None = None,
    published_at: str = PUBLISHED,
) -> Plan:
    """Decide what to build.

    Args:
        names: of indices and derived tables; a derived table adds idc_index. Without names, all of the catalog
            except gdc_idc_mapping and the indices on request.
        force: whether to replace a release that lies at `out`.
        gdc: whether "all" includes gdc_idc_mapping, which needs the network.
        csv: whether to write idc_index as a zipped CSV too.
        history: whether "all" includes series_history, from which later releases are built.
        record: as in `Plan`.
        published_at: where the release will be published: a URL, `gs://bucket[/prefix]`, or a folder.

    Raises:
        UsageError: as `check_request` does.
        IndexerError: an index that the release cannot have.
    """
    check_request(catalog, names, idc_version, release_version, out, force, record)
    wanted = set(names)
    made = tuple(s for n, s in catalog.derived.items() if (n in wanted if wanted else gdc or n != GDC))
    if wanted and (made or csv):
        wanted = wanted - catalog.derived.keys() | {IDC_INDEX}
    chosen = catalog.select(wanted, {SERIES_HISTORY} if history else ())
    indices = tuple(index.for_release(idc_version) for index in chosen)
    overrides = frozenset(index.name for index in indices) & catalog.replaced
    out = files.absolute(out)
    return Plan(
        *(indices, idc_version, release_version, out, made, csv, force, overrides),
        record=record,
        published_at=published_at,
    )


def build(plan: Plan, engine: Engine, listener: ProgressListener | None = None, gdc: Gdc | None = None) -> Release:
    """Build a release.

    Args:
        gdc: the API from which gdc_idc_mapping gets its cases; the public one when not given.

    Returns:
        The release at `plan.out`.

    Raises:
        UsageError: the target may not be replaced.
        IndexerError: any other reason; the target is as it was before.
    """
    gdc, listener = gdc or Gdc(), listener or NullListener()
    with files.os_errors_for(plan.out), release_lock(plan.out):
        _check_target(plan.out, plan.force, plan.record)
        for name in sorted(plan.overrides):
            listener.message(f"{name}: a file in --queries or --schemas replaces the built-in one")
        began = time.monotonic()
        listener.building("", "checking", 0, 0, 0)
        queries = engine.plan(plan.indices, plan.history)
        if not plan.force and (plan.out / MANIFEST).is_file():
            return _up_to_date(plan, queries, listener)
        if GDC in {table.name for table in plan.derived}:
            _ = gdc.projects  # a GDC that does not answer stops the build now, not after hours
        plan.incomplete.mkdir(exist_ok=True)
        state = BuildState(plan.incomplete)
        steps = _Steps(listener, plan.names)
        try:
            if plan.history:
                fetch(plan.history)
            entries, source = _build_indices(plan, queries, state, steps)
            made = tuple(_make_derived(plan, gdc, state, entries, steps))
        except IndexerError:
            state.remove_unless_worth_resuming()
            raise
        about = {
            "toolkit": {"name": "idc-indexer", "version": idc_indexer.__version__},
            "writer": WRITER,
            **source,
        }
        release = Release(plan.incomplete, plan.idc_version, plan.release_version, about, entries, made)
        release = write_descriptions(release, plan.published_at)
        files.write_atomic(plan.incomplete / MANIFEST, release.manifest())
        state.save(plan.record)
        state.remove_all_but({MANIFEST, *(file.name for file in release.files)})
        _move_into_place(plan)
        tables = f"{len(plan.names)} table{'s' * (len(plan.names) > 1)}"
        listener.message(f"built {tables} in {span(time.monotonic() - began)}")
    return Release.open(plan.out)


def dry_run(plan: Plan, engine: Engine) -> EnginePlan:
    """Make all the checks that a build makes before it starts, and write nothing.

    Raises:
        UsageError, IndexerError: as `build` does.
    """
    with files.os_errors_for(plan.out):
        _check_target(plan.out, plan.force, plan.record)
        return engine.plan(plan.indices, plan.history)


def _check_recorded(out: Path, record: Path | None) -> None:
    """Raise UsageError if it cannot be told whether the release at the target is what a build would make."""
    if not (record and record.is_file()):
        raise _occupied(out)


def _up_to_date(plan: Plan, queries: EnginePlan, listener: ProgressListener) -> Release:
    """The release that is at the target already, if this build would make the same.

    Raises:
        UsageError: it would not, or that cannot be told.
    """
    release = Release.open(plan.out)
    state = BuildState(plan.out, plan.record)
    digests = [entry.files[0].sha256 for entry in release.indices if entry.name == IDC_INDEX]
    keys = {index.name: _key(plan, queries, index) for index in plan.indices}
    keys |= {table.name: _derived_key(plan, table, digests) for table in plan.derived}
    keys |= {CSV: _csv_key(digests)} if plan.csv else {}
    written = {entry.name: replace(entry, overrides_built_in=None) for entry in release.entries}
    about = (release.release_version, release.published_at, [*written])
    same = about == (plan.release_version, plan.published_at, [*plan.names])
    # Only requests can tell whether the GDC still gives the same answers.
    if GDC in keys or not same or any(state.reusable(name, key) != written[name] for name, key in keys.items()):
        raise _occupied(plan.out)
    listener.message(f"{plan.out} is up to date: the inputs are those that it was built from")
    return release


def _occupied(out: Path) -> UsageError:
    return UsageError(f"{out}: holds a release already", "Choose another folder, or replace it with --force.")


def _replaced(out: Path) -> Path:
    return out.parent / f"{out.name}.replaced"


def _check_target(out: Path, force: bool, record: Path | None) -> None:
    """Refuse to write where a release, or other files, would be lost, or where the end of the build would fail."""
    if out.is_symlink() and not out.exists():
        raise UsageError(f"{out}: exists and is not a folder: it is a link to nowhere")
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: exists and is not a folder")
    if (replaced := _replaced(out)).exists() and not force:
        raise UsageError(f"{replaced}: a build was killed while it replaced {out}", "Finish it with --force.")
    if not out.exists():
        return
    content = {path.name for path in out.iterdir()}
    if MANIFEST in content:
        if not force:
            _check_recorded(out, record)
        elif _in_place(out):
            raise UsageError(
                f"{out}: holds a release and cannot be replaced in one step: it is a mount point, a link, the working "
                "directory, or in a folder that cannot be written",
                "Empty it, or choose another folder with --out.",
            )
    elif content - {LOCK} and _INCOMPLETE not in content:
        raise UsageError(f"{out}: exists and is not a release", "Choose another folder with --out.")
    if _in_place(out) and not files.writable(out):
        raise UsageError(f"{out}: cannot be written", "Choose another folder with --out.")


def _build_indices(
    plan: Plan, queries: EnginePlan, state: BuildState, steps: _Steps
) -> tuple[tuple[IndexEntry, ...], dict[str, Any]]:
    """The entries of the indices, and what the manifest says of engine and source."""
    keys = {index.name: _key(plan, queries, index) for index in plan.indices}
    entries = []
    with queries.running([one for one in plan.indices if state.reusable(one.name, keys[one.name]) is None]) as run:
        for index in plan.indices:
            make = partial(_build_index, plan, run, index, steps)
            entry = _once(state, index.name, keys[index.name], make, steps)
            entries.append(replace(entry, overrides_built_in=True if index.name in plan.overrides else None))
        return tuple(entries), run.describe()


def _build_index(plan: Plan, run: EngineRun, index: PinnedIndex, steps: _Steps) -> IndexEntry:
    with run.rows(index) as batches:
        return _write_table(plan, index.name, index.schema, batches, steps, index.statement.text)


def _make_derived(
    plan: Plan, gdc: Gdc, state: BuildState, entries: Iterable[IndexEntry], steps: _Steps
) -> Iterator[IndexEntry]:
    """Write the derived tables and the CSV.

    gdc_idc_mapping is never reused from an interrupted build. Only the full set of requests can tell whether the GDC
    still gives the same answers, and next to them writing the table costs nothing.
    """
    index = plan.incomplete / parquet_name(IDC_INDEX)
    digests = [entry.files[0].sha256 for entry in entries if entry.name == IDC_INDEX]
    for table in plan.derived:
        batches = derived.rows(table.name, table.schema, index, gdc)
        make = partial(_write_table, plan, table.name, table.schema, batches, steps)
        if table.name == GDC:
            state.forget(GDC)
        yield _once(state, table.name, _derived_key(plan, table, digests), make, steps)
    if plan.csv:
        yield _once(state, CSV, _csv_key(digests), partial(_write_csv, plan), steps)


def _write_csv(plan: Plan) -> IndexEntry:
    name = zip_name(CSV)
    written = derived.write_csv(plan.incomplete / parquet_name(IDC_INDEX), plan.incomplete / name)
    return IndexEntry(CSV, written.rows, files=(FileEntry(name, written.bytes, written.sha256, written.rows),))


def _write_table(
    plan: Plan,
    name: str,
    schema: Schema,
    batches: Iterable[pa.RecordBatch],
    steps: _Steps,
    query: str | None = None,
) -> IndexEntry:
    """Write the files of one table: the Parquet, its sidecar, the schema, and the query if there is one."""

    def counted(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        rows = 0
        for batch in batches:
            yield batch
            rows += batch.num_rows
            steps.tell(name, "building", rows)

    parquet = parquet_name(name)
    written = write_parquet(
        counted(batches),
        schema,
        plan.incomplete / parquet,
        version=plan.release_version,
        context=name,
        derived=query is None,
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
        entries.append(file_entry(file, content))
    digests = {entry.name: entry.sha256 for entry in entries}
    query_sha256, schema_sha256 = digests.get(sql_name(name)), digests[schema_name(name)]
    return IndexEntry(name, written.rows, query_sha256, schema_sha256, tuple(entries))


def _once(state: BuildState, name: str, key: str, make: Callable[[], IndexEntry], steps: _Steps) -> IndexEntry:
    """The entry that an interrupted build finished, or a new one from `make`."""
    entry = state.reusable(name, key)
    if entry is not None:
        steps.tell(name, "reused", entry.rows)
        return entry
    steps.tell(name, "building", 0)
    entry = make()
    state.add(key, entry)
    steps.tell(name, "done", entry.rows)
    return entry


def _key(plan: Plan, queries: EnginePlan, index: PinnedIndex) -> str:
    """A digest of all inputs of an index."""
    return _digest(plan.release_version, index.statement.text, *_published(index.schema), queries.fingerprint(index))


def _derived_key(plan: Plan, table: DerivedTable, idc_index: list[str]) -> str:
    """A digest of all inputs of a derived table, except the GDC."""
    return _digest(plan.release_version, idc_index, *_published(table.schema))


def _csv_key(idc_index: list[str]) -> str:
    """A digest of all inputs of the CSV."""
    return _digest(idc_index, zlib.ZLIB_RUNTIME_VERSION)


def _published(schema: Schema) -> tuple[Any, Any]:
    """All of a schema that the files of a table depend on: its published document, and the layout of the Parquet."""
    return schema.to_document(), layout(schema.columns)


def _digest(*inputs: Any) -> str:
    """A digest of inputs, and of the versions of the programs that turn them into files."""
    return hashlib.sha256(json.dumps([*inputs, idc_indexer.__version__, pa.__version__]).encode()).hexdigest()


def _move_into_place(plan: Plan) -> None:
    """Move the finished release to its place. An old one stays complete until the moment it is replaced."""
    if plan.incomplete.parent == plan.out:
        for path in sorted(plan.incomplete.iterdir(), key=lambda path: path.name == MANIFEST):
            path.replace(plan.out / path.name)
        plan.incomplete.rmdir()
        return
    if plan.out.exists():
        shutil.rmtree(plan.replaced, ignore_errors=True)
        plan.out.rename(plan.replaced)
    plan.incomplete.rename(plan.out)
    shutil.rmtree(plan.replaced, ignore_errors=True)
