-- One row per series of segmentations: the segments, the algorithms that made them, and the segmented images.
--
-- If the instances of a series differ, a column that holds one value has the smallest non-NULL value. It
-- depends neither on the order of rows nor on threads.

WITH
  segments AS (
    SELECT
      instance.SeriesInstanceUID,
      instance.SegmentationType,
      segment.SegmentNumber,
      segment.SegmentAlgorithmType,
      segment.SegmentAlgorithmName[SAFE_OFFSET(0)] AS SegmentAlgorithmName,
      segment.SegmentedPropertyCategoryCodeSequence[SAFE_OFFSET(0)].CodeMeaning AS category,
      segment.SegmentedPropertyTypeCodeSequence[SAFE_OFFSET(0)].CodeMeaning AS property_type,
      segment.AnatomicRegionSequence[SAFE_OFFSET(0)].CodeMeaning AS region
    FROM `bigquery-public-data.idc_current.dicom_all` AS instance
    -- LEFT: a series without segments has a row too.
    LEFT JOIN UNNEST(instance.SegmentSequence) AS segment
    WHERE instance.SOPClassUID IN (
      '1.2.840.10008.5.1.4.1.1.66.4',  -- Segmentation Storage
      '1.2.840.10008.5.1.4.1.1.66.7')  -- Label Map Segmentation Storage
  ),

  series AS (
    SELECT
      SeriesInstanceUID,
      MIN(SegmentationType) AS SegmentationType,
      COUNT(DISTINCT SegmentNumber) AS total_segments,
      STRING_AGG(DISTINCT SegmentAlgorithmType, ',' ORDER BY SegmentAlgorithmType) AS AlgorithmType,
      STRING_AGG(DISTINCT SegmentAlgorithmName, ',' ORDER BY SegmentAlgorithmName) AS AlgorithmName,
      ARRAY_AGG(DISTINCT category IGNORE NULLS ORDER BY category) AS categories,
      ARRAY_AGG(DISTINCT property_type IGNORE NULLS ORDER BY property_type) AS property_types,
      ARRAY_AGG(DISTINCT region IGNORE NULLS ORDER BY region) AS regions
    FROM segments
    GROUP BY SeriesInstanceUID
  ),

  -- The first image that an instance references, from the first of three sequences that has one.
  segmented AS (
    SELECT DISTINCT
      instance.SeriesInstanceUID,
      COALESCE(
        instance.ReferencedSeriesSequence[SAFE_OFFSET(0)].ReferencedInstanceSequence[SAFE_OFFSET(0)]
          .ReferencedSOPInstanceUID,
        instance.ReferencedImageSequence[SAFE_OFFSET(0)].ReferencedSOPInstanceUID,
        instance.SourceImageSequence[SAFE_OFFSET(0)].ReferencedSOPInstanceUID) AS SOPInstanceUID
    FROM `bigquery-public-data.idc_current.dicom_all` AS instance
    WHERE instance.SOPClassUID IN ('1.2.840.10008.5.1.4.1.1.66.4', '1.2.840.10008.5.1.4.1.1.66.7')
  ),

  -- IN, not JOIN: so the few referenced instances are held in memory, not the 58 million instances of IDC.
  found AS (
    SELECT SOPInstanceUID, MIN(SeriesInstanceUID) AS SeriesInstanceUID
    FROM `bigquery-public-data.idc_current.dicom_all`
    WHERE SOPInstanceUID IN (SELECT SOPInstanceUID FROM segmented)
    GROUP BY SOPInstanceUID
  ),

  sources AS (
    SELECT
      segmented.SeriesInstanceUID,
      MIN(found.SeriesInstanceUID) AS segmented_SeriesInstanceUID
    FROM segmented
    JOIN found ON found.SOPInstanceUID = segmented.SOPInstanceUID
    GROUP BY segmented.SeriesInstanceUID
  )

SELECT
  series.SeriesInstanceUID,
  series.SegmentationType,
  series.total_segments,
  series.AlgorithmType,
  series.AlgorithmName,
  sources.segmented_SeriesInstanceUID,
  series.categories AS SegmentedPropertyCategory_CodeMeanings,
  series.property_types AS SegmentedPropertyType_CodeMeanings,
  series.regions AS AnatomicRegion_CodeMeanings
FROM series
LEFT JOIN sources ON sources.SeriesInstanceUID = series.SeriesInstanceUID
ORDER BY AlgorithmName, SeriesInstanceUID
