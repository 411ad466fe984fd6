"""The releases before this one, as far as ``prior_versions_index`` reads them.

What is guaranteed: every row of ``prior_versions_index`` is in the past releases of its range and in no other one.
"""

from __future__ import annotations

from tests.support.reference.instances import INSTANCE_SIZE, instances
from tests.support.reference.job import Export, literal, uid, write_shards

# How many series of the retired bucket every past release has.
RETIRED_IN_PAST = 3
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
