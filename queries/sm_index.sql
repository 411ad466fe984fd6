-- One row per slide microscopy series: the slide, the specimen and its preparation, the optics.
--
-- If the instances of a series differ, a column that holds one value has the smallest non-NULL value. It
-- depends neither on the order of rows nor on threads.
-- A code and its meaning belong together. They are joined by backslash, which neither can contain, and the
-- smallest of these texts is taken apart again, so both come from one instance.
--
-- A DICOM number is text of only the characters that the standard allows in a decimal string (PS3.5, section
-- 6.2, DS). Other text, such as NaN, is read as NULL.
-- A DICOM integer is digits with or without a sign (PS3.5, section 6.2, IS). Other text, such as 12.0, is
-- read as NULL.

WITH
  -- The substances used to prepare the slide, each once. The codes in the WHERE clause are the concepts
  -- embedding medium, tissue fixative and staining substance in SNOMED CT.
  substances AS (
    SELECT DISTINCT
      instance.SeriesInstanceUID,
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
      SeriesInstanceUID,
      concept,
      ARRAY_AGG(meaning IGNORE NULLS ORDER BY meaning, code) AS meanings,
      ARRAY_AGG(code IGNORE NULLS ORDER BY meaning, code) AS codes
    FROM substances
    WHERE meaning != '' OR code != ''
    GROUP BY SeriesInstanceUID, concept
  ),

  slides AS (
    SELECT
      instance.SeriesInstanceUID,
      instance.ContainerIdentifier,
      COALESCE(
        SAFE_CAST(REGEXP_EXTRACT(instance.PixelSpacing[SAFE_OFFSET(0)], r'^[-+.0-9eE ]+$') AS FLOAT64),
        SAFE_CAST(
          REGEXP_EXTRACT(
            instance.SharedFunctionalGroupsSequence[SAFE_OFFSET(0)].PixelMeasuresSequence[SAFE_OFFSET(0)]
              .PixelSpacing[SAFE_OFFSET(0)],
            r'^[-+.0-9eE ]+$')
          AS FLOAT64)) AS PixelSpacing,
      COALESCE(instance.TotalPixelMatrixColumns, instance.Columns) AS width,
      COALESCE(instance.TotalPixelMatrixRows, instance.`Rows`) AS height,
      SAFE_CAST(
        REGEXP_EXTRACT(
          instance.OpticalPathSequence[SAFE_OFFSET(0)].ObjectiveLensPower,
          r'^ *[-+]?[0-9]+ *$')
        AS INT64) AS ObjectiveLensPower,
      CONCAT(
        instance.SpecimenDescriptionSequence[SAFE_OFFSET(0)].PrimaryAnatomicStructureSequence[SAFE_OFFSET(0)]
          .CodingSchemeDesignator,
        ':',
        instance.SpecimenDescriptionSequence[SAFE_OFFSET(0)].PrimaryAnatomicStructureSequence[SAFE_OFFSET(0)]
          .CodeValue) AS structure_code,
      instance.SpecimenDescriptionSequence[SAFE_OFFSET(0)].PrimaryAnatomicStructureSequence[SAFE_OFFSET(0)]
        .CodeMeaning AS structure_meaning,
      CONCAT(
        instance.SpecimenDescriptionSequence[SAFE_OFFSET(0)].PrimaryAnatomicStructureSequence[SAFE_OFFSET(0)]
          .PrimaryAnatomicStructureModifierSequence[SAFE_OFFSET(0)].CodingSchemeDesignator,
        ':',
        instance.SpecimenDescriptionSequence[SAFE_OFFSET(0)].PrimaryAnatomicStructureSequence[SAFE_OFFSET(0)]
          .PrimaryAnatomicStructureModifierSequence[SAFE_OFFSET(0)].CodeValue) AS modifier_code,
      instance.SpecimenDescriptionSequence[SAFE_OFFSET(0)].PrimaryAnatomicStructureSequence[SAFE_OFFSET(0)]
        .PrimaryAnatomicStructureModifierSequence[SAFE_OFFSET(0)].CodeMeaning AS modifier_meaning,
      CONCAT(
        instance.OpticalPathSequence[SAFE_OFFSET(0)].IlluminationTypeCodeSequence[SAFE_OFFSET(0)]
          .CodingSchemeDesignator,
        ':',
        instance.OpticalPathSequence[SAFE_OFFSET(0)].IlluminationTypeCodeSequence[SAFE_OFFSET(0)].CodeValue)
        AS illumination_code,
      instance.OpticalPathSequence[SAFE_OFFSET(0)].IlluminationTypeCodeSequence[SAFE_OFFSET(0)].CodeMeaning
        AS illumination_meaning,
      CONCAT(
        instance.AdmittingDiagnosesCodeSequence[SAFE_OFFSET(0)].CodingSchemeDesignator,
        ':',
        instance.AdmittingDiagnosesCodeSequence[SAFE_OFFSET(0)].CodeValue) AS diagnosis_code,
      instance.AdmittingDiagnosesCodeSequence[SAFE_OFFSET(0)].CodeMeaning AS diagnosis_meaning
    FROM `bigquery-public-data.idc_current.dicom_all` AS instance
    WHERE instance.Modality = 'SM'
  ),

  series AS (
    SELECT
      SeriesInstanceUID,
      MIN(ContainerIdentifier) AS ContainerIdentifier,
      MIN(PixelSpacing) AS PixelSpacing,
      MAX(width) AS width,
      MAX(height) AS height,
      MIN(ObjectiveLensPower) AS ObjectiveLensPower,
      MIN(NULLIF(CONCAT(COALESCE(structure_code, ''), '\\', COALESCE(structure_meaning, '')), '\\')) AS structure,
      MIN(NULLIF(CONCAT(COALESCE(modifier_code, ''), '\\', COALESCE(modifier_meaning, '')), '\\')) AS modifier,
      MIN(NULLIF(CONCAT(COALESCE(illumination_code, ''), '\\', COALESCE(illumination_meaning, '')), '\\'))
        AS illumination,
      MIN(NULLIF(CONCAT(COALESCE(diagnosis_code, ''), '\\', COALESCE(diagnosis_meaning, '')), '\\')) AS diagnosis
    FROM slides
    GROUP BY SeriesInstanceUID
  )

