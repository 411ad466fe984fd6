-- Annotated slides, with the address of the slide.
SELECT ann_index.SeriesInstanceUID, slide.collection_id, slide.series_aws_url
FROM ann_index JOIN idc_index AS slide ON slide.SeriesInstanceUID = referenced_SeriesInstanceUID
ORDER BY ann_index.SeriesInstanceUID
LIMIT 10;
