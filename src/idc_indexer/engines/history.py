"""A history: the table series_history of an older release, in place of all prior releases up to that one.

A group of series_history lists the releases that it was in, so the table has the rows that the template of its query
returns for each of these releases: `rows` gives them back. An engine that has a history reads only the releases
after it, and the query of the index runs unchanged over the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from idc_indexer.duckdb_session import first_row, quote_name, read_parquet
from idc_indexer.errors import IndexerError
from idc_indexer.sql import PRIOR_ROWS, PriorExtract

VERSION_ID = "crdc_series_uuid"
# The columns of series_history, as the template of its query names them.
_OF_TEMPLATE = (
    "collection_id, PatientID, SeriesInstanceUID, StudyInstanceUID, Modality, gcs_bucket AS bucket, crdc_series_uuid, "
    "series_size_MB"
)


@dataclass(frozen=True)
class History:
    """A series_history that was found, and the place at which its file is while a build runs.

    Attributes:
        idc_version: the last IDC release that it has; it has all before that one, too.
        release_version: the release that it is a table of.
        sha256: of its file, in hexadecimal.
        bytes: size of its file.
        template: the translated template of its query, for release 1.
        path: the file.
        fetch: writes the file to a path.
    """

    idc_version: int
    release_version: str
    sha256: str
    bytes: int
    template: str
    path: Path
    fetch: Callable[[Path], None]

    def known(self, extracts: Sequence[PriorExtract]) -> int:
        """The last prior release whose rows an index takes from here; 0 for an index with another template."""
        return self.idc_version if extracts and extracts[0].sql == self.template else 0

    def rows(self) -> str:
        """SQL for the rows of the template in each prior release up to `idc_version`."""
        rows = read_parquet([str(self.path)])
        return f"SELECT unnest(idc_versions) AS idc_version, {_OF_TEMPLATE} FROM {rows}"

    def refuse_others(self, connection: duckdb.DuckDBPyConnection, served: str) -> None:
        """Refuse a history of other series than those of the source.

        Args:
            served: a table or view that has the series versions of the release that is built.

        Raises:
            IndexerError: the release serves no version that the last release of the history served.
        """
        shared = f"""
            SELECT 1 FROM {quote_name(served)} WHERE {VERSION_ID} IN (
                SELECT {VERSION_ID} FROM {read_parquet([str(self.path)])}
                WHERE list_contains(idc_versions, {self.idc_version})
            ) LIMIT 1"""
        if not first_row(connection, shared):
            raise IndexerError(
                f"the history, series_history of {self.release_version}, is of other series: the release that is "
                f"built serves no series version that IDC release {self.idc_version} served according to it",
                "Give the history of a release that was built from the same source.",
            )


def describe(used: Iterable[History | None]) -> dict[str, Any]:
    """What the manifest says of the history from which indices took rows: nothing if there is none."""
    for one in filter(None, used):
        about = {"release_version": one.release_version, "idc_version": one.idc_version, "sha256": one.sha256}
        return {"history": about}
    return {}


def create_prior_rows(connection: duckdb.DuckDBPyConnection, history: History | None, tables: Iterable[str]) -> None:
    """Create the view of the rows of all prior releases.

    Args:
        history: has the rows of the first releases; None if the tables have them all.
        tables: SQL for the rows of the other releases.
    """
    parts = [history.rows()] if history else []
    parts += [f"FROM {table}" for table in tables]
    connection.execute(f"CREATE OR REPLACE TEMP VIEW {PRIOR_ROWS} AS {' UNION ALL '.join(parts)}")
