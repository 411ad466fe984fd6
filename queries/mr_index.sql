-- One row per MR series: acquisition.
--
-- If the instances of a series differ, a column that holds one value has the smallest non-NULL value, which
-- depends neither on the order of rows nor on threads. Of an attribute with several values, the smallest is
-- that of the DICOM texts with the values joined by backslash, so all values come from one instance.
--
-- A DICOM number is text of only the characters that the standard allows in a decimal string (PS3.5, section
-- 6.2, DS). Other text, such as NaN, is read as NULL.
-- A DICOM integer is digits with or without a sign (PS3.5, section 6.2, IS). Other text, such as 12.0, is
-- read as NULL.

WITH
  images AS (
    SELECT
      SeriesInstanceUID,
      SAFE_CAST(REGEXP_EXTRACT(MagneticFieldStrength, r'^[-+.0-9eE ]+$') AS FLOAT64) AS MagneticFieldStrength,
      NULLIF(ARRAY_TO_STRING(ScanningSequence, '\\'), '') AS ScanningSequence,
      NULLIF(ARRAY_TO_STRING(SequenceVariant, '\\'), '') AS SequenceVariant,
      MRAcquisitionType,
      SAFE_CAST(REGEXP_EXTRACT(EchoTime, r'^[-+.0-9eE ]+$') AS FLOAT64) AS EchoTime,
      SAFE_CAST(REGEXP_EXTRACT(RepetitionTime, r'^[-+.0-9eE ]+$') AS FLOAT64) AS RepetitionTime,
      SAFE_CAST(REGEXP_EXTRACT(EchoTrainLength, r'^ *[-+]?[0-9]+ *$') AS INT64) AS EchoTrainLength,
      SAFE_CAST(REGEXP_EXTRACT(FlipAngle, r'^[-+.0-9eE ]+$') AS FLOAT64) AS FlipAngle,
      SAFE_CAST(REGEXP_EXTRACT(PixelBandwidth, r'^[-+.0-9eE ]+$') AS FLOAT64) AS PixelBandwidth,
      SAFE_CAST(REGEXP_EXTRACT(ImagingFrequency, r'^[-+.0-9eE ]+$') AS FLOAT64) AS ImagingFrequency,
      ImagedNucleus,
      NULLIF(ARRAY_TO_STRING(PixelSpacing, '\\'), '') AS PixelSpacing,
      `Rows`,
      Columns,
      SAFE_CAST(REGEXP_EXTRACT(SliceThickness, r'^[-+.0-9eE ]+$') AS FLOAT64) AS SliceThickness,
      SAFE_CAST(REGEXP_EXTRACT(InversionTime, r'^[-+.0-9eE ]+$') AS FLOAT64) AS InversionTime,
      ReceiveCoilName,
      SequenceName,
      IF(IS_NAN(DiffusionBValue), NULL, DiffusionBValue) AS DiffusionBValue,
      SAFE_CAST(REGEXP_EXTRACT(NumberOfTemporalPositions, r'^ *[-+]?[0-9]+ *$') AS INT64)
        AS NumberOfTemporalPositions
    FROM `bigquery-public-data.idc_current.dicom_all`
    WHERE SOPClassUID = '1.2.840.10008.5.1.4.1.1.4'  -- MR Image Storage
  )

SELECT
  SeriesInstanceUID,
  MIN(MagneticFieldStrength) AS MagneticFieldStrength,
  SPLIT(MIN(ScanningSequence), '\\') AS ScanningSequence,
  SPLIT(MIN(SequenceVariant), '\\') AS SequenceVariant,
  MIN(MRAcquisitionType) AS MRAcquisitionType,
  ARRAY_AGG(DISTINCT EchoTime IGNORE NULLS ORDER BY EchoTime) AS EchoTime,
  MIN(RepetitionTime) AS RepetitionTime,
  MIN(EchoTrainLength) AS EchoTrainLength,
  MIN(FlipAngle) AS FlipAngle,
  MIN(PixelBandwidth) AS PixelBandwidth,
  MIN(ImagingFrequency) AS ImagingFrequency,
  MIN(ImagedNucleus) AS ImagedNucleus,
  SAFE_CAST(REGEXP_EXTRACT(SPLIT(MIN(PixelSpacing), '\\')[SAFE_OFFSET(0)], r'^[-+.0-9eE ]+$') AS FLOAT64)
    AS PixelSpacing_row_mm,
  SAFE_CAST(REGEXP_EXTRACT(SPLIT(MIN(PixelSpacing), '\\')[SAFE_OFFSET(1)], r'^[-+.0-9eE ]+$') AS FLOAT64)
    AS PixelSpacing_col_mm,
  MIN(`Rows`) AS `Rows`,
  MIN(Columns) AS Columns,
  MIN(SliceThickness) AS SliceThickness,
  MIN(InversionTime) AS InversionTime,
  MIN(ReceiveCoilName) AS ReceiveCoilName,
  MIN(SequenceName) AS SequenceName,
  ARRAY_AGG(DISTINCT DiffusionBValue IGNORE NULLS ORDER BY DiffusionBValue) AS DiffusionBValue,
  MIN(NumberOfTemporalPositions) AS NumberOfTemporalPositions
FROM images
GROUP BY SeriesInstanceUID
ORDER BY MRAcquisitionType, `Rows`, Columns, SeriesInstanceUID
