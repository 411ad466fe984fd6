-- One row per series of single-frame CT, MR or PET images: do its slices form a regular 3D volume?
--
-- A scanner stores a volume as one file (instance) per slice. Three DICOM attributes of each slice say
-- where it lies in the patient, in a coordinate system whose x axis points to the patient's left, y to the
-- back and z to the head, in mm:
--   ImagePositionPatient     p, the point (x, y, z) at the centre of the first pixel, top left
--   ImageOrientationPatient  two vectors of length 1: r, the direction in which a row of pixels runs, and
--                            c, the direction in which a column of pixels runs
--   PixelSpacing             the distance between rows of pixels, and between columns of pixels
--
-- From these the query computes, for each slice:
--   n = r x c  the cross product of r and c: the normal, which is perpendicular to the slice. Its length is
--              1 if r and c have length 1 and are at right angles.
--   p.n        the dot product of p and n: the position of the slice along the normal. Sorted by it, the
--              slices are in the order in which they stack up.
--   p.r, p.c   the offsets of the slice within its own plane. They are the same for all slices of a straight
--              stack, and change from slice to slice if the stack is sheared.
--
-- The slices form a regular volume if they all have the same orientation, pixel spacing and size, lie
-- straight above each other, and are at equal distances. Each of these conditions is a column, so that
-- readers see which one failed. The expected distance is (largest - smallest position) / (slices - 1).
--
-- Numbers are DICOM text. Text with other characters than a DICOM decimal string may have, such as NaN, is
-- read as NULL. So is a number beyond +-1e9: no direction and no position in mm is that large, and without
-- such numbers no product overflows. A check is TRUE only when the numbers it needs are known for every
-- slice; otherwise it is FALSE, and the series keeps its row. Numbers are compared, not texts: 1 and 1.0
-- are equal.
--
-- No floating-point number is summed over rows, so the order of rows cannot change a result.

