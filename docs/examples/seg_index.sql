-- Segmentations of the liver, with the series that they segment.
SELECT seg.SeriesInstanceUID, AlgorithmType, source.Modality, source.series_aws_url
FROM seg_index AS seg JOIN idc_index AS source ON source.SeriesInstanceUID = segmented_SeriesInstanceUID
WHERE list_contains(SegmentedPropertyType_CodeMeanings, 'Liver')
ORDER BY seg.SeriesInstanceUID
LIMIT 10;
