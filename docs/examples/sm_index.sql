-- Slides at 40x that are stained with hematoxylin.
SELECT collection_id, SeriesInstanceUID, min_PixelSpacing_2sf
FROM sm_index JOIN idc_index USING (SeriesInstanceUID)
WHERE ObjectiveLensPower = 40 AND array_to_string(staining_usingSubstance_CodeMeaning, ' ') ILIKE '%hematoxylin%'
ORDER BY collection_id, SeriesInstanceUID
LIMIT 10;
