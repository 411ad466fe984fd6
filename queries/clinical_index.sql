-- One row per column of a clinical table: its table, its label and the values it can have.

SELECT
  columns.collection_id,
  columns.table_name,
  -- bigquery-public-data.idc_vNN_clinical.<short name>
  SPLIT(columns.table_name, '.')[SAFE_OFFSET(2)] AS short_table_name,
  columns.column,
  NULLIF(columns.column_label, '') AS column_label,
  columns.values
FROM `bigquery-public-data.idc_current_clinical.column_metadata` AS columns
ORDER BY collection_id, table_name, column
