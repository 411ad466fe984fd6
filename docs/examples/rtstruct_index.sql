-- Structure sets in which a lung is outlined, with the images on which it is drawn.
SELECT rtstruct_index.SeriesInstanceUID, ROINames, images.series_aws_url
FROM rtstruct_index JOIN idc_index AS images ON images.SeriesInstanceUID = referenced_SeriesInstanceUID
WHERE array_to_string(ROINames, ' ') ILIKE '%lung%'
ORDER BY rtstruct_index.SeriesInstanceUID
LIMIT 10;
