-- The file with the largest level of each slide.
SELECT SeriesInstanceUID, arg_max(SOPInstanceUID, TotalPixelMatrixColumns) AS instance,
    max(TotalPixelMatrixColumns) AS pixels
FROM sm_instance_index
WHERE list_contains(ImageType, 'VOLUME')
GROUP BY SeriesInstanceUID
ORDER BY pixels DESC, SeriesInstanceUID
LIMIT 10;
