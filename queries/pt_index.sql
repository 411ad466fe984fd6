-- One row per PET series: injection, acquisition and corrections.
--
-- If the instances of a series differ, a column that holds one value has the smallest non-NULL value, which
-- depends neither on the order of rows nor on threads. Of an attribute with several values, the smallest is
-- that of the DICOM texts with the values joined by backslash, so all values come from one instance.
--
-- The four values of the radiopharmaceutical belong together. They are joined by backslash, and the smallest
-- of these texts is taken apart again, so all four come from one instance.
--
-- A DICOM number is text of only the characters that the standard allows in a decimal string (PS3.5, section
-- 6.2, DS). Other text, such as NaN, is read as NULL.

WITH
  images AS (
    SELECT
      instance.SeriesInstanceUID,
      NULLIF(ARRAY_TO_STRING(instance.SeriesType, '/'), '') AS SeriesType,
      instance.Units,
      instance.DecayCorrection,
      NULLIF(ARRAY_TO_STRING(instance.CorrectedImage, '\\'), '') AS CorrectedImage,
      instance.RandomsCorrectionMethod,
      instance.ReconstructionMethod,
      SAFE_CAST(REGEXP_EXTRACT(instance.ActualFrameDuration, r'^[-+.0-9eE ]+$') AS FLOAT64) AS ActualFrameDuration,
      instance.ScatterCorrectionMethod,
      instance.AttenuationCorrectionMethod,
      NULLIF(
        CONCAT(
          COALESCE(
            instance.RadiopharmaceuticalInformationSequence[SAFE_OFFSET(0)]
              .RadionuclideCodeSequence[SAFE_OFFSET(0)].CodeMeaning,
            ''),
          '\\',
          COALESCE(instance.RadiopharmaceuticalInformationSequence[SAFE_OFFSET(0)].RadionuclideTotalDose, ''),
          '\\',
          COALESCE(
            CAST(
              instance.RadiopharmaceuticalInformationSequence[SAFE_OFFSET(0)].RadiopharmaceuticalStartTime
              AS STRING),
            ''),
          '\\',
          COALESCE(instance.RadiopharmaceuticalInformationSequence[SAFE_OFFSET(0)].Radiopharmaceutical, '')),
        '\\\\\\') AS injected,
      NULLIF(ARRAY_TO_STRING(instance.PixelSpacing, '\\'), '') AS PixelSpacing,
      instance.`Rows`,
      instance.Columns,
      SAFE_CAST(REGEXP_EXTRACT(instance.SliceThickness, r'^[-+.0-9eE ]+$') AS FLOAT64) AS SliceThickness,
      instance.NumberOfSlices,
      instance.NumberOfTimeSlices
    FROM `bigquery-public-data.idc_current.dicom_all` AS instance
    WHERE instance.SOPClassUID = '1.2.840.10008.5.1.4.1.1.128'  -- Positron Emission Tomography Image Storage
  )

SELECT
  SeriesInstanceUID,
  MIN(SeriesType) AS SeriesType,
  MIN(Units) AS Units,
  MIN(DecayCorrection) AS DecayCorrection,
  SPLIT(MIN(CorrectedImage), '\\') AS CorrectedImage,
  MIN(RandomsCorrectionMethod) AS RandomsCorrectionMethod,
  MIN(ReconstructionMethod) AS ReconstructionMethod,
  ARRAY_AGG(DISTINCT ActualFrameDuration IGNORE NULLS ORDER BY ActualFrameDuration) AS ActualFrameDuration,
  MIN(ScatterCorrectionMethod) AS ScatterCorrectionMethod,
  MIN(AttenuationCorrectionMethod) AS AttenuationCorrectionMethod,
  NULLIF(SPLIT(MIN(injected), '\\')[SAFE_OFFSET(0)], '') AS RadionuclideCodeMeaning,
  SAFE_CAST(REGEXP_EXTRACT(SPLIT(MIN(injected), '\\')[SAFE_OFFSET(1)], r'^[-+.0-9eE ]+$') AS FLOAT64)
    AS RadionuclideTotalDose,
  NULLIF(SPLIT(MIN(injected), '\\')[SAFE_OFFSET(2)], '') AS RadiopharmaceuticalStartTime,
  NULLIF(SPLIT(MIN(injected), '\\')[SAFE_OFFSET(3)], '') AS Radiopharmaceutical,
  SAFE_CAST(REGEXP_EXTRACT(SPLIT(MIN(PixelSpacing), '\\')[SAFE_OFFSET(0)], r'^[-+.0-9eE ]+$') AS FLOAT64)
    AS PixelSpacing_row_mm,
  SAFE_CAST(REGEXP_EXTRACT(SPLIT(MIN(PixelSpacing), '\\')[SAFE_OFFSET(1)], r'^[-+.0-9eE ]+$') AS FLOAT64)
    AS PixelSpacing_col_mm,
  MIN(`Rows`) AS `Rows`,
  MIN(Columns) AS Columns,
  MIN(SliceThickness) AS SliceThickness,
  MIN(NumberOfSlices) AS NumberOfSlices,
  MIN(NumberOfTimeSlices) AS NumberOfTimeSlices
FROM images
GROUP BY SeriesInstanceUID
ORDER BY Units, ReconstructionMethod, SeriesInstanceUID
