"""The history of a release: fetched for a build, and compared with the other tables of its release.

A wrong history would make every later release wrong, so two guards stand in its way: a build checks the file and
that no release is missing in it, and `verify`, which runs before a release is published, compares series_history with
idc_index and prior_versions_index of the same release.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import duckdb

from idc_indexer import files
from idc_indexer.duckdb_session import connect, errors_for, first_line, first_row, interruptible, read_parquet
from idc_indexer.errors import IndexerError
from idc_indexer.release.derived import IDC_INDEX

if TYPE_CHECKING:
    from idc_indexer.engines.history import History

SERIES_HISTORY = "series_history"
HISTORY_FILE = "history.parquet"
"""Name of the file of a history while a build runs. No index can have it: its series_history is another one."""
PRIOR_VERSIONS = "prior_versions_index"
_RETIRED = "idc-open-idc"
"""The first bucket of IDC, which has no files today. prior_versions_index leaves its series versions out."""
_KEY = (
    "collection_id, PatientID, SeriesInstanceUID, StudyInstanceUID, Modality, gcs_bucket, crdc_series_uuid, "
    "series_size_MB"
)
_OTHER = "Give another one with --history, or make a new one with `--history none`."


def fetch(history: History) -> None:
    """Have the file of a history at its path, and check it. A file that an interrupted build fetched is reused.

    Raises:
        IndexerError: it cannot be fetched, is damaged, or lacks a release.
    """
    path, name = history.path, f"{SERIES_HISTORY} of {history.release_version}"
    if not path.is_file() or files.sha256(path) != history.sha256:
        history.fetch(path)
    if (found := files.sha256(path)) != history.sha256:
        path.unlink()
        raise IndexerError(
            f"the history, {name}, is damaged: its SHA-256 is {found}, its manifest says {history.sha256}", _OTHER
        )
    with interruptible(), connect() as connection, errors_for(f"the history, {name}", _OTHER):
        rows = read_parquet([str(path)])
        present = connection.execute(f"SELECT DISTINCT unnest(idc_versions) FROM {rows}").fetchall()
    if problem := _gap({release for (release,) in present}, history.idc_version):
        raise IndexerError(f"the history, {name}, {problem}", _OTHER)


def _gap(present: set[int], newest: int) -> str:
    """How the releases of a history differ from all releases up to the newest; "" if they do not."""
    expected = set(range(1, newest + 1))
    if missing := sorted(expected - present):
        return f"has no row of IDC release {missing[0]}, and it should have all of 1 to {newest}"
    return f"has rows of IDC release {max(present - expected)}" if present - expected else ""


def problems(connection: duckdb.DuckDBPyConnection, idc_version: int, readable: set[str]) -> Iterator[str]:
    """How series_history differs from what the other tables of its release say.

    Args:
        connection: has a view of each table in `readable`.
        readable: the tables that can be compared.
    """
    current = f"list_contains(idc_versions, {idc_version})"
    checks = {
        "have releases that are repeated or not ascending": f"""
            SELECT {_KEY} FROM {SERIES_HISTORY}
            WHERE len(idc_versions) = 0 OR idc_versions <> list_sort(list_distinct(idc_versions))""",
        "have a crdc_series_uuid that belongs to several series": f"""
            SELECT crdc_series_uuid FROM {SERIES_HISTORY}
            GROUP BY ALL HAVING min(SeriesInstanceUID) <> max(SeriesInstanceUID)""",
    }
    if IDC_INDEX in readable:
        theirs = f"SELECT SeriesInstanceUID, crdc_series_uuid FROM {IDC_INDEX}"
        ours = f"SELECT SeriesInstanceUID, crdc_series_uuid FROM {SERIES_HISTORY} WHERE {current}"
        checks |= {
            f"are missing: series versions of {IDC_INDEX}": f"{theirs} EXCEPT {ours}",
            f"are of release {idc_version}, and {IDC_INDEX} does not have them": f"{ours} EXCEPT {theirs}",
        }
    if PRIOR_VERSIONS in readable:
        theirs = f"SELECT {_KEY}, min_idc_version, max_idc_version FROM {PRIOR_VERSIONS}"
        ours = f"""
            SELECT {_KEY}, list_min(idc_versions), list_max(idc_versions) FROM {SERIES_HISTORY}
            WHERE gcs_bucket IS DISTINCT FROM '{_RETIRED}' AND crdc_series_uuid NOT IN (
                SELECT crdc_series_uuid FROM {SERIES_HISTORY} WHERE {current})"""
        checks |= {
            f"are missing: rows of {PRIOR_VERSIONS}": f"{theirs} EXCEPT {ours}",
            f"are of earlier releases alone, and {PRIOR_VERSIONS} does not have them": f"{ours} EXCEPT {theirs}",
        }
    try:
        present = connection.execute(f"SELECT DISTINCT unnest(idc_versions) FROM {SERIES_HISTORY}").fetchall()
        if problem := _gap({release for (release,) in present}, idc_version):
            yield problem
        for message, sql in checks.items():
            wrong = first_row(connection, f"SELECT count(*) OVER (), * FROM ({sql}) ORDER BY ALL LIMIT 1")
            if wrong:
                yield f"{wrong[0]} rows {message}, such as {', '.join(map(str, wrong[1:]))}"
    except (duckdb.Error, ValueError, OverflowError, MemoryError) as error:
        yield f"cannot be compared with the other tables: {first_line(error)}"
