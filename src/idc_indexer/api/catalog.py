"""List, explain, releases: which indices and IDC releases can be built."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from idc_indexer.api.history import find_history_for
from idc_indexer.api.options import AnyPath, BigQuery, DuckDB, EngineOptions, OwnIndices
from idc_indexer.catalog import Catalog, PinnedIndex
from idc_indexer.errors import IndexerError, UsageError
from idc_indexer.progress import NullListener, ProgressListener
from idc_indexer.sql import Leaf, split, to_duckdb

if TYPE_CHECKING:
    from idc_indexer.engines.history import History


def list_indices(own: OwnIndices = OwnIndices()) -> Catalog:
    """List the indices and the derived tables.

    Returns:
        The catalog: `indices` and `derived` by name, each with its schema.

    Raises:
        IndexerError: an index of your own is malformed.
    """
    return own.catalog()


@dataclass(frozen=True)
class Explanation:
    """How an index is built.

    Attributes:
        engine: `duckdb` or `bigquery`.
        sql: the statements that run, in order; the last one returns the rows of the index.
        reads: leaf columns by source table.
        costs: bytes processed, bytes billed and dollars; None when BigQuery was not asked.
        unproven: what is translated for DuckDB although no test has compared it with GoogleSQL; None if nothing is.
    """

    index: str
    engine: str
    sql: Sequence[str]
    reads: Mapping[str, Sequence[str]]
    costs: Mapping[str, float] | None = None
    unproven: Sequence[str] | None = None

    def to_document(self) -> dict[str, Any]:
        """For --json."""
        return {name: value for name, value in vars(self).items() if value is not None}


def explain_index(
    index: str,
    *,
    idc_version: int = 0,
    engine: EngineOptions = DuckDB(),
    own: OwnIndices = OwnIndices(),
    history: AnyPath | None = None,
    published_at: str | None = None,
) -> Explanation:
    """Show the SQL of an index as it will run, and the columns that it reads.

    Args:
        idc_version: IDC release; 0 for the newest, without pinning.
        engine: with `BigQuery(project=...)` the result also has the costs.
        history, published_at: as for `build_release`.

    Raises:
        UsageError: no such index, or a derived table, which has no query.
        IndexerError: the query is not supported, or BigQuery refuses it.
    """
    catalog = own.catalog()
    if index in catalog.derived:
        raise UsageError(f"{index} has no query: it is made from idc_index", "See `idc-indexer explain idc_index`.")
    (chosen,) = catalog.select([index])
    pinned = chosen.for_release(idc_version)
    found = find_history_for([pinned], history, published_at, catalog, Path(), NullListener())
    if isinstance(engine, DuckDB):
        return _on_duckdb(pinned, found, engine.unproven)
    costs = _costs(pinned, engine, found) if engine.project else None
    return Explanation(index, "bigquery", *_on_bigquery(pinned, found), costs)


def _on_duckdb(pinned: PinnedIndex, history: History | None, unproven: bool) -> Explanation:
    translation = to_duckdb(pinned.statement, pinned.query_file, unproven)
    known = history.known(translation.prior_extracts) if history else 0
    statements = [*(extract.sql for extract in translation.prior_extracts[known:]), translation.sql]
    reads = _reads(pinned.statement.leaves, known)
    return Explanation(pinned.name, "duckdb", statements, reads, unproven=translation.unproven or None)


def _on_bigquery(pinned: PinnedIndex, history: History | None) -> tuple[list[str], dict[str, list[str]]]:
    """The statements that run, of which with a history the last one runs here, and what they read."""
    known = history.known(to_duckdb(pinned.statement, pinned.query_file).prior_extracts) if history else 0
    if not known:
        return [pinned.statement.text], _reads(pinned.statement.leaves, 0)
    query = split(pinned.statement, pinned.query_file, known)
    return [*(part.statement.text for part in query.parts), query.sql], _reads(pinned.statement.leaves, known)


def _reads(leaves: Iterable[Leaf], known: int) -> dict[str, list[str]]:
    """Leaf columns by source table, but for releases whose rows come from a history, up to `known`."""
    reads: dict[str, list[str]] = {f"series_history of IDC release {known}": ["all columns"]} if known else {}
    for leaf in sorted(leaves, key=lambda leaf: (leaf.table, leaf.path)):
        if not 0 < leaf.table.release <= known:
            reads.setdefault(str(leaf.table), []).append(leaf.path)
    return reads


def _costs(pinned: PinnedIndex, engine: BigQuery, history: History | None) -> dict[str, float]:
    from idc_indexer.engines.bigquery import BigQueryEngine

    plan = BigQueryEngine(engine.connect()).plan([pinned], history)
    return plan.estimates[pinned.name].to_document(engine.price_per_tib)


@dataclass(frozen=True)
class AvailableReleases:
    """IDC releases of a source.

    Attributes:
        releases: the oldest first; only those newer than the published one, if one was given.
        published: the release version that they are newer than; None when none was given.
        published_idc: its IDC release.
    """

    releases: tuple[int, ...]
    published: str | None = None
    published_idc: int | None = None

    @property
    def newest(self) -> int | None:
        """The newest of them; None when there is none."""
        return self.releases[-1] if self.releases else None


def list_releases(
    *,
    engine: EngineOptions = DuckDB(),
    newer_than: str | None = None,
    listener: ProgressListener | None = None,
) -> AvailableReleases:
    """List the IDC releases that a source has.

    Args:
        newer_than: a release, in any form that `diff_releases` takes; list only the releases that are newer.
        listener: receives progress.

    Raises:
        IndexerError: the source has no release, or cannot be listed.
    """
    if isinstance(engine, BigQuery):
        connection = engine.connect()
        from idc_indexer.engines.bigquery import releases

        found = releases(connection)
    else:
        found = engine.export(listener).releases()
    if not found:
        raise IndexerError("there is no IDC release", "Look at another --source.")
    if newer_than is None:
        return AvailableReleases(tuple(found))
    from idc_indexer.publish.release_source import open_source
    from idc_indexer.release.manifest import idc_version_of

    with open_source(newer_than, listener=listener) as source:
        published = source.version
    if not published:
        raise IndexerError(f"{newer_than}: neither a manifest nor a Parquet file says of which version it is")
    last = idc_version_of(published)
    return AvailableReleases(tuple(release for release in found if release > last), published, last)
