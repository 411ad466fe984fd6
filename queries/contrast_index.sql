-- One row per series that names a contrast agent: the agent, its ingredient and its route.

WITH
  -- Reduces the 58 million rows of dicom_all to few more rows than there are series.
  variants AS (
    SELECT DISTINCT
      SeriesInstanceUID,
      ContrastBolusAgent,
      ContrastBolusIngredient,
      ContrastBolusRoute
    FROM `bigquery-public-data.idc_current.dicom_all`
    WHERE Modality IN ('CT', 'MR', 'PT', 'XA', 'RF')
      AND COALESCE(ContrastBolusAgent, ContrastBolusIngredient, ContrastBolusRoute) IS NOT NULL
  )

SELECT
  SeriesInstanceUID,
  ARRAY_AGG(DISTINCT ContrastBolusAgent IGNORE NULLS ORDER BY ContrastBolusAgent) AS ContrastBolusAgent,
  ARRAY_AGG(DISTINCT ContrastBolusIngredient IGNORE NULLS ORDER BY ContrastBolusIngredient)
    AS ContrastBolusIngredient,
  ARRAY_AGG(DISTINCT ContrastBolusRoute IGNORE NULLS ORDER BY ContrastBolusRoute) AS ContrastBolusRoute
FROM variants
GROUP BY SeriesInstanceUID
ORDER BY SeriesInstanceUID
