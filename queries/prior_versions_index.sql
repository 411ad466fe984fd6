-- A template: `past` reads release 1, and idc-indexer repeats it for every release before the one it builds.
--
-- One row per version of a series that an earlier release served and this one does not.
--
-- BigQuery has no wildcard for datasets, so `past` has to name each release. In this file it reads only
-- release 1, so in the BigQuery console the query returns only the versions that release 1 served. The copy
-- in a release has one SELECT for each earlier release, joined by UNION ALL, and returns all of them.

WITH
  past AS (
    SELECT
      CAST(REPLACE('idc_v1', 'idc_v', '') AS INT64) AS idc_version,
      collection_id,
      PatientID,
      SeriesInstanceUID,
      StudyInstanceUID,
      Modality,
      SPLIT(gcs_url, '/')[SAFE_OFFSET(2)] AS bucket,
      crdc_series_uuid,
      ROUND(SUM(instance_size) / 1000000, 2) AS series_size_MB
    FROM `bigquery-public-data.idc_v1.dicom_all`
    GROUP BY 2, 3, 4, 5, 6, 7, 8
  ),

  served AS (
    SELECT DISTINCT crdc_series_uuid
    FROM `bigquery-public-data.idc_current.dicom_all`
  ),

  versions AS (
    SELECT
      past.collection_id,
      past.PatientID,
      past.SeriesInstanceUID,
      past.StudyInstanceUID,
      past.Modality,
      past.bucket AS gcs_bucket,
      past.crdc_series_uuid,
      past.series_size_MB,
      MIN(past.idc_version) AS min_idc_version,
      MAX(past.idc_version) AS max_idc_version
    FROM past
    LEFT JOIN served ON served.crdc_series_uuid = past.crdc_series_uuid
    WHERE served.crdc_series_uuid IS NULL
    GROUP BY
      past.collection_id, past.PatientID, past.SeriesInstanceUID, past.StudyInstanceUID, past.Modality,
      past.bucket, past.crdc_series_uuid, past.series_size_MB
  ),

  mirrored AS (
    SELECT
      *,
      CASE gcs_bucket
        WHEN 'public-datasets-idc' THEN 'idc-open-data'
        WHEN 'idc-open-data' THEN 'idc-open-data'
        WHEN 'idc-open-idc1' THEN 'idc-open-data-two'
        WHEN 'idc-open-cr' THEN 'idc-open-data-cr'
        ELSE ERROR(CONCAT(
          'prior_versions_index knows no AWS bucket for the GCS bucket ', COALESCE(gcs_bucket, 'NULL'),
          ' of series version ', COALESCE(crdc_series_uuid, 'NULL')))
      END AS aws_bucket
    FROM versions
    -- The first bucket of IDC. It is retired and has no files.
    WHERE COALESCE(gcs_bucket, '') != 'idc-open-idc'
  )

SELECT
  collection_id,
  PatientID,
  SeriesInstanceUID,
  StudyInstanceUID,
  Modality,
  gcs_bucket,
  crdc_series_uuid,
  series_size_MB,
  CONCAT('s3://', aws_bucket, '/', crdc_series_uuid, '/*') AS series_aws_url,
  aws_bucket,
  min_idc_version,
  max_idc_version
FROM mirrored
ORDER BY
  collection_id, min_idc_version, Modality, PatientID, SeriesInstanceUID, StudyInstanceUID, gcs_bucket,
  crdc_series_uuid, series_size_MB
