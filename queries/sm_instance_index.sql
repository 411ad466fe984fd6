-- One row per instance of a slide microscopy series: a level of the image pyramid, a label or an overview.
--
-- A DICOM number is text of only the characters that the standard allows in a decimal string (PS3.5, section
-- 6.2, DS). Other text, such as NaN, is read as NULL.

WITH
  -- The substances used to prepare the slide, each once. The codes in the WHERE clause are the concepts
  -- embedding medium, tissue fixative and staining substance in SNOMED CT.
  substances AS (
    SELECT DISTINCT
      instance.SOPInstanceUID,
      content.ConceptNameCodeSequence[SAFE_OFFSET(0)].CodeValue AS concept,
      COALESCE(item.CodeMeaning, '') AS meaning,
      COALESCE(CONCAT(item.CodingSchemeDesignator, ':', item.CodeValue), '') AS code
    FROM `bigquery-public-data.idc_current.dicom_all` AS instance
    CROSS JOIN UNNEST(instance.SpecimenDescriptionSequence[SAFE_OFFSET(0)].SpecimenPreparationSequence) AS step
    CROSS JOIN UNNEST(step.SpecimenPreparationStepContentItemSequence) AS content
    CROSS JOIN UNNEST(content.ConceptCodeSequence) AS item
    WHERE instance.Modality = 'SM'
      AND content.ConceptNameCodeSequence[SAFE_OFFSET(0)].CodingSchemeDesignator = 'SCT'
      AND content.ConceptNameCodeSequence[SAFE_OFFSET(0)].CodeValue IN ('430863003', '430864009', '424361007')
  ),

  -- Two parallel arrays. An array cannot hold NULL, so a missing code or meaning is a text of length zero.
  lists AS (
    SELECT
      SOPInstanceUID,
      concept,
      ARRAY_AGG(meaning IGNORE NULLS ORDER BY meaning, code) AS meanings,
      ARRAY_AGG(code IGNORE NULLS ORDER BY meaning, code) AS codes
    FROM substances
    WHERE meaning != '' OR code != ''
    GROUP BY SOPInstanceUID, concept
  ),

  slides AS (
    SELECT
      instance.SOPInstanceUID,
      instance.SeriesInstanceUID,
      SAFE_CAST(
        REGEXP_EXTRACT(
          instance.SharedFunctionalGroupsSequence[SAFE_OFFSET(0)].PixelMeasuresSequence[SAFE_OFFSET(0)]
            .PixelSpacing[SAFE_OFFSET(0)],
          r'^[-+.0-9eE ]+$')
        AS FLOAT64) AS PixelSpacing_0,
      instance.ImageType,
      instance.TransferSyntaxUID,
      instance.instance_size,
      instance.TotalPixelMatrixColumns,
      instance.TotalPixelMatrixRows,
      instance.crdc_instance_uuid
    FROM `bigquery-public-data.idc_current.dicom_all` AS instance
    WHERE instance.Modality = 'SM'
  )

SELECT
  slides.SOPInstanceUID,
  slides.SeriesInstanceUID,
  embedding.meanings AS embeddingMedium_CodeMeaning,
  embedding.codes AS embeddingMedium_code_designator_value_str,
  fixative.meanings AS tissueFixative_CodeMeaning,
  fixative.codes AS tissueFixative_code_designator_value_str,
  staining.meanings AS staining_usingSubstance_CodeMeaning,
  staining.codes AS staining_usingSubstance_code_designator_value_str,
  slides.PixelSpacing_0,
  slides.ImageType,
  slides.TransferSyntaxUID,
  slides.instance_size,
  slides.TotalPixelMatrixColumns,
  slides.TotalPixelMatrixRows,
  slides.crdc_instance_uuid
FROM slides
LEFT JOIN lists AS embedding ON embedding.SOPInstanceUID = slides.SOPInstanceUID AND embedding.concept = '430863003'
LEFT JOIN lists AS fixative ON fixative.SOPInstanceUID = slides.SOPInstanceUID AND fixative.concept = '430864009'
LEFT JOIN lists AS staining ON staining.SOPInstanceUID = slides.SOPInstanceUID AND staining.concept = '424361007'
ORDER BY SeriesInstanceUID, SOPInstanceUID
