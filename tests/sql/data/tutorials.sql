-- Statements of our own with the constructs of IDC's tutorials, cookbook and support pages, one for each kind of question.
SELECT COUNT(DISTINCT collection_id) AS collections, COUNT(DISTINCT PatientID) AS patients,
  ROUND(SUM(instance_size) / POW(1000, 4), 3) AS size_tb FROM `dicom_all`;
SELECT collection_id, COUNT(DISTINCT PatientID) AS patients FROM `dicom_all` GROUP BY collection_id
  ORDER BY patients DESC, collection_id LIMIT 10;
SELECT Modality, COUNT(DISTINCT SeriesInstanceUID) AS series, COUNTIF(BodyPartExamined IS NULL) AS without_body_part
  FROM `dicom_all` GROUP BY Modality HAVING series > 1 ORDER BY Modality;
SELECT DISTINCT Manufacturer, ManufacturerModelName FROM `dicom_all` WHERE Modality = 'CT'
  ORDER BY Manufacturer, ManufacturerModelName;
SELECT CONCAT('cp ', REPLACE(gcs_url, 'gs://', 's3://'), ' .') AS command FROM `dicom_all`
  WHERE SeriesInstanceUID = '1.2' ORDER BY command;
SELECT DISTINCT SeriesInstanceUID, SeriesDescription FROM `dicom_all`
  WHERE LOWER(SeriesDescription) LIKE '%t2%' AND Modality = 'MR' ORDER BY SeriesInstanceUID, SeriesDescription;
SELECT StudyInstanceUID, ANY_VALUE(collection_id) AS collection, STRING_AGG(DISTINCT Modality, ',' ORDER BY Modality) AS
  modalities FROM (SELECT DISTINCT StudyInstanceUID, Modality, CONCAT('c_', StudyInstanceUID) AS collection_id
  FROM `dicom_all`) GROUP BY StudyInstanceUID ORDER BY StudyInstanceUID;
WITH studies AS (SELECT StudyInstanceUID, ARRAY_AGG(DISTINCT Modality IGNORE NULLS ORDER BY Modality) AS modalities,
  MIN(StudyDate) AS day FROM `dicom_all` GROUP BY StudyInstanceUID)
  SELECT * EXCEPT (modalities), CASE WHEN 'SM' IN UNNEST(modalities) THEN 'M' ELSE 'R' END AS kind FROM studies
  ORDER BY StudyInstanceUID;
SELECT SeriesInstanceUID, SPLIT(gcs_url, '/')[SAFE_OFFSET(2)] AS bucket, SPLIT(gcs_url, '/')[OFFSET(0)] AS scheme
  FROM `dicom_all` WHERE STARTS_WITH(gcs_url, 'gs://') ORDER BY SeriesInstanceUID, bucket;
SELECT PatientID, SAFE_CAST(REGEXP_EXTRACT(PatientAge, r'^(\d+)Y$') AS INT64) AS years, PatientAge
  FROM `dicom_all` ORDER BY PatientID, years, PatientAge;
SELECT ARRAY_TO_STRING(ImageType, '/') AS image_type, ARRAY_LENGTH(ImageType) AS parts, COUNT(*) AS instances
  FROM `dicom_all` GROUP BY image_type, parts ORDER BY image_type, parts;
SELECT SOPInstanceUID, SAFE_CAST(PixelSpacing[SAFE_OFFSET(0)] AS FLOAT64) AS spacing FROM `dicom_all`
  WHERE SAFE_CAST(SliceThickness AS FLOAT64) > 1 AND ARRAY_LENGTH(PixelSpacing) = 2 ORDER BY SOPInstanceUID;
SELECT SeriesInstanceUID, gcs_url FROM `dicom_all` WHERE SOPInstanceUID IS NOT NULL
  QUALIFY ROW_NUMBER() OVER (PARTITION BY SeriesInstanceUID ORDER BY SOPInstanceUID) = 1
  ORDER BY SeriesInstanceUID, gcs_url;
SELECT EXTRACT(YEAR FROM StudyDate) AS year, COUNT(DISTINCT StudyInstanceUID) AS studies FROM `dicom_all`
  GROUP BY year ORDER BY year;
