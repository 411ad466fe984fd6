-- A template: `past` reads release 1, and idc-indexer repeats it for every release before the one it builds.
--
-- One row per version of a series, with the releases that served it. A version has several rows if its bucket,
-- its collection, its patient or its recorded size changed between releases.
--
-- `past` is the template of prior_versions_index, word for word. That is why a later release can take the rows of
-- all releases up to this one from this table, instead of reading those releases again.
--
-- In this file, `past` reads only release 1, and the number of the current release is not known: in the BigQuery
-- console, idc_versions never has it. The copy in a release has one SELECT for each earlier release, and the number.

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

  present AS (
    SELECT
      CASE WHEN 'idc_current' LIKE 'idc_v%' THEN CAST(REPLACE('idc_current', 'idc_v', '') AS INT64) END AS idc_version,
      collection_id,
      PatientID,
      SeriesInstanceUID,
      StudyInstanceUID,
      Modality,
      SPLIT(gcs_url, '/')[SAFE_OFFSET(2)] AS bucket,
      crdc_series_uuid,
      ROUND(SUM(instance_size) / 1000000, 2) AS series_size_MB
    FROM `bigquery-public-data.idc_current.dicom_all`
    GROUP BY 2, 3, 4, 5, 6, 7, 8
  ),

  released AS (
    SELECT * FROM past
    UNION ALL
    SELECT * FROM present
  )

SELECT
  collection_id,
  PatientID,
  SeriesInstanceUID,
  StudyInstanceUID,
  Modality,
  bucket AS gcs_bucket,
  crdc_series_uuid,
  series_size_MB,
  ARRAY_AGG(idc_version IGNORE NULLS ORDER BY idc_version) AS idc_versions
FROM released
GROUP BY
  collection_id, PatientID, SeriesInstanceUID, StudyInstanceUID, Modality, bucket, crdc_series_uuid, series_size_MB
ORDER BY
  collection_id, PatientID, StudyInstanceUID, SeriesInstanceUID, crdc_series_uuid, Modality, gcs_bucket,
  series_size_MB
