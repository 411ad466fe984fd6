-- What IDC release 20 served: series and size of each collection.
SELECT collection_id, count(DISTINCT SeriesInstanceUID) AS series, round(sum(series_size_MB)) AS size_MB
FROM series_history
WHERE list_contains(idc_versions, 20)
GROUP BY collection_id
ORDER BY series DESC, collection_id
LIMIT 10;
