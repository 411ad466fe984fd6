-- One row per analysis result, for releases up to 24, whose source table has no provenance.

SELECT
  analysis_result_id,
  analysis_result_title,
  source_doi AS source_DOI,
  source_url,
  subjects,
  collections,
  modalities,
  CAST(updated AS STRING) AS updated,
  license_url,
  license_long_name,
  license_short_name,
  description,
  citation
FROM `bigquery-public-data.idc_current.analysis_results_metadata`
ORDER BY analysis_result_id
