"""Find the history for a build: the series_history of an older release, wherever that release is."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from idc_indexer import files
from idc_indexer.catalog import Catalog
from idc_indexer.engines.history import History
from idc_indexer.errors import IndexerError
from idc_indexer.publish.records import CURRENT
from idc_indexer.publish.release_source import MissingFileError, ReleaseSource, open_source
from idc_indexer.release.history import SERIES_HISTORY
from idc_indexer.release.manifest import FileEntry, Release, parquet_name, sidecar_name, sql_name, stated_sha256
from idc_indexer.schema.source_tables import SourceTables
from idc_indexer.sql import analyze, to_duckdb

_FIRST = (
    "To make the first one from all prior releases, build with `--history none`, or `idc-indexer build series_history`."
)


def find_history(
    given: str, idc_version: int, published_at: str, catalog: Catalog, path: Path, sample: bool | None = None
) -> History:
    """Find the history for the build of an IDC release. Only small files are read; `History.fetch` fetches the table.

    For `current`, when it is of that IDC release already: the history that `current` was built on.

    Args:
        given: a release, in any form that `open_source` takes, that has a manifest and series_history.
        published_at: where versions are published.
        catalog: has the query that a history must have been made with.
        path: where the file will be while the build runs.
        sample: whether the source of the build is the bundled sample; None if that is not known.

    Raises:
        UsageError: it is no release.
        IndexerError: it is of the same or a later IDC release, has no series_history, has one that another query made
            or that is of another source, or its sidecar does not have the digest of its manifest.
    """
    with open_source(given, published_at) as source:
        release = source.release()
        own = release.about.get("history")
        if given == CURRENT and release.idc_version == idc_version and own:
            return find_history(own["release_version"], idc_version, published_at, catalog, path, sample)
        where = f"--history {source.name}: {release.release_version}"
        _check_release(release, idc_version, where, sample)
        table = _table(release, where)
        template = _template(source.files.read(sql_name(SERIES_HISTORY)).decode(errors="replace"), where)
        bundled = catalog.indices[SERIES_HISTORY].for_release(2)
        if template != to_duckdb(bundled.statement, bundled.query_file).prior_extracts[0].sql:
            raise IndexerError(
                f"{where} has a {SERIES_HISTORY} that another query made",
                f"Its rows would differ from those of this version's query. {_FIRST}",
            )
        _check_sidecar(source, table.sha256, where)
        copy = partial(_copy, source.name, published_at)
        return History(release.idc_version, release.release_version, table.sha256, table.bytes, template, path, copy)


def _check_release(release: Release, idc_version: int, where: str, sample: bool | None) -> None:
    """Refuse a release that cannot be before the one that is built."""
    if release.idc_version >= idc_version:
        raise IndexerError(
            f"{where} is of IDC release {release.idc_version}, and the build of {idc_version}",
            f"Give a release of an older IDC release. {_FIRST}",
        )
    kind = release.about["source"]["kind"]
    if sample is not None and (kind == "sample") != sample:
        raise IndexerError(
            f"{where} was built from {'the sample' if kind == 'sample' else f'another source ({kind})'}, "
            f"and this build reads {'the sample' if sample else 'another source'}",
            "Give the history of a release that was built from the same source.",
        )


def _table(release: Release, where: str) -> FileEntry:
    """The Parquet of series_history."""
    for entry in release.indices:
        if entry.name == SERIES_HISTORY:
            return entry.files[0]
    raise IndexerError(f"{where} has no {SERIES_HISTORY}", f"Give a release that has it. {_FIRST}")


def _template(query: str, where: str) -> str:
    """The template for release 1 of the published query of a history, translated."""
    extracts = to_duckdb(analyze(query, SourceTables(), f"{where}: {sql_name(SERIES_HISTORY)}"), where).prior_extracts
    return extracts[0].sql if extracts else ""


def _check_sidecar(source: ReleaseSource, sha256: str, where: str) -> None:
    name = sidecar_name(parquet_name(SERIES_HISTORY))
    try:
        stated = stated_sha256(source.files.read(name))
    except MissingFileError:
        stated = ""
    if stated != sha256:
        raise IndexerError(
            f"{where}: {name} does not have the digest that the manifest has for {parquet_name(SERIES_HISTORY)}",
            "The release is damaged or incomplete: `idc-indexer verify` and `idc-indexer check` say more.",
        )


def _copy(given: str, published_at: str, path: Path) -> None:
    """Write the table to a path."""
    with open_source(given, published_at) as source, files.os_errors_for(path), files.atomic_path(path) as temporary:
        shutil.copyfile(source.fetch(SERIES_HISTORY), temporary)