WITH
  instances AS (
    SELECT
      SeriesInstanceUID,
      `Rows` AS height,
      `Columns` AS width,
      -- Localizers and maximum intensity projections (MIP) are not slices of a volume.
      'LOCALIZER' IN UNNEST(ImageType) OR ARRAY_TO_STRING(ImageType, '/') LIKE '%MIP%' AS no_slice,
      SAFE_CAST(REGEXP_EXTRACT(ImagePositionPatient[SAFE_OFFSET(0)], r'^[-+.0-9eE ]+$') AS FLOAT64) AS px,
      SAFE_CAST(REGEXP_EXTRACT(ImagePositionPatient[SAFE_OFFSET(1)], r'^[-+.0-9eE ]+$') AS FLOAT64) AS py,
      SAFE_CAST(REGEXP_EXTRACT(ImagePositionPatient[SAFE_OFFSET(2)], r'^[-+.0-9eE ]+$') AS FLOAT64) AS pz,
      SAFE_CAST(REGEXP_EXTRACT(ImageOrientationPatient[SAFE_OFFSET(0)], r'^[-+.0-9eE ]+$') AS FLOAT64) AS rx,
      SAFE_CAST(REGEXP_EXTRACT(ImageOrientationPatient[SAFE_OFFSET(1)], r'^[-+.0-9eE ]+$') AS FLOAT64) AS ry,
      SAFE_CAST(REGEXP_EXTRACT(ImageOrientationPatient[SAFE_OFFSET(2)], r'^[-+.0-9eE ]+$') AS FLOAT64) AS rz,
      SAFE_CAST(REGEXP_EXTRACT(ImageOrientationPatient[SAFE_OFFSET(3)], r'^[-+.0-9eE ]+$') AS FLOAT64) AS cx,
      SAFE_CAST(REGEXP_EXTRACT(ImageOrientationPatient[SAFE_OFFSET(4)], r'^[-+.0-9eE ]+$') AS FLOAT64) AS cy,
      SAFE_CAST(REGEXP_EXTRACT(ImageOrientationPatient[SAFE_OFFSET(5)], r'^[-+.0-9eE ]+$') AS FLOAT64) AS cz,
      SAFE_CAST(REGEXP_EXTRACT(PixelSpacing[SAFE_OFFSET(0)], r'^[-+.0-9eE ]+$') AS FLOAT64) AS between_rows,
      SAFE_CAST(REGEXP_EXTRACT(PixelSpacing[SAFE_OFFSET(1)], r'^[-+.0-9eE ]+$') AS FLOAT64) AS between_columns
    FROM `bigquery-public-data.idc_current.dicom_all`
    -- CT, MR and PET Image Storage. The enhanced SOP classes are left out: one of their instances holds
    -- many slices.
    WHERE SOPClassUID IN (
      '1.2.840.10008.5.1.4.1.1.2',
      '1.2.840.10008.5.1.4.1.1.4',
      '1.2.840.10008.5.1.4.1.1.128'
    )
  ),

  known AS (
    SELECT
      SeriesInstanceUID,
      height,
      width,
      no_slice,
      IF(px BETWEEN -1e9 AND 1e9, px, NULL) AS px,
      IF(py BETWEEN -1e9 AND 1e9, py, NULL) AS py,
      IF(pz BETWEEN -1e9 AND 1e9, pz, NULL) AS pz,
      IF(rx BETWEEN -1e9 AND 1e9, rx, NULL) AS rx,
      IF(ry BETWEEN -1e9 AND 1e9, ry, NULL) AS ry,
      IF(rz BETWEEN -1e9 AND 1e9, rz, NULL) AS rz,
      IF(cx BETWEEN -1e9 AND 1e9, cx, NULL) AS cx,
      IF(cy BETWEEN -1e9 AND 1e9, cy, NULL) AS cy,
      IF(cz BETWEEN -1e9 AND 1e9, cz, NULL) AS cz,
      IF(between_rows BETWEEN -1e9 AND 1e9, between_rows, NULL) AS between_rows,
      IF(between_columns BETWEEN -1e9 AND 1e9, between_columns, NULL) AS between_columns
    FROM instances
  ),

  normals AS (
    SELECT
      *,
      ry * cz - rz * cy AS nx,
      rz * cx - rx * cz AS ny,
      rx * cy - ry * cx AS nz
    FROM known
  ),

  -- The window function in the next step sorts these rows. Fewer columns halve its time, so everything that
  -- can be computed from these columns is computed after the sort.
  positions AS (
    SELECT
      SeriesInstanceUID,
      height,
      width,
      no_slice,
      px,
      py,
      pz,
      rx,
      ry,
      rz,
      cx,
      cy,
      cz,
      between_rows,
      between_columns,
      SQRT(nx * nx + ny * ny + nz * nz) AS length,
      -- Cosine of the angle between the normal and the nearest axis of the patient.
      GREATEST(nx, -nx, ny, -ny, nz, -nz) / NULLIF(SQRT(nx * nx + ny * ny + nz * nz), 0) AS cosine,
      px * nx + py * ny + pz * nz AS position
    FROM normals
  ),

  slices AS (
    SELECT
      *,
      px * rx + py * ry + pz * rz AS along_row,
      px * cx + py * cy + pz * cz AS along_column,
      -- Distance from the slice before. NULL for the first slice, 0 if two slices are at one position.
      position - LAG(position) OVER (PARTITION BY SeriesInstanceUID ORDER BY position) AS gap
    FROM positions
  ),

  series AS (
    SELECT
      SeriesInstanceUID,
      COUNT(*) AS instances,
      COUNT(length) AS oriented,
      COUNT(position) AS positioned,
      COUNT(between_rows) AS spaced_rows,
      COUNT(between_columns) AS spaced_columns,
      COUNT(height) AS with_height,
      COUNT(width) AS with_width,
      MAX(rx) - MIN(rx) AS rx_spread,
      MAX(ry) - MIN(ry) AS ry_spread,
      MAX(rz) - MIN(rz) AS rz_spread,
      MAX(cx) - MIN(cx) AS cx_spread,
      MAX(cy) - MIN(cy) AS cy_spread,
      MAX(cz) - MIN(cz) AS cz_spread,
      MAX(between_rows) - MIN(between_rows) AS between_rows_spread,
      MAX(between_columns) - MIN(between_columns) AS between_columns_spread,
      MAX(height) - MIN(height) AS height_spread,
      MAX(width) - MIN(width) AS width_spread,
      MAX(along_row) - MIN(along_row) AS along_row_spread,
      MAX(along_column) - MIN(along_column) AS along_column_spread,
      MIN(length) AS shortest_normal,
      MAX(length) AS longest_normal,
      MAX(cosine) AS cosine,
      MIN(gap) AS smallest_gap,
      MAX(gap) AS largest_gap,
      (MAX(position) - MIN(position)) / NULLIF(COUNT(*) - 1, 0) AS spacing,
      -- The slice with the smallest position is the one without a gap. A volume that is not regular may have
      -- several such slices, but its origin is not returned.
      MAX(IF(gap IS NULL, px, NULL)) AS px,
      MAX(IF(gap IS NULL, py, NULL)) AS py,
      MAX(IF(gap IS NULL, pz, NULL)) AS pz,
      MAX(IF(gap IS NULL, rx, NULL)) AS rx,
      MAX(IF(gap IS NULL, ry, NULL)) AS ry,
      MAX(IF(gap IS NULL, rz, NULL)) AS rz,
      MAX(IF(gap IS NULL, cx, NULL)) AS cx,
      MAX(IF(gap IS NULL, cy, NULL)) AS cy,
      MAX(IF(gap IS NULL, cz, NULL)) AS cz
    FROM slices
    GROUP BY SeriesInstanceUID
    HAVING MAX(IF(no_slice, 1, 0)) = 0
  ),

  checks AS (
    SELECT
      *,
      oriented = instances
        AND rx_spread = 0
        AND ry_spread = 0
        AND rz_spread = 0
        AND cx_spread = 0
        AND cy_spread = 0
        AND cz_spread = 0 AS single_orientation,
      oriented = instances
        AND shortest_normal BETWEEN 0.99 AND 1.01
        AND longest_normal BETWEEN 0.99 AND 1.01 AS orthogonal_orientation,
      -- A series of one slice has no gap.
      positioned = instances AND (instances = 1 OR NOT smallest_gap <= 0) AS unique_slice_positions,
      positioned = instances AND along_row_spread < 0.1 AS consistent_in_plane_row,
      positioned = instances AND along_column_spread < 0.1 AS consistent_in_plane_col,
      spaced_rows = instances
        AND spaced_columns = instances
        AND between_rows_spread = 0
        AND between_columns_spread = 0 AS consistent_pixel_spacing,
      with_height = instances
        AND with_width = instances
        AND height_spread = 0
        AND width_spread = 0 AS consistent_image_dimensions,
      IF(
        instances = 1,
        NULL,
        positioned = instances
          -- Every gap differs from the expected one by less than 1 % of it. "Less" makes this FALSE if all
          -- slices are at one position, where both are 0.
          AND GREATEST(largest_gap - spacing, spacing - smallest_gap) - 0.01 * spacing < 0
      ) AS uniform_slice_spacing,
      ROUND(CASE WHEN cosine < 1 THEN ACOS(cosine) WHEN cosine IS NOT NULL THEN 0.0 END * 57.29577951308232, 6)
        AS degrees
    FROM series
  ),

  volumes AS (
    SELECT
      *,
      -- AND has three values: FALSE if a check is FALSE, otherwise NULL if one is NULL, otherwise TRUE. Only
      -- uniform_slice_spacing can be NULL, for a series of one slice.
      single_orientation
        AND orthogonal_orientation
        AND unique_slice_positions
        AND consistent_in_plane_row
        AND consistent_in_plane_col
        AND consistent_pixel_spacing
        AND consistent_image_dimensions
        AND uniform_slice_spacing AS regularly_spaced_3d_volume
    FROM checks
  )

SELECT
  SeriesInstanceUID,
  single_orientation,
  orthogonal_orientation,
  unique_slice_positions,
  consistent_in_plane_row,
  consistent_in_plane_col,
  consistent_pixel_spacing,
  consistent_image_dimensions,
  uniform_slice_spacing,
  -- `degrees` has six decimals already: engines differ in the last bit of ACOS, and that bit must not decide
  -- whether 10.125 becomes 10.12 or 10.13.
  ROUND(degrees, 2) AS obliquity_degrees,
  regularly_spaced_3d_volume,
  IF(regularly_spaced_3d_volume, [px, py, pz], NULL) AS origin_patient,
  IF(regularly_spaced_3d_volume, [rx, ry, rz, cx, cy, cz], NULL) AS ImageOrientationPatient,
  IF(regularly_spaced_3d_volume, spacing, NULL) AS slice_spacing_mm
FROM volumes
ORDER BY regularly_spaced_3d_volume DESC, SeriesInstanceUID
