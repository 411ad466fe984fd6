-- Diffusion MR series at 3 tesla: those with several b-values.
SELECT SeriesInstanceUID, DiffusionBValue
FROM mr_index
WHERE MagneticFieldStrength BETWEEN 2.8 AND 3.2 AND len(DiffusionBValue) > 1
ORDER BY SeriesInstanceUID
LIMIT 10;
