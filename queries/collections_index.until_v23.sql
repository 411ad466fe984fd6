-- One row per collection, for releases up to 23, whose source table has column names in CamelCase, sources
-- with fewer fields, and the name of the program instead of its id.

SELECT
  collection_name,
  collection_id,
  CancerTypes AS cancer_types,
  TumorLocations AS tumor_locations,
  Subjects AS subjects,
  Species AS species,
  ARRAY(
    SELECT AS STRUCT
      source.source_doi,
      source.source_url,
      source.license,
      source.Citation AS citation,
      source.Access,
      source.ImageTypes
    FROM UNNEST(Sources) AS source WITH OFFSET AS position
    ORDER BY position
  ) AS sources,
  NULLIF(SupportingData, '') AS supporting_data,
  Program AS program_id,
  Status AS status,
  CAST(Updated AS STRING) AS updated,
  Description AS description
FROM `bigquery-public-data.idc_current.original_collections_metadata`
ORDER BY collection_id
