-- One row per series of slide annotations.
--
-- If the instances of a series differ, a column that holds one value has the smallest non-NULL value. It
-- depends neither on the order of rows nor on threads.

SELECT
  instance.SeriesInstanceUID,
  MIN(instance.AnnotationCoordinateType) AS AnnotationCoordinateType,
  MIN(instance.ReferencedSeriesSequence[SAFE_OFFSET(0)].SeriesInstanceUID) AS referenced_SeriesInstanceUID
FROM `bigquery-public-data.idc_current.dicom_all` AS instance
WHERE instance.SOPClassUID = '1.2.840.10008.5.1.4.1.1.91.1'  -- Microscopy Bulk Simple Annotations Storage
GROUP BY instance.SeriesInstanceUID
ORDER BY SeriesInstanceUID
