-- One row per IDC release.

SELECT
  idc_version,
  version_timestamp
FROM `bigquery-public-data.idc_current.version_metadata`
ORDER BY idc_version
