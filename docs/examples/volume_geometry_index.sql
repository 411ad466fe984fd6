-- Series that are a regular volume with slices at most 2.5 mm apart: what most networks expect.
SELECT collection_id, SeriesInstanceUID, slice_spacing_mm
FROM volume_geometry_index JOIN idc_index USING (SeriesInstanceUID)
WHERE regularly_spaced_3d_volume AND slice_spacing_mm <= 2.5
ORDER BY collection_id, SeriesInstanceUID
LIMIT 10;
