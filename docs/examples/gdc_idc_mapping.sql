-- Patients with slides and radiology whose genomic data the GDC has.
SELECT collection_id, PatientID, any_value(gdc_case_id) AS gdc_case
FROM gdc_idc_mapping
GROUP BY collection_id, PatientID
HAVING count(DISTINCT study_type) = 2
ORDER BY collection_id, PatientID;
