"""The series of the release, expanded to instances: dicom_all, and the two tables that have a row per instance too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.support.reference.attributes import DISTANCE, ORIENTATION, attributes
from tests.support.reference.job import Export, literal, uid, write_shards
from tests.support.reference.sequences import TARGETS, sequences
from tests.support.reference.values import CODE, HASHES, K, dealt, sometimes, sometimes_empty

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

# The share of instance number `i` in the `bytes` of a series: uneven, and what an instance gets above the
# average is what its neighbour gets below it.
INSTANCE_SIZE = """
    bytes // instanceCount + (i < bytes % instanceCount)::BIGINT + CASE
        WHEN i // 2 * 2 + 1 < instanceCount
        THEN (1 - i % 2 * 2) * (bytes // instanceCount // 14) * ((h + i // 2) % 7) ELSE 0 END
"""


# What an instance is, by its SOP class or modality: it has the attributes of that.
SOP_CLASSES = {
    "ct": ["1.2.840.10008.5.1.4.1.1.2"],
    "mr": ["1.2.840.10008.5.1.4.1.1.4"],
    "pt": ["1.2.840.10008.5.1.4.1.1.128"],
    "seg": ["1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"],
    "ann": ["1.2.840.10008.5.1.4.1.1.91.1"],
    "rt": ["1.2.840.10008.5.1.4.1.1.481.3"],
}
SOP_CLASSES["slice"] = SOP_CLASSES["ct"] + SOP_CLASSES["mr"] + SOP_CLASSES["pt"]
FLAGS = ", ".join(
    [
        *(
            f"coalesce(SOPClassUID IN ({', '.join(map(literal, uids))}), FALSE) AS {flag}"
            for flag, uids in SOP_CLASSES.items()
        ),
        "coalesce(Modality = 'SM', FALSE) AS sm",
        "coalesce(Modality IN ('CT', 'MR', 'PT', 'XA', 'RF', 'US'), FALSE) AND h % 3 = 0 AS contrasted",
        "PhotometricInterpretation IS NOT NULL AS picture",
    ]
)


def load_series(job: Export, one_in: int) -> None:
    """Make the table ``series``: every ``one_in``-th published series, and what its instances follow from.

    Two different hashes of the SeriesInstanceUID decide which series are kept and how their instances are
    dealt out (column ``h``): with a single one, a fraction of the series would leave some shards empty.
    """
    job.con.execute(f"CREATE TABLE idc_index ({IDC_INDEX})")
    job.con.execute(f"""
        CREATE TABLE kept AS
        SELECT *,
            (md5_number_lower(SeriesInstanceUID) % {HASHES})::BIGINT AS h,
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
            END AS gcs_bucket,
            {FLAGS}
        FROM (
            FROM idc_index
            UNION ALL BY NAME
            SELECT * FROM read_parquet({literal(job.package / "idc_index.parquet")})
        )
        WHERE md5_number_upper(SeriesInstanceUID) % {one_in} = 0
    """)
    referring = f"""
        WITH {TARGETS}
        SELECT kept.*, targets.* EXCLUDE (SeriesInstanceUID)
        FROM kept LEFT JOIN targets ON targets.SeriesInstanceUID = kept.SeriesInstanceUID
    """
    source = referring if job.attributes else "SELECT * FROM kept"
    job.con.execute(f"CREATE TABLE series AS FROM ({source}) ORDER BY md5(SeriesInstanceUID)")
    job.con.execute("DROP TABLE kept")
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
    """Write dicom_all of the release."""
    further = attributes() | sequences() if job.attributes else {}
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
        *(f'{value} AS "{name}"' for name, value in further.items()),
        *unread(job.unread_columns),
    ]
    # What several columns follow from.
    common = [
        "md5(crdc_series_uuid || '/' || i)::UUID::VARCHAR AS crdc_instance_uuid",
        *([f"{K} AS k", f"{ORIENTATION} AS orientation", f"{DISTANCE} AS distance"] if job.attributes else []),
    ]
    write_shards(
        job,
        job.folder("dicom_all"),
        (
            f"""
            SELECT {", ".join(columns)} FROM (
                SELECT *, {", ".join(common)} FROM ({instances(job, "series", shard, job.shards)})
            )"""
            for shard in range(job.shards)
        ),
        # A writer buffers a whole row group of every column, so wide tables get shorter ones.
        rows=16_384 if job.unread_columns or job.attributes else 122_880,
    )


def write_side_table(job: Export, table: str, columns: Sequence[str], shift: int) -> None:
    """Write a table with one row per instance, in another order and in other shards than dicom_all."""
    job.con.execute("""
        CREATE TABLE side AS
        SELECT SeriesInstanceUID, sop_prefix, h, instanceCount, Modality, BodyPartExamined,
            series_init_idc_version, series_revised_idc_version
        FROM series ORDER BY h, SeriesInstanceUID
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
    """Write the curated body parts; some series have none."""
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
    )


def write_auxiliary_metadata(job: Export) -> None:
    """Write when series came and were revised; some instances came, or were revised, at other times."""
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
