-- One row per annotation group: annotations of one kind on a slide, made by one person or algorithm.
--
-- A group is identified by AnnotationGroupUID, which DICOM requires of every group. AnnotationGroupNumber
-- is unique within one instance only: two instances of a series may number their groups alike. Every
-- group in the source table becomes a row; nothing is grouped or dropped.

SELECT
  instance.SeriesInstanceUID,
  item.AnnotationGroupNumber,
  item.AnnotationGroupUID,
  item.AnnotationGroupLabel,
  item.AnnotationGroupGenerationType,
  item.NumberOfAnnotations,
  item.GraphicType,
  -- A code is written as scheme:value; CONCAT is NULL when either half is NULL.
  CONCAT(
    item.AnnotationPropertyCategoryCodeSequence[SAFE_OFFSET(0)].CodingSchemeDesignator,
    ':',
    item.AnnotationPropertyCategoryCodeSequence[SAFE_OFFSET(0)].CodeValue) AS AnnotationPropertyCategory_code,
  item.AnnotationPropertyCategoryCodeSequence[SAFE_OFFSET(0)].CodeMeaning AS AnnotationPropertyCategory_CodeMeaning,
  CONCAT(
    item.AnnotationPropertyTypeCodeSequence[SAFE_OFFSET(0)].CodingSchemeDesignator,
    ':',
    item.AnnotationPropertyTypeCodeSequence[SAFE_OFFSET(0)].CodeValue) AS AnnotationPropertyType_code,
  item.AnnotationPropertyTypeCodeSequence[SAFE_OFFSET(0)].CodeMeaning AS AnnotationPropertyType_CodeMeaning,
  item.AnnotationGroupAlgorithmIdentificationSequence[SAFE_OFFSET(0)].AlgorithmName
FROM `bigquery-public-data.idc_current.dicom_all` AS instance
CROSS JOIN UNNEST(instance.AnnotationGroupSequence) AS item
WHERE instance.SOPClassUID = '1.2.840.10008.5.1.4.1.1.91.1'  -- Microscopy Bulk Simple Annotations Storage
ORDER BY SeriesInstanceUID, AnnotationGroupNumber, AnnotationGroupUID
