"""Make the export that the package bundles as its sample, from a published ``idc-index-data`` package.

The sample is a reference export (see ``reference_export``) of real series: for every value of the attributes
in ``COVERED`` the series with the fewest instances. Its past releases have real rows of
``prior_versions_index`` of every range of releases and bucket. Collections, analysis results and versions are
all there. Every index has rows, and every column of it a value in some row.

What is guaranteed: the same package gives the same bytes, with the same versions of DuckDB and pyarrow, and
the sample has no more than ``LARGEST_SAMPLE`` bytes.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import duckdb
from tests.support.reference.job import literal, open_package
from tests.support.reference_export import export

SAMPLE = Path(__file__).resolve().parents[1] / "src" / "idc_indexer" / "sample"
LARGEST_SAMPLE = 1_000_000
# Attributes and combinations of them. The sample has every value of each for which there is a series with no
# more instances than this.
COVERED = {
    "Modality": 500,
    "collection_id": 100,
    "SOPClassUID": 100,
    "TransferSyntaxUID": 200,
    "PhotometricInterpretation": 100,
    "PixelRepresentation": 100,
    "aws_bucket": 100,
    "analysis_result_id": 100,
    "license_short_name": 100,
    "(series_init_idc_version, series_revised_idc_version)": 10,
    "(collection_id, Modality)": 10,
    "(SOPClassUID, Manufacturer)": 20,
}
# Rows for every range of releases, bucket and kind of version.
PRIOR_VERSIONS = 3


def choose(package: Path, chosen: Path) -> None:
    """Make ``chosen`` a package with the rows of ``package`` that the sample is made from."""
    for index in ("collections_index", "analysis_results_index", "version_metadata_index"):
        shutil.copy(package / f"{index}.parquet", chosen)
    with duckdb.connect() as con:
        smallest = " UNION ALL ".join(
            f"""
            SELECT SeriesInstanceUID FROM idc_index
            WHERE {value} IS NOT NULL
            QUALIFY instanceCount <= {most}
                AND row_number() OVER (PARTITION BY {value} ORDER BY instanceCount, SeriesInstanceUID) = 1"""
            for value, most in COVERED.items()
        )
        # All rows of a version come together: one that changed its bucket or its size has several.
        versions = f"""
            SELECT crdc_series_uuid FROM (
                SELECT *, count(*) OVER (PARTITION BY crdc_series_uuid) AS moves FROM prior_versions_index)
            QUALIFY row_number() OVER (
                PARTITION BY min_idc_version, max_idc_version, gcs_bucket, moves, series_size_MB = 0
                ORDER BY crdc_series_uuid) <= {PRIOR_VERSIONS}"""
        for index, key, keys in (
            ("idc_index", "SeriesInstanceUID", smallest),
            ("prior_versions_index", "crdc_series_uuid", versions),
        ):
            name = f"{index}.parquet"
            con.execute(f"CREATE VIEW {index} AS FROM read_parquet({literal(package / name)})")
            con.execute(f"""
                COPY (FROM {index} WHERE {key} IN ({keys})) TO {literal(chosen / name)} (FORMAT parquet)
            """)


def make_sample(package: Path, sample: Path) -> int:
    """Put the sample of ``package`` into ``sample``, in place of an older one; its size in bytes."""
    for old in sample.glob("idc_v*"):
        shutil.rmtree(old)
    with open_package(package) as folder, tempfile.TemporaryDirectory() as chosen:
        choose(folder, Path(chosen))
        export(Path(chosen), sample, shards=2, current_in_past=5, threads=1)
    return sum(file.stat().st_size for file in sample.rglob("*.parquet"))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Make the bundled sample from a published idc-index-data package.")
    parser.add_argument("package", type=Path, metavar="PACKAGE", help="wheel, or folder with its Parquet files")
    parser.add_argument("--out", type=Path, default=SAMPLE, help="folder of the sample (default: in the sources)")
    options = parser.parse_args(arguments)
    size = make_sample(options.package, options.out)
    if size > LARGEST_SAMPLE:
        sys.exit(f"make_sample: {size:,} bytes are more than the {LARGEST_SAMPLE:,} that the wheel can carry")
    print(f"{size:,} bytes")


if __name__ == "__main__":
    main()