SELECT PatientID, DATE_DIFF(MAX(StudyDate), MIN(StudyDate), DAY) AS days, DATE_TRUNC(MIN(StudyDate), MONTH) AS first
  FROM `dicom_all` GROUP BY PatientID ORDER BY PatientID;
SELECT seg.SeriesInstanceUID, s.SegmentNumber, UPPER(s.SegmentLabel) AS label,
  s.SegmentedPropertyTypeCodeSequence[SAFE_OFFSET(0)].CodeMeaning AS meaning
  FROM `dicom_all` AS seg, UNNEST(seg.SegmentSequence) AS s WHERE seg.Modality = 'SEG'
  ORDER BY SeriesInstanceUID, SegmentNumber, label, meaning;
SELECT a.SeriesInstanceUID, COUNT(b.SOPInstanceUID) AS instances FROM `dicom_all` AS a
  LEFT JOIN `dicom_all` AS b ON a.SOPInstanceUID = b.SOPInstanceUID AND b.Modality = 'SM'
  GROUP BY a.SeriesInstanceUID ORDER BY SeriesInstanceUID;
SELECT StudyInstanceUID FROM `dicom_all` WHERE Modality = 'CT' INTERSECT DISTINCT
  SELECT StudyInstanceUID FROM `dicom_all` WHERE Modality = 'SEG' ORDER BY StudyInstanceUID;
SELECT SeriesInstanceUID AS uid, 'CT' AS kind FROM `dicom_all` WHERE Modality = 'CT' UNION DISTINCT
  SELECT StudyInstanceUID, 'study' FROM `dicom_all` ORDER BY uid, kind;
SELECT DISTINCT PatientID FROM `dicom_all` AS d WHERE EXISTS (SELECT 1 FROM `dicom_all` AS e
  WHERE e.PatientID = d.PatientID AND e.Modality = 'PT') ORDER BY PatientID;
SELECT 'https://viewer.imaging.datacommons.cancer.gov/viewer/' || StudyInstanceUID || '?SeriesInstanceUID=' ||
  SeriesInstanceUID AS url FROM `dicom_all` WHERE LENGTH(StudyInstanceUID) > 0 ORDER BY url;
SELECT SOPInstanceUID, component, axis FROM `dicom_all` LEFT JOIN UNNEST(ImageOrientationPatient) AS component
  WITH OFFSET AS axis WHERE axis BETWEEN 3 AND 5 ORDER BY SOPInstanceUID, axis, component;
SELECT collection_id, FORMAT('%d of %d', COUNT(DISTINCT license_short_name), COUNT(*)) AS licenses,
  LOGICAL_AND(STARTS_WITH(license_short_name, 'CC')) AS open FROM `dicom_all` GROUP BY collection_id
  ORDER BY collection_id;
SELECT PatientID, ARRAY_AGG(StudyInstanceUID ORDER BY StudyDate, StudyInstanceUID LIMIT 1)[OFFSET(0)] AS earliest
  FROM `dicom_all` GROUP BY PatientID ORDER BY PatientID;
SELECT SeriesInstanceUID, SAFE_DIVIDE(SUM(instance_size), COUNT(SOPInstanceUID)) AS mean_size,
  ROUND(AVG(instance_size) / POW(2, 20), 2) AS mean_mib FROM `dicom_all` GROUP BY SeriesInstanceUID
  ORDER BY SeriesInstanceUID;
SELECT REGEXP_REPLACE(TRIM(ManufacturerModelName), r'\s+', ' ') AS model, SUBSTR(SoftwareVersions[SAFE_OFFSET(0)], 1, 5)
  AS version, COUNT(*) AS instances FROM `dicom_all` WHERE REGEXP_CONTAINS(Manufacturer, r'(?i)^siemens')
  GROUP BY 1, 2 ORDER BY model, version;
SELECT collection_id, collection_name, IF(status = 'Public', 1, 0) AS public FROM `original_collections_metadata`
  WHERE cancer_types IS DISTINCT FROM '' ORDER BY collection_id, collection_name, public;
SELECT StudyInstanceUID, STRING_AGG(DISTINCT Modality) AS modalities FROM `dicom_all` GROUP BY StudyInstanceUID
  ORDER BY StudyInstanceUID;
SELECT SUM(SAFE_CAST(ExposureTime AS FLOAT64)) AS total FROM `dicom_all`
