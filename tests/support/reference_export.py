"""Turn a published ``idc-index-data`` package back into Parquet exports of the IDC source tables.

The result has the layout of IDC's own export, ``OUT/idc_vNN/<table>/000000000000.parquet, ...``, and the
column types of the source tables. The indices built from it have to equal the published ones. It is a
reference to test against, not a copy of the source tables: instances, their identifiers and their sizes are
invented, but they add up to what was published about their series.

What is guaranteed:

* ``dicom_all`` has ``instanceCount`` rows for every series, with unique SOPInstanceUIDs, and the instance
  sizes of a series add up to its published size, to the byte.
* Every value of a joined list (transfer syntaxes, photometric interpretations, pixel representations) occurs
  on some instance of its series.
* Attributes that idc_index takes from any one instance have their published value on the first instance; on
  others they can be NULL, and an age or a series description can be empty.
* What the package does not have (acquisition, geometry, specimens, segments, clinical tables, ...) is made up, so
  that every index has rows: in the types of the source, different by modality, agreeing within most series, and
  at times missing, empty or not what the attribute calls for. Such columns are NULL for instances that are not of
  the SOP classes that have them.
* Segmentations, annotations and structure sets refer to series and instances of the export, but for a few.
* Every row of ``prior_versions_index`` is in the past releases of its range and in no other one.
* The instances of a series are spread over all shards (what is hardest to aggregate), or, when asked for,
  together in one.
* The same package and options give the same rows in the same shards, whatever the number of threads.
* A table appears under its name only when it is complete, and one that is there is never written again.

Columns that an older package does not publish are NULL.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import duckdb

from tests.support.reference.instances import (
    load_series,
    write_auxiliary_metadata,
    write_dicom_all,
    write_dicom_metadata_curated,
)
from tests.support.reference.job import Export, open_package, refuse_existing
from tests.support.reference.metadata import (
    write_analysis_results_metadata,
    write_column_metadata,
    write_original_collections_metadata,
    write_version_metadata,
)
from tests.support.reference.past import write_past_releases

WRITERS: dict[str, Callable[[Export], None]] = {
    "version_metadata": write_version_metadata,
    "original_collections_metadata": write_original_collections_metadata,
    "analysis_results_metadata": write_analysis_results_metadata,
    "column_metadata": write_column_metadata,
    "past_releases": write_past_releases,
    "dicom_metadata_curated": write_dicom_metadata_curated,
    "auxiliary_metadata": write_auxiliary_metadata,
    "dicom_all": write_dicom_all,
}
SMALL = {"version_metadata", "original_collections_metadata", "analysis_results_metadata", "column_metadata"}


def export(
    package: Path,
    out: Path,
    *,
    idc_version: int = 25,
    one_in: int = 1,
    shards: int = 8,
    attributes: bool = True,
    unread_columns: int = 0,
    spelling: int = 25,
    together: bool = False,
    current_in_past: int = 1000,
    tables: Sequence[str] = tuple(WRITERS),
    threads: int = os.cpu_count() or 1,
    report: Callable[[str], None] = lambda _: None,
) -> None:
    """Write ``tables`` of the release ``idc_version`` and of the past ones, made from ``package``.

    ``past_releases`` stands for the table dicom_all of all releases before ``idc_version``. It always has all
    of ``prior_versions_index``, and besides ``current_in_past`` series of this release in each of them;
    ``one_in`` thins out the series of this release only. A target table that exists is refused before
    anything is written. Without ``attributes``, dicom_all has only the columns of the data wheel's indices.
    """
    with open_package(package) as folder, duckdb.connect() as con:
        con.execute("SET enable_progress_bar = false")  # which a process of multiprocessing would print on stdout
        # Knowing its statistics, DuckDB 2 makes columns required; those of the source are all nullable.
        con.execute("SET disabled_optimizers = 'statistics_propagation'")
        con.execute(f"SET threads = {threads}")
        job = Export(
            con=con,
            package=folder,
            out=out,
            idc_version=idc_version,
            shards=shards,
            attributes=attributes,
            unread_columns=unread_columns,
            spelling=spelling,
            together=together,
            current_in_past=current_in_past,
            threads=threads,
        )
        for table in tables:
            if table == "past_releases":
                for release in range(1, idc_version):
                    refuse_existing(job.folder("dicom_all", release))
            else:
                refuse_existing(job.folder(table))
        if not SMALL.issuperset(tables):
            load_series(job, one_in)
        for table in tables:
            start = time.monotonic()
            WRITERS[table](job)
            report(f"{table}: {time.monotonic() - start:.1f} s")


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Turn a published idc-index-data package back into Parquet exports.")
    parser.add_argument("package", type=Path, metavar="PACKAGE", help="wheel, or folder with its Parquet files")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to put idc_vNN folders into")
    parser.add_argument("--idc-version", type=positive, default=25, help="release of the package (default: 25)")
    parser.add_argument("--one-in", type=positive, default=1, metavar="N", help="keep every Nth series")
    parser.add_argument("--shards", type=positive, default=8, metavar="S", help="shards per large table (default: 8)")
    parser.add_argument(
        "--attributes", choices=("all", "none"), default="all", help="none: only what idc_index reads (default: all)"
    )
    parser.add_argument("--unread-columns", type=int, default=0, metavar="U", help="leaf columns to add to dicom_all")
    parser.add_argument("--spelling", type=int, choices=(25, 24, 23), default=25, help="column names of this release")
    parser.add_argument("--together", action="store_true", help="leave the instances of a series side by side")
    parser.add_argument("--tables", nargs="+", choices=WRITERS, default=list(WRITERS), help="write only these")
    parser.add_argument("--threads", type=positive, default=os.cpu_count() or 1, help="(default: all)")
    options = vars(parser.parse_args(arguments))
    options["attributes"] = options["attributes"] == "all"
    try:
        export(options.pop("package"), options.pop("out"), report=print, **options)
    except (OSError, ValueError, duckdb.Error) as error:
        sys.exit(f"reference_export: {error}")


if __name__ == "__main__":
    main()
