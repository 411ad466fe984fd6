-- One row per annotation group: annotations of one kind, drawn by one person or algorithm.

WITH
  annotation_groups AS (
    SELECT
      instance.SeriesInstanceUID,
      item.AnnotationGroupNumber,
      item.AnnotationGroupUID,
      item.AnnotationGroupLabel,
      item.AnnotationGroupGenerationType,
      item.NumberOfAnnotations,
      item.GraphicType,
      CONCAT(
        item.AnnotationPropertyCategoryCodeSequence[SAFE_OFFSET(0)].CodingSchemeDesignator,
        ':',
        item.AnnotationPropertyCategoryCodeSequence[SAFE_OFFSET(0)].CodeValue) AS AnnotationPropertyCategory_code,
      item.AnnotationPropertyCategoryCodeSequence[SAFE_OFFSET(0)].CodeMeaning
        AS AnnotationPropertyCategory_CodeMeaning,
      CONCAT(
        item.AnnotationPropertyTypeCodeSequence[SAFE_OFFSET(0)].CodingSchemeDesignator,
        ':',
        item.AnnotationPropertyTypeCodeSequence[SAFE_OFFSET(0)].CodeValue) AS AnnotationPropertyType_code,
      item.AnnotationPropertyTypeCodeSequence[SAFE_OFFSET(0)].CodeMeaning AS AnnotationPropertyType_CodeMeaning,
      item.AnnotationGroupAlgorithmIdentificationSequence[SAFE_OFFSET(0)].AlgorithmName
    FROM `bigquery-public-data.idc_current.dicom_all` AS instance
    CROSS JOIN UNNEST(instance.AnnotationGroupSequence) AS item
    WHERE instance.SOPClassUID = '1.2.840.10008.5.1.4.1.1.91.1'  -- Microscopy Bulk Simple Annotations Storage
  ),

  -- Numbers are unique within an instance. Should two instances of a series use the same number, the
  -- first of the groups stands, «first» being the smallest, as in idc_index, compared column by column.
  ranked AS (
    SELECT
      *,
      ROW_NUMBER() OVER (
        PARTITION BY SeriesInstanceUID, AnnotationGroupNumber
        ORDER BY
          AnnotationGroupUID, AnnotationGroupLabel, AnnotationGroupGenerationType, NumberOfAnnotations, GraphicType,
          AnnotationPropertyCategory_code, AnnotationPropertyCategory_CodeMeaning,
          AnnotationPropertyType_code, AnnotationPropertyType_CodeMeaning, AlgorithmName
      ) AS place
    FROM annotation_groups
  )

SELECT
  SeriesInstanceUID,
  AnnotationGroupNumber,
  AnnotationGroupUID,
  AnnotationGroupLabel,
  AnnotationGroupGenerationType,
  NumberOfAnnotations,
  GraphicType,
  AnnotationPropertyCategory_code,
  AnnotationPropertyCategory_CodeMeaning,
  AnnotationPropertyType_code,
  AnnotationPropertyType_CodeMeaning,
  AlgorithmName
FROM ranked
WHERE place = 1
ORDER BY SeriesInstanceUID, AnnotationGroupNumber