SELECT
  series.SeriesInstanceUID,
  series.ContainerIdentifier,
  embedding.meanings AS embeddingMedium_CodeMeaning,
  embedding.codes AS embeddingMedium_code_designator_value_str,
  fixative.meanings AS tissueFixative_CodeMeaning,
  fixative.codes AS tissueFixative_code_designator_value_str,
  staining.meanings AS staining_usingSubstance_CodeMeaning,
  staining.codes AS staining_usingSubstance_code_designator_value_str,
  -- Two significant digits. Below 1 nm there are fewer, and pixels of 100 mm and more are rounded to 1 mm.
  CASE
    WHEN series.PixelSpacing < 0.00001 THEN ROUND(series.PixelSpacing, 7)
    WHEN series.PixelSpacing < 0.0001 THEN ROUND(series.PixelSpacing, 6)
    WHEN series.PixelSpacing < 0.001 THEN ROUND(series.PixelSpacing, 5)
    WHEN series.PixelSpacing < 0.01 THEN ROUND(series.PixelSpacing, 4)
    WHEN series.PixelSpacing < 0.1 THEN ROUND(series.PixelSpacing, 3)
    WHEN series.PixelSpacing < 1 THEN ROUND(series.PixelSpacing, 2)
    WHEN series.PixelSpacing < 10 THEN ROUND(series.PixelSpacing, 1)
    ELSE ROUND(series.PixelSpacing, 0)
  END AS min_PixelSpacing_2sf,
  series.width AS max_TotalPixelMatrixColumns,
  series.height AS max_TotalPixelMatrixRows,
  series.ObjectiveLensPower,
  NULLIF(SPLIT(series.structure, '\\')[SAFE_OFFSET(0)], '') AS primaryAnatomicStructure_code_designator_value_str,
  NULLIF(SPLIT(series.structure, '\\')[SAFE_OFFSET(1)], '') AS primaryAnatomicStructure_CodeMeaning,
  NULLIF(SPLIT(series.modifier, '\\')[SAFE_OFFSET(0)], '')
    AS primaryAnatomicStructureModifier_code_designator_value_str,
  NULLIF(SPLIT(series.modifier, '\\')[SAFE_OFFSET(1)], '') AS primaryAnatomicStructureModifier_CodeMeaning,
  NULLIF(SPLIT(series.illumination, '\\')[SAFE_OFFSET(0)], '') AS illuminationType_code_designator_value_str,
  NULLIF(SPLIT(series.illumination, '\\')[SAFE_OFFSET(1)], '') AS illuminationType_CodeMeaning,
  NULLIF(SPLIT(series.diagnosis, '\\')[SAFE_OFFSET(0)], '') AS admittingDiagnosis_code_designator_value_str,
  NULLIF(SPLIT(series.diagnosis, '\\')[SAFE_OFFSET(1)], '') AS admittingDiagnosis_CodeMeaning
FROM series
LEFT JOIN lists AS embedding ON embedding.SeriesInstanceUID = series.SeriesInstanceUID AND embedding.concept = '430863003'
LEFT JOIN lists AS fixative ON fixative.SeriesInstanceUID = series.SeriesInstanceUID AND fixative.concept = '430864009'
LEFT JOIN lists AS staining ON staining.SeriesInstanceUID = series.SeriesInstanceUID AND staining.concept = '424361007'
ORDER BY SeriesInstanceUID
