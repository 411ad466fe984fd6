-- Size of each collection in GB.
SELECT collection_id, count(DISTINCT PatientID) AS patients, round(sum(series_size_MB) / 1000, 1) AS GB
FROM tcia_idc_subset
GROUP BY collection_id
ORDER BY GB DESC, collection_id;
