-- One row per analysis result, for releases up to 23, whose source table has other column names and no
-- provenance.

SELECT
  ID AS analysis_result_id,
  Title AS analysis_result_title,
  source_doi AS source_DOI,
  source_url,
  Subjects AS subjects,
  Collections AS collections,
  Modalities AS modalities,
  CAST(Updated AS STRING) AS updated,
  license_url,
  license_long_name,
  license_short_name,
  Description AS description,
  Citation AS citation
FROM `bigquery-public-data.idc_current.analysis_results_metadata`
ORDER BY analysis_result_id
