-- One row per collection.

SELECT
  collection_name,
  collection_id,
  cancer_types,
  tumor_locations,
  subjects,
  species,
  sources,
  NULLIF(supporting_data, '') AS supporting_data,
  program_id,
  status,
  CAST(updated AS STRING) AS updated,
  description
FROM `bigquery-public-data.idc_current.original_collections_metadata`
ORDER BY collection_id
