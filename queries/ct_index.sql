-- One row per CT series: acquisition and reconstruction.
--
-- If the instances of a series differ, a column that holds one value has the smallest non-NULL value, which
-- depends neither on the order of rows nor on threads. Of an attribute with several values, the smallest is
-- that of the DICOM texts with the values joined by backslash, so all values come from one instance.
--
-- A DICOM number is text of only the characters that the standard allows in a decimal string (PS3.5, section
-- 6.2, DS). Other text, such as NaN, is read as NULL.

WITH
  images AS (
    SELECT
      SeriesInstanceUID,
      NULLIF(ARRAY_TO_STRING(ImageType, '\\'), '') AS ImageType,
      NULLIF(ARRAY_TO_STRING(PixelSpacing, '\\'), '') AS PixelSpacing,
      `Rows`,
      Columns,
      SAFE_CAST(REGEXP_EXTRACT(SliceThickness, r'^[-+.0-9eE ]+$') AS FLOAT64) AS SliceThickness,
      SAFE_CAST(REGEXP_EXTRACT(KVP, r'^[-+.0-9eE ]+$') AS FLOAT64) AS KVP,
      NULLIF(ARRAY_TO_STRING(ScanOptions, '\\'), '') AS ScanOptions,
      NULLIF(ARRAY_TO_STRING(ConvolutionKernel, '\\'), '') AS ConvolutionKernel,
      SAFE_CAST(REGEXP_EXTRACT(GantryDetectorTilt, r'^[-+.0-9eE ]+$') AS FLOAT64) AS GantryDetectorTilt,
      SAFE_CAST(REGEXP_EXTRACT(XRayTubeCurrent, r'^[-+.0-9eE ]+$') AS FLOAT64) AS XRayTubeCurrent,
      FilterType,
      SAFE_CAST(REGEXP_EXTRACT(Exposure, r'^[-+.0-9eE ]+$') AS FLOAT64) AS Exposure,
      SAFE_CAST(REGEXP_EXTRACT(ExposureTime, r'^[-+.0-9eE ]+$') AS FLOAT64) AS ExposureTime,
      SAFE_CAST(REGEXP_EXTRACT(DataCollectionDiameter, r'^[-+.0-9eE ]+$') AS FLOAT64) AS DataCollectionDiameter,
      SAFE_CAST(REGEXP_EXTRACT(ReconstructionDiameter, r'^[-+.0-9eE ]+$') AS FLOAT64) AS ReconstructionDiameter,
      IF(IS_NAN(SpiralPitchFactor), NULL, SpiralPitchFactor) AS SpiralPitchFactor
    FROM `bigquery-public-data.idc_current.dicom_all`
    WHERE SOPClassUID = '1.2.840.10008.5.1.4.1.1.2'  -- CT Image Storage
  )

SELECT
  SeriesInstanceUID,
  SPLIT(MIN(ImageType), '\\') AS ImageType,
  SAFE_CAST(REGEXP_EXTRACT(SPLIT(MIN(PixelSpacing), '\\')[SAFE_OFFSET(0)], r'^[-+.0-9eE ]+$') AS FLOAT64)
    AS PixelSpacing_row_mm,
  SAFE_CAST(REGEXP_EXTRACT(SPLIT(MIN(PixelSpacing), '\\')[SAFE_OFFSET(1)], r'^[-+.0-9eE ]+$') AS FLOAT64)
    AS PixelSpacing_col_mm,
  MIN(`Rows`) AS `Rows`,
  MIN(Columns) AS Columns,
  MIN(SliceThickness) AS SliceThickness,
  MIN(KVP) AS KVP,
  SPLIT(MIN(ScanOptions), '\\') AS ScanOptions,
  SPLIT(MIN(ConvolutionKernel), '\\') AS ConvolutionKernel,
  MIN(GantryDetectorTilt) AS GantryDetectorTilt,
  MIN(XRayTubeCurrent) AS XRayTubeCurrent_min,
  MAX(XRayTubeCurrent) AS XRayTubeCurrent_max,
  MIN(FilterType) AS FilterType,
  MIN(Exposure) AS Exposure_min,
  MAX(Exposure) AS Exposure_max,
  MIN(ExposureTime) AS ExposureTime_min,
  MAX(ExposureTime) AS ExposureTime_max,
  MIN(DataCollectionDiameter) AS DataCollectionDiameter,
  MIN(ReconstructionDiameter) AS ReconstructionDiameter,
  MIN(SpiralPitchFactor) AS SpiralPitchFactor
FROM images
GROUP BY SeriesInstanceUID
ORDER BY FilterType, `Rows`, Columns, SeriesInstanceUID
