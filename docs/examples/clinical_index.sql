-- Clinical tables with a column about the stage of the disease.
SELECT collection_id, table_name, "column", column_label
FROM clinical_index
WHERE column_label ILIKE '%stage%'
ORDER BY ALL
LIMIT 10;
