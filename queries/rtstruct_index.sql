-- One row per series of RT structure sets: the regions of interest (ROIs), and the images in which they were drawn.
--
-- If the instances of a series differ, a column that holds one value has the smallest non-NULL value. It
-- depends neither on the order of rows nor on threads.

WITH
  rois AS (
    SELECT
      instance.SeriesInstanceUID,
      instance.SOPInstanceUID,
      roi.ROINumber,
      roi.ROIName,
      roi.ROIGenerationAlgorithm
    FROM `bigquery-public-data.idc_current.dicom_all` AS instance
    -- LEFT: a series without regions of interest has a row too.
    LEFT JOIN UNNEST(instance.StructureSetROISequence) AS roi
    WHERE instance.SOPClassUID = '1.2.840.10008.5.1.4.1.1.481.3'  -- RT Structure Set Storage
  ),

  structures AS (
    SELECT
      SeriesInstanceUID,
      COUNT(DISTINCT ROINumber) AS total_rois,
      ARRAY_AGG(DISTINCT ROIName IGNORE NULLS ORDER BY ROIName) AS ROINames,
      ARRAY_AGG(DISTINCT ROIGenerationAlgorithm IGNORE NULLS ORDER BY ROIGenerationAlgorithm)
        AS ROIGenerationAlgorithms
    FROM rois
    GROUP BY SeriesInstanceUID
  ),

  observations AS (
    SELECT DISTINCT
      instance.SOPInstanceUID,
      observation.ReferencedROINumber,
      observation.RTROIInterpretedType
    FROM `bigquery-public-data.idc_current.dicom_all` AS instance
    CROSS JOIN UNNEST(instance.RTROIObservationsSequence) AS observation
    WHERE instance.SOPClassUID = '1.2.840.10008.5.1.4.1.1.481.3'
  ),

  types AS (
    SELECT
      rois.SeriesInstanceUID,
      ARRAY_AGG(DISTINCT observations.RTROIInterpretedType IGNORE NULLS ORDER BY observations.RTROIInterpretedType)
        AS RTROIInterpretedTypes
    FROM rois
    JOIN observations
      ON observations.SOPInstanceUID = rois.SOPInstanceUID
      AND observations.ReferencedROINumber = rois.ROINumber
    GROUP BY rois.SeriesInstanceUID
  ),

  drawn_on AS (
    SELECT
      instance.SeriesInstanceUID,
      MIN(series.SeriesInstanceUID) AS referenced_SeriesInstanceUID
    FROM `bigquery-public-data.idc_current.dicom_all` AS instance
    CROSS JOIN UNNEST(instance.ReferencedFrameOfReferenceSequence) AS frame_of_reference
    CROSS JOIN UNNEST(frame_of_reference.RTReferencedStudySequence) AS study
    CROSS JOIN UNNEST(study.RTReferencedSeriesSequence) AS series
    WHERE instance.SOPClassUID = '1.2.840.10008.5.1.4.1.1.481.3'
    GROUP BY instance.SeriesInstanceUID
  )

SELECT
  structures.SeriesInstanceUID,
  structures.total_rois,
  structures.ROINames,
  structures.ROIGenerationAlgorithms,
  types.RTROIInterpretedTypes,
  drawn_on.referenced_SeriesInstanceUID
FROM structures
LEFT JOIN types ON types.SeriesInstanceUID = structures.SeriesInstanceUID
LEFT JOIN drawn_on ON drawn_on.SeriesInstanceUID = structures.SeriesInstanceUID
ORDER BY SeriesInstanceUID
