-- CT series with an agent that was given intravenously.
SELECT collection_id, SeriesInstanceUID, ContrastBolusAgent
FROM contrast_index JOIN idc_index USING (SeriesInstanceUID)
WHERE Modality = 'CT' AND len(list_filter(ContrastBolusRoute, lambda route: route ILIKE '%IV%' OR route ILIKE '%venous%')) > 0
ORDER BY collection_id, SeriesInstanceUID
LIMIT 10;
