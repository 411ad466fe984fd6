-- CT series with slices of at most 1.5 mm, by collection.
SELECT collection_id, count(*) AS series, min(SliceThickness) AS thinnest_mm
FROM ct_index JOIN idc_index USING (SeriesInstanceUID)
WHERE SliceThickness <= 1.5
GROUP BY collection_id
ORDER BY series DESC, collection_id;
